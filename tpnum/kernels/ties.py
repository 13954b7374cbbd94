"""Pairs of largest entries of centred Gaussian vectors, by integrals nested over ties.

u and v have the covariances A and B, and t C between them.  E max u max v has the second derivative in t

    sum_f c_f^2 (2 pi)^{-1} M_f^{-1/2} P_f,      f = (S, T), S two entries of u that are equal, T two of v,

c_f the covariance of both differences at t = 1, M_f the determinant of the covariance of the differences
within S and T, P_f the probability that, given these ties, no other entry is larger.  That is an orthant,
of which (Schlaefli 1858, Plackett 1954), over the pairs a, b of the other entries,

    dP_f/dt = (2 pi)^{-1} sum_{a<b} (K'_ab - K_ab (K'_aa/K_aa + K'_bb/K_bb)/2) M_f^{1/2} M_g^{-1/2} P_g,

K the covariance of the leads over a, b given the ties, g the ties with a and b too: down to orthants of three
or fewer leads, which are sums of arcs.  All are functions of one variable, so that each integral is a product
with one matrix over the nodes.  t = cos x, x from pi/2 down to 0: nothing is singular then where u = v.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, maker
from tpnum.kernels.leads import (
    CELLS,
    LEAST,
    TURN,
    at_first,
    factors,
    few_leads,
    integrated,
    leads_given,
    reduced,
    scaled,
    sweep,
    tie_more,
    turns,
)

_WIDER = 4.0  # what is singular matters from some distance on

ROOT, TIE, DONE = 0, 1, 2
"""Steps of a walk through ties of a window: one entry alone, one more tied to it, all larger ones done."""


@helper
def _rest(rows, ties, begin, end, count):
    """Append the entries from begin to end that are not tied to the ``count`` that rows has."""
    for i in range(begin, end):
        if not ties >> i & 1:
            rows[count] = i
            count += 1
    return count


@helper
def _begin(k, cov, cross, base, d, e):
    """The leads of entry ``base`` of u over the others, beside the entries of v, of which none is known."""
    size = d + e
    for i in range(d):
        for j in range(i, d):
            for c in range(CELLS):
                made = cov[c, base, base] - cov[c, i, base] - cov[c, base, j] + cov[c, i, j]
                k[(i * size + j) * CELLS + c] = made
        for j in range(e):
            for c in range(CELLS):
                k[(i * size + d + j) * CELLS + c] = cross[c, base, j] - cross[c, i, j]
    for i in range(d, size):
        for j in range(i, size):
            for c in range(CELLS):
                k[(i * size + j) * CELLS + c] = 0.0


@maker
def alone(cov, walk, some, mean, square):
    """Of families (n, d, d), n a multiple of `CELLS`: P_S of ties S (n, 2^d), E max and what is to be added
    to sum_i cov_ii P_i for E max^2 (n,).

    Of up to five entries, so that orthants are of up to three; single ones of five have none.  By parts

        E max = sum_{i<k} (V_ik / 2 pi)^{1/2} P_ik,
        E max^2 = sum_i cov_ii P_i + (2 pi)^{-1} sum_{i<k, l} (V_ik / V_l)^{1/2} C_l P_ikl,

    V_ik the variance of u_i - u_k, V_l that of u_i - u_l and C_l its covariance with u_i, given the tie i, k.
    """
    d = cov.shape[1]
    size = d + 1  # the last one is the leader itself
    area = size * size
    k, f, p = np.empty(d * area * CELLS), np.empty(size * CELLS), np.empty(CELLS)
    rows = np.empty(size, np.int64)
    for n in range(0, cov.shape[0], CELLS):
        here = cov[n : n + CELLS]
        for step in range(walk.shape[0]):
            kind, base, depth, pivot, ties = walk[step]
            count = _rest(rows, ties, 0, d, 0)
            if kind == ROOT:
                _begin(k, here, here[:, :, base : base + 1], base, d, 1)
            elif kind == TIE:
                rows[count] = d
                reduced(k, f, rows, count + 1, (depth - 1) * area, depth * area, size, pivot)
            elif count <= 3:
                few_leads(k, p, rows, count, depth * area, size, 0, CELLS)
                for c in range(CELLS):
                    some[n + c, ties] = p[c]
                if depth == 1:
                    _by_parts(k, here, some[n:], rows, count, area, base, pivot, ties, mean[n:], square[n:])


@helper
def _by_parts(k, cov, some, rows, count, at, base, pivot, ties, mean, square):
    """Add the terms of the tie of two entries."""
    d = cov.shape[1]
    for c in range(CELLS):
        apart = cov[c, base, base] + cov[c, pivot, pivot] - 2.0 * cov[c, base, pivot]
        root = math.sqrt(max(apart, 0.0))
        mean[c] += root / math.sqrt(TURN) * some[c, ties]
        for i in range(count):
            l = rows[i]
            own = at + l * (d + 1)
            beside, variance = k[(own + d) * CELLS + c], max(k[(own + l) * CELLS + c], LEAST)
            square[c] += root / TURN * beside / math.sqrt(variance) * some[c, ties | 1 << l]


@helper
def _times(cov, other, cross, least, x, t, step, late):
    """Of each cell the nodes t, the steps dt over 2 pi, and these times 1 - t.

    Near u = v something is singular at the distance arccos rho from x = 0, rho the largest correlation of two
    differences, and beyond: nodes are crowded from this scale on, or from ``least``.
    """
    d, e, nodes = cov.shape[1], other.shape[1], x.shape[0]
    for c in range(CELLS):
        most = 0.0
        for i in range(d):
            for k in range(i):
                a = cov[c, i, i] + cov[c, k, k] - 2.0 * cov[c, i, k]
                for j in range(e):
                    for l in range(j):
                        b = other[c, j, j] + other[c, l, l] - 2.0 * other[c, j, l]
                        both = cross[c, i, j] - cross[c, i, l] - cross[c, k, j] + cross[c, k, l]
                        most = max(most, both * both / max(a * b, 1e-60))
        scale = max(least, _WIDER * math.sqrt(max(0.0, 1.0 - most)))
        reach = math.asinh(0.25 * TURN / scale)
        for q in range(nodes):
            at = reach * (1.0 - x[q])
            angle = scale * math.sinh(at)
            half = math.sin(0.5 * angle)
            l = q * CELLS + c
            t[l] = math.cos(angle)
            step[l] = math.sin(angle) * scale * reach * math.cosh(at) / TURN
            late[l] = step[l] * 2.0 * half * half


@helper
def _spread(grown, i, j, k, l, out):
    """What the tie of i with k and of j with l moves between the probabilities of who is the largest."""
    out[i, j] += grown
    out[k, l] += grown
    out[i, l] -= grown
    out[k, j] -= grown


@maker
def tied_pairs(first, second, cross, some, others, walk, walks, least, x, weights, table, value, shares):
    """Add to E max u max v (n,) and to P(argmax u = i, argmax v = j) (n, d, e) what grows from t = 0 to 1.

    That is all but E max u E max v + p' C q, and p q', p and q the probabilities of either argmax.  Cells
    are a multiple of `CELLS`: covariances first (n, d, d), second (n, e, e), cross (n, d, e); ``some`` and
    ``others`` P_S and P_T (n, 2^d), (n, 2^e); walks of both windows; nodes x and weights on (0, 1), and
    ``table`` (nodes, nodes), the integrals from 0 to each node.  ``least`` bounds how crowded they are.
    """
    d, e, nodes = first.shape[1], second.shape[1], x.shape[0]
    size, lanes = d + e, nodes * CELLS
    area = size * size
    given, spare = np.empty(d * area * CELLS), np.empty(size * CELLS)
    given_size = np.empty(d * CELLS)
    own = np.empty(e * e * CELLS)
    k, dk = np.empty(e * area * lanes), np.empty(e * area * lanes)
    m, w, inverse = np.empty(e * lanes), np.empty(e * lanes), np.empty(lanes)
    f, h, g, p = np.empty(size * lanes), np.empty(size * lanes), np.empty(lanes), np.empty(2 * lanes)
    found, logs = np.empty((1 << size) * lanes), np.empty((1 << size) * lanes)
    t, step, late = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    begin, other = np.empty(CELLS), np.empty(CELLS)
    rows = np.empty(size, np.int64)
    for n in range(0, first.shape[0], CELLS):
        here = slice(n, n + CELLS)
        _times(first[here], second[here], cross[here], least, x, t, step, late)
        for i in range(e):
            for j in range(e):
                for c in range(CELLS):
                    own[(i * e + j) * CELLS + c] = second[n + c, i, j]
        for one in range(walk.shape[0]):
            kind, base, depth, pivot, ties = walk[one]
            if kind == ROOT:
                _begin(given, first[here], cross[here], base, d, e)
                for c in range(CELLS):
                    given_size[c] = 1.0
                continue
            if kind == TIE:
                for c in range(CELLS):
                    variance = max(given[((depth - 1) * area + pivot * size + pivot) * CELLS + c], LEAST)
                    given_size[depth * CELLS + c] = given_size[(depth - 1) * CELLS + c] * variance
                count = _rest(rows, ties, 0, size, 0)
                reduced(given, spare, rows, count, (depth - 1) * area, depth * area, size, pivot)
                continue
            if depth == 0:
                continue
            for c in range(CELLS):
                begin[c] = some[n + c, ties]
            for two in range(walks.shape[0]):
                kind, root, below, entry, beside = walks[two]
                both = ties | beside << d
                count = _rest(rows, both, 0, size, 0)
                if kind == ROOT:
                    at_first(m, w, logs, given_size[depth * CELLS :], both, nodes)
                    leads_given(k, dk, t, given[depth * area * CELLS :], own, root, rows, count, d, e, nodes)
                    continue
                odd = (depth + below) % 2 == 1
                if kind == TIE:
                    at, to, last = (below - 1) * area, below * area, both ^ (1 << (d + entry))
                    pivot_v = d + entry
                    tie_more(
                        k, dk, m, w, logs, inverse, at, below - 1, below, pivot_v, size, last, both, lanes
                    )
                    if not odd or entry < e - 1:
                        factors(k, dk, f, h, inverse, rows, count, at, size, pivot_v, lanes)
                        sweep(k, dk, f, h, rows, count, at, to, size, pivot_v, lanes)
                    continue
                if below == 0 or odd:
                    continue
                if count <= 3:
                    few_leads(k, p, rows, count, below * area, size, 0, lanes)
                else:
                    for c in range(CELLS):
                        other[c] = others[n + c, beside]
                    turns(k, dk, logs, found, g, rows, count, below * area, size, both, lanes)
                    integrated(g, m, w, step, p, begin, other, table, below * lanes, nodes)
                scaled(p, w, found, below * lanes, both * lanes, lanes)
                if depth == 1 and below == 1:
                    for c in range(CELLS):
                        covariance = cross[n + c, base, root] - cross[n + c, base, entry]
                        covariance += cross[n + c, pivot, entry] - cross[n + c, pivot, root]
                        grown, curved = 0.0, 0.0
                        for q in range(nodes):
                            rate = weights[q] * found[both * lanes + q * CELLS + c]
                            grown += step[q * CELLS + c] * rate
                            curved += late[q * CELLS + c] * rate
                        value[n + c] += covariance * covariance * curved
                        _spread(covariance * grown, base, root, pivot, entry, shares[n + c])
