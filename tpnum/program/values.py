"""Handles of a program's variables, and the operators that append lines to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tpnum import functions
from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program.check import infer
from tpnum.program.handle import Handle, is_number
from tpnum.program.lines import LinComb, Nonlin, Term, Transpose, Var
from tpnum.program.reads import not_negative, reads, text
from tpnum.program.scope import Scope

if TYPE_CHECKING:
    from tpnum.program.builder import Program


class Vector(Handle):
    """A vector (or data) family.  Sums and products become lines when they are first used."""

    __slots__ = ("_line", "_pending_var", "_scope")

    def __init__(
        self, program: Program, name: str, line: LinComb | Nonlin | None = None, scope: Scope | None = None
    ) -> None:
        self.program, self._name, self._line, self._scope = program, name, line, scope
        self._pending_var: Var | None = None
        if line is not None and scope is not None:
            probe = program._auto("h")
            (self._pending_var,) = infer(replace(line, name=probe), scope)
            program._pend(self)

    @property
    def pending(self) -> LinComb | Nonlin | None:
        """The line that this vector will be, while it is not part of the program."""
        return None if self._name else self._line

    @property
    def made_in(self) -> Scope | None:
        """The scope of a sum or product that is not a line yet."""
        return None if self._name else self._scope

    @property
    def name(self) -> str:
        """The variable's name; a pending sum or product is appended now."""
        if not self._name:
            self._settle("")
        return self._name

    @property
    def var(self) -> Var:
        """The variable's record."""
        if self._pending_var is not None and not self._name:
            return self._pending_var
        return self.program._var(self._name)

    @property
    def dim(self) -> str:
        """The CDC."""
        return self.var.dim

    @property
    def T(self) -> Vector:
        """Refused, quoting the line: vectors have no transpose."""
        infer(Transpose(f"{self.name}.T", self.name), self.program._root)
        return self

    def _settle(self, name: str) -> None:
        line, scope = self._line, self._scope
        assert line is not None and scope is not None and self._pending_var is not None
        if isinstance(line, LinComb) and len(line.terms) == 1 and not name:
            (t,) = line.terms
            known = scope.find(t.vector)
            if t.coef == 1.0 and not t.scalar and known is not None:
                self._name = t.vector
                return
        self._name = name or self.program._auto("h" if self._pending_var.kind == "H" else self._prefix())
        try:
            self.program._append(replace(line, name=self._name), scope)
        except ProgramError:
            self._name = ""
            raise

    def _prefix(self) -> str:
        assert self._pending_var is not None
        return "d" if self._pending_var.kind == "D" else "g"

    @reads(name=text)
    def named(self, name: str) -> Vector:
        """Give a name to a vector that no later line uses yet."""
        if not self._name:
            self._settle(name)
        else:
            self.program._rename(self._name, name)
            self._name = name
        return self

    # --- functions along axes

    def max(self, *axes: str) -> Vector:
        """The largest entry along index axes, coordinate by coordinate: max pooling of windows."""
        return self.program._along("max", self, tuple(text(axis, "axes") for axis in axes))

    @reads(eps=not_negative)
    def normalise(self, *axes: str, eps: float = 0.0) -> Vector:
        """(h - m) / sqrt(v + eps), m and v the mean and (biased) variance of each coordinate along the axes.

        Along an axis of examples it is batch normalisation, along one of positions instance normalisation.
        """
        return self.program._along("normalise", self, tuple(text(axis, "axes") for axis in axes), eps)

    # --- arithmetic

    def _terms(self) -> tuple[Term, ...]:
        if isinstance(self.pending, LinComb):
            return self.pending.terms
        return (Term(1.0, self.name),)

    def _as_terms(self, other: object) -> tuple[Term, ...] | None:
        p = self.program
        if isinstance(other, Handle):
            p._own(other)
        if isinstance(other, Vector):
            return other._terms()
        if isinstance(other, Scalar):
            return (Term(other.coef, p.ones(self.dim).name, other.base),)
        if is_number(other):
            return (Term(float(other), p.ones(self.dim).name),) if float(other) else ()
        return None

    def _sum(self, first: tuple[Term, ...], second: tuple[Term, ...]) -> Vector:
        return self.program._lincomb((*first, *second))

    def __add__(self, other: object) -> Vector:
        terms = self._as_terms(other)
        return NotImplemented if terms is None else self._sum(self._terms(), terms)

    def __radd__(self, other: object) -> Vector:
        terms = self._as_terms(other)
        return NotImplemented if terms is None else self._sum(terms, self._terms())

    def __sub__(self, other: object) -> Vector:
        terms = self._as_terms(other)
        return NotImplemented if terms is None else self._sum(self._terms(), _scale(terms, -1.0))

    def __rsub__(self, other: object) -> Vector:
        terms = self._as_terms(other)
        return NotImplemented if terms is None else self._sum(terms, _scale(self._terms(), -1.0))

    def __neg__(self) -> Vector:
        return self._sum(_scale(self._terms(), -1.0), ())

    def __pos__(self) -> Vector:
        return self

    def __mul__(self, other: object) -> Vector:
        p = self.program
        if isinstance(other, Handle):
            p._own(other)
        if isinstance(other, Vector):
            return p._product(self, other)
        if isinstance(other, Scalar):
            terms = []
            for t in self._terms():
                scalar = (Scalar(p, t.scalar) * Scalar(p, other.base)).base if t.scalar else other.base
                terms.append(Term(t.coef * other.coef, t.vector, scalar))
            return p._lincomb(tuple(terms))
        if is_number(other):
            return self._sum(_scale(self._terms(), float(other)), ())
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Vector:
        if isinstance(other, Vector):
            return self.program.apply(functions.get("div"), self, other)
        if isinstance(other, Scalar):
            return self * (1.0 / other)
        if is_number(other):
            return self * (1.0 / _divisor(other))
        return NotImplemented

    def __rtruediv__(self, other: object) -> Vector:
        if is_number(other) or isinstance(other, Scalar):
            return other * self.program.apply(functions.get("reciprocal"), self)
        return NotImplemented

    def __pow__(self, exponent: object) -> Vector:
        return _power(self, exponent)

    def __abs__(self) -> Vector:
        return self.program.apply("abs", self)

    def __matmul__(self, other: object) -> Vector:
        if isinstance(other, Vector):
            raise ProgramError(f"{self.name} @ {other.name}: for a product of vectors use tp.mean(x * y)")
        raise ProgramError(f"{self.name} @ ...: write the matrix first, W @ x or W.T @ x")


