"""A law from its Jacobi coefficients: the continued fraction that they begin, ended by constant ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import real_array, whole
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import Discrete
from tpnum.spectra.piecewise import density_law
from tpnum.spectra.shapes import Described

EXACT = 1e-13
"""Coefficients closer than this, relative to their size, are equal."""

FITTED = 0.5, 0.8
"""The parts of the coefficients, the last ones, from which their limits are extrapolated: of exact ones, and
the most of uncertain ones.
"""

WIDENED, HELD = 40, 1e-9
"""How often edges are moved to points beside them, and the mass that is none."""

DRAWS = 24
"""Of coefficients within their errors, for the band of a density."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Jacobi coefficients a_0.., b_1.. with the half-widths of their 95 % intervals, exact where they are
    known.
    """

    a: np.ndarray
    b: np.ndarray
    a_error: np.ndarray
    b_error: np.ndarray
    a_exact: tuple[Any, ...]
    b_exact: tuple[Any, ...]
    method: str


class Spectrum(Described):
    """A law from its Jacobi coefficients; a measure like all of `tpnum.spectra`, and an error band.

    ``coefficients`` are those of Lanczos's recurrence, ``tail`` the constants (a, b) that the continued
    fraction ends with and ``tail_error`` how uncertain they are.
    """

    def __init__(self, coefficients: Coefficients, law: Measure, tail: tuple[float, float],
                 tail_error: tuple[float, float]) -> None:  # fmt: skip
        self.coefficients, self.law, self.tail, self.tail_error = coefficients, law, tail, tail_error

    @property
    def edges_error(self) -> float:
        """How far the edges may be off."""
        a, b = self.tail_error
        root = np.sqrt(self.tail[1]) if self.tail[1] > 0.0 else 1.0
        return float(a + b / root)

    def moments(self, k: Any) -> np.ndarray:
        """The integrals of x^0, .., x^k, from the coefficients alone where these are enough."""
        last = whole(k, "k", 0, 10_000)
        if last < 2 * self.coefficients.a.size:
            return self._by_coefficients(last)
        return self.law.moments(last)

    def _by_coefficients(self, last: int) -> np.ndarray:
        a, b = self.coefficients.a, self.coefficients.b
        v = np.zeros(a.size)
        v[0] = 1.0
        powers, made = [v], []
        for _ in range(last):
            w = a * powers[-1]
            w[1:] += powers[-1][:-1]
            w[:-1] += b * powers[-1][1:]
            powers.append(w)
        weights = np.concatenate([[1.0], np.cumprod(b)])
        for k in range(last + 1):
            # (S^i u, S^j u) with i + j = k, both within the coefficients
            i = k // 2
            made.append(float(np.sum(_monic(a, b, i) * _monic(a, b, k - i) * weights)))
        return np.array(made)

    def error_band(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """The density at x and the half-width of its band: what the errors of the coefficients leave open."""
        points = real_array(x, "x").astype(np.float64)
        middle = np.asarray(self.density(points))
        draws = np.random.default_rng(0)
        c, found = self.coefficients, []
        for _ in range(DRAWS):
            a = c.a + 0.5 * c.a_error * draws.standard_normal(c.a.size)
            b = np.maximum(c.b + 0.5 * c.b_error * draws.standard_normal(c.b.size), 1e-300)
            tail = tuple(
                t + 0.5 * e * draws.standard_normal() for t, e in zip(self.tail, self.tail_error, strict=True)
            )
            found.append(_continued(a, b, tail, points))
        spread = np.array(found)
        return middle, 2.0 * np.sqrt(np.mean((spread - middle) ** 2, axis=0))

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; {self.coefficients.a.size} steps, {self.coefficients.method}>"


def _monic(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """S^k u_0 in the u_j, as far as the coefficients know."""
    v = np.zeros(a.size)
    v[0] = 1.0
    for _ in range(k):
        w = a * v
        w[1:] += v[:-1]
        w[:-1] += b * v[1:]
        v = w
    return v


def law_of(c: Coefficients) -> Spectrum:
    """The law that coefficients begin."""
    scale = max(float(np.max(np.abs(c.a))), float(np.sqrt(np.max(np.abs(c.b), initial=0.0))), 1e-300)
    small = np.flatnonzero(c.b <= EXACT * scale**2)
    if small.size or c.a.size < 2:  # finitely many points carry all mass
        k = int(small[0]) + 1 if small.size else c.a.size
        return Spectrum(c, _finite(c.a[:k], c.b[: k - 1]), (float(c.a[-1]), 0.0), (0.0, 0.0))
    (a, a_error), (b, b_error) = _extrapolated(c.a, c.a_error), _extrapolated(c.b, c.b_error)
    edges, atoms = _ended(c, a, b, max(a_error, b_error / np.sqrt(b)))
    tail = float(0.5 * (edges[0] + edges[1])), float((0.25 * (edges[1] - edges[0])) ** 2)
    law = density_law(lambda x: _continued(c.a, c.b, tail, x), edges[None, :], atoms)
    return Spectrum(c, law, tail, (max(a_error, abs(tail[0] - a)), max(b_error, abs(tail[1] - b))))


def _ended(c: Coefficients, a: float, b: float, error: float) -> tuple[np.ndarray, tuple[Atom, ...]]:
    """The edges, and the atoms beyond them.

    A point of mass no farther out than an edge is uncertain is no atom: the edge belongs there, or the
    density would lack its mass.
    """
    root = 2.0 * np.sqrt(b)
    edges = np.array([a - root, a + root])
    for turn in range(WIDENED):
        small = 1e-4 * (edges[1] - edges[0])
        found = _outside(c, edges, 0.0 if error else small)
        slack = small + error
        beside = [x.at for x in found if edges[0] - slack <= x.at <= edges[1] + slack and x.mass > HELD]
        if not beside:
            break
        below, above = max(edges[0] - min(beside), 0.0), max(max(beside) - edges[1], 0.0)
        edges = edges + 2.0**turn * np.array([-below, above])  # beyond: the point moves with the edge
    return edges, tuple(x for x in found if not edges[0] - slack <= x.at <= edges[1] + slack)


def _finite(a: np.ndarray, b: np.ndarray) -> Measure:
    values, vectors = np.linalg.eigh(np.diag(a) + np.diag(np.sqrt(b), 1) + np.diag(np.sqrt(b), -1))
    return Discrete(values, vectors[0] ** 2)


def _extrapolated(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """The limit of coefficients that converge as 1/k^2, and how uncertain it is.

    From the last half of exact ones; of others, whose errors grow with k, from where it is least uncertain.
    """
    count = values.size
    if count <= 3 or np.ptp(values[count // 2 :]) <= EXACT * np.max(np.abs(values)):
        return float(values[-1]), float(errors[-1])
    latest = max(1, int(count * (1.0 - FITTED[0])))
    earliest = max(1, int(count * (1.0 - FITTED[1]))) if errors.any() else latest
    fits = [_fitted(values, errors, first) for first in range(earliest, latest + 1)]
    return min(fits, key=lambda fit: fit[1])


def _fitted(values: np.ndarray, errors: np.ndarray, first: int) -> tuple[float, float]:
    """The same from the coefficients from ``first`` on."""
    last, error = values[first:], errors[first:]
    k = np.arange(first, values.size) + 1.0
    weight = 1.0 / (error + 1e-3 * np.ptp(last) + 1e-300)
    fits = []
    for power in (1.0, 2.0):
        design = np.stack([np.ones(k.size), k**-power], axis=1)
        solution, *_ = np.linalg.lstsq(design * weight[:, None], last * weight, rcond=None)
        fits.append(float(solution[0]))
    flat = float(np.average(last, weights=weight**2))
    middle = fits[1]
    spread = max(abs(fits[0] - middle), abs(flat - middle))
    # errors of one ensemble go together: their average is no smaller
    noise = float(np.sqrt(np.average(error**2, weights=weight**2)))
    return middle, spread + noise


def _continued(a: np.ndarray, b: np.ndarray, tail: Any, x: np.ndarray) -> np.ndarray:
    """The density of the continued fraction."""
    middle, square = tail
    z = x + 0j
    root = np.sqrt(z - middle - 2.0 * np.sqrt(square)) * np.sqrt(z - middle + 2.0 * np.sqrt(square))
    g = 2.0 / (z - middle + root)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(a.size - 1, -1, -1):
            g = 1.0 / (z - a[k] - (b[k] if k < b.size else square) * g)
    return np.maximum(np.nan_to_num(-g.imag / np.pi), 0.0)


def _outside(c: Coefficients, edges: np.ndarray, slack: float) -> tuple[Atom, ...]:
    """The eigenvalues of the endless Jacobi matrix beyond the edges, and their masses."""
    middle, square = 0.5 * (edges[0] + edges[1]), (0.25 * (edges[1] - edges[0])) ** 2
    b = np.append(c.b[: c.a.size - 1], square)
    low = _below(c.a, b, middle, square, edges[0] - slack)
    high = _below(-c.a, b, -middle, square, -edges[1] - slack)
    zero = 1e-12 * (edges[1] - edges[0])
    found = [*low, *(Atom(-at, mass) for at, mass in high)]
    kept = [(at if abs(at) > zero else 0.0, mass) for at, mass in found if mass > 1e-12]
    return tuple(sorted(Atom(float(at), float(mass)) for at, mass in kept))


def _below(a: np.ndarray, b: np.ndarray, middle: float, square: float, edge: float) -> list[Atom]:
    """Those below a number that is not inside the edges, by bisection of how many there are."""
    count = _inertia(a, b, middle, square, edge)[0]
    floor = min(float(np.min(a)), middle) - 2.0 * np.sqrt(max(float(np.max(b)), square)) - 1.0
    made = []
    for k in range(count):
        low, high = floor, edge
        while high - low > 2e-16 * max(abs(low), abs(high)):
            x = 0.5 * (low + high)
            if not low < x < high:
                break
            low, high = (low, x) if _inertia(a, b, middle, square, x)[0] > k else (x, high)
        made.append(Atom(high, -1.0 / _inertia(a, b, middle, square, high)[1]))
    return made


def _inertia(a: np.ndarray, b: np.ndarray, middle: float, square: float, x: float) -> tuple[int, float]:
    """How many eigenvalues are below x, outside of the edges, and the slope of -1/G there.

    With d_k = a_k - x - b_{k+1} / d_{k+1}, begun by the constant coefficients: as many as d_k below 0.
    """
    half = 0.5 * (middle - x)
    root = float(np.sqrt(max(half * half - square, 0.0)))
    d, count = half + root, 0
    slope = -0.5 * (1.0 + half / root) if root else -np.inf
    for k in range(a.size - 1, -1, -1):
        slope = b[k] * slope / (d * d) - 1.0
        d = float(a[k] - x - b[k] / d) or -1e-300
        count += d < 0.0
    return count, slope
