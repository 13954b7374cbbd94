"""The machine for nets with index axes: cells of pairs of positions, lanes of pairs of examples.

A cell is a pair (p, q) of index positions, its lanes are one row example against V column examples, and a
register holds (cells, V) numbers.  Between two contractions that mix positions the cells fall into
components that never talk to each other (the diagonal planes {(p, p + delta)} of a convolution); the
instructions run over one component after the other, so that a register lives in the second-level cache.
Pointwise instructions run chunk by chunk, one after the other in a cache.

Positions are numbered on a grid with one more index along every axis, n, for what padding reads: there all
parameters are zero.  ``increments`` D = E (Z/s - Z'/s')^2 are bilinear, so they pass through convolutions
without loss: a padded cell (p, n) holds E (Z/s)^2 and contributes to them as it should.
"""

from __future__ import annotations

import numpy as np

from tpnum.kernels import operations as ops
from tpnum.kernels._arrays import aligned
from tpnum.kernels._jit import kernel, template
from tpnum.kernels._views import get, put, strip, table
from tpnum.kernels.applied import STRIPS
from tpnum.kernels.cellwise import (
    begin_of,
    from_before,
    goes_over,
    over_data,
    over_relus,
    with_buffers,
    with_curves,
    with_data,
    with_functions,
    with_parameters,
)
from tpnum.kernels.curves import CELL
from tpnum.kernels.mixing import lowest, mix, reach

CHUNK, ALONE = 64, 1024
"""Cells that a stretch takes at a time: with several operations, and with a single one.

Values stay in a cache from one operation to the next; one that is alone is quicker without a break.
"""


@kernel
def _number(space, component, spaces, cells, places):
    """Write row position, column position, buffer place and padding of every cell of a space; how many.

    What a space does not number is zero from the beginning.
    """
    first, count, strides, _ = spaces
    axes = component.size
    total = 1
    for t in range(axes):
        total *= count[space, t, component[t]]
    flat = strip(places.reshape(places.size), 0, places.size)
    for which in range(4):
        numbered = False
        for t in range(axes):
            numbered = numbered or strides[which, space, t] != 0
        if not numbered:
            continue
        at = (which * places.shape[1] + space) * places.shape[2]
        flat[at] = 0
        size = 1
        for t in range(axes - 1, -1, -1):
            start, n = first[space, t, component[t]], count[space, t, component[t]]
            for k in range(n - 1, -1, -1):
                step = strides[which, space, t] * cells[which, start + k]
                for m in range(size):
                    put(flat, at + k * size + m, get(flat, at + m) + step)
            size *= n
    return total


@kernel
def _shapes(code, stretch, spaces, maps, component, shapes):
    """Write of every map of a stretch the sizes that `mix` asks for, and where its pointers are."""
    first, end, stop = stretch[0], stretch[1], stretch[2]
    space = code[first, 6]
    for j in range(stop - end):
        n = code[end + j, 5]
        goal = maps[1][n, 0]
        for t in range(component.size):
            at = component[t]
            shapes[j, 0, t] = spaces[1][space, t, at]
            shapes[j, 1, t] = spaces[1 if maps[1][n, 1] else 3][space, t, at]
            shapes[j, 2, t] = spaces[1][goal, t, at]
            shapes[j, 3, t] = spaces[3][goal, t, at]
            shapes[j, 4, t] = maps[0][n, t, at]


@template
def _over_cells(line, row, turn, registers, places, machine):
    """An operation that goes over cells itself."""
    work, given, sums, spare = machine
    blocks, params, data, tables, (duals, expand, _, bent, over_functions, products) = given
    total, fixed, fixed_for, _, _ = spare
    i, number, _, height = row
    low, high, done = turn
    op, v = line[0], total.size
    side, spots = places.shape[1] * places.shape[2], places.reshape(places.size)
    at = line[6] * places.shape[2] + low
    rows, cols = strip(spots, at, high - low), strip(spots, at + side, high - low)
    a = (begin_of(registers, line[1], low, done) + low) * v
    if op == ops.DATA or op == ops.CROSS:
        over_data(op, line[5], a, (rows, cols), i, height, work, data, products, total)
    else:
        b = (begin_of(registers, line[2], low, done) + low) * v if line[2] >= 0 else -1
        c = (begin_of(registers, line[3], low, done) + low) * v
        d = (begin_of(registers, line[8], low, done) + low) * v
        here = rows, cols, strip(spots, at + 3 * side, high - low)
        block = blocks[line[4], 0], blocks[line[4], 1], blocks[line[4], 2]
        if op == ops.FUNCTION:
            applied = line[5], line[7], line[9]
            over_functions(
                applied, (a, b), here, row, params, block, work, spare, tables, duals, expand, sums[2]
            )
        else:
            at_relu = op, line[5], line[7], line[9]
            over_relus(
                at_relu, (a, b, c, d), here, i, number, height, params, block, work, fixed, fixed_for,
                bent, sums,
            )  # fmt: skip


