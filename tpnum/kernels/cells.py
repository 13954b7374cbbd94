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
from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import fused, kernel
from tpnum.kernels._views import get, put, strip, table
from tpnum.kernels.adjoints import bent_constants, bent_relu, data_cols, data_rows, gather, gather_products
from tpnum.kernels.curves import CELL, curved
from tpnum.kernels.increments import (
    constants,
    correlations,
    covariances,
    differences,
    gain,
    products,
    recalled,
    relu,
)
from tpnum.kernels.machine import add, add_outer, add_product, add_rho, both, expand, normal, product, scaled
from tpnum.kernels.mixing import lowest, mix, reach
from tpnum.kernels.piecewise import covariance
from tpnum.kernels.reverse import bend

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


@fused
def _turn(span, low, done):
    """How far in front of its register the cell 0 would be, ``low`` being the next and ``done`` done."""
    return low - (done & (span - 1)) if span else 0


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


@kernel
def _sums_of(starts, n, row):
    """Where sums of a row begin in the buffers, how far those of a position are apart, and are lanes?"""
    return starts[n, 0] + row * starts[n, 1], starts[n, 2], starts[n, 3]


@kernel
def run(
    code, stretches, registers, components, spaces, cells, maps, taps, params, data, tables, work,
    places, buffers, missed, rows, column, d0, d1, d2, d3,
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
    whether lanes are.  ``missed`` counts, row by row, the strips that hold pairs which their series miss.
    """
    code, stretches, registers = borrow(code), borrow(stretches), borrow(registers)
    components = borrow(components)
    spaces = borrow(spaces[0]), borrow(spaces[1]), borrow(spaces[2]), borrow(spaces[3])
    cells = borrow(cells)
    maps = borrow(maps[0]), borrow(maps[1])
    taps = borrow(taps[0]), borrow(taps[1]), borrow(taps[2]), borrow(taps[3]), borrow(taps[4])
    rp, cp, blocks, rk, ck = (
        borrow(params[0]), borrow(params[1]), borrow(params[2]), borrow(params[3]), borrow(params[4])
    )  # fmt: skip
    x1, x2, sources = borrow(data[0]), borrow(data[1]), borrow(data[2])
    entries, terms, least, row_coefs, col_coefs, coefs = (
        borrow(tables[0]), borrow(tables[1]), borrow(tables[2]), borrow(tables[3]), borrow(tables[4]),
        borrow(tables[5]),
    )  # fmt: skip
    work, places, buffers, starts = borrow(work), borrow(places), borrow(buffers[0]), borrow(buffers[1])
    missed = borrow(missed)
    first_row, last_row, height, v = rows
    own = column
    axes = components.shape[1]
    count = np.empty(places.shape[1], np.int64)
    most = 1  # maps of a stretch
    for part in range(stretches.shape[0]):
        most = max(most, stretches[part, 2] - stretches[part, 1])
    held = np.empty((stretches.shape[0], most, 5, axes), np.int64)
    shapes = borrow(held)
    numbers = np.empty(most, np.int64)
    written = borrow(numbers)
    width = 1
    kept = np.empty(v)
    total = borrow(kept)
    row_constants = np.empty(5 * v, work.dtype)
    fixed = borrow(row_constants)
    fixed_for = -1, -1
    curves = np.empty((CELL, v))
    bends = borrow(curves)
    none = strip(work, 0, 0)
    spots = places.reshape(places.size)
    side = places.shape[1] * places.shape[2]
    for u in range(components.shape[0]):
        component = strip(components.reshape(components.size), u * axes, axes)
        for s in range(places.shape[1]):
            count[s] = _number(s, component, spaces, cells, places)
        for part in range(stretches.shape[0]):
            _shapes(code, stretches[part], spaces, maps, component, shapes[part])
        for i in range(first_row, last_row):
            for part in range(stretches.shape[0]):
                begin, end, stop = stretches[part, 0], stretches[part, 1], stretches[part, 2]
                chunk = stretches[part, 3]
                space = code[begin, 6]
                whole = count[space]
                inner = 0
                wrap = 0  # the lines of the padding come before the others, of which the first read them
                for j in range(stop - end):
                    written[j] = 0
                if stop > end and axes == 2:
                    inner, width = spaces[3][space, 0, component[0]], spaces[1][space, 1, component[1]]
                    wrap = inner * width
                if chunk == 1:  # a recurrence: every step reads the one before
                    wrap = spaces[3][space, 0, component[0]]
                done = whole if begin == end else 0
                if stretches[part, 4] != 0 and axes == 1 and begin < end:
                    done = whole
                    for j in range(stop - end):
                        done = min(done, lowest(taps, shapes[part, j, 4, 0], shapes[part, j, 3, 0], whole))
                while True:
                    low = done + wrap if done + wrap < whole else done + wrap - whole
                    high = min(low + chunk, whole if low >= wrap else wrap, low + whole - done)
                    for k in range(begin, end):
                        op, p, n = code[k, 0], code[k, 4], code[k, 5]
                        ra, rb, rc = code[k, 1], code[k, 2], code[k, 3]
                        pa = (registers[ra, 0] - _turn(registers[ra, 1], low, done)) * v
                        pb = (registers[rb, 0] - _turn(registers[rb, 1], low, done)) * v if rb >= 0 else 0
                        pc = (registers[rc, 0] - _turn(registers[rc, 1], low, done)) * v if rc >= 0 else 0
                        size, at_row, at_col = blocks[p, 0], blocks[p, 1], blocks[p, 2]
                        alone = op == ops.RELU or op == ops.START or op == ops.BENT
                        alone = alone or op == ops.DATA or op == ops.CROSS
                        if alone:  # cell by cell themselves
                            at = space * places.shape[2] + low
                            here = strip(spots, at, high - low), strip(spots, at + side, high - low)
                            if op == ops.DATA or op == ops.CROSS:
                                channels = sources[n, 0]
                                first_at = sources[n, 1] + i * channels, height * channels
                                second_at = sources[n, 2], channels * v
                                given = work, pa + low * v, here, x1, first_at, x2, second_at, channels, total
                                if op == ops.DATA:
                                    differences(*given)
                                else:
                                    products(*given)
                                continue
                            if n != fixed_for[0] or i != fixed_for[1]:
                                if op == ops.BENT:
                                    bent_constants(rk, ck, n, i, fixed)
                                else:
                                    constants(rk, ck, n, i, fixed)
                                fixed_for = n, i
                            if op == ops.BENT:
                                rd, to = code[k, 8], code[k, 9]
                                pd = registers[rd, 0] - _turn(registers[rd, 1], low, done) if rd >= 0 else 0
                                beside = pb + low * v if rb >= 0 else -1
                                bent_relu(
                                    work, (pa + low * v, beside, pc + low * v, (pd + low) * v),
                                    (*here, strip(spots, at + 3 * side, high - low)), (rp, cp),
                                    (at_row + i, size * height, height), (at_col, size * v), (rk, n, i),
                                    code[k, 7], fixed, buffers,
                                    (
                                        _sums_of(starts, to, i - first_row),
                                        _sums_of(starts, to + 1, i - first_row),
                                        _sums_of(starts, to + 2, i - first_row),
                                    ),
                                )  # fmt: skip
                                continue
                            relu(
                                work, pa + low * v, pb + low * v if rb >= 0 else -1,
                                (*here, strip(spots, at + 3 * side, high - low)), (rp, cp),
                                (at_row + i, size * height, height), (at_col, size * v),
                                rk[n, i], code[k, 7], fixed,
                            )  # fmt: skip
                            continue
                        for m in range(low, high):
                            if places[3, space, m] % 16 != 0 and op > ops.LAST_PADDED:
                                continue  # nobody reads it
                            row, col = places[0, space, m], places[1, space, m]
                            a = strip(work, pa + m * v, v)
                            b = strip(work, pb + m * v, v) if rb >= 0 else none
                            c = strip(work, pc + m * v, v) if rc >= 0 else none
                            left = table(rp, at_row + row * size * height, size, height)
                            right = table(cp, at_col + col * size * v, size, v)
                            if op == ops.CO:
                                correlations(a, b, left, right, 0, i)
                                if code[k, 7] != 0 and 0 <= i - own < v:
                                    a[i - own] = 1
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
                                for t in range(v):
                                    a[t] = 0
                            elif op == ops.COPY:
                                for t in range(v):
                                    a[t] = b[t]
                            elif op == ops.RECALL:
                                at = maps[0][n, 0, component[0]] + m
                                if taps[0][at] < taps[0][at + 1]:
                                    source = taps[1][taps[0][at]]
                                    if registers[rb, 1]:
                                        source += whole - wrap if source < wrap else -wrap
                                        source &= registers[rb, 1] - 1
                                    recalled(work, pa + m * v, (registers[rb, 0] + source) * v, v)
                            elif op == ops.COVARIANCE:
                                covariances(a, b, left, right, 0, i)
                            elif op == ops.MULTIPLY:
                                for t in range(v):
                                    a[t] *= b[t]
                            elif op == ops.TIMES:
                                scaled(b, left, right, 0, i, 0, a)
                            elif op == ops.DUAL:
                                dual = d0 if n == 0 else d1 if n == 1 else d2 if n == 2 else d3
                                dual(b, left, right, 0, i, 0, a, c)
                            elif op == ops.SERIES:
                                first_terms, second_terms = coefs[n, 2], coefs[n, 3]
                                from_row = coefs[n, 0] + row * height * first_terms
                                alpha = table(row_coefs, from_row, height, first_terms)
                                from_col = coefs[n, 1] + col * v * second_terms
                                beta = table(col_coefs, from_col, second_terms, v)
                                missed[i - first_row] += expand(
                                    b, entries[n], terms, least, alpha, beta, left, right, 0, i, 0, a, c
                                )
                            elif op == ops.BOTH:
                                both(a, b, c)
                            elif op == ops.NORMAL:
                                normal(a, b, left, right, 0, i, 0)
                                if code[k, 7] == 2 and 0 <= i - own < v:
                                    a[i - own] = 1
                                elif code[k, 7] != 0 and row == col and 0 <= i - own < v:
                                    a[i - own] = 0
                            elif op == ops.FRESH:
                                if row == col and 0 <= i - own < v:
                                    a[i - own] += left[0, i] * right[0, i - own]
                            elif op == ops.LOAD:
                                at = starts[n, 0] + ((i - first_row) * starts[n, 1] + places[2, space, m]) * v
                                known = places[3, space, m] < 16
                                for t in range(v):
                                    a[t] = buffers[at + t] if known else 0.0
                            elif op == ops.PLAIN:
                                covariance(b, left, right, 0, i, 0, a)
                            elif op == ops.BEND:
                                bend(a, b, left[0, i], right[0])
                            elif op == ops.PRODUCT:
                                product(a, b, c, left, right, 0, i, 0)
                            elif op == ops.ROWS or op == ops.COLS:
                                at, step, apart = _sums_of(starts, n, i - first_row)
                                at += (row if op == ops.ROWS else col) * step
                                if rb < 0:
                                    gather(buffers, at, a, apart)
                                else:
                                    gather_products(buffers, at, a, b, apart)
                            elif op == ops.CURVED:
                                rd, to = code[k, 8], code[k, 9]
                                place = registers[rd, 0] + m - _turn(registers[rd, 1], low, done)
                                first_terms, second_terms = coefs[n, 2], coefs[n, 3]
                                from_row = coefs[n, 0] + row * height * first_terms
                                from_col = coefs[n, 1] + col * v * second_terms
                                missed[i - first_row] += curved(
                                    a, b, c, strip(work, place * v, v), entries[n], terms, least,
                                    table(row_coefs, from_row, height, first_terms),
                                    table(col_coefs, from_col, second_terms, v),
                                    left, right, i, bends,
                                )  # fmt: skip
                                for s in range(2):
                                    at, step, apart = _sums_of(starts, to + s, i - first_row)
                                    gather(buffers, at + (col if s else row) * step, bends[s], apart)
                            elif op == ops.DATA_ROWS or op == ops.DATA_COLS:
                                line = code[k, 9]
                                channels = sources[line, 0]
                                if op == ops.DATA_ROWS:
                                    at = starts[n, 0] + (i - first_row) * starts[n, 1] + row * channels
                                    other = sources[line, 2] + col * channels * v
                                    data_rows(a, x2, other, channels, buffers, at)
                                else:
                                    at = starts[n, 0] + col * channels * v
                                    other = sources[line, 1] + (i + row * height) * channels
                                    data_cols(a, x1, other, channels, buffers, at)
                            elif op == ops.STORE and places[3, space, m] < 16:
                                at = starts[n, 0] + ((i - first_row) * starts[n, 1] + places[2, space, m]) * v
                                if code[k, 7] != 0:
                                    for t in range(v):
                                        put(buffers, at + t, np.float64(a[t]))
                                    continue
                                for t in range(v):
                                    put(buffers, at + t, get(buffers, at + t) + np.float64(a[t]))
                    done += high - low
                    if done < (whole if axes == 1 else whole - wrap):
                        continue
                    for j in range(stop - end):
                        upto = shapes[part, j, 3, axes - 2] if axes > 1 else 0
                        if done < whole:
                            known = (done - whole + wrap) // width
                            upto = written[j]
                            lines, place = shapes[part, j, 3, 0], shapes[part, j, 4, 0]
                            while upto < lines and reach(taps, place + upto, inner) < known:
                                upto += 1
                        if upto > written[j] or axes == 1:
                            mix(
                                work, registers[code[end + j, 1], 0] * v, registers[code[end + j, 2], 0] * v,
                                registers[registers.shape[0] - 1, 0] * v, taps,
                                shapes[part, j, 4], shapes[part, j], axes, written[j], upto, v,
                            )  # fmt: skip
                        written[j] = upto
                    if done == whole:
                        break
    return kept.size + row_constants.size + curves.size + held.size + numbers.size  # which live until here
