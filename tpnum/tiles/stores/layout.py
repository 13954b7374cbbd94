"""How a stored matrix is cut: one task, and one chunk of the file, per tile of a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.tiles.grid import Tile

BYTES = 32 << 20
"""Bytes of a tile of all kinds together."""
BLOCK = 1 << 12
"""Bytes of a disk's block."""
TALL = 1 << 14
"""Rows of the tallest tile."""
MANY = 8
"""Tiles that a side is cut into, down to ``SMALL`` examples each."""
SMALL = 256
SQUARE = 4
"""Tiles that follow one another are of this many slices of rows and columns, which are prepared once."""

FULL, HALF, WHOLE = "full", "half", "none"
SIDES = (FULL, HALF)
"""Both triangles from one; the upper one alone; a matrix that is not symmetric."""


@dataclass(frozen=True)
class Layout:
    """Matrices of one shape, kind by kind, in tiles of ``height`` x ``width`` pairs.

    ``symmetric`` is "full" where a tile above the diagonal is stored with its mirror image, "half" where
    the mirror image is left out, "none" where every tile is computed.
    """

    kinds: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    height: int
    width: int
    symmetric: str

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles of the rows and of the columns."""
        return -(-self.shape[0] // self.height), -(-self.shape[1] // self.width)

    @property
    def count(self) -> int:
        """How many tasks there are."""
        rows, cols = self.grid
        return rows * cols if self.symmetric == WHOLE else rows * (rows + 1) // 2

    @property
    def chunks(self) -> tuple[int, ...]:
        return (self.height, self.width, *self.shape[2:])

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * np.dtype(self.dtype).itemsize

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tasks, near ones of the grid after one another."""
        return tuple(self.tile(i, j) for i, j in self._places())

    def _places(self) -> Iterator[tuple[int, int]]:
        rows, cols = self.grid
        for top in range(0, rows, SQUARE):
            for left in range(0, cols, SQUARE):
                for j in range(left, min(left + SQUARE, cols)):
                    for i in range(top, min(top + SQUARE, rows)):
                        if self.symmetric == WHOLE or i <= j:
                            yield i, j

    def tile(self, i: int, j: int) -> Tile:
        """The tile at a place of the grid."""
        rows = slice(i * self.height, min((i + 1) * self.height, self.shape[0]))
        cols = slice(j * self.width, min((j + 1) * self.width, self.shape[1]))
        return Tile(rows, cols, mirror=self.symmetric == FULL and i != j)

    def place(self, tile: Tile) -> tuple[int, int]:
        """The place of a tile in the grid."""
        return tile.rows.start // self.height, tile.cols.start // self.width

    def name(self, tile: Tile) -> str:
        """What a message and a receipt call a tile: its place in the grid."""
        return "{}.{}".format(*self.place(tile))

    def bytes(self) -> int:
        """Bytes of all chunks of all kinds."""
        rows, cols = self.grid
        stored = self.count if self.symmetric == HALF else rows * cols
        return stored * self.chunk_bytes * len(self.kinds)

    @property
    def receipts(self) -> int:
        """Bytes on disk of the receipts, one of every tile."""
        return BLOCK * self.count

    def document(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "get": sorted(self.kinds),
            "shape": list(self.shape),
            "dtype": self.dtype,
            "tile": [self.height, self.width],
            "symmetric": self.symmetric,
        }

    @staticmethod
    def read(document: dict[str, Any]) -> Layout:
        """From its `document`."""
        height, width = map(int, document["tile"])
        kinds, shape = map(str, sorted(document["get"])), map(int, document["shape"])
        return Layout(
            tuple(kinds), tuple(shape), np.dtype(document["dtype"]).name, height, width, document["symmetric"]
        )


def on_disk(size: int) -> int:
    """Bytes that a file of a size takes: whole blocks."""
    return -(-size // BLOCK) * BLOCK


def cut(
    kinds: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: np.dtype,
    pairs: int,
    tile: int | None,
    symmetric: str,
    step: int = 1,
) -> Layout:
    """The layout of a matrix: tiles of ``tile`` rows, else as large as their bytes and ``pairs`` allow.

    Their sides are multiples of ``step``, but for the last.
    """
    n1, n2, *axes = shape
    if tile is None:
        each = math.prod(axes) * dtype.itemsize * len(kinds)
        most = max(1, min(pairs, BYTES // each))
        side = 1 << (most.bit_length() - 1) // 2
        width = _fewer(side, n2)
        height = width
        if symmetric == WHOLE:
            height = _fewer(min(1 << (most // min(width, n2)).bit_length() - 1, TALL), n1)
        height, width = (-(-size // step) * step for size in (height, width))
    else:
        width = height = tile
    return Layout(tuple(sorted(kinds)), shape, dtype.name, min(height, n1), min(width, n2), symmetric)


def _fewer(side: int, count: int) -> int:
    """A side that cuts ``count`` examples into several tiles, unless they get small."""
    while side > SMALL and count < MANY * side:
        side //= 2
    return side
