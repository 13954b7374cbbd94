"""Transposed copies of small squares, in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from tpnum.kernels._jit import machine_code

SIDE = 8
"""Rows and columns of a square."""


def _plain(goal: Any, i: int, j: int, source: Any, k: int, m: int) -> None:
    goal[i : i + SIDE, j : j + SIDE] = source[k : k + SIDE, m : m + SIDE].T


def _plain_lines(goal: Any, at: int, step: int, source: Any, lines: Any) -> None:
    for r in range(SIDE):
        goal[at + r : at + r + SIDE * step : step] = source[lines[r] : lines[r] + SIDE]


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square whose rows are vectors."""
    step = 1
    while step < SIDE:  # exchange the off-diagonal squares of side ``step``
        low = [c if c & step == 0 else SIDE + c - step for c in range(SIDE)]
        high = [c + step if c & step == 0 else SIDE + c for c in range(SIDE)]
        made = list(rows)
        for r in range(SIDE):
            if r & step == 0:
                pair = rows[r], rows[r + step]
                for place, mask in ((r, low), (r + step, high)):
                    constant = ir.Constant(ir.VectorType(ir.IntType(32), SIDE), mask)
                    made[place] = builder.shuffle_vector(*pair, constant)
        rows = made
        step *= 2
    return rows


@machine_code(_plain)
def transpose_square(typing: Any, goal: Any, i: Any, j: Any, source: Any, k: Any, m: Any) -> Any:
    """goal[i + c, j + r] = source[k + r, m + c] for r, c < SIDE; rows of both are contiguous."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, i, j, origin, k, m = args
        to = context.make_array(goal)(context, builder, to)
        origin = context.make_array(source)(context, builder, origin)
        vector = ir.VectorType(context.get_data_type(source.dtype), SIDE).as_pointer()
        size = context.get_abi_sizeof(context.get_data_type(source.dtype))

        def address(array: Any, row: Any, column: Any, step: int) -> Any:
            stride = builder.extract_value(array.strides, 0)
            row = builder.add(row, ir.Constant(row.type, step))
            offset = builder.add(
                builder.mul(row, stride), builder.mul(column, ir.Constant(column.type, size))
            )
            base = builder.bitcast(array.data, ir.IntType(8).as_pointer())
            return builder.bitcast(builder.gep(base, [offset]), vector)

        rows = [builder.load(address(origin, k, m, r), align=size) for r in range(SIDE)]
        for c, made in enumerate(_turned(builder, rows)):
            builder.store(made, address(to, i, j, c), align=size)
        return context.get_dummy_value()

    return types.void(goal, types.intp, types.intp, source, types.intp, types.intp), emit


@machine_code(_plain_lines)
def transpose_lines(typing: Any, goal: Any, at: Any, step: Any, source: Any, lines: Any) -> Any:
    """goal[at + c step + r] = source[lines[r] + c] for r, c < SIDE, of flat arrays."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, at, step, origin, where = args
        to, origin, where = (
            context.make_array(kind)(context, builder, value)
            for kind, value in ((goal, to), (source, origin), (lines, where))
        )
        vector = ir.VectorType(context.get_data_type(source.dtype), SIDE).as_pointer()
        size = context.get_abi_sizeof(context.get_data_type(source.dtype))
        rows = []
        for r in range(SIDE):
            place = builder.load(builder.gep(where.data, [ir.Constant(at.type, r)]))
            rows.append(builder.load(builder.bitcast(builder.gep(origin.data, [place]), vector), align=size))
        for made in _turned(builder, rows):
            builder.store(made, builder.bitcast(builder.gep(to.data, [at]), vector), align=size)
            at = builder.add(at, step)
        return context.get_dummy_value()

    return types.void(goal, types.intp, types.intp, source, lines), emit
