"""What is prepared for the examples of a slab, found by preparing some: seconds and bytes."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tpnum.tiles.costs.stopwatch import first_touch, least, peak_of, tracing
from tpnum.tiles.costs.tally import Side
from tpnum.tiles.grid import Tile

if TYPE_CHECKING:
    from tpnum.tiles.cells import CellWorker


def preparation(worker: CellWorker, tile: Tile) -> tuple[tuple[Side, Side], float, float]:
    """The profile pass and the numbers of an example, what a pair of slabs takes, bytes of a tile."""
    ready = partial(worker.ready, tile)
    both = least(ready, worker.forget)
    laid = least(ready, partial(worker.forget, parts=False))
    few = _few(worker, tile)
    with tracing():
        worker.forget()
        before = tracemalloc.get_traced_memory()[0]
        fresh = peak_of(partial(worker.tile, tile))
        held = tracemalloc.get_traced_memory()[0] - before
        thread = max(fresh - held, peak_of(partial(worker.tile, tile)))
        (parts, bound), (numbers, most) = worker.kept()
        near = _diagonal(worker, tile)
        worker.ready(near)
        thread = max(thread, peak_of(partial(worker.tile, near)))
    slabs = worker.slabs(tile)
    size = sum(piece.stop - piece.start for piece in slabs)
    own = 1 if worker.symmetric else 2
    passed = size // 2 if own == 1 and slabs[0] == slabs[1] else size
    each = (laid - few[0]) / (size - few[1]) if size > few[1] else laid / size
    each = float(np.clip(each, 0.0, laid / size))
    new = first_touch()
    kept = max(0.0, held - numbers) / passed
    passes = Side(max(0.0, both - laid) / passed + new * kept, kept, passed * bound / max(parts, 1), own)
    laying = Side(each + new * numbers / size, numbers / size, size * most / max(numbers, 1), 2)
    return (passes, laying), max(0.0, laid - each * size), thread


def _diagonal(worker: CellWorker, tile: Tile) -> Tile:
    """The tile on the diagonal of a symmetric matrix, where lanes are left out, or the tile itself."""
    if not worker.symmetric or not worker.plan.mirrored:
        return tile
    start, stop = tile.cols.start, tile.cols.start + tile.rows.stop - tile.rows.start
    return Tile(slice(start, min(stop, tile.cols.stop)), tile.cols, True)


def _few(worker: CellWorker, tile: Tile) -> tuple[float, int]:
    """Seconds of what is prepared of small slabs, and of how many examples it is."""
    whole = worker.slab
    worker.slab = min(whole, worker.lanes)
    try:
        first, second = (slice(piece.start, piece.start + 1) for piece in (tile.rows, tile.cols))
        small = Tile(first, second, False)
        taken = least(partial(worker.ready, small), partial(worker.forget, parts=False))
        return taken, sum(piece.stop - piece.start for piece in worker.slabs(small))
    finally:
        worker.slab = whole
        worker.forget()
