"""Kernels and their derivatives, strip by strip: a short program forwards, then its adjoint backwards.

A register is a strip of pairs that is kept until the strip is done: correlations (their co-correlation e and
rho itself), plain covariances, partial derivatives of expectations, and *adjoints*, the derivatives of the
output by what the adjoint is of.  Going backwards is nothing but products and sums, so it is the same few
operations.  Where the program reaches a number that depends on parameters it ends in a *channel*: strips A
and B such that d K_ij by a parameter is A_ij r_i + B_ij c_j, with r and c the derivatives of numbers of a
single input.  Channels are either spread out over the parameters, entry by entry, or, with every pair
weighted beforehand, summed over rows and columns.

An instruction is (operation, a, b, c, d, p, m): registers a to d, -1 where there is none, the first parameter
row p (as in `tpnum.kernels.machine`), and m, which counts or selects.
"""

from __future__ import annotations

import math

from tpnum.kernels._jit import kernel
from tpnum.kernels._sums import summed
from tpnum.kernels.curves import partials
from tpnum.kernels.gram import correlate_strip, mirror
from tpnum.kernels.machine import BLOCK, both, collect, join, normal
from tpnum.kernels.piecewise import covariance, first_layer

OPERATIONS = (
    "gram",  # a <- co-correlation of the data, panel m; b <- rho
    "dense",  # a, b <- the same of a dense layer on c, parameters p
    "start",  # a, b <- 0: numerators of 1 - rho and 1 + rho
    "collect",  # a, b gain the share of a term with co-correlation c (-1: one), parameters p and m
    "join",  # a <- the co-correlation from a, b; b <- rho
    "both",  # a <- co-correlation of the product of independent factors b, c; d <- rho
    "normal",  # a <- co-correlation of the covariance b, inverse deviations p; d <- rho
    "plain",  # a <- r_i c_j rho(b), parameter p
    "dual",  # a <- e of b, c <- derivative kernel or -1, by the function in slot m, parameters p
    "series",  # the same by Hermite series m
    "multiply",  # a <- (m: a +) r_i c_j b c d, parameter p
    "bend",  # a <- r_i c_j / sqrt(1 - rho^2) of co-correlations b, 0 where rho is 1 to rounding; parameter p
    "curve",  # a, a + 1 .. a + 4 <- partial derivatives by series m of correlations b, parameter p
    "seed",  # a <- r_i c_j times the weights, parameter p
    "grams",  # panel m <- a
    "channel",  # channel m: A = a, B = b
)
"""In the order of their codes."""

(
    GRAM, DENSE, START, COLLECT, JOIN, BOTH, NORMAL, PLAIN, DUAL, SERIES, MULTIPLY, BEND, CURVE, SEED, GRAMS,
    CHANNEL,
) = range(len(OPERATIONS))  # fmt: skip

CLOSE = 1e-15
"""A co-correlation whose derivative, of its own size, is lost in that of the correlation."""
PARTIALS = 5
"""Registers that a curve writes."""


@kernel
def _rho(e, out):
    """Correlations from co-correlations."""
    for k in range(e.size):
        out[k] = math.copysign(1.0 - abs(e[k]), e[k])


@kernel
def _multiply(a, b, c, d, r, s, more):
    """a = r s b c d, added to what is there if ``more`` is not 0; b, c, d may be empty from the last on."""
    if b.size == 0:
        for k in range(a.size):
            a[k] = r * s[k] if more == 0 else a[k] + r * s[k]
    elif c.size == 0 and more == 0:
        for k in range(a.size):
            a[k] = (r * s[k]) * b[k]
    elif c.size == 0:
        for k in range(a.size):
            a[k] += (r * s[k]) * b[k]
    elif d.size == 0 and more == 0:
        for k in range(a.size):
            a[k] = (r * s[k]) * (b[k] * c[k])
    elif d.size == 0:
        for k in range(a.size):
            a[k] += (r * s[k]) * (b[k] * c[k])
    elif more == 0:
        for k in range(a.size):
            a[k] = (r * s[k]) * (b[k] * c[k] * d[k])
    else:
        for k in range(a.size):
            a[k] += (r * s[k]) * (b[k] * c[k] * d[k])


@kernel
def bend(a, e, r, s):
    """1 - rho^2 = y (2 - y)."""
    for k in range(a.size):
        y = abs(e[k])
        near = y < CLOSE
        root = math.sqrt((1.0 if near else y) * (2.0 - y))
        a[k] = (0.0 if near else r * s[k]) / root


@kernel
def _spread(totals, a, b, active, rows, cols, i, j):
    """totals_p gain A r_ip + B c_pj for every parameter p."""
    n = a.size
    for p in range(active.size):
        total = totals[p, :n]
        if active[p] & 1:
            u = rows[p, i]
            for k in range(n):
                total[k] += u * a[k]
        if active[p] & 2:
            v = cols[p, j : j + n]
            for k in range(n):
                total[k] += v[k] * b[k]


