"""The inputs of a call by data line, and the plan of its net at their shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tpnum import nn
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import InputError
from tpnum.evaluate.joint import BUDGET
from tpnum.evaluate.plan import Plan, make_plan
from tpnum.law.price import NoRule
from tpnum.nn.base import no_layer
from tpnum.program import Program
from tpnum.program.lines import Data, Known
from tpnum.tiles import arguments, extras

if TYPE_CHECKING:
    import numpy as np

    from tpnum.nn.base import Layer


def inputs_of(
    net: Layer | Program,
    x1: Any,
    x2: Any,
    mask_constant: Any = None,
    pattern1: Any = None,
    pattern2: Any = None,
) -> tuple[extras.Inputs, extras.Inputs | None]:
    """The arrays of `kernel` by data line and known scalar, checked but for their fit to the net."""
    if isinstance(x1, (nn.Layer, Program)):
        raise InputError("x1 is a net, which comes first: kernel(net, x1)")
    masks: list[np.ndarray] = []
    if mask_constant is not None:
        if isinstance(net, Program):
            raise InputError(f"mask_constant: {extras.LAYERS}")
        x1, x2, masks = extras.unpadded(x1, x2, mask_constant)
    scalars = [line.name for line in net.lines if isinstance(line, Known)] if isinstance(net, Program) else ()
    first, second = arguments.by_line(x1, x2, arguments.array_of, scalars=scalars)
    for x, mask in zip((first, second), masks, strict=False):
        if x is not None:
            x["mask"] = mask
    extras.add_graphs(first, second, pattern1, pattern2)
    return first, second


def plan_of(
    net: Layer | Program,
    x1: dict[str, np.ndarray],
    x2: dict[str, np.ndarray] | None,
    kinds: tuple[str, ...],
    budget: int = BUDGET,
    padding: str | None = None,
) -> Plan | SampledPlan:
    """The plan of a net or a program at the shapes of its inputs, which get its data lines' names.

    ``padding`` is where all examples have theirs (`extras.padding_of`), by default those of these arrays.
    """
    layers = isinstance(net, nn.Layer)
    shapes = [
        {name: array.shape[1:] for name, array in x.items() if not (layers and name == "pattern")}
        for x in (x1, x1 if x2 is None else x2)
    ]
    if padding is None:
        masks = [x["mask"] for x in (x1, x2) if layers and x and "mask" in x]
        padding = extras.padding_of(masks) if masks else ""
    programs, plan = planned(net, shapes, kinds, budget, padding)
    _name_data(programs[0], x1, "x1", net)
    if x2 is not None:
        _name_data(programs[1], x2, "x2", net)
    return plan


def with_graphs(
    net: Layer | Program, shapes: dict[str, tuple[int, ...]], kinds: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """The shapes of an example's arrays, with that of the graph that a net of layers aggregates over."""
    if not isinstance(net, nn.Layer):
        return shapes
    (program, _), _ = planned(net, [shapes] * 2, kinds)
    scalars = {line.name: line.axes for line in program.lines if isinstance(line, Known)}
    return shapes | {name: tuple(size for _, size in axes) for name, axes in scalars.items()}


def planned(
    net: Layer | Program,
    shapes: list[dict[str, tuple[int, ...]]],
    kinds: tuple[str, ...],
    budget: int = BUDGET,
    padding: str = "",
) -> tuple[tuple[Program, Program], Plan | SampledPlan]:
    """The programs at the shapes of rows and of columns, by data line ("" of a net), and their plan."""
    return kept(_plans, net)(net, tuple(tuple(one.items()) for one in shapes), kinds, budget, padding)


@lru_cache(maxsize=32)
def _plans(
    net: Layer | Program,
    shapes: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...],
    kinds: tuple[str, ...],
    budget: int = BUDGET,
    padding: str = "",
) -> tuple[tuple[Program, Program], Plan | SampledPlan]:
    """The program at either shape and their plan, which depend on nothing else."""
    first = _program(net, shapes[0], padding)
    second = first if shapes[0] == shapes[1] else _program(net, shapes[1], padding)
    try:
        return (first, second), make_plan((first, second), kinds, budget)
    except NoRule as why:
        return (first, second), SampledPlan((first, second), kinds, str(why))


def kept(made: Any, net: Layer | Program) -> Any:
    """A function of a net and more that keeps what it made, or without that where a net has no hash."""
    try:
        hash(net)
    except TypeError:
        return made.__wrapped__
    return made


def _program(net: Layer | Program, shapes: tuple[tuple[str, tuple[int, ...]], ...], padding: str) -> Program:
    if isinstance(net, Program):
        return net
    if not isinstance(net, nn.Layer):
        raise InputError(f"net is {no_layer(net, 'a layer or a Program')}")
    known = dict(shapes)
    if set(known) - {"mask"} != {""}:
        raise InputError("x1: a dict of arrays goes with a Program; a net of layers takes one array")
    return nn.program(net, known[""], masked="mask" in known, padding=padding)


def _name_data(program: Program, given: dict[str, np.ndarray], argument: str, net: Layer | Program) -> None:
    names = [line.name for line in program.lines if isinstance(line, Data)]
    scalars = [line.name for line in program.lines if isinstance(line, Known)]
    if not names:
        raise InputError(
            "net: the program has no data line; p.data(...) makes one, tp.limit reads programs without"
        )
    if "" in given and len(names) == 1:
        given[names[0]] = given.pop("")
    sizes = {name: tuple(size for _, size in program.vars[name].axes) for name in (*names, *scalars)}
    if isinstance(net, nn.Layer):
        extras.check_graphs(given, sizes.get("pattern"), argument, net)
    if set(given) != set(sizes):
        listed = ", ".join(names) + f" and scalars {', '.join(scalars)}" * bool(scalars)
        raise InputError(f"{argument}: the program's data lines are {listed}; give a dict with these")
    for name, axes in sizes.items():
        features = name in names
        if given[name].shape[1 : given[name].ndim - features] != axes:
            expected = ", ".join(["examples", *map(str, axes), *["channels"] * features])
            what = "data line" if features else "scalars"
            raise InputError(
                f"{argument}: shape {given[name].shape} does not fit the {what} {name}, which is ({expected})"
            )
