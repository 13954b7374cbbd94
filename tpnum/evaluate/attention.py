"""Attention with random logits on a tile: pair by pair, values and slopes of the same logits together.

A pair's average depends on its two examples alone: which of them comes first is told by their covariances,
and an example with itself has one average, that of its profile too.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.along import SAME
from tpnum.evaluate.blocks import Block, dims
from tpnum.gauss.special.families import REPLICATES
from tpnum.gauss.special.pairing import sign
from tpnum.gauss.special.sampled_softmax import Average, Axes, Near, Softmax, Task, averages, axes

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph

AIM = 1e-3
"""The accuracy that is tried for where none is asked."""

USUAL, MOST = 9, 11
"""Powers of two of the points of a replicate, at most: where no accuracy is asked, and where one is."""

CLOSE, WHOLLY = 0.9, 0.98
"""Correlations of two examples where their squares begin to correct their product, and where they do."""


def attended(values: PairValues, node: graph.Attention) -> Block:
    """The block of a node; those of others of the same logits are kept till they are asked for."""
    if id(node) not in values.attended:  # none of the others stands on it: logits and vectors are apart
        tile = _Tile(values, [node, *(o for o in values.attending if o is not node and _alike(o, node))])
        tile.run()
        values.attended |= {id(one): made for one, made in zip(tile.nodes, tile.blocks(), strict=True)}
    return values.attended.pop(id(node))


def _alike(one: graph.Attention, other: graph.Attention) -> bool:
    """Whether two nodes are of the same logits and ask for the same positions."""

    def what(node: graph.Attention) -> tuple[object, ...]:
        return (node.own, node.diagonal, node.tables[0][:2], *map(id, node.logits or ()))

    return what(one) == what(other)


class _Side:
    """One side's examples: covariances of queries and keys with themselves, and what may be seen."""

    def __init__(self, values: PairValues, node: graph.Attention, side: int) -> None:
        self.profile = profile = values.profiles[side]
        self.at, self.count, self.ids = values.slices[side], values.counts[side], values.ids[side]
        self.numbers = np.arange(profile.size)[self.at]
        own = node.rows if side == 0 else node.cols
        self.see, self.seen = prod(n for _, n in own), prod(n for _, n in node.seen[side])
        self.queries = self.table(node.tables[side][0], self.see)
        self.keys = _centred(self.table(node.tables[side][1], self.seen))
        weights, both = node.weights[side], (*own, *node.seen[side])
        self.allowed: list[np.ndarray | None] = [None] * self.count
        if weights is not None:
            full = np.broadcast_to(profile.along(weights, both)[self.at], (self.count, *(n for _, n in both)))
            self.allowed = list(full.reshape(self.count, self.see, self.seen).astype(np.float32))
        self._axes: dict[int, tuple[Axes, Axes]] = {}
        self._softmax: dict[int, Softmax] = {}

    def table(self, found: graph.Profile | None, size: int) -> np.ndarray:
        made = np.zeros((self.count, size, size)) if found is None else self.profile(found)[self.at]
        return made.reshape(self.count, size, size)

    def axes(self, n: int) -> tuple[Axes, Axes]:
        """Of an example's queries and keys."""
        if n not in self._axes:
            self._axes[n] = axes(self.queries[n]), axes(self.keys[n])
        return self._axes[n]

    def alone(self, n: int) -> Softmax:
        """The softmax of an example where it comes first."""
        if n not in self._softmax:
            queries, keys = self.axes(n)
            self._softmax[n] = Softmax(queries.root, keys.root, self.allowed[n], kept=True)
        return self._softmax[n]


def _centred(keys: np.ndarray) -> np.ndarray:
    """Covariances of what keys differ by from their mean over positions: a softmax sees no more of them."""
    keys = keys - keys.mean(axis=-1, keepdims=True)
    return np.asarray(keys - keys.mean(axis=-2, keepdims=True))


