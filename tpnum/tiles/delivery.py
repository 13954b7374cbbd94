"""Kernels from the buffers of a strip into matrices in memory, mirror images too."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.kernels.blocks import deliver
from tpnum.tiles.grid import Tile
from tpnum.tiles.sinks import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.plan import Entry, Plan
    from tpnum.tiles.sinks import Sink

    Source = Callable[[Entry], tuple[np.ndarray, np.ndarray]]
    """Where an entry's buffer has the positions, (*axes), and the buffer, (rows, cells, lanes)."""


class Matrix(NamedTuple):
    """A kind of kernel, its whole matrix (N1, N2, P, Q), and what is added up in it."""

    kind: str
    whole: np.ndarray
    entries: tuple[Entry, ...]


def matrices(plan: Plan, sink: Sink) -> list[Matrix]:
    """Those that can be written to at once, none where outputs are not so."""
    arrays = sink.arrays
    if arrays is None or bool(plan.axes[0]) != bool(plan.axes[1]):
        return []
    sizes = [int(np.prod(axes)) for axes in plan.axes]
    found = []
    for kind, entries in plan.entries.items():
        apart = any(i is not None for entry in entries for i in (*entry.rows, *entry.cols))
        if not entries or apart or not arrays[kind].flags.c_contiguous:
            return []
        out = np.asarray(arrays[kind])
        found.append(Matrix(kind, out.reshape(*out.shape[:2], *sizes), entries))
    return found


def write(matrix: Matrix, part: Tile, source: Source) -> None:
    """Some rows and columns of a matrix; of a mirrored part what is above the diagonal, and its image."""
    whole, most = matrix.whole, float(np.finfo(matrix.whole.dtype).max)
    corner, pairs = (part.rows.start, part.cols.start), part.cols.stop - part.cols.start
    for k, entry in enumerate(matrix.entries):
        place, given = source(entry)
        place = np.ascontiguousarray(place.reshape(whole.shape[2:]))
        if not deliver(whole, corner, pairs, place, given, float(entry.weight), k > 0, part.mirror, most):
            check_finite(whole[part.rows, part.cols], matrix.kind, part, whole.dtype)
