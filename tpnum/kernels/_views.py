"""Views of flat memory by place and size, without reference counts and without the cost of slicing."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from tpnum.kernels._jit import machine_code


def _array(context: Any, builder: Any, source: Any, made: Any, start: Any, shape: Any) -> Any:
    """An array of type ``made`` on the memory of ``source`` from element ``start`` on, owned by nobody."""
    view = cgutils.create_struct_proxy(made)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(made.dtype)))
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    _fill(context, builder, view, builder.gep(source.data, [start]), shape, strides, size)
    return view._getvalue()


def _fill(context: Any, builder: Any, view: Any, data: Any, shape: Any, strides: Any, itemsize: Any) -> None:
    view.data = data
    view.shape = cgutils.pack_array(builder, shape)
    view.strides = cgutils.pack_array(builder, strides)
    view.itemsize = itemsize
    count = shape[0]
    for length in shape[1:]:
        count = builder.mul(count, length)
    view.nitems = count
    view.meminfo = cgutils.get_null_value(view.meminfo.type)
    view.parent = cgutils.get_null_value(view.parent.type)


@machine_code(lambda array, start, size: array.reshape(array.size)[start : start + size])
def strip(typing: Any, array: Any, start: Any, size: Any) -> Any:
    """array[start : start + size] of a flat array, or of a table row by row, unchecked."""
    made = types.Array(array.dtype, 1, "C")

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = cgutils.create_struct_proxy(array)(context, builder, value=args[0])
        return _array(context, builder, source, made, args[1], [args[2]])

    return made(array, types.intp, types.intp), emit


@machine_code(lambda array, start, rows, size: array[start : start + rows * size].reshape(rows, size))
def table(typing: Any, array: Any, start: Any, rows: Any, size: Any) -> Any:
    """The (rows, size) table that begins at an element of a flat array, unchecked."""
    made = types.Array(array.dtype, 2, "C")

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = cgutils.create_struct_proxy(array)(context, builder, value=args[0])
        return _array(context, builder, source, made, args[1], [args[2], args[3]])

    return made(array, types.intp, types.intp, types.intp), emit


WIDTH = 128
"""What the bytes of a cell's lanes are a multiple of: whole vectors of any processor, two of the widest."""


@machine_code(lambda array: WIDTH // array.itemsize)
def lanes(typing: Any, array: Any) -> Any:
    """What a cell's numbers of the array's type are a multiple of, a constant of the compiled code."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = context.get_abi_sizeof(context.get_data_type(array.dtype))
        return context.get_constant(types.intp, WIDTH // size)

    return types.intp(array), emit


def _put(array: Any, place: Any, value: Any) -> None:
    array[place] = value


def _access(scope: str = "") -> tuple[Any, Any]:
    """``get`` and ``put``; those of a scope touch nothing that other scopes of the same kernel touch.

    LLVM then needs no test whether registers overlap before every loop over lanes.
    """

    def mark(builder: Any, instruction: Any) -> Any:
        if scope:
            module, name = builder.module, builder.function.name
            domain = module.add_metadata([f"tpnum {name}"])
            own = {one: module.add_metadata([f"{one} {name}", domain]) for one in SCOPES}
            others = [own[one] for one in SCOPES if one != scope]
            instruction.set_metadata("alias.scope", module.add_metadata([own[scope]]))
            instruction.set_metadata("noalias", module.add_metadata(others))
        return instruction

    @machine_code(lambda array, place: array[place])
    def get(typing: Any, array: Any, place: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = cgutils.create_struct_proxy(array)(context, builder, value=args[0])
            return mark(builder, builder.load(builder.gep(source.data, [args[1]])))

        return array.dtype(array, types.intp), emit

    @machine_code(_put)
    def put(typing: Any, array: Any, place: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = cgutils.create_struct_proxy(array)(context, builder, value=args[0])
            mark(builder, builder.store(args[2], builder.gep(source.data, [args[1]])))
            return context.get_dummy_value()

        return types.none(array, types.intp, array.dtype), emit

    return get, put


SCOPES = ("first", "second", "third", "read")
"""What a kernel changes, up to three registers, and what it reads alone."""

get, put = _access()
"""array[place] of a flat array and array[place] = value, unchecked and never counted from the end."""
get_first, put_first = _access("first")
get_second, put_second = _access("second")
get_third, put_third = _access("third")
get_read, _ = _access("read")
