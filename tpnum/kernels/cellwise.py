"""The operations of the machine of cells (`tpnum.kernels.cells`): those at one cell, and those over cells.

They are grouped by what they need: parameters, coefficients of functions, buffers, data.  An operation that
is not of a group passes it by.  A ``cell`` is its row and its column position, the row of ``params``, that
row among those of the buffers, and the lane of the row's own example, which may be none of the strip's.
"""

from __future__ import annotations

import numpy as np

from tpnum.kernels import operations as ops
from tpnum.kernels._jit import fused, kernel, template
from tpnum.kernels._views import get, put, table
from tpnum.kernels.adjoints import bent_constants, data_cols, data_rows, gather, gather_products
from tpnum.kernels.increments import (
    constants,
    correlations,
    covariances,
    differences,
    gain,
    recalled,
    relu,
)
from tpnum.kernels.machine import add, add_outer, add_product, add_rho, both, normal, product, scaled
from tpnum.kernels.piecewise import covariance
from tpnum.kernels.reverse import bend


@fused
def begin_of(registers, r, low, done):
    """Where in ``work``, in cells, cell 0 of a register would be; 0 of none.

    ``low`` is the next cell and ``done`` are done: a register that holds cells in turn has moved on.
    """
    if r < 0:
        return 0
    span = registers[r, 1]
    return registers[r, 0] - (low - (done & (span - 1)) if span else 0)


@fused
def goes_over(op):
    """Whether an operation goes over cells itself."""
    applies = op == ops.RELU or op == ops.BENT or op == ops.FUNCTION
    return applies or op == ops.DATA or op == ops.CROSS


@kernel
def _sums_of(starts, n, row):
    """Where sums of a row begin in the buffers, how far those of a position are apart, and are lanes?"""
    return starts[n, 0] + row * starts[n, 1], starts[n, 2], starts[n, 3]


@template
def with_parameters(op, flag, a, b, c, left, right, cell):
    """a from b and c and the parameters ``left`` and ``right`` of the two positions."""
    row, col, i, _, own = cell
    there = 0 <= own < a.size
    if op == ops.CO:
        correlations(a, b, left, right, 0, i)
        if flag != 0 and there:
            a[own] = 1
    elif op == ops.GAIN:
        gain(a, b, left, right, 0, 1, i)
    elif op == ops.ADD_RHO:
        add_rho(a, b, left, right, 0, i, 0)
    elif op == ops.ADD_PRODUCT:
        add_product(a, b, c, left, right, 0, i, 0)
    elif op == ops.ADD:
        add(a, b, left, right, 0, i, 0)
    elif op == ops.ADD_OUTER:
        add_outer(a, left, right, 0, i, 0)
    elif op == ops.ZERO:
        for t in range(a.size):
            a[t] = 0
    elif op == ops.COPY:
        for t in range(a.size):
            a[t] = b[t]
    elif op == ops.COVARIANCE:
        covariances(a, b, left, right, 0, i)
    elif op == ops.MULTIPLY:
        for t in range(a.size):
            a[t] *= b[t]
    elif op == ops.TIMES:
        scaled(b, left, right, 0, i, 0, a)
    elif op == ops.BOTH:
        both(a, b, c)
    elif op == ops.NORMAL:
        normal(a, b, left, right, 0, i, 0)
        if flag == 2 and there:
            a[own] = 1
        elif flag != 0 and row == col and there:
            a[own] = 0
    elif op == ops.FRESH:
        if row == col and there:
            a[own] += left[0, i] * right[0, own]
    elif op == ops.PLAIN:
        covariance(b, left, right, 0, i, 0, a)
    elif op == ops.BEND:
        bend(a, b, left[0, i], right[0])
    elif op == ops.PRODUCT:
        product(a, b, c, left, right, 0, i, 0)


@template
def _row_coefficients(tables, n, cell):
    """Coefficients of a row's function n at its position: numbers, the place of the first, the step."""
    _, _, _, row_coefs, _, coefs = tables
    side_by_side = coefs[n, 3]
    strip = cell[2] // side_by_side
    begin = coefs[n, 0] + cell[0] * coefs[n, 1] + strip * coefs[n, 2] + (cell[2] - strip * side_by_side)
    return row_coefs, begin, side_by_side


@template
def _column_coefficients(tables, n, cell, v):
    """Coefficients of the columns' functions n at their position, (terms, V)."""
    coefs = tables[5]
    return table(tables[4], coefs[n, 4] + cell[1] * coefs[n, 5], coefs[n, 6], v)


@template
def with_functions(op, n, a, b, c, left, right, cell, tables, duals, expand, missed, spare):
    """a, and c where it is asked for, from b by function or series n; pairs that a series misses count."""
    i, number = cell[2], cell[3]
    if op == ops.DUAL:
        dual = duals[0] if n == 0 else duals[1] if n == 1 else duals[2] if n == 2 else duals[3]
        dual(b, left, right, 0, i, 0, a, c)
    elif op == ops.SERIES:
        entries, terms, least = tables[0], tables[1], tables[2]
        alpha, beta = _row_coefficients(tables, n, cell), _column_coefficients(tables, n, cell, b.size)
        missed[number] += expand(b, entries[n], terms, least, alpha, beta, left, right, 0, i, 0, a, c, spare)


