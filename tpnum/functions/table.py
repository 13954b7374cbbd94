"""The table of one-argument nonlinearities: name -> `Record`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tpnum.functions import values as v
from tpnum.functions.record import REQUIRED, Record, unary

_SELU = (1.6732632423543772, 1.0507009873554805)
_SIGMOID_LIKE = 1.0 / 2.4020563531719796


def _zero(u: Any, **_: Any) -> Any:
    return np.zeros_like(u)


def _step(u: Any) -> Any:
    return np.where(u > 0, 1.0, 0.0)


def _abrelu(a: float, b: float) -> dict[tuple[int, ...], Any]:
    return unary(
        lambda u, **_: a * np.minimum(u, 0.0) + b * np.maximum(u, 0.0),
        lambda u, **_: np.where(u > 0, b, a) + 0.0 * u,
        _zero,
    )


def _ab_parity(a: float, b: float) -> int:
    return -1 if a == b else 1 if a == -b else 0


def _ab_record(formula: str, a: float, b: float) -> Record:
    return Record(
        formula, _abrelu(a, b), kinks=() if a == b else (0.0,), parity=_ab_parity(a, b), degree=1.0,
        coefficients=(a,) if a == b else None,
        closed=("abrelu", (a, b)),
    )  # fmt: skip


def _erf(a: float, b: float, c: float) -> dict[tuple[int, ...], Any]:
    s = 2.0 * a * b / math.sqrt(math.pi)
    return unary(
        lambda u, **_: a * v.erf(b * u) + c,
        lambda u, **_: s * np.exp(-((b * u) ** 2)),
        lambda u, **_: -2.0 * b * b * u * s * np.exp(-((b * u) ** 2)),
    )


def _turn(c: float) -> float:
    """A phase within one turn: b u + c would lose the digits of b u beside a large c."""
    return c if abs(c) <= 2.0 * math.pi else math.atan2(math.sin(c), math.cos(c))


def _sin(a: float, b: float, c: float) -> dict[tuple[int, ...], Any]:
    c = _turn(c)
    return unary(
        lambda u, **_: a * np.sin(b * u + c),
        lambda u, **_: a * b * np.cos(b * u + c),
        lambda u, **_: -a * b * b * np.sin(b * u + c),
    )


def _cos(a: float, b: float, c: float) -> dict[tuple[int, ...], Any]:
    c = _turn(c)
    return unary(
        lambda u, **_: a * np.cos(b * u + c),
        lambda u, **_: -a * b * np.sin(b * u + c),
        lambda u, **_: -a * b * b * np.cos(b * u + c),
    )


def _rbf(gamma: float) -> dict[tuple[int, ...], Any]:
    return _sin(math.sqrt(2.0), math.sqrt(2.0 * gamma), 0.25 * math.pi)


def _exp(a: float, b: float) -> dict[tuple[int, ...], Any]:
    return unary(*(lambda u, k=k, **_: a * b**k * np.exp(b * u) for k in range(3)))


def _poly(coef: tuple[float, ...]) -> dict[tuple[int, ...], Any]:
    return unary(*(lambda u, k=k, **_: v.polynomial(u, coef, k) for k in range(max(3, len(coef)))))


def _poly_parity(coef: tuple[float, ...]) -> int:
    powers = {i % 2 for i, c in enumerate(coef) if c != 0}
    return {frozenset({0}): 1, frozenset({1}): -1}.get(frozenset(powers), 0)


def _poly_degree(coef: tuple[float, ...]) -> float | None:
    powers = [i for i, c in enumerate(coef) if c != 0]
    return float(powers[0]) if len(powers) == 1 else None


def _monomial(degree: int) -> tuple[float, ...]:
    return (0.0,) * int(degree) + (1.0,)


def _rectified(degree: int) -> dict[tuple[int, ...], Any]:
    def value(u: Any, k: int) -> Any:
        power = degree - k
        if power < 0:
            return np.zeros_like(u)
        return np.where(u > 0, math.perm(degree, k) * np.maximum(u, 0.0) ** power, 0.0)

    return unary(*(lambda u, k=k, **_: value(u, k) for k in range(max(3, degree + 2))))


def _elu(alpha: float, scale: float = 1.0) -> dict[tuple[int, ...], Any]:
    low = scale * alpha
    return unary(
        lambda u, **_: np.where(u > 0, scale * u, low * np.expm1(np.minimum(u, 0.0))),
        lambda u, **_: np.where(u > 0, scale, low * np.exp(np.minimum(u, 0.0))),
        lambda u, **_: np.where(u > 0, 0.0, low * np.exp(np.minimum(u, 0.0))),
    )


def _power(exponent: float) -> dict[tuple[int, ...], Any]:
    def factor(k: int) -> float:
        return math.prod(exponent - j for j in range(k))

    return unary(*(lambda u, k=k, **_: factor(k) * np.power(u, exponent - k) for k in range(3)))


ABC = (("a", 1.0), ("b", 1.0), ("c", 0.0))

UNARY: dict[str, Record] = {
    # piecewise linear and jumping
    "identity": _ab_record("u", 1.0, 1.0),
    "relu": _ab_record("max(u, 0)", 0.0, 1.0),
    "abs": _ab_record("|u|", -1.0, 1.0),
    "abrelu": Record(
        "a min(u, 0) + b max(u, 0)",
        _abrelu, (("a", REQUIRED), ("b", REQUIRED)), kinks=lambda a, b: () if a == b else (0.0,),
        parity=_ab_parity, degree=1.0, closed=lambda a, b: ("abrelu", (a, b)),
    ),
    "leaky_relu": Record(
        "alpha min(u, 0) + max(u, 0)",
        lambda alpha: _abrelu(alpha, 1.0), (("alpha", REQUIRED),), kinks=(0.0,),
        parity=lambda alpha: _ab_parity(alpha, 1.0), degree=1.0,
        closed=lambda alpha: ("abrelu", (alpha, 1.0)),
    ),
    "sign": Record(
        "-1, 0 or 1, the sign of u",
        unary(np.sign, _zero, _zero), flat=True, kinks=(0.0,), parity=-1, degree=0.0, growth="bounded",
        closed=("sign", ()),
    ),
    "step": Record(
        "1 where u > 0, else 0",
        unary(_step, _zero, _zero), flat=True, kinks=(0.0,), degree=0.0, growth="bounded", closed=("step", ())
    ),
    "hard_tanh": Record(
        "u cut off at -1 and 1",
        unary(lambda u: np.clip(u, -1.0, 1.0), lambda u: np.where(np.abs(u) < 1.0, 1.0, 0.0), _zero),
        kinks=(-1.0, 1.0), parity=-1, growth="bounded",
    ),
    "rectified_monomial": Record(
        "u^degree where u > 0, else 0",
        _rectified, (("degree", REQUIRED),), kinks=(0.0,), degree=lambda degree: degree,
        growth=lambda degree: "poly" if degree else "bounded", closed=lambda degree: ("rectpow", (degree,)),
    ),
    # sigmoids
    "erf": Record(
        "a erf(b u) + c", _erf, ABC, parity=lambda a, b, c: -1 if c == 0 else 0, growth="bounded",
        closed=lambda a, b, c: ("erf", (a, b, c)),
    ),
    "sigmoid_like": Record(
        "erf(u / 2.4020563531719796) / 2 + 1/2",
        _erf(0.5, _SIGMOID_LIKE, 0.5) | {(): lambda u, **_: v.normal_cdf(math.sqrt(2.0) * _SIGMOID_LIKE * u)},
        growth="bounded", closed=("erf", (0.5, _SIGMOID_LIKE, 0.5)),
    ),
    "normal_cdf": Record(
        "Phi(u) = (1 + erf(u / sqrt(2))) / 2, the normal distribution function",
        unary(v.normal_cdf, v.normal_pdf, lambda u: -u * v.normal_pdf(u)), growth="bounded",
        closed=("erf", (0.5, 1.0 / math.sqrt(2.0), 0.5)),
    ),
    "tanh": Record("tanh(u)", unary(np.tanh, v.sech2, v.tanh_2), parity=-1, growth="bounded"),
    "sigmoid": Record("1 / (1 + exp(-u))", unary(v.sigmoid, v.sigmoid_1, v.sigmoid_2), growth="bounded"),
    "arctan": Record(
        "the angle whose tangent is u",
        unary(np.arctan, lambda u: 1.0 / (1.0 + u * u), lambda u: -2.0 * u / (1.0 + u * u) ** 2),
        parity=-1, growth="bounded",
    ),
    "softsign": Record(
        "u / (1 + |u|)", unary(
            lambda u: u / (1.0 + np.abs(u)), lambda u: 1.0 / (1.0 + np.abs(u)) ** 2,
            lambda u: -2.0 * np.sign(u) / (1.0 + np.abs(u)) ** 3,
        ),
        kinks=(0.0,), parity=-1, growth="bounded",
    ),
    # smooth rectifiers
    "gelu": Record(
        "u Phi(u), Phi the normal distribution function; approximate is the usual form with tanh",
        lambda approximate: unary(
            *(_drop(f) for f in ((v.gelu_tanh, v.gelu_tanh_1, v.gelu_tanh_2) if approximate else
                                 (v.gelu, v.gelu_1, v.gelu_2)))
        ),
        (("approximate", False),), closed=lambda approximate: None if approximate else ("gelu", ()),
    ),
    "silu": Record("u / (1 + exp(-u)), also called swish", unary(v.silu, v.silu_1, v.silu_2)),
    "softplus": Record("log(1 + exp(u))", unary(v.softplus, v.sigmoid, v.sigmoid_1)),
    "mish": Record("u tanh(log(1 + exp(u)))", unary(v.mish, v.mish_1, v.mish_2)),
    "elu": Record("u where u > 0, else alpha (exp(u) - 1)", _elu, (("alpha", 1.0),), kinks=(0.0,)),
    "selu": Record(
        "scale (u where u > 0, else alpha (exp(u) - 1)), the scaled elu of self-normalising networks",
        _elu(*_SELU), kinks=(0.0,),
    ),
    # periodic, exponential
    "sin": Record(
        "a sin(b u + c)", _sin, ABC, parity=lambda a, b, c: -1 if c == 0 else 0, growth="bounded",
        closed=lambda a, b, c: ("sin", (a, b, _turn(c))),
    ),
    "cos": Record(
        "a cos(b u + c)", _cos, ABC, parity=lambda a, b, c: 1 if c == 0 else 0, growth="bounded",
        closed=lambda a, b, c: ("sin", (a, b, _turn(c) + 0.5 * math.pi)),
    ),
    "rbf": Record(
        "sqrt(2) sin(sqrt(2 gamma) u + pi/4), the random feature of exp(-gamma |u - v|^2)",
        _rbf, (("gamma", 1.0),), growth="bounded",
        closed=lambda gamma: ("sin", (math.sqrt(2.0), math.sqrt(2.0 * gamma), 0.25 * math.pi)),
    ),
    "exp": Record(
        "a exp(b u)",
        _exp, (("a", 1.0), ("b", 1.0)), growth="exp", closed=lambda a, b: ("exp", (a, b)),
    ),
    "gaussian": Record(
        "a exp(b u^2)",
        lambda a, b: unary(*(_drop(partial(v.gaussian, a=a, b=b, order=k)) for k in range(3))),
        (("a", 1.0), ("b", -1.0)), parity=1, growth=lambda a, b: "exp2" if b > 0 else "bounded",
        rate=lambda a, b: max(b, 0.0), closed=lambda a, b: ("gauss", (a, b)),
    ),
    "gabor": Record(
        "exp(-u^2) sin(u)",
        unary(*(partial(v.gabor, order=k) for k in range(3))), parity=-1, growth="bounded",
        closed=("gabor", ()),
    ),
    "exp_normalized": Record(
        "the activation, given q = E u^2, whose kernel is sqrt(q1 q2) exp(gamma (rho + shift))",
        unary(*(partial(v.exp_normalized, order=k) for k in range(3))), (("gamma", 1.0), ("shift", -1.0)),
        scalars=1, growth="exp", closed=lambda gamma, shift: ("exp_normalized", (gamma, shift)),
    ),
    # polynomials, powers
    "square": Record("u^2", _poly((0.0, 0.0, 1.0)), parity=1, degree=2.0, closed=("poly", (0.0, 0.0, 1.0))),
    "polynomial": Record(
        "the sum of coef[i] u^i", _poly, (("coef", REQUIRED),), parity=_poly_parity, degree=_poly_degree,
        closed=lambda coef: ("poly", coef),
    ),
    "monomial": Record(
        "u^degree", lambda degree: _poly(_monomial(degree)), (("degree", REQUIRED),),
        parity=lambda degree: (-1) ** degree, degree=lambda degree: degree,
        closed=lambda degree: ("poly", _monomial(degree)),
    ),
    "hermite": Record(
        "He_degree(u / sqrt(q)) / sqrt(degree!), given q = E u^2",
        lambda degree: unary(*(_drop(partial(v.hermite, degree=degree, order=k)) for k in range(degree + 2))),
        (("degree", REQUIRED),), scalars=1, parity=lambda degree: (-1) ** degree,
    ),
    "constant": Record(
        "c, whatever u is",
        lambda c: unary(lambda u, **_: np.full_like(u, c), _zero, _zero), (("c", REQUIRED),), parity=1,
        growth="bounded", degree=0.0, flat=True, closed=lambda c: ("const", (c,)),
    ),
    "sqrt": Record(
        "the square root of u",
        unary(np.sqrt, lambda u: 0.5 / np.sqrt(u), lambda u: -0.25 / u**1.5), degree=0.5,
    ),
    "reciprocal": Record(
        "1 / u",
        unary(lambda u: 1.0 / u, lambda u: -1.0 / (u * u), lambda u: 2.0 / u**3), parity=-1, degree=-1.0
    ),
    "log": Record("the natural logarithm of u", unary(np.log, lambda u: 1.0 / u, lambda u: -1.0 / (u * u))),
    "power": Record("u^exponent", _power, (("exponent", REQUIRED),), degree=lambda exponent: exponent),
    "cbrt": Record(
        "the real cube root of u",
        unary(np.cbrt, lambda u: 1.0 / (3.0 * np.cbrt(u) ** 2)), kinks=(0.0,), parity=-1, degree=1.0 / 3.0
    ),
}  # fmt: skip


def _drop(f: Any) -> Any:
    """A value that has its parameters bound already and ignores them when they are passed again."""
    return lambda *arguments, **_: f(*arguments)