class Scalar(Handle):
    """A scalar family: ``coef`` times the variable ``base``."""

    __slots__ = ("base", "coef")

    def __init__(self, program: Program, base: str, coef: float = 1.0) -> None:
        self.program, self.base, self.coef = program, base, coef

    @property
    def name(self) -> str:
        """The variable's name; a pending factor becomes a line now."""
        if self.coef != 1.0:
            fn = functions.get("polynomial", coef=(0.0, self.coef))
            self.base = self.program._arith(fn, (self.base,)).base
            self.coef = 1.0
        return self.base

    @property
    def var(self) -> Var:
        """The variable's record."""
        return self.program._var(self.base)

    def _key(self) -> object:
        return (self.base, self.coef)

    @reads(name=text)
    def named(self, name: str) -> Scalar:
        """Give a name to a scalar that no later line uses yet."""
        self.program._rename(self.name, name)
        self.base = name
        return self

    def softmax(self, *axes: str, weights: Scalar | None = None) -> Scalar:
        """Softmax over index axes; positions of weight 0 (``weights`` are at least 0) take no part."""
        if weights is not None:
            if not isinstance(weights, Scalar):
                raise ProgramError(f"weights: a scalar of the program is needed, not {shown(weights)}")
            self.program._own(weights)
        return self.program._softmax(self, tuple(text(axis, "axes") for axis in axes), weights)

    def __add__(self, other: object) -> Scalar:
        p = self.program
        if is_number(other):
            c = float(other)
            return p._arith(functions.get("polynomial", coef=(c, self.coef)), (self.base,)) if c else self
        if not isinstance(other, Scalar):
            return NotImplemented
        p._own(other)
        if other.base == self.base and self.coef + other.coef:
            return Scalar(p, self.base, self.coef + other.coef)
        if other.coef == -1.0:
            return p._arith(functions.get("sub"), (self.name, other.base))
        if self.coef == -1.0:
            return p._arith(functions.get("sub"), (other.name, self.base))
        return p._arith(functions.get("add"), (self.name, other.name))

    __radd__ = __add__

    def __neg__(self) -> Scalar:
        return Scalar(self.program, self.base, -self.coef)

    def __pos__(self) -> Scalar:
        return self

    def __sub__(self, other: object) -> Scalar:
        if is_number(other) or isinstance(other, Scalar):
            return self + (-1.0) * other
        return NotImplemented

    def __rsub__(self, other: object) -> Scalar:
        return -self + other if is_number(other) else NotImplemented

    def __mul__(self, other: object) -> Scalar:
        p = self.program
        if is_number(other):
            return Scalar(p, self.base, self.coef * float(other))
        if not isinstance(other, Scalar):
            return NotImplemented
        p._own(other)
        fn, args = (
            (functions.get("square"), (self.base,))
            if other.base == self.base
            else (functions.get("mul"), (self.base, other.base))
        )
        return Scalar(p, p._arith(fn, args).base, self.coef * other.coef)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Scalar:
        if is_number(other):
            return Scalar(self.program, self.base, self.coef / _divisor(other))
        if not isinstance(other, Scalar):
            return NotImplemented
        self.program._own(other)
        ratio = self.program._arith(functions.get("div"), (self.base, other.base))
        return Scalar(self.program, ratio.base, self.coef / _divisor(other.coef))

    def __rtruediv__(self, other: object) -> Scalar:
        if not is_number(other):
            return NotImplemented
        inverse = self.program._arith(functions.get("reciprocal"), (self.base,))
        return Scalar(self.program, inverse.base, float(other) / _divisor(self.coef))

    def __pow__(self, exponent: object) -> Scalar:
        return _power(self, exponent)

    def __abs__(self) -> Scalar:
        return self.program.apply("abs", self)


