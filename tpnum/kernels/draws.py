"""Standard normal numbers, each known without the ones before it: pseudo-random streams and Sobol points."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import fused, kernel
from tpnum.kernels.normal import central, quantile

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ROOT_HALF = np.int64(0x3FE6A09E667F3BCD)
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
def normals(key, first, work, out):
    """``out`` becomes the standard normals ``first``, first + 1, .. of the stream ``key``; ``first`` is even.

    Box and Muller's transform of SplitMix64's numbers.  ``work`` (2, half of out.size) is scratch.
    """
    half = (out.size + 1) // 2
    even, odd = work[0, :half], work[1, :half]
    for i in range(half):
        at = first + 2 * i
        z = _bits(key, at)
        s, c = _quarter(_uniform(z) - 0.5)
        radius = math.sqrt(-2.0 * _log(1.0 - _uniform(_bits(key, at + 1))))
        turn = z & np.uint64(1)
        flip = 1.0 - np.float64(np.int64(z & np.uint64(2)))
        even[i] = radius * flip * (s if turn else c)
        odd[i] = radius * flip * (-c if turn else s)
    for i in range(out.size // 2):
        out[2 * i] = even[i]
        out[2 * i + 1] = odd[i]
    if out.size % 2:
        out[out.size - 1] = even[half - 1]


@kernel
def quasi_normals(numbers, first, work, out):
    """``out`` becomes the points ``first``, .. of one coordinate of a Sobol sequence, made normal.

    ``numbers`` are its direction numbers and its shift (`tpnum.law.sobol`), of 52 digits; ``work`` (1 or
    more, out.size) is scratch.  Quantiles in the middle are one loop without branches, the tails another.
    """
    count = numbers.size - 1
    digits = numbers[count]
    gray = first ^ (first >> 1)
    for k in range(count):
        if (gray >> k) & 1:
            digits ^= numbers[k]
    centred = work[0, : out.size]
    for i in range(out.size):
        centred[i] = (np.float64(np.int64(digits)) + 0.5) * 2.0**-52 - 0.5
        k, rest = 0, first + i + 1
        while rest & 1 == 0:
            rest >>= 1
            k += 1
        if k < count:
            digits ^= numbers[k]
    for i in range(out.size):
        q = centred[i]
        out[i] = q * central(0.180625 - q * q)
    for i in range(out.size):
        if abs(centred[i]) > 0.425:
            out[i] = quantile(centred[i] + 0.5)


@kernel
def rows_of_normals(keys, work, out):
    """Each row of ``out`` becomes the standard normals of a stream; ``work`` is as in `normals`."""
    for i in range(out.shape[0]):
        normals(keys[i], 0, work, out[i])


@kernel
def rows_of_quasi_normals(numbers, work, out):
    """Each row of ``out`` becomes a coordinate of a Sobol sequence, made normal; see `quasi_normals`."""
    for i in range(out.shape[0]):
        quasi_normals(numbers[i], 0, work, out[i])
