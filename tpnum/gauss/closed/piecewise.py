"""Closed forms of activations that are powers on either side of zero: relu and its kin, steps, powers (CS09).

At q = 0 the variable is the constant zero: moments and means are f(0)'s (steps have f(0) = 0), and a slope
that diverges as q -> 0 is given as zero, for it only ever multiplies a covariance that vanishes.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.closed.form import ClosedForm

Params = tuple[float, ...]

MAX_POWER = 8
"""As in `tpnum.kernels.piecewise`, which is not imported here for it would bring in Numba."""


def _constants(q: np.ndarray, *values: float) -> np.ndarray:
    return np.repeat(np.array(values, dtype=np.float64)[:, None], np.size(q), axis=1)


def _full(q: np.ndarray, value: float) -> np.ndarray:
    return np.full(np.shape(q), value, dtype=np.float64)


def _root(q: np.ndarray) -> np.ndarray:
    return np.sqrt(np.asarray(q, dtype=np.float64))


def _abrelu_profile(q: np.ndarray, params: Params) -> np.ndarray:
    a, b = params
    even, odd = (b - a) / 2, (a + b) / 2
    size = max(abs(even), abs(odd))
    if size == 0:
        return _constants(q, 0.0, 1.0, 0.0)
    even, odd = even / size, odd / size  # before they are squared: 1e-200 has weights too
    norm = even * even + odd * odd
    return _constants(q, odd * odd / norm, even * even / norm, norm * size * size)


def _double_factorial(n: int) -> float:
    """(2n - 1)!!."""
    return float(math.prod(range(1, 2 * n, 2)))


def _power_moment(q: np.ndarray, n: int) -> np.ndarray:
    """E (u+^n)^2 = q^n (2n-1)!! / 2, where u+^0 = 1{u > 0}."""
    q = np.asarray(q, dtype=np.float64)
    return np.where(q > 0, 0.5 * _double_factorial(n) * q**n, 0.0)


def _power_mean(q: np.ndarray, n: int) -> np.ndarray:
    """E u+^n = (2q)^{n/2} Gamma((n+1)/2) / (2 sqrt pi)."""
    root = _root(q)
    factor = 2.0 ** (n / 2) * math.gamma((n + 1) / 2) / math.sqrt(4 * math.pi)
    return np.where(root > 0, factor * root**n, 0.0)


def _power_slope(q: np.ndarray, n: int) -> np.ndarray:
    """E u+^n u / q = E u+^{n+1} / q."""
    root = _root(q)
    if n == 1:
        return _full(q, 0.5)
    factor = 2.0 ** ((n + 1) / 2) * math.gamma(n / 2 + 1) / math.sqrt(4 * math.pi)
    with np.errstate(divide="ignore"):
        return np.where(root > 0, factor * root ** (n - 1), 0.0)


def _power_slope_moment(q: np.ndarray, n: int) -> np.ndarray:
    if n == 0:
        return _full(q, 0.0)
    if n == 1:
        return _full(q, 0.5)
    return n * n * _power_moment(q, n - 1)


def _power_profile(q: np.ndarray, degree: float) -> np.ndarray:
    if degree not in range(MAX_POWER + 1):
        raise LimitError(
            f"rectified_monomial: degree {degree:g} has no closed form; take a whole number up to {MAX_POWER}"
        )
    n = int(degree)
    return np.stack([_full(np.ravel(q), n), np.sqrt(_power_slope_moment(np.ravel(q), n))])


FAMILIES: dict[str, ClosedForm] = {
    # a min(u, 0) + b max(u, 0)
    "abrelu": ClosedForm(
        strip="piecewise.abrelu",
        profile=_abrelu_profile,
        moment=lambda q, p: np.asarray(q, dtype=np.float64) * ((p[0] * p[0] + p[1] * p[1]) / 2),
        mean=lambda q, p: _root(q) * ((p[1] - p[0]) / math.sqrt(2 * math.pi)),
        slope=lambda q, p: _full(q, (p[0] + p[1]) / 2),
        slope_moment=lambda q, p: _full(q, (p[0] * p[0] + p[1] * p[1]) / 2),
    ),
    # 1{u > 0} u^n
    "rectpow": ClosedForm(
        strip="piecewise.rectpow",
        profile=lambda q, p: _power_profile(q, p[0]),
        moment=lambda q, p: _power_moment(q, int(p[0])),
        mean=lambda q, p: _power_mean(q, int(p[0])),
        slope=lambda q, p: _power_slope(q, int(p[0])),
        slope_moment=lambda q, p: _power_slope_moment(q, int(p[0])),
    ),
    "step": ClosedForm(
        strip="piecewise.step",
        profile=lambda q, p: _constants(q),
        moment=lambda q, p: _power_moment(q, 0),
        mean=lambda q, p: _power_mean(q, 0),
        slope=lambda q, p: _power_slope(q, 0),
        slope_moment=lambda q, p: _full(q, 0.0),
    ),
    "sign": ClosedForm(
        strip="piecewise.sign",
        profile=lambda q, p: _constants(q),
        moment=lambda q, p: 2.0 * _power_moment(q, 0),
        mean=lambda q, p: _full(q, 0.0),
        slope=lambda q, p: 2.0 * _power_slope(q, 0),
        slope_moment=lambda q, p: _full(q, 0.0),
    ),
}
