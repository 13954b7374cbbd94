"""Rows of samples: inner products, linear combinations, normal numbers and a few functions, row by row.

``x`` is always an arena, one row of samples per vector; rows are named by their numbers.  Every kernel
walks along the samples in blocks that stay in the nearest cache, four rows by four rows at a time.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._elementary import decay, decline
from tpnum.kernels._jit import fused, kernel, reduction

BLOCK = 1024


@reduction
def _tile(a0, a1, a2, a3, b0, b1, b2, b3, out):
    """Add the 4 x 4 inner products of two quadruples of rows to ``out``."""
    s00 = s01 = s02 = s03 = 0.0
    s10 = s11 = s12 = s13 = 0.0
    s20 = s21 = s22 = s23 = 0.0
    s30 = s31 = s32 = s33 = 0.0
    for s in range(a0.size):
        p, q, r, t = b0[s], b1[s], b2[s], b3[s]
        u = a0[s]
        s00 += u * p
        s01 += u * q
        s02 += u * r
        s03 += u * t
        u = a1[s]
        s10 += u * p
        s11 += u * q
        s12 += u * r
        s13 += u * t
        u = a2[s]
        s20 += u * p
        s21 += u * q
        s22 += u * r
        s23 += u * t
        u = a3[s]
        s30 += u * p
        s31 += u * q
        s32 += u * r
        s33 += u * t
    out[0, 0] += s00
    out[0, 1] += s01
    out[0, 2] += s02
    out[0, 3] += s03
    out[1, 0] += s10
    out[1, 1] += s11
    out[1, 2] += s12
    out[1, 3] += s13
    out[2, 0] += s20
    out[2, 1] += s21
    out[2, 2] += s22
    out[2, 3] += s23
    out[3, 0] += s30
    out[3, 1] += s31
    out[3, 2] += s32
    out[3, 3] += s33


@kernel
def inner(x, left, right, out):
    """Mean over the samples of x[left[i]] x[right[j]], into out[i, j]."""
    n, m, size = left.size, right.size, x.shape[1]
    work = np.zeros((n + 3, m + 3))
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        for i in range(0, n, 4):
            a0 = x[left[i], begin:end]
            a1 = x[left[min(i + 1, n - 1)], begin:end]
            a2 = x[left[min(i + 2, n - 1)], begin:end]
            a3 = x[left[min(i + 3, n - 1)], begin:end]
            for j in range(0, m, 4):
                b0 = x[right[j], begin:end]
                b1 = x[right[min(j + 1, m - 1)], begin:end]
                b2 = x[right[min(j + 2, m - 1)], begin:end]
                b3 = x[right[min(j + 3, m - 1)], begin:end]
                _tile(a0, a1, a2, a3, b0, b1, b2, b3, work[i : i + 4, j : j + 4])
    for i in range(n):
        for j in range(m):
            out[i, j] = work[i, j] / size


@reduction
def _dot(a, b):
    total = 0.0
    for s in range(a.size):
        total += a[s] * b[s]
    return total


@kernel
def dots(x, left, right, out):
    """Mean over the samples of x[left[i]] x[right[i]], into out[i]."""
    size = x.shape[1]
    out[:] = 0.0
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        for i in range(left.size):
            out[i] += _dot(x[left[i], begin:end], x[right[i], begin:end])
    for i in range(left.size):
        out[i] /= size


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
def combine(x, rows, coefs, out):
    """Rows out[i] become sum_k coefs[i, k] x[rows[k]]; none of ``rows`` is among ``out``."""
    n, m, size = out.size, rows.size, x.shape[1]
    work = np.empty((4, BLOCK))
    padded = np.zeros((n + 3, m + 3))
    padded[:n, :m] = coefs
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        o0, o1 = work[0, : end - begin], work[1, : end - begin]
        o2, o3 = work[2, : end - begin], work[3, : end - begin]
        for i in range(0, n, 4):
            work[:] = 0.0
            for k in range(0, m, 4):
                a0 = x[rows[k], begin:end]
                a1 = x[rows[min(k + 1, m - 1)], begin:end]
                a2 = x[rows[min(k + 2, m - 1)], begin:end]
                a3 = x[rows[min(k + 3, m - 1)], begin:end]
                _add(a0, a1, a2, a3, padded[i : i + 4, k : k + 4], o0, o1, o2, o3)
            for j in range(i, min(i + 4, n)):
                x[out[j], begin:end] = work[j - i, : end - begin]


@kernel
def remove(x, rows, coefs, scale, out):
    """Rows out[i] become scale[i] (out[i] - sum_k coefs[i, k] x[rows[k]]); none of ``rows`` is in ``out``."""
    n, m, size = out.size, rows.size, x.shape[1]
    work = np.empty((4, BLOCK))
    padded = np.zeros((n + 3, m + 3))
    padded[:n, :m] = -coefs
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        o0, o1 = work[0, : end - begin], work[1, : end - begin]
        o2, o3 = work[2, : end - begin], work[3, : end - begin]
        for i in range(0, n, 4):
            for j in range(4):
                work[j, : end - begin] = x[out[min(i + j, n - 1)], begin:end]
            for k in range(0, m, 4):
                a0 = x[rows[k], begin:end]
                a1 = x[rows[min(k + 1, m - 1)], begin:end]
                a2 = x[rows[min(k + 2, m - 1)], begin:end]
                a3 = x[rows[min(k + 3, m - 1)], begin:end]
                _add(a0, a1, a2, a3, padded[i : i + 4, k : k + 4], o0, o1, o2, o3)
            for j in range(i, min(i + 4, n)):
                x[out[j], begin:end] = scale[j] * work[j - i, : end - begin]


# --- normal numbers -----------------------------------------------------------------------------------------

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ROOT_HALF = np.int64(0x3FE6A09E667F3BCD)
_ONE = np.int64(0x3FF0000000000000)
_LN2 = math.log(2.0)
_LOG = tuple(2.0 / (2 * k + 3) for k in range(11))
_SIN = tuple((-1.0) ** k * (0.5 * math.pi) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1.0) ** k * (0.5 * math.pi) ** (2 * k) / math.factorial(2 * k) for k in range(9))


@fused
def _bits(key, i):
    """The i-th output of the SplitMix64 generator that starts at ``key``."""
    z = key + np.uint64(i) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@fused
def _uniform(z):
    """In [0, 1): the upper 52 bits."""
    return np.int64((z >> np.uint64(12)) | np.uint64(0x3FF0000000000000)).view(np.float64) - 1.0


@fused
def _log(u):
    """Natural logarithm of a positive normal number."""
    b = np.float64(u).view(np.int64)
    k = (b - _ROOT_HALF) >> np.int64(52)
    f = np.int64(b - (k << np.int64(52))).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    c = _LOG
    p = c[10]
    p = p * z + c[9]
    p = p * z + c[8]
    p = p * z + c[7]
    p = p * z + c[6]
    p = p * z + c[5]
    p = p * z + c[4]
    p = p * z + c[3]
    p = p * z + c[2]
    p = p * z + c[1]
    p = p * z + c[0]
    return k * _LN2 + (2.0 * s + s * z * p)


@fused
def _quarter(r):
    """sin and cos of r pi/2 for |r| <= 1/2."""
    z = r * r
    a, b = _SIN, _COS
    s = a[8]
    c = b[8]
    s = s * z + a[7]
    c = c * z + b[7]
    s = s * z + a[6]
    c = c * z + b[6]
    s = s * z + a[5]
    c = c * z + b[5]
    s = s * z + a[4]
    c = c * z + b[4]
    s = s * z + a[3]
    c = c * z + b[3]
    s = s * z + a[2]
    c = c * z + b[2]
    s = s * z + a[1]
    c = c * z + b[1]
    s = s * z + a[0]
    c = c * z + b[0]
    return s * r, c


@kernel
def _normal_pairs(key, first, even, odd):
    for i in range(even.size):
        at = 2 * (first + i)
        z = _bits(key, at)
        s, c = _quarter(_uniform(z) - 0.5)
        radius = math.sqrt(-2.0 * _log(1.0 - _uniform(_bits(key, at + 1))))
        turn = z & np.uint64(1)
        flip = 1.0 - np.float64(np.int64(z & np.uint64(2)))
        even[i] = radius * flip * (s if turn else c)
        odd[i] = radius * flip * (-c if turn else s)


@kernel
def normals(x, rows, keys, first):
    """Rows become the standard normals ``first``, first + 1, .. of the streams ``keys``; ``first`` is even.

    Box and Muller's transform of SplitMix64's numbers; a stream is the same whatever piece is asked for.
    """
    even, odd = np.empty(BLOCK), np.empty(BLOCK)
    size = x.shape[1]
    for k in range(rows.size):
        for begin in range(0, size, 2 * BLOCK):
            end = min(begin + 2 * BLOCK, size)
            half = (end - begin + 1) // 2
            _normal_pairs(keys[k], (first + begin) // 2, even[:half], odd[:half])
            row = x[rows[k], begin:end]
            for i in range((end - begin) // 2):
                row[2 * i] = even[i]
                row[2 * i + 1] = odd[i]
            if (end - begin) % 2:
                row[end - begin - 1] = even[half - 1]


# --- functions ----------------------------------------------------------------------------------------------


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
def tanh(x, args, out):
    """Rows out[i] become tanh of rows args[0, i]."""
    for i in range(out.size):
        _tanh(x[args[0, i]], x[out[i]])


@kernel
def sech2(x, args, out):
    """Rows out[i] become 1/cosh^2 of rows args[0, i]."""
    for i in range(out.size):
        _sech2(x[args[0, i]], x[out[i]])


@kernel
def multiply(x, args, out):
    """Rows out[i] become the products of rows args[0, i] and args[-1, i]."""
    last = args.shape[0] - 1
    for i in range(out.size):
        a, b, c = x[args[0, i]], x[args[last, i]], x[out[i]]
        for s in range(c.size):
            c[s] = a[s] * b[s]


# --- Gaussians given others ---------------------------------------------------------------------------------


@kernel
def condition(gram, variance, factor, pivots, rank, begin, end, least):
    """Continue a Cholesky factor of ``variance`` * gram by the rows begin..end; the new rank.

    Row j is ``factor[j, :rank]`` in terms of the innovations of the rows ``pivots[:rank]``.  A row that
    the earlier ones explain, up to the part ``least`` of its variance, has no innovation of its own.
    """
    for j in range(begin, end):
        left = variance * gram[j, j]
        whole = left
        for t in range(rank):
            i = pivots[t]
            v = variance * gram[j, i]
            for u in range(t):
                v -= factor[j, u] * factor[i, u]
            v /= factor[i, t]
            factor[j, t] = v
            left -= v * v
        if left > least * whole:
            factor[j, rank] = math.sqrt(left)
            pivots[rank] = j
            rank += 1
    return rank


@kernel
def back_substitute(factor, pivots, count, right):
    """Solve transposed systems with the leading ``count[i]`` pivots for the rows of ``right``, in place."""
    for i in range(right.shape[0]):
        row = right[i]
        for t in range(count[i] - 1, -1, -1):
            v = row[t]
            for u in range(t + 1, count[i]):
                v -= factor[pivots[u], t] * row[u]
            row[t] = v / factor[pivots[t], t]
        for t in range(count[i], row.size):
            row[t] = 0.0
