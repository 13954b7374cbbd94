"""Which variables a family is where some of its axes are split: the names of its members.

A member is named by its family and its index along the axes split, ``h[3]`` or ``h[1,2]``; `Parts` is what
a program with split axes remembers of every family.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.program.lines import Axes, Line, Var
from tpnum.program.text import made_by, numbered

if TYPE_CHECKING:
    from tpnum.program.builder import Program

Index: TypeAlias = dict[str, int]
Key: TypeAlias = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a split family went: ``names`` in C order over its ``split`` axes (in the order of ``axes``)."""

    axes: Axes
    split: tuple[str, ...]
    names: tuple[str, ...]

    def indices(self) -> Iterator[tuple[int, ...]]:
        """The index of each name."""
        sizes = dict(self.axes)
        return itertools.product(*(range(sizes[a]) for a in self.split))


def origins(program: Program) -> dict[str, tuple[str, Axes, Index]]:
    """For each variable made by splitting: (family, the family's axes, its index along those split)."""
    out: dict[str, tuple[str, Axes, Index]] = {}
    for family, parts in program.parts.items():
        for index, name in zip(parts.indices(), parts.names, strict=True):
            at = dict(zip(parts.split, index, strict=True))
            if name == _named(family, parts.axes, at):
                out[name] = (family, parts.axes, at)
    return out


def sources(derived: Program, program: Program) -> dict[str, tuple[str, Line]]:
    """Where ``program`` makes the variables that a program derived from it has: (label, line)."""
    made = {name: (label, line) for label, line in numbered(program.lines) for name in made_by(line)}
    families = {name: family for name, (family, _, _) in origins(derived).items()}
    found = {name: name if name in made else families.get(name, name) for name in derived.vars}
    return {name: made[family] for name, family in found.items() if family in made}


def members(expanded: Program, name: str) -> np.ndarray:
    """The names of the scalar lines of a family in an expanded program, an array over the family's axes."""
    if name not in expanded.parts:
        return np.array(name, dtype=object)
    parts = expanded.parts[name]
    return np.array(parts.names, dtype=object).reshape([size for _, size in parts.axes])


def scalar_names(name: str, axes: Axes, origin: tuple[str, Axes, Index] | None) -> list[str]:
    """The names, in C order over ``axes``, that a variable's scalar lines have after `expand`."""
    family, full, fixed = origin or (name, axes, {})
    out = []
    for place in itertools.product(*(range(n) for _, n in axes)):
        at = {**fixed, **dict(zip((a for a, _ in axes), place, strict=True))}
        out.append(_named(family, full, at) if at else family)
    return out


class Members:
    """The members of the families of ``old`` along the axes ``split``, while ``new`` is written."""

    def __init__(self, old: Program, new: Program, split: set[str]) -> None:
        self.old, self.new, self.split = old, new, split
        self.vars = old.vars
        self.origin = origins(old)
        self.table: dict[str, dict[Key, str]] = {}
        self.record: dict[str, tuple[Axes, dict[Key, str]]] = {}
        self.steps: list[tuple[str, int, int]] = []  # (axis, size, step) of the scans around

    def indices(self, axes: Axes) -> Iterator[Index]:
        """All indices along the split axes among ``axes``."""
        cut = [(a, n) for a, n in axes if a in self.split]
        for values in itertools.product(*(range(n) for _, n in cut)):
            yield dict(zip((a for a, _ in cut), values, strict=True))

    def key(self, var: Var, index: Index) -> Key:
        return frozenset((a, index[a]) for a, _ in var.axes if a in self.split)

    def at(self, name: str, index: Index) -> str:
        """The new name of ``name`` at an index."""
        return self.table[name][self.key(self.vars[name], index)]

    def rest(self, axes: Axes) -> Axes:
        return tuple(a for a in axes if a[0] not in self.split)

    def make(self, var: Var, index: Index) -> str:
        """The name of a new variable for ``var`` at an index."""
        steps = tuple((a, n) for a, n, _ in self.steps)
        full = {**{a: i for a, _, i in self.steps}, **index}
        family, axes, fixed = self.origin.get(var.name, (var.name, (*steps, *var.axes), {}))
        full = {**fixed, **full}
        return _named(family, axes, full) if full else family

    def put(self, var: Var, index: Index, name: str) -> None:
        """Record that ``var`` at ``index`` is the new variable ``name``."""
        self.table.setdefault(var.name, {})[self.key(var, index)] = name
        steps = tuple((a, n) for a, n, _ in self.steps)
        full = frozenset({*((a, i) for a, _, i in self.steps), *self.key(var, index)})
        self.record.setdefault(var.name, ((*steps, *var.axes), {}))[1][full] = name

    def parts(self) -> dict[str, Parts]:
        """What became of the old names."""
        out: dict[str, Parts] = {}
        for family, (axes, names) in self.record.items():
            split = tuple(a for a, _ in axes if a in self.split)
            if family not in self.origin and (split or names[frozenset()] != family):
                out[family] = _ordered(axes, split, names)
        for family, old in self.old.parts.items():
            found: dict[Key, str] = {}
            split = old.split
            for index, name in zip(old.indices(), old.names, strict=True):
                fixed = dict(zip(old.split, index, strict=True))
                var = self.vars[name]
                more = {a for a, _ in var.axes if a in self.split}
                split = tuple(a for a, _ in old.axes if a in old.split or a in more)
                for at in self.indices(var.axes):
                    found[frozenset({**fixed, **at}.items())] = self.at(name, at)
            out[family] = _ordered(old.axes, split, found)
        return out


def _named(family: str, axes: Axes, at: Index) -> str:
    return f"{family}[{','.join(str(at[a]) for a, _ in axes if a in at)}]"


def _ordered(axes: Axes, split: tuple[str, ...], names: dict[Key, str]) -> Parts:
    sizes = dict(axes)
    places = itertools.product(*(range(sizes[a]) for a in split))
    return Parts(axes, split, tuple(names[frozenset(zip(split, place, strict=True))] for place in places))
