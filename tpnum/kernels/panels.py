"""Two-dimensional Gaussian expectations of piecewise polynomials, pair by pair, by panel quadrature.

u runs over Gauss-Legendre panels that end at the cuts of f, at the images of g's cuts, and around the
images of g's kinks at the width of v | u; given u, v runs over a Gauss-Hermite rule where g is smooth
within reach and over panels that end at its cuts where it is not.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import fused, helper, maker

_X16, _W16 = np.polynomial.legendre.leggauss(16)
_XH, _WH = np.polynomial.hermite_e.hermegauss(16)
_WH = _WH / math.sqrt(2.0 * math.pi)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
_AROUND = np.array([-9.0, -5.5, -2.5, 0.0, 2.5, 5.5, 9.0])

_CERTAIN = 1e-9  # below this standard deviation of v | u, v is a function of u
_PANEL = 2.0  # width of a panel in standard deviations of u
_INNER = 4.0  # and of v | u


@helper
def _polynomial(c, t):
    """c[0] + .. + c[15] t^15 by Estrin's scheme."""
    t2 = t * t
    t4 = t2 * t2
    low = (c[0] + c[1] * t + t2 * (c[2] + c[3] * t)) + t4 * (c[4] + c[5] * t + t2 * (c[6] + c[7] * t))
    high = (c[8] + c[9] * t + t2 * (c[10] + c[11] * t)) + t4 * (c[12] + c[13] * t + t2 * (c[14] + c[15] * t))
    return low + t4 * t4 * high


@helper
def _locate(breaks, u, piece):
    """The piece that holds u (the first or last one beyond the ends), walking from a guess."""
    while piece > 0 and u < breaks[piece]:
        piece -= 1
    while piece < breaks.shape[0] - 2 and u >= breaks[piece + 1]:
        piece += 1
    return piece


@helper
def _local(breaks, piece, u):
    """u as t in [-1, 1] on its piece."""
    low, high = breaks[piece], breaks[piece + 1]
    return ((u - low) + (u - high)) / (high - low)


@helper
def _search(breaks, u):
    """The piece that holds u, by bisection."""
    low = 0
    high = breaks.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if u < breaks[middle]:
            high = middle
        else:
            low = middle
    return low


@helper
def _edges(edges, rho, sigma, low, high, cuts1, mean1, root1, cuts2, kinked2, mean2, root2):
    """Fill the panel ends in z of the outer integral, sorted; returns how many."""
    count = int(math.ceil((high - low) / _PANEL))
    n = 0
    for k in range(count + 1):
        edges[n] = low + (high - low) * k / count
        n += 1
    for k in range(1, cuts1.shape[0] - 1):
        z = (cuts1[k] - mean1) / root1
        if z > low and z < high:
            edges[n] = z
            n += 1
    if abs(rho) > 0.05:
        width = sigma / abs(rho)
        before = -1e300
        for k in range(1, cuts2.shape[0] - 1):
            z = (cuts2[k] - mean2) / (root2 * rho)
            if kinked2[k] and sigma > _CERTAIN:
                if width < 0.7:
                    for m in range(_AROUND.shape[0]):
                        at = z + _AROUND[m] * width
                        if at > low and at < high:
                            edges[n] = at
                            n += 1
            elif abs(z - before) > width and z > low and z < high:
                edges[n] = z
                n += 1
                before = z
    edges[:n].sort()
    return n


