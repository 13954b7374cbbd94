"""The tangent program: a program differentiated in a random direction of its parameters.

For every trained matrix W a fresh independent direction ``W.``, for every trained input b a fresh copy
``b.`` of its law, and for every line its tangent line:

    g = W h:       g. = W h. + W. h
    h = phi(g..):  h. = sum_i (d_i phi)(g..) g_i.
    LinComb, Map:  the same;   Moment and arithmetic on scalars: zero;   data, known scalars: zero

The covariance of the tangents is the NTK.  A vector whose tangent is zero has no tangent line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tpnum import functions
from tpnum.errors import ProgramError
from tpnum.program.along import ALONG
from tpnum.program.check import quoted
from tpnum.program.lines import (
    Along,
    Attend,
    Axes,
    Delay,
    Input,
    LinComb,
    Line,
    Map,
    MatMul,
    Matrix,
    Nonlin,
    Term,
    Transpose,
)
from tpnum.program.text import used_by

if TYPE_CHECKING:
    from tpnum.program.builder import Program


def tangent(program: Program) -> Program:
    """The unrolled program followed line by line by its tangent lines; ``tangents`` maps the names."""
    plain = program.unrolled()
    writer = _Writer(plain)
    for line in plain.lines:
        writer.new.append(line)
        writer.differentiate(line)
    writer.new._outputs_of(plain)
    writer.new.tangents = writer.tangents
    writer.new.parts = dict(plain.parts)
    return writer.new


class _Writer:
    def __init__(self, plain: Program) -> None:
        self.new = type(plain)()
        for dim, ratio in plain.dims.items():
            self.new.dim(dim, ratio)
        self.taken = set(plain.vars)
        self.vars = plain.vars
        self.tangents: dict[str, str] = {}
        self.promised: dict[str, str] = {}  # names of tangents whose lines come later
        self.moving = _moving(plain) if any(isinstance(line, Delay) for line in plain.lines) else set()

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "."
        self.taken.add(name)
        return name

    def differentiate(self, line: Line) -> None:
        """Append the tangent lines of ``line``, if its tangent is not zero."""
        match line:
            case Input():
                self.input(line)
            case Matrix():
                if line.tangent > 0:
                    name = self.name(line.name)
                    self.new.append(Matrix(name, line.rows, line.cols, line.tangent, 0.0, line.axes))
            case Transpose():
                if line.matrix in self.tangents:
                    self.new.append(Transpose(self.name(line.name), self.tangents[line.matrix]))
            case MatMul():
                parts: list[Line] = []
                if line.vector in self.tangents:
                    parts.append(MatMul("", line.matrix, self.tangents[line.vector]))
                if line.matrix in self.tangents:
                    parts.append(MatMul("", self.tangents[line.matrix], line.vector))
                self.total(line.name, parts)
            case LinComb():
                live = [t for t in line.terms if t.vector in self.tangents]
                self.sum(line.name, [Term(t.coef, self.tangents[t.vector], t.scalar) for t in live])
            case Nonlin():
                self.nonlin(line)
            case Attend():
                self.attend(line)
            case Along():
                self.along(line)
            case Delay():
                self.delay(line)
            case Map():
                if line.operand in self.tangents:
                    self.new.append(
                        Map(
                            self.name(line.name), self.tangents[line.operand], line.axis, line.out, line.index
                        )
                    )

    def along(self, line: Along) -> None:
        if not any(arg in self.tangents for arg in line.args):
            return
        slope = ALONG[line.kind].slope
        if not slope:
            label = next(str(k) for k, o in enumerate(self.new.lines, 1) if o is line)
            raise quoted("no tangent: a derivative along axes has none here", line, label, self.vars)
        (arg,) = line.args
        self.new.append(Along(self.name(line.name), slope, (arg, self.tangents[arg]), line.over, line.eps))

    def name(self, of: str) -> str:
        """The name of a tangent, recorded."""
        made = self.promised.pop(of, "") or self.fresh(f"{of}.")
        self.tangents[of] = made
        return made

    def delay(self, line: Delay) -> None:
        """The tangent of a state is the delay of another tangent, which most often a later line makes."""
        if line.family in self.moving:
            known = self.tangents if line.family in self.tangents else self.promised
            if line.family not in known:
                known[line.family] = self.fresh(f"{line.family}.")
            tangent = known[line.family]
            self.new.append(Delay(self.name(line.name), tangent, line.axis, line.dim, line.axes))

    def input(self, line: Input) -> None:
        refuse_constants(line)
        live = [i for i in range(len(line.names)) if line.tangent * line.cov[i][i] > 0]
        if not live:
            return
        cov = tuple(tuple(line.tangent * line.cov[i][j] for j in live) for i in live)
        names = tuple(self.name(line.names[i]) for i in live)
        self.new.append(Input(names, line.dim, (0.0,) * len(live), cov, line.axes, line.fresh))

    def nonlin(self, line: Nonlin) -> None:
        live = [i for i, a in enumerate(line.args) if a in self.tangents]
        fn = line.fn
        if not live or fn.flat:
            return
        tangents = {i: self.tangents[line.args[i]] for i in live}
        if fn.coefficients is not None:
            self.sum(line.name, [Term(fn.coefficients[i], t) for i, t in tangents.items()])
            return
        mul = functions.get("mul")
        parts: list[Line] = []
        for i, t in tangents.items():
            if fn.product:
                parts.append(Nonlin("", mul, (line.args[1 - i], t)))
                continue
            try:
                slope = fn.derivative(i)
            except ProgramError as error:
                label = next(str(k) for k, o in enumerate(self.new.lines, 1) if o is line)
                raise quoted(f"no tangent: {error}", line, label, self.vars) from None
            made = self.fresh(f"{line.name}.d{i + 1}")
            self.new.append(Nonlin(made, slope, line.args, line.scalars))
            parts.append(Nonlin("", mul, (made, t)))
        self.total(line.name, parts)

    def attend(self, line: Attend) -> None:
        """The weights times the tangent of the vector, and the derivative of the weights times the vector."""
        if line.along:
            raise ProgramError(f"{line.name!r} is a derivative of attention, of which there is none here")
        parts: list[Line] = []
        if line.vector in self.tangents:
            vector = self.tangents[line.vector]
            parts.append(Attend("", line.logits, vector, line.over, line.weights))
        if line.logits in self.tangents:
            along = self.tangents[line.logits]
            parts.append(Attend("", line.logits, line.vector, line.over, line.weights, along))
        self.total(line.name, parts)

    def total(self, of: str, parts: Sequence[Line]) -> None:
        """Append ``parts`` (lines without names) and their sum, the tangent of ``of``."""
        if len(parts) == 1 and self.axes(parts[0]) == self.vars[of].axes:
            self.new.append(_named(parts[0], self.name(of)))
            return
        terms = []
        for k, line in enumerate(parts, 1):
            made = self.fresh(f"{of}.{k}")
            self.new.append(_named(line, made))
            terms.append(Term(1.0, made))
        self.sum(of, terms)

    def sum(self, of: str, terms: list[Term]) -> None:
        if not terms:
            return
        var = self.vars[of]
        names = (n for t in terms for n in (t.vector, t.scalar) if n)
        seen = dict.fromkeys(a for n in names for a in self.new._var(n).axes)
        if tuple(seen) != var.axes:
            # the same axes in the same order as the vector itself, though the rest of it has no tangent
            terms = [Term(1.0, self.new.zeros(var.dim, var.axes).name), *terms]
        self.new.append(LinComb(self.name(of), tuple(terms)))

    def axes(self, line: Line) -> Axes:
        """The axes of a product that is not appended yet."""
        match line:
            case MatMul():
                return self.new._var(line.vector).axes
            case Nonlin():
                return tuple(dict.fromkeys(a for n in line.args for a in self.new._var(n).axes))
            case Attend():
                found = dict.fromkeys(a for n in used_by(line) for a in self.new._var(n).axes)
                return tuple(a for a in found if a[0] not in line.over)
        return ()


def _moving(program: Program) -> set[str]:
    """The matrices and vectors whose tangents are not zero, those behind delays included."""
    found: set[str] = set()
    size = -1
    while len(found) > size:
        size = len(found)
        for line in program.lines:
            match line:
                case Input():
                    found |= {n for k, n in enumerate(line.names) if line.tangent * line.cov[k][k] > 0}
                case Matrix():
                    found |= {line.name} if line.tangent > 0 else set()
                case Nonlin():
                    found |= {line.name} if found & {*line.args} and not line.fn.flat else set()
                case Transpose() | MatMul() | LinComb() | Map() | Delay() | Attend() | Along():
                    found |= {line.name} if found & {*used_by(line)} else set()
    return found


def refuse_constants(line: Input) -> None:
    """A trained input that starts at a constant has no direction of its own."""
    for k, name in enumerate(line.names):
        if line.tangent > 0 and line.cov[k][k] == 0:
            raise ProgramError(
                f"{name!r} is trained but starts at a constant: its direction, a copy of its law, is zero; "
                "write it as a trained matrix times p.ones, p.matrix(name, var=0.0, tangent=1.0) @ p.ones()"
            )


def _named(line: Line, name: str) -> Line:
    match line:
        case MatMul():
            return MatMul(name, line.matrix, line.vector)
        case Nonlin():
            return Nonlin(name, line.fn, line.args, line.scalars)
        case Attend():
            return replace(line, name=name)
    return line
