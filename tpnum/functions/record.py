"""What is known about a named nonlinearity: one record per name, kept in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Value = Callable[..., Any]
Params = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A nonlinearity f(u1..uk; t1..tl; params) and its properties.

    ``formula`` is f in one line, for help.  ``values`` maps the order of differentiation, a tuple of argument
    numbers (() is f itself, (0,) is df/du1), to a NumPy-style callable ``value(*arguments, **params)``.
    ``kinks``, ``parity``, ``degree``, ``growth``, ``rate`` and ``closed`` are constants or functions of the
    parameters.
    """

    formula: str
    values: dict[tuple[int, ...], Value] | Callable[..., dict[tuple[int, ...], Value]]
    params: tuple[tuple[str, Any], ...] = ()  # names and defaults; a default of REQUIRED has none
    arity: int | Callable[..., int] = 1
    scalars: int = 0
    kinks: Any = ()  # where f or one of its derivatives jumps
    parity: Any = 0  # +1 even, -1 odd in all vector arguments together
    parities: tuple[int, ...] | None = None  # in each argument alone
    degree: Any = None  # f(s u) = s^degree f(u) for s > 0
    growth: Any = "poly"  # "bounded", "poly", "exp", "exp2"
    rate: Any = 0.0  # b where growth "exp2" is e^{b u^2}
    closed: Any = None  # (family, params) of the closed-form dual
    coefficients: tuple[float, ...] | None = None  # c where f is the sum of c_i u_i
    product: bool = False  # f is u1 u2
    flat: bool = False  # the a.e. derivative is zero
    switch: Value | None = None  # kinks lie where this function of the arguments changes sign
    named: bool = True  # False for combinators, whose parameters are functions: nobody asks for them by name

    def look(self, field: str, params: Params) -> Any:
        """The property at these parameters."""
        value = getattr(self, field)
        return value(**params) if callable(value) else value

    def describe(self, name: str) -> str:
        """The docstring of a named function."""
        given = [f"{key} = {value!r}" for key, value in self.params if value is not REQUIRED]
        options = (
            f"; other parameters than {', '.join(given)}: tpnum.functions.get({name!r}, ..)" if given else ""
        )
        return (
            f"{name}: {self.formula}.\n\n"
            "Coordinate by coordinate: of arrays an array, of vectors or scalars of a program a new one.\n"
            f"Wherever a function is asked for, {name!r} says the same{options}."
        )


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()
"""The default of a parameter that must be given."""


def unary(*values: Value) -> dict[tuple[int, ...], Value]:
    """Values of f, f', f'', .. as a table by order."""
    return {(0,) * order: value for order, value in enumerate(values)}
