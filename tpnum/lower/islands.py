"""Regions by NumPy of nodes whose positions no instruction relates: from whole blocks to whole blocks.

A sum with weights of the input, an index map of one side alone, a function along axes, a family whose axes
only one input has: what is *foreign* in a graph is cut out together with what foreign nodes stand on, down
to the nodes that have cells.  Those are in buffers; the rules are the general path's
(`tpnum.evaluate.general`), run for the nodes of the island.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims, shape
from tpnum.evaluate.tile import TileValues
from tpnum.law import graph
from tpnum.lower.blocks import BlockLayout, BlockLevel, BlockProgram
from tpnum.lower.codes import NOWHERE, places
from tpnum.lower.network import extend, grid_of, whole
from tpnum.program.maps import Shift

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.blocks import Dim
    from tpnum.lower.codes import Buffers
    from tpnum.lower.network import Network, Root

PIECE = 1 << 20
"""Numbers of a node that are evaluated at once: such that passes over them stay in the caches."""


class IslandLevel(BlockLevel):
    """The region of the roots of an island, or of several that share nodes; all cells are read at once."""

    def __init__(self, roots: list[Root], network: Network, buffers: Buffers, reasons: dict[int, str]):
        self.network, self.roots, self.stored = network, roots, roots
        inner = {id(node): node for root in roots for node in root.inner}
        self.reason = "; ".join(dict.fromkeys(reasons[key] for key in inner if key in reasons))
        self.nodes = list(inner.values())
        self.loaded = list({id(read): read for root in roots for read in root.loads}.values())
        for root in self.loaded:
            cells = whole(root.node)
            extend(buffers.setdefault(id(root.node), [NOWHERE] * len(cells)), cells)
        self.grid = max((grid_of(root.node) for root in roots), key=len)
        self.slots, self.spaces, self.components = (), {}, []

    @property
    def cells(self) -> int:
        """The numbers that its largest node has of a pair of examples."""
        return max(prod(shape(node, 1, 1)) for node in (*self.nodes, *(root.node for root in self.loaded)))


class IslandLayout(BlockLayout):
    """Which cells of whole blocks the region's buffers have."""

    level: IslandLevel

    def __init__(self, level: IslandLevel, buffers: Buffers):
        self.level, self._buffers = level, buffers
        self.components = np.zeros((1, 0), np.int64)
        self.taken = {id(root): self._taken(root, False) for root in level.loaded}
        self.given = {id(root): self._taken(root, True) for root in level.roots}

    def _taken(self, root: Root, given: bool) -> list[np.ndarray | None]:
        """Per axis where its cells are in a root's buffer; ``given``: which they are that the buffer has.

        None where these are all of them in order, -1 for cells that the root has not: others of its grid,
        p and p' differing, that nobody needs of a tied one.
        """
        made: list[np.ndarray | None] = []
        for every, held in zip(whole(root.node), self._buffers[id(root.node)], strict=True):
            source, goal = (every, held) if given else (held, every)
            some = places(source, goal)
            made.append(None if np.array_equal(some, np.arange(len(source))) else some)
        return made


