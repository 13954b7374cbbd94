"""The rules of reverse mode: what a line gives back to the variables that it was made from.

    g = W h:            hbar += W^T gbar;  the gradient of W gains the outer product gbar h^T
    h = phi(g..; s..):  gbar += (d_g phi) hbar;  sbar += mean((d_s phi) hbar)
    LinComb, Map:       the transposed map
    m = mean(psi(x..)): xbar += mbar (d_x psi)

Scalars' gradients are normalised, sbar = (1/n) dL/ds with n the width of a CDC of ratio 1.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tpnum.errors import ProgramError
from tpnum.program.along import ALONG
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Axes,
    LinComb,
    Line,
    Map,
    MatMul,
    Moment,
    Nonlin,
    Softmax,
)
from tpnum.program.text import used_by
from tpnum.program.values import Scalar, Vector

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.builder import Program


class Rules:
    """Collects gradients of variables (``adjoints``) and of matrices (``outer``), line by line.

    ``live`` are the variables through which gradients flow, ``root`` maps transposes to their matrices.
    """

    def __init__(self, program: Program, live: set[str], root: dict[str, str]) -> None:
        self.program, self.live, self.root = program, live, root
        self.adjoints: dict[str, list[Any]] = {}
        self.outer: dict[str, list[tuple[Vector, Vector]]] = {}
        self.slopes: dict[tuple[str, int], Any] = {}

    def value(self, name: str) -> Any:
        """The handle of a variable of the forward lines, where the gradient lines are written."""
        return self.program[name]

    def kept(self, name: str) -> Any:
        """The same handle, for those who come after all lines."""
        return self.value(name)

    def axes(self, name: str) -> Axes:
        """The index axes of a variable."""
        return self.program._var(name).axes

    def dim(self) -> str:
        """The CDC of constants that belong to none."""
        return next(iter(self.program.dims))

    # --- what comes together

    def total(self, name: str) -> Any:
        """The sum of what later lines gave a variable, along the variable's own axes."""
        p, var = self.program, self.program._var(name)
        parts = self.adjoints[name]
        made = parts[0]
        for part in parts[1:]:
            made = made + part
        if made.axes != var.axes:
            zeros = p.zeros(var.dim or self.dim(), var.axes)
            made = (p.mean(zeros) if var.kind == "S" else zeros) + made
        if isinstance(made, Vector) and made.pending is not None:
            made = made.named(p._auto(f"grad.{name}", bare=True))
        return made

    def add(self, name: str, part: Any) -> None:
        self.adjoints.setdefault(name, []).append(self.summed(part, self.axes(name)))

    @staticmethod
    def summed(part: Any, axes: Axes) -> Any:
        """A contribution without the axes that its receiver lacks."""
        return part.sum(*(a for a in (axis for axis, _ in part.axes) if a not in dict(axes)))

    # --- one line

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
            case Softmax():
                if line.weights in self.live:
                    raise ProgramError("the weights of a softmax are constants to it: name them in stop=")
                if line.scalar in self.live:
                    share = self.value(line.name)
                    part = share * total
                    self.add(line.scalar, part - part.sum(*line.over) * share)
            case Attend():
                if self.live & {*used_by(line)}:
                    raise ProgramError(
                        f"{line.name!r} is attention with random logits, through which there is no gradient "
                        "program; the NTK is that of its tangent program"
                    )
            case Along():
                self.along(line, total)
            case Map():
                if line.operand in self.live:
                    self.add(line.operand, self.mapped(line, total))

    def along(self, line: Along, total: Vector) -> None:
        back = ALONG[line.kind].back
        if not back:
            raise ProgramError(f"the gradient of {line.kind} along axes is not written: name it in stop=")
        (arg,) = line.args
        if arg in self.live:
            made = self.program._auto("h")
            args = self.value(arg).name, total.name
            self.program._append(Along(made, back, args, line.over, line.eps))
            self.add(arg, Vector(self.program, made))

    def operands(self, line: Nonlin | Moment) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Vectors and scalars of a line, by the names that they have here."""
        vectors, scalars = (tuple(self.value(n).name for n in names) for names in (line.args, line.scalars))
        return vectors, scalars

    def ratio(self, vector: str) -> float:
        return self.program.dims[self.program._var(vector).dim]

    def matmul(self, line: MatMul, total: Vector) -> None:
        p = self.program
        root = self.root.get(line.matrix, line.matrix)
        if root in self.live:
            operand = self.kept(line.vector)
            pair = (total, operand) if root == line.matrix else (operand, total)
            self.outer.setdefault(root, []).append(pair)
        if line.vector in self.live:
            self.add(line.vector, p[line.matrix].T @ total)

    def lincomb(self, line: LinComb, total: Vector) -> None:
        p = self.program
        for term in line.terms:
            if term.vector in self.live:
                part = term.coef * total
                self.add(term.vector, self.value(term.scalar) * part if term.scalar else part)
            if term.scalar in self.live:
                weight = term.coef * self.ratio(term.vector)
                self.add(term.scalar, weight * p.mean(total * self.value(term.vector)))

    def function(self, line: Nonlin | Moment, times: Any) -> None:
        """Give every vector argument its slope times what comes from above."""
        for i, arg in enumerate(line.args):
            if arg in self.live:
                slope = self.slope(line, i)
                if slope is not None:
                    made = times(slope)
                    if not isinstance(made, Vector):
                        made = made * self.program.ones(self.program._var(arg).dim)
                    self.add(arg, made)

    def slope(self, line: Nonlin | Moment, i: int) -> Any:
        """d_i phi at the arguments of a line: a number, a vector, or None for zero."""
        fn = line.fn
        if fn.flat:
            return None
        if fn.coefficients is not None:
            return fn.coefficients[i]
        if fn.product:
            return self.value(line.args[1 - i])
        key = (line.name, i)
        if key not in self.slopes:
            if fn.user is not None and not fn.derivative(i).has_values and fn.arity + fn.n_scalars > 1:
                raise ProgramError(f"{fn.name} has no derivative in its argument {i + 1}: pass derivative=")
            self.slopes[key] = self.new(fn.derivative(i), line)
        return self.slopes[key]

    def new(self, fn: Function, line: Nonlin | Moment) -> Vector:
        made = self.program._auto("h")
        self.program._append(Nonlin(made, fn, *self.operands(line)))
        return Vector(self.program, made)

    def scalars(self, line: Nonlin, total: Vector) -> None:
        for i, s in enumerate(line.scalars):
            if s in self.live:
                slope = self.new(scalar_slope(line.fn, i), line)
                self.add(s, self.ratio(line.args[0]) * self.program.mean(slope * total))

    def averaged(self, line: Moment, i: int) -> Scalar:
        """The derivative of a Moment in its i-th scalar, a Moment itself."""
        made = self.program._auto("m")
        self.program._append(Moment(made, scalar_slope(line.fn, i), *self.operands(line)))
        return Scalar(self.program, made)

    def arithmetic(self, line: Arith, i: int) -> Scalar:
        p = self.program
        fn = line.fn.with_scalars(0).derivative(i)
        return p._arith(fn.with_scalars(line.fn.n_scalars), tuple(self.value(s).name for s in line.scalars))

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
