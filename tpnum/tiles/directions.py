"""Rows of data as unit vectors, for Gram panels by the BLAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from tpnum.errors import InputError
from tpnum.kernels.gram import normalise_rows

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues

WHOLE = 48 << 20
"""Bytes up to which all unit rows are kept; beyond, each panel normalises its own."""


class Directions:
    """The rows of one data line: as given, with their frames, and as unit vectors of the working dtype."""

    def __init__(self, x: np.ndarray, dtype: np.dtype, argument: str):
        self.x = np.require(x, np.float64, ["C", "A"])  # one type for the kernels, whatever came
        self.dtype = dtype
        count, channels = self.x.shape
        self.frame = np.empty((2, count))
        self._unit = None
        if count * channels * dtype.itemsize <= WHOLE:
            self._unit = np.empty((count, channels), dtype)
        step = count if self._unit is not None else max(1, (4 << 20) // (channels * dtype.itemsize))
        scratch = self._unit if self._unit is not None else np.empty((step, channels), dtype)
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            unit = scratch[: rows.stop - rows.start]
            bad = self._normalise(rows, unit, self.frame)
            if bad >= 0:
                raise InputError(
                    f"{argument}: the norm of example {start + bad} overflows; scale the data down"
                )

    def _normalise(self, rows: slice, unit: np.ndarray, frame: np.ndarray) -> int:
        size = rows.stop - rows.start
        target = np.empty((2, size))
        bad = normalise_rows(self.x[rows], unit, np.empty(size), np.empty(size), target)
        frame[:, rows] = target
        return int(bad)

    def unit(self, rows: slice) -> np.ndarray:
        """The unit vectors of some rows."""
        if self._unit is not None:
            return self._unit[rows]
        unit = np.empty((rows.stop - rows.start, self.x.shape[1]), self.dtype)
        self._normalise(rows, unit, np.empty_like(self.frame))
        return unit


_known: WeakKeyDictionary[ProfileValues, dict[tuple[str, np.dtype], Directions]] = WeakKeyDictionary()


def directions(profile: ProfileValues, name: str, dtype: np.dtype) -> Directions:
    """The directions of one data line of a profile pass, made once and gone with it."""
    found = _known.setdefault(profile, {})
    key = name, dtype
    if key not in found:
        found[key] = Directions(profile.data[name], dtype, f"x{profile.side + 1}")
    return found[key]


class Stacked(NamedTuple):
    """All data lines of a side in one array, and where the Gram panels find theirs."""

    directions: list[list[Directions]]
    x: list[np.ndarray]
    frames: list[np.ndarray]
    places: np.ndarray


def stacked(
    profiles: tuple[ProfileValues, ProfileValues], grams: tuple[tuple[str, str], ...], dtype: np.dtype
) -> Stacked:
    """The rows and columns that panels ``grams``, pairs of data lines, are of."""
    names = [list(dict.fromkeys(pair[side] for pair in grams)) for side in (0, 1)]
    places = [[names[0].index(a), names[1].index(b)] for a, b in grams]
    sides: list[list[Directions]] = []
    for side, profile in enumerate(profiles):
        if side == 1 and profiles[0] is profile and names[0] == names[1]:
            sides.append(sides[0])
        else:
            sides.append([directions(profile, n, dtype) for n in names[side]])
    return Stacked(
        sides,
        [_stack([d.x for d in side]) for side in sides],
        [_stack([d.frame for d in side]) for side in sides],
        np.array(places or np.empty((0, 2)), np.int64).reshape(-1, 2),
    )


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """One array (D, rows, channels) of several, the missing channels zero; of one, a view."""
    if len(arrays) == 1:
        return arrays[0][None]
    channels = max((a.shape[-1] for a in arrays), default=0)
    rows = arrays[0].shape[0] if arrays else 0
    made = np.zeros((len(arrays), rows, channels), np.result_type(np.float32, *arrays))
    for whole, a in zip(made, arrays, strict=True):
        whole[:, : a.shape[-1]] = a
    return made
