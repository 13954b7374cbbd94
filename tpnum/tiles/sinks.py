"""Where finished tiles go: a sink is opened, is given every tile once, and is told when all are there.

Workers make nothing but tiles; the sink writes their mirror images and the exact diagonal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from tpnum.errors import LimitError
from tpnum.kernels.blocks import turn
from tpnum.kernels.gram import mirror

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.tiles.grid import Tile

STRIP = 64
"""Rows that are turned at a time."""


class Sink(Protocol):
    """Takes the tiles of a kernel matrix, kind by kind: (rows, columns, *row axes, *column axes) each."""

    kinds: tuple[str, ...]
    dtype: np.dtype

    @property
    def arrays(self) -> Mapping[str, np.ndarray] | None:
        """The matrices, where a compiled kernel may write a tile and its mirror image in place, else None."""

    def open(self) -> None:
        """Make room, before the first tile."""

    def put(self, tile: Tile, blocks: Mapping[str, np.ndarray]) -> None:
        """Take a tile of some kinds and, if it says so, its mirror image; from any thread."""

    def done(self, diagonals: Mapping[str, np.ndarray]) -> None:
        """All tiles are there; ``diagonals`` (N,) are exact where they are known."""


class ArraySink:
    """Arrays of one shape and dtype, in memory or mapped from files."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.kinds = tuple(arrays)
        self.dtype = next(iter(arrays.values())).dtype
        self._arrays = arrays

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        return self._arrays

    def open(self) -> None:
        """The arrays are there already."""

    def put(self, tile: Tile, blocks: Mapping[str, np.ndarray]) -> None:
        for kind, block in blocks.items():
            check_finite(block, kind, tile, self.dtype)
            put(self.arrays[kind], tile, block)

    def done(self, diagonals: Mapping[str, np.ndarray]) -> None:
        for kind, diagonal in diagonals.items():
            np.fill_diagonal(self.arrays[kind], diagonal)


def put(out: np.ndarray, tile: Tile, block: np.ndarray) -> None:
    """Write a block (rows, cols, *row axes, *column axes) and its mirror image into a whole matrix.

    Of a symmetric matrix only what the block has above the diagonal is read: it is symmetric to the bit.
    """
    top, bottom, start, stop = tile.rows.start, tile.rows.stop, tile.cols.start, tile.cols.stop
    if not tile.mirror:
        out[top:bottom, start:stop] = block
        return
    past = min(max(bottom, start), stop)  # from here on all rows are above the diagonal
    out[top:bottom, past:stop] = block[:, past - start :]
    for i in range(top, min(bottom, past)):
        at = max(i, start)
        out[i, at:past] = block[i - top, at - start : past - start]
    if block.ndim == 2 and out.flags.c_contiguous:  # one machine code a precision
        mirror(np.ascontiguousarray(block, out.dtype), out, top, start)
        return
    if out.flags.c_contiguous:
        axes = block.shape[2 : block.ndim // 2 + 1], block.shape[block.ndim // 2 + 1 :]
        sizes = int(np.prod(axes[0])), int(np.prod(axes[1]))
        whole = out.reshape(*out.shape[:2], sizes[1], sizes[0])
        turn(np.ascontiguousarray(block, out.dtype).reshape(*block.shape[:2], *sizes), whole, top, start)
        return
    mirrored = flipped(block)
    out[past:stop, top:bottom] = mirrored[past - start :]
    for i in range(top, min(bottom, past)):
        beyond = max(i + 1, start)
        out[beyond:past, i] = mirrored[beyond - start : past - start, i - top]


def flipped(block: np.ndarray) -> np.ndarray:
    """The mirror image of a block: rows and columns exchanged, examples and index axes alike."""
    half = block.ndim // 2 - 1
    return block.transpose(1, 0, *range(2 + half, block.ndim), *range(2, 2 + half))


def turned(block: np.ndarray) -> np.ndarray:
    """The mirror image of a block as an array of its own, made by strips that stay in the cache."""
    made = np.empty(flipped(block).shape, block.dtype)
    for i in range(0, len(block), STRIP):
        made[:, i : i + STRIP] = flipped(block[i : i + STRIP])
    return made


def check_finite(block: np.ndarray, kind: str, tile: Tile, dtype: np.dtype) -> None:
    """Refuse a block with an entry that is no number or does not fit the type of the result."""
    most = float(np.finfo(dtype).max)
    if block.size and -most <= block.min() and block.max() <= most:  # what is no number comes through both
        return
    if not (np.abs(block) <= most).all():
        bad = np.argwhere(~(np.abs(block) <= most))[0]
        raise LimitError(
            f"the {kind} of examples {tile.rows.start + bad[0]} and {tile.cols.start + bad[1]} is not "
            f"finite in {dtype}; scale the inputs or the weights down"
        )
