"""Functions of H-vars as functions of the G-vars underneath: phi(p_1(g), .., p_k(g); t).

Each p_j is a polynomial in coordinatewise functions of the G-vars (`tpnum.law.forms`); the result is a
`Function` like any other, with values, first derivatives by the chain rule, and kinks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.functions import Function
from tpnum.functions.function import TABLE
from tpnum.functions.record import Record

Inner = tuple[tuple[float, tuple[int, ...], tuple[tuple[Function, tuple[int, ...], tuple[int, ...]], ...]], ...]
"""A polynomial: (coefficient, scalars, atoms (function, G-var slots, scalar slots))."""

RANGE, GRID = 40.0, 8001
"""Where kinks made by the inner functions are looked for."""


def substitute(outer: Function, inner: tuple[Inner, ...], outer_scalars: tuple[int, ...], arity: int, n_scalars: int) -> Function:
    """phi with polynomials in functions of ``arity`` G-vars and ``n_scalars`` scalars for its arguments."""
    params = (
        ("outer", outer),
        ("inner", inner),
        ("outer_scalars", outer_scalars),
        ("slots", (arity, n_scalars)),
    )
    return Function("substitution", params, split=n_scalars)


def _polynomial(form: Inner, vectors: tuple, scalars: tuple) -> Any:
    total: Any = 0.0
    for coef, factors, atoms in form:
        term: Any = coef
        for s in factors:
            term = term * scalars[s]
        for fn, args, own in atoms:
            term = term * fn(*(vectors[i] for i in args), *(scalars[s] for s in own))
        total = total + term
    return total


def _slope(form: Inner, vectors: tuple, scalars: tuple, i: int) -> Any:
    total: Any = 0.0
    for coef, factors, atoms in form:
        for k, (fn, args, own) in enumerate(atoms):
            for place, slot in enumerate(args):
                if slot != i:
                    continue
                term: Any = coef
                for s in factors:
                    term = term * scalars[s]
                for j, (other, slots, owned) in enumerate(atoms):
                    f = other.derivative(place) if j == k else other
                    term = term * f(*(vectors[x] for x in slots), *(scalars[s] for s in owned))
                total = total + term
    return total


def _values(
    outer: Function, inner: tuple[Inner, ...], outer_scalars: tuple[int, ...], slots: tuple[int, int]
) -> dict[tuple[int, ...], Any]:
    arity, _ = slots

    def split(arguments: tuple) -> tuple[tuple, tuple, list, tuple]:
        vectors, scalars = arguments[:arity], arguments[arity:]
        middle = [_polynomial(form, vectors, scalars) + 0.0 * vectors[0] for form in inner]
        return vectors, scalars, middle, tuple(scalars[s] for s in outer_scalars)

    def value(*arguments: Any, **_: Any) -> Any:
        _, _, middle, own = split(arguments)
        return outer(*middle, *own)

    def slope(i: int) -> Any:
        def derivative(*arguments: Any, **_: Any) -> Any:
            vectors, scalars, middle, own = split(arguments)
            return sum(
                outer.derivative(j)(*middle, *own) * _slope(form, vectors, scalars, i)
                for j, form in enumerate(inner)
            )

        return derivative

    return {(): value, **{(i,): slope(i) for i in range(arity)}}


def _kinks(outer: Function, inner: tuple[Inner, ...], outer_scalars: tuple[int, ...], slots: tuple[int, int]) -> tuple:
    """Break points of a function of one G-var: those of the inner functions, and preimages of the outer's."""
    arity, n_scalars = slots
    if arity != 1 or n_scalars:
        return ()
    points = {k for form in inner for _, _, atoms in form for fn, _, _ in atoms for k in fn.kinks}
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
    values=_values,
    params=(("outer", None), ("inner", ()), ("outer_scalars", ()), ("slots", (1, 0))),
    arity=lambda slots, **_: slots[0] + slots[1],
    kinks=_kinks,
    parities=(0,) * 64,
    growth=lambda outer, **_: outer.growth,
)
