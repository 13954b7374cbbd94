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
from tpnum.program.arrays import softmax

if TYPE_CHECKING:
    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph

AIM = 1e-3
"""The accuracy that is tried for where none is asked."""

LOG2, SETS, MOST = 8, 8, 16
"""Points of a set, sets at first, and sets at most where no accuracy is asked."""

LARGEST = 1 << 14
"""Points of a pair, where an accuracy is asked."""

KEPT = 1 << 28
"""Bytes of softmaxes of a tile that are kept for its other nodes."""

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
    tile = _Tile(values, node)
    i, j = values.counts
    out = np.empty((i, j, tile.sides[0].see, tile.sides[1].see))
    rows, cols = ({int(one): k for k, one in enumerate(ids)} for ids in values.ids)
    for m, one in enumerate(rows):
        for n, other in enumerate(cols):
            p, q = (rows.get(other), cols.get(one)) if node.own and values.same else (None, None)
            turned = p is not None and q is not None and p < m  # the two examples in the other order
            out[m, n] = out[p, q].T if turned else tile.pair(m, n)
    order = [("", 0), ("", 1), *((name, 0) for name, _ in node.rows), *((name, 1) for name, _ in node.cols)]
    made = out.reshape(i, j, *(n for _, n in node.rows), *(n for _, n in node.cols))
    return Block(labels.align(made, order, dims(node)), None)


class _Side:
    """One side's examples: covariances of queries, keys and vectors with themselves, and what may be seen."""

    def __init__(self, values: PairValues, node: graph.Attention, side: int) -> None:
        profile, at, count = values.profiles[side], values.slices[side], values.counts[side]
        own = node.rows if side == 0 else node.cols
        self.see, self.seen = prod(n for _, n in own), prod(n for _, n in node.seen[side])
        self.ids = values.ids[side]

        def table(found: graph.Profile | None, size: int) -> np.ndarray:
            made = np.zeros((count, size, size)) if found is None else profile(found)[at]
            return made.reshape(count, size, size)

        sizes = (self.see, self.seen, self.seen)
        self.queries, self.keys, self.vectors = map(table, node.tables[side], sizes)
        weights, axes = node.weights[side], (*own, *node.seen[side])
        self.allowed: list[np.ndarray | None] = [None] * count
        if weights is not None:
            full = np.broadcast_to(profile.along(weights, axes)[at], (count, *(n for _, n in axes)))
            self.allowed = list(full.reshape(count, self.see, self.seen).astype(np.float32))


