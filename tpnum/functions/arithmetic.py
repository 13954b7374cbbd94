"""Arithmetic as functions of several vectors or scalars: add, sub, mul, div, maximum, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.functions.record import REQUIRED, Record


def _like(value: float) -> Any:
    return lambda x, y, **_: value + 0.0 * (x + y)


def _take(i: int, k: int = 2) -> Any:
    """The i-th of several arguments, with the shape of all of them."""
    return lambda *args, **_: (
        np.broadcast_to(args[i], np.broadcast_shapes(*(np.shape(a) for a in args))) + 0.0
    )


def _where(test: Any, yes: float, no: float) -> Any:
    return lambda x, y: np.where(test(x, y), yes, no)


def _sum(coefs: tuple[float, ...], constant: float) -> dict[tuple[int, ...], Any]:
    def value(*args: Any, **_: Any) -> Any:
        made = constant
        for c, a in zip(coefs, args, strict=True):
            made = made + c * a
        return made

    def slope(i: int) -> Any:
        return lambda *args, **_: coefs[i] + 0.0 * sum(np.asarray(a) for a in args)

    return {(): value} | {(i,): slope(i) for i in range(len(coefs))}


SEVERAL: dict[str, Record] = {
    "add": Record(
        "x + y",
        {(): lambda x, y: x + y, (0,): _like(1.0), (1,): _like(1.0), (0, 0): _like(0.0), (0, 1): _like(0.0),
         (1, 1): _like(0.0)},
        arity=2, parity=-1, parities=(0, 0), degree=1.0, coefficients=(1.0, 1.0),
    ),
    "sub": Record(
        "x - y",
        {(): lambda x, y: x - y, (0,): _like(1.0), (1,): _like(-1.0), (0, 0): _like(0.0), (0, 1): _like(0.0),
         (1, 1): _like(0.0)},
        arity=2, parity=-1, parities=(0, 0), degree=1.0, coefficients=(1.0, -1.0),
    ),
    "mul": Record(
        "x y",
        {(): lambda x, y: x * y, (0,): _take(1), (1,): _take(0), (0, 0): _like(0.0), (1, 1): _like(0.0),
         (0, 1): _like(1.0)},
        arity=2, parity=1, parities=(-1, -1), degree=2.0, product=True,
    ),
    "div": Record(
        "x / y",
        {(): lambda x, y: x / y, (0,): lambda x, y: 1.0 / y + 0.0 * x, (1,): lambda x, y: -x / (y * y),
         (0, 0): _like(0.0), (0, 1): lambda x, y: -1.0 / (y * y) + 0.0 * x,
         (1, 1): lambda x, y: 2.0 * x / y**3},
        arity=2, parity=1, parities=(-1, -1), degree=0.0,
    ),
    "maximum": Record(
        "the larger of x and y",
        {(): np.maximum, (0,): _where(np.greater, 1.0, 0.0), (1,): _where(np.greater, 0.0, 1.0)},
        arity=2, degree=1.0, switch=lambda x, y: x - y,
    ),
    "minimum": Record(
        "the smaller of x and y",
        {(): np.minimum, (0,): _where(np.less, 1.0, 0.0), (1,): _where(np.less, 0.0, 1.0)},
        arity=2, degree=1.0, switch=lambda x, y: x - y,
    ),
    "affine": Record(
        "constant + coefs[0] x0 + coefs[1] x1 + ..",
        _sum, (("coefs", REQUIRED), ("constant", 0.0)), arity=lambda coefs, constant: len(coefs),
        parity=lambda coefs, constant: 0 if constant else -1,
        degree=lambda coefs, constant: None if constant else 1.0,
    ),
}  # fmt: skip
