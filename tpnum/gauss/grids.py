"""Sparse Gauss-Hermite grids for smooth functions of four dimensions and more, grown where they matter.

With rules Q_l of one dimension, exact for higher and higher polynomials, E f is the sum over multi-indices i
of the differences of products of (Q_{i_k} - Q_{i_k - 1}).  Indices are added next to that whose difference is
largest (Gerstner and Griebel, 2003), so that directions and interactions get as many points as they need.  A
sum like that can't know of what all its indices miss; so it is made twice, along the axes in which f varies
most and along these turned pair by pair, and the error is at least the difference of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from tpnum.gauss.directions import turned
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.lattice import Settled
from tpnum.gauss.rules import gauss_hermite

HIGHEST = 12
"""The largest rank."""
_POINTS = (1, 3, 5, 9, 13, 19, 27, 37, 51, 69)
_TRIED = 6
"""Levels along single axes that tell whether f is smooth,"""
_DECAY, _FALL, _NONE = 0.03, 0.2, 1e-9
"""what the last difference may be of the largest and of those before it, and what of E|f| is none at all."""
_ENTRIES = 64  # a batch of more is for Sobol points
_TURN = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
_SAFETY = 8.0
_PROMISE = 1e-3
"""The error relative to E|f| that an eighth of the points must have reached."""
_PILOT = 1 << 10

Index = tuple[int, ...]
Values = Callable[[np.ndarray], np.ndarray]


def grown(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float, atol: float, budget: int
) -> Settled:
    """(value, error, E|f|, evaluations) at mean (n, d), factor (n, d, r); infinite where f is rough."""
    count, _, rank = factor.shape
    shape = count, f_at.components or 1
    value, size, error = np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)
    if count > _ENTRIES or not 2 <= rank <= HIGHEST:
        return value, error, size, 0
    factor, cost, _ = turned(f_at, mean, np.ascontiguousarray(factor), _PILOT, 1)
    rotation = np.eye(rank)
    for k in range(0, rank - 1, 2):
        rotation[k : k + 2, k : k + 2] = _TURN
    for n in range(count):

        def along(way: np.ndarray, n: int = n) -> Values:
            return lambda z: f_at.columns(
                [np.ascontiguousarray(c[None]) for c in mean[n, :, None] + way @ z]
            )[0]

        first = _Grid(along(factor[n]), rank)
        if not first.smooth():
            cost += first.cost
            continue
        first.grow(rtol, atol, budget // 24)
        if np.any(first.error > _PROMISE * first.size):
            cost += first.cost
            continue
        first.grow(rtol, atol, budget // 3)
        second = _Grid(along(factor[n] @ rotation), rank)
        second.grow(rtol, atol, budget // 3)
        cost += first.cost + second.cost
        value[n], size[n] = first.value, np.maximum(first.size, np.abs(first.value))
        apart = np.abs(first.value - second.value)
        error[n] = np.maximum(first.error, apart) + 1e-14 * size[n]
    error[~np.isfinite(error) | ~np.isfinite(value)] = np.inf
    return value, error, size, cost


class _Grid:
    """The indices of one integral, their differences, and the sums over products that these are made of."""

    def __init__(self, f: Values, rank: int) -> None:
        self.f, self.rank = f, rank
        self.cost = 0
        self.sums: dict[Index, np.ndarray] = {}
        self.open: dict[Index, np.ndarray] = {}
        self.closed: dict[Index, np.ndarray] = {}
        self.total: np.ndarray = np.zeros((2, 0))
        self.value: np.ndarray = np.zeros(0)
        self.size: np.ndarray = np.zeros(0)
        self.error: np.ndarray = np.zeros(0)

    def product(self, index: Index) -> np.ndarray:
        """The sum over the product of rules; (2, components), of f and |f|."""
        if index not in self.sums:
            used = [k for k in range(self.rank) if index[k]]
            rules = [gauss_hermite(_POINTS[index[k]]) for k in used]
            nodes = np.meshgrid(*(r[0] for r in rules), indexing="ij") if used else []
            points = int(np.prod([r[0].size for r in rules]))
            z = np.zeros((self.rank, points))
            weight = np.ones(points)
            for k, node, w in zip(
                used, nodes, np.meshgrid(*(r[1] for r in rules), indexing="ij"), strict=True
            ):
                z[k] = node.ravel()
                weight = weight * w.ravel()
            made = self.f(z)
            self.cost += points
            self.sums[index] = np.stack([made @ weight, np.abs(made) @ weight])
        return self.sums[index]

    def difference(self, index: Index) -> np.ndarray:
        """What an index adds, of f."""
        used = [k for k in range(self.rank) if index[k]]
        made = np.zeros_like(self.product(index))
        for lower in product((0, 1), repeat=len(used)):
            other = list(index)
            for k, low in zip(used, lower, strict=True):
                other[k] -= low
            made += (-1.0) ** sum(lower) * self.product(tuple(other))
        return made

    def points(self, index: Index) -> int:
        return int(np.prod([float(_POINTS[i]) for i in index]))

    def smooth(self) -> bool:
        """Whether differences along the axes die out."""
        along = np.array([
            [np.abs(self.difference(self.axis(k, level))[0]) for level in range(1, _TRIED + 1)]
            for k in range(self.rank)
        ])  # fmt: skip
        size = np.max([self.product(self.axis(k, _TRIED))[1] for k in range(self.rank)], axis=0)
        if not np.all(size > 0):
            return False
        last, before = along[:, -1], np.max(along[:, 2:4], axis=1)
        falls = (last <= _DECAY * np.max(along, axis=1)) & (last <= _FALL * before)
        return bool(np.all(falls | (last <= _NONE * size)))

    def axis(self, k: int, level: int) -> Index:
        return tuple(level if j == k else 0 for j in range(self.rank))

    def grow(self, rtol: float, atol: float, budget: int) -> None:
        """Add indices until the differences on the rim are within the tolerance, or too many points."""
        root = (0,) * self.rank
        if not self.open:
            self.open[root] = self.total = self.difference(root)
        depth = 3 if self.rank <= 6 else 2
        while self.open:
            low = [i for i in self.open if sum(i) <= depth]
            self.value, self.size = self.total
            rim = np.array([made[0] for made in self.open.values()])
            self.error = np.asarray(_SAFETY * np.sum(np.abs(rim), axis=0))
            allowed = np.maximum(0.3 * rtol * np.maximum(self.size, np.abs(self.value)), atol)
            if not low and np.all(self.error <= allowed):
                return
            best = low[0] if low else max(self.open, key=lambda i: float(np.max(np.abs(self.open[i][0]))))
            self.closed[best] = self.open.pop(best)
            for k in range(self.rank):
                index = tuple(i + (j == k) for j, i in enumerate(best))
                if index[k] == len(_POINTS) or index in self.open or not self.admitted(index):
                    continue
                if self.cost + self.points(index) > budget:
                    # what the lowest indices add must have been seen for the rim to say anything
                    missed = np.inf if low else _SAFETY * np.abs(self.closed[best][0])
                    self.error = np.maximum(self.error, missed)
                    self.open[best] = self.closed.pop(best)
                    return
                self.open[index] = self.difference(index)
                self.total = self.total + self.open[index]

    def admitted(self, index: Index) -> bool:
        """Whether all indices below are closed."""
        return all(
            i == 0 or tuple(a - (j == k) for j, a in enumerate(index)) in self.closed
            for k, i in enumerate(index)
        )
