"""Regions by NumPy: a node that no instruction computes, from its operands' buffers into one of its own.

The blocks of its operands are those cells that it is demanded at; the rule is the general path's
(`tpnum.evaluate.general`), run for this one node.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.blocks import Block
from tpnum.evaluate.cells import CellValues
from tpnum.lower.codes import NOWHERE, decoded, places, union
from tpnum.lower.network import extend, grid_of
from tpnum.lower.numbers import scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.general import PairValues
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.codes import Buffers, Cells
    from tpnum.lower.layout import Places
    from tpnum.lower.network import Grid, Network, Root

    Two = tuple[np.ndarray, np.ndarray]

PIECE = 1 << 17
"""Cells of all pairs that are evaluated at once."""


class BlockLevel:
    """The region of the roots that one rule computes: the value and the slope of a dual, or an expectation.

    Its cells never read each other: each is a component.
    """

    def __init__(self, roots: list[Root], network: Network, buffers: Buffers, reasons: dict[int, str]):
        self.network, self.roots, self.stored = network, roots, roots
        self.reason = reasons[id(roots[0].node)]
        self.nodes = [root.node for root in roots]
        self.loaded = list(roots[0].loads)
        self.grid: Grid = grid_of(roots[0].node)
        self.slots = tuple(name for name, _, _ in self.grid)
        wanted = zip(*(buffers[id(root.node)] for root in roots), strict=True)
        cells = [union(*along) for along in wanted]
        for root in roots:
            buffers[id(root.node)] = list(cells)
        for root in self.loaded:
            names = [name for name, _, _ in grid_of(root.node)]
            below = buffers.setdefault(id(root.node), [NOWHERE] * len(names))
            extend(below, [cells[self.slots.index(name)] for name in names])
        self.spaces: dict[Grid, list[Cells]] = {self.grid: cells}
        self.components = [[{self.grid: found[k : k + 1]} for k in range(found.size)] for found in cells]

    @property
    def cells(self) -> int:
        return int(np.prod([len(found) for found in self.spaces[self.grid]], initial=1))


class BlockLayout:
    """Where the cells of the region are in the buffers that it reads and writes."""

    def __init__(self, level: BlockLevel, buffers: Buffers):
        self.level = level
        counts = [len(found) for found in level.components]
        self.components = np.array(list(np.ndindex(*counts)), np.int64).reshape(level.cells, len(counts))
        self._buffers = buffers

    @property
    def count(self) -> int:
        return max(self.level.cells, 1)

    def part(self, components: np.ndarray) -> BlockLayout:
        """The same with some of the cells alone."""
        made = copy(self)
        made.components = components
        return made

    def buffer(self, root: Root) -> list[Cells]:
        """The cells of a root's buffer, by axis."""
        return self._buffers[id(root.node)]

    def buffer_size(self, root: Root) -> int:
        return int(np.prod([len(found) for found in self.buffer(root)], initial=1))

    def positions(self) -> np.ndarray:
        """The positions (cells, axes, 2) of both inputs."""
        made = np.zeros((*self.components.shape, 2), np.int64)
        for t, found in enumerate(self.level.spaces[self.level.grid]):
            made[:, t] = np.stack(decoded(found), axis=-1)[self.components[:, t]]
        return made

    def places(self, root: Root) -> np.ndarray:
        """Where a root's buffer has the cells."""
        found = np.zeros(len(self.components), np.int64)
        at = 1
        axes = list(zip(grid_of(root.node), self._buffers[id(root.node)], strict=True))
        for (name, _, _), cells in reversed(axes):
            t = self.level.slots.index(name)
            own = self.level.spaces[self.level.grid][t]
            found += at * places(cells, own)[self.components[:, t]]
            at *= len(cells)
        return found