class MatrixVar(Handle):
    """A matrix family."""

    __slots__ = ()

    def __init__(self, program: Program, name: str) -> None:
        self.program, self._name = program, name

    @property
    def rows(self) -> str:
        """The CDC of the rows."""
        return self.var.dim

    @property
    def cols(self) -> str:
        """The CDC of the columns."""
        return self.var.cols

    @property
    def T(self) -> MatrixVar:
        """The transpose (one line, made once)."""
        return MatrixVar(self.program, self.program._transpose(self.name))

    def __matmul__(self, other: object) -> Vector:
        if not isinstance(other, Handle):
            raise ProgramError(f"{self.name} @ {type(other).__name__}: a matrix multiplies a vector")
        return self.program.matmul(self, other)

    def __add__(self, other: object) -> MatrixVar:
        raise ProgramError(f"matrices are not added: write {self.name} @ h + ..., one product per matrix")

    __radd__ = __sub__ = __rsub__ = __add__

    def __mul__(self, other: object) -> MatrixVar:
        raise ProgramError(f"a matrix has no products with *: write {self.name} @ h for that with a vector")

    __rmul__ = __mul__


def _scale(terms: tuple[Term, ...], by: float) -> tuple[Term, ...]:
    return tuple(replace(t, coef=t.coef * by) for t in terms)


def _divisor(x: float) -> float:
    value = float(x)
    if value == 0:
        raise ProgramError("division of a program's variable by zero")
    return value


def _power(x: Any, exponent: object) -> Any:
    if not is_number(exponent):
        raise ProgramError(f"the exponent {exponent!r} is not a number: use tp.apply for other powers")
    e = float(exponent)
    if e < 0:
        return 1.0 / _power(x, -e)
    if e == 1:
        return x
    if e == 0.5:
        return x.program.apply("sqrt", x)
    if e == 2:
        return x.program.apply("square", x)
    if e != int(e):
        raise ProgramError(f"the power {exponent!r} has no name: use tp.apply with a function of yours")
    return x.program.apply(functions.get("monomial", degree=int(e)), x)
