"""Averages over the softmaxes of random logits of two examples, on points that all pairs share.

The logits of an example are F Z G', with F F' the covariance of its queries, G G' that of its keys, and Z
standard normals, the axes of largest variance first; those of a second one are drawn given the first.  Z is
scrambled Sobol points in replicates, whose spread is the error, and there are twice as many until it is small
enough.

Where two examples are nearly equal, slopes behind them see the root of every error, so that the squares of
both, known of either alone on more points, are averaged over the pair's own points too (`Moments.near`): what
is sampled is E (h - h')(h - h')', and equal ones have the mean of both squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.gauss.estimate import half_width
from tpnum.gauss.points import in_pieces, normal_sample, shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIMENSIONS = 21201
"""Of Sobol points; beyond, points are pseudo-random."""

LEAST = 7
"""The power of two of the points of a replicate at first."""

TOGETHER = 9
"""That of the points which are made at once: scrambling takes as long as some hundreds."""

NEGLIGIBLE = 1e-10
"""Variances below this share of the largest are none."""

LARGE = 60.0
"""Logits whose exponentials, and sums of them, single precision holds."""

PIECE, FEW = 1 << 15, 16
"""Numbers of a softmax at a time, and points at least: such that passes over them stay in the caches."""

KEPT = 1 << 28
"""Bytes of softmaxes that are kept for other pairs at the same points."""


class Axes(NamedTuple):
    """The axes of principal variance of a covariance: root (d, axes), and what inverts it."""

    root: np.ndarray
    inverse: np.ndarray

    def beside(self, cross: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The root of another covariance ``own``, the part along these axes first; ``cross`` (d, d')."""
        along = cross.T @ self.inverse
        rest = own - along @ along.T
        return np.concatenate([along, axes(rest, float(np.trace(own))).root], axis=1)


def axes(cov: np.ndarray, size: float = 0.0) -> Axes:
    """Those that hold more than a negligible share of the largest variance, or of ``size``.

    Signs are those of the third moments, so that nearly equal covariances have nearly equal roots.
    """
    values, vectors = np.linalg.eigh(0.5 * (cov + cov.T))
    kept = np.flatnonzero(values > NEGLIGIBLE * max(values[-1], size))[::-1]
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    skew = np.sum(vectors**3, axis=0) + 1e-6 * (np.cos(np.arange(len(cov)) ** 2) @ vectors)
    vectors = vectors * np.where(skew < 0.0, -1.0, 1.0)
    return Axes(vectors * roots, vectors / roots)


class Softmax:
    """The softmax of an example's logits at given points; ``allowed`` weighs its exponentials."""

    def __init__(
        self, queries: np.ndarray, keys: np.ndarray, allowed: np.ndarray | None, kept: bool = False
    ) -> None:
        self._roots = queries.astype(np.float32), keys.astype(np.float32)
        self._allowed, self.kept = allowed, kept

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """At points z (axes of queries, points, axes of keys): (positions that see, points, those seen)."""
        queries, keys = self._roots
        (p, a), (r, b), points = queries.shape, keys.shape, z.shape[1]
        half = np.ascontiguousarray(z[:a, :, :b]).reshape(a, points * b)
        logits = ((queries @ half).reshape(p * points, b) @ keys.T).reshape(p, points, r)
        seen = None if self._allowed is None else self._allowed[:, None, :]
        if seen is not None:
            logits[np.broadcast_to(seen <= 0.0, logits.shape)] = -np.inf
        if max(logits.max(initial=0.0), -logits.min(initial=0.0)) > LARGE:
            top = logits.max(axis=2, keepdims=True)
            logits -= np.where(np.isfinite(top), top, 0.0)
        np.exp(logits, out=logits)
        if seen is not None:
            logits *= seen
        total = (logits.reshape(-1, r) @ np.ones((r, 1), np.float32)).reshape(p, points, 1)
        if seen is not None:
            total[total == 0.0] = 1.0
        logits *= 1.0 / total
        return logits


@dataclass(frozen=True)
class Near:
    """How nearly two examples are one, 0 to 1, and the covariances of the vectors of either."""

    share: float
    first: np.ndarray
    second: np.ndarray


