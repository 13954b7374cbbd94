"""Values of the smooth nonlinearities and their first two derivatives, stable for every finite u."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any
_SQRT_2PI = math.sqrt(2.0 * math.pi)


def erf(x: Array) -> Array:
    """The error function."""
    from scipy.special import erf as special_erf

    return special_erf(x)


def normal_cdf(u: Array) -> Array:
    """Phi(u), with all digits in the lower tail."""
    from scipy.special import ndtr

    return ndtr(u)


def normal_pdf(u: Array) -> Array:
    """The standard normal density."""
    return np.exp(-0.5 * u * u) / _SQRT_2PI


def sigmoid(u: Array) -> Array:
    """1 / (1 + e^{-u})."""
    e = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, e) / (1.0 + e)


def sigmoid_1(u: Array) -> Array:
    """sigmoid (1 - sigmoid), with all digits in both tails."""
    e = np.exp(-np.abs(u))
    return e / (1.0 + e) ** 2


def sigmoid_2(u: Array) -> Array:
    """The second derivative, -sigmoid' tanh(u/2)."""
    return -sigmoid_1(u) * np.tanh(0.5 * u)


def sech2(u: Array) -> Array:
    """1 / cosh^2, with all digits in both tails."""
    e = np.exp(-2.0 * np.abs(u))
    return 4.0 * e / (1.0 + e) ** 2


def tanh_2(u: Array) -> Array:
    """The second derivative of tanh."""
    return -2.0 * np.tanh(u) * sech2(u)


def softplus(u: Array) -> Array:
    """log(1 + e^u)."""
    return np.maximum(u, 0.0) + np.log1p(np.exp(-np.abs(u)))


def silu(u: Array) -> Array:
    """u sigmoid(u)."""
    return u * sigmoid(u)


def silu_1(u: Array) -> Array:
    """The derivative of silu."""
    return sigmoid(u) + u * sigmoid_1(u)


def silu_2(u: Array) -> Array:
    """The second derivative of silu."""
    return sigmoid_1(u) * (2.0 - u * np.tanh(0.5 * u))


def _tanh_softplus(u: Array) -> Array:
    # tanh(log(1 + e^u)) = (s^2 - 1)/(s^2 + 1) with s = 1 + e^u, scaled by e^{-2|u|}
    e = np.exp(-np.abs(u))
    up = (1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e * e)
    down = e * (2.0 + e) / (2.0 + 2.0 * e + e * e)
    return np.where(u >= 0, up, down)


def _sech2_softplus(u: Array) -> Array:
    # 1 - tanh^2(softplus) = 4 s^2/(s^2 + 1)^2, scaled likewise
    e = np.exp(-np.abs(u))
    up = 4.0 * e * e * (1.0 + e) ** 2 / (1.0 + 2.0 * e + 2.0 * e * e) ** 2
    down = 4.0 * (1.0 + e) ** 2 / (2.0 + 2.0 * e + e * e) ** 2
    return np.where(u >= 0, up, down)


def mish(u: Array) -> Array:
    """u tanh(softplus(u))."""
    return u * _tanh_softplus(u)


def mish_1(u: Array) -> Array:
    """The derivative of mish."""
    return _tanh_softplus(u) + u * _sech2_softplus(u) * sigmoid(u)


def mish_2(u: Array) -> Array:
    """The second derivative of mish."""
    t, d, s = _tanh_softplus(u), _sech2_softplus(u), sigmoid(u)
    return d * s * 2.0 + u * d * (sigmoid_1(u) - 2.0 * t * s * s)


def gelu(u: Array) -> Array:
    """u Phi(u)."""
    return u * normal_cdf(u)


def gelu_1(u: Array) -> Array:
    """Phi(u) + u pdf(u)."""
    return normal_cdf(u) + u * normal_pdf(u)


def gelu_2(u: Array) -> Array:
    """(2 - u^2) pdf(u)."""
    return (2.0 - u * u) * normal_pdf(u)


_GELU = math.sqrt(2.0 / math.pi)


def gelu_tanh(u: Array) -> Array:
    """u (1 + tanh(sqrt(2/pi)(u + 0.044715 u^3)))/2, as u sigmoid(2 ..)."""
    return u * sigmoid(2.0 * _GELU * (u + 0.044715 * u**3))


def gelu_tanh_1(u: Array) -> Array:
    """The derivative of the tanh form of gelu."""
    w, w1 = 2.0 * _GELU * (u + 0.044715 * u**3), 2.0 * _GELU * (1.0 + 0.134145 * u * u)
    return sigmoid(w) + u * w1 * sigmoid_1(w)


def gelu_tanh_2(u: Array) -> Array:
    """The second derivative of the tanh form of gelu."""
    w, w1 = 2.0 * _GELU * (u + 0.044715 * u**3), 2.0 * _GELU * (1.0 + 0.134145 * u * u)
    w2 = 2.0 * _GELU * 0.26829 * u
    return (2.0 * w1 + u * w2) * sigmoid_1(w) + u * w1 * w1 * sigmoid_2(w)


def gaussian(u: Array, a: float, b: float, order: int = 0) -> Array:
    """A e^{b u^2} and its derivatives."""
    e = a * np.exp(b * u * u)
    if order == 0:
        return e
    return 2.0 * b * u * e if order == 1 else (2.0 * b + 4.0 * b * b * u * u) * e


def gabor(u: Array, order: int = 0) -> Array:
    """e^{-u^2} sin u and its derivatives."""
    e = np.exp(-u * u)
    if order == 0:
        return e * np.sin(u)
    if order == 1:
        return e * (np.cos(u) - 2.0 * u * np.sin(u))
    return e * ((4.0 * u * u - 3.0) * np.sin(u) - 4.0 * u * np.cos(u))


def polynomial(u: Array, coef: tuple[float, ...], order: int = 0) -> Array:
    """sum_i coef[i] u^i or a derivative of it, by Horner."""
    made = np.zeros_like(u)
    for i in range(len(coef) - 1, order - 1, -1):
        made = made * u + coef[i] * math.perm(i, order)
    return made


def hermite(u: Array, variance: Array, degree: int, order: int = 0) -> Array:
    """Orthonormal h_n(u / sqrt(variance)) or a derivative in u: h_n' = sqrt(n) h_{n-1}."""
    root = np.sqrt(variance)
    z = u / root
    n = degree - order
    if n < 0:
        return np.zeros(np.broadcast_shapes(np.shape(u), np.shape(variance)))
    last, now = np.zeros_like(z), np.ones_like(z)
    for k in range(n):
        last, now = now, (z * now - math.sqrt(k) * last) / math.sqrt(k + 1)
    return now * math.sqrt(math.perm(degree, order)) / root**order


def exp_normalized(u: Array, variance: Array, gamma: float, shift: float, order: int = 0) -> Array:
    """sqrt(v) e^{gamma (shift - 1)/2 + sqrt(gamma/v) u}, whose dual is sqrt(v v') e^{gamma (rho + shift)}."""
    root = np.sqrt(variance)
    slope = math.sqrt(gamma) / root
    return root * np.exp(0.5 * gamma * (shift - 1.0) + slope * u) * slope**order
