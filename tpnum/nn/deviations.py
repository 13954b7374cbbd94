"""The deviations of a net's weights and biases by name and path: what a user tunes, and what is derived by.

A path is what errors call a layer by, and the argument: "layers[2].W_std", "layers[0].layer.b_std".  A name,
"W_std", is every one of them that bears it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from tpnum.arguments import shown
from tpnum.errors import InputError
from tpnum.nn.arguments import near
from tpnum.nn.base import Layer


def deviations(net: Layer) -> dict[str, float]:
    """Every deviation by its path, in the order of the layers; biases that are not there are left out."""
    return dict(_walk(net, ""))


def paths_of(net: Layer, name: Any) -> list[str]:
    """The paths that a path or a name stands for.

    Raises
    ------
    InputError : there is none.
    """
    known = deviations(net)
    if isinstance(name, str) and name in known:
        return [name]
    found = [path for path in known if isinstance(name, str) and path.rpartition(".")[2] == name]
    if not found:
        names = dict.fromkeys([path.rpartition(".")[2] for path in known] + list(known))
        hint = f"; {near(name if isinstance(name, str) else '', list(names))}" if names else ""
        raise InputError(f"{shown(name)} is no deviation of weights or biases of the net{hint}")
    return found


def shared(net: Layer, wrt: Any = None) -> dict[str, float]:
    """The deviations that ``wrt`` names, each with the value that all of that name share.

    ``wrt`` is a name or path or several of them, None for every path whose deviation is not zero.

    Raises
    ------
    InputError : there is none of a name, or those of a name differ.
    """
    known = deviations(net)
    if wrt is None:
        return {path: value for path, value in known.items() if value > 0}
    made = {}
    for name in [wrt] if isinstance(wrt, str) else list(wrt):
        values = {known[path] for path in paths_of(net, name)}
        if len(values) > 1:
            raise InputError(
                f"wrt: the deviations {name!r} differ ({shown(sorted(values))}); name their paths"
            )
        made[name] = values.pop()
    return made


def with_deviations(net: Layer, values: Mapping[str, Any]) -> Layer:
    """The net with other deviations, by name or path; a name sets all that bear it."""
    given = {path: value for name, value in values.items() for path in paths_of(net, name)}
    return changed(net, lambda path, old: given.get(path, old))


def changed(net: Layer, of: Callable[[str, float], Any], path: str = "") -> Layer:
    """The net with every deviation replaced by ``of(path, deviation)``."""
    made = {}
    for name, value in _arguments(net):
        if isinstance(value, Layer):
            new: Any = changed(value, of, _join(path, name))
        elif _is_nest(value):
            new = tuple(changed(v, of, _join(path, f"{name}[{i}]")) for i, v in enumerate(value))
        elif _is_deviation(name, value):
            new = of(_join(path, name), value)
        else:
            continue
        if new is not value:
            made[name] = new
    return replace(net, **made) if made else net  # type: ignore[type-var]


def _walk(net: Layer, path: str) -> Iterator[tuple[str, float]]:
    for name, value in _arguments(net):
        if isinstance(value, Layer):
            yield from _walk(value, _join(path, name))
        elif _is_nest(value):
            for index, entry in enumerate(value):
                yield from _walk(entry, _join(path, f"{name}[{index}]"))
        elif _is_deviation(name, value):
            yield _join(path, name), value


def _arguments(net: Layer) -> list[tuple[str, Any]]:
    return [(f.name, getattr(net, f.name)) for f in fields(net) if f.init]  # type: ignore[arg-type]


def _is_nest(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, Layer) for v in value)


def _is_deviation(name: str, value: Any) -> bool:
    return name.endswith("_std") and isinstance(value, float)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
