"""What strips of pairs share: where they are written, and which of their pairs are near rho = +-1."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.kernels._jit import fused

NEAR = 2.0**-7
"""Pairs with 1 - |rho| below this take the formulas without cancellation."""


@fused
def in_place(e: Any, out_e: Any) -> Any:
    """Copy e to out_e unless they are one: a loop over one array needs no overlap check."""
    if e.ctypes.data != out_e.ctypes.data:
        for k in range(e.size):
            out_e[k] = e[k]


@fused
def near_piece(x: Any) -> Any:
    """The shortest [low, high) that holds every |x[k]| < NEAR; (0, 0) if there is none."""
    limit = x.dtype.type(NEAR)
    count = np.int32(0)
    for k in range(x.size):
        count += np.int32(abs(x[k]) < limit)
    if count == 0:
        return 0, 0
    low = 0
    while abs(x[low]) >= limit:
        low += 1
    high = x.size
    while abs(x[high - 1]) >= limit:
        high -= 1
    return low, high
