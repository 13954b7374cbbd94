"""What the lines of programs say before anything is drawn: what is independent, and what is never drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tpnum.law.price import smooth
from tpnum.program.lines import Along, Attend, Input, LinComb, Map, MatMul, Matrix, Moment, Nonlin
from tpnum.program.text import made_by, used_by

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line

SQUARES = ("square", "mul")
"""Functions whose means are second moments."""


class Text:
    """The lines of programs that share matrices.

    ``odd`` are the tangents: linear in the directions of the parameters, which nothing else depends on.  Of
    G-vars `component` names those that they may be correlated with.  ``linear`` are the components of which
    everything is a sum of products with one smooth function of one of their G-vars: second moments need
    nothing of them but the dual activations of these functions (``factored``: False for none).
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
                    self._above[self._find(self._root[other])] = self._find(self._root[below[0]])

    def channel(self, line: MatMul) -> tuple[str, bool]:
        """The matrix of a product, and whether it is one of tangents, which is independent of all others."""
        return line.matrix, line.vector in self.odd

    def _find(self, key: str) -> str:
        while self._above.get(key, key) != key:
            key = self._above[key]
        return key

    def component(self, name: str) -> str:
        """The component of a G-var."""
        return self._find(self._root[name])

    def _found_linear(self) -> set[str]:
        """All components but those of which some line is not linear, until there are no more of these."""
        drawn: set[str] = set()
        before = -1
        while before < len(drawn):
            before = len(drawn)
            for program in self.programs:
                degrees: dict[str, set[str]] = {}
                for line in program.lines:
                    found = self._degree(line, program, degrees, drawn)
                    for name in made_by(line):
                        degrees[name] = found
        roots = {self._find(root) for name, root in self._root.items() if name not in self.odd}
        return roots - drawn

    def _degree(
        self, line: Line, program: Program, degrees: dict[str, set[str]], drawn: set[str]
    ) -> set[str]:
        """The components that a vector is linear in; those of which it is not are added to ``drawn``."""
        (name, *_) = made_by(line)
        kinds = program.vars
        if kinds[name].kind == "G":
            constant = name in self.odd or name in self._constant
            return set() if constant else {self.component(name)} - drawn
        match line:
            case LinComb() | Map():
                return set().union(*(degrees.get(used, set()) for used in used_by(line)))
            case Nonlin() if line.fn.name == "mul" and not line.fn.order and not line.scalars:
                first, second = (degrees[arg] for arg in line.args)
                drawn |= first & second
                return (first | second) - drawn
            case Nonlin() if len(line.args) == 1 and not line.scalars:
                (arg,) = line.args
                if kinds[arg].kind == "G" and smooth(line.fn):
                    return degrees[arg]
                drawn |= degrees[arg]
            case Moment() if line.fn.name in SQUARES and all(kinds[arg].kind == "G" for arg in line.args):
                pass
            case Nonlin() | Moment() | Along() | Attend():
                drawn.update(*(degrees.get(used, set()) for used in used_by(line)))
        return set()
