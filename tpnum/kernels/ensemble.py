"""The machine of an ensemble: a list of operations on rows of samples, done block by block of samples.

``x[b, r]`` is block b of row r: a block of all rows stays in the nearest caches while every operation of the
list is applied to it, and is read from memory once.  An operation is a row of ``ops``:

=========  ===  ===  ========  =========  ==================================================================
0          1    2    3         4          does
=========  ===  ===  ========  =========  ==================================================================
COMBINE    n    m    out, in   own, c     out[i] = own[i] out[i] + sum_k c[i, k] in[k]; c filled up to fours
INNER      n    m    in, in    sums       sums[i, k] += sum of left[i] right[k] over samples; filled up too
DOTS       n         in, in    sums       sums[i] += sum of left[i] right[i]
NORMALS    n         out       keys       out[i] = standard normals of a stream
QUASI      n         out       keys       out[i] = Sobol points; keys: how many numbers each has, and these
CONSTANT   n         out       value      out[i] = value
others     n    a    out, in              out[i] = f(in[0, i], .., in[a - 1, i])
=========  ===  ===  ========  =========  ==================================================================

Columns 3 and 4 are where the rows begin in ``rows`` and the numbers in ``numbers``, ``keys`` or ``sums``.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._elementary import decay, decline
from tpnum.kernels._jit import kernel, maker, reduction
from tpnum.kernels._sums import dotted
from tpnum.kernels.draws import normals, quasi_normals

BLOCK = 512
COMBINE, INNER, DOTS, NORMALS, QUASI, CONSTANT, TANH, SECH2, MULTIPLY, RELU, STEP = range(11)


@reduction
def _inner(y, width, left, right, sums):
    """Add inner products of rows to ``sums``, 4 x 2 at a time: as many as fit into 16 registers twice."""
    n, m = left.size, right.size
    for i in range(0, n, 4):
        a0, a1, a2, a3 = left[i], left[min(i + 1, n - 1)], left[min(i + 2, n - 1)], left[min(i + 3, n - 1)]
        for k in range(0, m, 2):
            b0, b1 = right[k], right[min(k + 1, m - 1)]
            s00 = s01 = s10 = s11 = 0.0
            s20 = s21 = s30 = s31 = 0.0
            for s in range(width):
                p, q = y[b0, s], y[b1, s]
                u = y[a0, s]
                s00 += u * p
                s01 += u * q
                u = y[a1, s]
                s10 += u * p
                s11 += u * q
                u = y[a2, s]
                s20 += u * p
                s21 += u * q
                u = y[a3, s]
                s30 += u * p
                s31 += u * q
            sums[i, k] += s00
            sums[i, k + 1] += s01
            sums[i + 1, k] += s10
            sums[i + 1, k + 1] += s11
            sums[i + 2, k] += s20
            sums[i + 2, k + 1] += s21
            sums[i + 3, k] += s30
            sums[i + 3, k + 1] += s31


@kernel
def _add(a0, a1, a2, a3, c, o0, o1, o2, o3):
    """Add c (4 x 4) times four rows to four others."""
    c00, c01, c02, c03 = c[0, 0], c[0, 1], c[0, 2], c[0, 3]
    c10, c11, c12, c13 = c[1, 0], c[1, 1], c[1, 2], c[1, 3]
    c20, c21, c22, c23 = c[2, 0], c[2, 1], c[2, 2], c[2, 3]
    c30, c31, c32, c33 = c[3, 0], c[3, 1], c[3, 2], c[3, 3]
    for s in range(a0.size):
        p, q, r, t = a0[s], a1[s], a2[s], a3[s]
        o0[s] += c00 * p + c01 * q + c02 * r + c03 * t
        o1[s] += c10 * p + c11 * q + c12 * r + c13 * t
        o2[s] += c20 * p + c21 * q + c22 * r + c23 * t
        o3[s] += c30 * p + c31 * q + c32 * r + c33 * t


@kernel
def _scale(c, u, out):
    for s in range(u.size):
        out[s] = c * u[s]


@kernel
def _fill(value, out):
    for s in range(out.size):
        out[s] = value


@kernel
def _combine(y, width, out, rows, own, coefs, work):
    n, m = out.size, rows.size
    o0, o1, o2, o3 = work[0, :width], work[1, :width], work[2, :width], work[3, :width]
    for i in range(0, n, 4):
        for j in range(4):
            if i + j < n and own[i + j] != 0.0:
                _scale(own[i + j], y[out[i + j], :width], work[j, :width])
            else:
                _fill(0.0, work[j, :width])
        for k in range(0, m, 4):
            a0 = y[rows[k], :width]
            a1 = y[rows[min(k + 1, m - 1)], :width]
            a2 = y[rows[min(k + 2, m - 1)], :width]
            a3 = y[rows[min(k + 3, m - 1)], :width]
            _add(a0, a1, a2, a3, coefs[i : i + 4, k : k + 4], o0, o1, o2, o3)
        for j in range(i, min(i + 4, n)):
            _scale(1.0, work[j - i, :width], y[out[j], :width])


@kernel
def _tanh(u, out):
    for s in range(u.size):
        v = -2.0 * abs(u[s])
        out[s] = math.copysign(decline(v) / (1.0 + decay(v)), u[s])


@kernel
def _sech2(u, out):
    for s in range(u.size):
        e = decay(-2.0 * abs(u[s]))
        out[s] = 4.0 * e / ((1.0 + e) * (1.0 + e))


@kernel
def _multiply(u, v, out):
    for s in range(u.size):
        out[s] = u[s] * v[s]


@kernel
def _relu(u, out):
    for s in range(u.size):
        out[s] = u[s] if u[s] > 0.0 or u[s] != u[s] else 0.0


@kernel
def _step(u, out):
    for s in range(u.size):
        out[s] = 1.0 if u[s] > 0.0 else (0.0 if u[s] <= 0.0 else u[s])


@kernel
def _function(kind, y, width, out, first, last):
    for i in range(out.size):
        u, v, w = y[first[i], :width], y[last[i], :width], y[out[i], :width]
        if kind == TANH:
            _tanh(u, w)
        elif kind == SECH2:
            _sech2(u, w)
        elif kind == MULTIPLY:
            _multiply(u, v, w)
        elif kind == RELU:
            _relu(u, w)
        else:
            _step(u, w)


@maker
def run(x, size, first, ops, rows, numbers, keys, sums):
    """Apply all operations to ``size`` samples, which are the numbers ``first``, .. of their streams."""
    work = np.empty((4, BLOCK))
    for b in range(x.shape[0]):
        y = x[b]
        width = min(BLOCK, size - b * BLOCK)
        for o in range(ops.shape[0]):
            kind, n, m, at, place = ops[o, 0], ops[o, 1], ops[o, 2], ops[o, 3], ops[o, 4]
            one, two = rows[at : at + n], rows[at + n : at + n + m]
            if kind == COMBINE:
                own = numbers[place : place + n]
                high, wide = (n + 3) // 4 * 4, (m + 3) // 4 * 4
                coefs = numbers[place + n : place + n + high * wide].reshape((high, wide))
                _combine(y, width, one, two, own, coefs, work)
            elif kind == INNER:
                high, wide = (n + 3) // 4 * 4, (m + 1) // 2 * 2
                _inner(y, width, one, two, sums[place : place + high * wide].reshape((high, wide)))
            elif kind == DOTS:
                for i in range(n):
                    sums[place + i] += dotted(y[one[i], :width], y[two[i], :width])
            elif kind == NORMALS:
                for i in range(n):
                    normals(keys[place + i], first + b * BLOCK, work, y[one[i], :width])
            elif kind == QUASI:
                each = np.int64(keys[place])
                for i in range(n):
                    begin = place + 1 + i * each
                    quasi_normals(keys[begin : begin + each], first + b * BLOCK, work, y[one[i], :width])
            elif kind == CONSTANT:
                for i in range(n):
                    _fill(numbers[place], y[one[i], :width])
            else:
                _function(kind, y, width, one, two[:n], two[two.size - n :])
