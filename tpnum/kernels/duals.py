"""The dual strips by name, closed forms and series, as functions that the machine calls through pointers.

So a net compiles the strips that it uses and nothing else, once for all processes.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from numba import config, from_dtype, types
from numba.experimental.function_type import _get_wrapper_address
from numba.extending import typeof_impl

HOMES = {
    **dict.fromkeys(("abrelu", "rectpow", "step", "sign"), "piecewise"),
    **dict.fromkeys(("erf", "gelu", "sin", "exp", "gauss", "gabor"), "smooth"),
    **dict.fromkeys(("no_dual", "expand", "no_series"), "machine"),
}
"""Strip -> the module in this folder that defines it."""

SERIES = ("expand", "no_series")
"""Strips that take tables of coefficients besides."""


def strip(name: str) -> Any:
    """The jitted strip (e, rp, cp, p, i, j0, out_e, out_d), or with tables behind e (`machine.expand`)."""
    return getattr(importlib.import_module(f"tpnum.kernels.{HOMES[name]}"), name)


class Pointer(types.WrapperAddressProtocol):
    """A compiled strip that kernels take as a first-class function."""

    def __init__(self, dispatcher: Any, signature: Any):
        self._signature = signature
        self.type = types.FunctionType(signature)
        self._keep = dispatcher
        dispatcher.compile(signature.args)
        self._address = _get_wrapper_address(dispatcher, signature)

    def __wrapper_address__(self) -> int:
        return int(self._address)

    def signature(self) -> Any:
        """The type of the strip."""
        return self._signature


@typeof_impl.register(Pointer)
def _type_of(pointer: Pointer, context: Any) -> Any:
    """The type that it has, not one that is made again for every call: that takes longer than short calls."""
    return pointer.type


@cache
def pointer(name: str, dtype: np.dtype) -> Any:
    """The strip for registers of a dtype; the Python function where Numba is told to compile nothing."""
    if config.DISABLE_JIT:
        return strip(name)
    number = from_dtype(dtype)
    line, table = types.Array(number, 1, "C"), types.Array(number, 2, "C")
    place = table, table, types.intp, types.intp, types.intp, line, line
    if name in SERIES:
        counts, limits = types.Array(types.int64, 1, "C"), types.Array(types.float64, 1, "C")
        row = types.Tuple((line, types.intp, types.intp))
        signature = types.intp(line, counts, counts, limits, row, table, *place, table)
    else:
        signature = types.none(line, *place)
    return Pointer(strip(name), signature)
