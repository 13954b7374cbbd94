"""Derivatives of a kernel by parameters: every node of the moment graph, differentiated forwards.

The graph is that of a net whose parameters are `tpnum.jets.Jet`: its coefficients carry their own
derivatives, and the rules here are those of sums, products and expectations (`tpnum.evaluate.partials`).
None is a derivative that is zero by the text.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels, maps
from tpnum.evaluate.blocks import Block, dims
from tpnum.evaluate.chain import Tangent, moved, plus, product, ratio
from tpnum.evaluate.duals import (
    DualPartials,
    beyond_two,
    check,
    of_many,
    own_partials,
    stretched,
    unavailable,
)
from tpnum.evaluate.same import together
from tpnum.evaluate.tile import TileValues
from tpnum.jets import slopes_of
from tpnum.law import graph
from tpnum.law.moving import Moving
from tpnum.law.sources import sources
from tpnum.law.stencils import Stencils
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.evaluate.general import PairValues
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.program.lines import Axes


LINES = "lines"
"""The dimension of the parameters."""


class ProfileTangents:
    """The derivatives of the profiles of one data set by ``count`` parameters.

    ``norms`` says which of them are second moments of data, |x|^2 over the channels, by data line.
    """

    def __init__(self, values: ProfileValues, count: int, norms: Mapping[str, int] | None = None):
        self.values, self.count, self.norms = values, count, norms or {}
        self.moving = Moving(inputs=bool(norms))
        self._memo: dict[graph.Key, Tangent] = {}
        self._stencils = Stencils()

    def __call__(self, node: graph.Profile) -> Tangent:
        """(parameters, N, *node.axes), dimensions of length one where nothing changes."""
        own = self.values._own(node)
        if own.key not in self._memo:
            below = postorder([own], self._sources, lambda n: n.key, self._memo)
            for each in below:
                self._memo[each.key] = self._compute(each)
        return self._memo[own.key]

    def _sources(self, node: graph.Profile) -> list[graph.Profile]:
        if isinstance(node, graph.Reduced):
            return []
        return [self.values._own(source) for source in sources(node)]

    def along(self, node: graph.Profile, axes: Axes) -> Tangent:
        """A derivative with unit dimensions for the axes that it lacks."""
        made = self(node)
        if made is None:
            return None
        names, wanted = ([LINES, "", *(name for name, _ in part)] for part in (self.values.axes(node), axes))
        return labels.align(made, names, wanted)

    def coefficient(self, value: float, rank: int) -> Tangent:
        """The derivative of a coefficient, None where it has none."""
        slopes = slopes_of(value, self.count)
        return slopes.reshape(-1, *(1,) * rank) if slopes.any() else None

    @singledispatchmethod
    def _compute(self, node: graph.Profile) -> Tangent:
        raise beyond_two(f"{self.values._where(node)}: ")

    @_compute.register
    def _(self, node: graph.Constant) -> Tangent:
        return self.coefficient(node.value, 1 + len(node.axes))

    @_compute.register
    def _(self, node: graph.Given) -> Tangent:
        return None

    @_compute.register
    def _(self, node: graph.Norm) -> Tangent:
        first, second = node.data
        if not self.norms:
            return None
        if first != second:
            raise LimitError("the derivative by inputs of a product of two data lines is not available")
        return self.one_of(self.norms[first], 1 + len(node.axes))

    def one_of(self, number: int, rank: int) -> np.ndarray:
        """The derivative of the parameter ``number`` itself."""
        made = np.zeros((self.count, *(1,) * rank))
        made[number] = 1.0
        return made

    @_compute.register
    def _(self, node: graph.Polynomial) -> Tangent:
        total: Tangent = None
        for coef, factors in node.terms:
            values = [self.values.along(factor, node.axes) for factor in factors]
            moves = [self.along(factor, node.axes) for factor in factors]
            total = plus(total, product(coef, self.coefficient(coef, 1 + len(node.axes)), values, moves))
        return total

    @_compute.register
    def _(self, node: graph.Arithmetic) -> Tangent:
        values = [self.values.along(arg, node.axes) for arg in node.args]
        total: Tangent = None
        for i, arg in enumerate(node.args):
            move = self.along(arg, node.axes)
            if move is not None:
                total = plus(total, np.asarray(node.fn.derivative(i)(*values)) * move)
        return total

    @_compute.register
    def _(self, node: graph.Softmax) -> Tangent:
        if self.moving.profile(node.weights):
            raise unavailable(self.values._where(node))
        move = self.along(node.logits, node.axes)
        if move is None:
            return None
        share = self.values(node)
        over = tuple(k for k, (name, _) in enumerate(node.axes, 1) if name in node.over)
        return np.stack([share * (one - (share * one).sum(axis=over, keepdims=True)) for one in move])

    @_compute.register
    def _(self, node: graph.Mapped1) -> Tangent:
        inner = self.along(node.operand, axes := self.values.axes(node.operand))
        if inner is None:
            return None
        lines, shape = len(inner), (self.values.size, *(size for _, size in axes))
        whole = np.broadcast_to(inner, (lines, *shape)).reshape(-1, *shape[1:])
        made = labels.apply_maps([node.map], whole, axes, node.axes)
        return made.reshape(lines, -1, *made.shape[1:])

    @_compute.register
    def _(self, node: graph.Reduced) -> Tangent:
        pair = self._stencils(node.pair)
        names = [LINES, ("", 0), ("", 1), *((name, 2) for name, _ in node.axes)]
        found = []
        for at in together(pair, self.values.size):
            tile = PairTangents(TileValues(self.values, self.values, at, at, same=True), self, self)
            made = tile(pair)
            if made is None:
                return None
            full = np.broadcast_to(made, (len(made), *tile.values.shape(pair)))
            found.append(np.einsum("pii...->pi...", labels.align(full, [LINES, *dims(pair)], names)))
        return np.concatenate(found, axis=1)

    @_compute.register
    def _(self, node: graph.Expect1) -> Tangent:
        move = self.along(node.var, node.axes)
        slope = stretched(self.values, node, self.moving)
        return None if move is None else slope * ratio(move, self.values.along(node.var, node.axes))

    @_compute.register
    def _(self, node: graph.Expect2) -> Tangent:
        left, right = node.sides
        dq, dq2, dc = (self.along(p, node.axes) for p in (left.var, right.var, node.cov))
        if dq is None and dq2 is None and dc is None:
            return None
        return moved(*own_partials(self.values, node, self.moving), dq, dq2, dc)


class PairTangents:
    """The derivatives of pair nodes on the tile of ``values``."""

    def __init__(self, values: PairValues, rows: ProfileTangents, cols: ProfileTangents):
        self.values, self.profiles = values, (rows, cols)
        self.count = rows.count
        self._memo: dict[int, Tangent] = {}
        self._duals = DualPartials(values, rows.moving)

    def __call__(self, node: graph.Pair) -> Tangent:
        """(parameters, *dims(node))."""
        for each in postorder([node], graph.operands, id, self._memo):
            self.values.proceed()
            self._memo[id(each)] = self._compute(each)
        return self._memo[id(node)]

    def profile(self, node: graph.Profile, side: int, frame: graph.Pair) -> Tangent:
        """A profile's derivative along the rows (0) or columns (1) of ``frame``."""
        made = self.profiles[side](node)
        if made is None:
            return None
        values = self.values.profiles[side]
        tied = {name for name, _ in frame.tied}
        own = [("", side), *((n, 2 if n in tied else side) for n, _ in values.axes(node))]
        at = self.values.slices[side]
        return labels.align(made[:, at] if made.shape[1] > 1 else made, [LINES, *own], [LINES, *dims(frame)])

    def inner(self, node: graph.Pair, frame: graph.Pair) -> Tangent:
        """A node's derivative aligned to the dimensions of ``frame``."""
        made = self(node)
        return None if made is None else labels.align(made, [LINES, *dims(node)], [LINES, *dims(frame)])

    @singledispatchmethod
    def _compute(self, node: graph.Pair) -> Tangent:
        raise of_many(node)

    @_compute.register
    def _(self, node: graph.Gram) -> Tangent:
        return None

    @_compute.register
    def _(self, node: graph.Shared) -> Tangent:
        return self.profiles[0].coefficient(node.value, len(dims(node)))

    @_compute.register
    def _(self, node: graph.Fresh) -> Tangent:
        same = np.ones((1,) * len(dims(node))) * self.values.coincide(node)
        values = [self.values.profile(p, 0, node) for p in node.same]
        total = product(1.0, None, values, [self.profile(p, 0, node) for p in node.same])
        total = None if total is None else total * same
        if node.other is not None:
            values = [self.values.profile(p, s, node) for s, p in enumerate(node.other)]
            moves = [self.profile(p, s, node) for s, p in enumerate(node.other)]
            apart = product(1.0, None, values, moves)
            total = plus(total, None if apart is None else apart * (1.0 - same))
        return total

    @_compute.register
    def _(self, node: graph.Sum) -> Tangent:
        total: Tangent = None
        for part in node.parts:
            sides = [(p, side) for side, group in enumerate((part.rows, part.cols)) for p in group]
            values = [self.values.profile(p, side, node) for p, side in sides]
            moves = [self.profile(p, side, node) for p, side in sides]
            values += [self.values.inner(pair, node).k for pair in part.pairs]
            moves += [self.inner(pair, node) for pair in part.pairs]
            carried = self.profiles[0].coefficient(part.coef, len(dims(node)))
            total = plus(total, product(part.coef, carried, values, moves))
        return total

    @_compute.register
    def _(self, node: graph.Dual) -> Tangent:
        dq, dq2 = (self.profile(var, side, node) for side, var in enumerate(node.call.vars))
        dc = self.inner(node.call.cov, node)
        if dq is None and dq2 is None and dc is None:
            check(self.values.profiles, node.call, self.profiles[0].moving)
            return None
        return moved(*self._duals.partials(node), dq, dq2, dc)

    @_compute.register
    def _(self, node: graph.Mapped) -> Tangent:
        return self._linear(maps.mapped, node, node.operand)

    @_compute.register
    def _(self, node: graph.Stencil) -> Tangent:
        return self._linear(maps.stencil, node, node.operand)

    @_compute.register
    def _(self, node: graph.Embedded) -> Tangent:
        return self._linear(maps.embedded, node, node.operand)

    @_compute.register
    def _(self, node: graph.Diagonal) -> Tangent:
        return self._linear(maps.diagonal, node, node.operand)

    @_compute.register
    def _(self, node: graph.Weighted) -> Tangent:
        made, weights = self(node.operand), None
        total: Tangent = None
        if node.weights is not None:
            profile = self.values.profiles[node.side]
            weights, moves = profile(node.weights), self.profiles[node.side](node.weights)
            if moves is not None:
                k = self.values(node.operand).k
                total = np.stack(
                    [maps.weighed(self.values, node, np.broadcast_to(one, weights.shape), k) for one in moves]
                )
        if made is None:
            return total
        return plus(total, np.stack([maps.weighed(self.values, node, weights, one) for one in made]))

    def _linear(self, rule: Any, node: graph.Pair, operand: graph.Pair) -> Tangent:
        """What is linear in its operand treats derivatives as it treats values: all as so many more rows."""
        made = self(operand)
        if made is None:
            return None
        lines, (rows, cols) = len(made), self.values.counts
        before, behind = (dims(one).index(("", 0)) for one in (operand, node))
        each = np.moveaxis(made, 0, before)
        around = each.shape[:before], each.shape[before + 2 :]
        whole = np.broadcast_to(each, (*around[0], lines, rows, *around[1]))
        block = rule(_Of((lines * rows, cols), whole.reshape(*around[0], -1, *around[1])), node).k
        split = block.reshape(*block.shape[:behind], lines, rows, *block.shape[behind + 1 :])
        return np.moveaxis(split, behind, 0)


class _Of:
    """Stands for `PairValues` in a linear rule: the operand's block is given."""

    def __init__(self, counts: tuple[int, int], block: np.ndarray):
        self.counts, self._block = counts, Block(block, None)

    def __call__(self, node: graph.Pair) -> Block:
        return self._block

    def increments(self, node: graph.Pair) -> bool:
        """Derivatives have none."""
        return False
