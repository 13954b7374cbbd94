"""Tiles of nets with index axes: the levels of a schedule, strip by strip of column examples."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.general import PairValues
from tpnum.kernels._views import WIDTH
from tpnum.lower.compiler import Unsupported
from tpnum.lower.layout import Layout
from tpnum.lower.network import grid_of
from tpnum.lower.program import Laid, Program, buffer_places
from tpnum.lower.schedule import Schedule
from tpnum.tiles.grid import Tile, blocks, general_side, squares
from tpnum.tiles.pool import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.program import Kept
    from tpnum.lower.variances import Variances
    from tpnum.tiles.sinks import Sink

BUFFERS = 8 << 20
"""Bytes of buffers between levels per thread."""
WIDE = 64
"""Column examples of a tile."""
GRAIN = 1 << 26
"""Cells of all pairs of a tile."""
TASK = 1 << 32
"""Cells of all pairs of a task, half a minute or so."""
PARTS = 48 << 20
"""Bytes of profile passes that are kept."""
LAID = 64 << 20
"""Bytes of numbers that are kept laid out."""
SINGLE = 16
"""Steps beyond which float32 is not enough within a pair, as it is not where correlations are subtracted."""


class CellWorker:
    """Tiles of a plan with index axes by the cell machine."""

    road, reason = "cells", "variables have index axes: pairs of positions are cells, pairs of examples lanes"
    grain = 1 << 6
    stopped = False

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        sink: Sink,
        dtype: np.dtype,
        tile: int | None,
        variances: Variances,
    ):
        self.variances = variances
        variances.proceed = self._proceed
        self._parts: dict[tuple[int, int, int], ProfileValues] = {}
        self._laid: dict[tuple, Any] = {}
        self._lock = threading.Lock()
        self.plan, self.profiles, self.sink = plan, profiles, sink
        rows, cols = profiles
        self.symmetric = rows is cols
        self.schedule, layouts = _scheduled(plan)
        self.layouts = list(layouts)
        one = slice(0, 1)
        probe = self._programs(one, one, dtype)
        steps = sum(program.steps for program in probe)
        single = steps <= SINGLE and not any(program.subtracts for program in probe)
        self.work = dtype if single else np.dtype(np.float64)
        self.lanes = WIDTH // self.work.itemsize
        width = tile or WIDE
        cells = sum(level.cells for level in self.schedule.levels)
        self.pairs = max(1, TASK // cells)
        height = tile or 1 << int(np.clip(np.log2(GRAIN / (cells * width)), 0, np.log2(width)))
        self.tiles = blocks(rows.size, cols.size, height, width, self.symmetric and plan.mirrored)

    def _programs(self, rows: slice, cols: slice, dtype: np.dtype) -> list[Program]:
        first, second = self._part(0, rows), self._part(1, cols)
        return [Program(layout, self.schedule, (first, second), dtype) for layout in self.layouts]

    def _part(self, side: int, rows: slice) -> ProfileValues:
        """The profile pass of some examples, kept for the tiles beside."""
        whole = self.profiles[side]
        key = id(whole), rows.start, rows.stop
        with self._lock:
            part = self._parts.pop(key, None)
            if part is None:
                part = self.variances.part(whole, rows)
            self._parts[key] = part
            while len(self._parts) > 2 and sum(p.bytes for p in self._parts.values()) > PARTS:
                del self._parts[next(iter(self._parts))]
        return part

    def _kept(self, level: int, program: Program, tile: Tile) -> Kept:
        """Hands out what was laid out for the same examples before, as long as there is room for it."""
        signature = level, program.signature

        def kept(side: int, make: Callable[[], Any]) -> Any:
            rows = (tile.rows, tile.cols)[side]
            key = side, rows.start, rows.stop, signature
            with self._lock:
                found = self._laid.pop(key, None)
            if found is None:
                found = make()
            with self._lock:
                self._laid[key] = found
                while len(self._laid) > 1 and sum(map(_bytes, self._laid.values())) > LAID:
                    del self._laid[next(iter(self._laid))]
            return found

        return kept

    def prepare(self) -> None:
        """Nothing is left to do before the threads start."""

    def tile(self, tile: Tile) -> None:
        programs = self._programs(tile.rows, tile.cols, self.work)
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        strips = [slice(k, min(k + self.lanes, width)) for k in range(0, width, self.lanes)]
        for k, program in enumerate(programs):
            program.prepare(strips, self._kept(k, program, tile))
        per_row = 8 * buffer_places(programs, 1)[1]
        block = int(np.clip(BUFFERS // max(per_row, 1), 1, height))
        scratch = np.zeros(max(p.work_cells for p in programs) * self.lanes, self.work)
        blocks = {
            kind: np.zeros((height, width, *self.plan.axes[0], *self.plan.axes[1]))
            for kind in self.sink.kinds
        }
        buffers = np.zeros(block * per_row // 8 + 1)
        for k, strip in enumerate(strips):
            own = tile.cols.start + strip.start - tile.rows.start if self.symmetric else -(1 << 40)
            last = height if not tile.mirror else min(height, own + strip.stop - strip.start)
            for low in range(0, last, block):
                high = min(low + block, last)
                starts, at = buffer_places(programs, high - low)
                buffers[:at] = 0.0
                for program in programs:
                    if program.run(k, (low, high), own, buffers, starts, scratch, self._proceed):
                        self._general(tile)
                        return
                self._collect(blocks, buffers, starts, (low, high), strip)
        self.sink.put(tile, blocks)

    def _collect(
        self,
        blocks: dict[str, np.ndarray],
        buffers: np.ndarray,
        starts: dict[int, tuple[int, int]],
        rows: tuple[int, int],
        strip: slice,
    ) -> None:
        """The outputs' buffers where their entries belong."""
        low, high = rows
        for kind, entries in self.plan.entries.items():
            for entry in entries:
                node = self.schedule.outputs[id(entry.node)]
                at, size = starts[id(node)]
                flat = buffers[at : at + size * (high - low) * self.lanes]
                grid = grid_of(node)
                sizes = [n for _, *both in grid for n in both]
                values = flat.reshape(high - low, *sizes, self.lanes)[..., : strip.stop - strip.start]
                names = [name for name, _, _ in grid]
                order = [
                    0,
                    values.ndim - 1,
                    *(1 + 2 * names.index(name) for name, _ in node.rows),
                    *(2 + 2 * names.index(name) for name, _ in node.cols),
                ]
                where = (slice(low, high), strip, *entry.rows, *entry.cols)
                goal = tuple(slice(None) if i is None else i for i in where)
                blocks[kind][goal] += entry.weight * values.transpose(order)

    def _general(self, tile: Tile) -> None:
        """A tile with pairs so close that their series do not converge: quadrature, by the general path."""
        shape = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        blocks = {
            kind: np.empty((*shape, *self.plan.axes[0], *self.plan.axes[1])) for kind in self.sink.kinds
        }
        for part in squares(*shape, general_side(self.plan), False):
            rows, cols = (
                slice(whole.start + piece.start, whole.start + piece.stop)
                for whole, piece in ((tile.rows, part.rows), (tile.cols, part.cols))
            )
            values = PairValues(*self.profiles, rows, cols, self.symmetric, self._proceed)
            for kind, block in self.plan.tile(values).items():
                blocks[kind][part.rows, part.cols] = block
        self.sink.put(tile, blocks)

    def _proceed(self) -> None:
        if self.stopped:
            raise Stopped

    def finish(self) -> None:
        self.sink.done({})


@lru_cache(maxsize=8)
def _scheduled(plan: Plan) -> tuple[Schedule, tuple[Layout, ...]]:
    """The schedule of a plan, which no data change."""
    nodes = [entry.node for entries in plan.entries.values() for entry in entries]
    if not nodes:
        raise Unsupported("nothing depends on both inputs")
    schedule = Schedule(nodes)
    return schedule, tuple(Layout(level, schedule.buffers) for level in schedule.levels)


def _bytes(laid: Laid | list[Laid]) -> int:
    return laid.bytes if isinstance(laid, Laid) else sum(one.bytes for one in laid)