@kernel
def _strip(
    code, ends, panels, grams, data, threshold, params, series, curves, channels, work, outs, place,
    d0, d1, d2, d3, by_series,
):  # fmt: skip
    """One row of some columns, forwards and backwards; returns how often series do not reach."""
    x1, x2, frame1, frame2 = data
    rp, cp = params
    entries, terms, least, row_coefs, col_coefs = series
    active, slopes1, slopes2 = channels
    registers, extra, totals, weights = work
    out, sums, firsts, seconds, backs = outs
    i, r, s, col0, n, own = place
    j = col0 + s
    none = registers[0, :0]
    missed = 0
    for k in range(code.shape[0]):
        if k == ends and missed > 0:
            return missed
        op = code[k, 0]
        a = registers[code[k, 1]]
        b = registers[code[k, 2]] if code[k, 2] >= 0 else none
        c = registers[code[k, 3]] if code[k, 3] >= 0 else none
        d = registers[code[k, 4]] if code[k, 4] >= 0 else none
        p = code[k, 5]
        m = code[k, 6]
        if op == MULTIPLY:
            _multiply(a, b, c, d, rp[p, i], cp[p, j : j + n], m)
        elif op == GRAM:
            source = panels[m, r, s : s + n]
            g, h = grams[m, 0], grams[m, 1]
            correlate_strip(source, a, x1[g], x2[h], frame1[g], frame2[h], i, j, threshold)
            if own >= 0:
                a[own] = 1.0  # an example and itself: left to whoever knows it exactly
            _rho(a, b)
        elif op == DENSE:
            for t in range(n):
                a[t] = c[t]
            first_layer(a, b, rp, cp, p, i, j)
        elif op == DUAL:
            dual = d0 if m == 0 else d1 if m == 1 else d2 if m == 2 else d3
            dual(b, rp, cp, p, i, j, a, c)
        elif op == PLAIN:
            covariance(b, rp, cp, p, i, j, a)
        elif op == BEND:
            bend(a, b, rp[p, i], cp[p, j : j + n])
        elif op == CHANNEL:
            if totals.size > 0:
                _spread(totals, a, b, active[m], slopes1[m], slopes2[m], i, j)
            else:
                firsts[m, r] += summed(a)
                second = seconds[m, s : s + n]
                for t in range(b.size):
                    second[t] += b[t]
        elif op == START:
            a[:] = 0.0
            b[:] = 0.0
        elif op == COLLECT:
            collect(a, b, c, rp, cp, p, m, i, j)
        elif op == JOIN:
            join(a, b)
            _rho(a, b)
        elif op == BOTH:
            both(a, b, c)
            _rho(a, d)
        elif op == NORMAL:
            normal(a, b, rp, cp, p, i, j)
            _rho(a, d)
        elif op == SERIES:
            own_coefs = row_coefs, i * col_coefs.shape[0], 1
            missed += by_series(
                b, entries[m], terms, least, own_coefs, col_coefs, rp, cp, p, i, j, a, c, extra
            )
        elif op == CURVE:
            first = code[k, 1]
            missed += partials(b, m, curves, rp, cp, p, i, j, extra, registers[first : first + PARTIALS])
        elif op == SEED:
            seeds = weights[r, s : s + n] if weights.size > 0 else none
            _multiply(a, seeds, none, none, rp[p, i], cp[p, j : j + n], 0)
        elif backs.size > 0:
            back = backs[m, r, s : s + n]
            for t in range(n):
                back[t] = a[t]
    for p in range(totals.shape[0]):
        total = totals[p, :n]
        if out.size > 0:
            goal = out[p, i, j : j + n]
            for t in range(n):
                goal[t] = total[t]
        else:
            sums[p, r] += summed(total)
        total[:] = 0.0
    return missed


@kernel
def run(
    code, ends, panels, grams, data, threshold, params, series, curves, channels, work, outs, missed, corner,
    symmetric, d0, d1, d2, d3, by_series,
):  # fmt: skip
    """Run ``code``, whose way back begins at ``ends``, over panels (G, R, C) of cosines as `machine.run` is.

    ``channels`` say for each channel and parameter whether A (1), B (2) or both (3) count, and hold the
    derivatives (channels, parameters, N) of the numbers of rows and of columns.  ``work`` are the registers,
    strips for series, a strip of zeros for each parameter, or none, and the weights (R, C), empty for ones.

    With strips for parameters, derivatives are written to the first of ``outs``, (P, N1, N2), of a
    ``symmetric`` matrix to the mirrored place too; where it is empty, summed over columns to the second,
    (P, R).  Without, sums of A over columns go to the third, (channels, R), those of B over rows to the
    fourth, (channels, C); the fifth, (G, R, C), takes the adjoints of Gram matrices.  ``missed``
    (R, C / `BLOCK`) counts what series do not reach where its strip begins; such strips are left out.
    """
    registers, extra, totals, weights = work[0], work[1], work[2], work[3]
    count, strip = registers.shape
    flat = registers.reshape(registers.size)
    row0, col0 = corner
    height, width = panels.shape[1], panels.shape[2]
    for top in range(0, height, BLOCK):
        bottom = min(top + BLOCK, height)
        first = row0 + top
        start = max(0, first - col0) // BLOCK * BLOCK if symmetric else 0
        for s in range(start, width, strip):
            n = min(strip, width - s)
            now = flat[: count * n].reshape((count, n)), extra, totals, weights
            for r in range(top, bottom):
                i = row0 + r
                own = i - (col0 + s) if symmetric and 0 <= i - (col0 + s) < n else -1
                missed[r, s // BLOCK] += _strip(
                    code, ends, panels, grams, data, threshold, params, series, curves, channels, now, outs,
                    (i, r, s, col0, n, own), d0, d1, d2, d3, by_series,
                )  # fmt: skip
            if symmetric and outs[0].size > 0:
                for p in range(outs[0].shape[0]):
                    out = outs[0][p]
                    mirror(out[first : first + bottom - top, col0 + s : col0 + s + n], out, first, col0 + s)
