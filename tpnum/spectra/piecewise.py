"""Laws whose density is a polynomial on each of many panels, finer towards the edges.

On a panel, mapped to t in [-1, 1], int P_k(s) / (t - s) ds = 2 Q_k(t) with the Legendre functions of the
second kind: the Cauchy transform is exact for the polynomials, on the line too.  Far from a panel Gauss's
rule is exact to rounding and quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from tpnum.arguments import finite_array
from tpnum.errors import FunctionError, InputError
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.series import Series, series
from tpnum.spectra.sums import Tree, tree

DEGREE = 17
"""Points of a panel: polynomials of degree 16."""

RULES = ((1.6 + 1.0 / 1.6, 44), (6.0 + 1.0 / 6.0, 18), (30.0, 14))
"""Twice the half-axis of the ellipse around a panel from which on it is a sum over so many points."""

SMALL = 1e-13
"""A panel is halved until its last coefficients are below this part of all mass."""

UNSEEN = 1e-17
"""Panels of less than this part of the mass are left out."""

HALVINGS = 160

MASS = 1e-6
"""By how much a density and atoms may fail to add up to 1."""


class PiecewiseDensity(Measure):
    """Panels (low, high), Legendre coefficients of the density on each, atoms."""

    def __init__(
        self, low: np.ndarray, high: np.ndarray, coefs: np.ndarray, edges: np.ndarray, atoms: Sequence[Atom]
    ) -> None:
        self.low, self.high, self.coefs = low, high, coefs
        self._edges, self._atoms = edges, tuple(sorted(atoms))
        half, middle = 0.5 * (high - low), 0.5 * (low + high)
        self._rules = []
        for reach, points in RULES:
            t, w = legendre.leggauss(points)
            weights = (legendre.legvander(t, DEGREE - 1) @ coefs.T).T * w * half[:, None]
            self._rules.append((reach, middle[:, None] + half[:, None] * t, weights))

    @property
    def edges(self) -> np.ndarray:
        return self._edges

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return self._atoms

    @cached_property
    def _tree(self) -> Tree:
        return tree(self.low, self.high, self.coefs)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = z.reshape(-1)
        g, slope = self._tree.transform(flat)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for at, mass in self._atoms:
                g += mass / (flat - at)
                slope -= mass / (flat - at) ** 2
        return g.reshape(z.shape), slope.reshape(z.shape)

    def _potential(self, z: np.ndarray) -> np.ndarray:
        flat = z.reshape(-1)
        made = np.zeros(flat.size, np.complex128)
        with np.errstate(divide="ignore", invalid="ignore"):
            for at, mass in self._atoms:
                made += mass * np.log(flat - at)
            for panel, half, t, near, rules in self._panels_of(flat):
                if near.size:
                    made[near] += half * _logarithms(t[near], half, self.coefs[panel])
                for some, points, weights in rules:
                    made[some] += np.log(flat[some, None] - points) @ weights
        return made.reshape(z.shape)

    def _panels_of(self, z: np.ndarray) -> Iterator[tuple[int, float, np.ndarray, np.ndarray, list[Any]]]:
        """Every panel with the mapped points, those that are near, and the rules for the others."""
        for panel in range(self.low.size):
            half = 0.5 * (self.high[panel] - self.low[panel])
            t = ((z - self.low[panel]) + (z - self.high[panel])) / (2.0 * half)
            reach = np.abs(t - 1.0) + np.abs(t + 1.0)
            near = np.flatnonzero(reach < self._rules[0][0])
            rules = []
            for k, (least, points, weights) in enumerate(self._rules):
                most = self._rules[k + 1][0] if k + 1 < len(self._rules) else np.inf
                some = np.flatnonzero((reach >= least) & (reach < most))
                if some.size:
                    rules.append((some, points[panel], weights[panel]))
            yield panel, half, t, near, rules

    def _density(self, x: np.ndarray) -> np.ndarray:
        at = np.clip(np.searchsorted(self.low, x, side="right") - 1, 0, self.low.size - 1)
        t = (2.0 * x - self.low[at] - self.high[at]) / (self.high[at] - self.low[at])
        inside = np.abs(t) <= 1.0 + 1e-9
        rows = np.moveaxis(self.coefs[at], -1, 0)
        return np.where(inside, legendre.legval(t, rows, tensor=False), 0.0)

    @cached_property
    def mean(self) -> float:
        return self._integral(1)

    @cached_property
    def second(self) -> float:
        return self._integral(2)

    def _integral(self, k: int) -> float:
        _, points, weights = self._rules[0]
        return float(np.sum(points**k * weights)) + sum(m * at**k for at, m in self._atoms)

    def moments(self, k: Any) -> np.ndarray:
        from tpnum.arguments import whole

        return np.array([self._integral(j) for j in range(whole(k, "k", 0, 10_000) + 1)])


def _logarithms(t: np.ndarray, half: float, coefs: np.ndarray) -> np.ndarray:
    """The integral over s of log(half (t - s)) times the sum of c_k P_k(s)."""
    made = 2.0 * coefs[0] * np.log(half)
    # int P_0 log(t - s) ds by hand; (2 k + 1) int P_k log(t - s) ds = 2 Q_{k+1} - 2 Q_{k-1} by parts
    one, other = t + 1.0, t - 1.0
    ends = np.where(one == 0.0, 0.0, one * np.log(np.where(one == 0.0, 1.0, one)))
    ends = ends - np.where(other == 0.0, 0.0, other * np.log(np.where(other == 0.0, 1.0, other)))
    made = made + coefs[0] * (ends - 2.0)
    before = np.log(np.where(one == 0.0, 1.0, one)) - np.log(np.where(other == 0.0, 1.0, other))
    now = t * before - 2.0
    for k in range(1, coefs.size):
        later = ((2 * k + 1) * t * now - k * before) / (k + 1)
        # at t = -+1 the logarithms cancel
        made = made + coefs[k] * (later - before) / (2 * k + 1)
        before, now = now, later
    return made


def tabulate(of: Measure) -> Measure:
    """Any measure by series where its edges go as roots, else by panels."""
    made = series(of._density, of.edges, of.atoms)
    return tabulate_panels(of) if made is None else made


def tabulate_panels(of: Measure) -> PiecewiseDensity:
    """Any measure by panels."""
    low, high, coefs = _panels(of._density, of.edges, 1.0 - sum(a.mass for a in of.atoms))
    return PiecewiseDensity(low, high, coefs, of.edges, of.atoms)


def _panels(
    density: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, mass: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Panels that follow a density, and what an edge hides between the last of them and itself."""
    low, high = _first(edges)
    t, w = legendre.leggauss(DEGREE)
    # value at the points -> coefficients
    transform = (legendre.legvander(t, DEGREE - 1) * w[:, None]).T * (np.arange(DEGREE) + 0.5)[:, None]
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for turn in range(HALVINGS + 1):
        points = 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * t
        values = np.asarray(density(points.reshape(-1)), dtype=np.float64).reshape(points.shape)
        coefs = values @ transform.T
        sizes = np.abs(coefs) * (high - low)[:, None]
        rough = np.max(sizes[:, -3:], axis=1) > SMALL * max(mass, SMALL)
        rough &= np.max(sizes[:, -3:], axis=1) > 1e-12 * np.max(sizes, axis=1)
        rough &= high - low > 64.0 * np.spacing(np.maximum(np.abs(low), np.abs(high)))
        if turn == HALVINGS:
            rough[:] = False
        kept.append((low[~rough], high[~rough], coefs[~rough]))
        if not rough.any():
            break
        middle = 0.5 * (low[rough] + high[rough])
        low, high = np.concatenate([low[rough], middle]), np.concatenate([middle, high[rough]])
    low, high, coefs = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.argsort(low)
    order = order[np.abs(coefs[order, 0]) * (high - low)[order] > UNSEEN * max(mass, UNSEEN)]
    return low[order], high[order], coefs[order]


