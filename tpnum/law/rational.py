"""The general limit in exact arithmetic, for programs whose functions are polynomials (SL Thm 6.3).

Every limit variable is a polynomial with rational coefficients in the hats and the inputs, so that means,
covariances, derivatives and corrections are fractions: linear programs of random matrices have the integers
of combinatorics for moments.  A float stands for the fraction that `tpnum.law.polynomial.exact` finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tpnum.errors import LimitError
from tpnum.law import polynomial as poly
from tpnum.law.polynomial import Gaussians, Polynomial, TooLarge, exact
from tpnum.program.lines import (
    Arith,
    Data,
    Input,
    LinComb,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Transpose,
)
from tpnum.program.text import made_by, place

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program import Program
    from tpnum.program.lines import Line

ONE, ZERO = Fraction(1), Fraction(0)


class NotPolynomial(LimitError):
    """A line that exact arithmetic cannot follow; the message names it."""


class Rational:
    """The law of an expanded program (no scans, no axes) as fractions.

    ``corrections=False`` treats transposes as independent matrices; ``data`` holds one array of channels per
    data line; ``written`` as in `tpnum.law.onsager.free`.

    Raises
    ------
    NotPolynomial
        A function that is not a polynomial, an irrational scalar, polynomials of too many terms.
    LimitError
        A division by a scalar that vanishes; the message names the line.
    """

    def __init__(
        self,
        program: Program,
        corrections: bool = True,
        data: Mapping[str, Any] | None = None,
        written: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self._program, self._corrections = program, corrections
        self._data = {name: [exact(float(v)) for v in x] for name, x in (data or {}).items()}
        self._gaussians = Gaussians()
        self._vectors: dict[str, Polynomial] = {}
        self._scalars: dict[str, Fraction] = {}
        self._matrices: dict[str, tuple[str, bool, Fraction]] = {}  # (root, transposed, s^2 of the product)
        self._products: dict[tuple[str, bool], list[tuple[int, str]]] = {}  # (hat, operand) in order
        for number, line in enumerate(program.lines, 1):
            try:
                self._line(line)
            except (NotPolynomial, TooLarge, ZeroDivisionError) as error:
                name = made_by(line)[0]
                where = written(name) or place(number, name)
                if isinstance(error, ZeroDivisionError):
                    raise LimitError(f"{where} divides by a scalar that is 0") from None
                raise NotPolynomial(f"{where}: {error}") from None

    # --- answers

    def mean(self, name: str) -> Fraction:
        """E Z."""
        return self._gaussians.expectation(self._vectors[name])

    def moment(self, a: str, b: str) -> Fraction:
        """E Z^a Z^b."""
        return self._second(a, b)

    def scalar(self, name: str) -> Fraction:
        """The limit of a scalar."""
        return self._scalars[name]

    def expect(self, f: Function, *names: str) -> Fraction:
        """E f(Z^1, .., Z^k) of a polynomial of the library."""
        return self._gaussians.expectation(_applied(f, [self._vectors[n] for n in names], ()))

    # --- lines

    def _line(self, line: Line) -> None:
        match line:
            case Input():
                self._input(line)
            case Data():
                if line.name not in self._data:
                    raise NotPolynomial("its numbers are not given")
            case Matrix():
                self._matrices[line.name] = (line.name, False, exact(line.var))
            case Transpose():
                root, _, var = self._matrices[line.matrix]
                of = self._program.vars[root]
                ratio = exact(self._program.dims[of.dim]) / exact(self._program.dims[of.cols])
                self._matrices[line.name] = (root, True, var * ratio)
            case MatMul():
                self._vectors[line.name] = self._product(line)
            case LinComb():
                self._vectors[line.name] = poly.combination(
                    [
                        (
                            exact(t.coef) * (self._scalars[t.scalar] if t.scalar else ONE),
                            self._vectors[t.vector],
                        )
                        for t in line.terms
                    ]
                )
            case Nonlin() | Moment():
                made = _applied(
                    line.fn, [self._vectors[a] for a in line.args], [self._scalars[s] for s in line.scalars]
                )
                if isinstance(line, Moment):
                    self._scalars[line.name] = self._gaussians.expectation(made)
                else:
                    self._vectors[line.name] = made
            case Arith():
                self._scalars[line.name] = _number(line.fn, [self._scalars[s] for s in line.scalars])
            case _:
                raise NotPolynomial("expand the program first")

    def _input(self, line: Input) -> None:
        made: list[int] = []
        for k, name in enumerate(line.names):
            cov = {s: exact(c) for s, c in zip(made, line.cov[k], strict=False)}
            made.append(self._gaussians.add(exact(line.mean[k]), cov, exact(line.cov[k][k])))
            self._vectors[name] = poly.symbol(made[-1])

    def _product(self, line: MatMul) -> Polynomial:
        """hat + s^2 sum over earlier products y of the transpose of Z^y E[d Z^x / d hat]."""
        root, transposed, variance = self._matrices[line.matrix]
        own = self._products.setdefault((root, transposed), [])
        cov = {hat: variance * self._second(line.vector, operand) for hat, operand in own}
        second = variance * self._second(line.vector, line.vector)
        hat = self._gaussians.add(ZERO, cov, second)
        terms = [(ONE, poly.symbol(hat))]
        if self._corrections and line.vector in self._vectors:
            x = self._vectors[line.vector]
            for other, y in self._products.get((root, not transposed), []):
                slope = self._gaussians.expectation(poly.derivative(x, other))
                if slope:
                    terms.append((variance * slope, self._vectors[y]))
        own.append((hat, line.vector))
        return poly.combination(terms)

    def _second(self, a: str, b: str) -> Fraction:
        if a in self._data and b in self._data:
            x, y = self._data[a], self._data[b]
            return sum((u * v for u, v in zip(x, y, strict=True)), ZERO) / len(x)
        if a in self._data or b in self._data:
            return ZERO
        return self._gaussians.expectation(poly.product(self._vectors[a], self._vectors[b]))


# --- functions that are polynomials


def _coefficients(fn: Function) -> list[Fraction] | None:
    """Of a polynomial in one variable, derivatives included."""
    params = dict(fn.params)
    match fn.name:
        case "identity":
            made = [ZERO, ONE]
        case "square":
            made = [ZERO, ZERO, ONE]
        case "monomial":
            made = [ZERO] * params["degree"] + [ONE]
        case "polynomial":
            made = [exact(c) for c in params["coef"]]
        case "constant":
            made = [exact(params["c"])]
        case _:
            return None
    for _ in fn.order:
        made = [k * c for k, c in enumerate(made)][1:]
    return made


def _slopes(fn: Function) -> tuple[Fraction, ...] | None:
    """Of a sum of several variables: the coefficients, then the constant."""
    params = dict(fn.params)
    sums = {"add": (ONE, ONE, ZERO), "sub": (ONE, -ONE, ZERO)}
    if fn.name == "affine":
        return (*(exact(c) for c in params["coefs"]), exact(params["constant"]))
    return sums.get(fn.name)


def _applied(fn: Function, args: Sequence[Polynomial], scalars: Sequence[Fraction]) -> Polynomial:
    every = [*args, *(poly.constant(s) for s in scalars)]
    coefs = _coefficients(fn)
    if coefs is not None and len(every) == 1:
        return poly.substituted(coefs, every[0])
    slopes = _slopes(fn)
    if slopes is not None and len(every) == len(slopes) - 1:
        if fn.order:
            return poly.constant(slopes[fn.order[0]] if len(fn.order) == 1 else ZERO)
        return poly.combination([*zip(slopes, every, strict=False), (slopes[-1], {(): ONE})])
    if fn.name == "mul" and len(every) == 2:
        if not fn.order:
            return poly.product(*every)
        left = [a for i, a in enumerate(every) if i not in fn.order]
        once = len(set(fn.order)) == len(fn.order)
        return (left[0] if left else poly.constant(ONE)) if once else {}
    raise NotPolynomial(f"{fn} is not a polynomial")


def _number(fn: Function, scalars: Sequence[Fraction]) -> Fraction:
    """Arithmetic on numbers, as far as it stays rational."""
    if not fn.order:
        if fn.name == "div":
            return scalars[0] / scalars[1]
        if fn.name == "reciprocal":
            return 1 / scalars[0]
        if fn.name == "sqrt" and scalars[0] >= 0:
            top, bottom = (math.isqrt(n) for n in (scalars[0].numerator, scalars[0].denominator))
            if Fraction(top, bottom) ** 2 == scalars[0]:
                return Fraction(top, bottom)
    made = _applied(fn, (), scalars)
    return made.get((), ZERO)