@template
def _at_cells(line, row, turn, before, registers, places, machine):
    """An operation at cell after cell; ``before`` are the map, the steps and the first of a recurrence."""
    work, given, sums, spare = machine
    blocks, params, data, tables, (duals, expand, curved, _, _, _) = given
    buffers, starts, missed = sums
    total, _, _, bends, series = spare
    i, number, own, height = row
    low, high, done = turn
    op, n, space, flag, to = line[0], line[5], line[6], line[7], line[9]
    pa, pb = begin_of(registers, line[1], low, done), begin_of(registers, line[2], low, done)
    pc, pd = begin_of(registers, line[3], low, done), begin_of(registers, line[8], low, done)
    size, at_row, at_col = blocks[line[4], 0], blocks[line[4], 1], blocks[line[4], 2]
    v = total.size
    none = strip(work, 0, 0)
    for m in range(low, high):
        if places[3, space, m] % 16 != 0 and op > ops.LAST_PADDED:
            continue  # nobody reads it
        cell = places[0, space, m], places[1, space, m], i, number, i - own
        a = strip(work, (pa + m) * v, v)
        b = strip(work, (pb + m) * v, v) if line[2] >= 0 else none
        c = strip(work, (pc + m) * v, v) if line[3] >= 0 else none
        left = table(params[0], at_row + cell[0] * size * height, size, height)
        right = table(params[1], at_col + cell[1] * size * v, size, v)
        if op == ops.CURVED:
            d = strip(work, (pd + m) * v, v)
            with_curves(n, to, a, b, c, d, left, right, cell, tables, curved, missed, bends, buffers, starts)
        elif op == ops.RECALL:
            kept = registers[line[2], 0], registers[line[2], 1]
            from_before(work, (pa + m) * v, kept, m, before, n, v)
        elif op == ops.DUAL or op == ops.SERIES:
            with_functions(op, n, a, b, c, left, right, cell, tables, duals, expand, missed, series)
        elif op == ops.DATA_ROWS or op == ops.DATA_COLS:
            with_data(op, n, to, a, cell, height, data, buffers, starts)
        elif op == ops.LOAD or op == ops.STORE or op == ops.ROWS or op == ops.COLS:
            place, outside = places[2, space, m], places[3, space, m] >= 16
            with_buffers(op, flag, n, a, b, cell, place, outside, buffers, starts)
        else:
            with_parameters(op, flag, a, b, c, left, right, cell)


@template
def _behind(code, end, stop, shapes, written, reached, axes, registers, taps, work, v):
    """The maps behind a stretch: all lines, or those that need no more than what is ``reached``.

    That is whether all cells are, and else how many lines of the first ``inner`` ones.
    """
    whole, known, inner = reached
    for j in range(stop - end):
        goal, source = code[end + j, 1], code[end + j, 2]
        upto = shapes[j, 3, axes - 2] if axes > 1 else 0
        if not whole:
            upto = written[j]
            while upto < shapes[j, 3, 0] and reach(taps, shapes[j, 4, 0] + upto, inner) < known:
                upto += 1
        if upto > written[j] or axes == 1:
            mix(
                work, registers[goal, 0] * v, registers[source, 0] * v,
                registers[registers.shape[0] - 1, 0] * v, taps, shapes[j, 4], shapes[j], axes, written[j],
                upto, v,
            )  # fmt: skip
        written[j] = upto


@template
def _begun(code, stretch, whole, component, spaces, shapes, taps):
    """How many cells of a stretch need no visit, and the lines of the padding: cells, lines and their width.

    These come before the others, of which the first read them.
    """
    begin, end, stop, chunk = stretch[0], stretch[1], stretch[2], stretch[3]
    space, axes = code[begin, 6], component.size
    inner, width, wrap = 0, 1, 0
    if stop > end and axes == 2 and whole > chunk:
        inner, width = spaces[3][space, 0, component[0]], spaces[1][space, 1, component[1]]
        wrap = inner * width
    if chunk == 1:  # a recurrence: every step reads the one before
        wrap = spaces[3][space, 0, component[0]]
    done = whole if begin == end else 0
    if stretch[4] != 0 and axes == 1 and begin < end:
        done = whole
        for j in range(stop - end):
            done = min(done, lowest(taps, shapes[j, 4, 0], shapes[j, 3, 0], whole))
    return done, wrap, inner, width


