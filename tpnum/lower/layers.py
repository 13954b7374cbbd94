"""Dense layers and their tangent kernels among the pair nodes of a plan.

A *layer* is a node w X + b whose X is a Gram matrix or the value of a dual; its tangent kernel is the node
c E f'f' T + t X + s on the same X.  Both together are one step of the machine, in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.lower.assembler import Norms


@dataclass(frozen=True)
class Term:
    """One part of a sum with nested sums multiplied out."""

    coef: float
    rows: tuple[graph.Profile, ...]
    cols: tuple[graph.Profile, ...]
    pairs: tuple[graph.Pair, ...]


@dataclass(frozen=True)
class Layer:
    """A dense layer: node = weight * source + bias."""

    node: graph.Pair
    source: graph.Pair
    weight: float
    bias: float

    @property
    def norms(self) -> Norms:
        assert self.node.norms is not None
        return self.node.norms


@dataclass(frozen=True)
class Tangent:
    """A tangent kernel: node = slope * E f'f' * inner + value * X + constant, X the source ``key``."""

    node: graph.Pair
    key: int
    inner: graph.Pair | None
    slope: float
    value: float
    constant: float

    def follows(self, layer: Layer) -> bool:
        """Whether every weight and bias is trained in ntk parameterization."""
        slope = self.inner is None or self.slope == layer.weight
        return slope and self.value == layer.weight and self.constant == layer.bias


class Layers:
    """The layers of a plan and the tangent kernels that go with them."""

    def __init__(self, outputs: list[graph.Pair], forward: list[graph.Pair]):
        self.order = graph.schedule(outputs)
        self.uses = readers(self.order, outputs)
        self._absorbed = {
            id(part.pairs[0])
            for node in self.order
            if isinstance(node, graph.Sum)
            for part in node.parts
            if len(part.pairs) == 1 and self.uses[id(part.pairs[0])] == 1
        }
        self._tangents: dict[int, Tangent] = {}  # by source
        self._by_node: dict[int, Tangent] = {}
        read = [node.call.cov for node in self.order if isinstance(node, graph.Dual)]
        self._layers = self._match_layers({id(node) for node in (*read, *forward)})
        self._match_tangents()

    def layer(self, node: graph.Pair) -> Layer | None:
        """The layer that ends in this node, if it is the only one on its source."""
        found = self._layer(node)
        if found is None or self._layers.get(_key(found.source)) != found:
            return None
        return found

    def tangent(self, layer: Layer) -> Tangent | None:
        """The tangent kernel that goes with a layer."""
        return self._tangents.get(_key(layer.source))

    def of_tangent(self, node: graph.Pair | None) -> tuple[Tangent, Layer] | None:
        """The step that computes a tangent kernel, if it is part of one."""
        found = self._by_node.get(id(node))
        return None if found is None else (found, self._layers[found.key])

    def terms(self, node: graph.Sum) -> list[Term]:
        """The parts of a sum, sums that nobody else reads multiplied out."""
        made = []
        stack = [(Term(1.0, (), (), ()), node, part) for part in reversed(node.parts)]
        while stack:
            outer, reader, part = stack.pop()
            term = Term(outer.coef * part.coef, outer.rows + part.rows, outer.cols + part.cols, part.pairs)
            inner = part.pairs[0] if len(part.pairs) == 1 else None
            if isinstance(inner, graph.Sum) and self._nested(reader, inner):
                stack += [(term, inner, inside) for inside in reversed(inner.parts)]
            else:
                made.append(term)
        return made

    def absorbed(self, node: graph.Sum) -> bool:
        """Whether a sum is multiplied out where it is read."""
        return id(node) in self._absorbed and id(node) not in self._by_node

    def _nested(self, node: graph.Sum, inner: graph.Sum) -> bool:
        private = self.uses[id(inner)] == 1 and id(inner) not in self._by_node
        return private and (inner.increments or not node.increments)

    def _layer(self, node: graph.Pair) -> Layer | None:
        """node = w X + b with X a Gram or the value of a dual."""
        source, weight, bias = None, 0.0, 0.0
        if isinstance(node, graph.Gram) or (isinstance(node, graph.Dual) and node.what == "value"):
            return Layer(node, node, 1.0, 0.0) if node.norms is not None else None
        if not isinstance(node, graph.Sum) or not node.increments:
            return None
        for term in self.terms(node):
            if term.rows or term.cols or len(term.pairs) != 1:
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
        return Layer(node, source, weight, max(bias, 0.0)) if weight > 0.0 else None

    def _match_layers(self, correlated: set[int]) -> dict[int, Layer]:
        """The dense layers among the nodes that are read as correlations, by the source they stand on."""
        found: dict[int, list[Layer]] = {}
        for node in self.order:
            if id(node) in correlated:
                layer = self._layer(node)
                if layer is not None:
                    found.setdefault(_key(layer.source), []).append(layer)
        return {key: layers[0] for key, layers in found.items() if len(layers) == 1}

    def _match_tangents(self) -> None:
        """The tangent kernel that goes with each layer: the first that stands on nothing but layers."""
        layers = {id(layer.node) for layer in self._layers.values()}
        for node in self.order:
            if not isinstance(node, graph.Sum) or id(node) in layers or id(node) in self._absorbed:
                continue
            match = self._match(node)
            if match is None or match.key not in self._layers or match.key in self._tangents:
                continue
            if match.inner is not None and id(match.inner) not in self._by_node:
                continue
            self._tangents[match.key] = self._by_node[id(node)] = match

    def _match(self, node: graph.Sum) -> Tangent | None:
        """node = c slope(X) T + t X + s."""
        key, inner, slope, value, constant = None, None, 0.0, 0.0, 0.0
        for term in self.terms(node):
            pairs = term.pairs
            duals = [pair for pair in pairs if isinstance(pair, graph.Dual)]
            if term.rows or term.cols:
                return None
            if len(pairs) == 1 and isinstance(pairs[0], graph.Shared):
                constant += term.coef * pairs[0].value
                continue
            if len(pairs) == 1 and (isinstance(pairs[0], graph.Gram) or [d.what for d in duals] == ["value"]):
                own = _key(pairs[0])
                value += term.coef
            elif len(pairs) == 2 and [d.what for d in duals] == ["slope"] and inner is None:
                own = _key(duals[0])
                (inner,) = (pair for pair in pairs if pair is not duals[0])
                slope = term.coef
            else:
                return None
            if key not in (None, own):
                return None
            key = own
        return None if key is None else Tangent(node, key, inner, slope, value, constant)


def _key(source: graph.Pair) -> int:
    return id(source.call) if isinstance(source, graph.Dual) else id(source)


def readers(order: list[graph.Pair], outputs: list[graph.Pair]) -> dict[int, int]:
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


def slopes_of(call: graph.DualCall) -> tuple[float, float] | None:
    """(a, b) where f = g = a min(u, 0) + b max(u, 0) of a centred variable."""
    closed = call.f.closed
    if closed is None or closed[0] != "abrelu" or call.f != call.g or any(call.means):
        return None
    return closed[1][0], closed[1][1]


def reads(node: graph.Pair) -> list[graph.Pair]:
    """The operands of a node, the first read last: parts in order, of each the deeper chain first."""
    if isinstance(node, graph.Sum):
        return [pair for part in reversed(node.parts) for pair in part.pairs]
    return graph.operands(node)


def norms_of(node: graph.Gram) -> Norms:
    """The squared norms of the data of a Gram node."""
    first, second = (graph.Norm(("second", n, n, False), (), data=(n, n)) for n in node.data)
    return first, second
