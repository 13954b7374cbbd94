"""The law at one input: means, second moments and scalars of every line (the profile pass).

One rule per instruction, SL Thm 4.3 with Moments (TP2): MatMul makes a fresh Gaussian of covariance
s^2 E[Z^h Z^h'], LinComb is bilinear, Nonlin is an expectation that factors over independent G-vars.
``None`` stands for a structural zero, known from the program's text alone.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.functions import Function
from tpnum.law import along, graph
from tpnum.law.carried import States
from tpnum.law.expectation import Expectation, Piece, Placed, Ref, factors, shared, where
from tpnum.law.forms import Atom, Form, Monomial
from tpnum.law.price import NoRule
from tpnum.law.worklist import once
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Axes,
    Data,
    Delay,
    Input,
    Known,
    LinComb,
    Map,
    MatMul,
    Moment,
    Nonlin,
    Softmax,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.law.expectation import Side
    from tpnum.law.lines import Lines
    from tpnum.law.pairs import Pairs
    from tpnum.law.price import Purse


def _inverse(q: np.ndarray) -> np.ndarray:
    return np.divide(1.0, q, out=np.zeros_like(q), where=q > 0)


INVERSE = Function.from_callable(_inverse)


class Site:
    """The profile rules of one program."""

    def __init__(self, lines: Lines, states: States | None = None):
        self.lines = lines
        self.states = states or States()
        self.pairs: Pairs | None = None  # set by Pairs, which stands on two sites
        self.purse: Purse | None = None  # pays for joint expectations, None where they may cost anything
        self._memo: dict[graph.Key, graph.Profile | None] = {}
        self.keys: dict[graph.Key, graph.Profile] = {}

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
            if inner is None:
                return None
            return self._register(
                graph.Mapped1(("mean", name), self.lines.axes(name), operand=inner, map=line)
            )
        if isinstance(line, Delay):
            known = self.states.mean(("mean", name), line, lambda: self.mean(line.family))
            return known and self._register(known)
        if isinstance(line, Nonlin):
            return self._expand(("mean", name), self.lines.form(name))
        if isinstance(line, Attend) and self.mean(line.vector) is None:
            return None
        if (
            isinstance(line, Along)
            and line.kind.startswith("normalise")
            and all(map(self._symmetric, line.args))
        ):
            return None
        raise self._no_rule(name)

    def _symmetric(self, name: str) -> bool:
        """Whether a vector is Gaussian without a mean: odd functions of such ones have none."""
        return self.lines.program.vars[name].kind == "G" and self.mean(name) is None

    # -- second moments ------------------------------------------------------------------------

    def second(self, a: str, b: str, centred: bool = False) -> graph.Profile | None:
        """E[Z^a Z^b] (``centred``: minus the product of means, for G-vars)."""
        if self.lines.number[a] < self.lines.number[b]:
            a, b = b, a
        return self._once(("second", a, b, centred), self._second, a, b, centred)

    def cov(self, a: str, b: str) -> graph.Profile | None:
        return self.second(a, b, centred=True)

    def variance(self, name: str) -> graph.Profile:
        return self.cov(name, name) or self.zero()

    def inverse_variance(self, name: str) -> graph.Profile:
        """1/q, zero where q is."""
        q = self.variance(name)
        return self._register(graph.Arithmetic(("inverse", *q.key), q.axes, fn=INVERSE, args=(q,)))

    def zero(self) -> graph.Profile:
        return self._register(graph.Constant(("zero",), (), value=0.0))

    def _second(self, a: str, b: str, centred: bool) -> graph.Profile | None:
        la, lb = self.lines.by_name[a], self.lines.by_name[b]
        key = ("second", a, b, centred)
        if a != b and self.lines.apart(a, b):
            if centred:
                return None
            means = [mean for mean in (self.mean(a), self.mean(b)) if mean is not None]
            return self.polynomial(key, [(1.0, tuple(means))] if len(means) == 2 else [])
        if isinstance(la, LinComb) or isinstance(lb, LinComb):
            line, other = (la, b) if isinstance(la, LinComb) else (lb, a)
            assert isinstance(line, LinComb)
            return self._lincomb(key, line, lambda vector: self.second(vector, other, centred))
        if isinstance(la, Delay) and a == b:
            return self._register(
                self.states.moment(key, la, lambda: self.second(la.family, la.family) or self.zero())
            )
        if isinstance(la, Map | Delay) or isinstance(lb, Map | Delay):
            return self._mapped(key, a, b, centred)
        if isinstance(la, Attend) or isinstance(lb, Attend):
            return self._reduced(key, a, b, centred)
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
        self, key: graph.Key, line: LinComb, of: Callable[[str], graph.Profile | None]
    ) -> graph.Profile | None:
        terms = []
        for t in line.terms:
            factors = self.factors((t.scalar,) if t.scalar else ())
            inner = of(t.vector)
            if factors is not None and inner is not None:
                terms.append((t.coef, (*factors, inner)))
        return self.polynomial(key, terms)

    def _mapped(self, key: graph.Key, a: str, b: str, centred: bool) -> graph.Profile | None:
        """Gathered variances stay profiles; sums over positions need the covariances between positions."""
        line = self.lines.by_name[a]
        if a == b and isinstance(line, Map):
            inner = self.second(line.operand, line.operand, centred)
            if inner is None:
                return None
            gathers = all(len(row) <= 1 for row in line.rows)
            if gathers or self.own_pairs().independent(line.operand, line.operand, line.axis):
                squared = tuple(tuple((i, w * w) for i, w in row) for row in line.rows)
                square = Map(line.name, line.operand, line.axis, line.out, squared)
                return self._register(graph.Mapped1(key, self.lines.axes(a), operand=inner, map=square))
        return self._reduced(key, a, b, centred)

    def _reduced(self, key: graph.Key, a: str, b: str, centred: bool) -> graph.Profile | None:
        """The p = p' entries of the pair of two lines at one input."""
        axes = union(self.lines.axes(a), self.lines.axes(b))
        pair = self.own_pairs().second(a, b, tied=axes, centred=centred)
        return self._register(graph.Reduced(key, axes, pair=pair)) if pair is not None else None

    def within(self, key: graph.Key, pair: graph.Pair, tied: Axes, rows: Axes, cols: Axes) -> graph.Within:
        """A pair node of one input with itself, at all of its entries."""
        axes = (*tied, *rows, *((f"{name}'", size) for name, size in cols))
        made = self._register(graph.Within(("within", *key), axes, pair=pair))
        assert isinstance(made, graph.Within)
        return made

    # -- scalars -------------------------------------------------------------------------------

    def scalar(self, name: str) -> graph.Profile:
        value = self._once(("scalar", name), self._scalar, name)
        return value if value is not None else self.zero()

    def _scalar(self, name: str) -> graph.Profile | None:
        line = self.lines.by_name[name]
        key = ("scalar", name)
        if isinstance(line, Known):
            return self._register(graph.Given(key, self.lines.axes(name), name=name))
        if isinstance(line, Arith):
            args = tuple(self.scalar(s) for s in line.scalars)
            return self._register(graph.Arithmetic(key, self.lines.axes(name), fn=line.fn, args=args))
        if isinstance(line, Softmax):
            weights = self.scalar(line.weights) if line.weights else None
            made = graph.Softmax(key, self.lines.axes(name), self.scalar(line.scalar), line.over, weights)
            return self._register(made)
        if isinstance(line, Map):
            inner = self.scalar(line.operand)
            return self._register(graph.Mapped1(key, self.lines.axes(name), operand=inner, map=line))
        if isinstance(line, Moment):
            return self._expand(key, self.lines.form.moment(line))
        raise self._no_rule(name)

    def factors(self, names: tuple[str, ...]) -> tuple[graph.Profile, ...] | None:
        """Scalars as factors of a product; None if one of them is a structural zero."""
        found: list[graph.Profile] = []
        for name in names:
            factor = self._once(("scalar", name), self._scalar, name)
            if factor is None:
                return None
            found.append(factor)
        return tuple(found)

    # -- expectations --------------------------------------------------------------------------

    def _expand(self, key: graph.Key, form: Form) -> graph.Profile | None:
        terms: list[tuple[float, tuple[graph.Profile, ...]]] = []
        for monomial in form:
            scalars = self.factors(monomial.scalars)
            if scalars is None:
                continue
            pieces = Expectation(self).product([(0, atom) for atom in monomial.atoms])
            terms += [(monomial.coef * p.coef, (*scalars, *p.rows)) for p in pieces]
        return self.polynomial(key, terms)

    def expectation(self, *atoms: Atom) -> graph.Profile | None:
        """The expectation of a product of functions of G-vars; None is a structural zero."""
        return self._once(("expect", *atoms), self._expand, ("expect", *atoms), (Monomial(1.0, (), atoms),))

    def ref_cov(self, a: Ref, b: Ref) -> graph.Profile | None:
        return self.cov(a[1], b[1])

    def site(self, index: int) -> Site:
        return self

    def dual(self, refs: tuple[Ref, Ref], sides: tuple[Side, Side]) -> Piece:
        """E f(u) g(v) of two G-vars at one input."""
        (_, a), (_, b) = refs
        (f, fs), (g, gs) = sides
        f, g, what = shared(f, g)
        key = ("dual", a, b, f, g, fs, gs, what)
        if key not in self.keys:
            cov = self.cov(a, b)
            assert cov is not None
            first, second = self._marginal(f, a, fs), self._marginal(g, b, gs)
            used = (*first.scalars, *second.scalars)
            axes = union(self.lines.axes(a), self.lines.axes(b), *(s.axes for s in used))
            self._register(graph.Expect2(key, axes, sides=(first, second), cov=cov, what=what))
        return Piece(1.0, (self.keys[key],))

    def joint(self, atoms: list[Placed], refs: list[Ref]) -> Piece:
        """An expectation in more than two dimensions at one input, or of functions of several G-vars."""
        names = tuple(name for _, name in refs)
        made = factors(self, atoms, refs)
        key = ("joint", *names, *((f.fn, f.args, a.scalars) for f, a in zip(made, atoms, strict=True)))
        node = graph.ExpectN(
            key,
            union(*(self.lines.axes(n) for n in names), *(s.axes for f in made for s in f.scalars)),
            names=names,
            factors=made,
            means=tuple(self.mean(n) for n in names),
            cov=tuple(tuple(self.cov(a, b) for b in names) for a in names),
            where=where(self, atoms, refs),
        )
        if self.purse is not None and key not in self.keys:
            entries = prod(size for _, size in node.axes)
            self.purse.joint(key, len(self.lines.bases(names)), [f.fn for f in made], entries, node.where)
        return Piece(1.0, (self._register(node),))

    def along(self, atoms: list[Placed]) -> list[Piece]:
        """An expectation of functions along axes at one input: the p = p' entries of one at two."""
        left, right = along.halves(atoms, self.lines)
        axes = union(*(self.lines.axes(atom.args[0][1]) for atom in atoms))
        key = ("along", *((a.fn, a.args[0][1]) for a in left), "and", *((a.fn, a.args[0][1]) for a in right))
        found = along.pair(self.own_pairs(), axes, (left, right))
        if found is None:
            return []
        coef, node = found
        return [Piece(coef, (self._register(graph.Reduced(key, axes, pair=node)),))]

    def own_pairs(self) -> Pairs:
        """The rules at this input and itself."""
        assert self.pairs is not None
        return self.pairs

    def single(self, fn: Function, what: str, name: str, scalars: tuple[str, ...]) -> graph.Profile:
        """E f(u), E f'(u), E f(u)^2 or E f'(u)^2 of one G-var."""
        key = ("single", fn, what, name, scalars)
        if key not in self.keys:
            side = self._marginal(fn, name, scalars)
            axes = union(self.lines.axes(name), *(s.axes for s in side.scalars))
            self._register(
                graph.Expect1(key, axes, fn=fn, what=what, mean=side.mean, var=side.var, scalars=side.scalars)
            )
        return self.keys[key]

    def _marginal(self, fn: Function, name: str, scalars: tuple[str, ...]) -> graph.Marginal:
        values = tuple(self.scalar(s) for s in scalars)
        return graph.Marginal(fn, self.mean(name), self.variance(name), values)

    # -- nodes ---------------------------------------------------------------------------------

    def polynomial(
        self, key: graph.Key, terms: list[tuple[float, tuple[graph.Profile, ...]]]
    ) -> graph.Profile | None:
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

    def own(self, node: graph.Profile) -> graph.Profile:
        """This side's node of the same key (the shapes of two inputs may differ)."""
        return self.keys.get(node.key, node)

    def _once(
        self, key: graph.Key, make: Callable[..., graph.Profile | None], *args: Any
    ) -> graph.Profile | None:
        return once(self._memo, key, make, *args)

    def _no_rule(self, name: str) -> LimitError:
        kind = type(self.lines.by_name[name]).__name__
        only = "data enter through matrices only"
        other = "put a layer with weights between it and what reads it"
        advice = only if kind == "Data" else other
        error = LimitError if kind == "Data" else NoRule
        return error(f"{self.lines.where(name)}: {kind} has no rule here; {advice}")


def union(*several: Axes) -> Axes:
    """The axes of a broadcast, in order of first appearance."""
    merged: dict[str, int] = {}
    for axes in several:
        merged.update({name: size for name, size in axes if name not in merged})
    return tuple(merged.items())
