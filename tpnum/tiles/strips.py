"""Strips of a tile's columns and the rows that go against them: what the cell machine takes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tpnum.tiles.grid import Tile

if TYPE_CHECKING:
    from collections.abc import Iterator


class Piece(NamedTuple):
    """A strip of columns of a tile and some rows; ``place`` is which they are of those prepared together.

    That is the strip's number, the rows, and the row that is the strip's first column.
    """

    strip: slice
    rows: tuple[int, int]
    place: tuple[int, tuple[int, int], int]


def strips(cols: slice, lanes: int) -> list[slice]:
    """Columns, as many at a time as there are lanes, counted from the first."""
    width = cols.stop - cols.start
    return [slice(k, min(k + lanes, width)) for k in range(0, width, lanes)]


def asked(piece: Piece, unit: int, mirror: bool) -> Iterator[tuple[slice, Piece]]:
    """The lanes that the rows of a piece need, whole units of them, and what is computed with these.

    These are the lanes that have columns, and of a ``mirror`` tile none whose columns are before the row.
    The pieces are of strips of these lanes alone.
    """
    strip, (low, high), (_, (first, _), own) = piece
    past = -(-(strip.stop - strip.start) // unit) * unit
    begin = low
    while begin < high:
        row = first + begin - low
        skip = max(0, row - own) // unit * unit if mirror else 0
        end = min(high, begin + own + skip + unit - row) if mirror else high
        rows = row, row + end - begin
        part = slice(strip.start + skip, strip.stop)
        yield slice(skip, past), Piece(part, (begin, end), (0, rows, own + skip))
        begin = end


def part_of(tile: Tile, rows: slice, cols: slice) -> Tile:
    """Some rows and columns of a tile, counted from its start."""
    return Tile(inside(tile.rows, rows), inside(tile.cols, cols), tile.mirror)


def inside(whole: slice, piece: slice) -> slice:
    """A piece of a range, counted from its start."""
    return slice(whole.start + piece.start, whole.start + piece.stop)
