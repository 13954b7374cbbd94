"""Copies of pair nodes whose operands are replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpnum.law import graph

if TYPE_CHECKING:
    from collections.abc import Callable


class Remade:
    """Copies a node with ``of(operand)`` for each operand; value and slope of one call keep one call."""

    def __init__(self, of: Callable[[graph.Pair], graph.Pair]):
        self._of = of
        self._calls: dict[int, graph.DualCall] = {}

    def __call__(self, node: graph.Pair) -> graph.Pair:
        match node:
            case graph.Sum():
                parts = (replace(part, pairs=tuple(map(self._of, part.pairs))) for part in node.parts)
                return replace(node, parts=tuple(parts))
            case graph.Dual():
                return replace(node, call=self._call(node.call))
            case graph.Mapped() | graph.Weighted() | graph.Embedded() | graph.Diagonal():
                return replace(node, operand=self._of(node.operand))
        return node

    def _call(self, call: graph.DualCall) -> graph.DualCall:
        if id(call) not in self._calls:
            self._calls[id(call)] = replace(call, cov=self._of(call.cov))
        return self._calls[id(call)]
