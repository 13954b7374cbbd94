"""The normal form of an H-var: a polynomial in coordinatewise functions of G-vars.

h = sum_m coef_m * scalars_m * prod_k f_k(g...), every f_k an *atom*.  Products and sums of vectors are
multiplied out, so that expectations factor over independent G-vars (this is why the law of a tangent
program, whose lines are phi'(g) * g., needs no rule of its own); any other function of an H-var becomes
one composite function of the G-vars underneath (substitution down to G-vars, SL sec. 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpnum.errors import LimitError
from tpnum.functions import Function, get
from tpnum.law.substitution import substitute
from tpnum.program.lines import Input, LinComb, Moment, Nonlin


@dataclass(frozen=True, slots=True)
class Atom:
    """f(args; scalars), the args being G-vars."""

    fn: Function
    args: tuple[str, ...]
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Monomial:
    """coef * product of scalars * product of atoms."""

    coef: float
    scalars: tuple[str, ...] = ()
    atoms: tuple[Atom, ...] = ()

    def times(self, other: Monomial) -> Monomial:
        return Monomial(self.coef * other.coef, self.scalars + other.scalars, self.atoms + other.atoms)


Form = tuple[Monomial, ...]
IDENTITY = get("identity")
MUL = get("mul")
SQUARE = get("square")


class Forms:
    """Normal forms of the vectors of one program, each computed once."""

    def __init__(self, lines: dict[str, object], kinds: dict[str, str], numbers: dict[str, int]):
        self._lines, self._kinds, self._numbers = lines, kinds, numbers
        self._memo: dict[str, Form] = {}

    def __call__(self, name: str) -> Form:
        if name not in self._memo:
            self._memo[name] = self._form(name)
        return self._memo[name]

    def moment(self, line: Moment) -> Form:
        """The normal form of the function that a Moment averages."""
        return self._nonlin(line)

    def _form(self, name: str) -> Form:
        line = self._lines[name]
        if isinstance(line, LinComb) and self._kinds[name] == "H":
            return tuple(
                Monomial(term.coef, (term.scalar,) if term.scalar else ()).times(inner)
                for term in line.terms
                for inner in self(term.vector)
            )
        if isinstance(line, Nonlin):
            return self._nonlin(line)
        if self._kinds[name] == "H":
            raise LimitError(
                f"line {self._numbers[name]} ({name}): a nonlinearity of a sum over index positions of an "
                "H-var has no two-dimensional limit law; put a matrix product between the two"
            )
        if isinstance(line, Input) and not any(map(any, line.cov)):
            return (Monomial(line.mean[line.names.index(name)]),)
        return (Monomial(1.0, (), (Atom(IDENTITY, (name,)),)),)

    def _nonlin(self, line: Nonlin | Moment) -> Form:
        if line.fn == MUL:
            left, right = (self(arg) for arg in line.args)
            return tuple(a.times(b) for a in left for b in right)
        if line.fn == SQUARE:
            inner = self(line.args[0])
            return tuple(a.times(b) for a in inner for b in inner)
        if line.fn == IDENTITY:
            return self(line.args[0])
        if all(self._kinds[arg] == "G" for arg in line.args):
            return (Monomial(1.0, (), (Atom(line.fn, line.args, line.scalars),)),)
        return (Monomial(1.0, (), (self._composite(line),)),)

    def _composite(self, line: Nonlin | Moment) -> Atom:
        """One function of the distinct G-vars under the arguments of ``line``."""
        leaves: list[str] = []
        scalars: list[str] = []

        def slot(items: list[str], name: str) -> int:
            if name not in items:
                items.append(name)
            return items.index(name)

        inner = []
        for arg in line.args:
            inner.append(
                tuple(
                    (
                        m.coef,
                        tuple(slot(scalars, s) for s in m.scalars),
                        tuple(
                            (a.fn, tuple(slot(leaves, g) for g in a.args), tuple(slot(scalars, s) for s in a.scalars))
                            for a in m.atoms
                        ),
                    )
                    for m in self(arg)
                )
            )
        outer_scalars = tuple(slot(scalars, s) for s in line.scalars)
        fn = substitute(line.fn, tuple(inner), outer_scalars, arity=len(leaves), n_scalars=len(scalars))
        return Atom(fn, tuple(leaves), tuple(scalars))