class Average:
    """The mean over points of what two softmaxes A and B make of vectors of covariance ``values``: A V B'.

    With ``along``, that of their derivatives in random directions.  ``sizes`` are the covariances of the
    vectors of either with themselves, which say what errors are relative to.
    """

    def __init__(
        self,
        values: np.ndarray,
        along: Sequence[tuple[np.ndarray, np.ndarray]] | None,
        sizes: tuple[np.ndarray, np.ndarray],
        near: Near | None = None,
    ) -> None:
        self._values = values.astype(np.float32)
        self._along = None if along is None else _collected(along)
        self._sizes, self._near = sizes, near
        self._largest = 1.0
        if along is not None:
            self._largest = max((float(np.abs(a).max() * np.abs(b).max()) for a, b in along), default=1.0)
        self._sums: np.ndarray | None = None
        self._scales = np.ones(2)
        self.points = 0
        self.sets = np.empty(0)
        self.done = False

    def add(self, number: int, count: int, a: np.ndarray, b: np.ndarray) -> None:
        """Points of one of ``count`` replicates."""
        if self._sums is None:
            self._sums = np.zeros((count, len(a), len(b)))
            first, second = (_sizes(x, v) for x, v in zip((a, b), self._sizes, strict=True))
            scales = self._largest * np.sqrt(first * second)
            self._scales = np.where(scales > 0.0, scales, 1.0)
        made = _heads(a, b, self._values) if self._along is None else _moved(a, b, self._values, self._along)
        if self._near is not None:
            squares = _heads(a, a, self._near.first) + _heads(b, b, self._near.second)
            made -= 0.5 * self._near.share * squares
        self._sums[number] += made

    def close(self, points: int) -> None:
        """All replicates have so many points."""
        assert self._sums is not None
        self.points = points * len(self._sums)
        self.sets = self._sums / points

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self.sets.mean(axis=0))

    def error(self, demands: tuple[np.ndarray, ...]) -> float:
        """Of means of entries that are demanded or of an entry, relative to what both examples have there."""
        if len(self.sets) < 2:
            return 0.0
        mean, entry = self._scales
        if not demands:
            return float(np.sqrt(np.mean(half_width(self.sets, axis=0) ** 2)) / entry)
        wrong = (half_width(self.sets[:, one].mean(axis=1), axis=0) for one in demands)
        return max(float(x / (mean if one.all() else entry)) for one, x in zip(demands, wrong, strict=True))


@dataclass(frozen=True)
class Task:
    """Averages of two softmaxes; ``demands`` are entries whose means are of interest, where not each is."""

    first: Softmax
    second: Softmax
    averages: tuple[Average, ...]
    demands: tuple[np.ndarray, ...]


