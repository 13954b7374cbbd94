"""What the machines call through pointers, by name: dual strips, and operations of the machine of cells.

A net compiles what it uses and nothing else, once for all processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import config, from_dtype, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.experimental.function_type import FunctionModel, _get_jit_address
from numba.extending import NativeValue, register_model, typeof_impl, unbox

from tpnum.kernels import operations as ops

SLOTS = 4
"""Closed-form duals that one program may use."""

NONE = "machine.no_dual"
"""What is in the slots that a program does not use."""

SERIES = "machine.expand"
"""The strip of Hermite series, which takes tables of coefficients besides."""


def named(name: str) -> Any:
    """The kernel of a name: that of its module in this folder, a dot, and that of the function."""
    module, _, function = name.partition(".")
    return getattr(importlib.import_module(f"tpnum.kernels.{module}"), function)


class _Called(types.FunctionType):
    """The type of a compiled kernel that others call as they call each other.

    As a first-class function of Numba's own it would be called through C, arrays being copied on the way.
    """


register_model(_Called)(FunctionModel)


class Pointer:
    """A compiled kernel that others take as an argument."""

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
    """The kernel for registers of a dtype; the Python function where Numba is told to compile nothing."""
    if config.DISABLE_JIT:
        return named(name)
    made = CHOSEN.get(name, _closed)(from_dtype(dtype))
    with global_compiler_lock:  # kernels that are being compiled ask for the same
        return Pointer(named(name).within, made)


_INTEGERS = types.Array(types.int64, 1, "C")
_DOUBLES = types.Array(types.float64, 1, "C")
_TRIPLE = types.UniTuple(types.intp, 3)


def _line(number: Any) -> Any:
    return types.Array(number, 1, "C")


def _table(number: Any) -> Any:
    return types.Array(number, 2, "C")


def _closed(number: Any) -> Any:
    line, table = _line(number), _table(number)
    return types.none(line, table, table, types.intp, types.intp, types.intp, line, line)


def _series(number: Any) -> Any:
    line, table = _line(number), _table(number)
    row = types.Tuple((line, types.intp, types.intp))
    known = _INTEGERS, _INTEGERS, _DOUBLES, row, table
    place = table, table, types.intp, types.intp, types.intp
    return types.intp(line, *known, *place, line, line, table)


def _curves(number: Any) -> Any:
    line, table = _line(number), _table(number)
    row = types.Tuple((line, types.intp, types.intp, types.intp))
    known = _INTEGERS, _INTEGERS, _DOUBLES, row, table
    return types.intp(line, line, line, line, *known, table, table, types.intp, _table(types.float64))


def _bends(number: Any) -> Any:
    line = _line(number)
    registers, cells = types.UniTuple(types.intp, 4), types.UniTuple(_INTEGERS, 3)
    constants = types.Tuple((_table(number), types.intp, types.intp))
    known = types.UniTuple(line, 2), _TRIPLE, types.UniTuple(types.intp, 2), constants, types.intp, line
    return types.none(line, registers, cells, *known, _DOUBLES, types.UniTuple(_TRIPLE, 3))


def _functions(number: Any) -> Any:
    line, table = _line(number), _table(number)
    places = types.UniTuple(types.intp, 2), types.UniTuple(_INTEGERS, 3), types.UniTuple(types.intp, 4)
    params = types.Tuple((line, line, table, line))
    spare = types.Tuple((_DOUBLES, line, _INTEGERS, _table(types.float64), table))
    tables = types.Tuple((_table(types.int64), _INTEGERS, _DOUBLES, line, line, _table(types.int64)))
    duals = types.UniTuple(_Called(_closed(number)), SLOTS), _Called(_series(number))
    return types.none(_TRIPLE, *places, params, _TRIPLE, line, spare, tables, *duals, _INTEGERS)


def _products(number: Any) -> Any:
    side = _DOUBLES, types.UniTuple(types.intp, 2)
    cells = types.UniTuple(_INTEGERS, 2)
    return types.none(_line(number), types.intp, cells, *side, *side, types.intp, _DOUBLES)


class Choice(NamedTuple):
    """The names of what an operation calls and of what programs without have in place, and their types."""

    own: str
    none: str
    signature: Callable[[Any], Any]

    def pointer(self, wanted: bool, dtype: np.dtype) -> Any:
        """What a program calls that has the operation, or has it not."""
        return pointer(self.own if wanted else self.none, dtype)


OPERATIONS = {
    ops.SERIES: Choice(SERIES, "machine.no_series", _series),
    ops.CURVED: Choice("curves.curved", "curves.no_curves", _curves),
    ops.BENT: Choice("adjoints.bent_relu", "adjoints.no_bend", _bends),
    ops.FUNCTION: Choice("applied.over_functions", "applied.no_functions", _functions),
    ops.CROSS: Choice("increments.products", "increments.no_products", _products),
}
"""What the machine of cells calls through pointers, by operation."""

CHOSEN = {name: one.signature for one in OPERATIONS.values() for name in (one.own, one.none)}
"""The types of all that are no closed duals, by name."""


def closed(names: Sequence[str], dtype: np.dtype) -> tuple[Any, ...]:
    """The strips of a program's closed-form duals, one for each of the slots."""
    return tuple(pointer(name, dtype) for name in (*names, *[NONE] * SLOTS)[:SLOTS])


def called(operations: Collection[int], dtype: np.dtype) -> tuple[Any, ...]:
    """What a program of the machine of cells calls for its operations, one for each of `OPERATIONS`."""
    return tuple(one.pointer(op in operations, dtype) for op, one in OPERATIONS.items())


def series(some: bool, dtype: np.dtype) -> Any:
    """The strip of a program's Hermite series, if it has some."""
    return OPERATIONS[ops.SERIES].pointer(some, dtype)