@kernel
def run(
    code, stretches, registers, components, spaces, cells, maps, taps, params, data, tables, work,
    spare, places, buffers, missed, rows, column, d0, d1, d2, d3, expand, curved, bent,
    functions, products,
):  # fmt: skip
    """Run a region's code for some rows against one strip of columns, component after component.

    ``rows`` are the first, the last, how many there are in ``params``, and the columns V of the strip, a
    multiple of `tpnum.kernels._views.lanes`.

    ``code`` (n, 10) rows (operation, a, b, c, p, n, space, flag, d, m), p a block of parameters;
    ``stretches`` (s, 5) begin, end and stop: operations on the cells of one space, then maps from there,
    which take every line as soon as the lines that it reads are there; how many cells are taken at a time,
    one in a recurrence; and whether only what the maps read of a single axis is needed.  ``registers``
    (r, 2): where a register begins in ``work``, in cells, and how many it holds in turn: 0 for all, 1 for
    those of a chunk, a power of two for that many steps of a recurrence.  ``cells``
    (4, *) are the cells along single axes: row index, column index, place, whether either index is
    of the padding.  The second of ``buffers`` says of each, in numbers of a row, where it begins, how many it
    has (of one that holds cells, how many of these), and of sums how far those of a position are apart, and
    whether lanes are.  The last of ``tables`` (series, 7) says where coefficients are: of rows the first, how
    far positions, strips and terms are apart; of columns the first, how far positions are apart, and how many
    terms there are.  ``missed`` counts, row by row, the strips that hold pairs which their series miss.
    The last are the closed duals in their slots and what the operations of `tpnum.kernels.duals` call, or
    what stands for them, so that a program compiles what it uses.
    """
    lines = code.reshape(code.size)
    numbers = params[0], params[1], params[3], params[4]
    first_row, last_row, height, v = rows
    axes = components.shape[1]
    most = spare[1].shape[1]
    count, written = strip(spare[0], 2, places.shape[1]), strip(spare[0], 2 + places.shape[1], most)
    fixed_for = strip(spare[0], 0, 2)
    fixed_for[0] = -1
    shapes = spare[1]
    called = (d0, d1, d2, d3), expand, curved, bent, functions, products
    given = params[2], numbers, data, tables, called
    sums = buffers[0], buffers[1], missed
    spare = (
        strip(spare[2], 0, v), strip(spare[3], 0, 5 * v), fixed_for, table(spare[2], v, CELL, v),
        table(spare[3], 5 * v, STRIPS, v),
    )  # fmt: skip
    machine = work, given, sums, spare
    for u in range(components.shape[0]):
        component = strip(components.reshape(components.size), u * axes, axes)
        for s in range(places.shape[1]):
            count[s] = _number(s, component, spaces, cells, places)
        for part in range(stretches.shape[0]):
            _shapes(code, stretches[part], spaces, maps, component, shapes[part])
        for i in range(first_row, last_row):
            row = i, i - first_row, column, height
            for part in range(stretches.shape[0]):
                begin, end, stop = stretches[part, 0], stretches[part, 1], stretches[part, 2]
                chunk = stretches[part, 3]
                whole = count[code[begin, 6]]
                at = shapes[part]
                done, wrap, inner, width = _begun(code, stretches[part], whole, component, spaces, at, taps)
                before = maps[0], component, taps, whole, wrap
                for j in range(stop - end):
                    written[j] = 0
                more = True
                while more:
                    low = done + wrap if done + wrap < whole else done + wrap - whole
                    high = min(low + chunk, whole if low >= wrap else wrap, low + whole - done)
                    turn = low, high, done
                    for k in range(begin, end):
                        line = strip(lines, k * code.shape[1], code.shape[1])
                        if goes_over(line[0]):
                            _over_cells(line, row, turn, registers, places, machine)
                        else:
                            _at_cells(line, row, turn, before, registers, places, machine)
                    done += high - low
                    if done >= (whole if axes == 1 else whole - wrap):
                        reached = done == whole, (done - whole + wrap) // width, inner
                        _behind(code, end, stop, at, written, reached, axes, registers, taps, work, v)
                    more = done < whole


def room(
    stretches: np.ndarray, axes: int, spaces: int, lanes: int, dtype: np.dtype
) -> tuple[np.ndarray, ...]:
    """The memory that `run` works in beside registers: counts, sizes of maps, and numbers of both kinds."""
    most = max(1, int((stretches[:, 2] - stretches[:, 1]).max(initial=1)))
    counts = np.empty(spaces + most + 2, np.int64), np.empty((len(stretches), most, 5, axes), np.int64)
    return *counts, aligned((1 + CELL) * lanes, np.float64), aligned((5 + STRIPS) * lanes, dtype)
