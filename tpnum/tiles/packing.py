"""Padding moved to where it costs least: before the first position, where a recurrence has not begun.

It may move where a net knows no more of positions than their order: it carries states from one to the next,
and sums over all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum import nn
from tpnum.program.lines import Arith, Data, Input, Known, LinComb, Map, MatMul, Matrix, Moment, Nonlin, Scan
from tpnum.program.maps import Sum, Take

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line
    from tpnum.tiles.extras import Inputs


def packed(net: nn.Layer | Program, first: Inputs, second: Inputs | None) -> tuple[Inputs, Inputs | None]:
    """The same inputs with the padding of every example first, if the kernels of a net are the same then."""
    sides = [x for x in (first, second) if x is not None]
    if not isinstance(net, nn.Layer) or any(set(x) != {"", "mask"} or x["mask"].ndim != 2 for x in sides):
        return first, second
    shapes = {x[""].shape[1:] for x in sides}
    if not all(_only_order(nn.program(net, shape, masked=True)) for shape in shapes):
        return first, second
    return _moved(first), None if second is None else _moved(second)


def _moved(x: Inputs) -> Inputs:
    order = np.argsort(x["mask"], axis=1, kind="stable")
    return {
        "": np.take_along_axis(x[""], order[..., None], axis=1),
        "mask": np.take_along_axis(x["mask"], order, axis=1),
    }


def _only_order(program: Program) -> bool:
    """Whether of positions the order alone matters to the outputs, and there are recurrences."""
    scans = [line for line in program.lines if isinstance(line, Scan)]
    states = {outer for scan in scans for outer, _ in scan.outputs}
    inner = [line for scan in scans for line in scan.body]
    if not scans or any(program.vars[name].axes for _, name in program.outputs):
        return False
    return all(_alike(line, states) for line in (*program.lines, *inner))


def _alike(line: Line, states: set[str]) -> bool:
    """Whether a line does the same at all positions, sums over them, or takes the last of some states."""
    match line:
        case Map():
            index = line.index
            last = isinstance(index, Take) and not line.out and index.indices == (index.length - 1,)
            return isinstance(index, Sum) or (last and line.operand in states)
        case Known():
            return line.name == "mask"
        case Input() | Matrix():
            return not line.axes
    return isinstance(line, Data | MatMul | LinComb | Nonlin | Moment | Arith | Scan)
