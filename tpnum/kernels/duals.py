"""The dual strips by name, closed forms and series, as functions that the machine calls through pointers.

So a net compiles the strips that it uses and nothing else, once for all processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import config, from_dtype, types
from numba.experimental.function_type import _get_wrapper_address
from numba.extending import typeof_impl

SLOTS = 4
"""Closed-form duals that one program may use."""

NONE = "machine.no_dual"
"""What is in the slots that a program does not use."""

SERIES, NO_SERIES = "machine.expand", "machine.no_series"
"""Strips that take tables of coefficients besides: of programs with Hermite series and of those without."""


def strip(name: str) -> Any:
    """The jitted strip (e, rp, cp, p, i, j0, out_e, out_d), or with tables behind e (`machine.expand`).

    Its name is that of the module in this folder, a dot, and that of the function.
    """
    module, _, function = name.partition(".")
    return getattr(importlib.import_module(f"tpnum.kernels.{module}"), function)


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
    if name in (SERIES, NO_SERIES):
        counts, limits = types.Array(types.int64, 1, "C"), types.Array(types.float64, 1, "C")
        row = types.Tuple((line, types.intp, types.intp))
        signature = types.intp(line, counts, counts, limits, row, table, *place, table)
    else:
        signature = types.none(line, *place)
    return Pointer(strip(name), signature)


def closed(names: Sequence[str], dtype: np.dtype) -> tuple[Any, ...]:
    """The strips of a program's closed-form duals, one for each of the slots."""
    return tuple(pointer(name, dtype) for name in (*names, *[NONE] * SLOTS)[:SLOTS])


def series(some: bool, dtype: np.dtype) -> Any:
    """The strip of a program's Hermite series, if it has some."""
    return pointer(SERIES if some else NO_SERIES, dtype)