class _Tile:
    """The averages of all pairs of a tile, for nodes of the same logits."""

    def __init__(self, values: PairValues, nodes: list[graph.Attention]) -> None:
        node = nodes[0]
        self.profiles, self.values, self.nodes = values.profiles, values, nodes
        self.sides = one, two = _Side(values, node, 0), _Side(values, node, 1)

        def grid(pair: graph.Pair | None, *sizes: int) -> np.ndarray:
            shape = (*values.counts, *sizes)
            return np.zeros(shape) if pair is None else values.grid(pair).reshape(shape)

        def both(pairs: tuple[graph.Pair | None, ...]) -> tuple[np.ndarray, np.ndarray]:
            return grid(pairs[0], one.see, two.see), grid(pairs[1], one.seen, two.seen)

        self.queries, keys = both(node.logits or (None, None))
        self.keys = _centred(keys)
        self.vectors = [grid(each.values, one.seen, two.seen) for each in nodes]
        self.own = [
            [side.table(each.tables[s][2], side.seen) for s, side in enumerate(self.sides)] for each in nodes
        ]
        self.along = [None if each.along is None else [both(pairs) for pairs in each.along] for each in nodes]
        shape = one.see, two.see
        every, even = np.ones(shape, dtype=bool), np.eye(*shape, dtype=bool)
        self.demands: tuple[np.ndarray, ...] = (even if node.diagonal else every,)
        self.squared: tuple[np.ndarray, ...] = every, even
        if not values.profiles[0].pooled:
            self.demands = self.squared = ()
        self.account = account = values.profiles[0].account
        self.aim = account.rtol if account.asked else AIM
        budget = account.budget or REPLICATES << MOST
        self.most = min(int(np.log2(budget / REPLICATES)), MOST if account.asked else USUAL)
        self.replicates = range(REPLICATES)
        if account.replicate is not None:
            self.replicates = range(account.replicate, account.replicate + 1)
        self.out = np.empty((len(nodes), *values.counts, *shape))
        self.tasks: dict[tuple[int, tuple[Hashable, ...]], Task] = {}  # of examples with themselves

    def run(self) -> None:
        pairs: list[_Pair] = []
        mirrored: list[tuple[int, int, int, int]] = []
        rows, cols = ({int(one): k for k, one in enumerate(side.ids)} for side in self.sides)
        own = self.values.same and self.nodes[0].own
        for m, one in enumerate(rows):
            for n, other in enumerate(cols):
                p, q = (rows.get(other), cols.get(one)) if own else (None, None)
                if p is not None and q is not None and p < m:  # the two examples in the other order
                    mirrored.append((m, n, p, q))
                else:
                    pairs.append(_Pair(self, m, n))
        tasks = [*self.tasks.values(), *(pair.task for pair in pairs if pair.task.averages)]
        first, second = self.sides
        grid = first.see + second.see, first.seen + second.seen
        seen = max(side.see * side.seen for side in self.sides)
        averages(tasks, grid, seen, self.aim, self.most, self.replicates)
        for (number, key), task in self.tasks.items():
            self.profiles[number].sampled[key] = task.averages[0]
        for pair in pairs:
            pair.fill()
        for m, n, p, q in mirrored:
            self.out[:, m, n] = self.out[:, p, q].swapaxes(1, 2)

    def blocks(self) -> list[Block]:
        made = []
        for node, out in zip(self.nodes, self.out, strict=True):
            order = [("", 0), ("", 1)]
            order += [(name, side) for side, own in enumerate((node.rows, node.cols)) for name, _ in own]
            sizes = (n for own in (node.rows, node.cols) for _, n in own)
            block = out.reshape(*self.values.counts, *sizes)
            made.append(Block(labels.align(block, order, dims(node)), None))
        return made

    def square(self, number: int, side: int, n: int) -> Average:
        """E h[p] h[p'] of one example, the same in every tile."""
        here, node = self.sides[side], self.nodes[number]
        tables = (*node.tables[side], node.weights[side])
        key = (*(table and table.key for table in tables), int(here.numbers[n]))
        kept = here.profile.sampled
        if key in kept:
            return kept[key]
        place = self.profiles.index(here.profile), key
        if place not in self.tasks:
            cov, softmax = self.own[number][side][n], here.alone(n)
            self.tasks[place] = Task(softmax, softmax, (Average(cov, None, (cov, cov)),), self.squared)
        return self.tasks[place].averages[0]

    def alike(self, m: int, n: int) -> float:
        """The least correlation of two examples' queries and keys; 1 where their logits are the same."""
        one, two = self.sides
        first, second = one.allowed[m], two.allowed[n]
        if first is not second and (first is None or second is None or not np.array_equal(first, second)):
            return 0.0
        queries = _correlation(one.queries[m], self.queries[m, n], two.queries[n])
        return min(queries, _correlation(one.keys[m], self.keys[m, n], two.keys[n]))


