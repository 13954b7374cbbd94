"""What a kernel matrix demands of a program: pair nodes for each entry of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import InputError, ProgramError
from tpnum.evaluate import waves
from tpnum.evaluate.blocks import shape
from tpnum.evaluate.data import bind
from tpnum.evaluate.joint import BUDGET
from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.steps import check
from tpnum.law import graph
from tpnum.law.carried import States, Unfolded
from tpnum.law.lines import Lines
from tpnum.law.pairs import Pairs
from tpnum.law.price import PAIRS, Purse
from tpnum.program.expand import maps_below_functions
from tpnum.program.fold import folded
from tpnum.program.lines import Delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.general import PairValues
    from tpnum.evaluate.joint import Account
    from tpnum.program import Program

Diagonal = tuple[float, graph.Profile, tuple[int | None, ...]]
Diagonals = dict[str, tuple[Diagonal, ...]]
"""Per kind the weighted sum of profiles that the diagonal is, each with its place where an axis was split."""


@dataclass(frozen=True)
class Entry:
    """weight * node at an index of the output axes of the rows and of the columns, None along whole axes."""

    weight: float
    node: graph.Pair
    rows: tuple[int | None, ...]
    cols: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """The demanded nodes per kind, over the pair rules that made them.

    ``written`` are the programs as they were given.  ``diagonals`` are, for rows and columns, the outputs'
    own kernels at one input, with their weights.  ``axes`` are the output axes of the rows and of the
    columns.  ``mirrored`` is False where K[i, j] and K[j, i] differ: a fixed quadrature rule treats its two
    inputs differently.
    """

    pairs: Pairs
    written: tuple[Program, Program]
    entries: dict[str, tuple[Entry, ...]]
    diagonals: tuple[Diagonals, Diagonals]
    axes: tuple[tuple[int, ...], tuple[int, ...]]
    mirrored: bool
    budget: int = BUDGET

    @property
    def programs(self) -> tuple[Program, Program]:
        """The programs of the rows and of the columns, their scans folded or unrolled."""
        return self.pairs.lines[0].program, self.pairs.lines[1].program

    @cached_property
    def unrolled(self) -> Plan:
        """The plan without carried states, a node for every step or pair of steps."""
        if not any(isinstance(line, Delay) for line in self.programs[0].lines):
            return self
        return _plan(self.written, _unrolled(self.written), tuple(self.entries), self.budget)

    @cached_property
    def general(self) -> Plan:
        """The plan that the general path evaluates: this one, unless steps of it are not followed there."""
        try:
            waves.check([entry.node for entries in self.entries.values() for entry in entries])
        except Unfolded:
            return self.unrolled
        return self

    def again(self, profiles: tuple[ProfileValues, ProfileValues]) -> tuple[ProfileValues, ProfileValues]:
        """The profile passes over the same data for the `general` plan."""
        if self.general is self:
            return profiles
        first, second = profiles
        other = None if first is second else second.data
        return self.general.profiles(first.data, other, first.account)

    @cached_property
    def has_axes(self) -> bool:
        """Whether any node that is demanded is a family over index axes."""
        nodes = graph.schedule([entry.node for entries in self.entries.values() for entry in entries])
        return any(node.tied or node.rows or node.cols for node in nodes)

    def profiles(
        self,
        x1: dict[str, np.ndarray],
        x2: dict[str, np.ndarray] | None,
        account: Account | None = None,
        variances: Callable[[ProfileValues, graph.Carried1 | graph.Reduced], np.ndarray] | None = None,
    ) -> tuple[ProfileValues, ProfileValues]:
        """The profile passes of data (N, *axes, channels), by data line of the original program."""
        first = ProfileValues(self.pairs, 0, bind(self.programs[0], x1), account, variances)
        if x2 is None:
            return first, first
        return first, ProfileValues(self.pairs, 1, bind(self.programs[1], x2), first.account, variances)

    def tile(self, values: PairValues) -> dict[str, np.ndarray]:
        """Every demanded kind on one tile by the general path: (n1, n2, *row axes, *column axes)."""
        values.run([entry.node for entries in self.entries.values() for entry in entries])
        return self.blocks(values)

    def blocks(self, values: PairValues) -> dict[str, np.ndarray]:
        """The demanded kinds from the nodes of a tile that is computed."""
        made = {}
        for kind, entries in self.entries.items():
            full = np.zeros((*values.counts, *self.axes[0], *self.axes[1]))
            for entry in entries:
                block = np.broadcast_to(values(entry.node).k, shape(entry.node, *values.counts))
                moved = np.moveaxis(block, 1 + len(entry.node.rows), 1)
                at = (None, None, *entry.rows, *entry.cols)
                full[tuple(slice(None) if i is None else i for i in at)] += entry.weight * moved
            made[kind] = full
        return made


def make_plan(programs: tuple[Program, Program], kinds: tuple[str, ...], budget: int = BUDGET) -> Plan:
    """The plan of a program at two input shapes (twice the same program where they agree).

    One whose joint expectations, of ``budget`` evaluations at most, cost too much is refused (`TooWide`).
    Scans are folded where their law reads no other steps than the ones just before, else unrolled.
    """
    first, second = programs
    rows = folded(first)
    cols = rows if second is first else folded(second)
    if rows is not None and cols is not None:
        try:
            plan = _plan(programs, (rows, cols), kinds, budget)
            for site in plan.pairs.sites:
                check(site, [entry.node for entries in plan.entries.values() for entry in entries])
            return plan
        except Unfolded:
            pass
    return _plan(programs, _unrolled(programs), kinds, budget)


def _unrolled(programs: tuple[Program, Program]) -> tuple[Program, Program]:
    first, second = programs
    made = _plain(first)
    return made, made if second is first else _plain(second)


def _plain(program: Program) -> Program:
    plain = program.unrolled()
    return plain.expand() if maps_below_functions(plain) else plain


def _plan(
    written: tuple[Program, Program], programs: tuple[Program, Program], kinds: tuple[str, ...], budget: int
) -> Plan:
    """The plan of programs without scans; asked again until its states are known."""
    first, second = programs
    forms = [outputs_prepared(p, "ntk" in kinds) for p in ((first,) if second is first else programs)]
    bits: dict[str, int] = {}
    lines = [Lines(p, bits=bits) for p in forms]
    states = States()
    purse = Purse(len(first.lines), max(budget, BUDGET), PAIRS)  # fewer points would not be worth more
    while True:
        states = States(states)
        pairs = Pairs(lines[0], lines[-1], states)
        for site in pairs.sites:
            site.purse = purse
        plan = _demand(written, pairs, kinds)
        if states.close():
            return replace(plan, budget=budget)


def _demand(written: tuple[Program, Program], pairs: Pairs, kinds: tuple[str, ...]) -> Plan:
    rows, cols = pairs.lines[0].program, pairs.lines[1].program
    entries: dict[str, tuple[Entry, ...]] = {}
    for kind in kinds:
        found = []
        for (w, a), at in zip(rows.outputs, rows.output_places, strict=True):
            for (v, b), other in zip(cols.outputs, cols.output_places, strict=True):
                if at.family != other.family or w != v:  # channel blocks pair with themselves only
                    continue
                node = _node(kind, pairs, a, b)
                if node is not None:
                    found.append(Entry(w, node, at.position, other.position))
        entries[kind] = tuple(found)
    diagonals = tuple({kind: _diagonal(kind, pairs, side) for kind in kinds} for side in (0, 1))
    nodes = graph.schedule([entry.node for found in entries.values() for entry in found])
    fixed = any(isinstance(n, graph.Dual) and n.call.f.name == "elementwise_numerical" for n in nodes)
    axes = output_axes(rows), output_axes(cols)
    return Plan(pairs, written, entries, (diagonals[0], diagonals[1]), axes, mirrored=not fixed)


def outputs_prepared(program: Program, tangent: bool) -> Program:
    """A program without scans, followed by its tangents where they are wanted; it must declare outputs."""
    if not program.outputs:
        raise ProgramError(
            "the program declares no output: call p.output(v) with the vector whose kernel is meant"
        )
    return program.tangent() if tangent else program


def _node(kind: str, pairs: Pairs, a: str, b: str) -> graph.Pair | None:
    if kind == "nngp":
        return pairs.second(a, b)
    tangents = [lines.program.tangents for lines in pairs.lines]
    if a not in tangents[0] or b not in tangents[1]:
        return None
    return pairs.second(tangents[0][a], tangents[1][b])


def _diagonal(kind: str, pairs: Pairs, side: int) -> tuple[Diagonal, ...]:
    found = []
    program = pairs.lines[side].program
    for (weight, name), place in zip(program.outputs, program.output_places, strict=True):
        own = name if kind == "nngp" else program.tangents.get(name)
        node = pairs.sites[side].second(own, own) if own else None
        if node is not None:
            found.append((weight, node, place.position))
    return tuple(found)


def output_axes(program: Program) -> tuple[int, ...]:
    """The sizes of the axes that the outputs were declared with."""
    made: dict[str, tuple[int, ...]] = {}
    for (_, name), place in zip(program.outputs, program.output_places, strict=True):
        kept = iter(program.vars[name].axes)
        made[place.family] = tuple(next(kept)[1] if i is None else i + 1 for i in place.position)  # C order
    if len({*made.values()}) != 1:
        raise InputError("net: its outputs have different index axes; give each its own kernel call")
    return next(iter(made.values()))
