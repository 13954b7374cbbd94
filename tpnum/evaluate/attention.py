"""Attention with random logits: averages over Sobol points of what the softmax of two examples makes.

For a pair of examples the logits are F Z G', with F F' the covariance of both examples' queries and G G' that
of their keys, Z standard normals, the axes of largest variance first.  Points come in independent sets, more
of them until their scatter is small enough; the sets are the same for every pair, and an example has the
same logits in all of its pairs as the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import Block, dims
from tpnum.evaluate.joint import RTOL
from tpnum.gauss.estimate import half_width
from tpnum.gauss.points import normal_points, normal_sample, shared
from tpnum.program.draw import softmax

if TYPE_CHECKING:
    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph

AIM = 1e-3
"""The accuracy that is tried for where none is asked."""

LOG2, SETS, MOST = 8, 4, 16
"""Points of a set, sets at first, and sets at most where no accuracy is asked."""

LARGEST = 1 << 14
"""Points of a pair, where an accuracy is asked."""

DIMENSIONS = 21201
"""Of Sobol points; beyond, points are pseudo-random."""

NEGLIGIBLE = 1e-10
"""Variances below this share of the largest are none."""

LARGE = 60.0
"""Logits whose exponentials, and sums of them, single precision holds."""


class _Positions(NamedTuple):
    """The axes of principal variance of one example's queries or keys: roots, and what inverts them."""

    root: np.ndarray
    inverse: np.ndarray

    def beside(self, cross: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The root of another example's covariance ``own``, the part along these axes first."""
        along = cross.T @ self.inverse
        return np.concatenate([along, _positions(own - along @ along.T).root], axis=1)


def _positions(cov: np.ndarray) -> _Positions:
    values, vectors = np.linalg.eigh(cov)
    kept = values > max(NEGLIGIBLE * values[-1], 0.0)
    values, vectors = np.where(kept, values, 0.0)[::-1], vectors[:, ::-1]
    roots = np.sqrt(values)
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0.0)
    return _Positions(vectors * roots, vectors * inverse)


def attended(values: PairValues, node: graph.Attention) -> Block:
    """The block of a tile, pair by pair; the largest error goes to the account."""
    sides = [
        (prod(n for _, n in own), prod(n for _, n in seen))
        for own, seen in zip((node.rows, node.cols), node.seen, strict=True)
    ]
    (p, r), (p2, r2) = sides
    i, j = values.counts

    def grid(pair: graph.Pair | None, row: int, col: int) -> np.ndarray:
        return np.zeros((i, j, row, col)) if pair is None else values.grid(pair).reshape(i, j, row, col)

    queries, keys = (
        grid(pair, *size) for pair, size in zip(node.logits or (None, None), ((p, p2), (r, r2)), strict=True)
    )
    v = grid(node.values, r, r2)
    along = None if node.along is None else [(grid(a, p, p2), grid(b, r, r2)) for a, b in node.along]
    tables = [_tables(values, node, side, *sides[side]) for side in (0, 1)]
    allowed = [_allowed(values, node, side, *sides[side]) for side in (0, 1)]
    account = values.profiles[0].account
    asked = account.rtol != RTOL
    aim = account.rtol if asked else AIM
    most = min(max((account.budget or LARGEST) >> LOG2, SETS), LARGEST >> LOG2) if asked else MOST
    ids = [np.arange(profile.size)[at] for profile, at in zip(values.profiles, values.slices, strict=True)]
    out = np.empty((i, j, p, p2))
    for m in range(i):
        q1, k1, own = (table[m] for table in tables[0])
        roots, seen = _positions(q1), _positions(k1)
        first = _Drawn(
            roots.root, seen.root, allowed[0] if allowed[0] is None else allowed[0][m], (p + p2, r + r2)
        )
        size = first.size(own)
        for n in range(j):
            q2, k2, other = (table[n] for table in tables[1])
            if values.same and ids[0][m] == ids[1][n]:
                second = first
            else:
                second = _Drawn(
                    roots.beside(queries[m, n], q2),
                    seen.beside(keys[m, n], k2),
                    allowed[1] if allowed[1] is None else allowed[1][n],
                    (p + p2, r + r2),
                )
            scale = np.sqrt(size * second.size(other)) or 1.0
            moved = None if along is None else [(a[m, n], b[m, n]) for a, b in along]
            if moved is not None:
                scale = scale * max(max(float(np.abs(a).max() * np.abs(b).max()) for a, b in moved), 1e-300)
            out[m, n], error, cost = _averaged(first, second, v[m, n], moved, scale, aim, most, values.pooled)
            account.note(error, f"the attention of {node.where}", cost)
    order = [("", 0), ("", 1), *((name, 0) for name, _ in node.rows), *((name, 1) for name, _ in node.cols)]
    made = out.reshape(i, j, *(n for _, n in node.rows), *(n for _, n in node.cols))
    return Block(labels.align(made, order, dims(node)), None)


def _tables(values: PairValues, node: graph.Attention, side: int, p: int, r: int) -> list[np.ndarray]:
    """The covariances of queries, keys and values of a side's examples with themselves."""
    made = []
    for table, size in zip(node.tables[side], (p, r, r), strict=True):
        count = values.counts[side]
        if table is None:
            made.append(np.zeros((count, size, size)))
        else:
            made.append(values.profiles[side](table)[values.slices[side]].reshape(count, size, size))
    return made


