"""The machine: a short program of strip operations, run over a panel of pairs in L1.

Registers are strips of pairs; one instruction reads and writes whole registers, so the
dispatch costs nothing and no architecture triggers a compilation.  Row r of the panel is input row0 + r,
column c is input col0 + c; ``rp`` and ``cp`` hold the parameters of every instruction per input.

An instruction is (operation, a, b, c, p, n): registers a, b, c, first parameter row p, and n, which
counts or selects.  Correlations are kept as co-correlations e = copysign(1 - |rho|, rho).
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._borrow import borrow
from tpnum.kernels._elementary import meets, rounding
from tpnum.kernels._jit import kernel, maker, template
from tpnum.kernels._strip import NEAR
from tpnum.kernels._views import strip
from tpnum.kernels.gram import correlate_strip, mirror
from tpnum.kernels.piecewise import (
    abrelu_layer,
    covariance,
    dense_layer,
    first_layer,
    relu_bias_layer,
    relu_layer,
)
from tpnum.kernels.series import EXACT, ODD, STABLE, closest_of, needed, series_by

BLOCK = 64
"""Rows that are finished, mirrored ones included, before the next columns."""

OPERATIONS = (
    "gram",  # a <- co-correlation of the data, panel n
    "zero",  # a <- 0
    "first_layer",  # dense layer on data in place, ntk parametrisation: b <- the same kernel
    "relu_layer",  # layer in place: a co-correlation, b tangent or -1; n: correlations may be negative
    "relu_bias_layer",  # the same with a bias, parameters p
    "abrelu_layer",  # the same for any piecewise linear function, parameters p
    "dense_layer",  # dense layer in place: a co-correlation, b tangent or -1
    "multiply",  # a <- a b
    "add",  # a <- a + r_i c_j b, parameter p
    "add_rho",  # a <- a + r_i c_j rho(b), parameter p
    "add_product",  # a <- a + r_i c_j b c, parameter p
    "add_outer",  # a <- a + r_i c_j, parameter p
    "start",  # a, b <- 0: numerators of 1 - rho and 1 + rho
    "collect",  # a, b gain the share of a term with co-correlation c (-1: one), parameters p
    "join",  # a <- the co-correlation from a, b
    "both",  # a <- co-correlation of the product of independent factors b, c
    "normal",  # a <- co-correlation of the plain covariance b, inverse deviations p
    "copy",  # a <- b
    "store_covariance",  # output n <- r_i c_j rho(a), parameter p
    "store_scaled",  # output n <- r_i c_j a, parameter p
    "dual",  # a <- e of b, c <- derivative kernel or -1, by the function in slot n
    "series",  # the same by Hermite series n
)
"""In the order of their codes."""

(
    GRAM, ZERO, FIRST, RELU, RELU_BIAS, ABRELU, DENSE, MULTIPLY, ADD, ADD_RHO, ADD_PRODUCT, ADD_OUTER, START,
    COLLECT, JOIN, BOTH, NORMAL, COPY, STORE_COVARIANCE, STORE_SCALED, DUAL, SERIES,
) = range(len(OPERATIONS))  # fmt: skip


@kernel
def add(a, b, rp, cp, p, i, j0):
    """a += r_i c_j b."""
    r = rp[p, i]
    c = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        a[k] += (r * c[k]) * b[k]


@kernel
def add_rho(a, e, rp, cp, p, i, j0):
    """a += r_i c_j rho."""
    one = a.dtype.type(1)
    r = rp[p, i]
    c = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        a[k] += (r * c[k]) * math.copysign(one - abs(e[k]), e[k])


@kernel
def add_product(a, b, c, rp, cp, p, i, j0):
    """a += r_i c_j b c."""
    r = rp[p, i]
    s = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        a[k] += (r * s[k]) * (b[k] * c[k])


@kernel
def product(a, b, c, rp, cp, p, i, j0):
    """a = r_i c_j b c."""
    r = rp[p, i]
    s = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        a[k] = (r * s[k]) * (b[k] * c[k])


@kernel
def add_outer(a, rp, cp, p, i, j0):
    """a += r_i c_j."""
    r = rp[p, i]
    c = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        a[k] += r * c[k]


@kernel
def scaled(a, rp, cp, p, i, j0, out):
    """out = r_i c_j a."""
    r = rp[p, i]
    c = cp[p, j0 : j0 + a.size]
    for k in range(a.size):
        out[k] = (r * c[k]) * a[k]


@kernel
def collect(near, far, e, rp, cp, p, q, i, j0):
    """A term c s rho_k of a normalised sum, with factors c_i, s_i of the row and c, s of the columns.

    1 -+ rho gain (c_i - c)(s_i - s) / 2 + (c_i s + c s_i)(1 -+ rho_k) / 2, which is (c_i +- c)(s_i +- s) / 2
    for an empty ``e``, a term of correlation one (a shared bias, a mean).
    """
    one = near.dtype.type(1)
    half = near.dtype.type(0.5)
    c_i, s_i = rp[p, i], rp[q, i]
    c = cp[p, j0 : j0 + near.size]
    s = cp[q, j0 : j0 + near.size]
    if e.size == 0:
        for k in range(near.size):
            near[k] += half * ((c_i - c[k]) * (s_i - s[k]))
            far[k] += half * ((c_i + c[k]) * (s_i + s[k]))
        return
    for k in range(near.size):
        y = abs(e[k])
        right = math.copysign(one, e[k]) > 0
        apart = half * ((c_i - c[k]) * (s_i - s[k]))
        weight = half * (c_i * s[k] + c[k] * s_i)
        near[k] += apart + weight * (y if right else one + (one - y))
        far[k] += apart + weight * (one + (one - y) if right else y)


@kernel
def join(near, far):
    """The co-correlation whose 1 - rho and 1 + rho are ``near`` and ``far``, whichever is the smaller."""
    one = near.dtype.type(1)
    zero = near.dtype.type(0)
    for k in range(near.size):
        small = min(max(min(near[k], far[k]), zero), one)
        near[k] = small if near[k] <= far[k] else -small


@kernel
def both(out, e, f):
    """Product of independent factors: 1 - |rho_1 rho_2| = y_1 + y_2 - y_1 y_2."""
    one = out.dtype.type(1)
    for k in range(out.size):
        y, z = abs(e[k]), abs(f[k])
        out[k] = math.copysign(y + z * (one - y), math.copysign(one, e[k]) * math.copysign(one, f[k]))


@kernel
def normal(out, t, rp, cp, p, i, j0):
    """The co-correlation of a covariance; 1 - |rho| to rounding only, which is taken for zero."""
    one = out.dtype.type(1)
    zero = out.dtype.type(0)
    least = rounding(one)
    r = rp[p, i]
    c = cp[p, j0 : j0 + out.size]
    for k in range(out.size):
        rho = (r * c[k]) * t[k]
        y = one - abs(rho)
        out[k] = math.copysign(y if y > least else zero, rho)


@maker
def expand(e, entry, terms, least, row_coefs, col_coefs, rp, cp, p, i, j0, out_e, out_d, work):
    """A dual by its Hermite series, with as many terms as the strip's largest |rho| needs.

    ``row_coefs`` are where the row's coefficients are: numbers, the place of the first, the step to the next.
    ``entry``: first coefficient, how many, parity, what holds of a function with itself (0 of two functions):
    `EXACT` and `STABLE` (`tpnum.kernels.series`); first limit, how many.  ``work`` has room for its strips.

    Returns 1 if some pair is closer than all terms can serve (duplicates apart, which are exact), else 0.
    """
    start, count, parity, same, at, limits = entry[0], entry[1], entry[2], entry[3], entry[4], entry[5]
    one = e.dtype.type(1)
    r0, r1 = rp[p, i], rp[p + 1, i]
    closest = closest_of(e, work[0])
    found = 0
    if meets(closest) and same & EXACT != 0:
        c0, c1 = cp[p, j0 : j0 + e.size], cp[p + 1, j0 : j0 + e.size]
        where = np.empty(e.size, np.intp)
        turned = np.empty(e.size, np.bool_)
        for k in range(e.size):
            if meets(e[k]) and r0 == c0[k] and r1 == c1[k]:
                turned[found] = math.copysign(one, e[k]) < 0
                if parity != 0 or not turned[found]:
                    where[found] = k
                    found += 1
        for k in range(e.size):
            out_e[k] = e[k]
        for k in range(found):
            out_e[where[k]] = one
        closest = closest_of(out_e, work[0])
    used = needed(closest, terms, least, at, limits)
    missed = 1 if used < 0 else 0
    used = count if used < 0 else used
    a = row_coefs[0], row_coefs[1] + start * row_coefs[2], row_coefs[2]
    b = col_coefs[start : start + count]
    rs, cs = strip(rp, p * rp.shape[1], rp.shape[1]), strip(cp, p * cp.shape[1], cp.shape[1])
    near = same & STABLE != 0 and (parity != ODD or closest < NEAR)
    if found == 0:
        series_by(work, e, a, b, rs, cs, i, j0, used, parity, near, out_e, out_d)
        return missed
    series_by(work, out_e, a, b, rs, cs, i, j0, used, parity, near, out_e, out_d)
    for k in range(found):
        m = where[k]
        out_e[m] = -(one - one) if turned[k] and parity < 0 else one - one
        if out_d.size > 0:
            out_d[m] = -r1 * c1[m] if turned[k] and parity > 0 else r1 * c1[m]
    return missed


@kernel
def no_dual(e, rp, cp, p, i, j0, out_e, out_d):
    """What is in the slots that a program does not use."""


@kernel
def no_series(e, entry, terms, least, row_coefs, col_coefs, rp, cp, p, i, j0, out_e, out_d, work):
    """What programs without series have in place of `expand`."""
    return 1


@template
def _strips(
    code,
    panels,
    grams,
    data,
    threshold,
    params,
    tables,
    work,
    scratch,
    outs,
    place,
    d0,
    d1,
    d2,
    d3,
    by_series,
):
    """Rows top..bottom of the columns s..s+n; ``missed`` counts what series miss."""
    x1, x2, frame1, frame2 = data
    rp, cp = params
    entries, terms, least, row_coefs, col_coefs = tables
    out0, out1, many, missed = outs
    row0, col0, top, bottom, s, n = place
    j = col0 + s
    none = work[0, :0]
    for r in range(top, bottom):
        i = row0 + r
        for k in range(code.shape[0]):
            op = code[k, 0]
            a = work[code[k, 1]]
            b = work[code[k, 2]] if code[k, 2] >= 0 else none
            c = work[code[k, 3]] if code[k, 3] >= 0 else none
            p = code[k, 4]
            m = code[k, 5]
            if op == RELU_BIAS:
                relu_bias_layer(a, b, rp, cp, p, i, j, m != 0)
            elif op == RELU:
                relu_layer(a, b, m != 0)
            elif op == GRAM:
                source = panels[m, r, s : s + n]
                g, h = grams[m, 0], grams[m, 1]
                correlate_strip(source, a, x1[g], x2[h], frame1[g], frame2[h], i, j, threshold)
            elif op == FIRST:
                first_layer(a, b, rp, cp, p, i, j)
            elif op == ZERO:
                a[:] = 0
            elif op == ABRELU:
                abrelu_layer(a, b, rp, cp, p, i, j)
            elif op == DENSE:
                dense_layer(a, b, rp, cp, p, i, j)
            elif op == MULTIPLY:
                for t in range(n):
                    a[t] *= b[t]
            elif op == ADD:
                add(a, b, rp, cp, p, i, j)
            elif op == ADD_RHO:
                add_rho(a, b, rp, cp, p, i, j)
            elif op == ADD_PRODUCT:
                add_product(a, b, c, rp, cp, p, i, j)
            elif op == ADD_OUTER:
                add_outer(a, rp, cp, p, i, j)
            elif op == START:
                a[:] = 0
                b[:] = 0
            elif op == COLLECT:
                collect(a, b, c, rp, cp, p, p + 1, i, j)
            elif op == JOIN:
                join(a, b)
            elif op == BOTH:
                both(a, b, c)
            elif op == NORMAL:
                normal(a, b, rp, cp, p, i, j)
            elif op == COPY:
                for t in range(n):
                    a[t] = b[t]
            elif op == STORE_COVARIANCE or op == STORE_SCALED:
                if m == 0 and out0.size > 0:
                    goal = out0[i, j : j + n]
                elif m == 1 and out1.size > 0:
                    goal = out1[i, j : j + n]
                else:
                    goal = many[m, r, s : s + n]
                if op == STORE_SCALED:
                    scaled(a, rp, cp, p, i, j, goal)
                else:
                    covariance(a, rp, cp, p, i, j, goal)
            elif op == DUAL:
                dual = d0 if m == 0 else d1 if m == 1 else d2 if m == 2 else d3
                dual(b, rp, cp, p, i, j, a, c)
            else:
                own = row_coefs, i * col_coefs.shape[0], 1
                missed[r, s // BLOCK] += by_series(
                    b, entries[m], terms, least, own, col_coefs, rp, cp, p, i, j, a, c, scratch
                )


@kernel
def run(
    code, panels, grams, data, threshold, params, tables, registers, outs, corner, symmetric,
    d0, d1, d2, d3, by_series,
):  # fmt: skip
    """Run ``code`` over panels (G, R, C) of cosines whose first entry is at ``corner`` of the matrix.

    ``data`` are the rows and the columns that the panels are of, stacked, and their frames (`kernels.gram`);
    ``grams`` (G, 2) says which of them each panel needs; pairs closer than ``threshold`` are computed again.
    ``params`` are (P, N) per row input and per column input, ``tables`` the series (`lower.tables`), the
    last five the dual strips in their slots and `expand`, or what stands for them (`kernels.duals`), so that
    a program compiles what it uses; beside ``registers`` are the strips that `expand` works in, as long.  Of
    ``outs``, outputs 0 and 1 are whole matrices, of a ``symmetric`` one the mirrored place too while it is in
    the cache; where they are empty, everything goes to the third, (n, R, C).  The last, (R, C / `BLOCK`),
    counts pairs that their series miss where their strip, as wide as a register, begins.
    """
    code, panels, grams = borrow(code), borrow(panels), borrow(grams)
    data = borrow(data[0]), borrow(data[1]), borrow(data[2]), borrow(data[3])
    params = borrow(params[0]), borrow(params[1])
    tables = borrow(tables[0]), borrow(tables[1]), borrow(tables[2]), borrow(tables[3]), borrow(tables[4])
    outs = borrow(outs[0]), borrow(outs[1]), borrow(outs[2]), borrow(outs[3])
    count, long = registers[0].shape
    flat, extra = borrow(registers[0]).reshape(registers[0].size), borrow(registers[1])
    row0, col0 = corner
    height, width = panels.shape[1], panels.shape[2]
    for top in range(0, height, BLOCK):
        bottom = min(top + BLOCK, height)
        i = row0 + top
        start = max(0, i - col0) // BLOCK * BLOCK if symmetric else 0
        for s in range(start, width, long):
            n = min(long, width - s)
            j = col0 + s
            work = flat[: count * n].reshape((count, n))
            place = row0, col0, top, bottom, s, n
            _strips(
                code, panels, grams, data, threshold, params, tables, work, extra, outs, place,
                d0, d1, d2, d3, by_series,
            )  # fmt: skip
            if symmetric and outs[0].size > 0:
                mirror(outs[0][i : i + bottom - top, j : j + n], outs[0], i, j)
            if symmetric and outs[1].size > 0:
                mirror(outs[1][i : i + bottom - top, j : j + n], outs[1], i, j)
