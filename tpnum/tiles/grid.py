"""How a kernel matrix is cut into tiles, each written once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.blocks import shape
from tpnum.law import graph
from tpnum.lower.blocks import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.evaluate.plan import Plan


BUDGET = 1 << 20
"""Numbers that the general path may hold per node and tile: such that passes over them stay in the caches."""

HELD = 1 << 23
"""Numbers that a way back may hold per tile."""

SAMPLED = 16
"""Examples per tile where a pair takes milliseconds."""


def general_side(plan: Plan) -> int:
    """Examples per tile such that the largest node of the general path fits the budget."""
    nodes = graph.schedule([entry.node for entries in plan.entries.values() for entry in entries])
    largest = max((prod(shape(node, 1, 1)) for node in nodes), default=1)
    most = SAMPLED if any(isinstance(node, graph.Attention) for node in nodes) else 256
    return int(np.clip(np.sqrt(BUDGET / largest), 1, most))


def adjoint_side(plan: Plan) -> int:
    """The same for a way back, which holds all nodes at once."""
    nodes = graph.schedule([entry.node for entries in plan.entries.values() for entry in entries])
    total = sum(prod(shape(node, 1, 1)) for node in nodes)
    return int(np.clip(np.sqrt(HELD / max(total, 1)), 1, general_side(plan)))


@dataclass(frozen=True)
class Tile:
    """Rows x columns of the matrix; ``mirror`` where its transpose is to be written too."""

    rows: slice
    cols: slice
    mirror: bool

    @property
    def entries(self) -> int:
        return (self.rows.stop - self.rows.start) * (self.cols.stop - self.cols.start)


def blocks(n1: int, n2: int, height: int, width: int, symmetric: bool) -> list[Tile]:
    """Tiles of a height that divides the width; of a symmetric matrix those that reach above the diagonal.

    Tiles that share their columns follow one another.
    """
    tiles = []
    for c in range(0, n2, width):
        cols = slice(c, min(c + width, n2))
        for r in range(0, min(n1, cols.stop) if symmetric else n1, height):
            tiles.append(Tile(slice(r, min(r + height, n1)), cols, mirror=symmetric))
    return tiles


def squares(n1: int, n2: int, side: int, symmetric: bool) -> list[Tile]:
    """Square tiles; of a symmetric matrix the upper half, the diagonal ones whole."""
    return blocks(n1, n2, side, side, symmetric)


def panels(n1: int, n2: int, height: int, width: int, symmetric: bool) -> list[Tile]:
    """Low wide tiles for the BLAS; of a symmetric matrix those right of the diagonal, largest first."""
    tiles = []
    for r in range(0, n1, height):
        for c in range(r if symmetric else 0, n2, width):
            rows, cols = slice(r, min(r + height, n1)), slice(c, min(c + width, n2))
            tiles.append(Tile(rows, cols, mirror=symmetric))
    return sorted(tiles, key=lambda tile: -tile.entries)


def beyond(tile: Tile, missed: np.ndarray, block: int, strip: int) -> Iterator[Tile]:
    """The pieces of a tile that series do not reach, by strips: rows that ``missed`` (rows, strips) counts.

    Strips begin at multiples of ``block`` columns; what is below the diagonal is mirrored, and in no piece.
    """
    for number in np.flatnonzero(missed.any(axis=0)):
        first = tile.cols.start + int(number) * block
        for begin, end in runs(missed[:, number] > 0):
            rows = slice(tile.rows.start + begin, tile.rows.start + end)
            low = max(first, rows.start if tile.mirror else 0)
            high = min(first + strip, tile.cols.stop)
            if low < high:
                yield Tile(rows, slice(low, high), tile.mirror)