def averages(
    tasks: list[Task], grid: tuple[int, int], seen: int, aim: float, most: int, replicates: range
) -> None:
    """Fill the moments of all tasks, each to the accuracy that is aimed at or with 2^most points a replicate.

    ``grid`` are the axes of queries and keys that two examples may have together, ``seen`` the numbers of a
    softmax at one point.
    """
    step = max(FEW, PIECE // seen)
    for power in range(min(LEAST, most), most + 1):
        left = [(task, [m for m in task.averages if not m.done]) for task in tasks]
        left = [(task, some) for task, some in left if some]
        if not left:
            return
        for r, number in enumerate(replicates):
            for z in _pieces(*grid, number, power, step):
                made = _Made(z)
                for task, some in left:
                    a = made(task.first)
                    b = a if task.second is task.first else made(task.second)
                    for one in some:
                        one.add(r, len(replicates), a, b)
        for task, some in left:
            for one in some:
                one.close(1 << power)
                one.done = one.error(task.demands) <= aim


class _Made:
    """The softmaxes at some points, those kept that other pairs have too."""

    def __init__(self, z: np.ndarray) -> None:
        self._z, self._bytes = z, 0
        self._kept: dict[int, np.ndarray] = {}

    def __call__(self, softmax: Softmax) -> np.ndarray:
        if id(softmax) in self._kept:
            return self._kept[id(softmax)]
        made = softmax(self._z)
        if softmax.kept and self._bytes < KEPT:
            self._kept[id(softmax)] = made
            self._bytes += made.nbytes
        return made


def _pieces(rows: int, cols: int, number: int, power: int, step: int) -> Iterator[np.ndarray]:
    """The points of a replicate that there were not before, (rows, some points, cols) at a time."""
    points = _points(rows, cols, number, max(power, TOGETHER))
    end = points.shape[1] >> max(TOGETHER - power, 0)
    begin = end // 2 if LEAST < power <= TOGETHER else 0
    for at in range(begin, end, step):
        yield points[:, at : min(at + step, end)]


def _points(rows: int, cols: int, number: int, power: int) -> np.ndarray:
    """The last half of 2^power points, or all of the fewest: standard normals (rows, points, cols).

    Small rows and columns are first coordinates.
    """
    last = 1 << (power if power == TOGETHER else power - 1)

    def make() -> np.ndarray:
        count = rows * cols
        if count <= DIMENSIONS:
            z = next(in_pieces(count, power, last, number, last))
        else:
            z = normal_sample(count, last, number, power)
        first = np.multiply.outer(np.arange(1, rows + 1), np.arange(1, cols + 1)).ravel()
        placed = np.empty((count, last), np.float32)
        placed[np.argsort(first, kind="stable")] = z
        return placed.reshape(rows, cols, -1).transpose(0, 2, 1)

    return shared(("softmax", rows, cols, number, power), make)


def _collected(along: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A sum of products O M with multiples of one M in one term."""
    made: list[tuple[np.ndarray, np.ndarray]] = []
    for outer, inner in along:
        for n, (other, one) in enumerate(made):
            times = float(np.vdot(one, inner) / max(np.vdot(one, one), np.finfo(float).tiny))
            if np.abs(inner - times * one).max() <= 1e-13 * np.abs(inner).max():
                made[n] = other + times * outer, one
                break
        else:
            made.append((outer, inner))
    return [(outer, inner.astype(np.float32)) for outer, inner in made]


def _sizes(share: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second moments of what a softmax makes of vectors of these covariances, about: of the mean, of one."""
    made = []
    for some in (share.mean(axis=0, keepdims=True), share):
        p, points, r = some.shape
        half = (some.reshape(-1, r) @ values.astype(np.float32)).reshape(p, points, r)
        made.append(np.vdot(half, some) / (p * points))
    return np.maximum(made, 0.0)


def _heads(a: np.ndarray, b: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum over points of A V B'."""
    p, _, r = a.shape
    half = (a.reshape(-1, r) @ values.astype(np.float32, copy=False)).reshape(p, -1)
    return np.asarray(half @ b.reshape(len(b), -1).T, dtype=np.float64)


def _moved(
    a: np.ndarray, b: np.ndarray, values: np.ndarray, along: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """The sum over points of D V D'' over directions of covariance O[p, p'] M[r, r'], D = diag A - A A'.

    With K = V * M entry by entry: A K B', less (A V * A M) B' and A (V B' * M B'), and A V B' * A M B'.
    """
    p, points, r = a.shape
    total: np.ndarray | float = 0.0
    flat, other = a.reshape(-1, r), b.reshape(-1, b.shape[2])
    left, right = (flat @ values).reshape(p, points, -1), (other @ values.T).reshape(len(b), points, r)
    at = b.transpose(1, 2, 0)
    whole = left.transpose(1, 0, 2) @ at
    for outer, m in along:
        am, bm = (flat @ m).reshape(left.shape), (other @ m.T).reshape(right.shape)
        kept = (flat @ (values * m)).reshape(left.shape)
        kept -= left * am
        made = (kept.reshape(p, -1) @ b.reshape(len(b), -1).T).astype(np.float64)
        made -= a.reshape(p, -1) @ (right * bm).reshape(len(b), -1).T
        made += np.einsum("spq,spq->pq", whole, am.transpose(1, 0, 2) @ at)
        total = total + outer * made
    return np.asarray(total)
