"""Leads of the largest entries of two windows given ties, at all nodes of several cells (formulas: `ties`).

Registers are flat: those of an entry have a number for every node and cell, the cell running fastest.
"""

from __future__ import annotations

import math

from tpnum.kernels._elementary import angle_of
from tpnum.kernels._jit import full_width, helper, kernel
from tpnum.kernels._views import get_first, get_read, put_first, put_second

CELLS = 8
"""Cells that are gone over together."""

TURN = 2.0 * math.pi
LEAST = 1e-12
"""Variances below are rounding, of leads of order one."""


@helper
def _arc(k, a, b):
    """The arc sine of a correlation, from the covariance and both variances."""
    rho = min(1.0, abs(k) / math.sqrt(max(a * b, 1e-60)))
    angle = angle_of(rho, math.sqrt((1.0 - rho) * (1.0 + rho)))
    return angle if k >= 0.0 else -angle


@kernel
def tie_more(k, d, m, w, logs, inverse, at, below, to, pivot, size, parent, ties, lanes):
    """One more tie: the determinant M, M^{-1/2} and (log M)'/2 with it, and 1/K_pp."""
    full_width()
    own = (at + pivot * size + pivot) * lanes
    old, new = below * lanes, to * lanes
    for l in range(lanes):
        put_first(inverse, l, 1.0 / max(get_read(k, own + l), LEAST))
    _tied_measures(k, m, w, inverse, own, old, new, lanes)
    before, after = parent * lanes, ties * lanes
    for l in range(lanes):
        rate = 0.5 * get_read(d, own + l) * inverse[l]
        put_second(logs, after + l, get_read(logs, before + l) + rate)


@kernel
def _tied_measures(k, m, w, inverse, own, old, new, lanes):
    full_width()
    for l in range(lanes):
        put_first(m, new + l, get_read(m, old + l) * max(get_read(k, own + l), LEAST))
        put_second(w, new + l, get_read(w, old + l) * math.sqrt(get_read(inverse, l)))


@kernel
def factors(k, d, f, h, inverse, rows, count, at, size, pivot, lanes):
    """Of a sweep: f = K_.p/K_pp and h = K'_.p - f K'_pp/2, for every row."""
    full_width()
    own = (at + pivot * size + pivot) * lanes
    for n in range(count):
        i = rows[n]
        beside = (at + min(i, pivot) * size + max(i, pivot)) * lanes
        to = i * lanes
        for l in range(lanes):
            share = get_read(k, beside + l) * get_read(inverse, l)
            put_first(f, to + l, share)
            put_second(h, to + l, get_read(d, beside + l) - 0.5 * share * get_read(d, own + l))


@kernel
def sweep(k, d, f, h, rows, count, at, to, size, pivot, lanes):
    """K given that entry ``pivot`` is zero, and its derivative, from the place ``at`` to the place ``to``."""
    full_width()
    for n in range(count):
        i = rows[n]
        fi, hi = i * lanes, i * lanes
        beside = (at + min(i, pivot) * size + max(i, pivot)) * lanes
        for m in range(n, count):
            j = rows[m]
            old, new = (at + i * size + j) * lanes, (to + i * size + j) * lanes
            fj = j * lanes
            for l in range(lanes):
                first, second = get_read(f, fi + l), get_read(f, fj + l)
                put_first(k, new + l, get_read(k, old + l) - second * get_read(k, beside + l))
                moved = first * get_read(h, fj + l) + second * get_read(h, hi + l)
                put_second(d, new + l, get_read(d, old + l) - moved)


@kernel
def turns(k, d, logs, h, g, rows, count, at, size, ties, lanes):
    """g = the sum over pairs in dP/dt, but for what all terms have in common; h = M^{-1/2} P of all ties.

    K'_aa/(2 K_aa) is what (log M)'/2 grows by with the tie of a.
    """
    full_width()
    base = ties * lanes
    for l in range(lanes):
        put_first(g, l, 0.0)
    for n in range(count):
        i = rows[n]
        for m in range(n + 1, count):
            j = rows[m]
            pair, first, second = (
                (at + i * size + j) * lanes,
                (ties | 1 << i) * lanes,
                (ties | 1 << j) * lanes,
            )
            below = (ties | 1 << i | 1 << j) * lanes
            for l in range(lanes):
                grown = (
                    2.0 * get_read(logs, base + l) - get_read(logs, first + l) - get_read(logs, second + l)
                )
                rate = get_read(d, pair + l) + get_read(k, pair + l) * grown
                put_first(g, l, get_first(g, l) + rate * get_read(h, below + l))


