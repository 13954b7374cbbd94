"""Elementary functions as branch-free polynomials: LLVM turns loops over them into full-width SIMD.

Relative errors: a few 1e-16 in float64, a few 1e-7 in float32 (each precision has a body of its own).
A literal would promote float32 to float64, so constants come from `one` and `half` or by type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpnum.kernels._jit import by_dtype, fused


def _one_32(x: Any) -> Any:
    return np.float32(1.0)


def _one_64(x: Any) -> Any:
    return 1.0


def _half_32(x: Any) -> Any:
    return np.float32(0.5)


def _half_64(x: Any) -> Any:
    return 0.5


def _tiny_32(x: Any) -> Any:
    return np.float32(1e-30)


def _tiny_64(x: Any) -> Any:
    return 1e-30


one = by_dtype(_one_32, _one_64)
"""1 in the precision of the argument."""
half = by_dtype(_half_32, _half_64)
"""1/2 in the precision of the argument."""
tiny = by_dtype(_tiny_32, _tiny_64)
"""1e-30: added to a denominator it changes 0/0 to 0 and nothing else."""
rounding = by_dtype(lambda x: np.float32(2.0**-21), lambda x: 2.0**-50)
"""What 1 - |rho| of equal variables may come out as: four units of the last place."""


@fused
def meets(e: Any) -> Any:
    """Whether |rho| = 1: increments of equal inputs are as small as squares of roundings."""
    return abs(e) <= rounding(e) * rounding(e)


# R(z) = (asin(sqrt z)/sqrt z - 1)/z on [0, 1/2]: sup |z dR| = 7e-17 and 9e-9.
_ASIN_64 = (
    0.1666666666666666,
    0.07500000000008983,
    0.04464285712358516,
    0.030381946078023858,
    0.022372086303686842,
    0.017354730668996843,
    0.013929824301362788,
    0.011985559032731258,
    0.0058919623838489124,
    0.033823977477227554,
    -0.1174784139555458,
    0.46581061083892006,
    -1.258681300394588,
    2.573508064401593,
    -3.7415993002001366,
    3.7316474816315224,
    -2.277990489441633,
    0.6629475548369097,
)
_ASIN_32 = tuple(
    np.float32(c)
    for c in (
        0.1666666568,
        0.07500252164,
        0.04453881397,
        0.03199023923,
        0.01043532597,
        0.06379697638,
        -0.07972071595,
        0.0946973496,
    )
)


def _asin_32(x: Any) -> Any:
    c = _ASIN_32
    return ((((((c[7] * x + c[6]) * x + c[5]) * x + c[4]) * x + c[3]) * x + c[2]) * x + c[1]) * x + c[0]


def _asin_64(x: Any) -> Any:
    # even and odd parts: two short chains of dependent multiply-adds instead of a long one
    c = _ASIN_64
    z = x * x
    even = ((((((c[16] * z + c[14]) * z + c[12]) * z + c[10]) * z + c[8]) * z + c[6]) * z + c[4]) * z + c[2]
    odd = ((((((c[17] * z + c[15]) * z + c[13]) * z + c[11]) * z + c[9]) * z + c[7]) * z + c[5]) * z + c[3]
    return ((odd * x + even) * x + c[1]) * x + c[0]


asin_poly = by_dtype(_asin_32, _asin_64)


def _quarter_turn_32(x: Any) -> Any:
    return np.float32(0.5 * math.pi)


def _quarter_turn_64(x: Any) -> Any:
    return 0.5 * math.pi


def _inverse_turn_32(x: Any) -> Any:
    return np.float32(0.5 / math.pi)


def _inverse_turn_64(x: Any) -> Any:
    return 0.5 / math.pi


inverse_turn = by_dtype(_inverse_turn_32, _inverse_turn_64)
"""1/(2 pi) in the precision of the argument."""
quarter_turn = by_dtype(_quarter_turn_32, _quarter_turn_64)
"""pi/2 in the precision of the argument."""


@fused
def angle_of(sine: Any, cosine: Any) -> Any:
    """The angle in [0, pi/2] whose sine and cosine are given: both ends keep their relative accuracy."""
    steep = sine > cosine
    s = cosine if steep else sine
    z = s * s
    t = s * z * asin_poly(z) + s
    return quarter_turn(t) - t if steep else t


# q(r) = (e^r - 1 - r)/r^2 on |r| <= log(2)/2: sup |r dq| = 8e-19 and 2e-9.
_EXP_64 = (
    0.5,
    0.1666666666666667,
    0.04166666666666667,
    0.008333333333326112,
    0.001388888888888373,
    0.0001984126987490126,
    2.4801587325605324e-05,
    2.7557255297969643e-06,
    2.755727357010214e-07,
    2.5105259538448494e-08,
    2.0914717341716378e-09,
)
_EXP_32 = tuple(
    np.float32(c) for c in (0.5, 0.1666666668, 0.0416664646, 0.00833331089, 0.001393368586, 0.0001989103065)
)
_LOG2E_64, _SHIFT_64 = 1.4426950408889634, 6755399441055744.0
_LN2_HIGH_64, _LN2_LOW_64 = 0.6931471803691238, 1.9082149292705877e-10
_FLOOR_64, _BIAS_64 = -700.0, np.int64(1023) << np.int64(52)
_LOG2E_32, _SHIFT_32 = np.float32(_LOG2E_64), np.float32(12582912.0)
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_FLOOR_32, _BIAS_32 = np.float32(-86.0), np.int32(127 << 23)


@fused
def _reduced_64(x: Any) -> Any:
    """2^n and e^r - 1, x = n log 2 + r; adding the shift rounds to the integer n, left in the low bits."""
    x = x if x > _FLOOR_64 else _FLOOR_64
    t = x * _LOG2E_64 + _SHIFT_64
    n = t - _SHIFT_64
    r = (x - n * _LN2_HIGH_64) - n * _LN2_LOW_64
    scale = np.int64((np.float64(t).view(np.int64) << np.int64(52)) + _BIAS_64).view(np.float64)
    c = _EXP_64
    z = r * r
    even = ((((c[10] * z + c[8]) * z + c[6]) * z + c[4]) * z + c[2]) * z + c[0]
    odd = (((c[9] * z + c[7]) * z + c[5]) * z + c[3]) * z + c[1]
    return scale, z * (odd * r + even) + r


@fused
def _reduced_32(x: Any) -> Any:
    x = x if x > _FLOOR_32 else _FLOOR_32
    t = x * _LOG2E_32 + _SHIFT_32
    n = t - _SHIFT_32
    r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
    scale = np.int32((np.float32(t).view(np.int32) << np.int32(23)) + _BIAS_32).view(np.float32)
    c = _EXP_32
    return scale, r * r * (((((c[5] * r + c[4]) * r + c[3]) * r + c[2]) * r + c[1]) * r + c[0]) + r


def _decay_32(x: Any) -> Any:
    scale, p = _reduced_32(x)
    return scale * p + scale


def _decay_64(x: Any) -> Any:
    scale, p = _reduced_64(x)
    return scale * p + scale


def _decline_32(x: Any) -> Any:
    scale, p = _reduced_32(x)
    return (np.float32(1.0) - scale) - scale * p


def _decline_64(x: Any) -> Any:
    scale, p = _reduced_64(x)
    return (1.0 - scale) - scale * p


decay = by_dtype(_decay_32, _decay_64)
"""e^x for x <= 0 (held at about 1e-38 or 1e-304 from below)."""
decline = by_dtype(_decline_32, _decline_64)
"""1 - e^x for x <= 0, relatively accurate at 0."""


# The Taylor-like coefficients r_k of (asin(sqrt z)/sqrt z - 1)/z on [0, 1/4]: sup |z dR| = 5e-18.
_ASIN_LOW = (
    0.16666666666666669,
    0.07499999999998433,
    0.04464285714635543,
    0.030381944138531247,
    0.02237217294214989,
    0.017352392720869973,
    0.013971212973552933,
    0.011479177415184906,
    0.01032281435018578,
    0.005457506718640358,
    0.01740087944269402,
    -0.014851887071247204,
    0.028757851367421566,
)
_ASIN_LOW_32 = tuple(np.float32(c) for c in _ASIN_LOW)


def _asin_low_32(x: Any) -> Any:
    return _ASIN_LOW_32


def _asin_low_64(x: Any) -> Any:
    return _ASIN_LOW


_asin_low = by_dtype(_asin_low_32, _asin_low_64)


@fused
def asin_quotient(x: Any, y: Any) -> Any:
    """(B(x) - B(y))/(x - y) for B(z) = asin(sqrt z)/sqrt z and x, y in [0, 1/4]: no cancellation at x = y."""
    c = _asin_low(x)
    p = c[12]
    d = p
    p = p * y + c[11]
    d = d * x + p
    p = p * y + c[10]
    d = d * x + p
    p = p * y + c[9]
    d = d * x + p
    p = p * y + c[8]
    d = d * x + p
    p = p * y + c[7]
    d = d * x + p
    p = p * y + c[6]
    d = d * x + p
    p = p * y + c[5]
    d = d * x + p
    p = p * y + c[4]
    d = d * x + p
    p = p * y + c[3]
    d = d * x + p
    p = p * y + c[2]
    d = d * x + p
    p = p * y + c[1]
    d = d * x + p
    p = p * y + c[0]
    return d * x + p


_SINH = tuple(1.0 / math.factorial(2 * k + 3) for k in range(9))
_SINH_32 = tuple(np.float32(c) for c in _SINH)


def _sinh_32(x: Any) -> Any:
    return _SINH_32


def _sinh_64(x: Any) -> Any:
    return _SINH


_sinh = by_dtype(_sinh_32, _sinh_64)


@fused
def sinh_quotient(x: Any, y: Any) -> Any:
    """(S(x) - S(y))/(x - y) for S(z) = sinh(sqrt z)/sqrt z and x, y in [0, 1]."""
    c = _sinh(x)
    p = c[8]
    d = p
    p = p * y + c[7]
    d = d * x + p
    p = p * y + c[6]
    d = d * x + p
    p = p * y + c[5]
    d = d * x + p
    p = p * y + c[4]
    d = d * x + p
    p = p * y + c[3]
    d = d * x + p
    p = p * y + c[2]
    d = d * x + p
    p = p * y + c[1]
    d = d * x + p
    p = p * y + c[0]
    return d * x + p


@fused
def sinh_quotient_low(x: Any, y: Any) -> Any:
    """`sinh_quotient` for x, y in [0, 1/16]."""
    c = _sinh(x)
    p = c[4]
    d = p
    p = p * y + c[3]
    d = d * x + p
    p = p * y + c[2]
    d = d * x + p
    p = p * y + c[1]
    d = d * x + p
    p = p * y + c[0]
    return d * x + p


@fused
def sinh_ratio_low(z: Any) -> Any:
    """(sinh(sqrt z)/sqrt z - 1)/z on [0, 1/16]."""
    c = _sinh(z)
    return (((c[4] * z + c[3]) * z + c[2]) * z + c[1]) * z + c[0]
