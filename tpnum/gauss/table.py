"""A function of one real variable as piecewise polynomials: what quadrature needs to know about it.

The pieces come from bisection between the kinks until the Chebyshev coefficients fall to rounding
level, so their ends are good break points for every Gaussian expectation of the function, and kernels
evaluate the pieces where they cannot call Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tpnum.errors import LimitError

DEGREE = 15
"""Degree of a piece: sixteen coefficients, evaluated in a few instructions."""

_TOLERANCE = 2e-15
_COARSE = 1e-8  # resolved so far, sixteen Gauss-Legendre nodes integrate the piece to rounding level
_NOISE = 1e-9  # unresolved parts below this are taken for rounding noise when bisection stops helping
_DEEPEST = 48
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

    @cached_property
    def kinks(self) -> np.ndarray:
        """The cuts with a kink."""
        return self.cuts[self.kinked]


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


def _sample(f: Value, low: np.ndarray, high: np.ndarray, name: str) -> np.ndarray:
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    u = middle[:, None] + half[:, None] * _NODES
    with np.errstate(all="ignore"):
        made = np.asarray(f(u.reshape(-1)), dtype=np.float64).reshape(u.shape)
    if not np.all(np.isfinite(made)):
        at = u[~np.isfinite(made)][0]
        raise LimitError(
            f"{name} is not finite at u = {at:.6g}, so its Gaussian expectation cannot be computed"
        )
    return made @ _TO_CHEBYSHEV.T


def build(
    f: Value, slope: Value | None, kinks: np.ndarray, low: float, high: float, name: str = "f",
    grades: np.ndarray | None = None, scale: float = 0.0,
) -> Table:  # fmt: skip
    """The table of f, and of its derivative, on [low, high]; undeclared kinks are found and split at.

    ``grades`` are further break points, so that pieces are no larger than the rows that use them;
    below 1e-18 of ``scale`` nothing is resolved.
    """
    steps = np.empty(0) if grades is None else grades[(grades > low) & (grades < high)]
    inside = np.unique(kinks[(kinks > low) & (kinks < high)])
    start = np.concatenate([[low], np.union1d(inside, steps), [high]])
    edges, cuts, coef, derived, resolved = _bisect(f, slope, start, name, scale)
    found = _undeclared(edges, inside)
    if found.size:
        inside = np.union1d(inside, found)
        start = np.concatenate([[low], np.union1d(inside, steps), [high]])
        edges, cuts, coef, derived, resolved = _bisect(f, slope, start, name, scale)
    half = 0.5 * np.diff(edges)
    cuts = np.union1d(cuts, start)
    kinked = np.isin(cuts, inside)
    left, right = coef.sum(axis=1), (coef * (-1.0) ** np.arange(DEGREE + 1)).sum(axis=1)
    size = np.abs(coef).sum(axis=1)
    jumps = False
    for k in np.flatnonzero(np.isin(edges[1:-1], inside)):
        near = np.abs(edges[1:] - edges[k + 1]) <= 0.02 * (high - low)
        near[k : k + 2] = True
        jumps |= bool(abs(left[k] - right[k + 1]) > 1e-9 * max(float(size[near].max()), 1e-290))
    if derived is None:
        derived = coef @ _DIFFERENTIATE / half[:, None]
    return Table(edges, coef @ _TO_MONOMIAL, derived @ _TO_MONOMIAL, cuts, kinked, jumps, resolved)


def _bisect(
    f: Value, slope: Value | None, start: np.ndarray, name: str, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, float]:
    """Halve intervals until f (and f') are resolved: edges, coarse edges, Chebyshev coefficients of both."""
    low, high = start[:-1], start[1:]
    before: np.ndarray = np.full(low.shape, np.inf)  # the unresolved part of the parent
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]] = []
    cuts = [start]
    count, largest, biggest = 0, 0.0, 0.0
    for depth in range(_DEEPEST + 1):
        coef = _sample(f, low, high, name)
        derived = None if slope is None else _sample(slope, low, high, f"the derivative of {name}")
        size = np.abs(coef).max(axis=1)
        biggest = max(biggest, float(size.max()))
        tail = _tail(coef, size, max(1e-40 * biggest, 1e-18 * scale))
        if derived is not None:
            # f' may be far below f, as in the saturated parts of tanh: there f sets the scale
            of = np.maximum(np.abs(derived).max(axis=1), size)
            tail = np.maximum(tail, _tail(derived, of, max(1e-40 * biggest, 1e-18 * scale)))
        noise = (tail < _NOISE) & (tail > before / 3.0)
        width = high - low
        small = width < 1e-14 * np.maximum(np.abs(low), np.abs(high)) + 1e-290
        stop = (tail <= _TOLERANCE) | noise | small
        if depth == _DEEPEST or count + low.size > _MOST:
            stop[:] = True
        done.append((low[stop], high[stop], coef[stop], None if derived is None else derived[stop]))
        count += int(stop.sum())
        sound = stop & ~small
        if depth < _DEEPEST and np.any(sound):
            largest = max(largest, float(tail[sound].max()))
        low, high, before = low[~stop], high[~stop], tail[~stop]
        if not low.size:
            break
        middle = 0.5 * (low + high)
        cuts.append(middle[before > _COARSE])
        ends = np.stack([low, middle, middle, high], 1).reshape(-1, 2)
        low, high = ends[:, 0], ends[:, 1]
        before = np.repeat(before, 2)
    edges = np.concatenate([d[0] for d in done])
    order = np.argsort(edges)
    coefs = np.concatenate([d[2] for d in done])[order]
    slopes = None if slope is None else np.concatenate([d[3] for d in done if d[3] is not None])[order]
    return np.append(edges[order], start[-1]), np.concatenate(cuts), coefs, slopes, largest


def _tail(coef: np.ndarray, size: np.ndarray, floor: float) -> np.ndarray:
    return np.abs(coef[:, -3:]).max(axis=1) / np.maximum(size, max(floor, 1e-300))


def _undeclared(edges: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Points around which the bisection went on and on: kinks nobody declared."""
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
        if np.any((known >= a) & (known <= b)):
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
