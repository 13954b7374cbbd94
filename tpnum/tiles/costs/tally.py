"""Costs of a kernel matrix from those of its parts: how many there are of each, seconds, and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Cut:
    """Tiles of ``height`` x ``width`` pairs, whose rows go against strips of ``lanes`` columns.

    ``unit``: lanes cost the same with columns and without by so many of them, which of a symmetric matrix go
    against no rows behind them; 0 where columns cost what they are.  ``slab`` examples are prepared together,
    those of whole tiles.
    """

    height: int
    width: int
    lanes: int
    symmetric: bool
    unit: int
    slab: int

    def work(self, n: int) -> tuple[float, float]:
        """Of n x n pairs the tiles and the rows of all strips, as many as whole ones would take as long."""
        tiles = -(-self._reach(n, self.width) // self.height)
        width = self.unit or self.lanes
        first = np.arange(0, n, width)
        last = np.minimum(first + width, n)
        rows = last if self.symmetric else np.full_like(last, n)
        strips = rows * (np.full_like(last, width) if self.unit else last - first) / self.lanes
        return float(tiles.sum()), float(strips.sum())

    def slabs(self, n: int) -> float:
        """Of n x n pairs those of slabs."""
        return float((-(-self._reach(n, self.slab) // self.slab)).sum())

    def fresh(self, n: int, room: float, times: int) -> float:
        """How many examples are prepared if what was made is kept for ``room`` of them, the latest.

        Slabs that share their columns follow one another; ``times``: rows and columns have their own, or
        share it.
        """
        reach = self._reach(n, self.slab)
        rows = np.where(reach + (times - 1) * self.slab > room, reach, np.diff(reach, prepend=0))
        return float(rows.sum()) + (times - 1) * n

    def _reach(self, n: int, width: int) -> np.ndarray:
        """The rows that columns go against, so many at a time."""
        ends = np.minimum(np.arange(0, n, width) + width, n)
        return ends if self.symmetric else np.full_like(ends, n)


class Side(NamedTuple):
    """What is prepared for an example of a tile, in seconds and bytes, and for how many it is kept.

    ``times``: rows and columns have their own, or share it.
    """

    seconds: float
    bytes: float
    room: float
    times: int


class Memory(NamedTuple):
    """Bytes that a worker holds: at all events, per example, and per thread.

    ``making`` are those per example, for as many as are looked at together, while the worker is made: before
    there are threads.
    """

    base: float
    example: float
    making: float
    together: float
    thread: float


class Tally(NamedTuple):
    """Processor seconds: once, per example, tile, pair of slabs, of what is prepared, per row of a strip.

    ``strips`` are by region; ``pairs`` are those that were computed.
    """

    cut: Cut
    once: float
    example: float
    tile: float
    slab: float
    sides: tuple[Side, ...]
    strips: tuple[float, ...]
    memory: Memory
    grain: int
    pairs: int

    @property
    def inputs(self) -> float:
        """Per pair of a whole tile, what is prepared for it."""
        size = self.cut.slab
        slabs = (self.slab + sum(side.seconds * side.times for side in self.sides) * size) / size**2
        return self.tile / (self.cut.height * self.cut.width) + slabs

    @property
    def regions(self) -> tuple[float, ...]:
        """Per pair of a whole tile, what each region takes."""
        per_row = -(-self.cut.width // self.cut.lanes) / self.cut.width
        return tuple(per_row * strip for strip in self.strips)

    def threads(self, n: int, cores: int) -> int:
        """How many of the threads find work."""
        tiles, _ = self.cut.work(n)
        return int(max(1, min(cores, tiles, n * (n + 1) // 2 // self.grain)))

    def seconds(self, n: int, cores: int) -> float:
        """Wall-clock seconds of the symmetric n x n matrix, if threads do not hinder each other."""
        tiles, rows = self.cut.work(n)
        prepared = sum(side.seconds * self.cut.fresh(n, side.room, side.times) for side in self.sides)
        prepared += self.slab * self.cut.slabs(n)
        shared = self.tile * tiles + prepared + sum(self.strips) * rows
        return self.once + self.example * n + shared / self.threads(n, cores)

    def bytes(self, n: int, cores: int) -> float:
        """The most bytes at any time beside inputs and results."""
        memory = self.memory
        kept = sum(side.bytes * min(side.times * n, side.room) for side in self.sides)
        part = min(1.0, n / self.cut.height) * min(1.0, n / self.cut.width)
        held = memory.example * n + kept + memory.thread * part * self.threads(n, cores)
        return memory.base + max(held, memory.making * min(n, memory.together))
