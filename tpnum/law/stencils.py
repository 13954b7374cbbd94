"""A window and the sum over it as one node: the window's axis, which multiplies everything, is never made.

A convolution is written as windows along each axis, the weights' covariance, and sums over the windows.  Sums
commute with what is linear and along other axes, so that each ends on its own window.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpnum.law import graph
from tpnum.law.remade import Remade
from tpnum.program.maps import Sum

if TYPE_CHECKING:
    from tpnum.program.lines import Map

KNOWN = (
    graph.Gram, graph.Shared, graph.Fresh, graph.Sum, graph.Dual, graph.Mapped, graph.Weighted,
    graph.Embedded, graph.Diagonal,
)  # fmt: skip


class Stencils:
    """Nodes with the same values, made of `graph.Stencil` where windows are summed."""

    def __init__(self) -> None:
        self._made: dict[int, graph.Pair] = {}
        self._remade = Remade(self._of)
        self._summed: dict[tuple[int, str], graph.Pair | None] = {}
        self._kept: list[graph.Pair] = []  # ids stay theirs while these live

    def __call__(self, node: graph.Pair) -> graph.Pair:
        if id(node) not in self._made:
            order = graph.schedule([node])
            self._kept += order
            known = all(isinstance(each, KNOWN) for each in order)
            for each in order:
                if id(each) not in self._made:
                    self._made[id(each)] = self._rewritten(each) if known else each
        return self._made[id(node)]

    def _rewritten(self, node: graph.Pair) -> graph.Pair:
        if isinstance(node, graph.Mapped):
            rows, cols = node.row_map, node.col_map
            tied = dict(node.operand.tied)
            if rows is not None and cols is not None and rows.axis in tied and type(rows.index) is Sum:
                made = self._sum(self._of(node.operand), (rows, cols))
                if made is not None:
                    return replace(made, increments=node.increments, norms=node.norms)
        return self._remade(node)

    def _of(self, node: graph.Pair) -> graph.Pair:
        return self._made[id(node)]

    def _sum(self, node: graph.Pair, lines: tuple[Map, Map]) -> graph.Pair | None:
        """The sum of a rewritten node over a tied axis that a window has made, None if that is not all."""
        key = id(node), lines[0].axis
        if key not in self._summed:
            self._kept.append(node)
            self._summed[key] = self._find(node, lines)
        return self._summed[key]

    def _find(self, node: graph.Pair, lines: tuple[Map, Map]) -> graph.Pair | None:
        axis = lines[0].axis
        tied = tuple(each for each in node.tied if each[0] != axis)
        match node:
            case graph.Sum() if all(part.bare for part in node.parts):
                sums = [self._sum(part.pairs[0], lines) for part in node.parts]
                parts = tuple(
                    replace(part, pairs=(made,))
                    for part, made in zip(node.parts, sums, strict=True)
                    if made is not None
                )
                return replace(node, tied=tied, parts=parts, norms=None) if len(parts) == len(sums) else None
            case graph.Mapped(row_map=rows, col_map=cols) if rows is not None and cols is not None:
                if axis in dict(rows.out):
                    if len(rows.out) == 1:  # no window: a mean over one, whose positions are summed
                        return None
                    norms = node.operand.norms
                    if norms is not None:
                        norms = _seconds(norms[0], rows, lines[0]), _seconds(norms[1], cols, lines[1])
                    return graph.Stencil(
                        tied, node.rows, node.cols, node.increments, operand=node.operand, row_map=rows,
                        col_map=cols, over=axis, norms=norms,
                    )  # fmt: skip
                if axis in dict(node.operand.tied):
                    inner = self._sum(node.operand, lines)
                    return None if inner is None else replace(node, tied=tied, operand=inner, norms=None)
        return None


def _seconds(norm: graph.Profile, window: Map, line: Map) -> graph.Profile:
    """The second moment of the sum over a window: of independent weights, the sum of those under it."""
    axes: list[tuple[str, int]] = []
    for each in norm.axes:
        axes += window.out if each[0] == window.axis else (each,)
    wide = graph.Mapped1(("window", window.name, *norm.key), tuple(axes), operand=norm, map=window)
    left = tuple(each for each in axes if each[0] != line.axis)
    return graph.Mapped1(("summed", line.name, *wide.key), left, operand=wide, map=line)
