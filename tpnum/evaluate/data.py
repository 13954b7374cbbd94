"""Arrays for the data and known scalars of a program, those split along a scan's axis included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.program.lines import Data, Known
from tpnum.program.parts import origins

if TYPE_CHECKING:
    import numpy as np

    from tpnum.program import Program


def bind(program: Program, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(N, *axes, channels) by data line of an unrolled program, (N, *axes) by known scalars, views."""
    split = origins(program)
    bound = {}
    for line in program.lines:
        if not isinstance(line, Data | Known):
            continue
        if line.name not in arrays:
            family, axes, at = split[line.name]
            index = tuple(at.get(axis, slice(None)) for axis, _ in axes)
            bound[line.name] = arrays[family][(slice(None), *index)]
        else:
            bound[line.name] = arrays[line.name]
    return bound
