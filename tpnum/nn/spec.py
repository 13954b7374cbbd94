"""The JSON form of a net: `from_spec` reads what `Layer.to_spec` writes, and the usual spelling of it.

Every layer is ``{"op": NAME, ..arguments}``; "residual" (body, shortcut) and "branches" (join, branches)
stand for serial(FanOut, parallel, FanIn).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from tpnum.arguments import shown
from tpnum.errors import SpecError
from tpnum.nn import activations, combinators, dense, elementwise, normalization, recurrent, spatial
from tpnum.nn.base import Layer
from tpnum.nn.combinators import JOINS, NESTED, FanInSum, FanOut, Identity, Parallel, Repeat, Serial

LAYERS: dict[str, type[Layer]] = {
    layer.op: layer
    for module in (activations, combinators, dense, elementwise, normalization, recurrent, spatial)
    for layer in vars(module).values()
    if isinstance(layer, type) and issubclass(layer, Layer) and is_dataclass(layer)
} | {"Swish": activations.Swish}
"""The layers by their name in JSON."""

_CHILDREN = {
    "serial": ("layers",),
    "parallel": ("layers",),
    "repeat": ("layer", "n"),
    "residual": ("body", "shortcut"),
    "branches": ("join", "branches"),
}
_ABSENT = ("GlobalSelfAttention", "Aggregate")


def from_spec(spec: Mapping[str, Any]) -> Layer:
    """The net of a JSON object: a network, or an object that holds one as "network"."""
    if isinstance(spec, Mapping) and "op" not in spec and "network" in spec:
        spec = spec["network"]
    _check_nesting(spec)
    return _layer(spec, "")


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
    return tuple(sorted({*LAYERS, *_CHILDREN}, key=str.lower))


def _layer(spec: Any, path: str) -> Layer:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("op"), str):
        raise SpecError(
            f'{path or "the network"} is {shown(spec)}; it must be an object like {{"op": "Relu"}}'
        )
    op = spec["op"]
    given = {name: value for name, value in spec.items() if name != "op"}
    if op in _CHILDREN:
        return _container(op, given, path)
    if op not in LAYERS:
        where = f"{path}: " if path else ""
        if op in _ABSENT:
            raise SpecError(f"{where}op {op!r} is not available; available are {', '.join(ops())}")
        raise SpecError(f"{where}no op is named {op!r}; {_near(op, ops())}")
    cls = LAYERS[op]
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    _check_names(given, names, [f.name for f in fields(cls) if f.default is MISSING], op, path)  # type: ignore[arg-type]
    made = {
        name: _layer(value, _join(path, name)) if isinstance(value, Mapping) and "op" in value else value
        for name, value in given.items()
    }
    try:
        return cls(**made)
    except SpecError as problem:
        raise SpecError(_at(path, op, str(problem).removeprefix(f"{op}: "))) from None


def _container(op: str, given: dict[str, Any], path: str) -> Layer:
    names = _CHILDREN[op]
    required = [name for name in names if name != "shortcut"]
    _check_names(given, list(names), required, op, path)
    if op == "repeat":
        layer = _layer(given["layer"], _join(path, "layer"))
        try:
            return Repeat(layer, given["n"])
        except SpecError as problem:
            raise SpecError(_at(path, op, str(problem).removeprefix("repeat: "))) from None
    if op == "residual":
        body = _layer(given["body"], _join(path, "body"))
        shortcut = _layer(given["shortcut"], _join(path, "shortcut")) if "shortcut" in given else Identity()
        return Serial((FanOut(2), Parallel((body, shortcut)), FanInSum()))
    entries = given[names[-1]]
    if not isinstance(entries, (list, tuple)):
        raise SpecError(_at(path, op, f"{names[-1]} is {shown(entries)}; it must be a list of layers"))
    layers = tuple(_layer(entry, _join(path, f"{names[-1]}[{index}]")) for index, entry in enumerate(entries))
    if op == "serial":
        return Serial(layers)
    if op == "parallel":
        return Parallel(layers)
    if given["join"] not in JOINS:
        raise SpecError(_at(path, op, f"join is {given['join']!r}; it must be one of {', '.join(JOINS)}"))
    if not layers:
        raise SpecError(_at(path, op, "branches is empty; give at least one layer"))
    return Serial((FanOut(len(layers)), Parallel(layers), JOINS[given["join"]]()))


def _check_names(given: Mapping[str, Any], names: list[str], required: list[str], op: str, path: str) -> None:
    for name in given:
        if name not in names:
            raise SpecError(_at(path, op, f"it has no argument {name!r}; {_near(str(name), names)}"))
    for name in required:
        if name not in given:
            raise SpecError(
                _at(path, op, f"the argument {name!r} is missing; its arguments are {', '.join(names)}")
            )


def _near(name: str, known: Iterable[str]) -> str:
    known = list(known)
    folded = {entry.lower(): entry for entry in known}
    close = [
        folded[entry] for entry in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)
    ]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(known)}" if known else "it takes none"


def _join(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step


def _at(path: str, op: str, message: str) -> str:
    return f"{path} ({op}): {message}" if path else f"{op}: {message}"
