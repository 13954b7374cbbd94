"""The JSON form of a net: `from_spec` reads what `Layer.to_spec` writes, and the usual spelling of it.

Every layer is ``{"op": NAME, ..arguments}``; "residual" (body, shortcut) and "branches" (join, branches)
stand for serial(FanOut, parallel, FanIn).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from typing import Any

from tpnum.arguments import shown
from tpnum.errors import SpecError
from tpnum.nn.arguments import misnamed, names_of, near
from tpnum.nn.base import Layer
from tpnum.nn.combinators import JOINS, NESTED, FanInSum, FanOut, Identity, Parallel, Repeat, Serial

_CHILDREN = {
    "serial": ("layers",),
    "parallel": ("layers",),
    "repeat": ("layer", "n"),
    "residual": ("body", "shortcut"),
    "branches": ("join", "branches"),
}


@cache
def layers_by_name() -> dict[str, type[Layer]]:
    """The layers of `tpnum.nn` by their names, which are those in JSON."""
    public = vars(import_module("tpnum.nn"))
    return {name: layer for name, layer in public.items() if _is_layer(layer)}


def _is_layer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Layer) and is_dataclass(value)


def from_spec(spec: Mapping[str, Any], layers: Iterable[type[Layer]] = ()) -> Layer:
    """The net of a JSON object: a network, or an object that holds one as "network".

    ``layers`` are classes of your own that it may name.

    Raises
    ------
    SpecError : what is no net, a layer or an argument that is not known; the message has its path.
    """
    known = layers_by_name() | {layer.op: layer for layer in layers}
    if isinstance(spec, Mapping) and "op" not in spec and "network" in spec:
        spec = spec["network"]
    _check_nesting(spec)
    return _layer(spec, "", known)


def _check_nesting(spec: Any) -> None:
    """Refuse what is nested deeper than a net can be; level by level, for it may have any depth."""
    level: list[Any] = [spec]
    for _ in range(2 * NESTED + 2):  # a layer is an object, and a list of layers may stand around it
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list, tuple))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        if not level:
            return
    raise SpecError(f"the network is nested more than {NESTED} layers deep; write its layers in one list")


def ops() -> tuple[str, ...]:
    """The names that "op" can have."""
    return tuple(sorted({*layers_by_name(), *_CHILDREN}, key=str.lower))


def _layer(spec: Any, path: str, known: Mapping[str, type[Layer]]) -> Layer:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("op"), str):
        raise SpecError(
            f'{path or "the network"} is {shown(spec)}; it must be an object like {{"op": "Relu"}}, '
            'and layers one after the other are {"op": "serial", "layers": [..]}'
        )
    op = spec["op"]
    given = {name: value for name, value in spec.items() if name != "op"}
    if op in _CHILDREN:
        return _container(op, given, path, known)
    if op not in known:
        where = f"{path}: " if path else ""
        raise SpecError(f"{where}no op is named {op!r}; {near(op, sorted({*ops(), *known}, key=str.lower))}")
    cls = known[op]
    complaint = misnamed(given, *names_of(cls))
    if complaint:
        raise SpecError(_at(path, op, complaint))
    made = {
        name: _layer(value, _join(path, name), known)
        if isinstance(value, Mapping) and "op" in value
        else value
        for name, value in given.items()
    }
    try:
        return cls(**made)
    except SpecError as problem:
        raise SpecError(_at(path, op, str(problem).removeprefix(f"{op}: "))) from None


def _container(op: str, given: dict[str, Any], path: str, known: Mapping[str, type[Layer]]) -> Layer:
    names = _CHILDREN[op]
    required = [name for name in names if name != "shortcut"]
    complaint = misnamed(given, names, required)
    if complaint:
        raise SpecError(_at(path, op, complaint))
    if op == "repeat":
        layer = _layer(given["layer"], _join(path, "layer"), known)
        try:
            return Repeat(layer, given["n"])
        except SpecError as problem:
            raise SpecError(_at(path, op, str(problem).removeprefix("repeat: "))) from None
    if op == "residual":
        body = _layer(given["body"], _join(path, "body"), known)
        shortcut = (
            _layer(given["shortcut"], _join(path, "shortcut"), known) if "shortcut" in given else Identity()
        )
        return Serial((FanOut(2), Parallel((body, shortcut)), FanInSum()))
    entries = given[names[-1]]
    if not isinstance(entries, (list, tuple)):
        raise SpecError(_at(path, op, f"{names[-1]} is {shown(entries)}; it must be a list of layers"))
    layers = tuple(
        _layer(entry, _join(path, f"{names[-1]}[{index}]"), known) for index, entry in enumerate(entries)
    )
    if op == "serial":
        return Serial(layers)
    if op == "parallel":
        return Parallel(layers)
    if given["join"] not in JOINS:
        raise SpecError(_at(path, op, f"join is {given['join']!r}; it must be one of {', '.join(JOINS)}"))
    if not layers:
        raise SpecError(_at(path, op, "branches is empty; give at least one layer"))
    return Serial((FanOut(len(layers)), Parallel(layers), JOINS[given["join"]]()))


def _join(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step


def _at(path: str, op: str, message: str) -> str:
    return f"{path} ({op}): {message}" if path else f"{op}: {message}"
