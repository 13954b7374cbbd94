"""The way back through quantities of one input, for all examples of a data set: in its memory, O(N)."""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.adjoints import PairAdjoints
from tpnum.evaluate.blocks import dims
from tpnum.evaluate.chain import CLOSE, ratio
from tpnum.evaluate.duals import beyond_two, own_partials, stretched, unavailable
from tpnum.evaluate.returns import Gathered, Summed
from tpnum.evaluate.same import together
from tpnum.evaluate.tile import TileValues
from tpnum.jets import Jet, slopes_of
from tpnum.law import graph
from tpnum.law.sources import sources
from tpnum.law.stencils import Stencils
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law.moving import Moving
    from tpnum.program.lines import Axes

    Squares = Callable[["ProfileAdjoints", graph.Reduced, np.ndarray], np.ndarray]
    """Does it for the adjoint (N, *axes) of a node; what it leaves of that is not zero."""


class ProfileAdjoints:
    """Adjoints (N, *axes) of quantities of one input, and where they end.

    ``params`` are derivatives by ``count`` parameters; ``gradients``, arrays (N, *axes, channels) by data
    line, gather those by data if there are any.
    """

    def __init__(
        self, values: ProfileValues, moving: Moving, count: int, gradients: Mapping[str, np.ndarray]
    ):
        self.values, self.moving, self.gradients = values, moving, gradients
        self.params = np.zeros(count)
        self.proceed: Callable[[], None] = lambda: None
        self.squares: Squares | None = None
        """Who knows the way back through variances of sums for many examples at once, if anybody does."""
        self._stencils = Stencils()
        self._nodes: dict[graph.Key, graph.Profile] = {}
        self._bars: dict[graph.Key, np.ndarray] = {}

    def add(self, node: graph.Profile, bar: np.ndarray, rows: slice = slice(None)) -> None:
        """More of the adjoint of a quantity, for some examples."""
        if not self.moving.profile(node):
            return
        own = self.values._own(node)
        if own.key not in self._bars:
            self._nodes[own.key] = own
            self._bars[own.key] = np.zeros((self.values.size, *own.axes_shape))
        self._bars[own.key][rows] += bar

    def take(self, gathered: Gathered, rows: slice) -> None:
        """What tiles have gathered of some examples."""
        for node, bar in gathered.bars.values():
            self.add(node, bar, rows)
        for name, bar in gathered.data.items():
            if name in self.gradients:
                self.gradients[name][rows] += bar

    def back(self) -> None:
        """From what was added to parameters and data."""
        order = postorder(self._nodes.values(), self._sources, lambda n: n.key, ())
        for node in reversed(order):
            bar = self._bars.pop(node.key, None)
            if bar is not None:
                self.proceed()
                self._back(node, bar)

    def _sources(self, node: graph.Profile) -> list[graph.Profile]:
        return [self.values._own(source) for source in sources(node)]

    def _give(self, node: graph.Profile, axes: Axes, bar: np.ndarray) -> None:
        """More of the adjoint of a quantity, in an array (N, *axes) or one that broadcasts to it."""
        if not self.moving.profile(node):
            return
        own = [name for name, _ in self.values.axes(node)]
        names = [name for name, _ in axes]
        lost = tuple(1 + k for k, name in enumerate(names) if name not in own)
        full = np.broadcast_to(bar, (self.values.size, *(size for _, size in axes)))
        left = [name for name in names if name in own]
        made = full.sum(axis=lost).transpose([0, *(1 + left.index(name) for name in own)])
        self.add(node, made)

    @singledispatchmethod
    def _back(self, node: graph.Profile, bar: np.ndarray) -> None:
        raise beyond_two(f"{self.values._where(node)}: ")

    @_back.register
    def _(self, node: graph.Constant, bar: np.ndarray) -> None:
        self.params += slopes_of(node.value, self.params.size) * bar.sum()

    @_back.register
    def _(self, node: graph.Norm, bar: np.ndarray) -> None:
        for at, name in enumerate(node.data):
            if name in self.gradients:
                goal, other = self.gradients[name], self.values.data[node.data[1 - at]]
                own, beside = (
                    ["", *(n for n, _ in self.values.site.lines.axes(one)), " "]
                    for one in (name, node.data[1 - at])
                )
                names = ["", *(n for n, _ in node.axes), " "]
                full = bar[..., None] * labels.align(other, beside, names)
                lost = tuple(k for k, n in enumerate(names) if n not in own)
                left = [n for n in names if n in own]
                goal += full.sum(axis=lost).transpose([left.index(n) for n in own]) / other.shape[-1]

    @_back.register
    def _(self, node: graph.Polynomial, bar: np.ndarray) -> None:
        for coef, factors in node.terms:
            self._factors(node, coef, factors, bar)

    def _factors(
        self, node: graph.Profile, coef: float, factors: tuple[graph.Profile, ...], bar: np.ndarray
    ) -> None:
        """The product rule."""
        if isinstance(coef, Jet):
            whole = bar
            for factor in factors:
                whole = whole * self.values.along(factor, node.axes)
            self.params += slopes_of(coef, self.params.size) * whole.sum()
        for k, factor in enumerate(factors):
            if self.moving.profile(factor):
                part = float(coef) * bar
                for other in factors[:k] + factors[k + 1 :]:
                    part = part * self.values.along(other, node.axes)
                self._give(factor, node.axes, part)

    @_back.register
    def _(self, node: graph.Arithmetic, bar: np.ndarray) -> None:
        values = [self.values.along(arg, node.axes) for arg in node.args]
        for i, arg in enumerate(node.args):
            if self.moving.profile(arg):
                self._give(arg, node.axes, bar * np.asarray(node.fn.derivative(i)(*values)))

    @_back.register
    def _(self, node: graph.Softmax, bar: np.ndarray) -> None:
        if self.moving.profile(node.weights):
            raise unavailable(self.values._where(node))
        share = self.values(node)
        over = tuple(k for k, (name, _) in enumerate(node.axes, 1) if name in node.over)
        mean = (bar * share).sum(axis=over, keepdims=True)
        self._give(node.logits, node.axes, share * (bar - mean))

    @_back.register
    def _(self, node: graph.Mapped1, bar: np.ndarray) -> None:
        axes = self.values.axes(node.operand)
        names = [name for name, _ in axes]
        place = names.index(node.map.axis)
        size = axes[place][1]
        weights = labels.map_matrix(node.map, size)
        new = ["", *names[:place], *(n for n, _ in node.map.out), *names[place + 1 :]]
        made = labels.align(bar, ["", *(n for n, _ in node.axes)], new)
        behind = made.shape[1 + place + len(node.map.out) :]
        flat = made.reshape(*made.shape[: 1 + place], len(weights), *behind)
        self._give(node.operand, axes, labels.apply_matrix(weights.T, flat, 1 + place, [size]))

    @_back.register
    def _(self, node: graph.Reduced, bar: np.ndarray) -> None:
        if self.squares is not None:
            bar = self.squares(self, node, bar)
        pair = self._stencils(node.pair)
        names = dims(pair)
        own = [("", 0), *((name, 2) for name, _ in node.axes), ("", 1)]
        for at in together(pair, self.values.size):
            if not bar[at].any():
                continue
            self.proceed()
            tile = TileValues(self.values, self.values, at, at, same=True)
            ends = Summed(tile, self.params.size)
            each = np.einsum("i...,ij->i...j", bar[at], np.eye(*tile.counts))
            PairAdjoints(tile, self.moving, ends).back([(pair, labels.align(each, own, names))])
            self.params += ends.params
            for side in ends.sides:
                self.take(side, at)

    @_back.register
    def _(self, node: graph.Expect1, bar: np.ndarray) -> None:
        slope = stretched(self.values, node, self.moving)
        q = self.values.along(node.var, node.axes)
        self._give(node.var, node.axes, ratio(slope * bar, q))

    @_back.register
    def _(self, node: graph.Expect2, bar: np.ndarray) -> None:
        made, at = own_partials(self.values, node, self.moving)
        by_rho = np.where(np.abs(at.e) < CLOSE, 0.0, made.rho)
        self._give(node.cov, node.axes, bar * ratio(by_rho, at.scale))
        for side, q, part in zip(node.sides, (at.q, at.q2), (made.first, made.second), strict=True):
            self._give(side.var, node.axes, ratio(0.5 * bar * (part - at.rho * by_rho), q))
