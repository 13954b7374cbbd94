"""A level's cells, maps and components as the arrays that the machine reads (`tpnum.kernels.cells`)."""

from __future__ import annotations

from copy import copy
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from tpnum.lower.codes import NOWHERE, ORIGIN, decoded, distinct, places, ragged
from tpnum.lower.network import grid_of, real
from tpnum.lower.schedule import Level
from tpnum.lower.windows import runs, slides

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.builder import Instruction
    from tpnum.lower.codes import Buffers, Cells
    from tpnum.lower.linear import Pull
    from tpnum.lower.network import Grid, Root

Places: TypeAlias = "dict[Hashable, tuple[int, int]]"
"""Where buffers begin in a flat array, and how many cells each has."""
PADDING = 16
"""Beside which what is not in a buffer is marked."""


class Own(NamedTuple):
    """The cells of a grid along one slot, component after component, and which of its own each one is."""

    cells: Cells
    counts: np.ndarray
    group: np.ndarray
    place: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, parts: list[Cells]) -> Own:
        """Those of components."""
        cells, counts = np.concatenate([NOWHERE, *parts]), np.array([len(part) for part in parts], np.int64)
        return cls(cells, counts, *ragged(counts), np.argsort(cells, kind="stable"))

    def find(self, asked: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Which of those asked about are which of these; of the padding, each of several components."""
        ordered = self.cells[self.order]
        first = np.searchsorted(ordered, asked)
        which, k = ragged(np.searchsorted(ordered, asked, "right") - first)
        return which, self.order[first[which] + k]

    def span(self, tie: Ties, inside: np.ndarray) -> int:
        """The steps from a cell to the last that reads it, it among them, as a power of two.

        Cells of the padding come first, the others in order.
        """
        real = np.bincount(self.group[inside], minlength=self.counts.size)[self.group]
        step = np.where(inside, self.place + self.counts[self.group] - real, self.place - real)
        reader = np.flatnonzero(inside)[tie.reader]
        return 1 << int((step[reader] - step[tie.cell]).max(initial=1)).bit_length()


class Ties(NamedTuple):
    """A map along one slot: the readers of every component, and which of all of them reads which cell of all.

    ``numbers`` are those of the readers in a buffer, where they are of one.
    """

    counts: np.ndarray
    reader: np.ndarray
    cell: np.ndarray
    weight: np.ndarray
    numbers: np.ndarray


class Parts:
    """An array that grows piece by piece along its last dimension; it begins with what is never asked for."""

    def __init__(self, first: np.ndarray):
        self._pieces: list[np.ndarray] = []
        self.size = 0
        self.add(first)

    def add(self, piece: np.ndarray) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self.size += piece.shape[-1]

    @property
    def whole(self) -> np.ndarray:
        """All pieces together."""
        self._pieces = [np.concatenate(self._pieces, axis=-1)]
        return self._pieces[0]


class Layout:
    """Spaces, maps and components of a level; all numbers are independent of the data."""

    def __init__(self, level: Level, buffers: Buffers):
        self.level, self.buffers = level, buffers
        self.axes = len(level.slots)
        counts = [len(found) for found in level.components]
        self.most = max(counts, default=1)
        self.components = np.indices(counts, np.int64).reshape(self.axes, prod(counts)).T.copy()
        self.spaces: dict[Hashable, int] = {}
        self._first: list[np.ndarray] = []
        self._count: list[np.ndarray] = []
        self._inner: list[np.ndarray] = []
        self._strides: list[np.ndarray] = []
        self._cells = Parts(np.zeros((4, 1), np.int64))
        self.maps: dict[Hashable, int] = {}
        self._alike: dict[tuple[Pull, Grid, Grid], int] = {}
        self._starts: list[np.ndarray] = []
        self._goals: list[tuple[int, int]] = []
        self._spans: dict[int, int] = {}
        self._pointer, self._index, self._weights = (
            Parts(np.ones(1, np.int64)),
            Parts(ORIGIN),
            Parts(np.zeros(1)),
        )
        self._arrays: dict[np.dtype, tuple] = {}
        self.own = {
            (grid, t): Own.of([component.get(grid, NOWHERE) for component in found])
            for t, found in enumerate(level.components)
            for grid in level.spaces
        }
        for grid in level.spaces:
            self._space(grid, grid, None)
        for root in (*level.loaded, *level.stored):
            if not root.pooled or root in level.loaded:
                self._space(("buffer", id(root.node)), grid_of(root.node), root)
        for root in level.roots:
            for k, group in enumerate(root.groups):
                if group.chain and (id(root), k) in level.pulls:
                    self._map(root, k)
        del self.own  # there may be many cells
        taps = self._pointer.whole - 1, self._index.whole[1:], self._weights.whole[1:]
        self._runs, self._slides = runs(*taps), slides(*taps)

    # -- spaces ----------------------------------------------------------------------------------

    def _space(self, key: Hashable, grid: Grid, root: Root | None) -> None:
        """The cells of a grid, numbered as a buffer has them or not at all."""
        found = []
        for t, slot in enumerate(self.level.slots):
            own = self.own[grid, t]
            at = np.zeros(own.cells.size, np.int64)
            if root is not None:
                at = places(self._buffer(root, slot), own.cells)
            outside = ~self.inside(grid, t)
            flags = outside + PADDING * (at < 0)
            found.append((own.counts, np.stack([*decoded(own.cells), np.maximum(at, 0), flags])))
        self._add(key, found, [self._steps(grid, 0), self._steps(grid, 1), self._buffer_steps(root)])

    def _buffer(self, root: Root, slot: str) -> Cells:
        """The cells of a root's buffer along a slot."""
        along = zip(grid_of(root.node), self.buffers[id(root.node)], strict=True)
        return next((cells for (name, _, _), cells in along if name == slot), ORIGIN)

    def inside(self, grid: Grid, t: int) -> np.ndarray:
        """Which cells of all components along a slot are none of the padding, which reads nothing."""
        return real(self.own[grid, t].cells, grid, self.level.slots[t])

    def _add(
        self, key: Hashable, found: list[tuple[np.ndarray, np.ndarray]], strides: list[list[int]]
    ) -> None:
        first = np.zeros((self.axes, self.most), np.int64)
        count, inner = np.zeros_like(first), np.zeros_like(first)
        for t, (counts, cells) in enumerate(found):
            first[t, : counts.size] = self._cells.size + np.cumsum(counts) - counts
            count[t, : counts.size] = counts
            group, _ = ragged(counts)
            inner[t, : counts.size] = np.bincount(group[cells[3] % PADDING == 0], minlength=counts.size)
            self._cells.add(cells)
        self.spaces[key] = len(self._first)
        self._first.append(first)
        self._count.append(count)
        self._inner.append(inner)
        self._strides.append(np.array([*strides, [1] * self.axes], np.int64).reshape(4, self.axes))

    def _steps(self, grid: Grid, side: int) -> list[int]:
        """Per slot how far the next position of a grid with its padding is."""
        steps = {}
        at = 1
        for name, *sizes in reversed(grid):
            steps[name] = at
            at *= sizes[side] + 1
        return [steps.get(slot, 0) for slot in self.level.slots]

    def _buffer_steps(self, root: Root | None) -> list[int]:
        if root is None:
            return [0] * self.axes
        steps = {}
        at = 1
        for (name, _, _), cells in reversed(
            list(zip(grid_of(root.node), self.buffers[id(root.node)], strict=True))
        ):
            steps[name] = at
            at *= len(cells)
        return [steps.get(slot, 0) for slot in self.level.slots]

    def buffer_size(self, node: int) -> int:
        """The cells of a buffer."""
        return int(np.prod([len(cells) for cells in self.buffers[node]], initial=1))

    # -- maps ------------------------------------------------------------------------------------

    def _map(self, root: Root, k: int) -> None:
        pull, above = self.level.pulls[id(root), k], grid_of(root.node)
        below = self.level.below(root, k)
        if not root.pooled:  # layers alike have one map
            self.maps[id(root), k] = self._alike.setdefault((pull, below, above), len(self._starts))
            if self.maps[id(root), k] < len(self._starts):
                return
        ties = [self.ties(root, pull, below, t) for t in range(self.axes)]
        own = [self.own[below, t] for t in range(self.axes)]
        self._write(
            (id(root), k),
            [
                (tie.counts, tie.reader, cells.place[tie.cell], tie.weight)
                for tie, cells in zip(ties, own, strict=True)
            ],
        )
        if root.groups[k].carried:
            (tie,), (cells,) = ties, own
            self._spans[len(self._starts) - 1] = cells.span(tie, self.inside(below, 0))
        goal: Hashable = above
        if root.pooled:
            goal = ("touched", id(root), k)
            touched = [(tie.counts, np.multiply.outer([0, 0, 1, 0], tie.numbers)) for tie in ties]
            self._add(goal, touched, [[0] * self.axes, [0] * self.axes, self._buffer_steps(root)])
        self._goals.append((self.spaces[goal], int(pull.increments)))

    def span_of(self, kept: Instruction) -> int:
        """For how many steps a recurrence recalls what is kept: a power of two."""
        assert kept.extra is not None
        return self._spans[self.maps[kept.extra[1:]]]

    def _write(
        self, key: Hashable, found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
    ) -> None:
        """A map by its taps along every slot: how many read in each component, who of all reads what."""
        starts = np.zeros((self.axes, self.most), np.int64)
        for t, (counts, reader, place, weight) in enumerate(found):
            starts[t, : counts.size] = self._pointer.size - 1 + np.cumsum(counts) - counts
            self._pointer.add(self._index.size + np.cumsum(np.bincount(reader, minlength=counts.sum())))
            self._index.add(place)
            self._weights.add(weight)
        self.maps[key] = len(self._starts)
        self._starts.append(starts)

    def ties(self, root: Root, pull: Pull, below: Grid, t: int) -> Ties:
        """Who reads what along a slot, component by component."""
        slot, own = self.level.slots[t], self.own[below, t]
        link = pull.along(slot)
        if root.pooled:  # cells of a buffer that every component adds to
            cells = self._buffer(root, slot)
            taps = pull.taps(link, cells)
            tap, found = own.find(taps.source)
            pairs = own.group[found] * cells.size + taps.reader[tap]
            order = np.argsort(pairs, kind="stable")
            asked, reader = distinct(pairs[order])
            home, numbers = np.divmod(asked, max(cells.size, 1))
            tap, found = tap[order], found[order]
        else:
            readers, numbers = self.own[grid_of(root.node), t], NOWHERE
            inside = np.flatnonzero(self.inside(grid_of(root.node), t))
            home = readers.group[inside]
            taps = pull.taps(link, readers.cells[inside])
            tap, found = own.find(taps.source)
            here = own.group[found] == home[taps.reader[tap]]
            tap, found = tap[here], found[here]
            reader = taps.reader[tap]
        counts = np.bincount(home, minlength=own.counts.size)
        return Ties(counts, reader, found, taps.weight[tap], numbers)

    # -- arrays ----------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many components the level has."""
        return max(prod(map(len, self.level.components)), 1)

    def part(self, components: np.ndarray) -> Layout:
        """The same cells and maps with some of the components alone."""
        made = copy(self)
        made.components = np.ascontiguousarray(components)
        made._arrays = {dtype: (made.components, *rest) for dtype, (_, *rest) in self._arrays.items()}
        return made

    def cells_of(self, space: Hashable) -> int:
        """The most cells that a component has of a space."""
        return self.size_of(self.spaces[space])

    def size_of(self, space: int) -> int:
        """The same of a space by its number."""
        return int(np.prod(self._count[space].max(axis=1), initial=1)) if self.axes else 1

    def shapes(self, space: Hashable) -> list[int]:
        """The most cells of a space along every slot."""
        return [int(n) for n in self._count[self.spaces[space]].max(axis=1)] if self.axes else []

    def arrays(self, dtype: np.dtype) -> tuple:
        """(components, (first, count, strides, inner), cells, (starts, goals), taps).

        The taps are (pointer, index, weights, runs, slides) of `tpnum.kernels.mixing`.
        """
        if dtype not in self._arrays:
            self._arrays[dtype] = self._make(dtype)
        return self._arrays[dtype]

    def _make(self, dtype: np.dtype) -> tuple:
        weights = self._weights.whole.astype(dtype, copy=False)
        return (
            self.components,
            (
                np.array(self._first, np.int64).reshape(len(self._first), self.axes, self.most),
                np.array(self._count, np.int64).reshape(len(self._count), self.axes, self.most),
                np.ascontiguousarray(
                    np.array(self._strides, np.int64)
                    .reshape(len(self._strides), 4, self.axes)
                    .transpose(1, 0, 2)
                ),
                np.array(self._inner, np.int64).reshape(len(self._inner), self.axes, self.most),
            ),
            self._cells.whole,
            (
                np.array(self._starts, np.int64).reshape(len(self._starts), self.axes, self.most),
                np.array(self._goals, np.int64).reshape(-1, 2),
            ),
            (self._pointer.whole, self._index.whole, weights, self._runs, self._slides),
        )
