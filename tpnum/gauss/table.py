"""A function of one real variable as piecewise polynomials: what quadrature needs to know about it.

The pieces come from bisection between the kinks until the Chebyshev coefficients fall to rounding
level, so their ends are good break points for every Gaussian expectation of the function, and kernels
evaluate the pieces where they cannot call Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.bisection import DEGREE, DIFFERENTIATE, SIGNS, TO_MONOMIAL, Bisection, Value, undeclared
from tpnum.gauss.survey import Survey

_NARROW = 1e-12  # of functions with narrow places: the flank of a step has little height and no width
_COARSE = 1e-8  # resolved so far, sixteen Gauss-Legendre nodes integrate the piece to rounding level
_TINY = 1e-12  # a piece is, of the whole, that bisection gave up
_NEARER, _FARTHER = 60, 1e4  # pieces beside a point, and widths, that tell whether f'^2 has an integral


@dataclass(frozen=True)
class Table:
    """f on [breaks[0], breaks[-1]]: on piece p, sum_k coef[p, k] t^k with t in [-1, 1].

    ``slope`` holds f' likewise.  ``cuts``, a subset of the breaks, are where quadrature rules split;
    ``kinked`` marks the cuts at which f or a derivative jumps.
    """

    breaks: np.ndarray
    coef: np.ndarray
    slope: np.ndarray
    cuts: np.ndarray
    kinked: np.ndarray
    jumps: bool
    resolved: float  # the largest unresolved part, relative to the local size of f
    steep: np.ndarray = field(default_factory=lambda: np.empty(0))  # points around which f'^2 has no integral

    @cached_property
    def kinks(self) -> np.ndarray:
        """The cuts with a kink."""
        return self.cuts[self.kinked]

    @cached_property
    def finest(self) -> np.ndarray:
        """The smaller one of the gaps beside each inner cut."""
        gaps = np.diff(self.cuts)
        return np.minimum(gaps[1:], gaps[:-1])

    def slope_noise(self, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
        """sqrt E (rounding error of the slopes of the pieces)^2 over u ~ N(mean, root^2), roughly."""
        half, middle = 0.5 * np.diff(self.breaks), 0.5 * (self.breaks[1:] + self.breaks[:-1])
        noise = 3e-14 * np.abs(self.coef[:, :4]).sum(axis=1) / half
        width = half / root[:, None]
        near = np.maximum(np.abs(middle - mean[:, None]) / root[:, None] - width, 0.0)
        share = np.minimum(1.0, 0.8 * width) * np.exp(-0.5 * near * near)
        return np.sqrt(share @ (noise * noise))


def build(
    f: Value, slope: Value | None, kinks: np.ndarray, low: float, high: float, name: str = "f",
    grades: np.ndarray | None = None, scale: float = 0.0, centre: float = 0.0, look: Survey | None = None,
) -> Table:  # fmt: skip
    """The table of f, and of its derivative, on [low, high]; undeclared kinks are found and split at.

    ``grades`` are further break points, so that pieces are no larger than the rows that use them;
    below 1e-18 of ``scale`` nothing is resolved; probes around 0 and ``centre`` find what is narrow there,
    as do those of the survey of a user's function, below whose noise nothing is resolved either.
    """
    noise, coarse = 0.0, _COARSE
    if look is not None:
        coarse = _NARROW if np.isfinite(look.narrowest) else _COARSE
        kinks = np.union1d(kinks, look.kinks)
        scale = max(scale, look.scale)
        noise = look.noise * look.scale
    steps = np.empty(0) if grades is None else grades[(grades > low) & (grades < high)]
    inside = np.unique(kinks[(kinks > low) & (kinks < high)])
    start = np.concatenate([[low], np.union1d(inside, steps), [high]])
    probes = _probes(f, low, high, centre, look)
    bisection = Bisection(f, slope, name, probes, scale, noise, coarse)
    made = bisection.pieces(start, inside)
    found = undeclared(made.edges, inside, made.lost)
    if found.size:
        inside = np.union1d(inside, found)
        start = np.concatenate([[low], np.union1d(inside, steps), [high]])
        made = bisection.pieces(start, inside)
    edges, cuts, coef, derived, resolved, lost = made
    half = 0.5 * np.diff(edges)
    tiny = lost & (half < _TINY * half.sum())
    resolved = max(resolved, _singular(coef, half, tiny, name, edges))
    cuts = np.union1d(cuts, start)
    rough, jump = _rough(coef, half, max(1e-40 * float(np.abs(coef).max()), 1e-18 * scale))
    declared = np.isin(edges[1:-1], inside)
    kinked = np.isin(cuts, np.concatenate([inside, edges[1:-1][rough]]))
    cuts, kinked = _with(cuts, kinked, edges[1:-1][rough])
    steep = _steep(coef, half, tiny, edges)
    if derived is None:
        derived = coef @ DIFFERENTIATE / half[:, None]
        derived[tiny] = 0.0  # there f jumps, or has a kink
    jumps = bool(np.any(jump & (declared | rough)))
    return Table(edges, coef @ TO_MONOMIAL, derived @ TO_MONOMIAL, cuts, kinked, jumps, resolved, steep)


def _steep(coef: np.ndarray, half: np.ndarray, tiny: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Points around which the integral of f'^2 diverges: the shares of ever smaller pieces stay the same."""
    slope = coef @ DIFFERENTIATE / half[:, None]
    square = slope[:, 0] ** 2 + 0.5 * (slope[:, 1:] ** 2).sum(axis=1)
    square[np.sqrt(square) * half < 1e-10 * np.abs(coef).max(axis=1)] = 0.0  # rounding
    found = []
    for at in np.flatnonzero(tiny):
        for side in (slice(at + 1, None), slice(at, None, -1)):
            first = 1 if side.step else 0
            width, share = half[side][first : _NEARER + first], (square * half)[side][first : _NEARER + first]
            if width.size and tiny[side][first]:
                continue
            far = int(np.argmax(width > _FARTHER * width[0])) if width.size else 0
            grows = np.all(np.diff(width[: far + 1]) >= -1e-6 * width[:far])
            if far and grows and share[0] > 0.7 * share[far] > 0.0:
                found.append(float(edges[at + (side.step is not None)]))
    return np.unique(found)


