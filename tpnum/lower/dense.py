"""Instructions for a level of one cell: co-correlations where increments would be, layers in one piece.

Where no index map acts, a variable is held as the co-correlation that the next function reads.  A dense layer
K = w X + b behind a function's value or a Gram matrix X is one instruction, and one with its tangent kernel
T = c X' T_0 + t X + s, held over the deviations of K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.law import graph
from tpnum.law.worklist import postorder
from tpnum.lower.builder import both, product, scaled, sides
from tpnum.lower.forms import Form, form_of, source_of, spelled, terms
from tpnum.lower.numbers import Number
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.values import Values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.forms import Atoms, Source
    from tpnum.lower.network import Grid, Network, Root
    from tpnum.lower.numbers import Pair
    from tpnum.lower.values import Norms

NO_AXES: Grid = ()


@dataclass(frozen=True)
class Layer:
    """A dense layer, and its tangent kernel where there is one."""

    node: graph.Pair
    form: Form
    tangent: graph.Pair | None
    of_tangent: Form | None
    alone: bool
    """Whether nobody else reads its source."""


class Dense(Values):
    """The code of a level of one cell: ``outputs`` are nodes with their weights, stored by number."""

    def __init__(
        self,
        network: Network,
        profiles: tuple[ProfileValues, ProfileValues],
        dtype: np.dtype,
        outputs: list[tuple[graph.Pair, float, int]],
    ):
        super().__init__(network.roots, [], profiles, dtype)
        self.network = network
        self._examples = [np.arange(profile.size) for profile in profiles]
        self._layers: dict[int, Layer] = {}
        self._tangents: dict[int, tuple[int, Norms]] = {}
        self._positive: set[int] = set()
        self._match()
        multiplied = self._multiplied()
        done: set[int] = set()
        for node, weight, number in outputs:
            for below in postorder([node], self._below, id, done):
                done.add(id(below))
                if id(below) in self._layers or id(below) in self._roots:
                    self._make(below)
                elif id(below) in multiplied:
                    self._scaled(below, NO_AXES)
            self._output(node, weight, number)

    def _output(self, node: graph.Pair, weight: float, number: int) -> None:
        root = scaled(both(1.0), weight)
        over = self._deviations(node)
        if over is not None:
            op, register = "store_covariance", self.correlation(node)
        else:
            op = "store_scaled"
            register, over = self._scaled(node, NO_AXES)
        p = self.numbers.place(NO_AXES, root if over is None else product(root, over))
        self.emit(op, register, p=p, n=number, grid=NO_AXES)

    # -- the order -------------------------------------------------------------------------------

    def _below(self, node: graph.Pair) -> list[graph.Pair]:
        """What is made before a node, the first read last, as it may be a long chain."""
        layer = self._layers.get(id(node))
        if layer is None:
            return list(reversed(graph.operands(node)))
        source = layer.form.source
        below = [source.cov] if isinstance(source, graph.DualCall) else []
        if layer.of_tangent is not None and layer.of_tangent.inner is not None:
            below.append(layer.of_tangent.inner)
        return below

    def _multiplied(self) -> set[int]:
        """Sums without a register of their own whose covariances others multiply."""
        found: set[int] = set()
        for node in reversed(self.network.order):
            root = self._roots.get(id(node))
            if id(node) in self._layers or not isinstance(node, graph.Sum):
                continue
            if id(node) in found or (root is not None and root.held == "cov"):
                parts = self._parts_of(node)
                pairs = [pair for part in parts if len(part.pairs) > 1 for pair in part.pairs]
                found |= {id(pair) for pair in pairs if isinstance(pair, graph.Sum)} - self.network.linear
        return found

    # -- dense layers ----------------------------------------------------------------------------

    def _match(self) -> None:
        """The layers that are the only ones on their source, and the first tangent kernel on each.

        A tangent kernel grows from one with fewer functions than its source has: no layer waits for itself.
        """
        layers: dict[int, list[tuple[graph.Pair, Form]]] = {}
        tangents: dict[int, tuple[graph.Pair, Form]] = {}
        forms, readers = self._forms()
        depths = self._depths()
        for node, form in forms:
            root = self._roots.get(id(node))
            held = root.held if root is not None else "inc" if isinstance(node, graph.Dual) else "cov"
            if held == "cov":
                source = form.source
                depth = 1 + depths[id(source.cov)] if isinstance(source, graph.DualCall) else 0
                before = form.inner is None or depths[id(form.inner)] < depth
                if before and min(form.value, form.slope, form.constant) >= 0.0:
                    tangents.setdefault(id(form.source), (node, form))
            elif form.inner is None and form.value > 0.0 and form.constant >= 0.0:
                layers.setdefault(id(form.source), []).append((node, form))
        for key, ((node, form), *more) in layers.items():
            tangent, of_tangent = tangents.get(key, (None, None))
            if of_tangent is not None and form.constant == 0.0:
                inner = of_tangent.inner
                if of_tangent.constant or not (inner is None or id(inner) in self._layers):
                    tangent = of_tangent = None  # it may not vanish where the layer does
            members = {id(node), id(tangent)} - {id(None)}
            layer = Layer(node, form, tangent, of_tangent, readers[key] <= members)
            if not more and (layer.alone or isinstance(node, graph.Sum)):
                self._layers |= dict.fromkeys(members, layer)

    def _depths(self) -> dict[int, int]:
        """How many functions each node stands on, one on another."""
        found: dict[int, int] = {}
        for node in self.network.order:
            below = max((found[id(read)] for read in graph.operands(node)), default=0)
            found[id(node)] = below + isinstance(node, graph.Dual)
        return found

    def _forms(self) -> tuple[list[tuple[graph.Pair, Form]], dict[int, set[int]]]:
        """What may be layers or tangent kernels, and the readers of every source."""
        outputs = {id(node) for node in self.network.outputs}
        above = [node for node in self.network.order if id(node) not in self.network.linear]
        read = {id(pair) for node in above for pair in graph.operands(node)} | self._roots.keys() | outputs
        forms: list[tuple[graph.Pair, Form]] = []
        readers: dict[int, set[int]] = {}
        for node in self.network.order:
            if isinstance(node, graph.Dual) and id(node) in outputs:
                readers.setdefault(source_of(node), set()).add(id(node))
                if node.what == "value" and _slopes(node.call) is not None:
                    forms.append((node, Form(node.call, 1.0, 0.0, None, 0.0)))
            if isinstance(node, graph.Sum) and id(node) in read:
                parts = self._parts_of(node)
                form = form_of(parts)
                if form is not None:
                    forms.append((node, form))
                for pair in (pair for part in parts for pair in part.pairs):
                    readers.setdefault(source_of(pair), set()).add(id(node))
        return forms, readers

    def _parts_of(self, node: graph.Sum) -> list[graph.Part]:
        """The terms of a sum, those of linear sums in it too."""
        root = self._roots.get(id(node))
        return spelled(node) if root is None else terms(root.atoms)

    def _make(self, node: graph.Pair) -> None:
        """See that a layer or a root has its register."""
        layer = self._layers.get(id(node))
        root = self._roots.get(id(node))
        if layer is None:
            assert root is not None
            self._flush(root)
        elif id(layer.node) not in self._e:
            self._e[id(layer.node)], t = self._dense(layer)
            if layer.tangent is not None:
                self._tangents[id(layer.tangent)] = t, _norms(layer.node)

    def _flush(self, root: Root) -> None:
        if id(root) in self._registers:
            return
        if id(root.node) in self._layers:
            self._make(root.node)
            if root.held == "inc":
                self._registers[id(root)] = self._e[id(root.node)]
        else:
            made = -1
            for k in range(len(root.groups)):
                made = self._source(root, k, made)
            made = self.value_of("zero", grid=NO_AXES) if made < 0 else made
            self._registers[id(root)] = made

    def _dense(self, layer: Layer) -> tuple[int, int]:
        """The co-correlation of a layer and its tangent kernel over the deviations, -1 without one."""
        source, tangent = layer.form.source, layer.of_tangent
        t, before = -1, None
        if tangent is not None and tangent.inner is not None:
            t, before = self._scaled(tangent.inner, NO_AXES)
        if isinstance(source, graph.Gram):
            e = self._gram(source)
            if tangent is not None and tangent.trains(layer.form):
                return self._place("first_layer", (e,), _rates(layer))
        else:
            slopes = _slopes(source)
            if slopes == (0.0, 1.0):
                self._positive.add(id(layer.node))
            if slopes is not None and layer.alone:
                return self._bent(layer, source, slopes, t, before)
            e, d = self._call(source, NO_AXES)
            if t >= 0:
                t = self.value_of("multiply", t, d, grid=NO_AXES)
        t = self._begun(tangent, t)
        return self._place("dense_layer", (e, t), [*_rates(layer), *_tangent_rates(layer, before)])

    def _bent(
        self,
        layer: Layer,
        call: graph.DualCall,
        slopes: tuple[float, float],
        t: int,
        before: Pair | None,
    ) -> tuple[int, int]:
        """A piecewise linear function and the layer behind it in one instruction, a shorter one for relu."""
        tangent = layer.of_tangent
        e = self._input(call, NO_AXES)
        signed = int(id(call.cov) not in self._positive)
        trained = tangent is None or (tangent.inner is not None and tangent.trains(layer.form))
        if tangent is not None and trained:
            below = self._layers.get(id(tangent.inner))
            trained = below is not None and below.node is call.cov
        t = self._begun(tangent, t)
        if slopes == (0.0, 1.0) and trained:
            if layer.form.constant == 0.0:
                return self.emit("relu_layer", e, t, n=signed, grid=NO_AXES)
            return self._place("relu_bias_layer", (e, t), _rates(layer), signed)
        left, right = slopes
        size = 0.5 * (left * left + right * right)  # alpha^2 + beta^2
        linear = (0.5 * (left + right)) ** 2 / size if size else 1.0
        weights = [both(linear), both(1.0 - linear)]
        rates = [*_rates(layer), *_tangent_rates(layer, before, size)]
        return self._place("abrelu_layer", (e, t), [*weights, *rates])

    def _begun(self, tangent: Form | None, t: int) -> int:
        """The tangent kernel that a layer's grows from: one that starts here starts at zero."""
        return self.value_of("zero", grid=NO_AXES) if tangent is not None and t < 0 else t

    def _place(self, op: str, operands: Iterable[int], numbers: list[Pair], n: int = 0) -> tuple[int, int]:
        return self.emit(op, *operands, p=self.numbers.place(NO_AXES, *numbers), n=n, grid=NO_AXES)

    # -- values ----------------------------------------------------------------------------------

    def _gram(self, node: graph.Gram) -> int:
        if (id(node), NO_AXES) not in self._grams:
            self.sources[node.data] = node.data, both(1.0)
            made = self.value_of("gram", n=list(self.sources).index(node.data), grid=NO_AXES)
            self._grams[id(node), NO_AXES] = made, both(1.0)
        return self._grams[id(node), NO_AXES][0]

    def _make_correlation(self, node: graph.Pair) -> int:
        if isinstance(node, graph.Gram):
            return self._gram(node)
        if isinstance(node, graph.Sum) and id(node) not in self._roots:
            return self._joined(spelled(node), _norms(node))
        return super()._make_correlation(node)

    def _increments(self, root: Root, atoms: Atoms, grid: Grid, out: int) -> int:
        return self._joined(terms(atoms), _norms(root.node))

    def _joined(self, parts: list[graph.Part], norms: Norms) -> int:
        """The co-correlation of a sum from those of its terms."""
        down = sides(lambda side: Number(1.0, ((norms[side], -0.5),)))
        products = [(part, self._product(part, NO_AXES)) for part in parts]
        near, far = self.emit("start", grid=NO_AXES)
        for part, e in products:
            p = self._factors(part, down, NO_AXES)
            near, far = self.emit("collect", near, far, e, p=p, grid=NO_AXES)
        return self.value_of("join", near, far, grid=NO_AXES)

    def _covariances(self, atoms: Atoms, grid: Grid, out: int) -> int:
        parts = terms(atoms)
        for part in parts:  # operands first, so that few registers live at a time
            for pair in reversed(part.pairs):
                if len(part.pairs) == 1 and self._deviations(pair) is not None:
                    self.correlation(pair)
                elif not isinstance(pair, (graph.Shared, graph.Fresh)):
                    self._scaled(pair, grid)
        out = self.value_of("zero", grid=grid) if out < 0 else out
        for part in parts:
            out = self._term(out, part, grid)
        return out

    def _deviations(self, node: graph.Pair) -> Pair | None:
        if isinstance(node, graph.Gram):
            norms = [graph.Norm(("second", name, name, False), (), data=(name, name)) for name in node.data]
            return sides(lambda side: Number(1.0, ((norms[side], 0.5),)))
        return super()._deviations(node)

    def _scaled(self, node: graph.Pair, grid: Grid) -> tuple[int, Pair | None]:
        if id(node) in self._layers:
            self._make(node)
        if id(node) not in self._tangents:
            return super()._covariance(node, grid), None
        t, norms = self._tangents[id(node)]
        return t, sides(lambda side: Number(1.0, ((norms[side], 0.5),)))

    def _covariance(self, node: graph.Pair, grid: Grid) -> int:
        register, over = self._scaled(node, grid)
        if over is None:
            return register
        if (id(node), grid) not in self._plain:
            p, out = self.numbers.place(grid, over), self.value_of("zero", grid=grid)
            self._plain[id(node), grid] = self.value_of("add", out, register, p=p, grid=grid)
        return self._plain[id(node), grid]

    def _index(self, call: graph.DualCall, grid: Grid, side: int) -> np.ndarray:
        return self._examples[side]

    def _normalised(self, root: Root, norms: Norms, grid: Grid, same: bool = True) -> int:
        if root.held == "inc":
            return self._registers[id(root)]
        return self._normal(self._covariance(root.node, grid), norms, grid, same)

    def _noise(self, out: int, node: graph.Fresh, number: Pair, grid: Grid) -> int:
        """Noise between different examples; the diagonal of a symmetric matrix comes from the profile."""
        if node.other is None:
            return out
        first, second = node.other
        number = product(number, (Number(1.0, ((first, 1.0),)), Number(1.0, ((second, 1.0),))))
        return self.value_of("add_outer", out, p=self.numbers.place(grid, number), grid=grid)


