"""What the lines of programs say before anything is drawn: what is independent, and what is never drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from tpnum.ensemble.expansion import SEVERAL
from tpnum.ensemble.normals import Group
from tpnum.law.price import smooth
from tpnum.program.lines import Along, Attend, Input, LinComb, Map, MatMul, Matrix, Moment, Nonlin
from tpnum.program.text import made_by, used_by

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line

SQUARES = ("square", "mul")
"""Functions whose means are second moments."""

Leaves: TypeAlias = dict[str, str]
"""The components that a vector is made of, and the one G-var of each, "" where there are several."""


class Text:
    """The lines of programs that share matrices.

    ``odd`` are the tangents: linear in the directions of the parameters, which nothing else depends on.  Of
    G-vars `component` names those that they may be correlated with.  ``linear`` are the components of which
    everything is a sum of products with one smooth function that has one of their G-vars at most: second
    moments need nothing of them but the dual activations of these functions (``factored``: False for none).
    Components that functions have in common are a `group`.
    """

    def __init__(self, programs: Iterable[Program], factored: bool = True) -> None:
        self.programs = tuple(programs)
        self.odd: set[str] = set()
        self.uses: dict[tuple[str, bool], int] = {}
        self._above: dict[str, str] = {}
        self._root: dict[str, str] = {}
        self._constant: set[str] = set()
        for program in self.programs:
            self._read(program)
        self._groups: dict[str, str] = {}
        self.linear = self._found_linear() if factored else set()

    def _read(self, program: Program) -> None:
        kinds = program.vars
        directions = {made for name, made in program.tangents.items() if kinds[name].kind in "AG"}
        for line in program.lines:
            names = made_by(line)
            used = used_by(line)
            ways = isinstance(line, Matrix | Input) and directions.intersection(names)
            if ways or self.odd.intersection(used):
                self.odd.update(names)
            if isinstance(line, MatMul):
                key = self.channel(line)
                self.uses[key] = self.uses.get(key, 0) + 1
                self._root[line.name] = f"{key[0]}{'.' * key[1]}"
            elif isinstance(line, Input):
                self._root |= dict.fromkeys(names, line.names[0])
                if not any(map(any, line.cov)):
                    self._constant.update(names)
            elif kinds[names[0]].kind == "G":
                below = [name for name in used if kinds[name].kind == "G" and name not in self._constant]
                if not below:
                    self._constant.update(names)
                self._root[names[0]] = self._root[below[0]] if below else names[0]
                for other in below[1:]:
                    top = _top(self._above, self._root[below[0]])
                    self._above[_top(self._above, self._root[other])] = top

    def channel(self, line: MatMul) -> tuple[str, bool]:
        """The matrix of a product, and whether it is one of tangents, which is independent of all others."""
        return line.matrix, line.vector in self.odd

    def component(self, name: str) -> str:
        """The component of a G-var."""
        return _top(self._above, self._root[name])

    @property
    def steps(self) -> int:
        """The most products with one matrix."""
        return max(self.uses.values(), default=0)

    def group(self, component: str, odd: bool) -> Group:
        """The components of the group of one."""
        if odd:
            return Group((component,), True)
        return Group(tuple(sorted(self._together(component))))

    def _together(self, component: str) -> set[str]:
        top = _top(self._groups, component)
        return {component, *(key for key in self._groups if _top(self._groups, key) == top), top}

    def _found_linear(self) -> set[str]:
        """All components but those of which some line is not linear, until there are no more of these."""
        drawn: set[str] = set()
        before = -1
        while before < len(drawn):
            before = len(drawn)
            self._groups = {}
            for program in self.programs:
                leaves: dict[str, Leaves] = {}
                for line in program.lines:
                    found = self._leaves(line, program, leaves, drawn)
                    for name in made_by(line):
                        leaves[name] = found
            for component in list(self._groups):
                together = self._together(component)
                if len(together) > SEVERAL or together & drawn:
                    drawn |= together
        roots = {_top(self._above, root) for name, root in self._root.items() if name not in self.odd}
        return roots - drawn

    def _leaves(self, line: Line, program: Program, known: dict[str, Leaves], drawn: set[str]) -> Leaves:
        """What a vector is made of; components that it is not linear in are added to ``drawn``."""
        (name, *_) = made_by(line)
        kinds = program.vars
        if kinds[name].kind == "G":
            return {} if name in self.odd or name in self._constant else {self.component(name): name}
        own = _merged(known.get(used, {}) for used in used_by(line))
        match line:
            case LinComb():
                return own
            case Map():
                return {key: leaf and f"{leaf} along {name}" for key, leaf in own.items()}
            case Nonlin() if line.fn.product:
                first, second = (known.get(arg, {}) for arg in line.args)
                drawn.update(key for key in first.keys() & second.keys() if not own[key])
                return own
            case Nonlin() if not line.scalars and smooth(line.fn) and self._one(own, drawn):
                self._join(own)
                return own
            case Moment() if line.fn.name in SQUARES and all(kinds[arg].kind == "G" for arg in line.args):
                return {}
            case Nonlin() | Moment() | Along() | Attend():
                drawn.update(own)
                return own
        return {}

    @staticmethod
    def _one(leaves: Leaves, drawn: set[str]) -> bool:
        """Whether a function can stay a factor: of a few G-vars that are not drawn, of a component each."""
        return len(leaves) <= SEVERAL and all(leaves.values()) and not drawn & leaves.keys()

    def _join(self, components: Iterable[str]) -> None:
        """Make components one group."""
        first, *others = components or [""]
        for other in others:
            a, b = _top(self._groups, first), _top(self._groups, other)
            if a != b:
                self._groups[b] = a


def _top(above: dict[str, str], key: str) -> str:
    while above.get(key, key) != key:
        key = above[key]
    return key


def _merged(every: Iterable[Leaves]) -> Leaves:
    """What all of them are made of together."""
    made: Leaves = {}
    for one in every:
        for key, leaf in one.items():
            made[key] = leaf if made.get(key, leaf) == leaf else ""
    return made