def _singular(coef: np.ndarray, half: np.ndarray, tiny: np.ndarray, name: str, edges: np.ndarray) -> float:
    """The share of the integral of |f| on the pieces at which bisection gave up.

    Raises LimitError where it is f^2 that has a share there: that integral does not converge.
    """
    size = np.abs(coef).max(axis=1)
    size = size / max(float(size.max()), 1e-300)
    if not np.any(tiny):
        return 0.0
    mass, square = size * half, size * size * half
    if square[tiny].sum() > 1e-4 * square.sum():
        at = edges[:-1][tiny][np.argmax(size[tiny])]
        raise LimitError(
            f"the square of {name} has no integral around u = {at:.6g}: its expectation is infinite"
        )
    return float(mass[tiny].sum() / mass.sum())


def blank(low: float, high: float) -> Table:
    """A table that knows of nothing on [low, high]."""
    none = np.zeros((1, DEGREE + 1))
    return Table(np.array([low, high]), none, none, np.array([low, high]), np.zeros(2, bool), False, 0.0)


def _with(cuts: np.ndarray, kinked: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cuts and marks with further kinked cuts."""
    new = np.setdiff1d(more, cuts)
    order = np.argsort(np.concatenate([cuts, new]), kind="stable")
    return np.concatenate([cuts, new])[order], np.concatenate([kinked, np.ones(new.size, bool)])[order]


def _probes(
    f: Value, low: float, high: float, centre: float, look: Survey | None
) -> tuple[np.ndarray, np.ndarray]:
    """Points where the pieces are held against f: all over, and ever denser around 0 and the centre."""
    steps = 1.37e-3 * 1.6 ** np.arange(40)
    even = low + (high - low) * ((0.5 + np.arange(96)) * 0.6180339887498949 % 1.0)
    u = np.concatenate([even, steps, -steps, centre + steps, centre - steps])
    u = np.unique(u[(u > low) & (u < high)])
    with np.errstate(all="ignore"):
        made = np.asarray(f(u), dtype=np.float64)
    sound = np.isfinite(made)
    u, made = u[sound], made[sound]
    if look is not None:
        more, values = look.probes
        inside = (more > low) & (more < high) & ~np.isin(more, look.kinks)
        u, at = np.unique(np.concatenate([u, more[inside]]), return_index=True)
        made = np.concatenate([made, values[inside]])[at]
    return u, made


def _rough(coef: np.ndarray, half: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """At which inner edges the pieces do not join smoothly, and at which f jumps."""
    size = np.abs(coef).sum(axis=1)
    slope = coef @ DIFFERENTIATE / half[:, None]
    left, right = coef.sum(axis=1)[:-1], (coef * SIGNS).sum(axis=1)[1:]
    up, down = slope.sum(axis=1)[:-1], (slope * SIGNS).sum(axis=1)[1:]
    near = np.maximum(np.maximum(size[:-1], size[1:]), floor)
    for _ in range(4):  # beside a kink the pieces are small: the neighbours' size counts
        near = np.maximum(near, np.maximum(np.append(near[1:], 0.0), np.append(0.0, near[:-1])))
    jump = np.abs(left - right) > 1e-9 * np.maximum(near, 1e-290)
    width = np.minimum(half[:-1], half[1:])
    return jump | (np.abs(up - down) * width > 1e-8 * np.maximum(near, 1e-290)), jump
