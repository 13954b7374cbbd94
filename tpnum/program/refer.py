"""Which variable a reader of a program is asked for: by handle or by name, and nothing but its own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpnum.arguments import shown
from tpnum.errors import InputError
from tpnum.program.handle import Handle
from tpnum.program.text import made_by

if TYPE_CHECKING:
    from tpnum.program.lines import Line, Var
    from tpnum.program.state import State

_INSTEAD = {
    "A": "a matrix: ask for its products with vectors",
    "S": "a scalar: ask for .scalar of it",
    "G": "a vector: ask for .mean or .moment of it",
    "H": "a vector: ask for .mean or .moment of it",
    "D": "data, of fixed numbers: ask for a vector that is made of it",
}


def refer(
    program: State,
    which: Any,
    *,
    kinds: str = "AGHSD",
    known: Mapping[str, Any] | None = None,
    again: str = "",
) -> str:
    """The name of the variable meant by a handle or a name, if it is the program's and of one of ``kinds``.

    ``program`` may be a copy of, or derived from, the handle's own.  ``known`` are the names that can be
    read (all by default), ``again`` the call that makes the reader, for lines written after it.
    """
    if isinstance(which, Handle):
        name = which.name
        _same(program, which, name)
    elif isinstance(which, str):
        name = which
    else:
        raise InputError(f"a variable of the program is needed, its handle or its name, not {shown(which)}")
    readable = {*program.vars, *program.parts} if known is None else known
    if name not in readable:
        raise InputError(_missing(program, name, isinstance(which, Handle), readable, again))
    var = _var(program, name)
    if var is not None and var.kind not in kinds:
        raise InputError(f"{name!r} is {_INSTEAD[var.kind]}")
    return name


def _same(program: State, handle: Handle, name: str) -> None:
    """A handle of a program of another origin, or of a copy that has gone its own way, is refused."""
    other = handle.program
    if other is program:
        return
    ours, theirs = program.lineage, other.lineage
    strange = ours.origin != theirs.origin
    if not strange and ours == theirs:
        first, second = _maker(program, name), _maker(other, name)
        strange = first is not None and second is not None and first != second
    if strange:
        raise InputError(f"{name!r} belongs to another program: ask for a variable of the program read here")


def _maker(program: State, name: str) -> Line | None:
    return next((line for line in program.lines if name in made_by(line)), None)


def _var(program: State, name: str) -> Var | None:
    found = program.vars.get(name)
    if found is None and name in program.parts:
        found = program.vars.get(program.parts[name].names[0])
    return found


def _missing(program: State, name: str, handle: bool, readable: Any, again: str) -> str:
    if name in program._root.hidden:
        return f"{name!r} is made inside a scan: ask for its steps, or for the family that loop.stack makes"
    if handle and again:
        return f"{name!r} was written after {again} was called: call it again"
    near = difflib.get_close_matches(name, list(readable), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{shown(name)} is not a variable of the program{hint}"
