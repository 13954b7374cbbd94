"""Products by the BLAS into parts of arrays: NumPy and SciPy make copies of what does not lie in one piece.

Matrices are by rows, whose entries lie side by side; the rows may lie apart, as those of ``a[:, 10:20]`` do.
To the BLAS, which counts by columns, each is its transpose.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba.extending import get_cython_function_address

from tpnum.kernels._jit import reduction


@cache
def _routine(name: str, count: int) -> Callable[..., None]:
    """A routine of SciPy's BLAS, of so many arguments, which are pointers one and all."""
    address = get_cython_function_address("scipy.linalg.cython_blas", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)


def _call(name: str, *arguments: Any) -> None:
    """Numbers and words by reference, a matrix as its address and the distance between its rows."""
    found: list[Any] = []
    matrices = [one for one in arguments if isinstance(one, np.ndarray)]
    dtype, size = matrices[0].dtype, matrices[0].itemsize
    real = ctypes.c_float if dtype == np.float32 else ctypes.c_double
    for one in arguments:
        if isinstance(one, np.ndarray):
            found += [one.ctypes.data, ctypes.byref(ctypes.c_int(one.strides[0] // size))]
        elif isinstance(one, float):
            found.append(ctypes.byref(real(one)))
        else:
            found.append(one if isinstance(one, bytes) else ctypes.byref(ctypes.c_int(one)))
    _routine(("s" if dtype == np.float32 else "d") + name, len(found))(*found)


def add_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out += a b, of one precision."""
    if a.size and b.size:
        _call("gemm", b"N", b"N", b.shape[1], len(a), len(b), 1.0, b, a, 1.0, out)


def triangle_times(low: np.ndarray, out: np.ndarray) -> None:
    """out = low out, ``low`` a lower triangle of that precision."""
    if out.size:
        _call("trmm", b"R", b"U", b"N", b"N", out.shape[1], len(low), 1.0, low, out)


@reduction
def take_squares(rows: np.ndarray, left: np.ndarray) -> None:
    """left[j] = max(left[j] - sum over k of rows[k, j]^2, 0), in the precision of ``left``."""
    for k in range(rows.shape[0]):
        for j in range(left.size):
            x = left.dtype.type(rows[k, j])
            left[j] -= x * x
    for j in range(left.size):
        left[j] = max(left[j], 0.0)
