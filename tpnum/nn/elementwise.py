"""Layers of any function: a name, a `Function` or a callable of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any

import numpy as np

from tpnum import functions
from tpnum.errors import TpnumError
from tpnum.functions import Function
from tpnum.nn.activations import Activation, row
from tpnum.nn.arguments import Accepts, Points, Reals
from tpnum.nn.base import Layer


def _read_function(value: Any) -> Any:
    """A name where it says all, else the Function or callable; a JSON object as `Function.spec` makes it."""
    if isinstance(value, Mapping):
        value = functions.from_spec(dict(value), modules=())
    if isinstance(value, Activation):
        value = value.as_function()
    if isinstance(value, np.ufunc):  # np.tanh is the function of that name, and no user's
        named = functions.get(value)
        value = named if named.user is None else value
    if isinstance(value, Function):
        return value.name if value in _plain_functions() else value
    if isinstance(value, type) or not (isinstance(value, str) or callable(value)):
        raise TypeError
    return value


@lru_cache(maxsize=1)
def _plain_functions() -> frozenset[Function]:
    """The named functions with their default parameters."""
    made = set()
    for name in functions.names():
        with suppress(TpnumError):  # one that needs parameters
            made.add(functions.get(name))
    return frozenset(made)


_FUNCTION = Accepts("the name of a function, a tpnum function or a callable f(u) on arrays", _read_function)


@row
class Elementwise(Activation):
    """Any function, computed to tolerance: a name, a `Function`, or a callable f(u) on arrays.

    For a callable, ``derivative`` is f' (not needed between weights: without it the NTK comes from Price's
    theorem, to a few 1e-9 of its size at variances of 1e-12, and fewer digits below if f(0) is not 0; needed
    for the NTK where another nonlinearity follows directly) and ``kinks`` are the points where f or f' jumps.
    """

    fn: Annotated[Any, _FUNCTION]
    derivative: Callable[..., Any] | None = None
    kinks: Reals = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.as_function()

    def as_function(self) -> Function:
        named = isinstance(self.fn, (str, Function))
        if named and (self.derivative is not None or self.kinks):
            raise self.error(f"fn {self.fn!r} knows its derivative and kinks; leave both out")
        return _function(
            self, self.fn, **({} if named else {"derivative": self.derivative, "kinks": self.kinks})
        )

    def to_spec(self) -> dict[str, Any]:
        return {"op": self.op, "fn": _fn_spec(self)}


@row
class ElementwiseNumerical(Activation):
    """``fn`` by the fixed rule of ``deg`` x ``deg`` Gauss-Hermite points, whatever its error is.

    That is the rule of the same name of neural_tangents, number by number: u on the points, v given u on them
    too, so that K[i, j] and K[j, i] differ by its error.  `Elementwise` is exact and symmetric.
    """

    fn: Annotated[Any, _FUNCTION]
    deg: Points

    def __post_init__(self) -> None:
        super().__post_init__()
        self.as_function()

    def as_function(self) -> Function:
        return functions.get("elementwise_numerical", fn=_function(self, self.fn), deg=self.deg)

    def to_spec(self) -> dict[str, Any]:
        return {"op": self.op, "fn": _fn_spec(self), "deg": self.deg}


def _read_nonlinearity(value: Any) -> Activation:
    """A nonlinear layer, or what `Elementwise` makes one of."""
    return value if isinstance(value, Activation) else Elementwise(value)


Nonlinearity = Annotated[
    Any,
    Accepts(
        'a nonlinear layer such as nn.Sigmoid(), or the name of a function as "sigmoid"', _read_nonlinearity
    ),
]


def _function(layer: Layer, fn: Any, **given: Any) -> Function:
    """``fn`` as a function of one vector; complaints name the layer."""
    try:
        function = functions.get(
            fn, **{key: value for key, value in given.items() if value not in (None, ())}
        )
    except TpnumError as problem:
        raise layer.error(f"fn: {problem}") from problem
    if function.arity != 1 or function.n_scalars:
        raise layer.error(
            f"fn {fn!r} takes {function.arity} vectors and {function.n_scalars} scalars; give a "
            "function of one vector"
        )
    return function


def _fn_spec(layer: Elementwise | ElementwiseNumerical) -> Any:
    """``fn`` as it stands in the JSON form, which holds named functions only."""
    if isinstance(layer.fn, str):
        return layer.fn
    function = _function(layer, layer.fn)
    if function.user is not None:
        raise layer.error(
            f"fn {layer.fn!r} has no name in JSON; use a named function or keep the net in Python"
        )
    return function.spec()
