"""Tiles of nets with index axes: the levels of a schedule, strip by strip of column examples."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.general import PairValues
from tpnum.kernels._views import WIDTH
from tpnum.lower.blocks import BlockLevel, BlockProgram, runs
from tpnum.lower.compiler import Unsupported
from tpnum.lower.network import grid_of
from tpnum.lower.program import Laid, Program, buffer_places
from tpnum.lower.regions import program, regions
from tpnum.tiles.diagonal import write_diagonal
from tpnum.tiles.grid import Tile, blocks, check_finite, general_side, put, squares
from tpnum.tiles.pool import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.program import Kept
    from tpnum.lower.variances import Variances

BUFFERS = 8 << 20
"""Bytes of buffers between levels per thread."""
WIDE = 64
"""Column examples of a tile."""
GRAIN = 1 << 26
"""Cells of all pairs of a tile."""
PARTS = 48 << 20
"""Bytes of profile passes that are kept."""
LAID = 64 << 20
"""Bytes of numbers that are kept laid out."""
SINGLE = 16
"""Steps beyond which float32 is not enough within a pair, as it is not where correlations are subtracted."""
AXES = "variables have index axes: pairs of positions are cells, pairs of examples lanes"
NO_AXES = "no variable has index axes, but some are not compiled: regions of one cell"


class CellWorker:
    """Tiles of a plan by the cell machine, and by the general path's rules where it has no instructions."""

    road = "cells"
    grain = 1 << 6
    stopped = False

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        outs: dict[str, np.ndarray],
        dtype: np.dtype,
        tile: int | None,
        variances: Variances,
    ):
        self.variances = variances
        variances.proceed = self._proceed
        self._parts: dict[tuple[int, int, int], ProfileValues] = {}
        self._laid: dict[tuple, Any] = {}
        self._lock = threading.Lock()
        self.plan, self.profiles, self.outs, self.dtype = plan, profiles, outs, dtype
        rows, cols = profiles
        self.symmetric = rows is cols
        nodes = [entry.node for entries in plan.entries.values() for entry in entries]
        if not nodes:
            raise Unsupported("nothing depends on both inputs")
        one = slice(0, 1)
        self.schedule, self.layouts, probe = regions(nodes, (self._part(0, one), self._part(1, one)), dtype)
        alone = dict.fromkeys(one.reason for one in self.schedule.levels if isinstance(one, BlockLevel))
        self.reason = "; ".join([AXES if plan.has_axes else NO_AXES, *alone])
        steps = sum(one.steps for one in probe)
        single = steps <= SINGLE and not any(one.subtracts for one in probe)
        self.work = dtype if single else np.dtype(np.float64)
        self.lanes = WIDTH // self.work.itemsize
        width = tile or WIDE
        cells = sum(level.cells for level in self.schedule.levels)
        height = tile or 1 << int(np.clip(np.log2(GRAIN / (cells * width)), 0, np.log2(width)))
        self.tiles = blocks(rows.size, cols.size, height, width, self.symmetric and plan.mirrored)

    def _programs(self, rows: slice, cols: slice, dtype: np.dtype) -> list[Program | BlockProgram]:
        both = self._part(0, rows), self._part(1, cols)
        return [program(layout, self.schedule, both, dtype) for layout in self.layouts]

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

    def _kept(self, level: int, program: Program | BlockProgram, tile: Tile) -> Kept:
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
        try:
            programs = self._programs(tile.rows, tile.cols, self.work)
        except Unsupported:  # of other kinds than the first example
            self._put(tile, self._general(tile))
            return
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        strips = [slice(k, min(k + self.lanes, width)) for k in range(0, width, self.lanes)]
        for k, one in enumerate(programs):
            one.prepare(strips, self._kept(k, one, tile))
        per_row = 8 * buffer_places(programs, 1)[1]
        block = int(np.clip(BUFFERS // max(per_row, 1), 1, height))
        scratch = np.zeros(max(p.work_cells for p in programs) * self.lanes, self.work)
        blocks = {
            kind: np.zeros((height, width, *self.plan.axes[0], *self.plan.axes[1])) for kind in self.outs
        }
        buffers = np.zeros(block * per_row // 8 + 1)
        missed = np.zeros(block, np.int64)
        for k, strip in enumerate(strips):
            own = tile.cols.start + strip.start - tile.rows.start if self.symmetric else -(1 << 40)
            last = height if not tile.mirror else min(height, own + strip.stop - strip.start)
            for low in range(0, last, block):
                high = min(low + block, last)
                starts, at = buffer_places(programs, high - low)
                buffers[:at] = 0.0
                missed[:] = 0
                for one in programs:
                    one.run(k, (low, high), own, buffers, starts, scratch, missed, self._proceed)
                self._collect(blocks, buffers, starts, (low, high), strip)
                for begin, end in runs(missed[: high - low] > 0):
                    self._again(blocks, tile, slice(low + begin, low + end), strip)
        self._put(tile, blocks)

    def _put(self, tile: Tile, blocks: dict[str, np.ndarray]) -> None:
        for kind, found in blocks.items():
            check_finite(found, kind, tile, self.dtype)
            put(self.outs[kind], tile, found, len(self.plan.axes[0]))

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

    def _again(self, blocks: dict[str, np.ndarray], tile: Tile, rows: slice, strip: slice) -> None:
        """Rows of a strip with pairs so close that their series do not converge."""
        part = Tile(_inside(tile.rows, rows), _inside(tile.cols, strip), False)
        for kind, found in self._general(part).items():
            blocks[kind][rows, strip] = found

    def _general(self, tile: Tile) -> dict[str, np.ndarray]:
        """A tile by the general path, with quadrature where series do not converge."""
        shape = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        blocks = {kind: np.empty((*shape, *self.plan.axes[0], *self.plan.axes[1])) for kind in self.outs}
        for part in squares(*shape, general_side(self.plan), False):
            rows, cols = _inside(tile.rows, part.rows), _inside(tile.cols, part.cols)
            values = PairValues(*self.profiles, rows, cols, self.symmetric, self._proceed)
            for kind, block in self.plan.tile(values).items():
                blocks[kind][part.rows, part.cols] = block
        return blocks

    def _proceed(self) -> None:
        if self.stopped:
            raise Stopped

    def finish(self) -> None:
        for kind in self.outs:
            if not self.plan.entries[kind]:
                self.outs[kind][...] = 0.0
        if self.symmetric and not self.plan.has_axes and not self.plan.axes[0]:
            write_diagonal(self.plan, self.profiles[0], self.outs)


def _inside(whole: slice, piece: slice) -> slice:
    """A piece of a range, counted from its start."""
    return slice(whole.start + piece.start, whole.start + piece.stop)


def _bytes(laid: Laid | list[Laid]) -> int:
    return laid.bytes if isinstance(laid, Laid) else sum(one.bytes for one in laid)
