"""Tiles of nets with index axes: the levels of a schedule, strip by strip of column examples."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.blocks import dims, shape
from tpnum.evaluate.tile import TileValues
from tpnum.kernels._arrays import aligned
from tpnum.kernels._views import WIDTH
from tpnum.kernels.blocks import collect
from tpnum.law.threads import Stop
from tpnum.lower.blocks import BlockLevel, BlockProgram, runs
from tpnum.lower.islands import IslandLevel, places_of
from tpnum.lower.laying import Laid, LaidSeries
from tpnum.lower.program import Program, buffer_places
from tpnum.lower.regions import Regions, has_series, lanes, program, regions
from tpnum.lower.unsupported import Unsupported
from tpnum.tiles.delivery import matrices, write
from tpnum.tiles.diagonal import exact_diagonals
from tpnum.tiles.extents import LAID, extents
from tpnum.tiles.grid import Tile, blocks, general_side, squares
from tpnum.tiles.strips import Piece, asked, inside, part_of, strips

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.plan import Entry, Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law import graph
    from tpnum.lower.layout import Places
    from tpnum.lower.program import Kept
    from tpnum.lower.variances import Variances
    from tpnum.tiles.delivery import Source
    from tpnum.tiles.sinks import Sink

BUFFERS = 8 << 20
"""Bytes of buffers between levels per thread."""
ISLANDS = 256 << 20
"""The most of them, where whole blocks go from region to region."""
TASK = 1 << 32
"""Cells of all pairs of a task, half a minute or so."""
PARTS = 48 << 20
"""Bytes of profile passes that are kept."""
FEW = 8
"""Examples that the schedule is made for: enough of many steps for tables of a function's series."""
SINGLE = 16
"""Steps beyond which float32 is not enough within a pair, as it is not where correlations are subtracted."""
AXES = "variables have index axes: pairs of positions are cells, pairs of examples lanes"
NO_AXES = "no variable has index axes, but some are not compiled: regions of one cell"


