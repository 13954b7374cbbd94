"""The law at one input: means, second moments and scalars of every line (the profile pass).

One rule per instruction, SL Thm 4.3 with Moments (TP2): MatMul makes a fresh Gaussian of covariance
s^2 E[Z^h Z^h'], LinComb is bilinear, Nonlin is an expectation that factors over independent G-vars.
``None`` stands for a structural zero, known from the program's text alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.errors import LimitError
from tpnum.law import graph
from tpnum.law.expectation import Expectation, Piece, Ref
from tpnum.law.forms import Forms
from tpnum.program.lines import (
    Arith,
    Axes,
    Data,
    Input,
    LinComb,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Transpose,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.law.pairs import Pairs
    from tpnum.program import Program


class Lines:
    """A program without scans and transposes, indexed by the names that its lines make."""

    def __init__(self, program: Program):
        self.program = program
        self.vars = program.vars
        self.by_name: dict[str, object] = {}
        self.number: dict[str, int] = {}
        for number, line in enumerate(program.lines, 1):
            for name in line.names if isinstance(line, Input) else (line.name,):
                self.by_name[name] = line
                self.number[name] = number
            if isinstance(line, Transpose):
                raise LimitError(
                    f"line {number} ({line.name}) transposes a matrix: kernels and this limit are for programs "
                    "without transposes; the tangent program gives the NTK without any"
                )
        kinds = {name: var.kind for name, var in self.vars.items()}
        self.form = Forms(self.by_name, kinds, self.number)

    def matrix(self, name: str) -> Matrix:
        line = self.by_name[name]
        assert isinstance(line, Matrix)
        return line

    def axes(self, name: str) -> Axes:
        return self.vars[name].axes


class Site:
    """The profile rules of one program."""

    def __init__(self, lines: Lines):
        self.lines = lines
        self.pairs: Pairs | None = None  # set by Pairs, which stands on two sites
        self._memo: dict[tuple, graph.Profile | None] = {}
        self.keys: dict[tuple, graph.Profile] = {}

    # -- means ---------------------------------------------------------------------------------

    def mean(self, name: str) -> graph.Profile | None:
        return self._once(("mean", name), self._mean, name)

    def _mean(self, name: str) -> graph.Profile | None:
        line = self.lines.by_name[name]
        if isinstance(line, Input):
            return self._constant(line.mean[line.names.index(name)])
        if isinstance(line, MatMul):
            return None
        if isinstance(line, LinComb):
            return self._lincomb(("mean", name), line, self.mean)
        if isinstance(line, Map):
            inner = self.mean(line.operand)
            return inner and self._register(
                graph.Mapped1(("mean", name), self.lines.axes(name), operand=inner, map=line)
            )
        if isinstance(line, Nonlin):
            return self._expand(("mean", name), self.lines.form(name))
        raise self._no_rule(name)

    # -- second moments ------------------------------------------------------------------------

    def second(self, a: str, b: str, centred: bool = False) -> graph.Profile | None:
        """E[Z^a Z^b] (``centred``: minus the product of means, for G-vars)."""
        if self.lines.number[a] < self.lines.number[b]:
            a, b = b, a
        return self._once(("second", a, b, centred), self._second, a, b, centred)

    def cov(self, a: str, b: str) -> graph.Profile | None:
        return self.second(a, b, centred=True)

    def variance(self, name: str) -> graph.Profile:
        return self.cov(name, name) or self._register(graph.Constant(("zero",), (), value=0.0))

    def _second(self, a: str, b: str, centred: bool) -> graph.Profile | None:
        la, lb = self.lines.by_name[a], self.lines.by_name[b]
        key = ("second", a, b, centred)
        if isinstance(la, LinComb) or isinstance(lb, LinComb):
            if not isinstance(la, LinComb):
                a, b, la, lb = b, a, lb, la
            return self._lincomb(key, la, lambda vector: self.second(vector, b, centred))
        if isinstance(la, Map) or isinstance(lb, Map):
            return self._mapped(key, a, b, centred)
        if isinstance(la, Data) and isinstance(lb, Data):
            return self._register(graph.Norm(key, union(self.lines.axes(a), self.lines.axes(b)), data=(a, b)))
        if isinstance(la, Data) or isinstance(lb, Data):
            return None
        if isinstance(la, MatMul) and isinstance(lb, MatMul):
            if la.matrix != lb.matrix:
                return None
            inner = self.second(la.vector, lb.vector)
            return self.polynomial(key, [(self.lines.matrix(la.matrix).var, (inner,))] if inner else [])
        if isinstance(la, Input) and isinstance(lb, Input):
            value = 0.0
            if la is lb:
                value = la.cov[la.names.index(a)][la.names.index(b)]
            if not centred:
                value += la.mean[la.names.index(a)] * lb.mean[lb.names.index(b)]
            return self._constant(value)
        if centred:
            return None
        form = tuple(x.times(y) for x in self.lines.form(a) for y in self.lines.form(b))
        return self._expand(key, form)

    def _lincomb(
        self, key: tuple, line: LinComb, of: Callable[[str], graph.Profile | None]
    ) -> graph.Profile | None:
        terms = []
        for t in line.terms:
            factors = self.factors((t.scalar,) if t.scalar else ())
            inner = of(t.vector)
            if factors is not None and inner is not None:
                terms.append((t.coef, (*factors, inner)))
        return self.polynomial(key, terms)

    def _mapped(self, key: tuple, a: str, b: str, centred: bool) -> graph.Profile | None:
        """Gathered variances stay profiles; sums over positions need the covariances between positions."""
        line = self.lines.by_name[a]
        if a == b and isinstance(line, Map):
            inner = self.second(line.operand, line.operand, centred)
            if inner is None:
                return None
            gathers = all(len(row) <= 1 for row in line.rows)
            if gathers or self._pairs().independent(line.operand, line.operand, line.axis):
                squared = tuple(tuple((i, w * w) for i, w in row) for row in line.rows)
                square = Map(line.name, line.operand, line.axis, line.out, squared)
                return self._register(graph.Mapped1(key, self.lines.axes(a), operand=inner, map=square))
        axes = union(self.lines.axes(a), self.lines.axes(b))
        pair = self._pairs().second(a, b, tied=axes, centred=centred)
        return pair and self._register(graph.Reduced(key, axes, pair=pair))

    def _pairs(self) -> Pairs:
        assert self.pairs is not None
        return self.pairs

    # -- scalars -------------------------------------------------------------------------------

    def scalar(self, name: str) -> graph.Profile:
        value = self._once(("scalar", name), self._scalar, name)
        return value if value is not None else self._register(graph.Constant(("zero",), (), value=0.0))

    def _scalar(self, name: str) -> graph.Profile | None:
        line = self.lines.by_name[name]
        key = ("scalar", name)
        if isinstance(line, Arith):
            args = tuple(self.scalar(s) for s in line.scalars)
            return self._register(graph.Arithmetic(key, self.lines.axes(name), fn=line.fn, args=args))
        if isinstance(line, Map):
            inner = self.scalar(line.operand)
            return self._register(graph.Mapped1(key, self.lines.axes(name), operand=inner, map=line))
        if isinstance(line, Moment):
            return self._expand(key, self.lines.form.moment(line))
        raise self._no_rule(name)

    def factors(self, names: tuple[str, ...]) -> tuple[graph.Profile, ...] | None:
        """Scalars as factors of a product; None if one of them is a structural zero."""
        found = tuple(self._once(("scalar", name), self._scalar, name) for name in names)
        return None if None in found else found  # type: ignore[return-value]

    # -- expectations --------------------------------------------------------------------------

    def _expand(self, key: tuple, form: tuple) -> graph.Profile | None:
        terms: list[tuple[float, tuple[graph.Profile, ...]]] = []
        for monomial in form:
            scalars = self.factors(monomial.scalars)
            if scalars is None:
                continue
            pieces = Expectation(self).product([(0, atom) for atom in monomial.atoms])
            terms += [(monomial.coef * p.coef, (*scalars, *p.rows)) for p in pieces]
        return self.polynomial(key, terms)

    def ref_cov(self, a: Ref, b: Ref) -> graph.Profile | None:
        return self.cov(a[1], b[1])

    def site(self, index: int) -> Site:
        return self

    def joint(self, atoms: tuple, refs: list[Ref]) -> list[Piece]:
        """An expectation in more than one dimension at one input."""
        names = [ref[1] for ref in refs]
        key = ("joint", atoms, tuple(names))
        axes = union(*(self.lines.axes(n) for n in names))
        node = graph.ExpectN(
            key,
            axes,
            atoms=tuple((f, args, tuple(self.scalar(s) for s in scalars)) for _, f, args, scalars in atoms),
            means=tuple(self.mean(n) for n in names),
            cov=tuple(tuple(self.cov(a, b) for b in names) for a in names),
        )
        return [Piece(1.0, (self._register(node),), (), ())]

    def single(self, fn: object, what: str, name: str, scalars: tuple[str, ...]) -> graph.Profile | None:
        """E f(u), E f'(u), E f(u)^2 or E f'(u)^2 of one G-var."""
        key = ("single", fn, what, name, scalars)

        def make() -> graph.Profile:
            variance = self.variance(name)
            values = tuple(self.scalar(s) for s in scalars)
            axes = union(self.lines.axes(name), *(v.axes for v in values))
            return self._register(
                graph.Expect1(key, axes, fn=fn, what=what, mean=self.mean(name), var=variance, scalars=values)
            )

        return self._once(key, make)

    # -- nodes ---------------------------------------------------------------------------------

    def polynomial(self, key: tuple, terms: list) -> graph.Profile | None:
        terms = [(c, f) for c, f in terms if c != 0.0]
        if not terms:
            return None
        if len(terms) == 1 and terms[0][0] == 1.0 and len(terms[0][1]) == 1:
            return terms[0][1][0]
        axes = union(*(factor.axes for _, factors in terms for factor in factors))
        return self._register(graph.Polynomial(("poly", *key), axes, terms=tuple(terms)))

    def _constant(self, value: float) -> graph.Profile | None:
        return self._register(graph.Constant(("constant", value), (), value=value)) if value else None

    def _register(self, node: graph.Profile) -> graph.Profile:
        return self.keys.setdefault(node.key, node)

    def _once(self, key: tuple, make, *args) -> graph.Profile | None:
        if key not in self._memo:
            self._memo[key] = make(*args)
        return self._memo[key]

    def _no_rule(self, name: str) -> LimitError:
        line = self.lines.by_name[name]
        return LimitError(
            f"line {self.lines.number[name]} ({name}): {type(line).__name__} has no rule here; "
            "data enter through matrices only"
        )


def union(*several: Axes) -> Axes:
    """The axes of a broadcast, in order of first appearance."""
    merged: dict[str, int] = {}
    for axes in several:
        merged.update({name: size for name, size in axes if name not in merged})
    return tuple(merged.items())
