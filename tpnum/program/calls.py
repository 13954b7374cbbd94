"""Arguments of the builder in the forms that lines hold, and the functions `apply` and `mean`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import functions
from tpnum.arguments import shown
from tpnum.errors import InputError, ProgramError
from tpnum.program import reads
from tpnum.program.handle import Handle
from tpnum.program.state import State

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.builder import Program
    from tpnum.program.values import Scalar


def as_program(p: Any, shape: Any = None, name: str = "p") -> Program:
    """A program, or that of a net of layers on one example of ``shape``."""
    if isinstance(p, State):
        if shape is not None:
            raise InputError("shape: it belongs to a net of layers; a program knows its axes")
        return p  # type: ignore[return-value]
    write = getattr(p, "__tpnum_program__", None)
    if write is None or isinstance(p, type):
        raise InputError(f"{name}: a Program (or a net of layers with shape=) is needed, not {shown(p)}")
    if shape is None:
        raise InputError(
            f"{name}: a Program is needed; nn.program(net, shape) writes that of a net, or give "
            "shape=(.., channels) of one example here"
        )
    return write(shape)


def is_named(f: Any) -> bool:
    """Whether ``f`` is a function of the library rather than a user's own."""
    if isinstance(f, (str, functions.Function)) or hasattr(f, "__tpnum_function__"):
        return True
    return isinstance(f, np.ufunc) and functions.get(f).user is None


def as_function(
    f: Any, arity: int, n_scalars: int, derivative: Any = None, kinks: Sequence[float] = ()
) -> Function:
    """The `Function` of a name, a Function or a user's callable."""
    points = reads.kinks(kinks, "kinks")
    if not is_named(f):
        return functions.get(f, derivative=derivative, kinks=points, arity=arity, n_scalars=n_scalars)
    if derivative is not None or points:
        raise ProgramError("derivative= and kinks= belong to a function of your own, not to a named one")
    fn = functions.get(f)
    if arity and fn.arity + fn.n_scalars == arity + n_scalars and fn.n_scalars != n_scalars:
        return fn.with_scalars(n_scalars)
    return fn


def mean(vector: Any, name: str | None = None) -> Scalar:
    """`Program.mean` of the vector's own program."""
    if not isinstance(vector, Handle):
        raise ProgramError(f"vector: tp.mean takes a vector of a program, not {shown(vector)}")
    return vector.program.mean(vector, name=name)


def apply(
    f: Any, *args: Any, derivative: Any = None, kinks: Sequence[float] = (), name: str | None = None
) -> Any:
    """`Program.apply` of the arguments' own program: f(*vectors, *scalars), coordinatewise."""
    for a in args:
        if isinstance(a, Handle):
            return a.program.apply(f, *args, derivative=derivative, kinks=kinks, name=name)
    raise ProgramError("args: tp.apply needs at least one vector or scalar of a program")
