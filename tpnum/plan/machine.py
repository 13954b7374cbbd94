"""From a plan without index axes to a program for the machine (`tpnum.kernels.machine`).

A node whose 1 - rho matters (what a dual reads) lives in a register of co-correlations, everything else
as a plain covariance.  A dense layer behind a nonlinearity, with its tangent kernel, is one or three
instructions in place; sums, products and residual branches are spelled out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.plan.tables import SeriesTables

if TYPE_CHECKING:
    from tpnum.gauss.pair import Prepared
    from tpnum.plan.plan import Plan
    from tpnum.plan.profile import ProfileValues

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}
WRITES_SECOND = {"start", "collect", "cross", "join"}


class Unsupported(Exception):
    """The plan needs the general path; the text says why."""


@dataclass(frozen=True)
class Machine:
    """Code and parameters for one pair of data sets; ``outputs`` are the (kind, entry) stored by number."""

    code: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    registers: int
    tables: SeriesTables
    grams: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def listing(self) -> str:
        """The instructions, one per line."""
        return "\n".join(
            f"{kernels.OPERATIONS[op]:16s} " + " ".join(f"{v:3d}" for v in rest) for op, *rest in self.code.tolist()
        )


def compile_plan(plan: Plan, rows: ProfileValues, cols: ProfileValues, dtype: np.dtype) -> Machine:
    """The machine's program for every entry of the plan; raises `Unsupported` with the reason."""
    nodes = [entry.node for entries in plan.entries.values() for entry in entries]
    for node in graph.schedule(nodes):
        if node.tied or node.rows or node.cols:
            raise Unsupported("some variables are families over index axes")
    keys = [(kind, k) for kind, entries in plan.entries.items() for k in range(len(entries))]
    forward = [entry.node for entry in plan.entries.get("nngp", ())]
    compiler = _Compiler(rows, cols, nodes, forward, dtype)
    # tangent kernels first: they pull the layers along, so that few registers live at a time
    for kind, k in sorted(keys, key=lambda key: (key[0] != "ntk", key[1])):
        entry = plan.entries[kind][k]
        compiler.output(entry.node, entry.weight, keys.index((kind, k)))
    return compiler.finish(tuple(keys))


@dataclass(frozen=True)
class _Term:
    """One part of a sum with nested sums multiplied out."""

    coef: float
    rows: tuple[graph.Profile, ...]
    cols: tuple[graph.Profile, ...]
    pairs: tuple[graph.Pair, ...]
    own: bool


@dataclass(frozen=True)
class _Layer:
    """A dense layer: weight * X + bias, X a Gram or the value of a dual."""

    source: graph.Pair
    weight: float
    bias: float


@dataclass(frozen=True)
class _Tangent:
    """A tangent kernel: node = slope * E f'f' * inner + value * X + constant, X the source ``key``."""

    node: graph.Sum
    key: int
    inner: graph.Pair | None
    slope: float
    value: float
    constant: float


