"""From a plan without index axes to a program for the machine (`tpnum.kernels.machine`).

A node whose 1 - rho matters (what a dual reads) is a value of co-correlations, everything else
a plain covariance.  A dense layer behind a nonlinearity, with its tangent kernel, is one or three
instructions; sums, products and residual branches are spelled out.  Values never change, so any number of
readers may ask for one; which of them share a register is found afterwards (`tpnum.lower.assembler`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.law.worklist import postorder
from tpnum.lower.assembler import Assembler, Machine, Norms, inverse
from tpnum.lower.layers import Layer, Layers, Tangent, Term, norms_of, reads, slopes_of
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared


def compile_plan(plan: Plan, rows: ProfileValues, cols: ProfileValues, dtype: np.dtype) -> Machine:
    """The machine's program for every entry of the plan; raises `Unsupported` with the reason."""
    nodes = [entry.node for entries in plan.entries.values() for entry in entries]
    for node in graph.schedule(nodes):
        if node.tied or node.rows or node.cols:
            raise Unsupported("some variables are families over index axes")
        if isinstance(node, graph.Fresh) and rows is cols and plan.axes[0]:
            raise Unsupported("fresh noise at two positions of one input")
    keys = [(kind, k) for kind, entries in plan.entries.items() for k in range(len(entries))]
    forward = [entry.node for entry in plan.entries.get("nngp", ())]
    compiler = _Compiler(rows, cols, nodes, forward, dtype)
    # tangent kernels first: they pull the layers along, so that few registers live at a time
    for kind, k in sorted(keys, key=lambda key: (key[0] != "ntk", key[1])):
        entry = plan.entries[kind][k]
        compiler.below(entry.node)
        compiler.output(entry.node, entry.weight, keys.index((kind, k)))
    if not compiler.grams:
        raise Unsupported("no entry depends on a product of two inputs")
    return compiler.finish(tuple(keys))


