"""The angle between two vectors and its circular segment, as polynomials in the co-correlation.

With y = 1 - |rho|, r = sqrt(y) and theta = arccos |rho|:

    theta / pi = r P(y),        (sin theta - theta cos theta) / pi = r^3 W(y).

P and W are analytic for |y| < 2, so polynomials on [0, 1] converge as (3 + sqrt 8)^-degree.  These are
minimax under the weight sqrt(y) + 0.05, the leading coefficients rounded to the working precision one by
one before the others were fitted: sup |r dP| = 3e-17 and sup |r dW| = 1e-17, 5e-9 and 3e-9 in float32.
No arc-cosine, no division and no cancellation at rho = +-1, and LLVM turns them into full-width SIMD.

Where both are wanted in float64, one quotient does: with sine = sin(theta) and cosine = 1 - y

    theta / pi = sine (1/pi + y Q(y)),    (sin theta - theta cos theta) / pi = sine y (1/pi - cosine Q(y)),

Q = (theta / sin theta - 1) / (pi y), and nothing cancels at y = 0 either.  Q is singular from y = 2 on, so
that a quotient of two polynomials has half the coefficients of one.  It is minimax under the weight
sine + 0.05: sup |sine dQ| = 6e-18.  In the cosine all of them are positive, so that nothing cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpnum.kernels._jit import by_dtype

ANGLE_64 = (
    0.45015815807855253,
    0.03751317984002648,
    0.008440465453056883,
    0.002512043655384967,
    0.0008547857778803123,
    0.0003147977203432683,
    0.00012143304060171829,
    5.2589600639828626e-05,
    6.107052462427748e-06,
    5.180059501016398e-05,
    -9.530399710018933e-05,
    0.00017290555160648632,
    -0.00022221120134557115,
    0.0002154093826315367,
    -0.0001494760121568481,
    7.127765931101274e-05,
    -2.087350854590362e-05,
    2.911311640892882e-06,
)

SEGMENT_64 = (
    0.3001054387190355,
    0.01500527193591522,
    0.0024115615635324156,
    0.0005582317724485046,
    0.00015541797443104609,
    4.840643448344807e-05,
    1.635628284859845e-05,
    5.376014742363355e-06,
    3.560031353412977e-06,
    -2.891888305167835e-06,
    7.5133420003325125e-06,
    -1.02258378688292e-05,
    1.09920414851249e-05,
    -8.243929565940539e-06,
    4.2578857159760635e-06,
    -1.338735924737821e-06,
    2.0257746341176528e-07,
)

ABOVE_64 = (
    0.18169011381620934,
    0.417811422956183,
    0.3403024841069854,
    0.11750640603122091,
    0.016015276533235256,
    0.0006029584679681477,
)

BELOW_64 = (
    3.0515209863570387,
    3.543507929424374,
    1.9509254762395472,
    0.5156231002182742,
    0.05803875071092902,
    0.001922941274744462,
)

ANGLE_32 = tuple(
    np.float32(c)
    for c in (
        0.45015811920166016,
        0.03751542791724205,
        0.008407923392951488,
        0.002712551038712263,
        0.00022316246759146452,
        0.0013970611616969109,
        -0.00086208526045084,
        0.00044783580233342946,
    )
)

SEGMENT_32 = tuple(
    np.float32(c)
    for c in (
        0.3001054525375366,
        0.015004436485469341,
        0.002421643817797303,
        0.000509641133248806,
        0.00026860996149480343,
        -8.314490696648136e-05,
        8.324426016770303e-05,
    )
)


def _angle_32(y: Any) -> Any:
    c = ANGLE_32
    return ((((((c[7] * y + c[6]) * y + c[5]) * y + c[4]) * y + c[3]) * y + c[2]) * y + c[1]) * y + c[0]


def _segment_32(y: Any) -> Any:
    c = SEGMENT_32
    return (((((c[6] * y + c[5]) * y + c[4]) * y + c[3]) * y + c[2]) * y + c[1]) * y + c[0]


def _angle_64(y: Any) -> Any:
    # even and odd parts: two short chains of dependent multiply-adds instead of a long one
    c = ANGLE_64
    z = y * y
    even = (
        ((((((c[16] * z + c[14]) * z + c[12]) * z + c[10]) * z + c[8]) * z + c[6]) * z + c[4]) * z + c[2]
    ) * z + c[0]
    odd = (
        ((((((c[17] * z + c[15]) * z + c[13]) * z + c[11]) * z + c[9]) * z + c[7]) * z + c[5]) * z + c[3]
    ) * z + c[1]
    return odd * y + even


def _segment_64(y: Any) -> Any:
    c = SEGMENT_64
    z = y * y
    even = (
        ((((((c[16] * z + c[14]) * z + c[12]) * z + c[10]) * z + c[8]) * z + c[6]) * z + c[4]) * z + c[2]
    ) * z + c[0]
    odd = ((((((c[15] * z + c[13]) * z + c[11]) * z + c[9]) * z + c[7]) * z + c[5]) * z + c[3]) * z + c[1]
    return odd * y + even


def _coefficients_32(y: Any) -> Any:
    return ANGLE_32


def _coefficients_64(y: Any) -> Any:
    return ANGLE_64


angle = by_dtype(_angle_32, _angle_64)
"""P(y)."""
segment = by_dtype(_segment_32, _segment_64)
"""W(y)."""
angle_coefficients = by_dtype(_coefficients_32, _coefficients_64)
"""The coefficients of P in the precision of the argument."""


INVERSE_PI_64 = 1 / math.pi


def _both_32(y: Any) -> Any:
    r = math.sqrt(y)
    return r * angle(y), r * y * segment(y)


def _both_64(y: Any) -> Any:
    a, b = ABOVE_64, BELOW_64
    cosine = 1.0 - y
    above = ((((a[5] * cosine + a[4]) * cosine + a[3]) * cosine + a[2]) * cosine + a[1]) * cosine + a[0]
    below = ((((b[5] * cosine + b[4]) * cosine + b[3]) * cosine + b[2]) * cosine + b[1]) * cosine + b[0]
    quotient = above / (below * cosine + 1.0)
    sine = math.sqrt(y * cosine + y)
    return sine * (y * quotient + INVERSE_PI_64), (sine * y) * (INVERSE_PI_64 - cosine * quotient)


angle_and_segment = by_dtype(_both_32, _both_64)
"""theta / pi and (sin theta - theta cos theta) / pi together, by fewer operations than P and W in float64."""
