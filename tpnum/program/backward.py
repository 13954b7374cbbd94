"""The gradient program: reverse-mode differentiation of a program as a program (MATH 3).

`backward` appends, for the loss L = sum over seeds of sum_a v_a g_a, the lines of every gradient
xbar_a = dL/dx_a, from the last line of the program to the first:

    g = W h:            hbar += W^T gbar;  the gradient of W gains the outer product gbar h^T
    h = phi(g..; s..):  gbar += (d_g phi) hbar;  sbar += mean((d_s phi) hbar)
    LinComb, Map:       the transposed map
    m = mean(psi(x..)): xbar += mbar (d_x psi)

Gradients of scalars are normalised, sbar = (1/n) dL/ds with n the width of a CDC of ratio 1, so that all
lines are of order one.  Vectors that lie along more index axes than an operand are summed over them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.errors import ProgramError
from tpnum.program.check import quoted
from tpnum.program.handle import Handle, is_number
from tpnum.program.lines import (
    Arith,
    Axes,
    Data,
    Input,
    LinComb,
    Line,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Scan,
    Transpose,
)
from tpnum.program.tangent import FLAT, SUMS
from tpnum.program.text import made_by, used_by
from tpnum.program.values import MatrixVar, Scalar, Vector

if TYPE_CHECKING:
    from tpnum.functions import Function
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
    return _Reverse(program, seeds, wrt, stop).run()


class _Reverse:
    def __init__(
        self, program: Program, seeds: Mapping[Any, Any], wrt: Iterable[Any] | None, stop: Iterable[Any]
    ) -> None:
        self.program = program
        self.adjoints: dict[str, list[Any]] = {}
        self.outer: dict[str, list[tuple[Vector, Vector]]] = {}
        self.slopes: dict[tuple[str, int], Any] = {}
        self.found: dict[str, Any] = {}
        self.seed(seeds)
        self.lines = program.lines
        self.number = {name: k for k, line in enumerate(self.lines, 1) for name in made_by(line)}
        if any(isinstance(line, Scan) for line in self.lines):
            raise ProgramError(
                "a program with scans is differentiated unrolled: call p.unrolled().backward(...)"
            )
        self.root = {line.name: line.matrix for line in self.lines if isinstance(line, Transpose)}
        self.stop = {self.name(v) for v in stop}
        self.live = self.reaching(None if wrt is None else {self.name(v) for v in wrt})

    def name(self, which: Any) -> str:
        if not isinstance(which, str):
            self.program._own(which)
            which = which.name
        self.program._var(which)
        return self.root.get(which, which)

    def dim(self) -> str:
        """The CDC of constants that belong to none."""
        return next(iter(self.program.dims))

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

    def reaching(self, wrt: set[str] | None) -> set[str]:
        """The variables through which gradients flow: those made of what is asked for."""
        live: set[str] = set()
        for line in self.lines:
            for name in made_by(line):
                if name in self.stop or isinstance(line, Data):
                    continue
                asked = self._varies(line, name) if wrt is None else name in wrt
                if asked or any(self.root.get(n, n) in live for n in used_by(line)):
                    live.add(name)
        return live

    @staticmethod
    def _varies(line: Line, name: str) -> bool:
        """Whether a line brings something in to differentiate by: a random input, a trained matrix."""
        if isinstance(line, Input):
            k = line.names.index(name)
            return line.cov[k][k] > 0
        return isinstance(line, Matrix) and line.tangent > 0

    # --- one line after another, backwards

    def run(self) -> Gradients:
        for line in reversed(self.lines):
            for name in made_by(line):
                if name in self.adjoints and name in self.live:
                    total = self.total(name)
                    self.found[name] = total
                    try:
                        self.line(line, total)
                    except ProgramError as error:
                        raise quoted(f"no gradient: {error}", line, str(self.number[name])) from None
        for matrix, pairs in self.outer.items():
            self.found[matrix] = Outer(tuple(pairs))
        return Gradients(self.program, self.found)

    def total(self, name: str) -> Any:
        """The sum of what later lines gave a variable, along the variable's own axes."""
        p, var = self.program, self.program._var(name)
        parts = self.adjoints[name]
        made = parts[0]
        for part in parts[1:]:
            made = made + part
        if var.kind != "S" and made.axes != var.axes:
            made = p.zeros(var.dim, var.axes) + made
        if isinstance(made, Vector) and made.pending is not None:
            made = made.named(p._auto(f"grad.{name}", bare=True))
        return made

    def add(self, name: str, part: Any) -> None:
        self.adjoints.setdefault(name, []).append(self.summed(part, self.program._var(name).axes))

    @staticmethod
    def summed(part: Any, axes: Axes) -> Any:
        """A contribution without the axes that its receiver lacks."""
        return part.sum(*(a for a in (axis for axis, _ in part.axes) if a not in dict(axes)))

    def line(self, line: Line, total: Any) -> None:
        match line:
            case MatMul():
                self.matmul(line, total)
            case LinComb():
                self.lincomb(line, total)
            case Nonlin():
                self.function(line, lambda slope: slope * total)
                self.scalars(line, total)
            case Moment():
                part = (1.0 / self.ratio(line.args[0])) * total
                self.function(line, lambda slope: part * slope)
                for i, s in enumerate(line.scalars):
                    if s in self.live:
                        self.add(s, total * self.averaged(line, i))
            case Arith():
                for i, s in enumerate(line.scalars):
                    if s in self.live:
                        self.add(s, total * self.arithmetic(line, i))
            case Map():
                if line.operand in self.live:
                    self.add(line.operand, self.mapped(line, total))

    def ratio(self, vector: str) -> float:
        return self.program.dims[self.program._var(vector).dim]

    def matmul(self, line: MatMul, total: Vector) -> None:
        p = self.program
        matrix, operand = p[line.matrix], p[line.vector]
        root = self.root.get(line.matrix, line.matrix)
        if root in self.live:
            pair = (total, operand) if root == line.matrix else (operand, total)
            self.outer.setdefault(root, []).append(pair)
        if line.vector in self.live:
            self.add(line.vector, matrix.T @ total)

    def lincomb(self, line: LinComb, total: Vector) -> None:
        p = self.program
        for term in line.terms:
            if term.vector in self.live:
                part = term.coef * total
                self.add(term.vector, p[term.scalar] * part if term.scalar else part)
            if term.scalar in self.live:
                weight = term.coef * self.ratio(term.vector)
                self.add(term.scalar, weight * p.mean(total * p[term.vector]))

    def function(self, line: Nonlin | Moment, times: Any) -> None:
        """Give every vector argument its slope times what comes from above."""
        for i, arg in enumerate(line.args):
            if arg in self.live:
                slope = self.slope(line, i)
                if slope is not None:
                    made = times(slope)
                    self.add(
                        arg,
                        made if isinstance(made, Vector) else made * self.program.ones(self.program[arg].dim),
                    )

    def slope(self, line: Nonlin | Moment, i: int) -> Any:
        """d_i phi at the arguments of a line: a number, a vector, or None for zero."""
        fn = line.fn
        if fn.name in FLAT and not fn.order:
            return None
        if fn.name in SUMS and not fn.order and not line.scalars:
            return SUMS[fn.name][i]
        if fn.name == "mul" and not fn.order and not line.scalars:
            return self.program[line.args[1 - i]]
        key = (line.name, i)
        if key not in self.slopes:
            if fn.user is not None and not fn.derivative(i).has_values and fn.arity + fn.n_scalars > 1:
                raise ProgramError(f"{fn.name} has no derivative in its argument {i + 1}: pass derivative=")
            self.slopes[key] = self.new(fn.derivative(i), line)
        return self.slopes[key]

    def new(self, fn: Function, line: Nonlin | Moment) -> Vector:
        made = self.program._auto("h")
        self.program._append(Nonlin(made, fn, line.args, line.scalars))
        return Vector(self.program, made)

    def scalars(self, line: Nonlin, total: Vector) -> None:
        for i, s in enumerate(line.scalars):
            if s in self.live:
                slope = self.new(scalar_slope(line.fn, i), line)
                self.add(s, self.ratio(line.args[0]) * self.program.mean(slope * total))

    def averaged(self, line: Moment, i: int) -> Scalar:
        """The derivative of a Moment in its i-th scalar, a Moment itself."""
        made = self.program._auto("m")
        self.program._append(Moment(made, scalar_slope(line.fn, i), line.args, line.scalars))
        return Scalar(self.program, made)

    def arithmetic(self, line: Arith, i: int) -> Scalar:
        p = self.program
        fn = line.fn.with_scalars(0).derivative(i)
        return p._arith(fn.with_scalars(line.fn.n_scalars), line.scalars)

    # --- the transpose of a map

    def mapped(self, line: Map, total: Any) -> Any:
        """sum_j weight[j, i] total[j] along the axis that the map replaced."""
        p = self.program
        size = dict(p._var(line.operand).axes)[line.axis]
        if not line.out:
            (row,) = line.rows
            return self.spread(line, total, row, size)
        (first, length), *others = line.out
        parts = []
        for place in itertools.product(*(range(n) for _, n in others)):
            rows: list[list[tuple[int, float]]] = [[] for _ in range(size)]
            for j in range(length):
                flat = j
                for at, (_, n) in zip(place, others, strict=True):
                    flat = flat * n + at
                for i, w in line.rows[flat]:
                    rows[i].append((j, w))
            if any(rows):
                one = (
                    total.take(**{a: at for (a, _), at in zip(others, place, strict=True)})
                    if others
                    else total
                )
                parts.append(p.map(one, first, ((line.axis, size),), rows))
        if not parts:
            return 0.0 * total.sum(*(a for a, _ in line.out))
        made = parts[0]
        for part in parts[1:]:
            made = made + part
        return made

    def spread(self, line: Map, total: Any, row: tuple[tuple[int, float], ...], size: int) -> Any:
        """``total`` times the weight of each index of the axis that the map summed away."""
        p = self.program
        weights = [0.0] * size
        for i, w in row:
            weights[i] += w
        if len(set(weights)) == 1:
            return weights[0] * total
        dim = total.dim if isinstance(total, Vector) else self.dim()
        ones = p.zeros(dim, ((line.axis, size),)) + p.ones(dim)
        diagonal = tuple(((i, w),) if w else () for i, w in enumerate(weights))
        return p.map(p.mean(ones), line.axis, ((line.axis, size),), diagonal) * total


def scalar_slope(fn: Function, i: int) -> Function:
    """The derivative of fn(u..; t..) in its i-th scalar, as a function of the same arguments."""
    every = fn.with_scalars(0)
    made = every.derivative(fn.arity + i)
    if not made.has_values:
        raise ProgramError(f"{fn.name} has no derivative in its scalar {i + 1}: pass derivative= for it too")
    return made.with_scalars(fn.n_scalars)