class _Compiler(Assembler):
    def __init__(
        self,
        rows: ProfileValues,
        cols: ProfileValues,
        outputs: list[graph.Pair],
        forward: list[graph.Pair],
        dtype: np.dtype,
    ):
        super().__init__(rows, cols, dtype)
        self.layers = Layers(outputs, forward)
        self._corr: dict[int, int] = {}
        self._plain: dict[int, int] = {}
        self._scaled: dict[int, int] = {}  # tangent kernels over the deviations of their variable
        self._calls: dict[int, tuple[int, int]] = {}
        self._positive: set[int] = set()
        self._grams: dict[tuple[str, str], int] = {}

    def below(self, output: graph.Pair) -> None:
        """The registers that an output stands on, operands first: none has to ask for a long chain."""
        order = postorder([output], reads, id, ())
        correlated = self._correlated(order)
        for node in order[:-1]:
            if self.layers.of_tangent(node):
                self.scaled(node)
            elif id(node) in correlated:
                self.corr(node, correlated[id(node)])
            elif isinstance(node, graph.Sum) and not self.layers.absorbed(node):
                self.plain(node)

    def _correlated(self, order: list[graph.Pair]) -> dict[int, Norms]:
        """The nodes whose co-correlations are read, by duals and by sums that have one, with their norms."""
        found: dict[int, Norms] = {}
        for node in reversed(order):
            if isinstance(node, graph.Dual):
                found.setdefault(id(node.call.cov), node.call.vars)
            elif isinstance(node, graph.Sum) and id(node) in found and node.increments and node.norms:
                if self.layers.layer(node) is None:
                    pairs = [pair for term in self.layers.terms(node) for pair in term.pairs]
                    for pair in pairs:
                        if not isinstance(pair, (graph.Dual, graph.Shared)):
                            assert pair.norms is not None
                            found.setdefault(id(pair), pair.norms)
        return found

    def output(self, node: graph.Pair, weight: float, number: int) -> None:
        root = float(np.sqrt(weight))
        step = self.layers.of_tangent(node)
        if step is not None:
            self.emit("store_scaled", self.scaled(node), p=self.deviations(step[1].norms, root), n=number)
        elif node.increments and node.norms is not None:
            e = self.corr(node, node.norms)
            self.emit("store_covariance", e, p=self.deviations(node.norms, root), n=number)
        else:
            k = self.plain(node)
            p = self.param(("constant", root), *(np.full(v.size, root) for v in self.profiles))
            self.emit("store_scaled", k, p=p, n=number)

    # -- co-correlations -----------------------------------------------------------------------

    def corr(self, node: graph.Pair, norms: Norms) -> int:
        """The value of the node's co-correlation, ``norms`` the second moments that normalise it."""
        if id(node) not in self._corr:
            self._corr[id(node)] = self._make_corr(node, norms)
        return self._corr[id(node)]

    def _make_corr(self, node: graph.Pair, norms: Norms) -> int:
        layer = self.layers.layer(node)
        if layer is not None:
            return self._dense(layer)
        if node.increments:
            if isinstance(node, graph.Gram):
                return self._gram(node)
            if isinstance(node, graph.Dual):
                return self.call(node.call)[0]
            if isinstance(node, graph.Shared):
                return self.value_of("zero")
            if isinstance(node, graph.Sum):
                return self._sum_corr(node)
        return self.value_of("normal", self.plain(node), p=self.inverse_deviations(norms))

    def _gram(self, node: graph.Gram) -> int:
        if node.data not in self._grams:
            self.grams.append(node.data)
            self._grams[node.data] = self.value_of("gram", n=len(self.grams) - 1)
        return self._grams[node.data]

    def _sum_corr(self, node: graph.Sum) -> int:
        assert node.norms is not None
        terms = self.layers.terms(node)
        corrs = [self._term_corr(term) for term in terms]
        near, far = self.emit("start")
        for term, e in zip(terms, corrs, strict=True):
            p, n = self._weights(term, node.norms)
            near, far = self.emit("collect", near, far, e, p=p, n=n)
        return self.value_of("join", near, far)

    def _term_corr(self, term: Term) -> int:
        """The co-correlation of a term's pairs, -1 where it is one: a constant, a mean."""
        factors = []
        for pair in term.pairs:
            if not isinstance(pair, graph.Shared):
                assert pair.norms is not None
                factors.append(self.corr(pair, pair.norms))
        if not factors:
            return -1
        (e, *more) = factors
        for other in more:
            e = self.value_of("both", e, other)
        return e

    def _weights(self, term: Term, norms: Norms) -> tuple[int, int]:
        """The two factors of a term over the deviation of the sum, each at both inputs; one if they agree."""
        coef = term.coef
        root = np.sqrt(abs(coef))
        alike = coef > 0.0 and [f.key for f in term.rows] == [f.key for f in term.cols]
        numbers = []
        for factors, weight in ((term.rows, root), (term.cols, np.copysign(root, coef))):
            sides = []
            for side in (0, 1):
                value = np.full(self.profiles[side].size, weight)
                for factor in factors:
                    value = value * self.values(factor, side)
                for pair in term.pairs:
                    value = value * np.sqrt(self.value(pair.norms, side))
                sides.append(value * inverse(np.sqrt(self.value(norms, side))))
            numbers.append(self.param(None, *sides))
            if alike:
                break
        return numbers[0], numbers[-1]

    # -- duals ---------------------------------------------------------------------------------

    def call(self, call: graph.DualCall) -> tuple[int, int]:
        """(co-correlation of the values, derivative kernel or -1)."""
        if id(call) not in self._calls:
            first, second = (self._prepared(call, side) for side in (0, 1))
            e = self.corr(call.cov, call.vars)
            steep = "slope" in call.wanted
            if first.kind == second.kind == "closed" and first.f == second.f and first.f.closed is not None:
                made = self._closed(FAMILIES[first.f.closed[0]].strip, first, second, e, steep)
            else:
                made = self._series(first, second, e, steep)
            self._calls[id(call)] = made
        return self._calls[id(call)]

    def _closed(self, strip: str, first: Prepared, second: Prepared, e: int, steep: bool) -> tuple[int, int]:
        if strip not in self.duals:
            if len(self.duals) == kernels.SLOTS:
                raise Unsupported(f"more than {kernels.SLOTS} kinds of closed-form duals in one net")
            self.duals.append(strip)
        p = self.block(first.params, second.params)
        return self.emit("dual", e, p=p, n=self.duals.index(strip), makes=1 + steep)

    def _series(self, first: Prepared, second: Prepared, e: int, steep: bool) -> tuple[int, int]:
        """Parameters: |alpha|/sqrt(q) for the slope, and the root of E f'^2 for duplicates."""
        if first.kind != "series" or second.kind != "series":
            raise Unsupported(f"{first.f} and {second.f} have no common series")
        for prepared in (first, second):
            assert prepared.series is not None
            if steep and prepared.series.slope is not None:
                raise Unsupported(f"{prepared.f} jumps: its derivative has a series of its own")
        sides = [
            np.array([np.sqrt(p.second) * inverse(np.sqrt(p.q)), np.sqrt(p.slope_second)])
            for p in (first, second)
        ]
        number = self.tables.add(first, second, steep, self.dtype)
        return self.emit("series", e, p=self.block(*sides), n=number, makes=1 + steep)

    def _prepared(self, call: graph.DualCall, side: int) -> Prepared:
        fn, scalars = ((call.f, call.f_scalars), (call.g, call.g_scalars))[side]
        return self.profiles[side].prepared(fn, call.means[side], call.vars[side], scalars)

    # -- plain covariances ---------------------------------------------------------------------

    def plain(self, node: graph.Pair) -> int:
        if id(node) not in self._plain:
            self._plain[id(node)] = self._make_plain(node)
        return self._plain[id(node)]

    def _make_plain(self, node: graph.Pair) -> int:
        step = self.layers.of_tangent(node)
        if step is not None:
            t = self.scaled(node)
            return self.value_of("add", self.value_of("zero"), t, p=self.deviations(step[1].norms, 1.0))
        if isinstance(node, graph.Dual):
            e, slope = self.call(node.call)
            if node.what == "slope":
                return slope
            return self.value_of("plain", e, p=self.deviations(node.call.moments, 1.0))
        if isinstance(node, graph.Gram):
            return self.value_of("plain", self._gram(node), p=self.deviations(norms_of(node), 1.0))
        if isinstance(node, graph.Shared):
            return self._constant(node.value)
        if isinstance(node, graph.Fresh):
            return self._fresh(node)
        if isinstance(node, graph.Sum):
            if node.increments and node.norms is not None and id(node) in self._corr:
                return self.value_of("plain", self._corr[id(node)], p=self.deviations(node.norms, 1.0))
            return self._sum_plain(node)
        raise Unsupported("an expectation in more than two dimensions")

    def _constant(self, value: float) -> int:
        p = self.param(None, *(np.full(v.size, x) for v, x in zip(self.profiles, (value, 1.0), strict=True)))
        return self.value_of("add_outer", self.value_of("zero"), p=p, n=p)

    def _fresh(self, node: graph.Fresh) -> int:
        """Noise between different examples; the diagonal of a symmetric matrix comes from the profile."""
        out = self.value_of("zero")
        if node.other is not None:
            p = self.param(None, *(self.values(f, side) for side, f in enumerate(node.other)))
            out = self.value_of("add_outer", out, p=p, n=p)
        return out

    def _sum_plain(self, node: graph.Sum) -> int:
        terms = self.layers.terms(node)
        (only, *more) = terms
        if not more and only.coef == 1.0 and not only.rows and not only.cols and len(only.pairs) == 1:
            return self.plain(only.pairs[0])
        deep = [[self.plain(pair) for pair in reversed(t.pairs)] for t in terms]
        out = self.value_of("zero")
        for term, values in zip(terms, deep, strict=True):
            sides = []
            for side, factors in enumerate((term.rows, term.cols)):
                value = np.full(self.profiles[side].size, term.coef if side == 0 else 1.0)
                for factor in factors:
                    value = value * self.values(factor, side)
                sides.append(value)
            p = self.param(None, *sides)
            if not values:
                out = self.value_of("add_outer", out, p=p, n=p)
            elif len(values) == 1:
                out = self.value_of("add", out, values[0], p=p)
            else:
                first, *others, second = values
                for other in others:
                    first = self.value_of("multiply", first, other)
                out = self.value_of("add_product", out, first, second, p=p)
        return out

    # -- dense layers ----------------------------------------------------------------------------

    def scaled(self, node: graph.Pair) -> int:
        """The value of a layer's tangent kernel over the deviations of the layer's variable."""
        if id(node) not in self._scaled:
            step = self.layers.of_tangent(node)
            assert step is not None
            _, layer = step
            self.corr(layer.node, layer.norms)
        return self._scaled[id(node)]

    def _dense(self, layer: Layer) -> int:
        """The co-correlation of a layer; its tangent kernel is made with it."""
        tangent = self.layers.tangent(layer)
        inner = tangent.inner if tangent is not None else None
        t = self.scaled(inner) if inner is not None else -1  # first, so that few values live at a time
        if isinstance(layer.source, graph.Gram):
            e, t = self._on_data(layer, tangent)
        else:
            assert isinstance(layer.source, graph.Dual)
            e, t = self._on_dual(layer, layer.source.call, tangent, t)
        if tangent is not None:
            self._scaled[id(tangent.node)] = t
        return e

    def _on_data(self, layer: Layer, tangent: Tangent | None) -> tuple[int, int]:
        assert isinstance(layer.source, graph.Gram)
        e = self._gram(layer.source)
        if tangent is not None and tangent.follows(layer):
            return self.emit("first", e, p=self._bias_params(layer))
        t = self._grown(tangent, -1)
        return self.emit("dense", e, t, p=self._dense_params(layer, norms_of(layer.source), None))

    def _on_dual(
        self, layer: Layer, call: graph.DualCall, tangent: Tangent | None, t: int
    ) -> tuple[int, int]:
        """Relu is one instruction, other piecewise linear functions too, the rest dual, product, dense."""
        slopes = slopes_of(call)
        if slopes is None:
            e, d = self.call(call)
            if t >= 0:
                t = self.value_of("multiply", t, d)
            t = self._grown(tangent, t)
            return self.emit("dense", e, t, p=self._dense_params(layer, call.moments, call.vars))
        e = self.corr(call.cov, call.vars)
        trained = tangent is None or (tangent.follows(layer) and tangent.inner is not None)
        t = self._grown(tangent, t)
        signed = int(id(call.cov) not in self._positive)
        if slopes == (0.0, 1.0):
            self._positive.add(id(layer.node))
        if slopes == (0.0, 1.0) and trained:
            if layer.bias == 0.0:
                return self.emit("relu", e, t, n=signed)
            return self.emit("relu_bias", e, t, p=self._bias_params(layer), n=signed)
        left, right = slopes
        size = 0.5 * (left * left + right * right)  # alpha^2 + beta^2
        linear = (0.5 * (left + right)) ** 2 / size if size else 1.0
        p = self.block(*(np.tile([[linear], [1.0 - linear]], v.size) for v in self.profiles))
        self._dense_params(layer, call.moments, call.vars, size)
        return self.emit("abrelu_layer", e, t, p=p)

    def _grown(self, tangent: Tangent | None, t: int) -> int:
        """The tangent kernel that a layer's grows from: one that starts here starts at zero."""
        return self.value_of("zero") if tangent is not None and t < 0 else t

    def _bias_params(self, layer: Layer) -> int:
        """Rows a, b of `relu_bias_layer`."""
        sides = []
        for side in (0, 1):
            new = self.value(layer.norms, side)
            silent = new == 0.0
            safe = np.where(silent, 1.0, new)
            moment = self.value(layer.source.norms, side)
            a = np.sqrt(np.where(silent, 1.0, layer.weight * moment / safe))
            b = np.sqrt(np.where(silent, 0.0, layer.bias / safe))
            sides.append(np.array([a, b]))
        return self.block(*sides)

    def _dense_params(self, layer: Layer, moments: Norms, variances: Norms | None, size: float = 1.0) -> int:
        """Rows a, b, c, x, y of `dense_layer`; tangent kernels are over the deviations on either side."""
        tangent = self.layers.tangent(layer)
        slope, value, constant = (
            (tangent.slope, tangent.value, tangent.constant) if tangent else (0.0, 0.0, 0.0)
        )
        sides = []
        for side in (0, 1):
            inverted = inverse(np.sqrt(self.value(layer.norms, side)))
            moment = self.value(moments, side)
            before = np.ones_like(moment) if variances is None else np.sqrt(self.value(variances, side))
            before = np.where(before == 0.0, 1.0, before)
            rows = [
                np.sqrt(layer.weight * moment),
                np.full_like(moment, np.sqrt(layer.bias)),
                np.sqrt(slope * size) * before,
                np.sqrt(value * moment),
                np.full_like(moment, np.sqrt(constant)),
            ]
            sides.append(np.array(rows) * inverted)
        return self.block(*sides)
