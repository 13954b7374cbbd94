"""A level's cells, maps and components as the arrays that the machine reads (`tpnum.kernels.cells`)."""

from __future__ import annotations

from copy import copy
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.lower.network import grid_of
from tpnum.lower.schedule import Level

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.linear import Cell, Pull
    from tpnum.lower.network import Grid, Root

Places: TypeAlias = "dict[Hashable, tuple[int, int]]"
"""Where buffers begin in a flat array, and how many cells each has."""
PADDING = 16
"""Beside which what is not in a buffer is marked."""


class Layout:
    """Spaces, maps and components of a level; all numbers are independent of the data."""

    def __init__(self, level: Level, buffers: dict[int, list[dict[Cell, int]]]):
        self.level, self.buffers = level, buffers
        self.axes = len(level.slots)
        counts = [len(found) for found in level.components]
        self.most = max(counts, default=1)
        self.components = np.array(list(np.ndindex(*counts)), dtype=np.int64).reshape(prod(counts), self.axes)
        self.spaces: dict[Hashable, int] = {}
        self._first: list[np.ndarray] = []
        self._count: list[np.ndarray] = []
        self._inner: list[np.ndarray] = []
        self._strides: list[np.ndarray] = []
        self._cells: list[tuple[int, int, int, int]] = []
        self.maps: dict[Hashable, int] = {}
        self._alike: dict[tuple[Pull, Grid, Grid], int] = {}
        self._starts: list[np.ndarray] = []
        self._goals: list[tuple[int, int]] = []
        self._pointer: list[int] = [0]
        self._index: list[int] = []
        self._weights: list[float] = []
        self._arrays: dict[np.dtype, tuple] = {}
        for grid in level.spaces:
            self._space(grid, grid, None)
        for root in (*level.loaded, *level.stored):
            if not root.pooled or root in level.loaded:
                self._space(("buffer", id(root.node)), grid_of(root.node), root)
        for root in level.roots:
            for k, group in enumerate(root.groups):
                if group.chain and (id(root), k) in level.pulls:
                    self._map(root, k)

    # -- spaces ----------------------------------------------------------------------------------

    def _space(self, key: Hashable, grid: Grid, root: Root | None) -> None:
        """The cells of a grid, numbered as a buffer has them or not at all."""
        sizes = {name: (n, m) for name, n, m in grid}
        found = []
        for t, slot in enumerate(self.level.slots):
            n, m = sizes.get(slot, (1, 1))
            rows = []
            for component in self.level.components[t]:
                numbers = self._numbers(root, slot)
                rows.append(
                    [
                        (
                            p, q,
                            0 if numbers is None else numbers.get((p, q), 0),
                            (slot in sizes and (p == n or q == m))
                            + PADDING * (numbers is not None and (p, q) not in numbers),
                        )
                        for p, q in component.get(grid, ())
                    ]
                )  # fmt: skip
            found.append(rows)
        self._add(key, found, [self._steps(grid, 0), self._steps(grid, 1), self._buffer_steps(root)])

    def _numbers(self, root: Root | None, slot: str) -> dict[Cell, int] | None:
        if root is None:
            return None
        for (name, _, _), cells in zip(grid_of(root.node), self.buffers[id(root.node)], strict=True):
            if name == slot:
                return cells
        return {(0, 0): 0}

    def _add(
        self, key: Hashable, found: list[list[list[tuple[int, int, int, int]]]], strides: list[list[int]]
    ) -> None:
        first = np.zeros((self.axes, self.most), np.int64)
        count, inner = np.zeros_like(first), np.zeros_like(first)
        for t, rows in enumerate(found):
            for u, cells in enumerate(rows):
                first[t, u], count[t, u] = len(self._cells), len(cells)
                self._cells += cells
                inner[t, u] = sum(cell[3] % PADDING == 0 for cell in cells)
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
        pull = self.level.pulls[id(root), k]
        below = next(grid_of(a) for _, a in root.groups[k].atoms if Level.on_cells(a))
        above = grid_of(root.node)
        if not root.pooled:  # layers alike have one map
            self.maps[id(root), k] = self._alike.setdefault((pull, below, above), len(self._starts))
            if self.maps[id(root), k] < len(self._starts):
                return
        starts = np.zeros((self.axes, self.most), np.int64)
        touched: list[list[list[tuple[int, int, int, int]]]] = []
        for t, slot in enumerate(self.level.slots):
            link = self._link(pull, slot)
            numbers = self._numbers(root, slot) if root.pooled and link and link[0] else {(0, 0): 0}
            assert numbers is not None
            readers = readers_of(pull, link, numbers) if root.pooled else {}
            rows = []
            for u, component in enumerate(self.level.components[t]):
                sources = {cell: n for n, cell in enumerate(component.get(below, ()))}
                taps: dict[Cell, dict[Cell, float]] = {}
                if root.pooled:
                    taps = {} if link and link[0] else {(0, 0): {}}
                    for source in sources:
                        for cell, weight in readers.get(source, ()):
                            taps.setdefault(cell, {})[source] = weight
                    asked = sorted(taps, key=numbers.__getitem__)
                    real = asked
                else:
                    asked = component.get(above, []) if link else [(0, 0)]
                    real = self._real(above, link[0], asked) if link else asked
                    taps = {cell: pull(link, cell) if link else {(0, 0): 1.0} for cell in real}
                rows.append([(0, 0, numbers.get(cell, 0), 0) for cell in asked])
                starts[t, u] = len(self._pointer) - 1
                for cell in real:
                    for source, weight in sorted(taps[cell].items()):
                        if source in sources:
                            self._index.append(sources[source])
                            self._weights.append(weight)
                    self._pointer.append(len(self._index))
            touched.append(rows)
        self.maps[id(root), k] = len(self._starts)
        self._starts.append(starts)
        if root.pooled:
            zero = [0] * self.axes
            self._add(("touched", id(root), k), touched, [zero, zero, self._buffer_steps(root)])
            self._goals.append((self.spaces["touched", id(root), k], int(pull.increments)))
        else:
            self._goals.append((self.spaces[above], int(pull.increments)))

    @staticmethod
    def _real(grid: Grid, name: str | None, cells: list[Cell]) -> list[Cell]:
        """The cells but for those of the padding, which come last and read nothing."""
        n, m = next((axis[1:] for axis in grid if axis[0] == name), (1, 1))
        return [c for c in cells if c[0] < n and c[1] < m]

    @staticmethod
    def _link(pull: Pull, slot: str) -> tuple[str | None, str | None] | None:
        """The link of a slot: both its names are the slot's, or one is missing."""
        for link in pull.links:
            if slot in link:
                return link
        return None

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

        The taps are (pointer, index, weights, runs) of `tpnum.kernels.mixing`.
        """
        if dtype not in self._arrays:
            self._arrays[dtype] = self._make(dtype)
        return self._arrays[dtype]

    def _make(self, dtype: np.dtype) -> tuple:
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
            np.ascontiguousarray(np.array(self._cells or [(0, 0, 0, 0)], np.int64).T),
            (
                np.array(self._starts, np.int64).reshape(len(self._starts), self.axes, self.most),
                np.array(self._goals, np.int64).reshape(-1, 2),
            ),
            (
                np.array(self._pointer, np.int64),
                np.array(self._index or [0], np.int64),
                np.array(self._weights or [0.0], dtype),
                runs(*(np.array(part) for part in (self._pointer, self._index, self._weights))),
            ),
        )


def readers_of(
    pull: Pull, link: tuple[str | None, str | None] | None, numbers: dict[Cell, int]
) -> dict[Cell, list[tuple[Cell, float]]]:
    """Per cell below the cells of a buffer that it is added to, and its weights."""
    found: dict[Cell, list[tuple[Cell, float]]] = {}
    for cell in numbers:
        for source, weight in (pull(link, cell) if link else {(0, 0): 1.0}).items():
            found.setdefault(source, []).append((cell, weight))
    return found


def runs(pointer: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Per cell how many cells from it on have the same weights, each on the cells beside those before."""
    lengths = np.diff(pointer)
    cell = np.repeat(np.arange(lengths.size), lengths)
    beside = np.minimum(np.arange(index.size) + lengths[cell], max(index.size - 1, 0))
    moved = (index[beside] == index + 1) & (weights[beside] == weights)
    follows = np.zeros(lengths.size, bool)
    follows[:-1] = lengths[1:] == lengths[:-1]
    follows &= np.bincount(cell, ~moved, lengths.size) == 0
    ends = np.where(follows, lengths.size, np.arange(lengths.size))
    return np.minimum.accumulate(ends[::-1])[::-1] - np.arange(lengths.size) + 1