def _allowed(values: PairValues, node: graph.Attention, side: int, p: int, r: int) -> np.ndarray | None:
    """The weights of a side's positions: (examples, those that see, those that are seen)."""
    weights = node.weights[side]
    if weights is None:
        return None
    own = node.rows if side == 0 else node.cols
    axes = (*own, *node.seen[side])
    full = values.profiles[side].along(weights, axes)[values.slices[side]]
    count = values.counts[side]
    return np.broadcast_to(full, (count, *(n for _, n in axes))).reshape(count, p, r).astype(np.float32)


class _Drawn:
    """The softmax of one example's logits at sets of points, (positions that see, points, those seen)."""

    def __init__(
        self, queries: np.ndarray, keys: np.ndarray, allowed: np.ndarray | None, sizes: tuple[int, int]
    ) -> None:
        self._roots = queries.astype(np.float32), keys.astype(np.float32)
        self._allowed, self._sizes = allowed, sizes
        self._made: dict[int, np.ndarray] = {}

    def __call__(self, number: int) -> np.ndarray:
        if number not in self._made:
            self._made[number] = self._softmax(_points(*self._sizes, number))
        return self._made[number]

    def _softmax(self, z: np.ndarray) -> np.ndarray:
        queries, keys = self._roots
        (p, a), (r, b), points = queries.shape, keys.shape, z.shape[1]
        half = np.ascontiguousarray(z[:a, :, :b]).reshape(a, -1)
        logits = ((queries @ half).reshape(p * points, b) @ keys.T).reshape(p, points, r)
        if self._allowed is not None:
            return softmax(logits, (2,), self._allowed[:, None, :])
        if max(logits.max(), -logits.min()) > LARGE:
            logits -= logits.max(axis=2, keepdims=True)
        np.exp(logits, out=logits)
        logits *= 1.0 / (logits.reshape(-1, r) @ np.ones((r, 1), np.float32)).reshape(p, points, 1)
        return logits

    def size(self, values: np.ndarray) -> float:
        """The largest second moment of what the softmax makes of vectors of these covariances, about."""
        share = self(0)[:, ::4].astype(np.float64)
        return float(np.einsum("psr,rt,pst->p", share, values, share, optimize=True).max() / share.shape[1])


def _points(rows: int, cols: int, number: int) -> np.ndarray:
    """A set of standard normals (rows, points, columns), the first coordinates those of the least rows and columns."""

    def make() -> np.ndarray:
        count = rows * cols
        if count <= DIMENSIONS:
            z = normal_points(count, LOG2, number)
        else:
            z = normal_sample(count, 1 << LOG2, number)
        first = np.multiply.outer(np.arange(1, rows + 1), np.arange(1, cols + 1)).ravel()
        placed = np.empty((count, 1 << LOG2), np.float32)
        placed[np.argsort(first, kind="stable")] = z
        return placed.reshape(rows, cols, -1).transpose(0, 2, 1)

    return shared(("attention", rows, cols, number), make)


def _averaged(
    first: _Drawn,
    second: _Drawn,
    values: np.ndarray,
    along: list[tuple[np.ndarray, np.ndarray]] | None,
    scale: float,
    aim: float,
    most: int,
    pooled: bool,
) -> tuple[np.ndarray, float, int]:
    """The average, its error relative to ``scale``, and how many points it took."""
    made: list[np.ndarray] = []
    for count in _doubling(SETS, most):
        for number in range(len(made), count):
            pair = first(number), second(number)
            made.append(_heads(*pair, values) if along is None else _moved(*pair, values, along))
        sets = np.stack(made)
        if pooled:
            means = [sets.mean(axis=(1, 2)), np.trace(sets, axis1=1, axis2=2) / min(sets.shape[1:])]
            error = max(float(half_width(mean, axis=0)) for mean in means) / scale
            reached = error
        else:
            each = half_width(sets, axis=0) / scale
            error, reached = float(each.max()), float(np.sqrt(np.mean(each**2)))
        if reached <= aim:
            break
    return sets.mean(axis=0), error, len(made) << LOG2


def _doubling(first: int, last: int) -> Iterator[int]:
    while first < last:
        yield first
        first *= 2
    yield last


def _heads(a: np.ndarray, b: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean over points of A V B'."""
    p, points, r = a.shape
    half = (a.reshape(-1, r) @ values.astype(np.float32)).reshape(p, -1)
    return np.asarray(half @ b.reshape(len(b), -1).T, dtype=np.float64) / points


def _moved(
    a: np.ndarray, b: np.ndarray, values: np.ndarray, along: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """The mean over points of D V D'' over directions of covariance O[p, p'] M[r, r'], D = diag A - A A'.

    With K = V * M entry by entry: A K B', less (A V * A M) B' and A (V B' * M B'), and A V B' * A M B'.
    """
    p, points, r = a.shape
    total: np.ndarray | float = 0.0
    v = values.astype(np.float32)
    flat, other = a.reshape(-1, r), b.reshape(-1, b.shape[2])
    left, right = (flat @ v).reshape(p, points, -1), (other @ v.T).reshape(len(b), points, r)
    at = b.transpose(1, 2, 0)
    whole = left.transpose(1, 0, 2) @ at
    for outer, inner in along:
        m = inner.astype(np.float32)
        am, bm = (flat @ m).reshape(left.shape), (other @ m.T).reshape(right.shape)
        made = (flat @ (v * m)).reshape(p, -1) @ b.reshape(len(b), -1).T
        made -= (left * am).reshape(p, -1) @ b.reshape(len(b), -1).T
        made -= a.reshape(p, -1) @ (right * bm).reshape(len(b), -1).T
        made += np.einsum("spq,spq->pq", whole, am.transpose(1, 0, 2) @ at)
        total = total + outer * made.astype(np.float64) / points
    return np.asarray(total)