class _Tile:
    """What the pairs of a tile are computed from, one block per quantity."""

    def __init__(self, values: PairValues, node: graph.Attention) -> None:
        self.values, self.node = values, node
        self.sides = one, two = _Side(values, node, 0), _Side(values, node, 1)
        self.first: tuple[int, _Drawn | None] = -1, None
        self.points = one.see + two.see, one.seen + two.seen

        def grid(pair: graph.Pair | None, *sizes: int) -> np.ndarray:
            shape = (*values.counts, *sizes)
            return np.zeros(shape) if pair is None else values.grid(pair).reshape(shape)

        def both(pairs: tuple[graph.Pair | None, ...]) -> tuple[np.ndarray, np.ndarray]:
            return grid(pairs[0], one.see, two.see), grid(pairs[1], one.seen, two.seen)

        self.queries, self.keys = both(node.logits or (None, None))
        self.vectors = grid(node.values, one.seen, two.seen)
        self.along = None if node.along is None else [both(pairs) for pairs in node.along]
        shape = one.see, two.see
        self.demand = (np.eye(*shape) if node.diagonal else np.ones(shape)) > 0 if values.pooled else None
        account = values.profiles[0].account
        asked = account.rtol != RTOL
        self.aim = account.rtol if asked else AIM
        self.most = max(min(account.budget or LARGEST, LARGEST) >> LOG2, SETS) if asked else MOST

    def pair(self, m: int, n: int) -> np.ndarray:
        """The block of two examples, (positions that see, positions that see)."""
        if not self.same(m, n):
            return self._pair(m, n)
        kept = self.values.profiles[0].sampled  # the profile and the tiles ask for it
        key = id(self.node), int(self.sides[0].ids[m]), self.demand is None
        if key not in kept:
            kept[key] = self._pair(m, n)
        return kept[key]

    def _pair(self, m: int, n: int) -> np.ndarray:
        if self.first[0] != m:
            self.first = m, self.drawn(m)
        first = self.first[1]
        assert first is not None
        second = first if self.same(m, n) else self.drawn(m, n)
        scale = np.sqrt(first.size(self.sides[0].vectors[m]) * second.size(self.sides[1].vectors[n]))
        along = None if self.along is None else [(a[m, n], b[m, n]) for a, b in self.along]
        if along is not None:
            scale *= max(float(np.abs(a).max() * np.abs(b).max()) for a, b in along)
        value, error, cost = _averaged(
            first, second, self.vectors[m, n], along, scale or 1.0, (self.aim, self.most), self.demand
        )
        self.values.profiles[0].account.note(error, f"the attention of {self.node.where}", cost)
        return value

    def drawn(self, m: int, n: int | None = None) -> _Drawn:
        """The logits of a row example, or of a column example beside it; values and slopes share them."""
        kept = self.values.drawn
        key = (*map(id, self.node.logits or ()), m, n)
        if kept is not None and key in kept:
            found: _Drawn = kept[key]
            return found
        one, two = self.sides
        queries, keys = _positions(one.queries[m]), _positions(one.keys[m])
        shared = kept is not None and sum(drawn.bytes for drawn in kept.values()) < KEPT
        if n is None:
            made = _Drawn(queries.root, keys.root, one.allowed[m], self.points, True)
        else:
            root = queries.beside(self.queries[m, n], two.queries[n])
            seen = keys.beside(self.keys[m, n], two.keys[n])
            made = _Drawn(root, seen, two.allowed[n], self.points, shared)
        if kept is not None and shared:
            kept[key] = made
        return made

    def same(self, m: int, n: int) -> bool:
        """Whether a row and a column of the tile are the same example."""
        return bool(self.values.same and self.sides[0].ids[m] == self.sides[1].ids[n])


class _Drawn:
    """The softmax of one example's logits at sets of points, (positions that see, points, those seen)."""

    def __init__(
        self,
        queries: np.ndarray,
        keys: np.ndarray,
        allowed: np.ndarray | None,
        sizes: tuple[int, int],
        kept: bool,
    ) -> None:
        self._roots = queries.astype(np.float32), keys.astype(np.float32)
        self._allowed, self._sizes, self._kept = allowed, sizes, kept
        self._made: dict[int, np.ndarray] = {}

    def __call__(self, number: int) -> np.ndarray:
        if number in self._made:
            return self._made[number]
        made = self._softmax(_points(*self._sizes, number))
        if self._kept:
            self._made[number] = made
        return made

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

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self._made.values())

    def size(self, values: np.ndarray) -> float:
        """The largest second moment of what the softmax makes of vectors of these covariances, about."""
        share = self(0)[:, ::4].astype(np.float64)
        return float(np.einsum("psr,rt,pst->p", share, values, share, optimize=True).max() / share.shape[1])


def _points(rows: int, cols: int, number: int) -> np.ndarray:
    """A set of standard normals (rows, points, columns), small rows and columns for first coordinates."""

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
    goal: tuple[float, int],
    demand: np.ndarray | None,
) -> tuple[np.ndarray, float, int]:
    """The average, its error relative to ``scale``, and how many points it took."""
    made: list[np.ndarray] = []
    aim, most = goal
    for count in _doubling(SETS, most):
        for number in range(len(made), count):
            pair = first(number), second(number)
            made.append(_heads(*pair, values) if along is None else _moved(*pair, values, along))
        sets = np.stack(made)
        if demand is not None:
            error = reached = float(half_width(sets[:, demand].mean(axis=1), axis=0)) / scale
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
