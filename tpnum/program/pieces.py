"""What the parts of a line may be: names, axes, numbers, and variables of the right kinds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tpnum.arguments import shown
from tpnum.program.lines import Axes, Var
from tpnum.program.scope import Fault, Scope

if TYPE_CHECKING:
    from tpnum.functions import Function

NAME = re.compile(r"[^\W\d][\w.,:/\[\]'-]*\Z")
KIND = {"A": "a matrix", "G": "a G-var", "H": "an H-var", "S": "a scalar", "D": "data"}


def new_name(name: Any, scope: Scope) -> None:
    """A name that nothing bears yet."""
    if not isinstance(name, str) or not NAME.match(name):
        raise Fault(f"{shown(name)} is not a name: use a letter followed by letters, digits and _ . : / [ ]")
    if scope.taken(name):
        raise Fault(f"the name {name!r} is used twice")


def new_dim(name: Any) -> None:
    """A CDC is known by a name."""
    if not isinstance(name, str):
        raise Fault(f"the CDC {shown(name)} is not a name: use a text such as 'n'")


def distinct_axes(axes: Axes) -> Axes:
    """Pairs of a name and a size, no name twice."""
    seen = set()
    for item in axes:
        if len(item) != 2 or not isinstance(item[0], str) or not item[0]:
            raise Fault(f"axes {axes!r} are not pairs of a name and a size")
        if not isinstance(item[1], int) or item[1] < 1:
            raise Fault(f"axis {item[0]!r} has size {item[1]!r}: a size is a positive integer")
        if item[0] in seen:
            raise Fault(f"axis {item[0]!r} appears twice in one variable")
        seen.add(item[0])
    return axes


def merged_axes(variables: Iterable[Var]) -> Axes:
    """Union of axes by name, in order of appearance."""
    sizes: dict[str, tuple[int, str]] = {}
    for v in variables:
        for axis, n in v.axes:
            if sizes.setdefault(axis, (n, v.name))[0] != n:
                m, other = sizes[axis]
                raise Fault(f"axes do not match: {axis!r} has size {m} in {other!r} and {n} in {v.name!r}")
    return tuple((a, n) for a, (n, _) in sizes.items())


def finite(value: Any, what: str) -> float:
    """A finite real number."""
    if isinstance(value, complex) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Fault(f"{what} is {value!r}: it must be a finite real number")
    return value


def not_negative(value: Any, what: str) -> float:
    """A variance."""
    if finite(value, what) < 0:
        raise Fault(f"{what} is {value!r}: a variance is not negative")
    return value


def vectors(names: Iterable[str], scope: Scope, what: str) -> list[Var]:
    """G- and H-vars of one CDC."""
    out = [scope.get(n) for n in names]
    for v in out:
        if v.kind == "D":
            raise Fault(
                f"{what} of data {v.name!r}: data enters through matrices only, so preprocess the numbers "
                f"themselves or multiply by a matrix first"
            )
        if v.kind not in "GH":
            raise Fault(f"{what} of {v.name!r}, which is {KIND[v.kind]}: its arguments are vectors")
    same_dim(out)
    return out


def same_dim(variables: list[Var]) -> None:
    """Variables of one CDC."""
    for v in variables[1:]:
        if v.dim != variables[0].dim:
            first = variables[0]
            raise Fault(f"CDCs do not match: {first.name!r} is in {first.dim!r} and {v.name!r} in {v.dim!r}")


def scalars_of(names: Iterable[str], scope: Scope) -> list[Var]:
    """Scalars that exist."""
    out = []
    for n in names:
        v = scope.find(n)
        if v is None and not scope.taken(n):
            raise Fault(f"the scalar {n!r} is used before it exists")
        v = scope.get(n)
        if v.kind != "S":
            raise Fault(f"{n!r} stands where a scalar is needed, but it is {KIND[v.kind]}")
        out.append(v)
    return out


def fitting(fn: Function, args: tuple[str, ...], scalars: tuple[str, ...]) -> None:
    """As many vectors and scalars as the function takes."""
    if len(args) != fn.arity or len(scalars) != fn.n_scalars:
        want = f"{fn.arity} vector(s)" + (f" and {fn.n_scalars} scalar(s)" if fn.n_scalars else "")
        got = f"{len(args)}" + (f" and {len(scalars)}" if fn.n_scalars or scalars else "")
        raise Fault(f"wrong number of arguments: {fn.name} takes {want}, not {got}")


def no_channels(dim: str, scope: Scope) -> None:
    """A CDC of vectors, which grows."""
    if dim in scope.root.channels:
        raise Fault(f"{dim!r} counts the channels of data, which stay finite: a vector needs its own CDC")
