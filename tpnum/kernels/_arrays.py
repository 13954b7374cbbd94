"""Arrays as compiled code takes them: one type per number and dimension, whatever their flags."""

from __future__ import annotations

from typing import Any

import numpy as np


class _Open:
    """Memory of an array that promises to be writable; it keeps the array alive."""

    __slots__ = ("__array_interface__", "array")

    def __init__(self, array: np.ndarray):
        self.array = array
        interface = array.__array_interface__
        interface["data"] = interface["data"][0], False
        self.__array_interface__ = interface


def plain(value: Any) -> Any:
    """A read-only array (a mapped file, a broadcast) as its C-contiguous view of the usual type.

    To Numba a read-only array is of another type, and a kernel would be compiled for it once more.
    Kernels write to no array but their outputs, and outputs are writable: an array that is not is an input.
    """
    if type(value) is np.ndarray:
        flags = value.flags
        if flags.writeable:
            return value
        whole = flags.c_contiguous and flags.aligned
        return np.asarray(_Open(value if whole else np.require(value, requirements=["C", "A"])))
    if type(value) is tuple:
        return tuple(map(plain, value))
    if isinstance(value, np.ndarray):  # a mapped file, say
        return plain(value.view(np.ndarray))
    return value


LINE = 64
"""Bytes of a line of the caches and of the longest vectors."""


def aligned(size: int, dtype: Any) -> np.ndarray:
    """Zeros that begin where a line of the caches does: no vector of them lies in two lines."""
    dtype = np.dtype(dtype)
    memory = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size * dtype.itemsize].view(dtype)


def aligned_copy(values: np.ndarray) -> np.ndarray:
    """The same numbers, beginning where `aligned` arrays do."""
    made = aligned(values.size, values.dtype).reshape(values.shape)
    made[...] = values
    return made