@template
def with_curves(n, to, a, b, c, d, left, right, cell, tables, curved, missed, bends, buffers, starts):
    """Adjoints of expectations by series n from co-correlations c and derivatives d.

    What their coefficients gather goes to buffer ``to`` by the row's position, to the next by the column's.
    """
    row, col, i, number, _ = cell
    entries, terms, least = tables[0], tables[1], tables[2]
    count = tables[5][n, 2] // tables[5][n, 3]
    alpha, beta = (*_row_coefficients(tables, n, cell), count), _column_coefficients(tables, n, cell, a.size)
    missed[number] += curved(a, b, c, d, entries[n], terms, least, alpha, beta, left, right, i, bends)
    for s in range(2):
        first, step, apart = _sums_of(starts, to + s, number)
        gather(buffers, first + (col if s else row) * step, bends[s], apart)


@template
def with_buffers(op, flag, n, a, b, cell, place, outside, buffers, starts):
    """a from buffer n, or it gains a or a b or becomes a, at the cell's ``place`` unless ``outside``."""
    row, col, _, number, _ = cell
    v = a.size
    if op == ops.LOAD:
        at = starts[n, 0] + (number * starts[n, 1] + place) * v
        for t in range(v):
            a[t] = 0.0 if outside else buffers[at + t]
    elif op == ops.STORE and not outside:
        at = starts[n, 0] + (number * starts[n, 1] + place) * v
        if flag != 0:
            for t in range(v):
                put(buffers, at + t, np.float64(a[t]))
        else:
            for t in range(v):
                put(buffers, at + t, get(buffers, at + t) + np.float64(a[t]))
    elif op == ops.ROWS or op == ops.COLS:
        at, step, apart = _sums_of(starts, n, number)
        at += (row if op == ops.ROWS else col) * step
        if b.size == 0:
            gather(buffers, at, a, apart)
        else:
            gather_products(buffers, at, a, b, apart)


@template
def with_data(op, n, line, a, cell, height, data, buffers, starts):
    """Buffer n gains the products of a and what the other side's data are along a line."""
    row, col, i, number, _ = cell
    x1, x2, sources = data
    if op == ops.DATA_ROWS:
        channels = sources[line, 0]
        at = starts[n, 0] + number * starts[n, 1] + row * channels
        data_rows(a, x2, sources[line, 2] + col * channels * a.size, channels, buffers, at)
    elif op == ops.DATA_COLS:
        channels = sources[line, 0]
        at = starts[n, 0] + col * channels * a.size
        data_cols(a, x1, sources[line, 1] + (i + row * height) * channels, channels, buffers, at)


@template
def from_before(work, a, kept, m, before, n, v):
    """What is at a gains what map n makes of a step before m of a state, which may hold some steps in turn.

    ``kept`` are its first cell and how many steps it holds; of the steps the first ``inner`` are none of the
    padding, which come before them.
    """
    starts, component, taps, steps, inner = before
    place = starts[n, 0, component[0]] + m
    if taps[0][place] < taps[0][place + 1]:
        source = taps[1][taps[0][place]]
        if kept[1]:
            source += steps - inner if source < inner else -inner
            source &= kept[1] - 1
        recalled(work, a, (kept[0] + source) * v, v)


@template
def over_data(op, n, a, here, i, height, work, data, products, total):
    """Increments or products of data line n at the cells ``here``, rows and columns, from a on."""
    x1, x2, sources = data
    channels = sources[n, 0]
    first, second = (sources[n, 1] + i * channels, height * channels), (sources[n, 2], channels * total.size)
    if op == ops.DATA:
        differences(work, a, here, x1, first, x2, second, channels, total)
    else:
        products(work, a, here, x1, first, x2, second, channels, total)


@template
def over_relus(line, places, here, i, number, height, params, block, work, fixed, fixed_for, bent_relu, sums):
    """A relu, or adjoints behind one, at the cells ``here``: rows, columns, and whether they are padding.

    ``line`` are the operation, its constants, its flag and the first buffer that gathers; ``places`` are of
    the registers a to d.  ``fixed`` is what all cells of a row read, made where ``fixed_for`` is another's.
    """
    op, n, flag, to = line
    rp, cp, rk, ck = params
    v = fixed.size // 5
    if n != fixed_for[0] or i != fixed_for[1]:
        if op == ops.BENT:
            bent_constants(rk, ck, n, i, fixed)
        else:
            constants(rk, ck, n, i, fixed)
        fixed_for[0], fixed_for[1] = n, i
    size, at_row, at_col = block
    rows_at, cols_at = (at_row + i, size * height, height), (at_col, size * v)
    if op == ops.BENT:
        buffers, starts, _ = sums
        gathered = (
            _sums_of(starts, to, number), _sums_of(starts, to + 1, number), _sums_of(starts, to + 2, number)
        )  # fmt: skip
        bent_relu(work, places, here, (rp, cp), rows_at, cols_at, (rk, n, i), flag, fixed, buffers, gathered)
    else:
        relu(work, places[0], places[1], here, (rp, cp), rows_at, cols_at, rk[n, i], flag, fixed)
