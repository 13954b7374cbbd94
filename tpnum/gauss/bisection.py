"""Pieces on which a function of one real variable is one polynomial to rounding, found by bisection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tpnum.errors import LimitError

DEGREE = 15
"""Degree of a piece: sixteen coefficients, evaluated in a few instructions."""

_TOLERANCE = 2e-15
_NOISE = 1e-9  # unresolved parts below this are taken for rounding noise when bisection stops helping
_MISMATCH = 1e-11  # of a piece's polynomial at the ends and probes of the piece, relative to its size
_DEEPEST = 48
_MOST = 50_000

Value = Callable[[np.ndarray], np.ndarray]


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


_NODES, _TO_CHEBYSHEV, TO_MONOMIAL = _vandermonde()
DIFFERENTIATE = np.zeros((DEGREE + 1, DEGREE + 1))
for _k in range(1, DEGREE + 1):
    DIFFERENTIATE[_k, :_k] = np.polynomial.chebyshev.chebder(np.eye(DEGREE + 1)[_k, : _k + 1])
SIGNS = (-1.0) ** np.arange(DEGREE + 1)
_POINTS = np.concatenate([_NODES, [-1.0, 1.0]])


class Bisected(NamedTuple):
    """What a bisection ends with."""

    edges: np.ndarray
    cuts: np.ndarray  # those of the pieces above which something was to be seen
    coef: np.ndarray  # Chebyshev coefficients of f
    derived: np.ndarray | None  # and of f', if it is given
    resolved: float  # the largest unresolved part, relative to the local size of f
    lost: np.ndarray  # pieces on which something was left


@dataclass(frozen=True)
class Bisection:
    """Halves intervals until f, and f' if there is a ``slope``, are resolved by one polynomial on each.

    ``noise`` is that of the values of f, ``coarse`` the unresolved part that makes an edge a cut.
    """

    f: Value
    slope: Value | None
    name: str
    probes: tuple[np.ndarray, np.ndarray]
    scale: float
    noise: float
    coarse: float

    def pieces(self, start: np.ndarray, kinks: np.ndarray) -> Bisected:
        """The pieces of the intervals between ``start``, where f has kinks at some of the edges."""
        low, high = start[:-1], start[1:]
        before: np.ndarray = np.full(low.shape, np.inf)  # the unresolved part of the parent
        done: list[tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]] = []
        cuts = [start]
        count, largest, biggest = 0, 0.0, 0.0
        for depth in range(_DEEPEST + 1):
            coef, ends = _sample(self.f, low, high, self.name)
            derived = self._derived(low, high)
            size = np.abs(coef).max(axis=1)
            biggest = max(biggest, float(size.max()))
            # at a kink f has the value of one side, or none
            ends[np.isin(low, kinks), 0] = 0.0
            ends[np.isin(high, kinks), 1] = 0.0
            missed = np.maximum(np.nanmax(ends, axis=1), _missed(coef, low, high, self.probes))
            tail, blur = self._unresolved(coef, derived, missed, size, biggest)
            stalled = (tail < _NOISE) & (tail > before / 3.0)
            width = high - low
            small = width < 1e-14 * np.maximum(np.abs(low), np.abs(high)) + 1e-290
            fine = tail <= np.maximum(_TOLERANCE, blur)
            stop = fine | stalled | small
            if depth == _DEEPEST or count + low.size > _MOST:
                stop[:] = True
            done.append((low[stop], coef[stop], None if derived is None else derived[stop], ~fine[stop]))
            count += int(stop.sum())
            sound = stop & ~small
            if depth < _DEEPEST and np.any(sound):
                tail = np.maximum(tail, blur / 8.0)
                weight = np.minimum(size[sound] / self.scale, 1.0) if self.scale > 0 else 1.0
                largest = max(largest, float((tail[sound] * weight).max()))
            low, high, before = low[~stop], high[~stop], tail[~stop]
            if not low.size:
                break
            middle = 0.5 * (low + high)
            cuts.append(middle[before > self.coarse])
            ends = np.stack([low, middle, middle, high], 1).reshape(-1, 2)
            low, high = ends[:, 0], ends[:, 1]
            before = np.repeat(before, 2)
        edges, coefs, slopes, lost = zip(*done, strict=True)
        order = np.argsort(np.concatenate(edges))
        derived = None if self.slope is None else np.concatenate(slopes)[order]
        return Bisected(
            np.append(np.concatenate(edges)[order], start[-1]), np.concatenate(cuts),
            np.concatenate(coefs)[order], derived, largest, np.concatenate(lost)[order],
        )  # fmt: skip

    def _derived(self, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        if self.slope is None:
            return None
        return _sample(self.slope, low, high, f"the derivative of {self.name}")[0]

    def _unresolved(
        self,
        coef: np.ndarray,
        derived: np.ndarray | None,
        missed: np.ndarray,
        size: np.ndarray,
        biggest: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The part of each piece that its polynomial leaves, and what noise does to it, relative to its size.

        ``missed`` is by how much values of f were missed, ``biggest`` the largest size of any piece so far.
        """
        floor = max(1e-40 * biggest, 1e-18 * self.scale)
        tail = _tail(coef, size, floor)
        unit = np.maximum(size, max(floor, 1e-300))
        blur = 8.0 * self.noise / unit
        missed = missed / unit
        tail = np.where(missed > np.maximum(_MISMATCH, blur), np.maximum(tail, missed), tail)
        if derived is not None:
            # f' may be far below f, as in the saturated parts of tanh: there f sets the scale
            of = np.maximum(np.abs(derived).max(axis=1), size)
            tail = np.maximum(tail, _tail(derived, of, floor))
        return tail, blur


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
    ends = np.stack([(coef * SIGNS).sum(axis=1), coef.sum(axis=1)], axis=1)
    return coef, np.abs(made[:, -2:] - ends)


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


def _tail(coef: np.ndarray, size: np.ndarray, floor: float) -> np.ndarray:
    """The last coefficients of each piece, relative to its size."""
    return np.abs(coef[:, -3:]).max(axis=1) / np.maximum(size, max(floor, 1e-300))


def undeclared(edges: np.ndarray, known: np.ndarray, lost: np.ndarray) -> np.ndarray:
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
