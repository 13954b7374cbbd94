"""How large the tiles of nets with index axes are, and how many examples are prepared together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

WIDE = 64
"""Column examples of a tile, as many as rows if these are fewer, but at least a strip."""
SHARES = 8
"""Tiles along a side of a large matrix, or more: they are shared by all processors."""
GRAIN = 1 << 28
"""Cells of all pairs of a tile."""
WORTH = 1 << 20
"""As many pay for a tile of their own."""
HEIGHTS = 4
"""Tiles below each other, or more, of a small matrix: they are shared too."""
OUTPUT = 16 << 20
"""Bytes of a tile's outputs: those of many positions are allocated again without new pages."""
LAID = 96 << 20
"""Bytes of numbers that are kept laid out."""
SLAB = 48 << 20
"""Bytes that are made for the examples that are prepared together."""
MANY = 1 << 11
"""The most examples that are prepared together."""
READY = 4
"""Pairs of slabs whose programs are kept."""


class Extents(NamedTuple):
    """Row and column examples of a tile, examples prepared together, and how many pairs of such are kept."""

    height: int
    width: int
    slab: int
    ready: int


def extents(
    cells: int,
    entries: int,
    laid: float,
    lanes: int,
    many: int,
    held: Callable[[], float],
    tile: int | None = None,
) -> Extents:
    """The sizes for pairs of so many cells and outputs, ``many`` examples a side, or those of a given tile.

    ``laid`` and ``held()`` are the bytes of an example: of its numbers laid out, and of its profile pass.
    """
    fit = np.log2(max(1.0, min(GRAIN / cells, OUTPUT / (8 * entries))))
    width, wide = lanes, _wide(fit, laid, many)
    while 2 * width <= wide:  # whole strips
        width *= 2
    width = tile or width
    most = 0.0 if tile or many <= width else min(MANY, SLAB / max(1.0, laid + held()))
    slab = width * max(1, int(most / width))  # whole tiles
    ready = int(np.clip(LAID / max(1.0, slab * laid), 1, READY))
    height = width  # rows of a tile share what is laid out of its columns
    while not tile and height % 2 == 0:
        shared = HEIGHTS * height > many and height * width * cells > WORTH
        if not shared and height * width <= 2**fit:
            break
        height //= 2
    return Extents(height, width, slab, ready)


def _wide(fit: float, laid: float, many: int) -> int:
    """How many columns a tile has, more of a large matrix, where they are cheap; 0 where they are dear."""
    if WIDE * laid > LAID:
        return 0
    fitting = 1 << int(fit / 2)
    wide = min(WIDE, fitting)
    while 2 * wide <= min(fitting, many // SHARES, LAID / (2 * laid)):
        wide *= 2
    return wide