class CellWorker:
    """Tiles of a plan by the cell machine, and by the general path's rules where it has no instructions."""

    road = "cells"
    grain = 1 << 6
    few = FEW

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        sink: Sink,
        dtype: np.dtype,
        tile: int | None,
        variances: Variances,
        many: int | None = None,
    ):
        self.stop = Stop()
        self.variances = variances
        variances.proceed = self.stop
        self._parts: dict[tuple[int, int, int], ProfileValues] = {}
        self._laid: dict[tuple, Any] = {}
        self._ready: dict[tuple[int, ...], list[Program | BlockProgram]] = {}
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._general_plan: list[tuple[Plan, tuple[ProfileValues, ProfileValues]]] = []
        self.plan, self.profiles, self.sink = plan, profiles, sink
        rows, cols = profiles
        self.symmetric = rows is cols
        if not (nodes := [entry.node for entries in plan.entries.values() for entry in entries]):
            raise Unsupported("nothing depends on both inputs")
        few = self._few(nodes)
        self.schedule, self.layouts, probe = self._regions(nodes, few, dtype)
        levels = self.schedule.levels
        alone = dict.fromkeys(level.reason for level in levels if isinstance(level, BlockLevel))
        self.reason = "; ".join([AXES if plan.has_axes else NO_AXES, *alone])
        steps = sum(one.steps for one in probe)
        single = steps <= SINGLE and not any(one.subtracts for one in probe)
        self.work = dtype if single else np.dtype(np.float64)
        many = many or cols.size
        self.lanes = lanes(self.work, probe, many, self.symmetric)
        if any(isinstance(level, IslandLevel) for level in levels):
            held = 8 * buffer_places(probe, 1)[1] // probe[0].lanes
            unit = lanes(self.work)
            if held * unit > ISLANDS:
                raise Unsupported(
                    "whole blocks of so many pairs of positions, side by side, take too much room"
                )
            self.lanes = min(self.lanes, max(BUFFERS // held // unit, 1) * unit)
        self.unit = self._unit(probe)
        cells = sum(level.cells for level in self.schedule.levels)
        self.pairs = max(1, TASK // cells)
        laid = sum(one.bytes_laid() for one in probe if isinstance(one, Program))
        entries = len(plan.entries) * int(np.prod(plan.axes[0] + plan.axes[1], initial=1))
        passes = partial(_held, probe, few[0], self.work)
        sizes = extents(cells, entries, laid, self.lanes, many, passes, tile)
        self.height, self.width, self.slab, self.ready_most = sizes
        mirrored = self.symmetric and plan.mirrored
        tiles = blocks(rows.size, cols.size, self.height, self.width, mirrored)
        self.tiles = sorted(tiles, key=self._turn)

    def _few(self, nodes: list[graph.Pair]) -> tuple[ProfileValues, ProfileValues]:
        """The profile passes of the examples that ``nodes`` are looked at with."""
        some = [slice(0, min(profile.size, self.few)) for profile in self.profiles]
        return self._part(0, some[0]), self._part(1, some[1])

    def _regions(
        self, nodes: list[graph.Pair], few: tuple[ProfileValues, ProfileValues], dtype: np.dtype
    ) -> Regions:
        """How ``nodes`` are computed, and programs for a few examples."""
        return regions(nodes, few, dtype)

    def _turn(self, tile: Tile) -> tuple[int, int]:
        """When a tile is computed: back and forth along the slabs, whose numbers are laid out from before."""
        rows, cols = (piece.start // self.slab for piece in (tile.rows, tile.cols))
        return cols, -rows if cols % 2 else rows

    def programs(self, rows: slice, cols: slice, dtype: np.dtype) -> list[Program | BlockProgram]:
        """The programs of the schedule's levels for some rows and columns."""
        both = self._part(0, rows), self._part(1, cols)
        return [program(layout, both, dtype, self.lanes) for layout in self.layouts]

    def _part(self, side: int, rows: slice) -> ProfileValues:
        """The profile pass of some examples, kept for the tiles beside."""
        whole = self.profiles[side]
        if rows == slice(0, whole.size):
            return whole
        key = id(whole), rows.start, rows.stop
        with self._lock:
            part = self._parts.pop(key, None)
            if part is None:
                part = self.variances.part(whole, rows)
            self._parts[key] = part
            while len(self._parts) > 2 and sum(p.bytes for p in self._parts.values()) > PARTS:
                del self._parts[next(iter(self._parts))]
        return part

    def _kept(self, level: int, slabs: tuple[slice, slice]) -> Kept:
        """Hands out what was laid out for the same examples before, as long as there is room for it."""

        def kept(sides: tuple[int, ...], what: Hashable, each: float, make: Callable[[], Any]) -> Any:
            rows = slabs[sides[0]]
            key = tuple(sorted(sides)), rows.start, rows.stop, level, what
            with self._lock:
                found = self._laid.pop(key, None)
                if found is None:
                    self._make_room(slabs, each * (rows.stop - rows.start))
            if found is None:
                found = make()
            with self._lock:
                self._laid[key] = found
                self._make_room(slabs)
            return found

        return kept

    def _make_room(self, slabs: tuple[slice, slice], more: float = 0.0) -> None:
        """Let go of what is laid out of other slabs, columns first: tiles come back to rows alone."""
        own = [(piece.start, piece.stop) for piece in slabs]
        others = [key for key in self._laid if all(key[1:3] != own[side] for side in key[0])]
        others.sort(key=lambda key: -key[0][0])
        while others and more + sum(map(_bytes, self._laid.values())) > LAID:
            del self._laid[others.pop(0)]

    def kept(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Bytes of profile passes that are kept, and of numbers laid out; and how many there may be."""
        with self._lock:
            parts, laid = sum(p.bytes for p in self._parts.values()), sum(map(_bytes, self._laid.values()))
        return (parts, PARTS), (laid, LAID)

    def forget(self, parts: bool = True) -> None:
        """Keep nothing of what was laid out for tiles, nor of profile passes."""
        with self._lock:
            self._laid.clear()
            self._ready.clear()
            if parts:
                self._parts.clear()
                first, second = self.profiles
                again = first.again()
                self.profiles = again, again if second is first else second.again()

    def prepare(self) -> None:
        """Nothing is left to do before the threads start."""

    def ready(self, tile: Tile) -> list[Program | BlockProgram]:
        """The programs of all levels, with the numbers of the examples that a tile's belong to."""
        rows, cols = slabs = self.slabs(tile)
        key = rows.start, rows.stop, cols.start, cols.stop, *map(id, self.layouts)
        with self._making:  # by one thread: the others would make the same, and as much of it
            if (found := self._ready.get(key)) is not None:
                return found
            with self._lock:
                while len(self._ready) >= self.ready_most:
                    del self._ready[next(iter(self._ready))]
            found = self.programs(rows, cols, self.work)
            for k, one in enumerate(found):
                one.prepare(strips(cols, self.lanes), self._kept(k, slabs), self.symmetric)
            with self._lock:
                self._ready[key] = found
        return found

    def slabs(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and the columns that are prepared together with those of a tile."""
        rows, cols = (piece.start // self.slab * self.slab for piece in (tile.rows, tile.cols))
        (n, m) = (profile.size for profile in self.profiles)
        return slice(rows, min(rows + self.slab, n)), slice(cols, min(cols + self.slab, m))

    def tile(self, tile: Tile) -> None:
        try:
            programs = self.ready(tile)
        except Unsupported:  # of other kinds than the first example
            self.sink.put(tile, self.general(tile))
            return
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        per_row = 8 * buffer_places(programs, 1)[1]
        block = int(np.clip(BUFFERS // max(per_row, 1), 1, height))
        scratch = aligned(max(p.work_cells for p in programs) * self.lanes, self.work)
        direct = matrices(self.plan, self.sink)
        whole = all(isinstance(one, Program) and one.whole for one in programs)
        blocks = {} if direct else self._blocks(height, width)
        buffers = np.zeros(block * per_row // 8 + 1)
        missed = np.zeros(block, np.int64)
        for number, some, (strip, (low, high), place) in self._asked(tile, block, self._unit(programs)):
            codes = [one.narrow(number, some) for one in programs]
            starts, at = buffer_places(codes, high - low)
            if not whole:
                buffers[:at] = 0.0
            missed[:] = 0
            for one in codes:
                one.run(*place, buffers, starts, scratch, missed, self.stop)
            again = runs(missed[: high - low] > 0)
            source = partial(self._lanes_of, buffers, starts, (high - low, some.stop - some.start))
            if direct:
                part = part_of(tile, slice(low, high), strip)
                for matrix in direct:
                    write(matrix, part, source)
                for begin, end in again:
                    near = part_of(tile, slice(low + begin, low + end), strip)
                    self.sink.put(near, self.general(near))
                continue
            self._collect(blocks, source, (low, high), strip)
            for begin, end in again:
                self._again(blocks, tile, slice(low + begin, low + end), strip)
        if not direct:
            self.sink.put(tile, blocks)

    def _blocks(self, height: int, width: int) -> dict[str, np.ndarray]:
        """Zeros for a tile of every kind."""
        whole = height, width, *self.plan.axes[0], *self.plan.axes[1]
        return {kind: np.zeros(whole) for kind in self.sink.kinds}

    def pieces(self, tile: Tile, block: int) -> Iterator[Piece]:
        """A tile strip by strip of columns, at most so many rows at a time."""
        above, left = tile.rows.start % self.slab, tile.cols.start % self.slab
        height = tile.rows.stop - tile.rows.start
        for k, strip in enumerate(strips(tile.cols, self.lanes), left // self.lanes):
            own = tile.cols.start + strip.start - tile.rows.start if self.symmetric else -(1 << 40)
            last = height if not tile.mirror else min(height, own + strip.stop - strip.start)
            for low in range(0, last, block):
                high = min(low + block, last)
                yield Piece(strip, (low, high), (k, (above + low, above + high), above + own))

    def _unit(self, programs: Sequence[Program | BlockProgram]) -> int:
        """How many lanes of a strip are computed or left out together."""
        return self.lanes if has_series(programs) else min(self.lanes, WIDTH // self.work.itemsize)

    def _asked(self, tile: Tile, block: int, unit: int) -> Iterator[tuple[int, slice, Piece]]:
        """The number of a strip, some of its lanes, and what is computed with these."""
        for piece in self.pieces(tile, block):
            for some, part in asked(piece, unit, tile.mirror):
                yield piece.place[0], some, part

    def _collect(
        self, blocks: dict[str, np.ndarray], source: Source, rows: tuple[int, int], strip: slice
    ) -> None:
        """The outputs' buffers where their entries belong."""
        for kind, entries in self.plan.entries.items():
            for entry in entries:
                order, given = source(entry)
                if all(i is None for i in (*entry.rows, *entry.cols)):
                    goal = blocks[kind].reshape(*blocks[kind].shape[:2], -1)
                    collect(goal, rows[0], strip.start, np.argsort(order.ravel()), given, float(entry.weight))
                else:
                    node = self.schedule.outputs[id(entry.node)]
                    values = block_of(node, given.ravel(), 0, rows, strip, given.shape[2])
                    blocks[kind][place_of(entry, rows, strip)] += entry.weight * values

    def _lanes_of(
        self, buffers: np.ndarray, starts: Places, pairs: tuple[int, int], entry: Entry
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where an entry's positions are in its buffer, and the buffer (rows, cells, lanes)."""
        node = self.schedule.outputs[id(entry.node)]
        at, cells = starts[id(node)]
        height, width = pairs
        source = buffers[at : at + cells * height * width].reshape(height, cells, width)
        return block_of(node, np.arange(cells), 0, (0, 1), slice(0, 1), 1), source

    def _again(self, blocks: dict[str, np.ndarray], tile: Tile, rows: slice, strip: slice) -> None:
        """Rows of a strip with pairs so close that their series do not converge."""
        part = Tile(inside(tile.rows, rows), inside(tile.cols, strip), False)
        for kind, found in self.general(part).items():
            blocks[kind][rows, strip] = found

    def general(self, tile: Tile) -> dict[str, np.ndarray]:
        """A tile by the general path, with quadrature where series do not converge."""
        shape = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        whole = (*shape, *self.plan.axes[0], *self.plan.axes[1])
        blocks = {kind: np.empty(whole) for kind in self.sink.kinds}
        plan, profiles = self._rules()
        for part in squares(*shape, general_side(plan), False):
            rows, cols = inside(tile.rows, part.rows), inside(tile.cols, part.cols)
            values = TileValues(*profiles, rows, cols, self.symmetric, self.stop)
            for kind, block in plan.tile(values).items():
                blocks[kind][part.rows, part.cols] = block
        return blocks

    def _rules(self) -> tuple[Plan, tuple[ProfileValues, ProfileValues]]:
        """What the general path evaluates, made when it is needed first."""
        with self._lock:
            if not self._general_plan:
                self._general_plan.append((self.plan.general, self.plan.again(self.profiles)))
        return self._general_plan[0]

    def finish(self) -> None:
        own = self.symmetric and not self.plan.has_axes and not self.plan.axes[0]
        self.sink.done(exact_diagonals(self.plan, self.profiles[0]) if own else {})


def block_of(
    node: graph.Pair, buffers: np.ndarray, at: int, rows: tuple[int, int], strip: slice, lanes: int
) -> np.ndarray:
    """A view of a node's cells in its buffer, (rows, columns, *tied axes, *row's, *column's)."""
    own = places_of(node)
    target: list[Dim] = [("", 0), ("", 1)]
    for side, axes in ((2, node.tied), (0, node.rows), (1, node.cols)):
        target += [(name, side) for name, _ in axes]
    lengths = dict(zip(dims(node), shape(node, rows[1] - rows[0], lanes), strict=True))
    sizes = [lengths[key] for key in own]
    flat = buffers[at : at + int(np.prod(sizes))]
    values = flat.reshape(sizes)[..., : strip.stop - strip.start]
    return values.transpose([own.index(key) for key in target])


def place_of(entry: Entry, rows: tuple[int, int], strip: slice) -> tuple[int | slice, ...]:
    """Where an entry belongs in a block (rows, columns, *axes) of a kernel."""
    where = (slice(*rows), strip, *entry.rows, *entry.cols)
    return tuple(slice(None) if i is None else i for i in where)


def _bytes(laid: Laid | LaidSeries | list[Laid]) -> int:
    return sum(one.bytes for one in laid) if isinstance(laid, list) else laid.bytes


def _held(programs: list[Program | BlockProgram], profiles: ProfileValues, dtype: np.dtype) -> float:
    """Bytes of an example's profile pass, all that rows of programs ask for found in it."""
    for one in programs:
        if isinstance(one, Program):
            one.selection.numbers.arrays(0, dtype)
    return profiles.bytes / profiles.size