def _first(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals; one that ends at 0 in panels each half as long towards it, for there is room."""
    lows, highs = [], []
    for a, b in edges:
        ends = np.array([a, b])
        if a == 0.0:
            ends = b * np.concatenate([[0.0], 0.5 ** np.arange(HALVINGS, -1.0, -1.0)])
        elif b == 0.0:
            ends = a * np.concatenate([0.5 ** np.arange(0.0, HALVINGS + 1.0), [0.0]])
        lows.append(ends[:-1])
        highs.append(ends[1:])
    return np.concatenate([np.empty(0), *lows]), np.concatenate([np.empty(0), *highs])


def measure(density: Any, support: Any, atoms: Any = ()) -> Measure:
    """A law of your own: a density on ``support``, one interval (low, high) or several, and atoms.

    ``density`` takes an array of points and gives their densities; algebraic singularities belong at the ends
    of intervals.  ``atoms`` are pairs (point, mass).

    Raises
    ------
    InputError
        A density that is negative somewhere or infinite inside, intervals that are not finite or overlap,
        masses that do not add up to 1.
    """
    if not callable(density):
        raise InputError("density must be a function of an array of points")
    edges = finite_array_of_intervals(support)
    found = finite_array(atoms, "atoms").reshape(-1, 2) if np.size(atoms) else np.empty((0, 2))
    if np.any(found[:, 1] < 0.0):
        raise InputError(f"atoms: masses must not be negative; one is {found[:, 1].min():g}")

    def checked(x: np.ndarray) -> np.ndarray:
        try:
            made = np.broadcast_to(np.asarray(density(x), dtype=np.float64), x.shape)
        except Exception as problem:
            raise FunctionError(f"density fails on an array of points: {problem}") from problem
        if not np.isfinite(made).all():
            at = x[~np.isfinite(made)][0]
            raise InputError(f"density is not finite at {at:g}, inside the support")
        if np.any(made < 0.0):
            raise InputError(f"density is negative at {x[made < 0.0][0]:g}: a law has no negative mass")
        return made

    kept = [Atom(float(x), float(m)) for x, m in found if m > 0.0]
    return density_law(checked, edges, kept, _weigh)


def density_law(
    density: Callable[[np.ndarray], np.ndarray],
    edges: np.ndarray,
    atoms: Sequence[Atom],
    weigh: Callable[[float, float], None] | None = None,
) -> Measure:
    """The law of a density by series where its edges go as roots, else by panels; its mass what atoms leave.

    ``weigh`` is told the mass found and the mass left, before the one is made the other.
    """
    mass = 1.0 - sum(m for _, m in atoms)
    smooth = series(density, edges, atoms)
    if smooth is not None:
        parts = [np.pi * 0.5 * (b - a) * c[0] for (a, b), c in zip(edges, smooth.coefs, strict=True)]
        total = float(sum(parts))
    else:
        low, high, coefs = _panels(density, edges, max(mass, 0.0))
        total = float(np.sum(coefs[:, 0] * (high - low)))
    if weigh is not None:
        weigh(total, mass)
    factor = mass / total if total > 0.0 else 1.0
    if smooth is not None:
        return Series(edges, [c * factor for c in smooth.coefs], atoms)
    return PiecewiseDensity(low, high, coefs * factor, edges, atoms)


def _weigh(total: float, mass: float) -> None:
    if abs(total - mass) > MASS:
        raise InputError(f"density and atoms must have the mass 1 together, not {total + 1.0 - mass:g}")


def finite_array_of_intervals(support: Any) -> np.ndarray:
    """Intervals (low, high), in order."""
    try:
        edges = np.asarray(support, dtype=np.float64).reshape(-1, 2)
    except Exception:
        raise InputError("support must be an interval (low, high) or a sequence of them") from None
    if not np.isfinite(edges).all():
        raise InputError("support must be compact: intervals (low, high) of finite numbers")
    edges = edges[np.argsort(edges[:, 0])]
    if np.any(edges[:, 0] >= edges[:, 1]) or np.any(edges[1:, 0] < edges[:-1, 1]):
        raise InputError("support: intervals (low, high) with low < high that do not overlap are needed")
    return edges