def _slopes(call: graph.DualCall) -> tuple[float, float] | None:
    """(a, b) where f = g = a min(u, 0) + b max(u, 0) of a centred variable."""
    closed = call.f.closed
    if closed is None or closed[0] != "abrelu" or call.f != call.g or any(call.means):
        return None
    return closed[1][0], closed[1][1]


def _norms(node: graph.Pair) -> Norms:
    if node.norms is None:
        raise Unsupported("a correlation of what has no second moment of its own")
    return node.norms


def _moments(source: Source) -> Norms:
    """The second moments of X."""
    return source.moments if isinstance(source, graph.DualCall) else _norms(source)


def _rates(layer: Layer) -> list[Pair]:
    """a and b of ``rho' = a_i a rho_X + b_i b``."""
    norms, moments = _norms(layer.node), _moments(layer.form.source)
    weight, bias = (float(np.sqrt(x)) for x in (layer.form.value, layer.form.constant))
    return [
        sides(lambda k: Number(weight, ((moments[k], 0.5), (norms[k], -0.5)))),
        sides(lambda k: Number(bias, ((norms[k], -0.5),))),
    ]


def _tangent_rates(layer: Layer, before: Pair | None, size: float = 1.0) -> list[Pair]:
    """c, x and y of ``t' = c_i c X'/size t + x_i x rho_X + y_i y``, ``before`` what t is held over."""
    norms, moments, form = _norms(layer.node), _moments(layer.form.source), layer.of_tangent
    found = (form.slope * size, form.value, form.constant) if form is not None else (0.0, 0.0, 0.0)
    slope, value, constant = (Number(float(np.sqrt(x))) for x in found)
    down = sides(lambda k: Number(1.0, ((norms[k], -0.5),)))
    before = both(1.0) if before is None else before
    return [
        product((slope, slope), product(before, down)),
        product((value, value), product(sides(lambda k: Number(1.0, ((moments[k], 0.5),))), down)),
        product((constant, constant), down),
    ]
