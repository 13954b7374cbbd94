"""`Measure`: a probability law on the line, known by its Cauchy transform and its logarithmic potential.

Everything is read off two analytic functions on the closed upper half-plane,

    G(z) = int dmu(x) / (z - x),        U(z) = int log(z - x) dmu(x),    U' = G:

the density is -Im G(x + i0) / pi, the distribution function 1 - Im U(x + i0) / pi, and moments are contour
integrals of G.  Free convolutions compose both functions (`tpnum.spectra.convolve`), so that no law is ever
reduced to a histogram.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tpnum.arguments import number, real_array, shown, whole
from tpnum.errors import InputError, LimitError
from tpnum.spectra.sides import both_sides, both_sides_with_slope

CONTOUR, AROUND = 512, 1.25
"""Points of a half contour, and its radius in those of the support."""

NOTHING = 1e-12
"""Of the largest point: an edge closer to 0 is there, to rounding."""

HALVINGS = 100
"""Steps of a bisection, each of which may also be one of Newton's."""


class Atom(NamedTuple):
    """A point of positive mass."""

    at: float
    mass: float


class Measure:
    """Base of all spectral laws: a density on intervals, and atoms.

    A subclass defines `_transform` (G and G'), `_potential` (U), both for z in the closed upper half-plane
    (real z are approached from above), `edges` and `atoms`, the mean and the second moment.
    """

    name = "measure"

    # --- what a subclass defines

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G and G' at z, Im z >= 0."""
        raise NotImplementedError

    def _potential(self, z: np.ndarray) -> np.ndarray:
        """U at z, Im z >= 0."""
        raise NotImplementedError

    @property
    def edges(self) -> np.ndarray:
        """The intervals (low, high) that carry the density, shape (k, 2), in order."""
        raise NotImplementedError

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The points of positive mass, in order."""
        return ()

    @property
    def reaches_zero(self) -> bool:
        """Whether the density of a law on [0, inf) goes down to 0."""
        return bool(self.edges.size and self.edges[0, 0] <= NOTHING * self.edges[-1, 1])

    @property
    def mean(self) -> float:
        """The integral of x."""
        return float(self.moment(1))

    @property
    def second(self) -> float:
        """The integral of x^2."""
        return float(self.moment(2))

    # --- what is read off

    @property
    def variance(self) -> float:
        """The integral of (x - mean)^2."""
        return self.second - self.mean**2

    @cached_property
    def hull(self) -> tuple[float, float]:
        """The smallest interval that carries all mass."""
        ends = [*self.edges.ravel(), *(atom.at for atom in self.atoms)]
        if not ends:
            raise LimitError("no mass has been found on the line: the law is not one of these")
        return float(min(ends)), float(max(ends))

    def cauchy(self, z: Any) -> Any:
        """G(z) = int dmu(x) / (z - x), of any shape; on the line the limit from above."""
        points = _complex(z, "z")
        return both_sides(lambda w: self._transform(w)[0], points)[()]

    def stieltjes(self, z: Any) -> Any:
        """The Stieltjes transform int dmu(x) / (x - z) = -G(z), of any shape; on the line from above."""
        return -self.cauchy(z)

    def log_potential(self, z: Any) -> Any:
        """U(z) = int log(z - x) dmu(x), of any shape; on the line the limit from above."""
        return both_sides(self._potential, _complex(z, "z"))[()]

    def density(self, x: Any) -> Any:
        """The density at x, of any shape, without atoms: 0 outside the edges, infinite where it is."""
        points = real_array(x, "x").astype(np.float64)
        _finite(points, "x")
        inside = np.zeros(points.shape, dtype=bool)
        for low, high in self.edges:
            inside |= (points >= low) & (points <= high)
        made = np.zeros(points.shape)
        if inside.any():
            with np.errstate(all="ignore"):
                found = self._density(points[inside])
            made[inside] = np.where(np.isnan(found), np.inf, np.maximum(found, 0.0))
        return made[()]

    def _density(self, x: np.ndarray) -> np.ndarray:
        """The density at points within the edges."""
        return -self._transform(x + 0j)[0].imag / np.pi

    def cdf(self, x: Any) -> Any:
        """The mass of (-inf, x], of any shape."""
        points = real_array(x, "x").astype(np.float64)
        low, high = self.hull
        made = np.where(points >= high, 1.0, 0.0)
        inside = (points > low) & (points < high)
        if inside.any():
            made[inside] = self._left_of(points[inside])
        for at, mass in self.atoms:
            made[points == at] = mass + (self._left_of(np.array([at]))[0] if at > low else 0.0)
        if np.isnan(points).any():
            raise InputError("x must be numbers; it holds NaN")
        return made[()]

    def _left_of(self, x: np.ndarray) -> np.ndarray:
        """The mass of (-inf, x) at points within the hull: in a gap that of its middle, far from all mass."""
        low, high = self.hull
        spans = self.edges.ravel()
        ends = np.unique([*spans, *(atom.at for atom in self.atoms)])
        for side in (-1, 0):  # beside an edge, to rounding, the potential may be that of the other sheet
            near = ends[np.clip(np.searchsorted(ends, x) + side, 0, ends.size - 1)]
            x = np.where(np.abs(near - x) <= 8.0 * np.spacing(np.abs(near)), near, x)
        after = np.maximum(np.searchsorted(ends, x), 1)
        middle = 0.5 * (ends[after - 1] + ends[after])
        gap = np.searchsorted(spans, middle) % 2 == 0
        # an atom's own point is half inside, and an edge may have no potential
        beside = x - 64.0 * np.spacing(np.maximum(np.abs(x), 1e-3 * (high - low))) * (x == ends[after])
        w = np.where(gap, middle, beside)
        least, most = np.zeros(x.shape), 1.0 * (x > ends[0])  # beside an atom half of the digits are lost
        for at, mass in self.atoms:
            least += mass * (at < x)
            most -= mass * (at >= x)
        with np.errstate(all="ignore"):
            return np.clip(1.0 - self._potential(w + 0j).imag / np.pi, least, most)

    def quantile(self, p: Any) -> Any:
        """The smallest x whose distribution function reaches p in [0, 1], of any shape."""
        wanted = real_array(p, "p").astype(np.float64)
        if not np.all((wanted >= 0.0) & (wanted <= 1.0)):
            raise InputError("p must be in [0, 1]: the probabilities whose quantiles are asked for")
        flat = wanted.reshape(-1)
        low = np.full(flat.size, self.hull[0])
        high = np.full(flat.size, self.hull[1])
        grid, mass = self._table
        at = np.searchsorted(mass, flat)
        low = np.where(at > 0, grid[np.clip(at - 1, 0, grid.size - 1)], low)
        high = np.where(at < grid.size, grid[np.clip(at, 0, grid.size - 1)], high)
        x = np.where(high > low, 0.5 * (low + high), low)
        live = (high > low) & (flat > 0.0) & (flat < 1.0)
        x = np.where(flat <= 0.0, self.hull[0], np.where(flat >= 1.0, self.hull[1], x))
        for _ in range(HALVINGS):
            some = np.flatnonzero(live)
            if not some.size:
                break
            here = x[some]
            away = self.cdf(here) - flat[some]
            high[some] = np.where(away >= 0.0, here, high[some])
            low[some] = np.where(away < 0.0, here, low[some])
            with np.errstate(divide="ignore", invalid="ignore"):
                step = here - away / self.density(here)
            good = (step > low[some]) & (step < high[some])
            x[some] = np.where(good, step, 0.5 * (low[some] + high[some]))
            done = np.abs(x[some] - here) <= 4e-16 * np.maximum(np.abs(here), 1e-300)
            done |= (np.abs(away) < 1e-14) | (high[some] - low[some] <= 4e-16 * np.abs(high[some]))
            tight = high[some] - low[some] <= 4e-16 * np.abs(high[some])
            x[some] = np.where(tight, high[some], np.where(done, here, x[some]))
            live[some[done]] = False
        for atom in self.atoms:
            top = float(self.cdf(atom.at))
            x = np.where((flat <= top) & (flat > top - atom.mass), atom.at, x)
        return x.reshape(wanted.shape)[()]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and their distribution function, dense where the density is steep."""
        found = [np.array([atom.at for atom in self.atoms], dtype=np.float64)]
        for low, high in self.edges:
            angle = np.linspace(0.0, np.pi, 258)
            found.append(0.5 * (low + high) - 0.5 * (high - low) * np.cos(angle))
            if low == 0.0:
                found.append(high * np.geomspace(1e-300, 0.01, 600))
        grid = np.unique(np.concatenate(found))
        return grid, np.maximum.accumulate(np.asarray(self.cdf(grid)))

    def sample(self, size: Any, seed: Any = 0) -> np.ndarray:
        """``size`` independent draws; the seed fixes them.

        By quantiles of a table of the distribution function, interpolated: exact to about 1e-6 in law.
        """
        count = whole(size, "size", 1, 1 << 30)
        p = np.random.default_rng(whole(seed, "seed", 0)).random(count)
        grid, mass = self._table
        keep = np.concatenate([[True], np.diff(mass) > 0.0])
        points, steps = grid[keep], mass[keep]
        if points.size < 3:
            made = points[np.minimum(np.searchsorted(steps, p), points.size - 1)]
        else:
            from scipy.interpolate import PchipInterpolator

            inside = np.clip(p, steps[0], steps[-1])
            made = PchipInterpolator(steps, points)(inside)
        for atom in self.atoms:
            top = float(self.cdf(atom.at))
            made = np.where((p <= top) & (p > top - atom.mass), atom.at, made)
        return np.clip(made, *self.hull)

    def moment(self, k: Any) -> float:
        """The integral of x^k."""
        return float(self.moments(k)[-1])

    def moments(self, k: Any) -> np.ndarray:
        """The integrals of x^0, .., x^k: contour integrals of z^j G(z) around the support."""
        last = whole(k, "k", 0, 10_000)
        low, high = self.hull
        middle, radius = 0.5 * (low + high), AROUND * (0.5 * (high - low) or 1e-3 * (1.0 + abs(low)))
        angle = (np.arange(CONTOUR) + 0.5) * np.pi / CONTOUR
        z = middle + radius * np.exp(1j * angle)
        weighed = self._transform(z)[0] * (z - middle) / CONTOUR
        powers = [weighed.real.sum()]
        for _ in range(last):
            weighed = weighed * z
            powers.append(weighed.real.sum())
        return np.array(powers)

    # --- the transforms of free probability

    def r_transform(self, g: Any) -> Any:
        """R(g) = K(g) - 1/g with G(K(g)) = g, on the branch through R(0) = mean."""
        points = _complex(g, "g")
        flat = points.reshape(-1)
        found = np.full(flat.shape, self.mean, dtype=np.complex128)
        live = np.abs(flat) > 1e-9 / max(1.0, np.sqrt(self.second))
        if live.any():
            found[live] = self._inverse(flat[live], lambda z: self._transform(z)) - 1.0 / flat[live]
        return _plain(found.reshape(points.shape), g)

    def s_transform(self, z: Any) -> Any:
        """S(z) = (1 + z)/z chi(z), chi the inverse of psi(t) = sum_k m_k t^k, through S(0) = 1/mean."""
        if abs(self.mean) < 1e-12 * np.sqrt(self.second):
            raise LimitError("the S-transform needs a law whose mean is not 0")
        points = _complex(z, "z")
        flat = points.reshape(-1)
        found = np.full(flat.shape, 1.0 / self.mean, dtype=np.complex128)
        live = np.abs(flat) > 1e-9
        if live.any():

            def psi(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                g, slope = self._transform(w)
                return w * g - 1.0, g + w * slope

            inside = flat[live]
            first = self.mean / inside + self.second / self.mean
            found[live] = (1.0 + inside) / inside / self._inverse(inside, psi, first)
        return _plain(found.reshape(points.shape), z)

    def _inverse(self, wanted: np.ndarray, f: Any, first: np.ndarray | None = None) -> np.ndarray:
        """The z with f(z) = wanted, followed from wanted = 0, z = infinity."""
        start = 1.0 / wanted + self.mean if first is None else first
        z, steps = start, 24
        for k in range(1, steps + 1):
            part = (k / steps) * wanted
            if k == 1:
                z = start * steps if first is None else self.mean / part + self.second / self.mean
            for _ in range(40 if k == steps else 4):
                value, slope = both_sides_with_slope(f, z)
                step = (part - value) / slope
                size = np.abs(z)
                length = np.maximum(np.abs(step), 1e-300)
                step = np.where(length > 0.5 * size, 0.5 * size * step / length, step)
                z = z + step
                if np.all(np.abs(step) <= 1e-12 * np.abs(z)):
                    break
        value, _ = both_sides_with_slope(f, z)
        if not np.all(np.abs(value - wanted) <= 1e-9 * np.abs(wanted)):
            worst = wanted[np.argmax(np.abs(value - wanted) / np.abs(wanted))]
            raise LimitError(f"the transform has no branch at {complex(worst):.6g} that reaches 0: give less")
        return z

    # --- new laws

    def affine(self, scale: Any = 1.0, shift: Any = 0.0) -> Measure:
        """The law of scale X + shift."""
        from tpnum.spectra.shapes import Affine

        c, s = number(scale, "scale"), number(shift, "shift")
        if c == 0.0:
            from tpnum.spectra.closed import Discrete

            return Discrete([s], [1.0])
        return self if (c, s) == (1.0, 0.0) else Affine(self, c, s)

    @property
    def quick(self) -> Measure:
        """The same law, of a form that can be asked at many points off the line."""
        return self

    @cached_property
    def of_mean_one(self) -> Measure:
        """The law of X / mean."""
        return self.affine(1.0 / self.mean)

    @cached_property
    def _tabulated(self) -> Measure:
        from tpnum.spectra.piecewise import tabulate

        return tabulate(self)

    def tabulated(self) -> Measure:
        """The same law as series or polynomials on panels: quick whatever it was made of."""
        return self._tabulated

    def plot(self, ax: Any = None, eigenvalues: Any = None) -> Any:
        """The density and the atoms, over a histogram of ``eigenvalues`` if these are given."""
        from tpnum.pictures import draw_spectrum

        shown_values = None if eigenvalues is None else real_array(eigenvalues, "eigenvalues").reshape(-1)
        return draw_spectrum(self, ax, shown_values)

    def __repr__(self) -> str:
        parts = [f"[{low:.6g}, {high:.6g}]" for low, high in self.edges]
        parts += [f"{atom.mass:.6g} at {atom.at:.6g}" for atom in self.atoms[:3]]
        parts += ["..."] if len(self.atoms) > 3 else []
        return f"<{type(self).__name__}: {', '.join(parts)}>"


def as_measure(value: Any, name: str) -> Measure:
    """A measure, or the empirical law of numbers."""
    if isinstance(value, Measure):
        return value
    if callable(value) or isinstance(value, (str, bytes, dict)):
        raise InputError(f"{name}: a measure of tpnum.spectra or numbers are needed, not {shown(value)}")
    from tpnum.spectra.closed import empirical

    return empirical(value, name)


def _finite(points: np.ndarray, name: str) -> None:
    if not np.isfinite(points).all():
        raise InputError(f"{name} must be finite; it holds NaN or infinity")


def _complex(z: Any, name: str) -> np.ndarray:
    """Points of the complex plane; real ones have the imaginary part +0."""
    try:
        points = np.asarray(z)
        if points.dtype.kind not in "fiuc" or isinstance(z, np.ma.MaskedArray):
            raise TypeError
        points = points.astype(np.complex128)
    except Exception:
        raise InputError(f"{name} is {shown(z)}: numbers, real or complex, are needed") from None
    _finite(points, name)
    return points


def _plain(found: np.ndarray, given: Any) -> Any:
    """Real where the argument was, and the result is."""
    real = not np.iscomplexobj(given)
    return (
        found.real[()] if real and np.all(np.abs(found.imag) <= 1e-9 * (1.0 + np.abs(found))) else found[()]
    )
