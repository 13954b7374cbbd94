"""A level's program for one tile: code, registers and numbers, ready for the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.kernels import cells as kernels
from tpnum.kernels._views import WIDTH
from tpnum.kernels.duals import pointer
from tpnum.lower.numbers import axes_of, padded
from tpnum.lower.registers import allocate
from tpnum.lower.select import Selection

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.layout import Layout
    from tpnum.lower.schedule import Schedule
    from tpnum.plan.profile import ProfileValues

CODE = {name: number for number, name in enumerate(kernels.OPERATIONS)}
APART = ("mix", "load", "store")
"""Operations that end a stretch: they mix cells, or number them in their own way."""


class Program:
    """The code of one level over the profiles of a tile's rows and columns."""

    def __init__(
        self,
        layout: Layout,
        schedule: Schedule,
        profiles: tuple[ProfileValues, ProfileValues],
        dtype: np.dtype,
    ):
        self.layout, self.dtype = layout, dtype
        self.lanes = WIDTH // dtype.itemsize
        selection = Selection(layout.level, profiles, dtype)
        self.selection = selection
        self.steps = sum(2 if i.op in ("dual", "series") else i.op == "relu" for i in selection.code)
        self._grids = list(layout.level.spaces)
        self._assemble()
        self.buffer_sizes = [layout.buffer_size(node) for node in self.buffer_nodes]

    # -- code ------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        code = self.selection.code
        space_of: dict[int, Hashable] = {}
        stretch_of: dict[int, set[int]] = {}
        keys: list[Hashable] = []
        stretch = 0
        for k, one in enumerate(code):
            key = self._space(one)
            if k and (one.op in APART or code[k - 1].op in APART or key != keys[-1]):
                stretch += 1
            keys.append(key)
            for v in (*one.reads, *one.makes):
                if v >= 0:
                    stretch_of.setdefault(v, set()).add(stretch)
                    if one.op == "mix":
                        stretch_of[v].add(-1)
            goal = key if one.op != "mix" else self._goal(one)
            for v in one.makes:
                if v >= 0:
                    space_of[v] = goal

        last = {v: k for k, one in enumerate(code) for v in one.reads if v >= 0}
        same: dict[int, int] = {}  # what is changed in place and not read again: one register

        def first(value: int) -> int:
            while value in same:
                value = same[value]
            return value

        for k, one in enumerate(code):
            for read, made in zip(one.reads, one.makes, strict=True):
                if read >= 0 and made >= 0 and last[read] == k:
                    same[made] = first(read)
                    stretch_of[first(read)] |= stretch_of[made]

        def kind(value: int) -> Hashable:
            value = first(value)
            return ("chunk",) if len(stretch_of[value]) == 1 else ("whole", space_of[value])

        placed, kinds = allocate(code, kind)
        self.buffer_nodes: list[int] = []
        rows: list[tuple[int, ...]] = []
        breaks: list[int] = []
        latest: Hashable = None
        for one, near, registers in placed:
            key = self._space(near)
            apart = one is not None and one.op in APART
            if apart or key != latest:
                breaks.append(len(rows))
            latest = None if apart else key
            rows.append(self._row(one, near, registers))
        self.code = np.array(rows or np.empty((0, 9)), np.int64).reshape(-1, 9)
        ends = [*breaks[1:], len(rows)]
        self.stretches = np.array(list(zip(breaks, ends, strict=True)), np.int64).reshape(-1, 2)
        places, at = [], 0
        for kind_ in kinds:
            local = kind_ == ("chunk",)
            places.append((at, int(local)))
            at += kernels.CHUNK if local else self.layout.cells_of(kind_[1])  # type: ignore[index]
        places.append((at, 0))  # what is between the axes of a map
        self.registers = np.array(places, np.int64)
        self.work_cells = at + self._spare()

    def _row(self, one: Any, near: Any, registers: tuple[int, int, int]) -> tuple[int, ...]:
        grid = self._grids.index(near.grid)
        if one is None:
            return (CODE["copy"], *registers, 0, 0, self.layout.spaces[near.grid], grid, 0)
        n = one.n
        if one.op == "mix":
            n = self.layout.maps[one.extra[1:]]
        elif one.op in ("load", "store"):
            n = self._buffer(one.extra[-1])
        return (CODE[one.op], *registers, one.p, n, self.layout.spaces[self._space(one)], grid, one.flag)

    def _buffer(self, node: int) -> int:
        if node not in self.buffer_nodes:
            self.buffer_nodes.append(node)
        return self.buffer_nodes.index(node)

    @staticmethod
    def _space(one: Any) -> Hashable:
        if one.op == "store" and one.extra[0] == "touched":
            return one.extra[:3]
        return one.extra if one.op in ("load", "store") else one.grid

    def _goal(self, one: Any) -> Hashable:
        number = self.layout.maps[one.extra[1:]]
        goal, _ = self.layout._goals[number]
        return next(key for key, space in self.layout.spaces.items() if space == goal)

    def _spare(self) -> int:
        """Cells for what is between the axes of a map."""
        most = 1
        for one in self.selection.code:
            if one.op == "mix":
                wide = [
                    max(a, b)
                    for a, b in zip(
                        self.layout.shapes(one.grid), self.layout.shapes(self._goal(one)), strict=True
                    )
                ]
                between = int(np.prod(wide)) if len(wide) > 2 else 0
                most = max(most, 2 * between + (wide[-1] if wide else 1))
        return most

    # -- numbers ---------------------------------------------------------------------------------

    def prepare(self, strips: list[slice], data: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
        """Lay out what depends on the tile: per row input, and per strip of column inputs."""
        numbers, v = self.selection.numbers, self.lanes
        height = self.selection.profiles[0].size
        table, rows, starts = [], [], [[0, 0]]
        cols: list[list[np.ndarray]] = [[] for _ in strips]
        for grid in self._grids:
            left = numbers.arrays(grid, 0, self.dtype)
            right = numbers.arrays(grid, 1, self.dtype)
            rows.append(left.ravel())
            for k, strip in enumerate(strips):
                cols[k].append(_lanes(right[:, :, strip], v).ravel())
            table.append((left.shape[1], *starts[-1]))
            starts.append([starts[-1][0] + left.size, starts[-1][1] + cols[0][-1].size])
        self.grids = np.array(table, np.int64).reshape(-1, 3)
        self.row_numbers = np.concatenate([*rows, np.zeros(1, self.dtype)])
        self.col_numbers = [np.concatenate([*c, np.zeros(1, self.dtype)]) for c in cols]
        self.row_constants = np.ascontiguousarray(numbers.constant_arrays(0, self.dtype))
        right = numbers.constant_arrays(1, self.dtype)
        self.col_constants = [_lanes(right[:, strip], v).ravel() for strip in strips]
        self._place_data(strips, data)
        self._place_series(strips, height)

    def _place_data(
        self, strips: list[slice], data: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    ) -> None:
        v = self.lanes
        sources, rows = [], []
        cols: list[list[np.ndarray]] = [[] for _ in strips]
        at = [0, 0]
        for first, second in self.selection.sources:
            sides = []
            for side, name in enumerate((first, second)):
                lines = self.selection.profiles[side].site.lines
                x = np.asarray(data[side][name], np.float64)
                names = [n for n, _ in lines.axes(name)]
                order = [1 + names.index(n) for n in sorted(names)]
                x = np.transpose(x, (0, *order, x.ndim - 1)) / np.sqrt(x.shape[-1])
                x = np.pad(x, [(0, 0), *[(0, 1)] * len(names), (0, 0)])
                sides.append(x.reshape(x.shape[0], -1, x.shape[-1]))  # (N, positions, channels)
            channels = sides[0].shape[-1]
            rows.append(np.ascontiguousarray(sides[0].transpose(1, 0, 2)).ravel())
            for k, strip in enumerate(strips):
                cols[k].append(_lanes(sides[1][strip].transpose(1, 2, 0), v).ravel())
            sources.append((channels, *at))
            at = [at[0] + rows[-1].size, at[1] + cols[0][-1].size]
        self.sources = np.array(sources or np.empty((0, 3)), np.int64).reshape(-1, 3)
        self.x1 = np.concatenate([*rows, np.zeros(1)])
        self.x2 = [np.concatenate([*c, np.zeros(1)]) for c in cols]

    def _place_series(self, strips: list[slice], height: int) -> None:
        tables = self.selection.tables
        places, rows = [], []
        cols: list[list[np.ndarray]] = [[] for _ in strips]
        at = [0, 0]
        for k, (grid, _, _, indices) in enumerate(self.selection.series):
            sides = []
            for side, coefs in enumerate((tables.rows[k], tables.cols[k])):
                axes = axes_of(grid, side)
                positions = int(np.prod([n + 1 for _, n in axes], initial=1))
                index = np.empty((positions, self.selection.profiles[side].size), np.intp)
                padded(indices[side], axes, index, edge=True)
                sides.append(coefs[index].astype(self.dtype))  # (positions, N, K)
            rows.append(sides[0].ravel())
            for j, strip in enumerate(strips):
                cols[j].append(_lanes(sides[1][:, strip].transpose(0, 2, 1), self.lanes).ravel())
            places.append(at)
            at = [at[0] + rows[-1].size, at[1] + cols[0][-1].size]
        self.coefs = np.array(places or np.empty((0, 2)), np.int64).reshape(-1, 2)
        self.row_coefs = np.concatenate([*rows, np.zeros(1, self.dtype)])
        self.col_coefs = [np.concatenate([*c, np.zeros(1, self.dtype)]) for c in cols]
        entries = [(0, count, *rest) for _, count, *rest in tables.entries]
        self.entries = np.array(entries or np.empty((0, 6)), np.int64).reshape(-1, 6)
        self.terms = np.array(tables.terms or [0], np.int64)
        self.least = np.array(tables.least or [0.0], np.float64)

    # -- running ---------------------------------------------------------------------------------

    def run(
        self, strip: int, rows: tuple[int, int], own: int, buffers: np.ndarray, starts: dict[int, tuple[int, int]],
        scratch: np.ndarray,
    ) -> int:  # fmt: skip
        """Rows ``rows`` against a strip of columns; how many strips held pairs that their series miss."""
        layout = self.layout
        components, spaces, cells, maps, taps = layout.arrays(self.dtype)
        places = np.empty(
            (4, len(layout.spaces), max(map(layout.cells_of, layout.spaces), default=1)), np.int64
        )
        duals = (*self.selection.duals, *["step"] * kernels.SLOTS)[: kernels.SLOTS]
        table = np.array([starts[n] for n in self.buffer_nodes] or np.empty((0, 2)), np.int64).reshape(-1, 2)
        return int(
            kernels.run(
                self.code, self.stretches, self.registers, components, spaces, cells, maps, taps,
                (self.row_numbers, self.col_numbers[strip], self.grids, self.row_constants, self.col_constants[strip]),
                (self.x1, self.x2[strip], self.sources),
                (self.entries, self.terms, self.least, self.row_coefs, self.col_coefs[strip], self.coefs),
                scratch, places, (buffers, table), (*rows, self.selection.profiles[0].size), own,
                *(pointer(name, self.dtype) for name in duals),
            )
        )  # fmt: skip


def _lanes(values: np.ndarray, lanes: int) -> np.ndarray:
    """The last dimension filled up to a whole strip with its last entry."""
    missing = lanes - values.shape[-1]
    if missing:
        values = np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, missing)], mode="edge")
    return np.ascontiguousarray(values)
