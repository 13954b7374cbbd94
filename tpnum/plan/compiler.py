"""From a plan without index axes to a program for the machine (`tpnum.kernels.machine`).

A node whose 1 - rho matters (what a dual reads) lives in a register of co-correlations, everything else
as a plain covariance.  A dense layer behind a nonlinearity, with its tangent kernel, is one or three
instructions in place; sums, products and residual branches are spelled out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.plan.assembler import Assembler, Machine, Norms, inverse
from tpnum.plan.layers import Layer, Layers, Tangent, Term

if TYPE_CHECKING:
    from tpnum.gauss.pair import Prepared
    from tpnum.plan.plan import Plan
    from tpnum.plan.profile import ProfileValues


class Unsupported(Exception):
    """The plan needs the general path; the text says why."""


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

    def below(self, output: graph.Pair) -> None:
        """The registers that an output stands on, operands first: none has to ask for a long chain."""
        order = graph.postorder([output], _read, id, ())
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
                    terms = self.layers.terms(node, own_only=True)
                    pairs = [
                        p for t in terms if not _constant(t) for p in t.pairs if not isinstance(p, graph.Dual)
                    ]
                    found.update((id(p), p.norms or node.norms) for p in pairs if id(p) not in found)
        return found

    def output(self, node: graph.Pair, weight: float, number: int) -> None:
        root = float(np.sqrt(weight))
        step = self.layers.of_tangent(node)
        if step is not None:
            self.emit("store_scaled", self.scaled(node), p=self.deviations(step[1].norms, root), n=number)
        elif node.increments and node.norms is not None:
            register = self.corr(node, node.norms)
            self.emit("store_covariance", register, p=self.deviations(node.norms, root), n=number)
        else:
            register = self.plain(node)
            p = self.param(("constant", root), *(np.full(v.size, root) for v in self.profiles))
            self.emit("store_scaled", register, p=p, n=number)

    # -- co-correlations -----------------------------------------------------------------------

    def corr(self, node: graph.Pair, norms: Norms) -> int:
        """The register of the node's co-correlation, ``norms`` the second moments that normalise it."""
        if id(node) not in self._corr:
            self._corr[id(node)] = self._make_corr(node, norms)
        return self._corr[id(node)]

    def _make_corr(self, node: graph.Pair, norms: Norms) -> int:
        layer = self.layers.layer(node)
        if layer is not None:
            return self._dense(layer)
        if isinstance(node, graph.Gram):
            return self._gram(node)
        if isinstance(node, graph.Dual) and node.what == "value":
            return self.call(node.call)[0]
        if isinstance(node, graph.Shared) and node.increments:
            return self.emit("zero", self.register())
        if isinstance(node, graph.Sum) and node.increments:
            return self._sum_corr(node)
        plain = self.plain(node)
        return self.emit("normal", self.register(), plain, p=self.inverse_deviations(norms))

    def _gram(self, node: graph.Gram) -> int:
        if node.data not in self.grams:
            self.grams.append(node.data)
        return self.emit("gram", self.register(), n=self.grams.index(node.data))

    def _sum_corr(self, node: graph.Sum) -> int:
        assert node.norms is not None
        terms = self.layers.terms(node, own_only=True)
        corrs = [
            self.corr(t.pairs[0], t.pairs[0].norms or node.norms)
            if len(t.pairs) == 1 and not _constant(t)
            else -1
            for t in terms
        ]
        for k, term in enumerate(terms):
            if len(term.pairs) == 2:
                a, b = (self.corr(pair, pair.norms) for pair in term.pairs if pair.norms)
                corrs[k] = self.emit("both", self.register(), a, b)
        near, far = self.register(), self.register()
        self.emit("start", near, far)
        for term, register in zip(terms, corrs, strict=True):
            if term.own:
                self.emit("collect", near, far, register, p=self._weights(term, node.norms))
            else:
                p, q = self._mean_weights(term, node.norms)
                self.emit("cross", near, far, p=p, n=q)
        self.emit("join", near, far)
        return near

    def _weights(self, term: Term, norms: Norms) -> int:
        """sqrt(coef * norm of the term / norm of the sum), times the term's own factors."""
        sides = []
        for side in (0, 1):
            value = np.full(self.profiles[side].size, term.coef)
            for pair in term.pairs:
                value = value * (
                    pair.value if isinstance(pair, graph.Shared) else self.value(pair.norms, side)
                )
            factor = np.ones(self.profiles[side].size)
            for profile in (term.rows, term.cols)[side]:
                factor = factor * self.values(profile, side)
            sides.append(np.sqrt(value) * factor * inverse(np.sqrt(self.value(norms, side))))
        return self.param(None, *sides)

    def _mean_weights(self, term: Term, norms: Norms) -> tuple[int, int]:
        """The two means of a cross term, each known at both inputs by its key."""
        numbers = []
        for factors, coef in ((term.rows, term.coef), (term.cols, 1.0)):
            sides = []
            for side in (0, 1):
                value = np.full(self.profiles[side].size, coef)
                for factor in factors:
                    value = value * self.values(factor, side)
                sides.append(value * inverse(np.sqrt(self.value(norms, side))))
            numbers.append(self.param(None, *sides))
        return numbers[0], numbers[1]

    # -- duals ---------------------------------------------------------------------------------

    def call(self, call: graph.DualCall) -> tuple[int, int]:
        """(co-correlation of the values, derivative kernel or -1)."""
        if id(call) not in self._calls:
            first, second = (self._prepared(call, side) for side in (0, 1))
            e = self.corr(call.cov, call.vars)
            slope = self.register() if "slope" in call.wanted else -1
            out = self.register()
            if first.kind == second.kind == "closed" and first.f == second.f and first.f.closed is not None:
                self._closed(FAMILIES[first.f.closed[0]].strip, first, second, out, e, slope)
            else:
                self._series(first, second, out, e, slope)
            self._calls[id(call)] = out, slope
        return self._calls[id(call)]

    def _closed(self, strip: str, first: Prepared, second: Prepared, out: int, e: int, slope: int) -> None:
        if strip not in self.duals:
            if len(self.duals) == kernels.SLOTS:
                raise Unsupported(f"more than {kernels.SLOTS} kinds of closed-form duals in one net")
            self.duals.append(strip)
        p = self.block(first.params, second.params)
        self.emit("dual", out, e, slope, p=p, n=self.duals.index(strip))

    def _series(self, first: Prepared, second: Prepared, out: int, e: int, slope: int) -> None:
        """Parameters: |alpha|/sqrt(q) for the slope, and the root of E f'^2 for duplicates."""
        if first.kind != "series" or second.kind != "series":
            raise Unsupported(f"{first.f} and {second.f} have no common series")
        for prepared in (first, second):
            assert prepared.series is not None
            if slope >= 0 and prepared.series.slope is not None:
                raise Unsupported(f"{prepared.f} jumps: its derivative has a series of its own")
        sides = [
            np.array([np.sqrt(p.second) * inverse(np.sqrt(p.q)), np.sqrt(p.slope_second)])
            for p in (first, second)
        ]
        number = self.tables.add(first, second, slope >= 0, self.dtype)
        self.emit("series", out, e, slope, p=self.block(*sides), n=number)

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
            register = self.scaled(node)
            out = self.emit("zero", self.register())
            return self.emit("add", out, register, p=self.deviations(step[1].norms, 1.0))
        if isinstance(node, graph.Dual):
            if node.what == "slope":
                return self.call(node.call)[1]
            return self.emit(
                "plain", self.register(), self.call(node.call)[0], p=self.deviations(node.call.moments, 1.0)
            )
        if isinstance(node, graph.Gram):
            norms = _norms(node)
            return self.emit("plain", self.register(), self.corr(node, norms), p=self.deviations(norms, 1.0))
        if isinstance(node, graph.Shared):
            return self._constant(node.value)
        if isinstance(node, graph.Fresh):
            return self._fresh(node)
        if isinstance(node, graph.Sum):
            if node.increments and node.norms is not None and id(node) in self._corr:
                return self.emit(
                    "plain", self.register(), self._corr[id(node)], p=self.deviations(node.norms, 1.0)
                )
            return self._sum_plain(node)
        raise Unsupported("an expectation in more than two dimensions")

    def _constant(self, value: float) -> int:
        out = self.emit("zero", self.register())
        p = self.param(None, *(np.full(v.size, x) for v, x in zip(self.profiles, (value, 1.0), strict=True)))
        return self.emit("add_outer", out, p=p, n=p)

    def _fresh(self, node: graph.Fresh) -> int:
        """Noise between different examples; the diagonal of a symmetric matrix comes from the profile."""
        out = self.emit("zero", self.register())
        if node.other is not None:
            p = self.param(None, *(self.values(f, side) for side, f in enumerate(node.other)))
            self.emit("add_outer", out, p=p, n=p)
        return out

    def _sum_plain(self, node: graph.Sum) -> int:
        terms = self.layers.terms(node, own_only=False)
        deep = [[self.plain(pair) for pair in reversed(t.pairs)] for t in terms]
        out = self.emit("zero", self.register())
        for term, registers in zip(terms, deep, strict=True):
            sides = []
            for side, factors in enumerate((term.rows, term.cols)):
                value = np.full(self.profiles[side].size, term.coef if side == 0 else 1.0)
                for factor in factors:
                    value = value * self.values(factor, side)
                sides.append(value)
            p = self.param(None, *sides)
            if not registers:
                self.emit("add_outer", out, p=p, n=p)
            elif len(registers) == 1:
                self.emit("add", out, registers[0], p=p)
            else:
                first, second, *more = registers
                if more:
                    product = self.emit("copy", self.register(), first)
                    for other in (second, *more[:-1]):
                        self.emit("multiply", product, other)
                    first, second = product, more[-1]
                self.emit("add_product", out, first, second, p=p)
        return out

    # -- dense layers in place -----------------------------------------------------------------

    def scaled(self, node: graph.Pair) -> int:
        """The register of a layer's tangent kernel over the deviations of the layer's variable."""
        if id(node) not in self._scaled:
            step = self.layers.of_tangent(node)
            assert step is not None
            tangent, layer = step
            if tangent.inner is not None and self.layers.of_tangent(tangent.inner):
                self.scaled(tangent.inner)
            self.corr(layer.node, layer.norms)
        return self._scaled[id(node)]

    def _dense(self, layer: Layer) -> int:
        """One layer, in place: relu in one instruction, other functions as dual, product, dense."""
        tangent = self.layers.tangent(layer)
        trained = tangent is None or tangent.follows(layer)
        t = self._tangent_register(tangent)
        if isinstance(layer.source, graph.Gram):
            e = self._gram(layer.source)
            if tangent is not None and trained:
                self.emit("first", e, t, p=self._bias_params(layer))
            else:
                self._clear(tangent, t)
                self.emit("dense", e, t, p=self._dense_params(layer, _norms(layer.source), None))
            return self._placed(layer, e, t)
        assert isinstance(layer.source, graph.Dual)
        call = layer.source.call
        slopes = _slopes(call)
        if slopes is None:
            e, d = self.call(call)
            e = self._owned(e, layer.source)
            self._clear(tangent, t)
            if tangent is not None and tangent.inner is not None:
                self.emit("multiply", t, d)
            self.emit("dense", e, t, p=self._dense_params(layer, call.moments, call.vars))
            return self._placed(layer, e, t)
        e = self._owned(self.corr(call.cov, call.vars), call.cov)
        self._clear(tangent, t)
        signed = int(id(call.cov) not in self._positive)
        if slopes == (0.0, 1.0):
            self._positive.add(id(layer.node))
        if slopes == (0.0, 1.0) and trained and (tangent is None or tangent.inner is not None):
            if layer.bias == 0.0:
                self.emit("relu", e, t, n=signed)
            else:
                self.emit("relu_bias", e, t, p=self._bias_params(layer), n=signed)
            return self._placed(layer, e, t)
        left, right = slopes
        size = 0.5 * (left * left + right * right)  # alpha^2 + beta^2
        linear = (0.5 * (left + right)) ** 2 / size if size else 1.0
        p = self.block(*(np.tile([[linear], [1.0 - linear]], v.size) for v in self.profiles))
        self._dense_params(layer, call.moments, call.vars, size)
        self.emit("abrelu_layer", e, t, p=p)
        return self._placed(layer, e, t)

    def _tangent_register(self, tangent: Tangent | None) -> int:
        """The register in which the tangent kernel grows, -1 where there is none."""
        if tangent is None:
            return -1
        if self.layers.of_tangent(tangent.inner):
            assert tangent.inner is not None
            return self._owned(self.scaled(tangent.inner), tangent.inner)
        return self.register()

    def _clear(self, tangent: Tangent | None, t: int) -> None:
        """A tangent kernel that starts here starts at zero."""
        if tangent is not None and not self.layers.of_tangent(tangent.inner):
            self.emit("zero", t)

    def _placed(self, layer: Layer, e: int, t: int) -> int:
        tangent = self.layers.tangent(layer)
        if tangent is not None:
            self._scaled[id(tangent.node)] = t
        self._corr[id(layer.node)] = e
        return e

    def _owned(self, register: int, node: graph.Pair) -> int:
        """The register itself if nobody else reads the node, else a copy to work in."""
        if self.layers.alone(node):
            return register
        return self.emit("copy", self.register(), register)

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


def _slopes(call: graph.DualCall) -> tuple[float, float] | None:
    """(a, b) where f = g = a min(u, 0) + b max(u, 0) of a centred variable."""
    closed = call.f.closed
    if closed is None or closed[0] != "abrelu" or call.f != call.g or any(call.means):
        return None
    return closed[1][0], closed[1][1]


def _read(node: graph.Pair) -> list[graph.Pair]:
    """The operands of a node, the first read last: parts in order, of each the deeper chain first."""
    if isinstance(node, graph.Sum):
        return [pair for part in reversed(node.parts) for pair in part.pairs]
    return graph.operands(node)


def _constant(term: Term) -> bool:
    return len(term.pairs) == 1 and isinstance(term.pairs[0], graph.Shared)


def _norms(node: graph.Gram) -> Norms:
    """The squared norms of the data of a Gram node."""
    first, second = (graph.Norm(("second", n, n, False), (), data=(n, n)) for n in node.data)
    return first, second
