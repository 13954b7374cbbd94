"""A program without scans, each written over its whole axis: the same lines, their variables families of it.

A carried state becomes a `Delay` of a family that a later line makes.  Nothing is repeated per step, so that
a recurrence of a thousand steps has as many lines as one of two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpnum.errors import ProgramError
from tpnum.program.expand import maps_below_functions
from tpnum.program.lines import (
    Along,
    Arith,
    Axes,
    Delay,
    Input,
    LinComb,
    Line,
    Map,
    MatMul,
    Moment,
    Nonlin,
    Scan,
    Term,
)
from tpnum.program.maps import Rows

if TYPE_CHECKING:
    from tpnum.program.builder import Program


def folded(program: Program) -> Program | None:
    """The same program with its scans folded; None where one of them has no such form.

    It has one where states are read by matrices and sums alone, and no scan is inside another.
    """
    scans = [line for line in program.lines if isinstance(line, Scan)]
    if not scans or any(isinstance(line, Scan) for scan in scans for line in scan.body):
        return None
    try:
        return _fold(program)
    except ProgramError:  # a family that does not depend on the step, or has its axes in another order
        return None


def _fold(program: Program) -> Program | None:
    new = program._blank()
    zero: set[str] = set()
    for line in program.lines:
        if isinstance(line, Input) and not line.fresh and not any(line.mean) and not any(map(any, line.cov)):
            zero |= {*line.names}
        if not isinstance(line, Scan):
            new.append(line)
            continue
        names = dict(line.inputs)
        made: dict[str, str] = {}
        for outer, inner in line.outputs:
            made.setdefault(inner, outer)
        if made.keys() & names.keys():
            return None
        names |= made
        axis = line.axis
        for carry in line.carries:
            state, after = (names.get(name, name) for name in (carry.name, carry.next))
            starts = carry.init not in zero
            axes = (axis, *program.vars[carry.name].axes)
            before = _fresh(program, f"{state}.before") if starts else state
            new.append(Delay(before, after, axis[0], program.vars[carry.name].dim, axes))
            if starts:
                _start(new, program, (state, before, carry.init), axes)
        for inner_line in line.body:
            if isinstance(inner_line, Input):
                inner_line = replace(inner_line, axes=(axis, *inner_line.axes))
            new.append(_renamed(inner_line, names))
        for outer, inner in line.outputs:
            if made[inner] != outer:
                new.append(LinComb(outer, (Term(1.0, made[inner]),)))
            if new._var(outer).axes != program.vars[outer].axes:
                return None
    new._outputs_of(program)
    return None if maps_below_functions(new) else new


def _start(new: Program, program: Program, names: tuple[str, str, str], axes: Axes) -> None:
    """A state as what there was before, and at the first step what it starts at."""
    state, before, init = names
    dim, (axis, size) = program.vars[init].dim, axes[0]
    everywhere, first = (_fresh(program, f"{state}.{what}") for what in ("init", "start"))
    new.append(LinComb(everywhere, (Term(1.0, new.zeros(dim, axes).name), Term(1.0, init))))
    new.append(Map(first, everywhere, axis, (axes[0],), Rows((((0, 1.0),), *((),) * (size - 1)))))
    new.append(LinComb(state, (Term(1.0, before), Term(1.0, first))))


def _fresh(program: Program, name: str) -> str:
    """A name that the program has no variable of."""
    while name in program.vars:
        name += "."
    return name


def _renamed(line: Line, names: dict[str, str]) -> Line:
    """A line of a scan's body with other names for some variables."""

    def of(name: str) -> str:
        return names.get(name, name)

    match line:
        case Input():
            return replace(line, names=tuple(map(of, line.names)))
        case MatMul():
            return MatMul(of(line.name), of(line.matrix), of(line.vector))
        case LinComb():
            return LinComb(of(line.name), tuple(Term(t.coef, of(t.vector), of(t.scalar)) for t in line.terms))
        case Nonlin() | Moment():
            args, scalars = tuple(map(of, line.args)), tuple(map(of, line.scalars))
            return type(line)(of(line.name), line.fn, args, scalars)
        case Along():
            return replace(line, name=of(line.name), args=tuple(map(of, line.args)))
        case Arith():
            return Arith(of(line.name), line.fn, tuple(map(of, line.scalars)))
        case Map():
            return Map(of(line.name), of(line.operand), line.axis, line.out, line.index)
    raise ProgramError(f"{line!r} stands in no scan")
