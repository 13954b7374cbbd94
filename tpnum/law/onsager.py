"""The general limit: a program with transposes as one without (SL Thm 6.3, in the form of TP3).

For W in R^{n x m} with entries N(0, s^2/m) a product has the limit

    Z^{W x} = hat + s^2 sum over earlier lines W^T y of  Z^y E[d Z^x / d hat^{W^T y}]

where the hats are Gaussian as if W^T were an independent matrix; for Z^{W^T y} the same with s^2 n/m and
the earlier lines W x.  The coefficients are numbers, so the right-hand side is a line of the language:
`free` writes the program whose matrices have no transposes, with a LinComb (the *Onsager correction*)
in the place of every corrected product.  Its law (SL Thm 4.3) is the law of the original.

Sums are flattened and coefficients evaluated as the lines are written: where a program subtracts its own
correction, as message passing does, the terms cancel here and later expectations stay low-dimensional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from tpnum.errors import LimitError, ProgramError
from tpnum.functions import get
from tpnum.law.expectation import differentiable
from tpnum.law.worklist import once
from tpnum.program.lines import (
    Input,
    LinComb,
    Map,
    MatMul,
    Matrix,
    Nonlin,
    Scan,
    Term,
    Transpose,
)
from tpnum.program.text import place

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line

CANCELLED = 1e-12
"""A sum smaller than this part of its terms is their rounding."""

COLLINEAR = 1e-10
"""Hats whose covariance has a smaller eigenvalue, relative to the largest, span one direction less."""

HAT = ".hat"
"""What the Gaussian part of a corrected product is called after."""

ONE = ""
"""The constant 1 among the vectors of a combination."""

MUL = get("mul")

Combination = dict[str, float]
"""A sum of vectors: name -> coefficient."""

Direction = tuple[str, bool]
"""A matrix and whether it is transposed."""


class Numbers(Protocol):
    """What is asked of a law while the program that it reads grows: numbers, and how exact they are."""

    def scalar_value(self, name: str) -> float:
        """The limit of a scalar."""

    def mean_value(self, name: str) -> float:
        """E Z."""

    def moment_value(self, a: str, b: str) -> float:
        """E Z^a Z^b."""

    def accuracy(self) -> float:
        """The largest relative error so far."""

    def amplified(self, factor: float, what: str) -> None:
        """A correction is so many times as inexact as the numbers that it was solved from."""


N = TypeVar("N", bound=Numbers)


@dataclass(frozen=True)
class Correction:
    """The dot of the product ``name``: the sum of ``coef`` times the vectors that it consists of."""

    name: str
    line: str
    dots: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Free:
    """A program without transposes that has the law of one with: every name of it means the same."""

    program: Program
    corrections: tuple[Correction, ...]


def independent(program: Program) -> Program:
    """The program with every transpose an independent matrix: the gradient independence assumption."""
    made = type(program)()
    for dim, ratio in program.dims.items():
        made.dim(dim, ratio)
    matrices = {line.name: line for line in program.lines if isinstance(line, Matrix)}
    for line in program.lines:
        made.append(_copy_of(line, matrices, program) if isinstance(line, Transpose) else line)
    made._outputs_of(program)
    made.tangents, made.parts = dict(program.tangents), dict(program.parts)
    return made


def _copy_of(line: Transpose, matrices: dict[str, Matrix], program: Program) -> Matrix:
    """An independent matrix of the law of a transpose: entries N(0, s^2/m) = N(0, (s^2 n/m)/n)."""
    of = matrices[line.matrix]
    return Matrix(line.name, of.cols, of.rows, of.var * transposed_ratio(program, of), 0.0, of.axes)


def transposed_ratio(program: Program, matrix: Matrix) -> float:
    """n/m of an n x m matrix."""
    return program.dims[matrix.rows] / program.dims[matrix.cols]


def free(
    program: Program,
    numbers: Callable[[Program], N],
    written: Callable[[str], str | None] = lambda name: None,
) -> tuple[Free, N]:
    """Write the free program of an expanded one (no scans, no axes), and the law that it was written with.

    ``written`` says where a variable comes from in the program that the user wrote, for messages.

    Raises
    ------
    LimitError
        A correction that does not exist or cannot be computed; the message quotes the line.
    """

    def where(number: int) -> str:
        name = _first(program.lines[number - 1])
        return written(name) or place(number, name)

    writer = _Writer(program, numbers, where)
    for number, line in enumerate(program.lines, 1):
        try:
            writer.line(line, number)
        except ProgramError as error:
            raise LimitError(f"{where(number)}: no correction: {error}") from None
    return Free(writer.new, tuple(writer.corrections)), writer.numbers


def _first(line: Line) -> str:
    return line.names[0] if isinstance(line, Input) else getattr(line, "name", "scan")


class _Writer(Generic[N]):
    def __init__(
        self, program: Program, numbers: Callable[[Program], N], where: Callable[[int], str]
    ) -> None:
        self.where, self.number = where, 0  # of the line that is being written
        self.old, self.new = program, program._blank()
        self.new.parts = dict(program.parts)
        self.numbers = numbers(self.new)
        self.taken = set(program.vars)
        self.matrices = {line.name: line for line in program.lines if isinstance(line, Matrix)}
        self.direction: dict[str, Direction] = {}
        self.products: dict[Direction, list[tuple[str, str]]] = {}  # (hat, operand), in order
        self.sums: dict[str, Combination] = {}  # every vector in terms of base vectors
        self.base: dict[str, Nonlin] = {}  # base vectors that are functions of others
        self.behind: dict[str, frozenset[str]] = {}  # the hats that a base vector depends on
        self.slopes: dict[tuple[str, str], Combination] = {}
        self.jumps: dict[tuple[str, str], bool] = {}
        self.corrections: list[Correction] = []

    def fresh(self, name: str) -> str:
        k, made = 1, name
        while made in self.taken:
            k += 1
            made = f"{name}{k}"
        self.taken.add(made)
        return made

    # --- lines

    def line(self, line: Line, number: int) -> None:
        self.number = number
        match line:
            case Input():
                self.new.append(line)
                for name in line.names:
                    self._is_base(name, frozenset())
            case Matrix():
                self.new.append(line)
                self.direction[line.name] = (line.name, False)
            case Transpose():
                self.new.append(_copy_of(line, self.matrices, self.old))
                self.direction[line.name] = (line.matrix, True)
            case MatMul():
                self.product(line, number)
            case LinComb():
                parts = [
                    (t.coef * (self.numbers.scalar_value(t.scalar) if t.scalar else 1.0), t.vector)
                    for t in line.terms
                ]
                self.total(line.name, self._flat(parts))
            case Nonlin() if line.fn.coefficients is not None:
                self.total(line.name, self._flat(zip(line.fn.coefficients, line.args, strict=True)))
            case Nonlin():
                self.nonlin(line)
            case Map() | Scan():
                raise ProgramError("expand the program first")
            case _:
                self.new.append(line)

    def _is_base(self, name: str, behind: frozenset[str]) -> None:
        self.sums[name] = {name: 1.0}
        self.behind[name] = behind

    def _flat(self, parts: Iterable[tuple[float, str]]) -> Combination:
        """A sum in terms of base vectors, without those that cancel."""
        total: Combination = {}
        size: Combination = {}
        for coef, vector in parts:
            for base, c in self.sums[vector].items():
                total[base] = total.get(base, 0.0) + coef * c
                size[base] = size.get(base, 0.0) + abs(coef * c)
        least = max(CANCELLED, 4.0 * self.numbers.accuracy())
        return {base: c for base, c in total.items() if abs(c) > least * size[base]}

    def total(self, name: str, combination: Combination) -> None:
        """Append the sum ``name``."""
        self.sums[name] = combination
        terms = [Term(c, base) for base, c in combination.items()]
        dim = self.old.vars[name].dim
        self.new.append(LinComb(name, tuple(terms) or (Term(1.0, self.new.zeros(dim).name),)))

    def nonlin(self, line: Nonlin) -> None:
        self.new.append(line)
        self.base[line.name] = line
        self._is_base(line.name, self._hats(line.args))

    def _hats(self, vectors: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self.behind[b] for v in vectors for b in self.sums[v]))

    # --- products

    def product(self, line: MatMul, number: int) -> None:
        root, transposed = direction = self.direction[line.matrix]
        if line.vector not in self.sums:  # data: a Gaussian input, nothing to correct
            self.new.append(line)
            self._is_base(line.name, frozenset([line.name]))
            return
        dots = self.dots(line.vector, (root, not transposed), self._variance(direction))
        hat = self.fresh(f"{line.name}{HAT}") if dots else line.name
        self.new.append(MatMul(hat, line.matrix, line.vector))
        self._is_base(hat, frozenset([hat]))
        self.products.setdefault(direction, []).append((hat, line.vector))
        if dots:
            self.corrections.append(Correction(line.name, str(number), tuple(dots)))
            self.total(line.name, self._flat([(1.0, hat), *((c, vector) for vector, c in dots)]))

    def _variance(self, direction: Direction) -> float:
        of = self.matrices[direction[0]]
        return of.var * (transposed_ratio(self.old, of) if direction[1] else 1.0)

    def dots(self, x: str, opposite: Direction, variance: float) -> list[tuple[str, float]]:
        """(y, s^2 E[d Z^x / d hat]) for the earlier products of ``opposite`` that Z^x depends on."""
        earlier = self.products.get(opposite, [])
        reached = self._hats([x])
        if not reached & {hat for hat, _ in earlier}:
            return []
        hats = [hat for hat, _ in earlier]
        found, size = np.zeros(len(hats)), np.zeros(len(hats))
        for base, coef in self.sums[x].items():
            made, scale = self.expected_slopes(base, hats)
            found, size = found + coef * made, size + abs(coef) * scale
        least = max(CANCELLED, 4.0 * self.numbers.accuracy())
        return [
            (y, variance * c)
            for (_, y), c, scale in zip(earlier, found.tolist(), size.tolist(), strict=True)
            if abs(c) > least * scale
        ]

    # --- derivatives

    def slope(self, base: str, hat: str) -> Combination:
        """d Z^base / d hat as a sum of vectors, `ONE` among them; empty where it is zero."""
        if base == hat:
            return {ONE: 1.0}
        if hat not in self.behind[base]:
            return {}
        return once(self.slopes, (base, hat), self._slope, base, hat)

    def _slope(self, base: str, hat: str) -> Combination:
        line = self.base[base]
        total: Combination = {}
        for i, arg in enumerate(line.args):
            inner: Combination = {}
            for b, c in self.sums[arg].items():
                for vector, s in self.slope(b, hat).items():
                    inner[vector] = inner.get(vector, 0.0) + c * s
            if inner:
                outer = self.partial(line, i)
                for vector, c in inner.items():
                    made = outer if vector == ONE else self.times(outer, vector)
                    total[made] = total.get(made, 0.0) + c
        return total

    def partial(self, line: Nonlin, i: int) -> str:
        """The vector (d_i phi)(args)."""
        if line.fn == MUL:
            return line.args[1 - i]
        name = f"{line.name}.d{i + 1}"
        if name not in self.new:
            self.taken.add(name)
            self.new.append(Nonlin(name, line.fn.derivative(i), line.args, line.scalars))
        return name

    def times(self, a: str, b: str) -> str:
        made = f"{a}:{b}"
        if made not in self.new:
            self.taken.add(made)
            self.new.append(Nonlin(made, MUL, (a, b)))
        return made

    def rough(self, base: str, hat: str) -> bool:
        """Whether a function between ``hat`` and ``base`` jumps, or comes without a derivative."""
        if hat not in self.behind[base] or base == hat:
            return False
        return once(self.jumps, (base, hat), self._rough, base, hat)

    def _rough(self, base: str, hat: str) -> bool:
        line = self.base[base]
        for i, arg in enumerate(line.args):
            below = [b for b in self.sums[arg] if hat in self.behind[b]]
            if below and (not differentiable(line.fn, i) or any(self.rough(b, hat) for b in below)):
                return True
        return False

    def expected_slopes(self, base: str, hats: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """E[d Z^base / d hat] for every hat, and the size of the terms that it is the sum of.

        By the chain rule as far as there are derivatives to take.  The hats R behind a function that jumps
        are what Stein's lemma E[Z H] = C E[d Z / d H] leaves for them, a system no larger than it must be:
        C_RR E[d Z / d H_R] = E[Z H_R] - sum over the others of C_Rj E[d Z / d H_j].
        """
        found, size = np.zeros(len(hats)), np.zeros(len(hats))
        rough = [k for k, hat in enumerate(hats) if self.rough(base, hat)]
        for k, hat in enumerate(hats):
            if k not in rough:
                for vector, c in self.slope(base, hat).items():
                    part = c * (1.0 if vector == ONE else self.numbers.mean_value(vector))
                    found[k] += part
                    size[k] += abs(part)
        if rough:
            moments = np.array([self.numbers.moment_value(base, hats[r]) for r in rough])
            cov = np.array([[self.numbers.moment_value(hats[r], hat) for hat in hats] for r in rough])
            inverse = np.linalg.pinv(cov[:, rough], rcond=COLLINEAR, hermitian=True)
            found[rough] = inverse @ (moments - cov @ found)
            size[rough] = np.abs(inverse) @ (np.abs(moments) + np.abs(cov) @ np.abs(found))
            self._note(moments, cov[:, rough], found[rough], size[rough])
        return found, size

    def _note(self, moments: np.ndarray, cov: np.ndarray, found: np.ndarray, size: np.ndarray) -> None:
        """How far rounding may move the dot, as a part of |Z|, which is at least E[Z H] / |H|."""
        root = np.sqrt(np.diag(cov))
        norm = np.max(np.maximum(np.abs(moments) / np.where(root > 0, root, np.inf), np.abs(found) * root))
        if norm > 0:
            condition = float(np.max(size * root) / norm)
            self.numbers.amplified(condition, f"the correction of {self.where(self.number)}")
