"""Functions of H-vars as functions of the G-vars underneath: phi(p_1(g), .., p_k(g); t).

Each p_j is a polynomial in coordinatewise functions of the G-vars (`tpnum.law.forms`); the result is a
`Function` like any other, with values, first derivatives by the chain rule, and kinks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tpnum.errors import ProgramError
from tpnum.functions import Function
from tpnum.functions.function import TABLE
from tpnum.functions.record import Record

Slots: TypeAlias = tuple[int, ...]
"""Places among the G-vars or the scalars of the whole function."""

Factor: TypeAlias = tuple[Function, Slots, Slots]
"""A function with the G-vars and the scalars that it takes."""

Inner: TypeAlias = tuple[tuple[float, Slots, tuple[Factor, ...]], ...]
"""A polynomial: terms coefficient * product of scalars * product of factors."""

Values: TypeAlias = tuple[Any, ...]
"""Arrays, or numbers for scalars."""

RANGE, GRID = 40.0, 8001
"""Where kinks made by the inner functions are looked for."""


def substitute(
    outer: Function, inner: tuple[Inner, ...], outer_scalars: Slots, arity: int, n_scalars: int
) -> Function:
    """phi with polynomials in functions of ``arity`` G-vars and ``n_scalars`` scalars for its arguments."""
    params = (
        ("outer", outer),
        ("inner", inner),
        ("outer_scalars", outer_scalars),
        ("slots", (arity, n_scalars)),
    )
    return Function("substitution", params, split=n_scalars)


def _at(factor: Factor, vectors: Values, scalars: Values) -> Any:
    fn, args, own = factor
    return fn(*(vectors[i] for i in args), *(scalars[s] for s in own))


def _product(coef: float, slots: Slots, factors: tuple[Factor, ...], vectors: Values, scalars: Values) -> Any:
    made: Any = coef
    for s in slots:
        made = made * scalars[s]
    for factor in factors:
        made = made * _at(factor, vectors, scalars)
    return made


def _polynomial(form: Inner, vectors: Values, scalars: Values) -> Any:
    return sum((_product(*term, vectors, scalars) for term in form), 0.0)


def _slope(form: Inner, vectors: Values, scalars: Values, i: int) -> Any:
    """The derivative of a polynomial in its i-th G-var."""
    total: Any = 0.0
    for coef, slots, factors in form:
        for k, (fn, args, own) in enumerate(factors):
            for place in (place for place, slot in enumerate(args) if slot == i):
                derived = (*factors[:k], (fn.derivative(place), args, own), *factors[k + 1 :])
                total = total + _product(coef, slots, derived, vectors, scalars)
    return total


def _values(
    outer: Function, inner: tuple[Inner, ...], outer_scalars: Slots, slots: tuple[int, int]
) -> dict[Slots, Callable[..., Any]]:
    arity, _ = slots

    def split(arguments: Values) -> tuple[Values, Values, Values, Values]:
        vectors, scalars = arguments[:arity], arguments[arity:]
        # 0 * u: a polynomial without G-vars is as long as the others
        middle = tuple(_polynomial(form, vectors, scalars) + 0.0 * vectors[0] for form in inner)
        return vectors, scalars, middle, tuple(scalars[s] for s in outer_scalars)

    def value(*arguments: Any, **params: Any) -> Any:
        _, _, middle, own = split(arguments)
        return outer(*middle, *own)

    def slope(i: int) -> Callable[..., Any]:
        def derivative(*arguments: Any, **params: Any) -> Any:
            vectors, scalars, middle, own = split(arguments)
            return sum(
                outer.derivative(j)(*middle, *own) * _slope(form, vectors, scalars, i)
                for j, form in enumerate(inner)
            )

        return derivative

    known = (i for i in range(arity) if _differentiable(outer, inner, i))
    return {(): value, **{(i,): slope(i) for i in known}}


def _differentiable(outer: Function, inner: tuple[Inner, ...], i: int) -> bool:
    """Whether the chain rule for the i-th G-var finds values of every derivative that it asks for."""
    needed = [
        (fn, place)
        for form in inner
        for _, _, factors in form
        for fn, args, _ in factors
        for place, slot in enumerate(args)
        if slot == i
    ]
    needed += [(outer, j) for j in range(len(inner))]
    return all(has_slope(fn, place) for fn, place in needed)


def has_slope(fn: Function, i: int) -> bool:
    """Whether the values of a function's derivative are known."""
    try:
        return fn.derivative(i).has_values
    except ProgramError:
        return False


def _kinks(
    outer: Function, inner: tuple[Inner, ...], outer_scalars: Slots, slots: tuple[int, int]
) -> tuple[float, ...]:
    """Break points of a function of one G-var: those of the inner functions, and preimages of the outer's."""
    if slots != (1, 0):
        return ()
    points = {float(k) for form in inner for _, _, factors in form for fn, _, _ in factors for k in fn.kinks}
    if outer.arity == 1 and outer.kinks:
        grid = np.linspace(-RANGE, RANGE, GRID)
        grid = np.unique(np.concatenate([grid, *([k - 1e-9, k, k + 1e-9] for k in points)]))

        def inside(u: np.ndarray) -> np.ndarray:
            return np.asarray(_polynomial(inner[0], (u,), ())) + 0.0 * u

        for kink in outer.kinks:
            signs = np.sign(inside(grid) - kink)
            for n in np.flatnonzero(signs[1:] != signs[:-1]):
                low, high = grid[n], grid[n + 1]
                for _ in range(80):
                    middle = 0.5 * (low + high)
                    same = np.sign(inside(np.array([middle]))[0] - kink) == signs[n]
                    low, high = (middle, high) if same else (low, middle)
                points.add(float(high) if abs(high) > 1e-12 else 0.0)
    return tuple(sorted(points))


TABLE["substitution"] = Record(
    "f(p_1(g), .., p_k(g); t)",
    _values,
    params=(("outer", None), ("inner", ()), ("outer_scalars", ()), ("slots", (1, 0))),
    arity=lambda slots, **_: slots[0] + slots[1],
    kinks=_kinks,
    parities=(0,) * 64,
    growth=lambda outer, **_: outer.growth,
    named=False,
)
