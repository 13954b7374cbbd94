"""Tables of known numbers as lines: constants of a program, and an example's known scalars made constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from tpnum import functions
from tpnum.program.lines import Axes, Input, Known, Map, Moment
from tpnum.program.maps import Rows
from tpnum.program.state import State

P = TypeVar("P", bound=State)


def append_table(program: State, name: str, axes: Axes, values: np.ndarray) -> None:
    """Append a scalar family with the given values: the number 1, mapped to every index."""
    ones = program._auto(f"{name}.ones", bare=True)
    program.append(Input((ones,), ones, (1.0,), ((0.0,),), (("one", 1),)))
    one = program._auto(f"{name}.one", bare=True)
    program.append(Moment(one, functions.get("identity"), (ones,)))
    rows = Rows(tuple(((0, float(value)),) if value else () for value in values.ravel()))
    program.append(Map(name, one, "one", axes, rows))


def settled(program: P, given: Mapping[str, np.ndarray]) -> P:
    """A program whose known scalars are constants: ``given`` has their values by the names of the lines."""
    if not any(isinstance(line, Known) for line in program.lines):
        return program
    made = program._blank()
    for line in program.lines:
        if isinstance(line, Known):
            append_table(made, line.name, line.axes, np.asarray(given[line.name]))
        else:
            made.append(line)
    made._outputs_of(program)
    made.tangents, made.parts = dict(program.tangents), dict(program.parts)
    return made._of(program, program.lineage.form)
