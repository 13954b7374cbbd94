"""Derivatives of sums over a tile: the moment graph read backwards, one adjoint per node.

The adjoint of a node is the derivative of a weighted sum of outputs by the node's block, in the block's own
shape: an entry that stands for many gathers theirs.  A way back over pairs of inputs ends in coefficients, in
products of data and in quantities of one input (`Ends`); theirs, over all tiles, is `ProfileAdjoints`.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tpnum.evaluate import transposed
from tpnum.evaluate.blocks import dims
from tpnum.evaluate.duals import DualPartials, of_many
from tpnum.jets import Jet
from tpnum.law import graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.general import PairValues
    from tpnum.law.moving import Moving


class Ends(Protocol):
    """Where a way back over pairs of inputs ends; ``own`` are the dimensions of an array."""

    kept: tuple[Dim, ...]
    """Of the examples, those that are not summed over."""

    def coefficient(self, value: float, bar: np.ndarray, own: Sequence[Dim]) -> None:
        """The adjoint of a coefficient."""

    def profile(self, node: graph.Profile, side: int, bar: np.ndarray, own: Sequence[Dim]) -> None:
        """The adjoint of a quantity of the row (0) or of the column (1)."""

    def gram(self, node: graph.Gram, bar: np.ndarray) -> None:
        """The adjoint of products of data."""


class PairAdjoints:
    """One way back over the graph on the tile of ``values``, which are kept until then."""

    def __init__(self, values: PairValues, moving: Moving, ends: Ends):
        self.values, self.moving, self.ends = values, moving, ends
        self._duals = DualPartials(values, moving)
        self._bars: dict[int, np.ndarray] = {}

    def back(self, seeds: Sequence[tuple[graph.Pair, np.ndarray]]) -> None:
        """From the adjoints of some nodes, of the shapes of the nodes, to the ends."""
        order = self.values.hold([node for node, _ in seeds])
        for node, bar in seeds:
            self._add(node, bar)
        for node in reversed(order):
            if id(node) in self._bars and self.moving.pair(node):
                self.values.proceed()
                self._back(node, self._bars.pop(id(node)))

    def _add(self, node: graph.Pair, bar: np.ndarray) -> None:
        """More of a node's adjoint, in its dimensions."""
        k = self.values(node).k
        own, kept, counts = dims(node), self.ends.kept, self.values.counts
        wide = [counts[key[1]] if key in kept else n for key, n in zip(own, k.shape, strict=True)]
        made = collected(bar, tuple(wide))
        old = self._bars.get(id(node))
        self._bars[id(node)] = made if old is None else old + made

    def give(self, node: graph.Pair, frame: graph.Pair, bar: np.ndarray) -> None:
        """More of a node's adjoint, in the dimensions of a frame."""
        if self.moving.pair(node):
            self._add(node, summed(bar, dims(frame), dims(node)))

    def give_profile(self, node: graph.Profile, side: int, frame: graph.Pair, bar: np.ndarray) -> None:
        """More of the adjoint of a quantity of one input."""
        if self.moving.profile(node):
            self.ends.profile(node, side, bar, dims(frame))

    @singledispatchmethod
    def _back(self, node: graph.Pair, bar: np.ndarray) -> None:
        raise of_many(node)

    @_back.register
    def _(self, node: graph.Gram, bar: np.ndarray) -> None:
        self.ends.gram(node, np.broadcast_to(bar, self.values.shape(node)))

    @_back.register
    def _(self, node: graph.Shared, bar: np.ndarray) -> None:
        self.ends.coefficient(node.value, bar, dims(node))

    @_back.register
    def _(self, node: graph.Fresh, bar: np.ndarray) -> None:
        same = self.values.coincide(node)
        self._factors([(p, 0) for p in node.same], [], bar * same, node)
        if node.other is not None:
            self._factors(list(zip(node.other, (0, 1), strict=True)), [], bar * (1.0 - same), node)

    @_back.register
    def _(self, node: graph.Sum, bar: np.ndarray) -> None:
        for part in node.parts:
            sides = [(p, side) for side, group in enumerate((part.rows, part.cols)) for p in group]
            self._factors(sides, list(part.pairs), bar, node, part.coef)

    def _factors(
        self,
        sides: list[tuple[graph.Profile, int]],
        pairs: list[graph.Pair],
        bar: np.ndarray,
        frame: graph.Pair,
        coef: float = 1.0,
    ) -> None:
        """The product rule for coef * quantities of one input * pair nodes."""
        values = [self.values.profile(p, side, frame) for p, side in sides]
        values += [self.values.inner(pair, frame).k for pair in pairs]
        left = [bar]  # times all factors before
        for value in values:
            left.append(left[-1] * value)
        if isinstance(coef, Jet):
            self.ends.coefficient(coef, left[-1], dims(frame))
        right: Any = float(coef)  # times all factors behind
        for k in reversed(range(len(values))):
            made = left[k] if isinstance(right, float) and right == 1.0 else left[k] * right
            if k < len(sides):
                self.give_profile(*sides[k], frame, made)
            else:
                self.give(pairs[k - len(sides)], frame, made)
            right = right * values[k]

    @_back.register
    def _(self, node: graph.Dual, bar: np.ndarray) -> None:
        found = self._duals.slopes(node)
        call = node.call
        if self.moving.pair(call.cov):
            self.give(call.cov, node, bar * found.cov)
        for side, (var, by) in enumerate(zip(call.vars, (found.first, found.second), strict=True)):
            if self.moving.profile(var):
                q = self.values.profile(var, side, node)
                half = np.divide(0.5, q, out=np.zeros_like(q), where=q > 0)
                self.ends.profile(var, side, bar * by * half, dims(node))

    @_back.register
    def _(self, node: graph.Mapped, bar: np.ndarray) -> None:
        self._add(node.operand, transposed.mapped(self.values, node, bar))

    @_back.register
    def _(self, node: graph.Stencil, bar: np.ndarray) -> None:
        self._add(node.operand, transposed.stencil(self.values, node, bar))

    @_back.register
    def _(self, node: graph.Embedded, bar: np.ndarray) -> None:
        self._add(node.operand, transposed.embedded(self.values, node, bar))

    @_back.register
    def _(self, node: graph.Diagonal, bar: np.ndarray) -> None:
        self._add(node.operand, transposed.diagonal(self.values, node, bar))

    @_back.register
    def _(self, node: graph.Weighted, bar: np.ndarray) -> None:
        self._add(node.operand, transposed.weighted(self.values, node, bar))
        if node.weights is not None and self.moving.profile(node.weights):
            self.ends.profile(
                node.weights, node.side, *transposed.weights(self.values, node, bar, self.ends.kept)
            )


def collected(bar: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An adjoint in a shape: summed where one entry stands for many, spread where it is the same for all."""
    one = tuple(k for k, (n, m) in enumerate(zip(bar.shape, shape, strict=True)) if m == 1 < n)
    made = bar.sum(axis=one, keepdims=True) if one else bar
    return made if made.shape == shape else np.broadcast_to(made, shape)


def summed(bar: np.ndarray, own: Sequence[Dim], target: Sequence[Dim]) -> np.ndarray:
    """Summed over the dimensions that the target lacks, the rest in its order."""
    lost = tuple(k for k, key in enumerate(own) if key not in target)
    made = bar.sum(axis=lost) if lost else bar
    left = [key for key in own if key in target]
    return made.transpose([left.index(key) for key in target])
