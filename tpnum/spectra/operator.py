"""A map v -> S v that a program writes: is it linear and symmetric, how is it applied to other vectors?

S is a sum of *words*, products of matrices, transposes and diagonal matrices diag(h) of vectors that do not
depend on v.  It is symmetric if the words read backwards, with transposes for matrices, are the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.errors import InputError, ProgramError
from tpnum.program import Program
from tpnum.program.lines import Arith, Input, LinComb, Line, MatMul, Moment, Nonlin, Transpose
from tpnum.program.text import made_by, place, used_by

if TYPE_CHECKING:
    from tpnum.program import Vector

Letter = tuple[Any, ...]
Word = tuple[tuple[Letter, ...], tuple[str, ...]]
"""Letters from the left, and the scalars that multiply them."""

WORDS = 20_000
"""More words than this are not spelled out."""

CLOSE = 1e-12


@dataclass(frozen=True)
class Operator:
    """A symmetric linear map that a program writes: ``result`` = S ``argument``."""

    program: Program
    argument: str
    result: str

    def __post_init__(self) -> None:
        reached = self._descendants()
        if self.result not in reached:
            raise InputError(f"operator: {self.result!r} does not depend on {self.argument!r}")
        object.__setattr__(self, "_reached", reached)
        for line in [*self.above(), *(line for _, line in self.lines())]:
            for name in made_by(line):
                if name in self.program.vars and self.program.vars[name].axes:
                    raise InputError(
                        f"operator: {name!r} has index axes; expand() the program and take one member"
                    )
        words = self.words()
        if words is not None:
            self._require_symmetric(words)
        if self.program.vars[self.result].dim != self.program.vars[self.argument].dim:
            raise ProgramError(
                f"operator: {self.result!r} is in {self.program.vars[self.result].dim!r}, "
                f"{self.argument!r} in "
                f"{self.program.vars[self.argument].dim!r}: a symmetric map keeps the CDC"
            )

    # --- reading

    def _descendants(self) -> set[str]:
        found = {self.argument}
        for line in self.program.lines:
            if any(name in found for name in used_by(line)):
                found.update(made_by(line))
        return found

    def lines(self) -> list[tuple[int, Any]]:
        """The lines that lead from the argument to the result, numbered."""
        needed = {self.result}
        kept = []
        numbered = list(enumerate(self.program.lines, 1))
        for number, line in reversed(numbered):
            made = set(made_by(line))
            if made & needed and made & self._own and not isinstance(line, Input):
                kept.append((number, line))
                needed |= set(used_by(line))
        return kept[::-1]

    def above(self) -> list[Line]:
        """The lines that the map stands on, in order, none of which depends on the argument."""
        needed: set[str] = set()
        for _, line in self.lines():
            needed |= set(used_by(line))
        kept = []
        for line in reversed(self.program.lines):
            made = set(made_by(line))
            if made & needed and not made & self._own:
                kept.append(line)
                needed |= set(used_by(line))
        return kept[::-1]

    @property
    def _own(self) -> set[str]:
        return self.__dict__["_reached"]

    def _refused(self, number: int, line: Line, why: str) -> ProgramError:
        return ProgramError(
            f"operator: {place(number, made_by(line)[0])} is not linear in {self.argument!r}: {why}"
        )

    def terms(self, number: int, line: Line) -> list[tuple[float, str, Letter | None, str]]:
        """A line as a sum of coefficient * letter * vector * scalar over vectors that depend on v."""
        own = self._own
        match line:
            case MatMul():
                return [(1.0, line.vector, self._matrix(line.matrix), "")]
            case LinComb():
                for t in line.terms:
                    if t.scalar in own:
                        raise self._refused(number, line, f"the coefficient {t.scalar!r} depends on it")
                    if t.vector not in own:
                        raise self._refused(number, line, f"{t.vector!r} is added to it")
                return [(t.coef, t.vector, None, t.scalar) for t in line.terms]
            case Nonlin():
                return self._nonlinear(number, line)
            case Moment() | Arith():
                raise self._refused(number, line, "a scalar of it is taken")
        raise self._refused(
            number, line, "it is no product, sum or multiple; write the map without index axes"
        )

    def _nonlinear(self, number: int, line: Nonlin) -> list[tuple[float, str, Letter | None, str]]:
        own, fn = self._own, line.fn
        mine = [a for a in line.args if a in own]
        if any(s in own for s in line.scalars):
            raise self._refused(number, line, f"a scalar of {fn} depends on it")
        if fn.product and len(mine) == 1:
            other = next(a for a in line.args if a not in own)
            return [(1.0, mine[0], ("diag", self.name_of(other)), "")]
        if fn.coefficients is not None and len(mine) == len(line.args):
            return [(c, a, None, "") for c, a in zip(fn.coefficients, line.args, strict=True)]
        params = dict(fn.params)
        if fn.name == "affine" and not fn.order and not params["constant"] and len(mine) == len(line.args):
            return [(float(c), a, None, "") for c, a in zip(params["coefs"], line.args, strict=True)]
        raise self._refused(number, line, f"{fn} of it is taken")

    def _matrix(self, name: str) -> Letter:
        for line in self.program.lines:
            if isinstance(line, Transpose) and line.name == name:
                return ("matrix", line.matrix, True)
        return ("matrix", name, False)

    def name_of(self, vector: str) -> Any:
        """A vector by what makes it, so that a function taken twice is one."""
        for line in self.program.lines:
            if isinstance(line, Nonlin) and line.name == vector:
                return (str(line.fn), tuple(self.name_of(a) for a in line.args), line.scalars)
            if isinstance(line, MatMul) and line.name == vector:
                return (f"{line.matrix} @ ..", self._matrix(line.matrix), self.name_of(line.vector))
        return vector

    # --- words

    def words(self) -> dict[Word, float] | None:
        """The map as a sum of words; None where these are too many."""
        spelled: dict[str, dict[Word, float]] = {self.argument: {((), ()): 1.0}}
        count = 1
        for number, line in self.lines():
            made: dict[Word, float] = {}
            for coef, vector, letter, scalar in self.terms(number, line):
                if count > WORDS:
                    spelled[vector] = {}
                for (letters, scalars), c in spelled[vector].items():
                    word = (
                        letters if letter is None else (letter, *letters),
                        scalars if not scalar else tuple(sorted((*scalars, scalar))),
                    )
                    made[word] = made.get(word, 0.0) + coef * c
            spelled[made_by(line)[0]] = made
            count += len(made)
        return None if count > WORDS else spelled[self.result]

    def _require_symmetric(self, words: dict[Word, float]) -> None:
        size = max(map(abs, words.values()), default=1.0)
        for (letters, scalars), c in words.items():
            back = tuple((x[0], x[1], not x[2]) if x[0] == "matrix" else x for x in reversed(letters))
            if abs(words.get((back, scalars), 0.0) - c) > CLOSE * size:
                number = next(
                    n for n, line in enumerate(self.program.lines, 1) if self.result in made_by(line)
                )
                raise ProgramError(
                    f"operator: {place(number, self.result)} is not symmetric in {self.argument!r}: it has "
                    f"{c:g} {_spelled(letters)}, and {words.get((back, scalars), 0.0):g} of its transpose "
                    f"{_spelled(back)}"
                )

    # --- writing

    def applied(self, to: Program, v: Vector, known: Callable[[str], Any]) -> Vector:
        """Append S v to a program that has all variables that do not depend on the argument."""
        made: dict[str, Any] = {self.argument: v}
        for _, line in self.lines():
            match line:
                case MatMul():
                    made[line.name] = to.matmul(known(line.matrix), made[line.vector])
                case LinComb():
                    terms = [
                        (known(t.scalar) * t.coef if t.scalar else t.coef, made[t.vector]) for t in line.terms
                    ]
                    made[line.name] = to.lincomb(terms)
                case Nonlin():
                    args = [made[a] if a in made else known(a) for a in line.args]
                    made[line.name] = to.apply(line.fn, *args, *(known(s) for s in line.scalars))
        return made[self.result]


def _spelled(letters: tuple[Letter, ...]) -> str:
    if not letters:
        return "1"
    names = []
    for x in letters:
        if x[0] == "matrix":
            names.append(x[1] + (".T" if x[2] else ""))
        else:
            names.append(f"diag({x[1] if isinstance(x[1], str) else x[1][0]})")
    return " ".join(names)