@kernel
def few_leads(k, p, rows, count, at, size, to, lanes):
    """The orthant of up to three leads."""
    full_width()
    constant = 0.5**count
    for l in range(lanes):
        put_first(p, to + l, constant)
    unit = 1.0 / TURN if count == 2 else 0.5 / TURN
    for n in range(count):
        i = rows[n]
        a = (at + i * size + i) * lanes
        for m in range(n + 1, count):
            j = rows[m]
            b, pair = (at + j * size + j) * lanes, (at + i * size + j) * lanes
            for l in range(lanes):
                angle = _arc(get_read(k, pair + l), get_read(k, a + l), get_read(k, b + l))
                put_first(p, to + l, get_first(p, to + l) + unit * angle)


@kernel
def integrated(g, m, w, step, p, begin, other, table, at, nodes):
    """P from its beginning, the product of those of both windows, and dP/dt at the nodes."""
    full_width()
    lanes = nodes * CELLS
    for l in range(lanes):
        rate = get_read(step, l) * get_read(m, at + l) * get_read(w, at + l)
        put_first(p, lanes + l, get_read(g, l) * rate)
    _mixed(p, begin, other, table, nodes)


@kernel
def _mixed(p, begin, other, table, nodes):
    full_width()
    lanes = nodes * CELLS
    for q in range(nodes):
        for c in range(CELLS):
            put_first(p, q * CELLS + c, get_read(begin, c) * get_read(other, c))
        for r in range(nodes):
            share = table[q, r]
            for c in range(CELLS):
                made = get_first(p, q * CELLS + c) + share * get_read(p, lanes + r * CELLS + c)
                put_first(p, q * CELLS + c, made)


@kernel
def scaled(p, w, h, at, to, lanes):
    """h = M^{-1/2} P."""
    full_width()
    for l in range(lanes):
        put_first(h, to + l, get_read(p, l) * get_read(w, at + l))


@kernel
def at_first(m, w, logs, measure, ties, nodes):
    """Where the ties are of u alone nothing depends on t."""
    lanes = nodes * CELLS
    for c in range(CELLS):
        root = 1.0 / math.sqrt(measure[c])
        for q in range(nodes):
            m[q * CELLS + c] = measure[c]
            w[q * CELLS + c] = root
            logs[ties * lanes + q * CELLS + c] = 0.0


@kernel
def leads_given(k, d, t, given, second, base, rows, count, first_size, second_size, nodes):
    """The matrices of the leads given ties of u alone: ``given`` from its sweeps, ``second`` those of v."""
    full_width()
    size = first_size + second_size
    lanes = nodes * CELLS
    origin = first_size + base
    corner = (origin * size + origin) * CELLS
    for n in range(count):
        i = rows[n]
        one = (min(i, origin) * size + max(i, origin)) * CELLS
        for o in range(n, count):
            j = rows[o]
            place, to = (i * size + j) * CELLS, (i * size + j) * lanes
            two = (min(j, origin) * size + max(j, origin)) * CELLS
            if j < first_size:
                for q in range(nodes):
                    for c in range(CELLS):
                        put_first(k, to + q * CELLS + c, get_read(given, place + c))
                        put_second(d, to + q * CELLS + c, 0.0)
            elif i < first_size:
                for q in range(nodes):
                    for c in range(CELLS):
                        slope = get_read(given, one + c) - get_read(given, place + c)
                        put_first(k, to + q * CELLS + c, get_read(t, q * CELLS + c) * slope)
                        put_second(d, to + q * CELLS + c, slope)
            else:
                a, b = (i - first_size) * second_size, (j - first_size) * second_size
                aa, ab, bb = (a + base) * CELLS, (a + j - first_size) * CELLS, (b + base) * CELLS
                whole = (base * second_size + base) * CELLS
                for q in range(nodes):
                    for c in range(CELLS):
                        time = get_read(t, q * CELLS + c)
                        lost = get_read(given, corner + c) - get_read(given, one + c)
                        lost += get_read(given, place + c) - get_read(given, two + c)
                        kept = get_read(second, whole + c) - get_read(second, aa + c)
                        kept += get_read(second, ab + c) - get_read(second, bb + c)
                        put_first(k, to + q * CELLS + c, kept + time * time * lost)
                        put_second(d, to + q * CELLS + c, 2.0 * time * lost)


@kernel
def reduced(k, f, rows, count, at, to, size, pivot):
    """`sweep` of one matrix a cell, without a derivative; f is scratch."""
    own = (at + pivot * size + pivot) * CELLS
    for n in range(count):
        i = rows[n]
        beside = (at + min(i, pivot) * size + max(i, pivot)) * CELLS
        for c in range(CELLS):
            f[i * CELLS + c] = k[beside + c] / max(k[own + c], LEAST)
    for n in range(count):
        i = rows[n]
        beside = (at + min(i, pivot) * size + max(i, pivot)) * CELLS
        for m in range(n, count):
            j = rows[m]
            old, new = (at + i * size + j) * CELLS, (to + i * size + j) * CELLS
            for c in range(CELLS):
                k[new + c] = k[old + c] - f[j * CELLS + c] * k[beside + c]
