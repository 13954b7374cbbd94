"""A function of one real variable as piecewise polynomials: what quadrature needs to know about it.

The pieces come from bisection between the kinks until the Chebyshev coefficients fall to rounding
level, so their ends are good break points for every Gaussian expectation of the function, and kernels
evaluate the pieces where they cannot call Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.survey import Survey

DEGREE = 15
"""Degree of a piece: sixteen coefficients, evaluated in a few instructions."""

_TOLERANCE = 2e-15
_NARROW = 1e-12  # of functions with narrow places: the flank of a step has little height and no width
_COARSE = 1e-8  # resolved so far, sixteen Gauss-Legendre nodes integrate the piece to rounding level
_NOISE = 1e-9  # unresolved parts below this are taken for rounding noise when bisection stops helping
_MISMATCH = 1e-11  # of a piece's polynomial at the ends and probes of the piece, relative to its size
_DEEPEST = 48
_TINY = 1e-12  # a piece is, of the whole, that bisection gave up
_NEARER, _FARTHER = 60, 1e4  # pieces beside a point, and widths, that tell whether f'^2 has an integral
_MOST = 50_000

Value = Callable[[np.ndarray], np.ndarray]


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


def _vandermonde() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chebyshev nodes, values -> Chebyshev coefficients, Chebyshev -> monomial coefficients."""
    n = DEGREE + 1
    angle = (np.arange(n) + 0.5) * np.pi / n
    to_chebyshev = 2.0 / n * np.cos(np.outer(np.arange(n), angle))
    to_chebyshev[0] *= 0.5
    to_monomial = np.zeros((n, n))
    for k in range(n):
        row = np.polynomial.chebyshev.cheb2poly(np.eye(n)[k, : k + 1])
        to_monomial[k, : row.size] = row
    return np.cos(angle), to_chebyshev, to_monomial


_NODES, _TO_CHEBYSHEV, _TO_MONOMIAL = _vandermonde()
_DIFFERENTIATE = np.zeros((DEGREE + 1, DEGREE + 1))
for _k in range(1, DEGREE + 1):
    _DIFFERENTIATE[_k, :_k] = np.polynomial.chebyshev.chebder(np.eye(DEGREE + 1)[_k, : _k + 1])


_POINTS = np.concatenate([_NODES, [-1.0, 1.0]])


