"""Arguments of the builder in the forms that lines hold, and the functions `apply` and `mean`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import functions
from tpnum.arguments import number, shown
from tpnum.errors import InputError, ProgramError
from tpnum.program import reads
from tpnum.program.handle import Handle, is_number
from tpnum.program.state import State
from tpnum.program.values import MatrixVar, Scalar, Vector

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.builder import Program


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


def handle_of(value: Any, name: str) -> Handle:
    """A variable."""
    if not isinstance(value, Handle):
        raise ProgramError(f"{name}: a variable of the program is needed, not {shown(value)}")
    return value


def split_arguments(p: Program, f: Any, args: Sequence[Any]) -> tuple[list[Vector | MatrixVar], list[Scalar]]:
    """Vectors first, then scalars; numbers and scalars in the place of a vector are made one."""
    for a in args:
        if is_number(a):
            number(a, "args", error=ProgramError)
        else:
            p._own(handle_of(a, "args"))
    ks = [k for k, a in enumerate(args) if isinstance(a, (Vector, MatrixVar))]
    dim = next((a.dim for a in args if isinstance(a, Vector)), "n")
    if ks and is_named(f):
        ks += [k for k, a in enumerate(args[: functions.get(f).arity]) if is_number(a)]
    last = max(ks, default=-1)
    vectors = [a if isinstance(a, (Vector, MatrixVar)) else _filled(p, a, dim) for a in args[: last + 1]]
    scalars = [a if isinstance(a, Scalar) else p.constant(float(a), dim) for a in args[last + 1 :]]
    return vectors, scalars


def _filled(p: Program, value: Any, dim: str) -> Vector:
    """A number or a scalar as a vector of equal coordinates."""
    return p.zeros(dim) if is_number(value) and not value else value * p.ones(dim)