@fused
def _given(g, unit, reach, centre, spread, f):
    """E g(v), E (f - g(v))^2, E (f + g(v))^2 and E g'(v) for v ~ N(centre, spread^2), g times ``unit``."""
    breaks, coef, slope, cuts, kinked = g
    start, stop = centre - reach * spread, centre + reach * spread
    first = _search(cuts, start)
    last = first
    narrow = cuts[first + 1] - cuts[first]
    smooth = True
    while last < cuts.shape[0] - 2 and cuts[last + 1] < stop:
        last += 1
        narrow = min(narrow, cuts[last + 1] - cuts[last])
        smooth = smooth and not kinked[last]
    piece = _search(breaks, start)
    total, minus, plus, steep = 0.0, 0.0, 0.0, 0.0
    if smooth and 8.0 * spread <= narrow:
        for b in range(16):
            v = centre + spread * _XH[b]
            piece = _locate(breaks, v, piece)
            t = _local(breaks, piece, v)
            value = _polynomial(coef[piece], t) * unit
            total += _WH[b] * value
            minus += _WH[b] * (f - value) * (f - value)
            plus += _WH[b] * (f + value) * (f + value)
            steep += _WH[b] * _polynomial(slope[piece], t)
        return total, minus, plus, steep
    begin = -reach
    for own in range(first, last + 1):
        end = reach if own == last else (cuts[own + 1] - centre) / spread
        if end <= begin:
            continue
        parts = int(math.ceil((end - begin) / _INNER))
        h = 0.5 * (end - begin) / parts
        for part in range(parts):
            at = begin + (2 * part + 1) * h
            for b in range(16):
                x = at + h * _X16[b]
                w = h * _W16[b] * _DENSITY * math.exp(-0.5 * x * x)
                v = centre + spread * x
                piece = _locate(breaks, v, piece)
                t = _local(breaks, piece, v)
                value = _polynomial(coef[piece], t) * unit
                total += w * value
                minus += w * (f - value) * (f - value)
                plus += w * (f + value) * (f + value)
                steep += w * _polynomial(slope[piece], t)
        begin = end
    return total, minus, plus, steep


@fused
def _certain(g, unit, v, f):
    """As `_given`, where there is one v."""
    breaks, coef, slope, _, _ = g
    piece = _search(breaks, v)
    t = _local(breaks, piece, v)
    value = _polynomial(coef[piece], t) * unit
    return value, (f - value) * (f - value), (f + value) * (f + value), _polynomial(slope[piece], t)


@maker
def panel_pairs(e, row, col, rows, cols, f, g, out_e, out_d):
    """Co-correlation of (f(u), g(v)) and E f'(u) g'(v) for the pairs (row[n], col[n]) of co-correlation e[n].

    ``rows`` are (mean, root, unit, low, high): u ~ N(mean, root^2), unit = 1/sqrt(E f^2), low and high the
    range of u in z; ``cols`` (mean, root, unit, reach), ``reach`` how far v | u runs.  f and g are tables
    (breaks, coef, slope, cuts, kinked) as of `tpnum.gauss.table.Table`.
    """
    mean1, root1, unit1, low1, high1 = rows
    mean2, root2, unit2, reach2 = cols
    breaks1, coef1, slope1, cuts1, _ = f
    cuts2, kinked2 = g[3], g[4]
    edges = np.empty(64 + cuts1.shape[0] + cuts2.shape[0] * _AROUND.shape[0] + int(80.0 / _PANEL))
    for n in range(e.shape[0]):
        i, j = row[n], col[n]
        away = abs(e[n])
        rho = math.copysign(1.0 - away, e[n])
        sigma = math.sqrt(away * (2.0 - away))
        count = _edges(
            edges, rho, sigma, low1[i], high1[i], cuts1, mean1[i], root1[i],
            cuts2, kinked2, mean2[j], root2[j],
        )  # fmt: skip
        total, minus, plus, slopes = 0.0, 0.0, 0.0, 0.0
        p1 = 0
        for panel in range(count - 1):
            half = 0.5 * (edges[panel + 1] - edges[panel])
            if half <= 0.0:
                continue
            middle = 0.5 * (edges[panel + 1] + edges[panel])
            for a in range(16):
                z = middle + half * _X16[a]
                weight = half * _W16[a] * _DENSITY * math.exp(-0.5 * z * z)
                u = mean1[i] + root1[i] * z
                p1 = _locate(breaks1, u, p1)
                t = _local(breaks1, p1, u)
                value = _polynomial(coef1[p1], t) * unit1[i]
                steep = _polynomial(slope1[p1], t)
                centre = mean2[j] + root2[j] * rho * z
                if sigma <= _CERTAIN:
                    made = _certain(g, unit2[j], centre, value)
                else:
                    made = _given(g, unit2[j], reach2[j], centre, root2[j] * sigma, value)
                total += weight * value * made[0]
                minus += weight * made[1]
                plus += weight * made[2]
                slopes += weight * steep * made[3]
        if total > 0.5:
            out_e[n] = 0.5 * minus
        elif total < -0.5:
            out_e[n] = -0.5 * plus
        else:
            out_e[n] = math.copysign(1.0 - abs(total), total)
        if out_d.shape[0] > 0:
            out_d[n] = slopes
