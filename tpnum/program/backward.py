"""The gradient program: reverse-mode differentiation of a program as a program.

`backward` appends, for the loss L = sum over seeds of sum_a v_a g_a, the lines of every gradient
xbar_a = dL/dx_a, from the last line of the program to the first,
one rule per instruction (`tpnum.program.gradient`), a scan by a scan (`tpnum.program.backward_scan`).
Gradients of scalars are normalised, sbar = (1/n) dL/ds with n the width of a CDC of ratio 1, so that all
lines are of order one.  Vectors that lie along more index axes than an operand are summed over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.errors import ProgramError
from tpnum.program.backward_scan import quoting, reverse_scan
from tpnum.program.gradient import Rules
from tpnum.program.handle import Handle, is_number
from tpnum.program.lines import Data, Input, Known, Line, Matrix, Scan, Transpose
from tpnum.program.text import made_by, used_by
from tpnum.program.values import MatrixVar, Scalar, Vector

if TYPE_CHECKING:
    from tpnum.program.builder import Program


@dataclass(frozen=True)
class Outer:
    """The gradient of a matrix: the sum of left right^T over ``pairs``, and over the pairs' index axes.

    Left vectors are of the CDC of the matrix's rows, right ones of its columns.
    """

    pairs: tuple[tuple[Vector, Vector], ...]


class Gradients(Mapping[Any, Any]):
    """Gradients by variable (a handle or a name): a vector, a normalised scalar, an `Outer` for a matrix.

    A variable on which the loss does not depend is not among them.
    """

    def __init__(self, program: Program, found: dict[str, Any]) -> None:
        self.program, self._found = program, found

    def __getitem__(self, which: Any) -> Any:
        name = which if isinstance(which, str) else which.name
        if name not in self._found:
            raise ProgramError(
                f"there is no gradient of {name!r}: no seed depends on it, or wrt=, stop= leave it out"
            )
        return self._found[name]

    def __repr__(self) -> str:
        return f"<Gradients of {', '.join(self._found)}>"

    def __contains__(self, which: object) -> bool:
        return (which.name if isinstance(which, Handle) else which) in self._found

    def __iter__(self) -> Any:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def backward(
    program: Program, seeds: Mapping[Any, Any], wrt: Iterable[Any] | None = None, stop: Iterable[Any] = ()
) -> Gradients:
    """Append the gradient program; see `Program.backward`."""
    return Reverse(program, seeds, wrt, stop).run()


class Reverse(Rules):
    """From the seeds through the lines of a program, the last one first."""

    def __init__(
        self, program: Program, seeds: Mapping[Any, Any], wrt: Iterable[Any] | None, stop: Iterable[Any]
    ) -> None:
        super().__init__(program, set(), {})
        self.found: dict[str, Any] = {}
        self.seed(seeds)
        self.lines = program.lines
        self.root = {line.name: line.matrix for line in self.lines if isinstance(line, Transpose)}
        self.stop = {self.name(v) for v in stop}
        self.wrt = None if wrt is None else {self.name(v) for v in wrt}
        for line in self.lines:
            self.reach(line)

    def name(self, which: Any) -> str:
        if not isinstance(which, str):
            self.program._own(which)
            which = which.name
        self.program._var(which)
        return self.root.get(which, which)

    # --- what is asked for

    def seed(self, seeds: Mapping[Any, Any]) -> None:
        p = self.program
        if not seeds:
            raise ProgramError("backward needs a seed: p.backward({g: v}) for the loss sum_a v_a g_a")
        for of, value in seeds.items():
            p._own(of)
            if isinstance(of, MatrixVar):
                raise ProgramError(f"{of.name!r} is a matrix: seeds belong to vectors and scalars")
            if is_number(value):
                value = (
                    p.constant(float(value), self.dim())
                    if isinstance(of, Scalar)
                    else float(value) * p.ones(of.dim)
                )
            p._own(value)
            if isinstance(value, Scalar) != isinstance(of, Scalar):
                raise ProgramError(
                    f"the seed of {of.name!r} must be a {'scalar' if isinstance(of, Scalar) else 'vector'}"
                )
            if value.var.dim != of.var.dim:
                raise ProgramError(
                    f"CDCs do not match: {of.name!r} is in {of.var.dim!r}, "
                    f"its seed {value.name!r} in {value.var.dim!r}"
                )
            extra = [a for a in value.axes if a not in of.axes]
            if extra:
                raise ProgramError(
                    f"the seed {value.name!r} has the axis {extra[0][0]!r}, which {of.name!r} lacks"
                )
            factor = value
            if isinstance(of, Scalar) and of.coef != 1.0:
                factor = of.coef * value
            self.add(of.base if isinstance(of, Scalar) else of.name, factor)

    def reach(self, line: Line) -> None:
        """Note which variables of a line gradients flow through: those made of what is asked for."""
        if isinstance(line, Scan):
            self._reach_scan(line)
            return
        if isinstance(line, (Data, Known)):
            return
        for name in made_by(line):
            asked = self.asked(line, name) or any(self.root.get(n, n) in self.live for n in used_by(line))
            if asked and name not in self.stop:
                self.live.add(name)

    def _reach_scan(self, line: Scan) -> None:
        found = -1
        while len(self.live) > found:  # what a state is at the next step may come from what follows it
            found = len(self.live)
            passed = [(inner, outer) for inner, outer in line.inputs]
            passed += [(c.name, n) for c in line.carries for n in (c.init, c.next)]
            self.live |= {inner for inner, of in passed if of in self.live and inner not in self.stop}
            for inside in line.body:
                self.reach(inside)
            self.live |= {outer for outer, n in line.outputs if n in self.live and outer not in self.stop}

    def asked(self, line: Line, name: str) -> bool:
        """Whether one differentiates by a variable: all random inputs and trained matrices by default."""
        return self._varies(line, name) if self.wrt is None else name in self.wrt

    @staticmethod
    def _varies(line: Line, name: str) -> bool:
        """Whether a line brings something in to differentiate by: a random input, a trained matrix."""
        if isinstance(line, Input):
            k = line.names.index(name)
            return line.cov[k][k] > 0
        return isinstance(line, Matrix) and line.tangent > 0

    # --- one line after another, backwards

    def run(self) -> Gradients:
        for number in range(len(self.lines), 0, -1):
            line = self.lines[number - 1]
            totals = {n: self.total(n) for n in made_by(line) if n in self.adjoints and n in self.live}
            self.found.update(totals)
            if isinstance(line, Scan) and totals:
                self.found.update(reverse_scan(self, line, str(number), totals))
            elif not isinstance(line, Scan):
                for total in totals.values():
                    with quoting(self.program, line, str(number)):
                        self.line(line, total)
        for matrix, pairs in self.outer.items():
            self.found[matrix] = Outer(tuple(pairs))
        return Gradients(self.program, self.found)