class _Compiler:
    def __init__(
        self,
        rows: ProfileValues,
        cols: ProfileValues,
        outputs: list[graph.Pair],
        forward: list[graph.Pair],
        dtype: np.dtype,
    ):
        self.profiles = (rows, cols)
        self.dtype = dtype
        self.tables = SeriesTables()
        self.ops: list[tuple[str, int, int, int, int, int]] = []
        self.registers = 0
        self.params: dict[object, int] = {}
        self.columns: list[tuple[np.ndarray, np.ndarray]] = []
        self.grams: list[tuple[str, str]] = []
        self._corr: dict[int, int] = {}
        self._plain: dict[int, int] = {}
        self._scaled: dict[int, int] = {}  # tangent kernels over the deviations of their variable
        self._calls: dict[int, tuple[int, int]] = {}
        self._positive: set[int] = set()
        self._owner: dict[int, tuple[graph.Profile, graph.Profile]] = {}
        self._source: dict[int, int] = {}
        self.order = graph.schedule(outputs)
        self.uses = _readers(self.order, outputs)
        read = [node.call.cov for node in self.order if isinstance(node, graph.Dual)]
        self._layers = self._match_layers({id(node) for node in (*read, *forward)})
        self.tangent_of = self._match_tangents()

    # -- outputs -------------------------------------------------------------------------------

    def output(self, node: graph.Pair, weight: float, number: int) -> None:
        root = float(np.sqrt(weight))
        if id(node) in self._scaled or self._is_tangent(node):
            register = self.scaled(node)
            self.emit("store_scaled", register, p=self.deviations(self._owner[id(node)], root), n=number)
        elif node.increments and node.norms is not None:
            register = self.corr(node, node.norms)
            self.emit("store_covariance", register, p=self.deviations(node.norms, root), n=number)
        else:
            register = self.plain(node)
            p = self.param(("constant", root), *(np.full(v.size, root) for v in self.profiles))
            self.emit("store_scaled", register, p=p, n=number)

    def finish(self, outputs: tuple[tuple[str, int], ...]) -> Machine:
        physical, count = _allocate(self.ops)
        code = np.array([(CODE[op[0]], *physical[k], *op[4:]) for k, op in enumerate(self.ops)], dtype=np.int64)
        sizes = [v.size for v in self.profiles]
        first, second = (
            np.array([pair[s] for pair in self.columns]).reshape(len(self.columns), sizes[s]) for s in (0, 1)
        )
        return Machine(code, first, second, count, self.tables, tuple(self.grams), outputs)

    # -- co-correlations -----------------------------------------------------------------------

    def corr(self, node: graph.Pair, norms: tuple[graph.Profile, graph.Profile]) -> int:
        """The register of the node's co-correlation, ``norms`` the second moments that normalise it."""
        if id(node) not in self._corr:
            self._corr[id(node)] = self._make_corr(node, norms)
        return self._corr[id(node)]

    def _make_corr(self, node: graph.Pair, norms: tuple[graph.Profile, graph.Profile]) -> int:
        layer = self._layer(node)
        if layer is not None and self._layers.get(self._key(layer.source), (None,))[0] is node:
            return self._dense(node, layer)
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
        terms = self.terms(node, own_only=True)
        corrs = [
            self.corr(t.pairs[0], t.pairs[0].norms or node.norms) if len(t.pairs) == 1 and not _constant(t) else -1
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

    def _weights(self, term: _Term, norms: tuple[graph.Profile, graph.Profile]) -> int:
        """sqrt(coef * norm of the term / norm of the sum), times the term's own factors."""
        sides = []
        for side in (0, 1):
            value = np.full(self.profiles[side].size, term.coef)
            for pair in term.pairs:
                value = value * (pair.value if isinstance(pair, graph.Shared) else self.value(pair.norms, side))
            factor = np.ones(self.profiles[side].size)
            for profile in (term.rows, term.cols)[side]:
                factor = factor * self.values(profile, side)
            sides.append(np.sqrt(value) * factor * _inverse(np.sqrt(self.value(norms, side))))
        return self.param(None, *sides)

    def _mean_weights(self, term: _Term, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        """The two means of a cross term, each known at both inputs by its key."""
        numbers = []
        for factors, coef in ((term.rows, term.coef), (term.cols, 1.0)):
            sides = []
            for side in (0, 1):
                value = np.full(self.profiles[side].size, coef)
                for factor in factors:
                    value = value * self.values(factor, side)
                sides.append(value * _inverse(np.sqrt(self.value(norms, side))))
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
                name = FAMILIES[first.f.closed[0]].strip
                self.emit(name, out, e, slope, p=self.block(first.params, second.params))
            else:
                self._series(first, second, out, e, slope)
            self._calls[id(call)] = out, slope
        return self._calls[id(call)]

    def _series(self, first: Prepared, second: Prepared, out: int, e: int, slope: int) -> None:
        """Parameters: |alpha|/sqrt(q) for the slope, and the root of E f'^2 for duplicates."""
        if first.kind != "series" or second.kind != "series":
            raise Unsupported(f"{first.f} and {second.f} have no common series")
        for prepared in (first, second):
            assert prepared.series is not None
            if slope >= 0 and prepared.series.slope is not None:
                raise Unsupported(f"{prepared.f} jumps: its derivative has a series of its own")
        sides = [
            np.array([np.sqrt(p.second) * _inverse(np.sqrt(p.q)), np.sqrt(p.slope_second)]) for p in (first, second)
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
        if self._is_tangent(node):
            register = self.scaled(node)
            out = self.emit("zero", self.register())
            return self.emit("add", out, register, p=self.deviations(self._owner[id(node)], 1.0))
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
                return self.emit("plain", self.register(), self._corr[id(node)], p=self.deviations(node.norms, 1.0))
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
        terms = self.terms(node, own_only=False)
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

    def terms(self, node: graph.Sum, own_only: bool) -> list[_Term]:
        """The parts of a sum, sums that nobody else reads multiplied out."""
        made = []
        for part in node.parts:
            inner = part.pairs[0] if len(part.pairs) == 1 else None
            nested = isinstance(inner, graph.Sum) and self.uses[id(inner)] == 1 and not self._is_tangent(inner)
            if own_only and nested:
                nested = inner.increments and part.own
            if not nested:
                made.append(_Term(part.coef, part.rows, part.cols, part.pairs, part.own))
                continue
            assert isinstance(inner, graph.Sum)
            for term in self.terms(inner, own_only):
                made.append(
                    _Term(
                        part.coef * term.coef,
                        part.rows + term.rows,
                        part.cols + term.cols,
                        term.pairs,
                        part.own and term.own,
                    )
                )
        return made

    # -- dense layers in place -----------------------------------------------------------------

    def _layer(self, node: graph.Pair) -> _Layer | None:
        """node = w X + b with X a Gram or the value of a dual."""
        source, weight, bias = None, 0.0, 0.0
        if isinstance(node, graph.Gram) or (isinstance(node, graph.Dual) and node.what == "value"):
            return _Layer(node, 1.0, 0.0) if node.norms is not None else None
        if not isinstance(node, graph.Sum) or not node.increments:
            return None
        for term in self.terms(node, own_only=True):
            if term.rows or term.cols or len(term.pairs) != 1 or not term.own:
                return None
            (pair,) = term.pairs
            if isinstance(pair, graph.Shared):
                bias += term.coef * pair.value
            elif source is None and (
                isinstance(pair, graph.Gram) or (isinstance(pair, graph.Dual) and pair.what == "value")
            ):
                source, weight = pair, term.coef
            else:
                return None
        if source is None or not source.increments or source.norms is None and isinstance(source, graph.Dual):
            return None
        return _Layer(source, weight, bias)

    def _match_layers(self, correlated: set[int]) -> dict[int, tuple[graph.Pair, _Layer]]:
        """The dense layers among the nodes that are read as correlations, by the source they stand on."""
        found: dict[int, list[tuple[graph.Pair, _Layer]]] = {}
        for node in self.order:
            if id(node) in correlated:
                layer = self._layer(node)
                if layer is not None:
                    found.setdefault(self._key(layer.source), []).append((node, layer))
        return {key: layers[0] for key, layers in found.items() if len(layers) == 1}

    def _match_tangents(self) -> dict[int, _Tangent]:
        """The tangent kernel that goes with each layer, where there is exactly one."""
        layers = {id(node) for node, _ in self._layers.values()}
        absorbed = {
            id(part.pairs[0])
            for node in self.order
            if isinstance(node, graph.Sum)
            for part in node.parts
            if len(part.pairs) == 1 and self.uses[id(part.pairs[0])] == 1
        }
        found: dict[int, _Tangent] = {}
        for node in self.order:
            if not isinstance(node, graph.Sum) or id(node) in layers or id(node) in absorbed:
                continue
            match = self._match(node)
            if match is None or match.key not in self._layers or match.key in found:
                continue
            if match.inner is not None and id(match.inner) not in self._owner:
                continue
            found[match.key] = match
            norms = self._layers[match.key][0].norms
            assert norms is not None
            self._owner[id(node)] = norms
            self._source[id(node)] = match.key
        return found

    @staticmethod
    def _key(source: graph.Pair) -> int:
        return id(source.call) if isinstance(source, graph.Dual) else id(source)

    def _match(self, node: graph.Sum) -> _Tangent | None:
        """node = c slope(X) T + t X + s."""
        key, inner, slope, value, constant = None, None, 0.0, 0.0, 0.0
        for term in self.terms(node, own_only=False):
            pairs = term.pairs
            duals = [pair for pair in pairs if isinstance(pair, graph.Dual)]
            if term.rows or term.cols:
                return None
            if len(pairs) == 1 and isinstance(pairs[0], graph.Shared):
                constant += term.coef * pairs[0].value
                continue
            if len(pairs) == 1 and (isinstance(pairs[0], graph.Gram) or [d.what for d in duals] == ["value"]):
                own = self._key(pairs[0])
                value += term.coef
            elif len(pairs) == 2 and [d.what for d in duals] == ["slope"] and inner is None:
                own = self._key(duals[0])
                (inner,) = (pair for pair in pairs if pair is not duals[0])
                slope = term.coef
            else:
                return None
            if key not in (None, own):
                return None
            key = own
        return None if key is None else _Tangent(node, key, inner, slope, value, constant)

    def _is_tangent(self, node: graph.Pair) -> bool:
        return id(node) in self._owner

    def scaled(self, node: graph.Pair) -> int:
        """The register of a matched tangent kernel over its variable's deviations."""
        if id(node) not in self._scaled:
            tangent = self.tangent_of[self._source[id(node)]]
            if tangent.inner is not None and self._is_tangent(tangent.inner):
                self.scaled(tangent.inner)
            owner, _ = self._layers[tangent.key]
            assert owner.norms is not None
            self.corr(owner, owner.norms)
        return self._scaled[id(node)]

    def _dense(self, node: graph.Pair, layer: _Layer) -> int:
        """One layer: relu in one instruction, other functions as dual, product, dense."""
        assert node.norms is not None
        key = self._key(layer.source)
        tangent = self.tangent_of.get(key)
        target, inner = (tangent.node, tangent.inner) if tangent else (None, None)
        slope, value, constant = (tangent.slope, tangent.value, tangent.constant) if tangent else (0.0, 0.0, 0.0)
        if isinstance(layer.source, graph.Gram):
            e = self._gram(layer.source)
            t = self.register() if tangent else -1
            if tangent and value == layer.weight and constant == layer.bias and inner is None:
                self.emit("first", e, t, p=self._bias_params(node, layer))
                return self._placed(node, target, e, t)
            if tangent:
                self.emit("zero", t)
            source = _norms(layer.source)
            self.emit("dense", e, t, p=self._dense_params(node, layer, source, None, slope, value, constant))
            return self._placed(node, target, e, t)
        call = layer.source.call  # type: ignore[attr-defined]
        if inner is not None and self._is_tangent(inner):
            t = self._owned(self.scaled(inner), inner)
        elif tangent is not None:
            t = self.emit("zero", self.register())
        else:
            t = -1
        family = self._piecewise(call)
        simple = target is None or (slope == layer.weight == value and constant == layer.bias)
        if family is not None:
            e = self._owned(self.corr(call.cov, call.vars), call.cov)
            signed = int(id(call.cov) not in self._positive)
            a, b = family
            if (a, b) == (0.0, 1.0):
                self._positive.add(id(node))
            if (a, b) == (0.0, 1.0) and simple and (tangent is None or inner is not None):
                if layer.bias == 0.0:
                    self.emit("relu", e, t, n=signed)
                else:
                    self.emit("relu_bias", e, t, p=self._bias_params(node, layer), n=signed)
                return self._placed(node, target, e, t)
            m = 0.5 * (a * a + b * b)
            w = ((a + b) / 2) ** 2 / m if m else 1.0
            p = self.block(*(np.tile([[w], [1.0 - w]], v.size) for v in self.profiles))
            self._dense_params(node, layer, call.moments, call.vars, slope * m, value, constant)
            self.emit("abrelu_layer", e, t, p=p)
            return self._placed(node, target, e, t)
        e, d = self.call(call)
        e = self._owned(e, layer.source)
        if t >= 0 and inner is not None:
            self.emit("multiply", t, d)
        self.emit("dense", e, t, p=self._dense_params(node, layer, call.moments, call.vars, slope, value, constant))
        return self._placed(node, target, e, t)

    def _placed(self, node: graph.Pair, target: graph.Pair | None, e: int, t: int) -> int:
        if target is not None:
            self._scaled[id(target)] = t
        self._corr[id(node)] = e
        return e

    def _owned(self, register: int, node: graph.Pair) -> int:
        """The register itself if nobody else reads the node, else a copy to work in."""
        if self.uses.get(id(node), 0) <= 1:
            return register
        return self.emit("copy", self.register(), register)

    @staticmethod
    def _piecewise(call: graph.DualCall) -> tuple[float, float] | None:
        closed = call.f.closed
        if closed is None or closed[0] != "abrelu" or call.f != call.g or any(call.means):
            return None
        return closed[1][0], closed[1][1]

    def _bias_params(self, node: graph.Pair, layer: _Layer) -> int:
        """Rows a, b of `relu_bias_layer`."""
        assert node.norms is not None
        sides = []
        for side in (0, 1):
            new = self.value(node.norms, side)
            silent = new == 0.0
            safe = np.where(silent, 1.0, new)
            norms = layer.source.norms
            moment = self.value(norms, side)
            a = np.sqrt(np.where(silent, 1.0, layer.weight * moment / safe))
            b = np.sqrt(np.where(silent, 0.0, layer.bias / safe))
            sides.append(np.array([a, b]))
        return self.block(*sides)

    def _dense_params(
        self,
        node: graph.Pair,
        layer: _Layer,
        moments: tuple[graph.Profile, graph.Profile],
        vars_: tuple[graph.Profile, graph.Profile] | None,
        slope: float,
        value: float,
        constant: float,
    ) -> int:
        """Rows a, b, c, x, y of `dense_layer`; tangent kernels are over the deviations on either side."""
        assert node.norms is not None
        sides = []
        for side in (0, 1):
            new = self.value(node.norms, side)
            inverse = _inverse(np.sqrt(new))
            moment = self.value(moments, side)
            before = np.sqrt(self.value(vars_, side)) if vars_ is not None else np.zeros_like(new)
            before = np.where(before == 0.0, 1.0, before)
            sides.append(
                np.array(
                    [
                        np.sqrt(layer.weight * moment) * inverse,
                        np.sqrt(layer.bias) * inverse,
                        np.sqrt(slope) * before * inverse,
                        np.sqrt(value * moment) * inverse,
                        np.sqrt(constant) * inverse,
                    ]
                )
            )
        return self.block(*sides)

    # -- parameters and registers --------------------------------------------------------------

    def value(self, norms: tuple[graph.Profile, graph.Profile] | None, side: int) -> np.ndarray:
        assert norms is not None
        return self.values(norms[side], side)

    def values(self, node: graph.Profile, side: int) -> np.ndarray:
        return np.asarray(self.profiles[side](node)).reshape(self.profiles[side].size)

    def deviations(self, norms: tuple[graph.Profile, graph.Profile], factor: float) -> int:
        sides = []
        for side in (0, 1):
            root = np.sqrt(self.value(norms, side))
            sides.append(np.where(root == 0.0, 0.0, root) * factor)
        return self.param(("deviation", norms[0].key, norms[1].key, factor), *sides)

    def inverse_deviations(self, norms: tuple[graph.Profile, graph.Profile]) -> int:
        sides = [_inverse(np.sqrt(self.value(norms, side))) for side in (0, 1)]
        return self.param(("inverse", norms[0].key, norms[1].key), *sides)

    def param(self, key: object, row: np.ndarray, col: np.ndarray) -> int:
        if key is not None and key in self.params:
            return self.params[key]
        self.columns.append((row, col))
        if key is not None:
            self.params[key] = len(self.columns) - 1
        return len(self.columns) - 1

    def block(self, rows: np.ndarray, cols: np.ndarray) -> int:
        """Consecutive parameters; the number of the first."""
        first = len(self.columns)
        self.columns += list(zip(rows, cols, strict=True))
        return first

    def register(self) -> int:
        self.registers += 1
        return self.registers - 1

    def emit(self, op: str, a: int, b: int = -1, c: int = -1, p: int = 0, n: int = 0) -> int:
        self.ops.append((op, a, b, c, p, n))
        return a


def _readers(order: list[graph.Pair], outputs: list[graph.Pair]) -> dict[int, int]:
    """How many nodes read each node; value and slope of one dual call are one reader."""
    calls: set[int] = set()
    uses: dict[int, int] = {}
    for node in order:
        if isinstance(node, graph.Dual):
            if id(node.call) in calls:
                continue
            calls.add(id(node.call))
        for child in graph.operands(node):
            uses[id(child)] = uses.get(id(child), 0) + 1
    for node in outputs:
        uses[id(node)] = uses.get(id(node), 0) + 1
    return uses


def _constant(term: _Term) -> bool:
    return len(term.pairs) == 1 and isinstance(term.pairs[0], graph.Shared)


def _norms(node: graph.Gram) -> tuple[graph.Profile, graph.Profile]:
    """The squared norms of the data of a Gram node."""
    first, second = (graph.Norm(("second", n, n, False), (), data=(n, n)) for n in node.data)
    return first, second


def _inverse(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0.0, 0.0, 1.0 / np.where(x == 0.0, 1.0, x))


def _allocate(ops: list[tuple[str, int, int, int, int, int]]) -> tuple[list[tuple[int, int, int]], int]:
    """Registers by linear scan: a virtual register lives from its first mention to its last."""
    last: dict[int, int] = {}
    for k, op in enumerate(ops):
        for register in op[1:4]:
            if register >= 0:
                last[register] = k
    free: list[int] = []
    where: dict[int, int] = {}
    count = 0
    placed = []
    for k, op in enumerate(ops):
        row = []
        for register in op[1:4]:
            if register < 0:
                row.append(-1)
                continue
            if register not in where:
                if free:
                    where[register] = free.pop()
                else:
                    where[register] = count
                    count += 1
            row.append(where[register])
        placed.append((row[0], row[1], row[2]))
        for register in {r for r in op[1:4] if r >= 0 and last[r] == k}:
            free.append(where[register])
    return placed, max(count, 1)