class IslandProgram(BlockProgram):
    """The region over the profiles of a tile's rows and columns."""

    layout: IslandLayout

    def _rows(
        self,
        views: dict[int, np.ndarray],
        rows: slice,
        cols: slice,
        same: int,
        proceed: Callable[[], None],
    ) -> None:
        most = max(1, PIECE // self.layout.level.cells)
        width = min(most, cols.stop - cols.start)
        height = max(1, most // width)
        for low in range(rows.start, rows.stop, height):
            here = slice(low, min(low + height, rows.stop))
            for left in range(cols.start, cols.stop, width):
                there = slice(left, min(left + width, cols.stop))
                lanes = slice(left - cols.start, there.stop - cols.start)
                part = {
                    node: view[low - rows.start : here.stop - rows.start, :, lanes]
                    for node, view in views.items()
                }
                values = TileValues(*self.profiles, here, there, True, proceed, own=same)
                self._computed(part, values)
        for root in self.layout.level.roots:
            view = views[id(root.node)]
            view[:, :, cols.stop - cols.start :] = view[:, :, cols.stop - cols.start - 1, None]

    def _computed(self, views: dict[int, np.ndarray], values: TileValues) -> None:
        """From (rows, cells, columns) of the operands' buffers to those of the roots'."""
        level = self.layout.level
        given = {}
        for root in level.loaded:
            view, node = views[id(root.node)], root.node
            tied = {name for name, _ in node.tied}
            sizes = [n for name, *both in grid_of(node) for n in both[: 1 if name in tied else 2]]
            buffer = [len(cells) for cells in self.layout.buffer(root)]
            held = _picked(view.reshape(view.shape[0], *buffer, view.shape[2]), self.layout.taken[id(root)])
            held = held.reshape(view.shape[0], *sizes, view.shape[2])
            given[id(node)] = self._block(root, labels.align(held, places_of(node), dims(node)), values)
        asked = {id(root.node) for root in level.roots if root.held == "inc"}
        values.run([root.node for root in level.roots], given, asked)
        for root in level.roots:
            node, (rows, cols) = root.node, values.counts
            made = np.broadcast_to(self._held(root, values(node), values), shape(node, rows, cols))
            made = labels.align(made, dims(node), places_of(node))
            lengths = [len(every) for every in whole(node)]
            made = _picked(made.reshape(rows, *lengths, cols), self.layout.given[id(root)])
            views[id(node)][...] = made.reshape(rows, -1, cols)


def _picked(values: np.ndarray, picks: list[np.ndarray | None]) -> np.ndarray:
    """Cells along each axis but the outer ones, zero where none is meant."""
    for axis, some in enumerate(picks, 1):
        if some is not None:
            values = values.take(np.maximum(some, 0), axis)
            values[(slice(None),) * axis + (some < 0,)] = 0.0
    return values


def places_of(node: graph.Pair) -> list[Dim]:
    """The dimensions of a node as its buffer has them, rows outside and columns inside."""
    tied = {name for name, _ in node.tied}
    own: list[Dim] = [
        key
        for name, _, _ in grid_of(node)
        for key in (((name, 2),) if name in tied else ((name, 0), (name, 1)))
    ]
    return [("", 0), *own, ("", 1)]


def foreign(node: graph.Pair) -> str:
    """Why no instruction relates a node's positions to those of what it is of; "" where one may."""
    if isinstance(node, graph.Weighted):
        return "a sum over an index axis with weights of the input"
    if isinstance(node, graph.Jointly):
        return "a function along axes, whose operands are read at all positions of a window"
    if not even(node) or not all(even(read) for read in graph.operands(node)):
        return "an index axis belongs to one of two lines only"
    if isinstance(node, graph.Mapped):
        rows, cols = node.row_map, node.col_map
        if rows is None or cols is None or rows.axis != cols.axis:
            return "an index map acts on one of two lines only"
    if isinstance(node, (graph.Sum, graph.Dual)):
        grids = [grid_of(read) for read in graph.operands(node) if not isinstance(read, graph.Shared)]
        if any(grid != grid_of(node) for grid in grids):
            return "a variable without some of the axes is added or multiplied along them"
    return ""


def even(node: graph.Pair) -> bool:
    """Whether both inputs have the same axes, so that the node has cells."""
    return {name for name, _ in node.rows} == {name for name, _ in node.cols}


def together(roots: list[Root]) -> list[list[Root]]:
    """The roots that are computed at once: value and slope of a dual's call, islands that share nodes."""
    found: list[tuple[set[int], list[Root]]] = []
    for root in roots:
        call = root.node.call if isinstance(root.node, graph.Dual) else root.node
        keys = {id(node) for node in root.inner if not isinstance(node, graph.Shared)} or {id(call)}
        shared = [one for one in found if one[0] & keys]
        found = [one for one in found if one not in shared]
        keys = keys.union(*(own for own, _ in shared))
        found.append((keys, [*(r for _, group in shared for r in group), root]))
    return [group for _, group in found]


def renamed(node: graph.Pair) -> bool:
    """Whether a node is another, along an axis of another name."""
    if not isinstance(node, graph.Mapped) or node.row_map is None or node.col_map is None:
        return False
    maps = node.row_map, node.col_map
    return all(isinstance(one.index, Shift) and not one.index.by for one in maps)
