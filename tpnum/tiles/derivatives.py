"""`tpnum.kernel` with ``wrt``: derivatives of kernels by deviations of weights and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum import nn
from tpnum.arguments import shown
from tpnum.errors import InputError, LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import shape as shape_of
from tpnum.evaluate.general import PairValues
from tpnum.evaluate.plan import Plan, make_plan
from tpnum.evaluate.tangents import PairTangents, ProfileTangents
from tpnum.jets import Jet
from tpnum.nn.deviations import changed, paths_of
from tpnum.tiles.grid import general_side, squares
from tpnum.tiles.sinks import put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.variances import Variances


class Derivatives(NamedTuple):
    """A kernel and its derivatives: arrays, or tuples of them by kind.

    ``derivatives`` is (parameters, *kernel.shape), without the first axis where ``wrt`` was one name.
    """

    kernel: Any
    derivatives: Any


def names_of(net: Any, wrt: Any) -> list[list[str]]:
    """The paths that every name of ``wrt`` stands for."""
    if not isinstance(net, nn.Layer):
        raise InputError("wrt: derivatives are by deviations of a net of layers, net is a Program")
    names = [wrt] if isinstance(wrt, str) else list(wrt) if isinstance(wrt, (tuple, list)) else []
    if not names:
        raise InputError(f"wrt is {shown(wrt)}: it must be a name like 'W_std', a path, or a tuple of them")
    try:
        return [paths_of(net, name) for name in names]
    except InputError as problem:
        raise InputError(f"wrt: {problem}") from None


def plan_with_slopes(
    net: Any, paths: list[list[str]], shapes: Sequence[tuple[int, ...]], kinds: tuple[str, ...]
) -> Plan:
    """The plan of a net whose deviations carry their derivatives."""

    def carried(path: str, value: float) -> float:
        slopes = tuple(1.0 if path in group else 0.0 for group in paths)
        return Jet(value, slopes) if any(slopes) else value

    jets = changed(net, carried)
    first = nn.program(jets, shapes[0])
    second = first if shapes[0] == shapes[1] else nn.program(jets, shapes[1])
    return make_plan((first, second), kinds).unrolled


def derivatives(
    plan: Plan,
    count: int,
    x1: dict[str, np.ndarray],
    x2: dict[str, np.ndarray] | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
    variances: Variances,
    diag: bool,
) -> dict[str, np.ndarray]:
    """(parameters, *shape) for every kind of the plan."""
    made = {kind: np.zeros((count, *shape), dtype) for kind in plan.entries}
    rows, cols = plan.profiles(x1, x2, None, variances)
    tangents = [ProfileTangents(rows, count)]
    tangents.append(tangents[0] if cols is rows else ProfileTangents(cols, count))
    if diag:
        _fill_diagonal(plan, rows, tangents[0], made)
        return made
    same = rows is cols
    for tile in squares(rows.size, cols.size, general_side(plan), same and plan.mirrored):
        values = PairValues(rows, cols, tile.rows, tile.cols, same)
        moves = PairTangents(values, *tangents)
        for kind, entries in plan.entries.items():
            full = np.zeros((count, *values.counts, *plan.axes[0], *plan.axes[1]))
            for entry in entries:
                found = moves(entry.node)
                if found is None:
                    continue
                block = np.broadcast_to(found, (count, *shape_of(entry.node, *values.counts)))
                turned = np.moveaxis(block, 2 + len(entry.node.rows), 2)
                at = (None, None, None, *entry.rows, *entry.cols)
                full[tuple(slice(None) if i is None else i for i in at)] += entry.weight * turned
            if not np.isfinite(full).all():
                raise LimitError(f"x1, x2: a derivative of the {kind} is not finite; scale the data")
            for out, one in zip(made[kind], full, strict=True):
                put(out, tile, one)
    return made


def _fill_diagonal(
    plan: Plan, rows: ProfileValues, tangents: ProfileTangents, made: dict[str, np.ndarray]
) -> None:
    program = plan.programs[0]
    own = program.vars[program.outputs[0][1]].axes
    for kind, out in made.items():
        for weight, node, at in plan.diagonals[0][kind]:
            found = tangents(node)
            if found is not None:
                place: tuple[Any, ...] = (slice(None), *(slice(None) if i is None else i for i in at))
                for goal, one in zip(out, found, strict=True):
                    goal[place] += weight * labels.lift(one, rows.axes(node), own)
