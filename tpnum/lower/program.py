"""A level's program for one tile: code, registers and numbers, ready for the machine."""

from __future__ import annotations

from copy import copy
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tpnum.kernels import cells as kernels
from tpnum.kernels.duals import called, closed
from tpnum.kernels.operations import OPERATIONS
from tpnum.lower.homes import Home, Homes
from tpnum.lower.laying import Laid, LaidSeries, lay, lay_series
from tpnum.lower.loops import BUFFERED, GATHERED, STEPS, SUMS, in_loops
from tpnum.lower.numbers import positions
from tpnum.lower.registers import allocate
from tpnum.lower.select import Selection
from tpnum.lower.stretches import only_mapped, stretch_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.blocks import BlockProgram
    from tpnum.lower.layout import Layout, Places

Kept: TypeAlias = "Callable[[tuple[int, ...], Hashable, float, Callable[[], Any]], Any]"


CODE = {name: number for number, name in enumerate(OPERATIONS)}
CODE |= {"seed": CODE["load"], "give": CODE["store"]}  # of adjoints
CODE |= {"first": CODE["relu"], "function_first": CODE["function"]}  # a flag says so
FUNCTIONS = ("dual", "series", "function", "function_first")
"""Operations that take as many roundings as two relus."""
PIECE = 1 << 28
"""Numbers that are computed between two looks at whether to go on."""