class BlockProgram:
    """The region over the profiles of a tile's rows and columns; like `tpnum.lower.program.Program`."""

    steps, work_cells, spread = 1, 0, 0
    subtracts = True  # what functions of covariances are worth in single precision, nobody knows

    def __init__(self, layout: BlockLayout, profiles: tuple[ProfileValues, ProfileValues], lanes: int):
        self.layout, self.profiles, self.lanes = layout, profiles, lanes
        level = layout.level
        roots = {id(root): root for root in (*level.loaded, *level.roots)}.values()
        self.buffer_nodes = [id(root.node) for root in roots]
        self.buffer_sizes = [layout.buffer_size(root) for root in roots]
        self.strips: list[slice] = []

    def part(self, components: np.ndarray) -> BlockProgram:
        """The same for some of the cells."""
        made = type(self)(self.layout.part(components), self.profiles, self.lanes)
        made.strips = self.strips
        return made

    def narrow(self, strip: int, some: slice) -> BlockProgram:
        """The same for some of the lanes of one strip, which is the only one then."""
        cols = self.strips[strip]
        made = copy(self)
        made.lanes = some.stop - some.start
        made.strips = [slice(cols.start + some.start, min(cols.start + some.stop, cols.stop))]
        return made

    @cached_property
    def cells(self) -> np.ndarray:
        """The positions of the cells (cells, axes, 2)."""
        return self.layout.positions()

    @cached_property
    def places(self) -> dict[int, np.ndarray]:
        """Where the buffer of each root has the cells."""
        level = self.layout.level
        return {id(root): self.layout.places(root) for root in (*level.loaded, *level.roots)}

    def prepare(self, strips: list[slice], kept: object, alike: bool = False) -> None:
        """Nothing is laid out: the profiles are read as they are."""
        self.strips = strips

    def run(
        self,
        strip: int,
        rows: tuple[int, int],
        own: int,
        buffers: np.ndarray,
        starts: Places,
        scratch: np.ndarray,
        missed: np.ndarray,
        proceed: Callable[[], None],
    ) -> None:
        """Rows ``rows`` against a strip of columns, but for the rows of which others ``missed`` something."""
        cols = self.strips[strip]
        views = {
            node: buffers[at : at + size * (rows[1] - rows[0]) * self.lanes].reshape(-1, size, self.lanes)
            for node, (at, size) in starts.items()
            if node in self.buffer_nodes
        }
        same = own - cols.start  # counted from the first column, not from that of the strip
        for begin, end in runs(missed[: rows[1] - rows[0]] == 0) if len(self.layout.components) else ():
            part = {node: view[begin:end] for node, view in views.items()}
            self._rows(part, slice(rows[0] + begin, rows[0] + end), cols, same, proceed)

    def _rows(
        self,
        views: dict[int, np.ndarray],
        rows: slice,
        cols: slice,
        same: int,
        proceed: Callable[[], None],
    ) -> None:
        """Rows against columns, in pieces: views are (rows, cells, lanes) of the buffers."""
        count = len(self.cells)
        some = max(1, PIECE // (cols.stop - cols.start))
        height = max(1, some // count)
        for low in range(rows.start, rows.stop, height):
            here = slice(low, min(low + height, rows.stop))
            part = {node: view[low - rows.start :][:height] for node, view in views.items()}
            for first in range(0, count, some):
                proceed()
                self._piece(part, (here, cols), same, slice(first, first + some))

    def _piece(
        self, views: dict[int, np.ndarray], here: tuple[slice, slice], same: int, which: slice
    ) -> None:
        """Some cells of some rows: from the operands' buffers to those of the roots."""
        width = here[1].stop - here[1].start
        given: dict[int, Block] = {}
        positions = self.cells[which]
        cells = {slot: positions[:, t] for t, slot in enumerate(self.layout.level.slots)}
        values = CellValues(self.profiles, here, same, len(positions), cells, given)
        for root in self.layout.level.loaded:
            found = views[id(root.node)][:, self.places[id(root)][which], :width].transpose(1, 0, 2)
            given[id(root.node)] = self._block(root, found, values)
        for root in self.layout.level.roots:
            block = values(root.node)
            made = np.broadcast_to(self._held(root, block, values), values.shape(root.node))
            made = np.pad(made, [(0, 0), (0, 0), (0, self.lanes - width)], mode="edge")
            views[id(root.node)][:, self.places[id(root)][which]] = made.transpose(1, 0, 2)

    def _block(self, root: Root, held: np.ndarray, values: PairValues) -> Block:
        """K and D of what a buffer holds."""
        if root.held == "cov":
            return Block(held, None)
        (q, q2), (s, s2), apart = self._scales(root, values)
        return Block(0.5 * (s2 / s * q + s / s2 * q2 - s * s2 * held), s * s2 * held + apart)

    def _held(self, root: Root, block: Block, values: PairValues) -> np.ndarray:
        """What a buffer holds of K and D."""
        if root.held == "cov":
            return block.k
        assert block.d is not None
        _, (s, s2), apart = self._scales(root, values)
        return (block.d - apart) / (s * s2)

    def _scales(self, root: Root, values: PairValues) -> tuple[Two, Two, np.ndarray]:
        """E Z^2 and scales s at both inputs, and E (Z - Z')^2 - s s' E (Z/s - Z'/s')^2."""
        norms = root.node.norms
        assert norms is not None
        q, q2 = values.seconds(root.node, root.node)
        s, s2 = (
            values.each(scale(profile, norm), side, root.node)
            for side, (profile, norm) in enumerate(zip(self.profiles, norms, strict=True))
        )
        return (q, q2), (s, s2), (s - s2) * (q / s - q2 / s2)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where the ranges of true entries begin and end."""
    if not mask.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
