"""Smooth functions with a closed-form dual: erf (W96), gelu, sin, exp, Gaussians, Gabor.

Everything is a function of q = E u^2, in float64; 1 - x is written so that it keeps its digits.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.closed.form import ClosedForm

Params = tuple[float, ...]
_TURN = 2.0 * math.pi
_LINEAR = 1e-30


def _ratio(top: np.ndarray, bottom: np.ndarray, limit: float) -> np.ndarray:
    """top/bottom, `limit` where bottom = 0."""
    zero = bottom == 0
    return np.where(zero, limit, top / np.where(zero, 1.0, bottom))


def _sphere(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s^2 = q/(1 + q), t = 1 - s^2 and sqrt(1 - s^4)."""
    t = 1.0 / (1.0 + q)
    z = q * t
    return z, t, np.sqrt(t * (1.0 + z))


# a erf(b u) + c: E f f' = (2 a^2/pi) asin x + c^2, x = s s' rho, s^2 = g/(1 + g), g = 2 b^2 q (W96 eq. 11)


def _above(q: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """The variances, those that are so small that the function is linear there enlarged to such a one.

    What relates two inputs of a linear function does not depend on their size, and must not underflow.
    """
    return np.where((q > 0) & (rate > 0), np.maximum(q, _LINEAR / (rate if rate > 0 else 1.0)), q)


def _erf_profile(q: np.ndarray, params: Params) -> np.ndarray:
    a, b, c = params
    z, t, k = _sphere(_above(2.0 * b * b * q))
    s, angle = np.sqrt(z), np.arctan2(z, k)
    m = _erf_moment(_above(q, 2.0 * b * b) if c == 0 else q, params)
    return np.stack(
        [
            s,
            t / (1.0 + s),
            _ratio(np.ones_like(z), np.sqrt(angle), 0.0),
            2.0 * abs(a * b) / math.sqrt(math.pi) * np.sqrt(t),
            np.sqrt(_ratio(2.0 * a * a / math.pi * angle, m, 1.0)),
            np.sqrt(_ratio(np.full_like(z, c * c), m, 0.0)),
            k,
            np.sqrt(angle),
            np.sqrt(_ratio(angle, z, 1.0)),
        ]
    )


def _erf_moment(q: np.ndarray, params: Params) -> np.ndarray:
    a, b, c = params
    z, _, k = _sphere(2.0 * b * b * q)
    return 2.0 * a * a / math.pi * np.arctan2(z, k) + c * c


def _erf_slope(q: np.ndarray, params: Params) -> np.ndarray:
    a, b, _ = params
    return 2.0 * a * b / math.sqrt(math.pi) / np.sqrt(1.0 + 2.0 * b * b * q)


def _erf_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    a, b, _ = params
    return 4.0 * a * a * b * b / math.pi / np.sqrt(1.0 + 4.0 * b * b * q)


# u Phi(u) = u/2 + u erf(u/sqrt 2)/2


def _gelu_even(q: np.ndarray) -> np.ndarray:
    """G: E (u erf(u/sqrt 2)/2)^2 = q G/(2 pi)."""
    z, t, k = _sphere(q)
    return np.arctan2(z, k) + 2.0 * z * t / k


def _gelu_profile(q: np.ndarray, params: Params) -> np.ndarray:
    z, t, k = _sphere(q)
    s, even = np.sqrt(z), _gelu_even(q)
    root = np.sqrt(even)
    scale = 1.0 / np.sqrt(0.5 * math.pi + even)  # sqrt(q/(2 pi m))
    return np.stack(
        [
            s,
            t / (1.0 + s),
            t,
            scale,
            k,
            math.sqrt(0.5 * math.pi) * scale,
            root * scale,
            root,
            _ratio(np.ones_like(q), root, 0.0),
        ]
    )


def _gelu_moment(q: np.ndarray, params: Params) -> np.ndarray:
    return q * (0.25 + _gelu_even(q) / _TURN)


def _gelu_mean(q: np.ndarray, params: Params) -> np.ndarray:
    return q / np.sqrt(_TURN * (1.0 + q))


def _gelu_slope(q: np.ndarray, params: Params) -> np.ndarray:
    return np.full_like(q, 0.5)


def _gelu_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    z, t, k = _sphere(q)
    return 0.25 + (np.arctan2(z, k) + z / k * t * (2.0 + 1.0 / (1.0 + z))) / _TURN


# a sin(b u + c): E f f' = a^2 e^{-b^2 (q + q')/2} (sin^2 c cosh k + cos^2 c sinh k), k = b^2 sqrt(q q') rho


def _sin_parts(q: np.ndarray, params: Params) -> tuple[np.ndarray, float, float, np.ndarray]:
    """g = |b| sqrt q, sin c, cos c and 1 - e^{-2 g^2}."""
    _, b, c = params
    g = abs(b) * np.sqrt(q)
    sine, cosine = math.sin(c), math.cos(c)
    # c = pi/2 and pi are given in float64: what is left of the vanishing part is rounding
    sine, cosine = (x if abs(x) > 1e-15 * max(1.0, abs(c)) else 0.0 for x in (sine, cosine))
    return g, sine, cosine, -np.expm1(-2.0 * g * g)


def _sin_profile(q: np.ndarray, params: Params) -> np.ndarray:
    a, b, _ = params
    if _sin_parts(q, params)[1] == 0.0:
        q = _above(q, b * b)
    g, sine, cosine, odd = _sin_parts(q, params)
    even = 2.0 - odd
    m = 0.5 * (sine * sine * even + cosine * cosine * odd)
    inverse = _ratio(np.ones_like(g), np.sqrt(m), 0.0)
    z = np.minimum(g * g, 2.0)  # the last row is read for g < 1 only
    return np.stack(
        [
            g,
            abs(sine) * inverse,
            abs(cosine) * inverse,
            np.full_like(g, abs(a * b * sine)),
            np.full_like(g, abs(a * b * cosine)),
            abs(sine) * inverse * np.sqrt(0.5 * even),
            abs(cosine) * inverse * np.sqrt(0.5 * odd),
            odd,
            np.sqrt(_ratio(np.sinh(z), z, 1.0)),
        ]
    )


def _sin_moment(q: np.ndarray, params: Params) -> np.ndarray:
    _, sine, cosine, odd = _sin_parts(q, params)
    return 0.5 * params[0] ** 2 * (sine * sine * (2.0 - odd) + cosine * cosine * odd)


def _sin_mean(q: np.ndarray, params: Params) -> np.ndarray:
    g, sine, _, _ = _sin_parts(q, params)
    return params[0] * sine * np.exp(-0.5 * g * g)


def _sin_slope(q: np.ndarray, params: Params) -> np.ndarray:
    g, _, cosine, _ = _sin_parts(q, params)
    return params[0] * params[1] * cosine * np.exp(-0.5 * g * g)


def _sin_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    _, sine, cosine, odd = _sin_parts(q, params)
    return 0.5 * (params[0] * params[1]) ** 2 * (cosine * cosine * (2.0 - odd) + sine * sine * odd)


# a exp(b u): E f f' = a^2 e^{b^2 (q + q' + 2 sqrt(q q') rho)/2}


def _exp_profile(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    g = abs(b) * np.sqrt(q)
    return np.stack([g, abs(a * b) * np.exp(g * g)])


def _exp_moment(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    return a * a * np.exp(2.0 * b * b * q)


def _exp_mean(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    return a * np.exp(0.5 * b * b * q)


def _exp_slope(q: np.ndarray, params: Params) -> np.ndarray:
    return params[1] * _exp_mean(q, params)


def _exp_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    return params[1] ** 2 * _exp_moment(q, params)


# f with Hermite coefficients a_k^2 = q e^{gamma shift} gamma^k/k!:
# E f f' = sqrt(q q') e^{gamma (rho + shift)}


def _exp_normalized_profile(q: np.ndarray, params: Params) -> np.ndarray:
    gamma, shift = params
    scale = math.sqrt(gamma) * math.exp(0.5 * gamma * (1.0 + shift))
    return np.stack([np.full_like(q, math.sqrt(gamma)), np.full_like(q, scale)])


def _exp_normalized_moment(q: np.ndarray, params: Params) -> np.ndarray:
    gamma, shift = params
    return q * math.exp(gamma * (1.0 + shift))


def _exp_normalized_mean(q: np.ndarray, params: Params) -> np.ndarray:
    gamma, shift = params
    return np.sqrt(q) * math.exp(0.5 * gamma * shift)


def _exp_normalized_slope(q: np.ndarray, params: Params) -> np.ndarray:
    gamma, shift = params
    return np.full_like(q, math.sqrt(gamma) * math.exp(0.5 * gamma * shift))


def _exp_normalized_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    gamma, shift = params
    return np.full_like(q, gamma * math.exp(gamma * (1.0 + shift)))


# a exp(b u^2): E f f' = a^2 ((1 - 2 b q)(1 - 2 b q') - 4 b^2 q q' rho^2)^{-1/2}


def _gauss_room(q: np.ndarray, b: float) -> np.ndarray:
    """1 - 4 b q, which must be positive for the second moment to exist."""
    room = 1.0 - 4.0 * b * q
    if np.any(room <= 0):
        raise LimitError(
            f"gaussian: E exp(2 b u^2) is infinite for b = {b:g} and E u^2 = {np.max(q):g}; "
            "it needs 4 b E u^2 < 1"
        )
    return room


def _gauss_profile(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    h = np.sqrt(_gauss_room(q, b))
    return np.stack([h, 1.0 / h, 2.0 * b * q / h, 2.0 * abs(a * b) * np.sqrt(q) * h**-1.5])


def _gauss_moment(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    return a * a / np.sqrt(_gauss_room(q, b))


def _gauss_mean(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    return a / np.sqrt(1.0 - 2.0 * b * q)


def _gauss_slope(q: np.ndarray, params: Params) -> np.ndarray:
    return np.zeros_like(q)


def _gauss_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    return 4.0 * (a * b) ** 2 * q * _gauss_room(q, b) ** -1.5


# exp(-u^2) sin u: with N = det(1 + 2 Sigma), E f f' = N^{-1/2} e^{-1/2 + (1 + q + q')/(2 N)} sinh(c/N)


def _gabor_profile(q: np.ndarray, params: Params) -> np.ndarray:
    h = np.sqrt(1.0 + 4.0 * q)
    lam = q / (h * h)
    return np.stack(
        [
            h,
            1.0 / h,
            2.0 * q / h,
            np.sqrt(lam),
            np.sqrt(_ratio(np.sinh(lam), lam, 1.0)),
            np.exp(-0.5 * lam) / np.sqrt(h),
        ]
    )


def _gabor_moment(q: np.ndarray, params: Params) -> np.ndarray:
    room = 1.0 + 4.0 * q
    lam = q / room
    return -0.5 * np.expm1(-2.0 * lam) / np.sqrt(room)


def _gabor_mean(q: np.ndarray, params: Params) -> np.ndarray:
    return np.zeros_like(q)


def _gabor_slope(q: np.ndarray, params: Params) -> np.ndarray:
    room = 1.0 + 2.0 * q
    return room**-1.5 * np.exp(-0.5 * q / room)


def _gabor_slope_moment(q: np.ndarray, params: Params) -> np.ndarray:
    room = 1.0 + 4.0 * q
    lam = q / room
    grow = lam * (4.0 + 2.0 * (1.0 + 1.0 / room))
    return (
        np.exp(-lam) / np.sqrt(room) * (np.sinh(lam) * grow + np.cosh(lam) * (1.0 / room + 8.0 * lam * lam))
    )


def _erf_mean(q: np.ndarray, params: Params) -> np.ndarray:
    return np.full_like(q, params[2])


FAMILIES: dict[str, ClosedForm] = {
    "erf": ClosedForm("smooth.erf", _erf_profile, _erf_moment, _erf_mean, _erf_slope, _erf_slope_moment),
    "gelu": ClosedForm(
        "smooth.gelu", _gelu_profile, _gelu_moment, _gelu_mean, _gelu_slope, _gelu_slope_moment
    ),
    "sin": ClosedForm("smooth.sin", _sin_profile, _sin_moment, _sin_mean, _sin_slope, _sin_slope_moment),
    "exp": ClosedForm("smooth.exp", _exp_profile, _exp_moment, _exp_mean, _exp_slope, _exp_slope_moment),
    "exp_normalized": ClosedForm(
        "smooth.exp",
        _exp_normalized_profile,
        _exp_normalized_moment,
        _exp_normalized_mean,
        _exp_normalized_slope,
        _exp_normalized_slope_moment,
    ),
    "gauss": ClosedForm(
        "smooth.gauss", _gauss_profile, _gauss_moment, _gauss_mean, _gauss_slope, _gauss_slope_moment
    ),
    "gabor": ClosedForm(
        "smooth.gabor", _gabor_profile, _gabor_moment, _gabor_mean, _gabor_slope, _gabor_slope_moment
    ),
}
