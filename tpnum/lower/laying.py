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

ROWS = 1 << 10
"""Examples' positions whose coefficients are made together: a cache holds them."""


class Laid(NamedTuple):
    """What the machine reads of some examples: numbers and data in flat arrays, and constants.

    ``starts`` are where each block of numbers and each data line begins, ``counts`` the numbers of each
    block, ``channels`` those of each data line.
    """

    flat: tuple[np.ndarray, np.ndarray]
    constants: np.ndarray
    starts: tuple[list[int], ...]
    counts: list[int]
    channels: list[int]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.flat)

    def narrow(self, lanes: int, some: slice) -> Laid:
        """Some of the lanes, of which each number has so many."""
        if some == slice(0, lanes):
            return self
        numbers, data = (part[: part.size // lanes * lanes].reshape(-1, lanes)[:, some] for part in self.flat)
        return self._replace(
            flat=(_joined([numbers], numbers.dtype)[0], _joined([data], data.dtype)[0]),
            constants=aligned_copy(self.constants[:, some]),
            starts=tuple([at // lanes * (some.stop - some.start) for at in one] for one in self.starts),
        )


class LaidSeries(NamedTuple):
    """The coefficients of some examples, series by series (positions, strips, terms, lanes).

    ``places`` are where each begins, and how far positions and strips are apart.
    """

    flat: np.ndarray
    places: list[tuple[int, int, int]]

    @property
    def bytes(self) -> int:
        return self.flat.nbytes

    def of_strip(self, strip: int) -> LaidSeries:
        """Those of one strip."""
        return self._replace(places=[(at + strip * wide, apart, wide) for at, apart, wide in self.places])


def lay(
    selection: Selection, side: int, strips: list[slice], dtype: np.dtype, lanes: int | None = None
) -> list[Laid]:
    """The numbers, constants and data of one side, per strip in flat arrays.

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
        flat, starts = zip(*map(_joined, parts, (dtype, np.float64)), strict=True)
        made.append(
            Laid(
                flat,
                aligned_copy(own),
                starts,
                [part.shape[1] for part in numbers],
                [part.shape[2] for part in data],
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


def lay_series(
    selection: Selection, side: int, strips: list[slice], dtype: np.dtype, lanes: int
) -> LaidSeries:
    """The coefficients of all series of one side, strips of ``lanes`` examples side by side.

    They are most of what is laid out: some positions at a time are made where they stay.
    """
    tables, size = selection.tables, selection.profiles[side].size
    filled = [np.minimum(np.arange(one.start, one.start + lanes), one.stop - 1) for one in strips]
    order = np.concatenate(filled)
    asked = enumerate(selection.series)
    shapes = [(positions(one.grid, side), len(strips), tables.width(k, side), lanes) for k, one in asked]
    starts = [0, *accumulate(map(prod, shapes))]
    made = aligned(starts[-1] + 1, dtype)
    for k, (count, _, terms, _) in enumerate(shapes):
        if not terms:  # those of another
            continue
        placed = selection.series[k]
        index = np.empty((count, size), np.intp)
        padded(placed.indices[side], axes_of(placed.grid, side), index, edge=True)
        whole = made[starts[k] : starts[k + 1]].reshape(-1, terms, lanes)
        step = max(1, ROWS // order.size)
        for low in range(0, count, step):
            which = index[low : low + step][:, order].reshape(-1, lanes)
            begin = low * len(strips)
            tables.fill(k, side, which, whole[begin : begin + len(which)])
    apart = [(prod(shape[1:]), prod(shape[2:])) for shape in shapes]
    return LaidSeries(made, [(start, *steps) for start, steps in zip(starts, apart, strict=False)])


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
