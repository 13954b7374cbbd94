"""A program by the names that its lines make, and which of its vectors are independent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.errors import LimitError
from tpnum.law.forms import Forms
from tpnum.program.lines import Data, Delay, Input, Known, LinComb, MatMul, Matrix, Scan, Transpose
from tpnum.program.text import made_by, place, used_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tpnum.program import Program
    from tpnum.program.lines import Axes, Line, Map, Var


class Lines:
    """A program without scans and transposes, indexed by the names that its lines make.

    A program that grows is indexed further by `refresh`; what is known of the lines before stays.
    ``written`` says where a variable comes from in the program that the user wrote, for messages; ``bits``
    numbers the matrices and inputs, alike for programs that are read together.
    """

    def __init__(
        self,
        program: Program,
        written: Callable[[str], str | None] | None = None,
        bits: dict[str, int] | None = None,
    ):
        self.program = program
        self._written = written
        self._bits = {} if bits is None else bits
        self._roots: dict[str, int] = {}
        self.vars: dict[str, Var] = {}
        self.by_name: dict[str, Line] = {}
        self.number: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._seen = 0
        self.form = Forms(self.by_name, self._kinds, self.where)
        self.refresh()

    def refresh(self) -> bool:
        """Index the lines that were appended since the last time; whether there are any."""
        lines = self.program.lines
        if len(lines) == self._seen:
            return False
        self.vars = self.program.vars
        for number, line in enumerate(lines[self._seen :], self._seen + 1):
            assert not isinstance(line, Scan)
            for name in line.names if isinstance(line, Input) else (line.name,):
                self.by_name[name] = line
                self.number[name] = number
                self._kinds[name] = self.vars[name].kind
                if self._kinds[name] in "GH":
                    self._roots[name] = self._root(line)
            if isinstance(line, Transpose):
                raise LimitError(
                    f"{self.where(line.name)} transposes a matrix: kernels are for programs without; "
                    "the tangent program gives the NTK without any, and tp.limit the law of any program"
                )
        self._seen = len(lines)
        if any(isinstance(line, Delay) for line in lines):
            self._settle()
        return True

    def _settle(self) -> None:
        """The roots of states, and of what is made of them, which depend on later lines."""
        before: dict[str, int] = {}
        while before != self._roots:
            before = dict(self._roots)
            self._roots |= {name: self._root(self.by_name[name]) for name in before}

    def _root(self, line: Line) -> int:
        """The matrices and inputs that make a vector random, a set of bits: those of its last products."""
        if isinstance(line, Input) and not any(map(any, line.cov)):
            return 0  # a constant
        if isinstance(line, MatMul | Input):
            name = line.matrix if isinstance(line, MatMul) else line.names[0]
            return 1 << self._bits.setdefault(name, len(self._bits))
        made = 0
        for name in used_by(line):
            made |= self._roots.get(name, 0)  # scalars have limits that are not random
        return made

    def apart(self, a: str, b: str, other: Lines | None = None) -> bool:
        """Whether two vectors (the second of ``other``) are independent: made of other Gaussians."""
        first, second = self._roots.get(a), (other or self)._roots.get(b)
        return first is not None and second is not None and not first & second

    def where(self, name: str) -> str:
        """The line that makes a variable, as errors quote it."""
        found = self._written(name) if self._written is not None else None
        return found or place(self.number[name], name, self.program)

    def written(self, name: str) -> bool:
        """Whether the program that the user wrote has a line for a variable."""
        return self._written is None or self._written(name) is not None

    def matrix(self, name: str) -> Matrix:
        line = self.by_name[name]
        assert isinstance(line, Matrix)
        return line

    def axes(self, name: str) -> Axes:
        return self.vars[name].axes

    def bases(self, names: Iterable[str]) -> set[str]:
        """The G-vars of which others are sums."""
        seen, found = set(names), set()
        todo = list(seen)
        while todo:
            name = todo.pop()
            line = self.by_name[name]
            if isinstance(line, LinComb):
                below = {term.vector for term in line.terms} - seen
                seen |= below
                todo += below
            elif not isinstance(line, Input) or line.cov[(k := line.names.index(name))][k]:
                found.add(name)
        return found


def named(line: Map) -> tuple[str, list[str]]:
    """The axes of an index map by name: their sizes are those of its input's shape."""
    return line.axis, [name for name, _ in line.out]


def alike(rows: Lines, cols: Lines) -> set[str]:
    """The variables that two programs make of the data by the same lines."""
    found: set[str] = set()
    for line in rows.program.lines:
        for name in made_by(line):
            same = isinstance(line, Data | Known) or line == cols.by_name.get(name)
            if same and all(used in found for used in used_by(line)):
                found.add(name)
    return found
