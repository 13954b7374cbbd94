"""What a law says of itself: which road each line took and why, and what assuming independence costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from tpnum.law import graph
from tpnum.law.sources import sources
from tpnum.law.worklist import postorder
from tpnum.program.lines import MatMul, Moment

if TYPE_CHECKING:
    from tpnum.law.independence import Verdict
    from tpnum.limits.law import Law
    from tpnum.limits.reading import Recursion
    from tpnum.program import Program

INTEGRALS = ("no integral", "one-dimensional integrals", "two-dimensional expectations")


RUN = 4
"""Neighbours that are found alike and told one by one."""


@dataclass(frozen=True)
class Choice:
    """How the expectation that a line stands for is found."""

    line: str
    name: str
    how: str

    def __str__(self) -> str:
        return f"{self.line:>4}  {self.name}: {self.how}"


def told(found: Sequence[Choice]) -> list[str]:
    """Choices as text, one a line but for runs of more than `RUN` that are alike, as training has them."""
    lines: list[str] = []
    for _, alike in groupby(found, key=lambda choice: choice.how):
        run = list(alike)
        first, last = run[0], run[-1]
        if len(run) > RUN:
            run = [Choice(f"{first.line}-{last.line}", f"{first.name} .. {last.name}", first.how)]
        lines += map(str, run)
    return lines


def choices(recursion: Recursion) -> tuple[Choice, ...]:
    """One choice for each product and each Moment of the program that a recursion reads."""
    found = []
    site = recursion.site
    site.lines.refresh()  # lines that nobody has asked about yet
    for number, line in enumerate(recursion.program.lines, 1):
        if isinstance(line, MatMul):
            node = site.second(line.vector, line.vector)
        elif isinstance(line, Moment):
            node = site.scalar(line.name)
        else:
            continue
        found.append(Choice(str(number), line.name, _how(node)))
    return tuple(found)


def sampled(program: Program, how: Mapping[str, str]) -> tuple[Choice, ...]:
    """The choices of an ensemble of an expanded program."""
    numbered = enumerate(program.lines, 1)
    return tuple(
        Choice(str(number), line.name, how[line.name])
        for number, line in numbered
        if isinstance(line, MatMul | Moment) and line.name in how
    )


def _how(node: graph.Profile | None) -> str:
    if node is None:
        return "zero, from the program's text"
    width = max((_width(n) for n in postorder([node], _parts, id, ())), default=0)
    if width < len(INTEGRALS):
        return INTEGRALS[width]
    rule = "quadrature" if width <= 3 else "quasi-Monte Carlo"
    return f"{rule} over {width} correlated Gaussians"


def _width(node: graph.Profile) -> int:
    match node:
        case graph.Expect1():
            return 1
        case graph.Expect2() | graph.Reduced():
            return 2
        case graph.ExpectN():
            return len(node.names)
    return 0


def _parts(node: graph.Profile) -> list[graph.Profile]:
    """What a sum or an average is made of."""
    return sources(node) if isinstance(node, (graph.Polynomial, graph.Mapped1)) else []


@dataclass(frozen=True)
class Compared:
    """The second moment of a vector if transposes were independent, and the true one."""

    name: str
    assumed: float
    exact: float
    error: float

    def __str__(self) -> str:
        return f"{self.name:>12}  {self.assumed:>14.8g}  {self.exact:>14.8g}  +- {self.error:.1e}"


class IndependenceReport:
    """The gradient independence check of a program: the verdict, and what the assumption would change.

    ``verdict`` (`tpnum.law.independence.Verdict`) comes from the text; `compare` holds the law under the
    assumption against the true one.
    """

    def __init__(self, verdict: Verdict, law: Callable[[str], Law]) -> None:
        self.verdict = verdict
        self._law = law

    @property
    def holds(self) -> bool:
        """Whether transposes may be treated as independent matrices, as proven from the text."""
        return self.verdict.holds

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        return str(self.verdict)

    def __repr__(self) -> str:
        return f"<IndependenceReport: {'holds' if self.holds else 'does not hold'}>"

    def compare(self, *names: str) -> tuple[Compared, ...]:
        """Second moments under both laws, of the named vectors or of every product's result."""
        assumed, exact = self._law("assume"), self._law("exact")
        if not names:
            names = tuple(line.name for line in exact.program.unrolled().lines if isinstance(line, MatMul))
        rows = []
        for name in names:
            a, b = assumed.moment(name, name), exact.moment(name, name)
            rows.append(Compared(name, _trace(a.value), _trace(b.value), _trace(a.error) + _trace(b.error)))
        return tuple(rows)

    def table(self, *names: str) -> str:
        """`compare` as text."""
        head = f"{'vector':>12}  {'assumed E Z^2':>14}  {'true E Z^2':>14}"
        return "\n".join([str(self), head, *map(str, self.compare(*names))])


def _trace(value: object) -> float:
    """A number, or the sum of the diagonal entries E Z_i Z_i of a family."""
    made = np.asarray(value, dtype=np.float64)
    if made.ndim == 0:
        return float(made)
    count = int(np.sqrt(made.size))
    return float(np.trace(made.reshape(count, count))) if count * count == made.size else float(made.sum())