def _correlation(first: np.ndarray, cross: np.ndarray, second: np.ndarray) -> float:
    """Of two families of as many variables, one by one; 1 only where each is the same as its other."""
    if first.shape != second.shape:
        return 0.0
    u, x, v = (np.diagonal(each) for each in (first, cross, second))
    if (u + v - 2.0 * x <= SAME * (u + v)).all():
        return 1.0
    size = float(np.sqrt(u.sum() * v.sum()))
    return min(float(x.sum()) / size, 1.0 - SAME) if size > 0.0 else 0.0


class _Pair:
    """What is averaged for two examples of a tile.

    Where they are nearly one, E h h' is half the squares of both, less half of E (h - h')^2, which is what is
    sampled then.
    """

    def __init__(self, tile: _Tile, m: int, n: int) -> None:
        self.tile, self.m, self.n = tile, m, n
        one, two = tile.sides
        itself = bool(tile.values.same and one.ids[m] == two.ids[n])
        logits = 1.0 if itself else tile.alike(m, n)
        self.turned = logits < 1.0 and self._turned()
        first = two.alone(n) if self.turned else one.alone(m)
        second = first if logits == 1.0 else self._beside()
        self.shares: list[float] = []
        self.squares: list[tuple[Average, ...]] = []
        self.averages: list[Average | None] = []
        for number, node in enumerate(tile.nodes):
            alike = logits
            if not itself and node.own and node.along is None:
                own = (each[i] for each, i in zip(tile.own[number], (m, n), strict=True))
                alike = min(logits, _correlation(next(own), tile.vectors[number][m, n], next(own)))
            share = float(np.clip((alike - CLOSE) / (WHOLLY - CLOSE), 0.0, 1.0))
            self.shares.append(share if node.own and node.along is None else 0.0)
            both = (tile.square(number, 0, m), tile.square(number, 1, n)) if self.shares[-1] else ()
            self.squares.append(both)
            self.averages.append(None if self.shares[-1] == alike == 1.0 else self._average(number))
        demands = tuple(each.T for each in tile.demands) if self.turned else tile.demands
        self.task = Task(first, second, tuple(made for made in self.averages if made is not None), demands)

    def _turned(self) -> bool:
        """Whether the second example is to come first, which a pair's own numbers tell."""
        tile, m, n = self.tile, self.m, self.n
        one, two = tile.sides
        sizes = [(side.see, side.seen) for side in tile.sides]
        if sizes[0] != sizes[1]:
            return sizes[0] > sizes[1]
        own = [np.append(side.queries[i], side.keys[i]) for side, i in ((one, m), (two, n))]
        found = sign(own[0][None], own[1][None])[0]
        if not found:
            cross = tile.queries[m, n], tile.keys[m, n]
            found = sign(
                *(np.append(*(each.T if back else each for each in cross))[None] for back in (0, 1))
            )[0]
        return bool(found > 0)

    def _beside(self) -> Softmax:
        """The softmax of the second example, given the first."""
        tile, m, n = self.tile, self.m, self.n
        (one, two), (i, j) = tile.sides, (m, n)
        queries, keys = tile.queries[m, n], tile.keys[m, n]
        if self.turned:
            (one, two), (i, j), queries, keys = (two, one), (n, m), queries.T, keys.T
        first = one.axes(i)
        root = first[0].beside(queries, two.queries[j])
        return Softmax(root, first[1].beside(keys, two.keys[j]), two.allowed[j])

    def _average(self, number: int) -> Average:
        tile, m, n = self.tile, self.m, self.n
        vectors, (first, second) = tile.vectors[number][m, n], tile.own[number]
        sizes = first[m], second[n]
        found = tile.along[number]
        along = None if found is None else [(outer[m, n], inner[m, n]) for outer, inner in found]
        if self.turned:
            vectors, sizes = vectors.T, sizes[::-1]
            along = None if along is None else [(outer.T, inner.T) for outer, inner in along]
        share = self.shares[number]
        return Average(vectors, along, sizes, Near(share, *sizes) if share else None)

    def fill(self) -> None:
        """The entries of all blocks; errors go to the account."""
        tile, m, n = self.tile, self.m, self.n
        for number, (share, made) in enumerate(zip(self.shares, self.averages, strict=True)):
            value, error, cost = np.zeros(tile.out.shape[3:]), 0.0, 0
            if made is not None:
                value, error, cost = made.value, made.error(self.task.demands), made.points
                value = value.T if self.turned else value
            for square in self.squares[number]:
                value = value + 0.5 * share * square.value
                error += 0.5 * share * square.error(tile.demands)
                cost = max(cost, square.points)
            tile.out[number, m, n] = value
            what = f"the attention of {tile.nodes[number].where}"
            tile.account.note(error, what, cost, replicated=True)
