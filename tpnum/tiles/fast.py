"""Tiles by the machine: a Gram panel from the BLAS, then every layer of the net strip by strip in L1."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.tile import TileValues
from tpnum.kernels import machine as kernels
from tpnum.kernels.duals import closed, series
from tpnum.kernels.series import SCRATCH
from tpnum.law.threads import Stop
from tpnum.tiles.diagonal import exact_diagonals
from tpnum.tiles.directions import stacked
from tpnum.tiles.grid import Tile, beyond, panels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.panels import Panels
    from tpnum.tiles.sinks import Sink

HEIGHT = 256
PANEL = 2 << 20
"""Bytes of Gram panels per thread."""
REGISTERS = 24 << 10
"""Bytes of registers, half of a first-level cache."""
SINGLE = 16
"""Steps of a deeper program add up to more than float32 allows: it runs in float64 between float32 panels."""
NEAR = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 1e-2}
"""Where cosines are computed again from the rows (1 - |c| below this)."""


class MachineWorker:
    """Panels of a plan without index axes, into the outputs of the working dtype."""

    road, reason = "machine", "no variable has index axes: Gram panels, then all layers strip by strip"
    grain = 1 << 18
    pairs = 1 << 30

    def __init__(
        self,
        plan: Plan,
        machine: Panels,
        profiles: tuple[ProfileValues, ProfileValues],
        sink: Sink,
        dtype: np.dtype,
        tile: int | None,
    ):
        self.stop = Stop()
        self.plan, self.machine, self.profiles, self.sink, self.dtype = plan, machine, profiles, sink, dtype
        rows, cols = profiles
        self.symmetric = rows is cols
        sides = stacked(profiles, machine.grams, dtype)
        self.sides, self.grams = sides.directions, sides.places
        self.x, self.frames = sides.x, sides.frames
        self.work = dtype if machine.steps <= SINGLE else np.dtype(np.float64)
        self.tables = machine.tables.arrays(self.work, (rows.size, cols.size))
        with np.errstate(over="ignore"):
            self.params = machine.numbers.flat(self.work)
        self.duals = (*closed(machine.duals, self.work), series(bool(machine.tables.entries), self.work))
        strip = REGISTERS // (machine.registers * self.work.itemsize) // 64 * 64
        self.strip = int(np.clip(strip, 64, 4096 // self.work.itemsize))
        height = tile or HEIGHT
        per_row = max(1, len(machine.grams)) * dtype.itemsize
        height = max(1, min(height, PANEL // per_row))
        width = max(1, PANEL // (height * per_row))
        if width > self.strip:
            width = width // self.strip * self.strip
        self.tiles = panels(rows.size, cols.size, height, width, self.symmetric and plan.mirrored)
        self.zero = [kind for kind in sink.kinds if not plan.entries[kind]]
        self._local = threading.local()

    def prepare(self) -> None:
        """Nothing is left to do before the threads start."""

    def tile(self, tile: Tile) -> None:
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        count = len(self.machine.grams)
        panel = self._buffer("panel", (count, height, width))
        for k, (a, b) in enumerate(self.grams):
            np.dot(self.sides[0][a].unit(tile.rows), self.sides[1][b].unit(tile.cols).T, out=panel[k])
        direct = self._direct()
        many = self._buffer("many", (0, 1, 1) if direct else (len(self.machine.outputs), height, width))
        empty = np.empty((0, 0), self.dtype)
        missed = np.zeros((height, -(-width // kernels.BLOCK)), np.int64)
        kernels.run(
            self.machine.code,
            panel,
            self.grams,
            (*self.x, *self.frames),
            NEAR[self.dtype],
            self.params,
            self.tables,
            (
                self._buffer("registers", (self.machine.registers, self.strip), self.work),
                self._buffer("extra", (SCRATCH, self.strip), self.work),
            ),
            (*(direct or (empty, empty)), many, missed),
            (tile.rows.start, tile.cols.start),
            tile.mirror,
            *self.duals,
        )
        if direct is None:
            blocks = self._collect(many)
            for part, found in self._again(tile, missed):
                at = tuple(
                    slice(piece.start - whole.start, piece.stop - whole.start)
                    for piece, whole in ((part.rows, tile.rows), (part.cols, tile.cols))
                )
                for kind, block in blocks.items():
                    block[at] = found[kind]
            self.sink.put(tile, blocks)
        else:
            for part, found in self._again(tile, missed):
                self.sink.put(part, found)
        shape = (height, width, *self.plan.axes[0], *self.plan.axes[1])
        self.sink.put(tile, dict.fromkeys(self.zero, np.broadcast_to(np.zeros((), self.dtype), shape)))

    def _again(self, tile: Tile, missed: np.ndarray) -> Iterator[tuple[Tile, dict[str, np.ndarray]]]:
        """Rows of strips with pairs so close that their series do not converge, by the general path."""
        for part in beyond(tile, missed, kernels.BLOCK, self.strip):
            values = TileValues(*self.profiles, part.rows, part.cols, self.symmetric, self.stop)
            yield part, self.plan.tile(values)

    def _direct(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The arrays that outputs 0 and 1 can be written to, if nothing else is stored."""
        if self.sink.arrays is None:
            return None
        kinds = [kind for kind, _ in self.machine.outputs]
        arrays = [self.sink.arrays[kind] for kind in kinds]
        if len(set(kinds)) != len(kinds) or any(a.ndim != 2 or not a.flags.c_contiguous for a in arrays):
            return None
        arrays = [np.asarray(a) for a in arrays]
        if not arrays:
            return None
        return arrays[0], arrays[1] if len(arrays) > 1 else np.empty((0, 0), self.dtype)

    def _collect(self, many: np.ndarray) -> dict[str, np.ndarray]:
        """Entries of output axes or channel blocks, put and added where they belong."""
        blocks: dict[str, np.ndarray] = {}
        for n, (kind, k) in enumerate(self.machine.outputs):
            entry = self.plan.entries[kind][k]
            if kind not in blocks:
                shape = (*many.shape[1:], *self.plan.axes[0], *self.plan.axes[1])
                blocks[kind] = np.zeros(shape, self.dtype)
            at: tuple[Any, ...] = (slice(None), slice(None), *entry.rows, *entry.cols)
            blocks[kind][at] += many[n]
        return blocks

    def finish(self) -> None:
        own = self.symmetric and not self.plan.axes[0]
        self.sink.done(exact_diagonals(self.plan, self.profiles[0]) if own else {})

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype | None = None) -> np.ndarray:
        """This thread's scratch array of a given shape, C-contiguous."""
        size = int(np.prod(shape))
        flat = getattr(self._local, name, None)
        if flat is None or flat.size < size:
            flat = np.empty(size, dtype or self.dtype)
            setattr(self._local, name, flat)
        return flat[:size].reshape(shape)
