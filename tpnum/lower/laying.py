"""What the machine reads of some examples, laid out in flat arrays: numbers, constants, data and series."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.kernels._arrays import aligned, aligned_copy
from tpnum.lower.numbers import axes_of, padded, positions

if TYPE_CHECKING:
    from tpnum.lower.numbers import Number
    from tpnum.lower.select import Selection

ROWS = 1 << 8
"""Examples' positions whose coefficients are made together: a cache holds them."""


class Laid(NamedTuple):
    """What the machine reads of some examples: numbers, data and series in flat arrays, and constants.

    ``starts`` are where each block of numbers, each data line and each series begins, ``counts`` the
    numbers of each block, ``channels`` those of each data line, ``terms`` those of each series.
    """

    flat: tuple[np.ndarray, np.ndarray, np.ndarray]
    constants: np.ndarray
    starts: tuple[list[int], ...]
    counts: list[int]
    channels: list[int]
    terms: list[int]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.flat)


def lay(
    selection: Selection, side: int, strips: list[slice], dtype: np.dtype, lanes: int | None = None
) -> list[Laid]:
    """The numbers, constants, data and series of one side, per strip in flat arrays.

    With ``lanes`` examples come last, as many as there are lanes.
    """
    numbers = selection.numbers.arrays(side, dtype)
    constants = selection.numbers.constant_arrays(side, dtype)
    sources = selection.sources.values()
    data = [_data(selection, side, names[side], scale[side]) for names, scale in sources]
    made = []
    for strip in strips:
        parts: list[list[np.ndarray]] = [
            [part[:, :, strip] for part in numbers],
            [part[strip] for part in data],
        ]
        own = constants[:, strip]
        if lanes:
            parts = [
                [_lanes(part, lanes) for part in parts[0]],
                [_lanes(part.transpose(1, 2, 0), lanes) for part in parts[1]],
            ]
            own = _lanes(own, lanes)
        else:
            parts[1] = [part.transpose(1, 0, 2) for part in parts[1]]
        laid = *map(_joined, parts, (dtype, np.float64)), _series(selection, side, strip, dtype, lanes)
        flat, starts = zip(*laid, strict=True)
        made.append(
            Laid(
                flat,
                aligned_copy(own),
                starts,
                [part.shape[1] for part in numbers],
                [part.shape[2] for part in data],
                [selection.tables.width(k, side) for k in range(len(selection.series))],
            )
        )
    return made


def _data(selection: Selection, side: int, name: str, scale: Number) -> np.ndarray:
    """(N, positions, channels) of scaled data over the root of the channels, zero in the padding."""
    profile = selection.profiles[side]
    names = [n for n, _ in profile.site.lines.axes(name)]
    x = np.asarray(profile.data[name], np.float64)
    order = [1 + names.index(n) for n in sorted(names)]
    each = scale.values(profile, ()).reshape(-1, *(1,) * (x.ndim - 1)) / np.sqrt(x.shape[-1])
    x = np.transpose(x, (0, *order, x.ndim - 1)) * each
    x = np.pad(x, [(0, 0), *[(0, 1)] * len(names), (0, 0)])
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _series(
    selection: Selection, side: int, strip: slice, dtype: np.dtype, lanes: int | None
) -> tuple[np.ndarray, list[int]]:
    """The coefficients of all series for some examples, (positions, examples, terms), and their places.

    With ``lanes`` they are (positions, terms, lanes).  They are most of what is laid out: some positions
    at a time are made where they stay.
    """
    tables, size = selection.tables, selection.profiles[side].size
    width = len(range(*strip.indices(size)))
    wide = lanes or width
    asked = enumerate(selection.series)
    shapes = [(positions(grid, side), tables.width(k, side), wide) for k, (grid, _) in asked]
    starts = [0, *accumulate(map(prod, shapes))]
    made = aligned(starts[-1] + 1, dtype)
    for k, (count, terms, _) in enumerate(shapes):
        if not terms:  # those of another
            continue
        grid, indices = selection.series[k]
        index = np.empty((count, size), np.intp)
        padded(indices[side], axes_of(grid, side), index, edge=True)
        whole = made[starts[k] : starts[k + 1]].reshape(count, -1)
        step = max(1, ROWS // width)
        for low in range(0, count, step):
            which = index[low : low + step, strip]
            found = tables.unit(k, side, which.ravel()).reshape(*which.shape, terms)
            goal = whole[low : low + step]
            if not lanes:
                goal[...] = found.reshape(len(which), -1)
                continue
            goal = goal.reshape(len(which), terms, wide)
            goal[..., :width] = found.transpose(0, 2, 1)
            goal[..., width:] = goal[..., width - 1 : width]
    return made, starts[:-1]


def _lanes(values: np.ndarray, lanes: int) -> np.ndarray:
    """The last dimension filled up to a whole strip with its last entry."""
    missing = lanes - values.shape[-1]
    if missing:
        values = np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, missing)], mode="edge")
    return np.ascontiguousarray(values)


def _joined(parts: list[np.ndarray], dtype: Any) -> tuple[np.ndarray, list[int]]:
    """Arrays one after the other in a flat one that is never empty, and where each begins."""
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.size)
    made = aligned(starts[-1] + 1, dtype)
    for at, part in zip(starts, parts, strict=False):
        made[at : at + part.size] = part.ravel()
    return made, starts[:-1]
