"""The normal form of an H-var: a polynomial in coordinatewise functions of G-vars.

h = sum_m coef_m * scalars_m * prod_k f_k(g...), every f_k an *atom*.  Products and sums of vectors are
multiplied out, so that expectations factor over independent G-vars (this is why the law of a tangent
program, whose lines are phi'(g) * g., needs no rule of its own); any other function of an H-var becomes
one composite function of the G-vars underneath (substitution down to G-vars, SL sec. 4).  A function along
axes stands among them as a G-var does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tpnum.functions import Function, get
from tpnum.law.price import NoRule
from tpnum.law.substitution import Factor, Inner, Slots, substitute
from tpnum.law.worklist import once
from tpnum.program.lines import Along, Input, LinComb, MatMul, Matrix, Moment, Nonlin

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.program.lines import Line


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


Form: TypeAlias = tuple[Monomial, ...]
IDENTITY = get("identity")
MUL = get("mul")
SQUARE = get("square")


class Forms:
    """Normal forms of the vectors of one program, each computed once."""

    def __init__(self, lines: dict[str, Line], kinds: dict[str, str], where: Callable[[str], str]):
        self._lines, self._kinds, self._where = lines, kinds, where
        self._memo: dict[str, Form] = {}
        self.makers: dict[Atom, str] = {}  # the line that first has a function of several, or of sums

    def __call__(self, name: str) -> Form:
        return once(self._memo, name, self._form, name)

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
        if isinstance(line, Along):
            return (Monomial(1.0, (), (Atom(IDENTITY, (name,)),)),)
        if self._kinds[name] == "H":
            raise NoRule(
                f"{self._where(name)}: a nonlinearity of a sum over index positions of an "
                "H-var has no two-dimensional limit law; put a matrix product between the two"
            )
        if isinstance(line, Input) and not any(map(any, line.cov)):
            return (Monomial(line.mean[line.names.index(name)]),)
        if isinstance(line, MatMul) and self._still(line.matrix):
            return ()
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
            if len(line.args) > 1:
                self.makers.setdefault(Atom(line.fn, line.args, line.scalars), line.name)
            return (Monomial(1.0, (), (Atom(line.fn, line.args, line.scalars),)),)
        bare = [_bare(self(arg)) for arg in line.args]
        if all(bare):  # what was added to them is zero
            return (Monomial(1.0, (), (Atom(line.fn, tuple(bare), line.scalars),)),)
        made = self._composite(line)
        self.makers.setdefault(made, line.name)
        return (Monomial(1.0, (), (made,)),)

    def _still(self, matrix: str) -> bool:
        """Whether a matrix is zero, as one is that only its direction needs."""
        line = self._lines[matrix]
        return isinstance(line, Matrix) and line.var == 0.0

    def _composite(self, line: Nonlin | Moment) -> Atom:
        """One function of the distinct G-vars under the arguments of ``line``."""
        leaves: list[str] = []
        scalars: list[str] = []

        def slots(items: list[str], names: tuple[str, ...]) -> Slots:
            items += [name for name in dict.fromkeys(names) if name not in items]
            return tuple(items.index(name) for name in names)

        def polynomial(form: Form) -> Inner:
            return tuple(
                (m.coef, slots(scalars, m.scalars), tuple(factor(atom) for atom in m.atoms)) for m in form
            )

        def factor(atom: Atom) -> Factor:
            return atom.fn, slots(leaves, atom.args), slots(scalars, atom.scalars)

        inner = tuple(polynomial(self(arg)) for arg in line.args)
        if not leaves:  # constants all: a function of a vector nevertheless
            leaves.append(self._below(line.args[0]))
        outer_scalars = slots(scalars, line.scalars)
        fn = substitute(line.fn, inner, outer_scalars, arity=len(leaves), n_scalars=len(scalars))
        return Atom(fn, tuple(leaves), tuple(scalars))

    def _below(self, name: str) -> str:
        """A G-var that a vector is made of."""
        while self._kinds[name] != "G":
            line = self._lines[name]
            if isinstance(line, LinComb):
                name = line.terms[0].vector
            else:
                assert isinstance(line, Nonlin)
                name = line.args[0]
        return name


def _bare(form: Form) -> str:
    """The G-var that a form is, "" if it is anything else."""
    if len(form) == 1 and form[0].coef == 1.0 and not form[0].scalars and len(form[0].atoms) == 1:
        (atom,) = form[0].atoms
        return atom.args[0] if atom.fn == IDENTITY else ""
    return ""