class Program:
    """The code of one level over the profiles of a tile's rows and columns."""

    def __init__(
        self,
        layout: Layout,
        profiles: tuple[ProfileValues, ProfileValues],
        dtype: np.dtype,
        lanes: int,
    ):
        self.layout, self.dtype, self.lanes = layout, dtype, lanes
        selection = self._select(profiles)
        self.selection, self.duals, self.height = selection, selection.duals, profiles[0].size
        self.by_series = bool(selection.series)
        self.steps = sum(2 if i.op in FUNCTIONS else i.op == "relu" for i in selection.code)
        self.subtracts = any(i.op == "normal" for i in selection.code)  # 1 - rho, from a rounded rho
        self._assemble()
        self.whole = not any(root.pooled for root in layout.level.stored)
        self.buffer_sizes = [self._size(node) for node in self.buffer_nodes]

    def _select(self, profiles: tuple[ProfileValues, ProfileValues]) -> Selection:
        """The level's instructions."""
        return Selection(self.layout.level, profiles, self.dtype)

    def _size(self, buffer: Hashable) -> int:
        """The cells of a buffer."""
        return self.layout.buffer_size(buffer)  # type: ignore[arg-type]

    # -- code ------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        code = self.selection.code
        keys = [self._space(one) for one in code]
        loops = in_loops(code, keys, self.layout.cells_of)
        groups = stretch_numbers(code, list(zip(keys, loops, strict=True)))
        goals = [key if one.op != "mix" else self._goal(one) for one, key in zip(code, keys, strict=True)]
        kept = [one for one in code if one.op == "keep"]
        spans: dict[int, int] = {}
        for one in kept:
            spans[one.reads[0]] = max(spans.get(one.reads[0], 1), self.layout.span_of(one))
        homes = Homes(code, groups, goals, spans)
        placed, kinds = allocate(code, homes, homes.until, spans)
        self._states = {one.extra: places[0] for one, _, places in placed if one and one.op == "keep"}
        self.buffer_nodes: list[Hashable] = []
        self.code, self.stretches = self._written(placed, kinds, groups)
        self.operations = _operations(self.code)
        self._place(kinds)

    def _written(
        self, placed: list[tuple[Any, Any, tuple[int, ...]]], homes: list[Home], groups: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the code, and its stretches."""
        mapped = only_mapped(self.selection.code, groups)
        rows: list[tuple[int, ...]] = []
        stretches: dict[int, list[int]] = {}
        k = 0
        for own, near, registers in placed:
            begun = stretches.setdefault(groups[k], [len(rows)] * 3 + [kernels.ALONE, groups[k] in mapped])
            if own is None or own.op != "keep":
                rows.append(self._row(own, near, registers))
            begun[2] = len(rows)
            if own is None or own.op != "mix":
                begun[1] = len(rows)
                local = any(r >= 0 and homes[r].span for r in registers)
                if local or begun[1] > begun[0] + 1:
                    begun[3] = min(begun[3], kernels.CHUNK)
                if own is not None and own.op in STEPS:
                    begun[3] = 1
            k += own is not None
        code = np.array(rows or np.empty((0, 10)), np.int64).reshape(-1, 10)
        return code, np.array(list(stretches.values()), np.int64).reshape(-1, 5)

    def _place(self, homes: list[Home]) -> None:
        """Registers one after the other, and how many cells of them are gone over at once."""
        chunk, whole = kernels.CHUNK, self.layout.cells_of
        sizes = [max(one.span, chunk) if one.span else whole(one.space) for one in homes]
        at = [0, *accumulate(sizes)]  # last what is between the axes of a map
        self.registers = np.array(
            [(start, one.span) for start, one in zip(at, [*homes, Home(0)], strict=True)]
        )
        self.work_cells = at[-1] + self._spare()
        looped = [steps == 1 for *_, steps, _ in self.stretches]
        wide = sum(not one.span for one in homes) if any(looped) else len(at)
        spreads = [
            sum(one.span or 1 for one in homes)
            if loop
            else wide * self.layout.size_of(int(self.code[begin, 6]))
            for loop, begin in zip(looped, self.stretches[:, 0], strict=True)
        ]
        self.spread = max(spreads, default=1)

    def _row(self, one: Any, near: Any, registers: tuple[int, ...]) -> tuple[int, ...]:
        if one is None:
            return (CODE["copy"], *registers, 0, 0, self.layout.spaces[near.grid], 0, -1, 0)
        if one.op == "recall":
            registers = (registers[0], self._states[one.extra], -1)
        n, m = one.n, one.m
        if one.op in ("mix", "recall"):
            n = self.layout.maps[one.extra[1:]]
        elif one.op in ("load", "store"):
            n = self._buffer(one.extra[-1])
        elif one.op in ("seed", "give"):
            n = self._buffer(("adjoint", one.extra[-1]))
        elif one.op in SUMS:
            n = self._buffer((SUMS[one.op], one.n))
        elif one.op in GATHERED:
            m, *_ = [self._buffer((kind, m + k)) for k, kind in enumerate(GATHERED[one.op])]
        a, b, c, d = (*registers, -1)[:4]
        return (CODE[one.op], a, b, c, one.p, n, self.layout.spaces[self._space(one)], one.flag, d, m)

    def _buffer(self, node: Hashable) -> int:
        if node not in self.buffer_nodes:
            self.buffer_nodes.append(node)
        return self.buffer_nodes.index(node)

    @staticmethod
    def _space(one: Any) -> Hashable:
        if one.op in BUFFERED:
            return one.extra[:3] if one.extra[0] == "touched" else one.extra
        return one.grid

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

    def numbers(self, buffer: Hashable, cells: int, rows: int) -> int:
        """How many numbers a buffer of so many cells has for so many rows."""
        return cells * rows * self.lanes

    def _strides(self, buffer: Hashable, at: int, cells: int) -> tuple[int, int, int, int]:
        """How a buffer is numbered (`tpnum.kernels.cells.run`)."""
        return at, cells, 0, 0

    def part(self, components: np.ndarray) -> Program:
        """The same for some of the components."""
        self.layout.arrays(self.dtype)  # once for all parts
        made = copy(self)
        made.layout = self.layout.part(components)
        return made

    # -- numbers ---------------------------------------------------------------------------------

    def bytes_laid(self) -> float:
        """Bytes that an example's numbers, data and series take, laid out for both sides.

        Coefficients that both sides share are of other examples at either, but on the diagonal.
        """
        return sum(self._bytes_of(side) + self._bytes_of_series(side) for side in (0, 1))

    def _bytes_of(self, side: int) -> float:
        numbers, sources = self.selection.numbers, self.selection.sources.values()
        lines = [self.selection.profiles[side].data[names[side]] for names, _ in sources]
        data = sum(x.shape[-1] * int(np.prod([n + 1 for n in x.shape[1:-1]], initial=1)) for x in lines)
        return self.dtype.itemsize * numbers.count(side) + 8.0 * data

    def _bytes_of_series(self, side: int) -> float:
        tables, series = self.selection.tables, enumerate(self.selection.series)
        return self.dtype.itemsize * sum(
            tables.width(k, side) * positions(one.grid, side) for k, one in series
        )

    def _shares(self, alike: bool) -> bool:
        """Whether coefficients are of the same functions of the same examples at both sides."""
        return alike and all(one.names[0] == one.names[1] for one in self.selection.series)

    def prepare(self, strips: list[slice], kept: Kept, alike: bool = False) -> None:
        """Lay out what depends on the tile: per row input, and per strip of column inputs.

        ``kept(sides, what, bytes, make)`` makes what is of the first of the sides, or hands out what was made
        of the same examples for any of them.  Pairs are ``alike`` if both sides are one data set in the same
        strips.  A program is prepared once.
        """
        numbers, lanes = self.selection.numbers.signature, self.lanes
        what = numbers, tuple(self.selection.sources)
        self.row: Laid = kept(
            (0,), what, self._bytes_of(0), lambda: lay(self.selection, 0, [slice(None)], self.dtype)[0]
        )
        self.cols: list[Laid] = kept(
            (1,), what, self._bytes_of(1), lambda: lay(self.selection, 1, strips, self.dtype, lanes)
        )
        shared = self._shares(alike)
        abreast = lanes if shared else 1
        own = [slice(k, min(k + abreast, self.height)) for k in range(0, self.height, abreast)]
        self.row_series = self._laid((0, 1) if shared else (0,), own, abreast, kept)
        self.col_series = self._laid((1, 0) if shared else (1,), strips, lanes, kept)
        self.abreast = abreast
        tables = self.selection.tables
        self._homes = tables.homes
        self._find()
        self.entries = _table(6, [(0, count, *rest) for _, count, *rest in tables.entries])
        self.terms = np.array(tables.terms or [0], np.int64)
        self.least = np.array(tables.least or [0.0], np.float64)
        del self.selection  # and with it the profile passes, which nobody reads again

    def _find(self) -> None:
        """Tables of where the numbers and the data of rows and columns are."""
        row, col = self.row, self.cols[0]
        first, second = row.starts, col.starts
        self.blocks = _table(3, list(zip(row.counts, first[0], second[0], strict=True)))
        self.sources = _table(3, list(zip(row.channels, first[1], second[1], strict=True)))

    def narrow(self, strip: int, some: slice) -> Program:
        """The same for some of the lanes of one strip, the only one then; with series, for all of these."""
        made = copy(self)
        made.lanes = some.stop - some.start
        made.cols = [self.cols[strip].narrow(self.lanes, some)]
        made.col_series = self.col_series.of_strip(strip)
        made._find()
        return made

    def _laid(self, sides: tuple[int, ...], strips: list[slice], lanes: int, kept: Kept) -> LaidSeries:
        """The coefficients of the first of some sides, in strips of so many examples."""
        side, selection = sides[0], self.selection
        names = tuple(one.names[side] for one in selection.series)
        return kept(
            sides,
            (lanes, names, selection.tables.signature(side)),
            self._bytes_of_series(side),
            lambda: lay_series(selection, side, strips, self.dtype, lanes),
        )

    def _coefs(self, strip: int) -> np.ndarray:
        """Where the series are, of the rows and of a strip of columns (`tpnum.kernels.cells.run`)."""
        places = self.row_series.places, self.col_series.places
        both = [(places[0][home], places[1][home]) for home in self._homes]
        return _table(
            7,
            [
                (at, step, apart, self.abreast, start + strip * wide, stride, wide // self.lanes)
                for (at, step, apart), (start, stride, wide) in both
            ],
        )

    # -- running ---------------------------------------------------------------------------------

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
        """Rows ``rows`` against a strip of columns; ``missed`` counts what series miss, row by row.

        ``proceed`` is called every now and then, and may raise.
        """
        layout, level = self.layout, self.layout.level
        components, spaces, cells, maps, taps = layout.arrays(self.dtype)
        places = np.zeros(
            (4, len(layout.spaces), max(map(layout.cells_of, layout.spaces), default=1)), np.int64
        )
        spare = kernels.room(self.stretches, components.shape[1], len(layout.spaces), self.lanes, self.dtype)
        row, col = self.row, self.cols[strip]
        coefs = self._coefs(strip)
        table = _table(4, [self._strides(n, *starts[n]) for n in self.buffer_nodes])
        each = (rows[1] - rows[0]) * self.lanes * max(len(self.code), 1) * level.cells / layout.count
        piece = max(1, int(PIECE / max(each, 1)))
        size = *rows, self.height, self.lanes
        for low in range(0, max(len(components), 1), piece):
            proceed()
            kernels.run(
                self.code, self.stretches, self.registers, components[low : low + piece], spaces, cells, maps,
                taps, (row.flat[0], col.flat[0], self.blocks, row.constants, col.constants.ravel()),
                (row.flat[1], col.flat[1], self.sources),
                (self.entries, self.terms, self.least, self.row_series.flat, self.col_series.flat, coefs),
                scratch, spare, places, (buffers, table), missed, size, own,
                *closed(self.duals, self.dtype), *called(self.operations, self.dtype),
            )  # fmt: skip


def buffer_places(programs: Sequence[Program | BlockProgram], rows: int) -> tuple[Places, int]:
    """Where the buffers between programs begin and how many cells each has, for so many rows against a strip.

    Also the numbers that they are in all.
    """
    starts: Places = {}
    at = 0
    for program in programs:
        for node, cells in zip(program.buffer_nodes, program.buffer_sizes, strict=True):
            if node not in starts:
                starts[node] = (at, cells)
                at += cells * rows * program.lanes
    return starts, at


def _table(width: int, rows: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, width) if rows else np.zeros((1, width), np.int64)


def _operations(code: np.ndarray) -> frozenset[int]:
    """Those of a code, series that functions between increments take among them."""
    flags = code[code[:, 0] == CODE["function"], 7]
    return frozenset(code[:, 0].tolist()) | ({CODE["series"]} if (flags & 1).any() else set())
