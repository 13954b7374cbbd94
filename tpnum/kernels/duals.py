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
from numba.core import cgutils
from numba.experimental.function_type import FunctionModel, _get_jit_address
from numba.extending import NativeValue, register_model, typeof_impl, unbox

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


class _Called(types.FunctionType):
    """The type of a compiled strip that kernels call as they call each other.

    As a first-class function of Numba's own it would be called through C, arrays being copied on the way.
    """


register_model(_Called)(FunctionModel)


class Pointer:
    """A compiled strip that kernels take as an argument."""

    def __init__(self, dispatcher: Any, signature: Any):
        self.type = _Called(signature)
        self._keep = dispatcher
        dispatcher.compile(signature.args)
        self.address = int(_get_jit_address(dispatcher, signature))


@typeof_impl.register(Pointer)
def _type_of(pointer: Pointer, context: Any) -> Any:
    """The type that it has, not one that is made again for every call: that takes longer than short calls."""
    return pointer.type


@unbox(_Called)
def _unboxed(kind: Any, pointer: Any, c: Any) -> Any:
    """The address of the code; there is neither a wrapper nor a Python function."""
    made = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    address = c.pyapi.object_getattr_string(pointer, "address")
    made.jit_addr = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    made.c_addr = made.py_addr = cgutils.get_null_value(made.jit_addr.type)
    return NativeValue(made._getvalue())


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