def _sample(f: Value, low: np.ndarray, high: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev coefficients on the intervals, and by how much they miss f at the two ends."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    u = middle[:, None] + half[:, None] * _POINTS
    u[:, -2], u[:, -1] = low, high
    with np.errstate(all="ignore"):
        made = np.asarray(f(u.reshape(-1)), dtype=np.float64).reshape(u.shape)
    if not np.all(np.isfinite(made[:, :-2])):
        at = u[:, :-2][~np.isfinite(made[:, :-2])][0]
        raise LimitError(
            f"{name} is not finite at u = {at:.6g}, so its Gaussian expectation cannot be computed"
        )
    coef = made[:, :-2] @ _TO_CHEBYSHEV.T
    ends = np.stack([(coef * _SIGNS).sum(axis=1), coef.sum(axis=1)], axis=1)
    return coef, np.abs(made[:, -2:] - ends)


_SIGNS = (-1.0) ** np.arange(DEGREE + 1)


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
    edges, cuts, coef, derived, resolved, lost = _bisect(
        f, slope, start, inside, probes, name, scale, noise, coarse
    )
    found = _undeclared(edges, inside, lost)
    if found.size:
        inside = np.union1d(inside, found)
        start = np.concatenate([[low], np.union1d(inside, steps), [high]])
        edges, cuts, coef, derived, resolved, lost = _bisect(
            f, slope, start, inside, probes, name, scale, noise, coarse
        )
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
        derived = coef @ _DIFFERENTIATE / half[:, None]
        derived[tiny] = 0.0  # there f jumps, or has a kink
    jumps = bool(np.any(jump & (declared | rough)))
    return Table(edges, coef @ _TO_MONOMIAL, derived @ _TO_MONOMIAL, cuts, kinked, jumps, resolved, steep)


def _steep(coef: np.ndarray, half: np.ndarray, tiny: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Points around which the integral of f'^2 diverges: the shares of ever smaller pieces stay the same."""
    slope = coef @ _DIFFERENTIATE / half[:, None]
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


def _missed(
    coef: np.ndarray, low: np.ndarray, high: np.ndarray, probes: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """By how much the polynomials of sorted, disjoint intervals miss f at the probes within them."""
    u, value = probes
    at = np.searchsorted(low, u, side="right") - 1
    held = (at >= 0) & (u <= high[np.maximum(at, 0)])
    at, u, value = at[held], u[held], value[held]
    t = ((u - low[at]) + (u - high[at])) / (high[at] - low[at])
    basis = np.cos(np.arange(DEGREE + 1) * np.arccos(np.clip(t, -1.0, 1.0))[:, None])
    missed = np.zeros(low.size)
    np.maximum.at(missed, at, np.abs(np.einsum("ij,ij->i", basis, coef[at]) - value))
    return missed


def _rough(coef: np.ndarray, half: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """At which inner edges the pieces do not join smoothly, and at which f jumps."""
    size = np.abs(coef).sum(axis=1)
    slope = coef @ _DIFFERENTIATE / half[:, None]
    left, right = coef.sum(axis=1)[:-1], (coef * _SIGNS).sum(axis=1)[1:]
    up, down = slope.sum(axis=1)[:-1], (slope * _SIGNS).sum(axis=1)[1:]
    near = np.maximum(np.maximum(size[:-1], size[1:]), floor)
    for _ in range(4):  # beside a kink the pieces are small: the neighbours' size counts
        near = np.maximum(near, np.maximum(np.append(near[1:], 0.0), np.append(0.0, near[:-1])))
    jump = np.abs(left - right) > 1e-9 * np.maximum(near, 1e-290)
    width = np.minimum(half[:-1], half[1:])
    return jump | (np.abs(up - down) * width > 1e-8 * np.maximum(near, 1e-290)), jump


def _bisect(
    f: Value,
    slope: Value | None,
    start: np.ndarray,
    kinks: np.ndarray,
    probes: tuple[np.ndarray, np.ndarray],
    name: str,
    scale: float,
    known: float = 0.0,
    coarse: float = _COARSE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, float, np.ndarray]:
    """Halve intervals until f (and f') are resolved: edges, coarse edges, Chebyshev coefficients of both.

    ``known`` is the noise of values, ``coarse`` what may be left between cuts.  Also what was left over,
    and on which pieces something was.
    """
    low, high = start[:-1], start[1:]
    before: np.ndarray = np.full(low.shape, np.inf)  # the unresolved part of the parent
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]] = []
    cuts = [start]
    count, largest, biggest = 0, 0.0, 0.0
    for depth in range(_DEEPEST + 1):
        coef, ends = _sample(f, low, high, name)
        derived = None if slope is None else _sample(slope, low, high, f"the derivative of {name}")[0]
        size = np.abs(coef).max(axis=1)
        biggest = max(biggest, float(size.max()))
        tail = _tail(coef, size, max(1e-40 * biggest, 1e-18 * scale))
        # at a kink f has the value of one side, or none
        ends[np.isin(low, kinks), 0] = 0.0
        ends[np.isin(high, kinks), 1] = 0.0
        missed = np.maximum(np.nanmax(ends, axis=1), _missed(coef, low, high, probes))
        unit = np.maximum(size, max(1e-40 * biggest, 1e-18 * scale, 1e-300))
        missed /= unit
        blur = 8.0 * known / unit  # what noise does to a piece
        tail = np.where(missed > np.maximum(_MISMATCH, blur), np.maximum(tail, missed), tail)
        if derived is not None:
            # f' may be far below f, as in the saturated parts of tanh: there f sets the scale
            of = np.maximum(np.abs(derived).max(axis=1), size)
            tail = np.maximum(tail, _tail(derived, of, max(1e-40 * biggest, 1e-18 * scale)))
        noise = (tail < _NOISE) & (tail > before / 3.0)
        width = high - low
        small = width < 1e-14 * np.maximum(np.abs(low), np.abs(high)) + 1e-290
        fine = tail <= np.maximum(_TOLERANCE, blur)
        stop = fine | noise | small
        if depth == _DEEPEST or count + low.size > _MOST:
            stop[:] = True
        own = None if derived is None else derived[stop]
        done.append((low[stop], high[stop], coef[stop], own, ~fine[stop]))
        count += int(stop.sum())
        sound = stop & ~small
        if depth < _DEEPEST and np.any(sound):
            tail = np.maximum(tail, blur / 8.0)
            weight = np.minimum(size[sound] / scale, 1.0) if scale > 0 else 1.0
            largest = max(largest, float((tail[sound] * weight).max()))
        low, high, before = low[~stop], high[~stop], tail[~stop]
        if not low.size:
            break
        middle = 0.5 * (low + high)
        cuts.append(middle[before > coarse])
        ends = np.stack([low, middle, middle, high], 1).reshape(-1, 2)
        low, high = ends[:, 0], ends[:, 1]
        before = np.repeat(before, 2)
    edges = np.concatenate([d[0] for d in done])
    order = np.argsort(edges)
    coefs = np.concatenate([d[2] for d in done])[order]
    slopes = None if slope is None else np.concatenate([d[3] for d in done if d[3] is not None])[order]
    lost = np.concatenate([d[4] for d in done])[order]
    return np.append(edges[order], start[-1]), np.concatenate(cuts), coefs, slopes, largest, lost


def _tail(coef: np.ndarray, size: np.ndarray, floor: float) -> np.ndarray:
    return np.abs(coef[:, -3:]).max(axis=1) / np.maximum(size, max(floor, 1e-300))


def _undeclared(edges: np.ndarray, known: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Points around which the bisection went on and on, to no end: kinks nobody declared."""
    width = np.diff(edges)
    span = edges[-1] - edges[0]
    tiny = width < 1e-7 * span
    if not np.any(tiny):
        return np.empty(0)
    found = []
    starts = np.flatnonzero(tiny & ~np.concatenate([[False], tiny[:-1]]))
    for begin in starts:
        end = begin
        while end < tiny.size and tiny[end]:
            end += 1
        a, b = edges[begin], edges[end]
        if np.any((known >= a) & (known <= b)) or not np.any(lost[begin:end]):
            continue
        finest = begin + int(np.argmin(width[begin:end]))
        low, high = edges[finest], edges[finest + 1]
        point = 0.5 * (low + high)
        for digits in range(13):  # people put kinks at short decimals
            nice = round(float(point), digits)
            if 2 * low - high <= nice <= 2 * high - low:
                point = nice
                break
        found.append(point)
    return np.asarray(found[:64])
