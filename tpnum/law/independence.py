"""When A^T may be treated as independent of A: the gradient independence check, on a program's text.

Backward lines multiply by transposes.  With an independent copy in the place of A^T (the *gradient
independence assumption*) a program has the law of one without transposes (SL Thm 4.3); that this is its
true law follows (SL Thm 5.1, TP2) from four conditions on the text:

1. the gradient seeds are input G-vars, zero-mean, jointly independent of all other inputs, and used
   nowhere in the forward part;
2. A^T appears only in lines that descend from seeds;
3. every vector that descends from seeds is odd in the seeds jointly, every scalar even or constant;
4. no forward vector descends from a seed.

Then E[d Z^y / d Zhat^{A x}] = 0 for every backward y, and every correction of the general limit vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from tpnum.program.along import ALONG
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Input,
    LinComb,
    Map,
    MatMul,
    Moment,
    Nonlin,
    Softmax,
    Transpose,
)
from tpnum.program.parts import sources
from tpnum.program.text import line_text, made_by, place, used_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tpnum.functions import Function
    from tpnum.program import Program
    from tpnum.program.lines import Line

CONDITIONS = {
    1: "gradient seeds are zero-mean input G-vars, independent of all other inputs and unused forward",
    2: "a transpose appears only in lines that descend from seeds",
    3: "what descends from seeds is odd in them, scalars even",
    4: "no forward vector descends from a seed",
}

CONSTANT, EVEN, ODD, NEITHER, ZERO = None, 1, -1, 0, 2
"""Parities in the seeds jointly.  What does not descend from a seed is constant; averages of what is odd
vanish in the limit, and with them their products, as do vectors of zeros: zero is odd and even."""


MOST_TRIED = 64
"""Choices of the seeds."""


@dataclass(frozen=True)
class Verdict:
    """Whether gradients may be treated as independent of the forward weights.

    ``line`` and ``name`` are the first offending line where they may not, ``condition`` the number of
    the broken condition (`CONDITIONS`), ``reason`` one sentence that quotes the line.
    """

    holds: bool
    reason: str
    seeds: tuple[str, ...] = ()
    line: int | str | None = None
    name: str = ""
    condition: int | None = None

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        return self.reason


def independence(program: Program, written: Program | None = None) -> Verdict:
    """The verdict for a program without scans; families are judged line by line.

    Messages quote the lines of ``written``, the program that it was derived from.
    """
    return _Check(program, written or program).verdict()


class _Check:
    def __init__(self, program: Program, written: Program) -> None:
        self.written = written
        self.sources = sources(program, written)
        self.lines = program.lines
        self.maker: dict[str, Line] = {name: line for line in self.lines for name in made_by(line)}
        self.number = {name: k for k, line in enumerate(self.lines, 1) for name in made_by(line)}
        self._names: list[str] = []  # random input G-vars
        self._behind_it: dict[str, int] = {}  # those behind a vector or scalar, as bits
        for line in self.lines:
            self._trace(line)

    def verdict(self) -> Verdict:
        backward = self._backward()
        if not backward:
            return Verdict(True, "no matrix is used together with its transpose: nothing to assume")
        forward = self._forward_operands(backward)
        first = self._seeds(forward)
        for line in backward:
            if not self.ancestors(line.vector) & first:
                return self._blame(line, self.ancestors(line.vector), forward)
        seeds, broken = self._odd(first, backward)
        if broken is not None:
            return broken
        return Verdict(
            True,
            f"proven from the text: the seeds {', '.join(sorted(seeds))} are independent of the forward part "
            "and everything that descends from them is odd in them",
            tuple(sorted(seeds)),
        )

    def _odd(
        self, first: frozenset[str], backward: Sequence[MatMul]
    ) -> tuple[frozenset[str], Verdict | None]:
        """Some of the seeds in which everything behind ``backward`` is odd, or why there are none.

        Not every input that may be a seed is one: what enters after the last forward product of a net
        (the last input of a recurrence, a gate) meets condition 1 too.
        """
        broken: Verdict | None = None
        todo = [first]
        tried: set[frozenset[str]] = set()
        while todo and len(tried) < MOST_TRIED:
            seeds = todo.pop()
            if seeds in tried or any(not self.ancestors(line.vector) & seeds for line in backward):
                continue
            tried.add(seeds)
            found = self._parities(seeds)
            if found is None:
                return seeds, None
            line, parity, broken = found
            behind = self.ancestors(made_by(line)[0]) & seeds
            last_first = sorted(behind, key=self.number.__getitem__, reverse=True)
            parts = [frozenset([name]) for name in last_first] if parity == EVEN else [behind]
            todo += [self._untied(seeds - part) for part in parts]
        return first, broken

    # --- the two directions of a matrix

    def _root(self, matrix: str) -> tuple[str, bool]:
        line = self.maker[matrix]
        return (line.matrix, True) if isinstance(line, Transpose) else (matrix, False)

    def _products(self) -> Iterable[MatMul]:
        return (line for line in self.lines if isinstance(line, MatMul))

    def _backward(self) -> list[MatMul]:
        """Products in the direction that a matrix is not used in at first, for matrices used in both."""
        first: dict[str, bool] = {}
        back = []
        for line in self._products():
            root, transposed = self._root(line.matrix)
            if first.setdefault(root, transposed) != transposed:
                back.append(line)
        return back

    def _forward_operands(self, backward: Sequence[MatMul]) -> list[MatMul]:
        """Products of the same matrices in their first direction."""
        both = {self._root(line.matrix)[0] for line in backward}
        back = {line.name for line in backward}
        return [
            line for line in self._products() if self._root(line.matrix)[0] in both and line.name not in back
        ]

    # --- descent

    def _trace(self, line: Line) -> None:
        if isinstance(line, Input):
            for k, name in enumerate(line.names):
                self._behind_it[name] = 0
                if line.cov[k][k] > 0:
                    self._behind_it[name] = 1 << len(self._names)
                    self._names.append(name)
            return
        mask = 0
        for used in used_by(line):
            mask |= self._behind_it[used]
        for name in made_by(line):
            self._behind_it[name] = mask

    def ancestors(self, name: str) -> frozenset[str]:
        """The random input G-vars behind a vector or scalar."""
        bits = reversed(bin(self._behind_it[name])[2:])
        return frozenset(n for n, bit in zip(self._names, bits, strict=False) if bit == "1")

    # --- seeds

    def _inputs(self) -> Iterable[tuple[Input, int, str]]:
        for line in self.lines:
            if isinstance(line, Input):
                for k, name in enumerate(line.names):
                    if line.cov[k][k] > 0:
                        yield line, k, name

    def _seeds(self, forward: Sequence[MatMul]) -> frozenset[str]:
        """The input G-vars that meet condition 1; those behind a forward operand are none (condition 4)."""
        used = frozenset().union(*(self.ancestors(line.vector) for line in forward))
        return self._untied(
            frozenset(name for line, k, name in self._inputs() if name not in used and line.mean[k] == 0)
        )

    def _untied(self, seeds: frozenset[str]) -> frozenset[str]:
        """Those of ``seeds`` that are not correlated with other inputs."""
        while True:
            tied = {
                name
                for line, k, name in self._inputs()
                if name in seeds
                and any(
                    c and other not in seeds
                    for c, other, mean in zip(line.cov[k], line.names, line.mean, strict=True)
                    if other != name
                )
            }
            if not tied:
                return seeds
            seeds -= tied

    def _blame(self, line: MatMul, behind: frozenset[str], forward: Sequence[MatMul]) -> Verdict:
        """Why the operand of a backward product has no seed behind it."""
        users = {name: f for f in reversed(forward) for name in self.ancestors(f.vector)}
        root, _ = self._root(line.matrix)
        for maker, k, name in self._inputs():
            if name in behind and name not in users:
                wrong = (
                    f"has mean {maker.mean[k]:g}"
                    if maker.mean[k]
                    else "is correlated with one that is no seed"
                )
                return self._broken(line, 1, f"its input {name!r} {wrong}")
        later = self._later(line, forward)
        if later is not None:
            operand = f"{later.vector!r}, the forward operand of {self._place(later.name)}"
            return self._broken(line, 4, f"{operand}, descends from it")
        source = "from no random input"
        if behind:
            used = sorted(behind)[0]
            source = f"only from {used!r}, which is used forward in {self._place(users[used].name)}"
        return self._broken(line, 2, f"it multiplies by the transpose of {root!r} and descends {source}")

    def _later(self, line: MatMul, forward: Sequence[MatMul]) -> MatMul | None:
        """The first forward product whose operand descends from the backward product ``line``."""
        reach = {line.name}
        for other in self.lines:
            if any(n in reach for n in used_by(other)):
                reach.update(made_by(other))
        return next((f for f in forward if f.vector in reach), None)

    # --- parity

    def _parities(self, seeds: frozenset[str]) -> tuple[Line, int | None, Verdict] | None:
        """The first line behind a backward product that has not the parity that condition 3 asks for."""
        parity: dict[str, int | None] = {}
        operands = {line.vector for line in self._backward()}
        wanted = {name for operand in operands for name in self._behind(operand)}
        for line in self.lines:
            for name in made_by(line):
                parity[name] = self._parity(line, name in seeds, parity)
                fine = (CONSTANT, ZERO, ODD) if name in operands else (CONSTANT, ZERO, ODD, EVEN)
                if name in wanted and parity[name] not in fine:
                    what = (
                        "an even function" if parity[name] == EVEN else "neither an odd nor an even function"
                    )
                    behind = ", ".join(sorted(self.ancestors(name) & seeds))
                    return line, parity[name], self._broken(line, 3, f"{name!r} is {what} of {behind}")
        return None

    def _behind(self, name: str) -> set[str]:
        """A variable and everything that it is made of."""
        found, todo = set(), [name]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += used_by(self.maker[one])
        return found

    def _parity(self, line: Line, seed: bool, known: dict[str, int | None]) -> int | None:
        match line:
            case Input():
                if seed:
                    return ODD
                return ZERO if not any(line.mean) and not any(map(any, line.cov)) else CONSTANT
            case MatMul():
                return known[line.vector]
            case Map():
                return known[line.operand]
            case LinComb():
                terms = {_times([known[n] for n in (t.vector, t.scalar) if n]) for t in line.terms}
                terms = terms - {ZERO} or {ZERO}
                return terms.pop() if len(terms) == 1 else NEITHER
            case Nonlin() | Moment():
                made = _applied(line.fn, [known[a] for a in line.args], [known[s] for s in line.scalars])
                return ZERO if made == ODD and isinstance(line, Moment) else made
            case Arith():
                return _applied(line.fn, (), [known[s] for s in line.scalars])
            case Along():
                return _along(line, [known[a] for a in line.args])
            case Softmax():
                parities = {known[s] for s in used_by(line)} - {CONSTANT, ZERO}
                return (EVEN if parities == {EVEN} else NEITHER) if parities else CONSTANT
            case Attend():
                parities = {known[s] for s in used_by(line)} - {CONSTANT, ZERO}
                return (EVEN if parities == {EVEN} else NEITHER) if parities else CONSTANT
        return CONSTANT

    def _place(self, name: str) -> str:
        return place(self.sources[name][0], name)

    def _broken(self, line: Line, condition: int, why: str) -> Verdict:
        name = made_by(line)[0]
        label, source = self.sources[name]
        return Verdict(
            False,
            f"{self._place(name)}: {why}; broken: {condition}. {CONDITIONS[condition]}\n"
            f"{line_text(source, label, self.written.vars)}",
            line=int(label) if label.isdigit() else label,
            name=name,
            condition=condition,
        )


def _times(parities: Sequence[int | None]) -> int | None:
    real = [p for p in parities if p is not CONSTANT]
    return ZERO if ZERO in real else prod(real) if real else CONSTANT


def _along(line: Along, args: Sequence[int | None]) -> int | None:
    """The parity of a function along axes: derivatives are linear in their direction."""
    x, *direction = args
    if ZERO in direction:
        return ZERO
    if x in (CONSTANT, ZERO):
        return direction[0] if direction else CONSTANT
    if x == ODD and not direction:
        return ODD if ALONG[line.kind].odd else NEITHER
    return EVEN if x == EVEN and set(direction) <= {CONSTANT, EVEN} else NEITHER


def _applied(fn: Function, args: Sequence[int | None], scalars: Sequence[int | None]) -> int | None:
    """The parity of fn(args; scalars): each odd argument flips by fn's parity in it alone."""
    if fn.record.product and not fn.order and ZERO in (*args, *scalars):
        return ZERO
    linear = fn.record.coefficients is not None and not fn.order
    if args and not scalars and all(p == ZERO for p in args) and (linear or fn.parity == ODD):
        return ZERO
    if linear:
        args = [p for p in args if p != ZERO]
    args, scalars = ([CONSTANT if p == ZERO else p for p in group] for group in (args, scalars))
    if all(p is CONSTANT for p in (*args, *scalars)):
        return CONSTANT
    if ODD in scalars or NEITHER in (*args, *scalars):
        return NEITHER
    odd = [i for i, p in enumerate(args) if p == ODD]
    if not odd:
        return EVEN
    if fn.product:
        return _times(args)
    if linear:
        return ODD if len(odd) == len(args) else NEITHER
    if len(odd) == len(args) and fn.parity:
        return int(fn.parity)
    return prod(fn.parities[i] for i in odd)
