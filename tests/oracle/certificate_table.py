"""The accuracy certificate's table: 44 functions and 30 covariances, without the package under test.

A `Case` says how the function is given to `tpnum.dual` and, for the oracles, where it is not smooth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

INF = float("inf")


@dataclass(frozen=True)
class Case:
    """One function of the table.

    ``given``: the name of a tpnum function (with ``params``) or a NumPy-style callable (with ``kinks``);
    ``kind``: smooth, kinked, jumping, oscillating, growing or singular; ``numpy``: f and f' for arrays of
    any precision; ``special``: (point, scale) pairs, the function being rough (kinks, complex singularities,
    decay) on this scale around this point; ``slope``: whether E f'^2 is finite; ``reach``: the range of the
    oracle's quadrature in standard deviations; ``exists(q, mean)``: whether E f^2 is finite in float64 and
    f(u) is finite wherever it matters.
    """

    name: str
    kind: str
    given: str | Callable[[Any], Any]
    numpy: tuple[Callable[[Any], Any], Callable[[Any], Any]]
    special: tuple[tuple[float, float], ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    kinks: tuple[float, ...] = ()
    slope: bool = True
    reach: float = 10.0
    exists: Callable[[float, float], bool] = lambda q, mean: True

    @property
    def analytic(self) -> bool:
        """Whether ``special`` are complex singularities only."""
        return self.kind not in ("kinked", "jumping", "singular")


def _sigmoid(u):
    return np.where(u > 0, 1 / (1 + np.exp(-np.abs(u))), np.exp(-np.abs(u)) / (1 + np.exp(-np.abs(u))))


def _erf(u):
    """erf in the precision of u: Taylor near 0, else the continued fraction's place is taken by a sum.

    erf u = (2/sqrt pi) u e^{-u^2} sum_k (2 u^2)^k/(2k+1)!!, all terms positive.
    """
    u = np.asarray(u)
    x = np.minimum(np.abs(u), 6.7)
    term = total = x * np.exp(-x * x) * (2 / np.sqrt(_pi(u)))
    for k in range(1, 160):
        term = term * (2 * x * x / (2 * k + 1))
        total = total + term
    return np.sign(u) * np.where(np.abs(u) > 6.7, 1, total)


def _pi(u):
    return 4 * np.arctan(np.ones((), np.asarray(u).dtype))


def _normal(u):
    return np.exp(-u * u / 2) / np.sqrt(2 * _pi(u))


def _cdf(u):
    return (1 + _erf(u / np.sqrt(np.asarray(2, np.asarray(u).dtype)))) / 2


def _softplus(u):
    return np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u)))


def _sech2(u):
    e = np.exp(-2 * np.abs(u))
    return 4 * e / (1 + e) ** 2


def _mish_slope(u):
    w = np.tanh(_softplus(u))
    return w + u * (1 - w) * (1 + w) * _sigmoid(u)


def _step(u):
    return np.where(u > 0, 1, 0) + 0 * u


def _none(u):
    return 0 * u


def _root_slope(u):
    return 1 / (3 * np.cbrt(u) ** 2)


def floor_clip(u):
    return np.floor(np.clip(u, -3.0, 3.0))


def below(limit: float) -> Callable[[float, float], bool]:
    """E f^2 exists below this variance."""
    return lambda q, mean: q < limit


POLE = (0.0, 1.0)

FUNCTIONS = (
    Case("relu", "kinked", "relu", (lambda u: np.maximum(u, 0), _step), ((0.0, INF),)),
    Case("abs", "kinked", "abs", (np.abs, np.sign), ((0.0, INF),)),
    Case("sign", "jumping", "sign", (np.sign, _none), ((0.0, INF),)),
    Case("step", "jumping", "step", (_step, _none), ((0.0, INF),)),
    Case("hard_tanh", "kinked", "hard_tanh",
         (lambda u: np.clip(u, -1, 1), lambda u: (np.abs(u) < 1) + 0 * u), ((-1.0, 1.0), (1.0, 1.0))),
    Case("rectified_square", "kinked", "rectified_monomial",
         (lambda u: np.maximum(u, 0) ** 2, lambda u: 2 * np.maximum(u, 0)), ((0.0, INF),), {"degree": 2}),
    Case("elu", "kinked", "elu",
         (lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))), lambda u: np.exp(np.minimum(u, 0))),
         ((0.0, 1.0),)),
    Case("softsign", "kinked", "softsign",
         (lambda u: u / (1 + np.abs(u)), lambda u: 1 / (1 + np.abs(u)) ** 2), ((0.0, 1.0),)),
    Case("tanh", "smooth", "tanh", (np.tanh, _sech2), ((0.0, 1.5),)),
    Case("sigmoid", "smooth", "sigmoid", (_sigmoid, lambda u: _sigmoid(u) * _sigmoid(-u)), ((0.0, 3.0),)),
    Case("arctan", "smooth", "arctan", (np.arctan, lambda u: 1 / (1 + u * u)), (POLE,)),
    Case("erf", "smooth", "erf", (_erf, lambda u: 2 * np.exp(-u * u) / np.sqrt(_pi(u))), (POLE,)),
    Case("normal_cdf", "smooth", "normal_cdf", (_cdf, _normal), (POLE,)),
    Case("gelu", "smooth", "gelu", (lambda u: u * _cdf(u), lambda u: _cdf(u) + u * _normal(u)), (POLE,)),
    Case("silu", "smooth", "silu",
         (lambda u: u * _sigmoid(u), lambda u: _sigmoid(u) * (1 + u * _sigmoid(-u))), ((0.0, 3.0),)),
    Case("softplus", "smooth", "softplus", (_softplus, _sigmoid), ((0.0, 3.0),)),
    Case("mish", "smooth", "mish", (lambda u: u * np.tanh(_softplus(u)), _mish_slope), ((0.0, 1.5),)),
    Case("sin", "oscillating", "sin", (np.sin, np.cos), ((0.0, INF),)),
    Case("cos_3u", "oscillating", "cos",
         (lambda u: np.cos(3 * u + 0.5), lambda u: -3 * np.sin(3 * u + 0.5)), ((0.0, INF),),
         {"b": 3.0, "c": 0.5}),
    Case("exp", "growing", "exp", (np.exp, np.exp), reach=36.0, exists=below(330.0)),
    Case("gaussian", "smooth", "gaussian",
         (lambda u: np.exp(-u * u / 2), lambda u: -u * np.exp(-u * u / 2)), (POLE,), {"b": -0.5}),
    Case("growing_gaussian", "growing", "gaussian",
         (lambda u: np.exp(0.1 * u * u), lambda u: 0.2 * u * np.exp(0.1 * u * u)), (POLE,), {"b": 0.1},
         reach=26.0, exists=below(2.5)),
    Case("gabor", "oscillating", "gabor",
         (lambda u: np.exp(-u * u) * np.sin(u), lambda u: np.exp(-u * u) * (np.cos(u) - 2 * u * np.sin(u))),
         ((0.0, 0.7),)),
    Case("cubic", "growing", "polynomial",
         (lambda u: 0.125 + 0.5 * u - 0.375 * u**2 + 0.25 * u**3, lambda u: 0.5 - 0.75 * u + 0.75 * u**2),
         params={"coef": (0.125, 0.5, -0.375, 0.25)}, reach=11.0),
    Case("cbrt", "singular", "cbrt", (np.cbrt, _root_slope), ((0.0, 1e-13),), slope=False),
    Case("user_tanh_gauss", "smooth", lambda u: np.tanh(u) * np.exp(-u * u / 8),
         (lambda u: np.tanh(u) * np.exp(-u * u / 8),
          lambda u: (_sech2(u) - u / 4 * np.tanh(u)) * np.exp(-u * u / 8)), ((0.0, 1.2),)),
    Case("user_softplus", "smooth", lambda u: np.log1p(np.exp(u)), (_softplus, _sigmoid), ((0.0, 3.0),),
         exists=below(2000.0)),
    Case("user_relu", "kinked", lambda u: np.maximum(u, 0), (lambda u: np.maximum(u, 0), _step),
         ((0.0, INF),)),
    Case("user_jump", "jumping", lambda u: (u > 0.375) * 1.0,
         (lambda u: (u > 0.375) + 0 * u, _none), ((0.375, INF),)),
    Case("user_vee", "kinked", lambda u: np.abs(u - 0.375),
         (lambda u: np.abs(u - 0.375), lambda u: np.sign(u - 0.375)), ((0.375, INF),), kinks=(0.375,)),
    Case("user_stairs", "jumping", floor_clip,
         (floor_clip, _none), tuple((float(k), 1.0) for k in range(-2, 4))),
    Case("user_u_sin_u", "oscillating", lambda u: u * np.sin(u),
         (lambda u: u * np.sin(u), lambda u: np.sin(u) + u * np.cos(u)), ((0.0, INF),), reach=11.0),
    Case("user_sin_10u", "oscillating", lambda u: np.sin(10 * u),
         (lambda u: np.sin(10 * u), lambda u: 10 * np.cos(10 * u)), ((0.0, INF),)),
    Case("user_lorentz", "smooth", lambda u: 1 / (1 + u * u),
         (lambda u: 1 / (1 + u * u), lambda u: -2 * u / (1 + u * u) ** 2), (POLE,)),
    Case("user_root", "smooth", lambda u: np.sqrt(1 + u * u),
         (lambda u: np.sqrt(1 + u * u), lambda u: u / np.sqrt(1 + u * u)), (POLE,)),
    Case("user_laplace", "kinked", lambda u: np.exp(-np.abs(u)),
         (lambda u: np.exp(-np.abs(u)), lambda u: -np.sign(u) * np.exp(-np.abs(u))), ((0.0, 1.0),)),
    Case("user_cosh", "growing", np.cosh, (np.cosh, np.sinh), reach=36.0, exists=below(330.0)),
    Case("user_steep", "smooth", lambda u: np.tanh(50 * u),
         (lambda u: np.tanh(50 * u), lambda u: 50 * _sech2(50 * u)), ((0.0, 0.03),)),
    Case("user_flat", "oscillating", lambda u: 1 + np.sin(u) / 1024,
         (lambda u: 1 + np.sin(u) / 1024, lambda u: np.cos(u) / 1024), ((0.0, INF),)),
    Case("user_exp_square", "growing", lambda u: np.exp(u * u),
         (lambda u: np.exp(u * u), lambda u: 2 * u * np.exp(u * u)), (POLE,), exists=below(0.25)),
    Case("user_window", "jumping", lambda u: ((u > 0.3125) & (u < 0.359375)) * 1.0,
         (lambda u: ((u > 0.3125) & (u < 0.359375)) + 0 * u, _none), ((0.3125, INF), (0.359375, INF))),
    Case("user_spike", "jumping", lambda u: ((u > 0.3125) & (u < 0.3134765625)) * 1.0,
         (lambda u: ((u > 0.3125) & (u < 0.3134765625)) + 0 * u, _none),
         ((0.3125, INF), (0.3134765625, INF)), kinks=(0.3125, 0.3134765625)),
    Case("user_bump", "smooth", lambda u: np.exp(-2048 * u * u),
         (lambda u: np.exp(-2048 * u * u), lambda u: -4096 * u * np.exp(-2048 * u * u)), ((0.0, 0.015),)),
    Case("user_cliff", "smooth", lambda u: np.tanh(8192 * u),
         (lambda u: np.tanh(8192 * u), lambda u: 8192 * _sech2(8192 * u)), ((0.0, 1.8e-4),)),
)  # fmt: skip

COVARIANCES = (
    (1.0, 1.0, 0.5), (1.0, 1.0, -0.5), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, -1.0),
    (1.0, 1.0, 1 - 1e-15), (1.0, 1.0, -(1 - 1e-15)), (1.0, 1.0, 1 - 1e-8), (1.0, 1.0, 0.999),
    (1.0, 2.0, 0.9), (0.3, 2.7, -0.95), (1.0, 3.0, 1e-3), (0.7, 1.9, 1.0), (9.0, 16.0, -1.0),
    (1e-8, 1e-8, 0.7), (1e-8, 1e-8, 1 - 1e-15), (1e-8, 1.0, 0.6), (1e-8, 1e4, -0.8), (1e-4, 1e-2, 0.99),
    (1e4, 1e4, 0.5), (1e4, 1e4, 1 - 1e-15), (1e4, 1e4, -(1 - 1e-8)), (1e4, 1e4, 1.0), (1e4, 1.0, 0.3),
    (100.0, 100.0, -0.7), (100.0, 25.0, 1 - 1e-12), (4.0, 0.25, 0.8),
    (1.0, 1.0, 0.4, 0.5, -0.3), (4.0, 0.25, -0.9, 1.0, 2.0), (100.0, 1e-4, 0.8, -3.0, 0.5),
)  # fmt: skip
"""(q1, q2, rho) and, for some, the two means."""


def arguments() -> np.ndarray:
    """The float64 arguments (q1, q2, c, mean1, mean2) of `tpnum.dual`, one row per covariance.

    ``c`` is rounded: the truth is that of the rounded number (clipped to the boundary).
    """
    rows = []
    for q1, q2, rho, *means in COVARIANCES:
        rows.append([q1, q2, rho * np.sqrt(q1 * q2), *(means or (0.0, 0.0))])
    return np.array(rows)
