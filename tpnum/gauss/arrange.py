"""Broadcast arguments of a dual as a grid: which distinct (variance, mean) each entry belongs to.

Nothing is materialised that broadcasting repeats: an index array has length 1 along the axes on which its
side does not depend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import real_array
from tpnum.errors import InputError

NAMES = ("q1", "q2", "c", "mean1", "mean2")


@dataclass(frozen=True)
class Grid:
    """Entries as an array ``c`` (rows, columns); ``left`` and ``right`` (or 1 for either) number (q, mean).

    ``q`` and ``mean`` are the distinct rows of both sides, in the order of their appearance.  Its entries
    are those from ``begin`` on of arguments of the shape ``whole``.
    """

    c: np.ndarray
    left: np.ndarray
    right: np.ndarray
    q: np.ndarray
    mean: np.ndarray
    whole: tuple[int, ...]
    begin: int = 0

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(left, right, c), one entry after another."""
        shape = self.c.shape
        i, j = (np.broadcast_to(a, shape).reshape(-1) for a in (self.left, self.right))
        return i, j, self.c.reshape(-1)


def arguments(*given: Any) -> list[np.ndarray]:
    """q1, q2, c, mean1, mean2 as float64 arrays that broadcast together."""
    arrays = []
    for name, one in zip(NAMES, given, strict=True):
        try:
            arrays.append(real_array(one, name).astype(np.float64, copy=False))
        except InputError as problem:
            raise InputError(f"{name} must be a real number or array ({problem})") from None
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(NAMES, arrays, strict=True))
        raise InputError(f"the arguments do not broadcast together: {shapes}") from None
    return arrays


def arrange(arrays: list[np.ndarray]) -> Grid | None:
    """The grid of `arguments`; None where the distinct rows are too many to be numbered."""
    from tpnum.kernels.grids import LIMIT, number_rows

    q1, q2, c, mean1, mean2 = arrays
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    sides = [_side(q1, mean1, len(shape)), _side(q2, mean2, len(shape))]
    most = min(LIMIT, sum(a.size for a, _ in sides))
    table, keys = np.full(1 << 14, -1, dtype=np.int32), np.empty((most, 2), dtype=np.uint64)
    numbers, count = [], 0
    for q, mean in sides:
        out = np.empty(q.shape, dtype=np.int32)
        with np.errstate(over="ignore"):  # the hash wraps around, uncompiled as well
            count = number_rows(_bits(q), _bits(mean), table, keys, count, out.reshape(-1))
        if count < 0:
            return None
        numbers.append(out)
    rows = keys[:count].view(np.float64)
    if not np.all(np.isfinite(rows)) or np.any(rows[:, 0] < 0):
        refuse(arrays)
    two = (int(np.prod(shape[:-1])), shape[-1]) if shape else (1, 1)
    values = np.ascontiguousarray(np.broadcast_to(c, shape)).reshape(two)
    left, right = (_two(a, shape) for a in numbers)
    return Grid(values, left, right, rows[:, 0].copy(), rows[:, 1].copy(), shape)


def _side(q: np.ndarray, mean: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """(q, mean) with all axes; the mean is of length 1 where it is one number."""
    if mean.size > 1:
        q, mean = np.broadcast_arrays(q, mean)
    return q.reshape((1,) * (axes - q.ndim) + q.shape), mean


def _bits(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a).reshape(-1).view(np.uint64)


def _two(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An index array of all axes over the two axes of the grid."""
    if not shape:
        return index.reshape(1, 1)
    if index[..., :1].size == 1:
        return index.reshape(1, -1)
    two = np.broadcast_to(index, (*shape[:-1], index.shape[-1])).reshape(-1, index.shape[-1])
    # a grid that was written out is a grid
    if two[0, 0] == two[0, -1] and np.array_equal(two, np.broadcast_to(two[:, :1], two.shape)):
        return two[:, :1]
    if two[0, 0] == two[-1, 0] and np.array_equal(two, np.broadcast_to(two[:1], two.shape)):
        return two[:1]
    return two


def refuse(arrays: list[np.ndarray]) -> None:
    """Raise the error of the first argument or entry that cannot be."""
    for k, name in enumerate(NAMES):
        wrong = ~np.isfinite(arrays[k])
        if np.any(wrong):
            raise InputError(f"{name} must be finite{_place(arrays[k], wrong)}")
    for k in (0, 1):
        wrong = arrays[k] < 0
        if np.any(wrong):
            raise InputError(f"{NAMES[k]} is a variance and cannot be negative{_place(arrays[k], wrong)}")
    q1, q2, c = np.broadcast_arrays(*arrays[:3])
    most = np.sqrt(q1) * np.sqrt(q2)
    wrong = ~(np.abs(c) <= most * (1.0 + 1e-12) + 1e-300)
    if np.any(wrong):
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place = f" at entry {[int(k) for k in at]}" if at else ""
        given, allowed = _apart(float(c[at]), float(most[at]))
        raise InputError(f"c = {given} exceeds sqrt(q1 q2) = {allowed} in absolute value{place}")


def _apart(c: float, most: float) -> tuple[str, str]:
    """Both numbers with as many digits as tell their sizes apart."""
    for digits in (6, 9, 12, 15):
        if f"{abs(c):.{digits}g}" != f"{most:.{digits}g}":
            break
    else:
        digits = 17
    return f"{c:.{digits}g}", f"{most:.{digits}g}"


def _place(array: np.ndarray, wrong: np.ndarray) -> str:
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f": entry {[int(k) for k in at]} is {array[at]:.6g}" if at else f", not {array[at]:.6g}"
