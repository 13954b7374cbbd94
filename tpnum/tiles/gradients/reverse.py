"""Derivatives of kernels by compiled adjoints, panel by panel: whole, or contracted with weights."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.kernels import curves, machine, reverse
from tpnum.kernels import series as expansions
from tpnum.kernels.duals import closed, series
from tpnum.tiles.directions import stacked
from tpnum.tiles.fast import HEIGHT, NEAR, PANEL
from tpnum.tiles.grid import Tile, beyond, panels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.reverse import Tape

REGISTERS = 256 << 10
"""Bytes of registers, a part of a second-level cache."""
SCRATCH = max(curves.SCRATCH, expansions.SCRATCH)
"""Strips that either works in, one after the other."""


class Contracted(NamedTuple):
    """Sums of channels over a tile, (channels, rows), (channels, cols), and adjoints of its Gram panels."""

    rows: np.ndarray
    cols: np.ndarray
    grams: np.ndarray


class Adjoints:
    """A tape over the panels of a matrix; of a symmetric one above the diagonal, which is left out."""

    def __init__(self, tape: Tape, profiles: tuple[ProfileValues, ProfileValues], symmetric: bool):
        self.tape, self.profiles, self.symmetric = tape, profiles, symmetric
        self.work = np.dtype(np.float64)
        sides = stacked(profiles, tape.grams, self.work)
        self.sides, self.grams = sides.directions, sides.places
        self.data = (*sides.x, *sides.frames)
        sizes = profiles[0].size, profiles[1].size
        self.series = tape.series.arrays(self.work, sizes)
        self.curves = tape.curves.arrays(sizes)
        self.duals = (*closed(tape.duals, self.work), series(bool(tape.series.entries), self.work))
        strip = REGISTERS // (max(tape.registers, 1) * 8) // machine.BLOCK * machine.BLOCK
        self.strip = int(np.clip(strip, machine.BLOCK, 4 * machine.BLOCK))
        per_row = max(1, len(tape.grams)) * 8
        width = max(self.strip, PANEL // (HEIGHT * per_row) // self.strip * self.strip)
        self.size = HEIGHT, width
        self.tiles = panels(*sizes, *self.size, symmetric)
        self._local = threading.local()

    def spread(self, tile: Tile, out: np.ndarray) -> np.ndarray:
        """Write the derivatives (P, N1, N2) of a tile and its mirror image; what series do not reach."""
        return self._run(tile, None, len(out), out)[1]

    def contract(self, tile: Tile, weights: np.ndarray) -> tuple[Contracted, np.ndarray]:
        """The weighted sums over a tile (R, C), and what series do not reach, which they lack."""
        none = np.empty((0, 0, 0))
        (_, firsts, seconds, backs), missed = self._run(tile, weights, 0, none)
        return Contracted(firsts, seconds, backs), missed

    def summed(self, tile: Tile, weights: np.ndarray) -> np.ndarray:
        """The derivatives (P, R) of a tile's sums over its columns, with weights (R, C)."""
        count = self.tape.channels.active.shape[1]
        sums: np.ndarray = self._run(tile, weights, count, np.empty((0, 0, 0)))[0][0]
        return sums

    def _run(
        self, tile: Tile, weights: np.ndarray | None, parameters: int, out: np.ndarray
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        tape = self.tape
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        panel = self._buffer("panel", (len(tape.grams), height, width))
        for k, (a, b) in enumerate(self.grams):
            np.dot(self.sides[0][a].unit(tile.rows), self.sides[1][b].unit(tile.cols).T, out=panel[k])
        channels = len(tape.channels.active)
        sums = np.zeros((parameters, height))
        firsts, seconds = (np.zeros((channels, 0 if parameters else n)) for n in (height, width))
        back = any(op == reverse.GRAMS for op in tape.code[:, 0])
        backs = np.zeros((len(tape.grams), height, width) if back and not parameters else (0, 0, 0))
        missed = np.zeros((height, -(-width // machine.BLOCK)), np.int64)
        work = (
            self._buffer("registers", (tape.registers, self.strip)),
            self._buffer("extra", (SCRATCH, self.strip)),
            np.zeros((parameters, self.strip)),
            np.empty((0, 0)) if weights is None else weights,
        )
        reverse.run(
            tape.code, tape.ends, panel, self.grams, self.data, NEAR[self.work], (tape.rows, tape.cols),
            self.series, self.curves, (tape.channels.active, tape.channels.rows, tape.channels.cols), work,
            (out, sums, firsts, seconds, backs), missed, (tile.rows.start, tile.cols.start), tile.mirror,
            *self.duals,
        )  # fmt: skip
        return (sums, firsts, seconds, backs), missed

    def beyond(self, tile: Tile, missed: np.ndarray) -> Iterator[Tile]:
        """Pieces of a tile that series do not reach, rows of strips."""
        return beyond(tile, missed, machine.BLOCK, self.strip)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """This thread's scratch array of a given shape."""
        size = int(np.prod(shape))
        flat: Any = getattr(self._local, name, None)
        if flat is None or flat.size < size:
            flat = np.empty(size)
            setattr(self._local, name, flat)
        made: np.ndarray = flat[:size].reshape(shape)
        return made
