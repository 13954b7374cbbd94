"""The profile pass: every quantity of one input, for all inputs of a data set at once, O(N)."""

from __future__ import annotations

from functools import cached_property, partial, singledispatchmethod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.data import squared_norms
from tpnum.evaluate.joint import BUDGET, Account
from tpnum.gauss.dual import gap
from tpnum.gauss.pair import Prepared, entries, prepare
from tpnum.gauss.prepared import MANY, alone, has_family
from tpnum.law import graph
from tpnum.law.sources import below, mapped
from tpnum.law.worklist import postorder
from tpnum.program.arrays import softmax
from tpnum.program.lines import Moment, Nonlin

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tpnum.functions import Function
    from tpnum.gauss.moments import Profile
    from tpnum.gauss.special.sampled_softmax import Average
    from tpnum.law.pairs import Pairs
    from tpnum.program.lines import Axes

Made = TypeVar("Made")
UNNAMED = "a line"
SQUARES = {"value": "second", "first": "second", "slope": "slope_second"}
"""The field of `tpnum.gauss.pair.Prepared` that is the second moment of what an expectation is of."""

CHUNK = 1 << 18
"""Pairs of Gaussians at a time."""


class ProfileValues:
    """Arrays (N, *axes) of profile nodes over one data set, each computed once.

    ``data`` maps a data line to its array (N, *axes, channels), float64 or float32; ``account`` takes
    the errors of joint expectations; ``variances`` computes those of carried states and of sums over
    positions (by default the general path does, input by input).
    """

    def __init__(
        self,
        pairs: Pairs,
        side: int,
        data: dict[str, np.ndarray],
        account: Account | None = None,
        variances: Callable[[ProfileValues, graph.Carried1 | graph.Reduced], np.ndarray] | None = None,
    ):
        self._variances = variances or _one_by_one
        self.pairs, self.side, self.data = pairs, side, data
        self.site = pairs.sites[side]
        self.size = len(next(iter(data.values()))) if data else 1
        self.account = account or Account(budget=BUDGET)
        self.many = MANY  # variances from which on tables of their function are made
        self._values: dict[graph.Key, np.ndarray] = {}
        self._prepared: dict[graph.Key, Prepared] = {}
        self.sampled: dict[tuple[Hashable, ...], Average] = {}  # attention of examples with themselves
        self._errors: dict[graph.Key, np.ndarray] = {}  # what joint expectations leave in a node

    def __call__(self, node: graph.Profile) -> np.ndarray:
        """The (N, *node.axes) array of a node; rows and columns of a pair name it by its key."""
        if node.key not in self._values:
            for own in postorder([self._own(node)], self._sources, lambda n: n.key, self._values):
                with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                    value = np.asarray(self._compute(own), dtype=np.float64)
                self._check(own, value)
                self._values[own.key] = np.broadcast_to(value, self._sizes(own.axes))
        return self._values[node.key]

    @cached_property
    def pooled(self) -> bool:
        """Whether no output has index axes: errors of what is sampled average out before they are seen."""
        lines = self.site.lines
        return not any(lines.axes(name) for _, name in lines.program.outputs)

    def again(self) -> ProfileValues:
        """A pass over the same inputs that has found nothing yet."""
        made = ProfileValues(self.pairs, self.side, self.data, self.account, self._variances)
        made.many = self.many
        return made

    @property
    def bytes(self) -> int:
        """What the arrays and integrals found so far take, what they repeat being there once."""
        found = sum(map(labels.held, self._values.values()))
        integrals = self._prepared.values()
        found += sum(p.series.bytes for p in integrals if p.series is not None)
        return found + sum(x.nbytes for p in integrals for x in vars(p).values() if isinstance(x, np.ndarray))

    def _sources(self, node: graph.Profile) -> list[graph.Profile]:
        if isinstance(node, graph.Reduced) and node.crossed:  # it stands on what stands on it, steps before
            return []
        return below(self.site, node)

    def error(self, node: graph.Profile) -> np.ndarray:
        """What the errors of joint expectations leave in a node made of them by arithmetic and index maps.

        They come from the same points, so they add up: no part of them averages out.
        """
        self(node)
        for own in postorder([self._own(node)], self._sources, lambda n: n.key, self._errors):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self._errors[own.key] = self._error(own)
        return self._errors[node.key]

    def _error(self, node: graph.Profile) -> np.ndarray:
        total = np.zeros((1,) * (1 + len(node.axes)))
        match node:
            case graph.Expect1() | graph.Expect2():
                return self.account.inexact * self._size(node)
            case graph.Polynomial():
                for coef, factors in node.terms:
                    for k, factor in enumerate(factors):
                        part = abs(coef) * self._error_along(factor, node.axes)
                        for other in (*factors[:k], *factors[k + 1 :]):
                            part = part * np.abs(self.along(other, node.axes))
                        total = total + part
            case graph.Arithmetic():
                values = [self.along(arg, node.axes) for arg in node.args]
                middle = np.asarray(node.fn(*values))
                for k, arg in enumerate(node.args):
                    wrong = self._error_along(arg, node.axes)
                    for sign in (1.0, -1.0) if np.any(wrong) else ():
                        moved = node.fn(*values[:k], values[k] + sign * wrong, *values[k + 1 :])
                        total = total + 0.5 * np.abs(moved - middle)
            case graph.Softmax():
                wrong = self._error_along(node.logits, node.axes).max(axis=_places(node), keepdims=True)
                return 2.0 * wrong * self(node)
            case graph.Mapped1():
                coef, maps, source = mapped(self.site, node)
                axes = self.site.lines.axes(maps[0].operand)
                inner = labels.lift(self._errors[source.key], self.axes(source), axes)
                inner = np.broadcast_to(inner, (inner.shape[0], *(size for _, size in axes)))
                return abs(coef) * labels.apply_maps(maps, inner, axes, node.axes, absolute=True)
        return total

    def _size(self, node: graph.Expect1 | graph.Expect2) -> np.ndarray:
        """(E f^2 E g^2)^(1/2), or (E f^2)^(1/2), of an expectation, that of derivatives for slopes."""
        value = np.abs(self(node))
        what = SQUARES.get(node.what, "")
        sides = node.sides if isinstance(node, graph.Expect2) else (node,)
        if not what:
            return value
        size = np.ones(value.shape)
        for side in sides:
            prepared, index = self._marginal(side, node)
            size *= np.sqrt(getattr(prepared, what))[index].reshape(value.shape)
        return np.where(np.isfinite(size), np.maximum(size, value), value)

    def _error_along(self, node: graph.Profile, axes: Axes) -> np.ndarray:
        return labels.lift(self._errors[self._own(node).key], self.axes(node), axes)

    def _own(self, node: graph.Profile) -> graph.Profile:
        return self.site.own(node)

    def _check(self, node: graph.Profile, value: np.ndarray) -> None:
        if np.isfinite(value).all():
            return
        where = self._where(node)
        at = f" at input {np.argwhere(~np.isfinite(value))[0][0]}" if self.size > 1 else ""
        if isinstance(node, graph.Arithmetic):
            raise LimitError(f"{where} is not finite{at}: it divides by zero or overflows")
        raise LimitError(
            f"{where}: a moment of it overflows or does not exist{at}; scale the inputs "
            "or the weights down, or use a function that grows more slowly"
        )

    def _where(self, node: graph.Profile) -> str:
        """The line that a node's key names, as a message quotes it."""
        lines = self.site.lines
        named = (lines.where(part) for part in node.key if isinstance(part, str) and part in lines.number)
        return next(named, UNNAMED)

    def _user(self, fn: Function, *nodes: graph.Profile | None) -> str:
        """The line that applies a function (to the Gaussian of ``nodes``), or the Gaussian's own."""
        lines = self.site.lines
        names = [p for n in nodes if n for p in n.key if isinstance(p, str) and p in lines.number]
        users = [
            v for v in lines.by_name.values() if isinstance(v, Nonlin | Moment) and v.fn.name in fn.names
        ]
        found = [v for v in users if {*v.args} & {*names}] or users  # of one of data alone: the first
        if found:
            return lines.where(found[0].name)
        return lines.where(names[0]) if names else UNNAMED

    def _sizes(self, axes: Axes) -> tuple[int, ...]:
        """The shape (N, *axes) of an array."""
        return (self.size, *(size for _, size in axes))

    def axes(self, node: graph.Profile) -> Axes:
        """The axes of a node's array."""
        return self._own(node).axes

    @singledispatchmethod
    def _compute(self, node: graph.Profile) -> np.ndarray:
        raise TypeError(f"no value for {type(node).__name__}")

    @_compute.register
    def _(self, node: graph.Constant) -> np.ndarray:
        return np.full((1,) * (1 + len(node.axes)), node.value)

    @_compute.register
    def _(self, node: graph.Given) -> np.ndarray:
        return self.data[node.name]

    @_compute.register
    def _(self, node: graph.Norm) -> np.ndarray:
        first, second = node.data
        axes = [self.site.lines.axes(name) for name in node.data]
        x, y = self.data[first], self.data[second]
        if first == second:
            return squared_norms(x)
        both = [
            labels.align(v, ["", *(n for n, _ in own), " "], ["", *(n for n, _ in node.axes), " "])
            for v, own in zip((x, y), axes, strict=True)
        ]
        return np.einsum("...c,...c->...", *both, dtype=np.float64) / x.shape[-1]

    @_compute.register
    def _(self, node: graph.Expect1) -> np.ndarray:
        closed = node.mean is None and not node.scalars and has_family(node.fn)
        integral = alone(node.fn, node.what) if closed else None  # all that pairs need is ten times the room
        found = integral(self.along(node.var, self._own(node).axes)) if integral else None
        if found is not None and np.isfinite(found).all():
            return found
        sources = (node.mean, node.var, *node.scalars)
        values = getattr(self._moments(node), node.what)
        return labels.lift(values.reshape(self._shape(*sources)), self._axes(*sources), self._own(node).axes)

    @_compute.register
    def _(self, node: graph.Expect2) -> np.ndarray:
        (left, i), (right, j) = (self._marginal(side, node) for side in node.sides)
        shape = self._sizes(node.axes)
        cov = np.broadcast_to(self.along(node.cov, node.axes), shape).ravel()
        steep = node.what == "slope"
        made = np.empty(cov.size)
        for begin in range(0, cov.size, CHUNK):
            part = slice(begin, begin + CHUNK)
            a, b = i[part], j[part]
            e, d = entries(left, right, a, b, gap(left.q[a], right.q[b], cov[part]), np.float64, steep)
            rho = np.copysign(1.0 - np.abs(e), e)
            made[part] = d if steep else rho * np.sqrt(left.second[a]) * np.sqrt(right.second[b])
        return made.reshape(shape)

    def _moments(self, node: graph.Expect1) -> Profile | Prepared:
        """The one-dimensional integrals that a node is one of, flattened over (N, *axes)."""
        return self.prepared(node.fn, node.mean, node.var, node.scalars, node)

    def _marginal(
        self, side: graph.Marginal | graph.Expect1, node: graph.Profile
    ) -> tuple[Prepared, np.ndarray]:
        """The integrals of one of two Gaussians, and the place of every (input, *axes) among them."""
        index = self.index(node.axes, side.mean, side.var, *side.scalars).ravel()
        return self.prepared(side.fn, side.mean, side.var, side.scalars, node), index

    @_compute.register
    def _(self, node: graph.ExpectN) -> np.ndarray:
        shape = self._sizes(node.axes)
        d = len(node.means)
        means = np.zeros((*shape, d))
        cov = np.zeros((*shape, d, d))
        for i, mean in enumerate(node.means):
            if mean is not None:
                means[..., i] = self.along(mean, node.axes)
            for j in range(d):
                entry = node.cov[i][j]
                if entry is not None:
                    cov[..., i, j] = self.along(entry, node.axes)
        scalars = [[self.along(s, node.axes) for s in factor.scalars] for factor in node.factors]
        value, self._errors[node.key] = self.account.expectation(
            node.factors, scalars, means, cov, node.where
        )
        return value

    @_compute.register
    def _(self, node: graph.Polynomial) -> np.ndarray:
        return labels.polynomial(node.terms, lambda f: self.along(f, node.axes), 1 + len(node.axes))

    @_compute.register
    def _(self, node: graph.Arithmetic) -> np.ndarray:
        return np.asarray(node.fn(*(self.along(arg, node.axes) for arg in node.args)))

    @_compute.register
    def _(self, node: graph.Softmax) -> np.ndarray:
        shape = (self.size, *node.axes_shape)
        weights = (
            None if node.weights is None else np.broadcast_to(self.along(node.weights, node.axes), shape)
        )
        return softmax(np.broadcast_to(self.along(node.logits, node.axes), shape), _places(node), weights)

    @_compute.register
    def _(self, node: graph.Mapped1) -> np.ndarray:
        coef, maps, inner = mapped(self.site, node)
        axes = self.site.lines.axes(maps[0].operand)
        values = np.broadcast_to(self.along(inner, axes), self._sizes(axes))
        return coef * labels.apply_maps(maps, values, axes, node.axes)

    @_compute.register(graph.Carried1)
    @_compute.register(graph.Reduced)
    def _(self, node: graph.Carried1 | graph.Reduced) -> np.ndarray:
        return self._variances(self, node)

    @_compute.register
    def _(self, node: graph.Within) -> np.ndarray:
        from tpnum.evaluate.same import within

        return within(self, node)

    def prepared(
        self,
        fn: Function,
        mean: graph.Profile | None,
        var: graph.Profile,
        scalars: tuple[graph.Profile, ...],
        node: graph.Profile | None = None,
    ) -> Prepared:
        """What one-dimensional integrals of fn over these variances give, flattened over (N, *axes).

        ``node`` is the quantity that asks, for messages where the variance belongs to no line.
        """
        key = (fn, mean and mean.key, var.key, tuple(s.key for s in scalars))
        if key not in self._prepared:
            integrals = partial(prepare, many=self.many)
            self._prepared[key] = self._integrals(integrals, fn, (var, mean, scalars), node)
        return self._prepared[key]

    def _integrals(
        self,
        integrals: Callable[[Function, np.ndarray, np.ndarray | None, tuple[np.ndarray, ...]], Made],
        fn: Function,
        gaussian: tuple[graph.Profile, graph.Profile | None, tuple[graph.Profile, ...]],
        node: graph.Profile | None,
    ) -> Made:
        """Integrals of fn over Gaussians (variance, mean, scalars), flattened over (N, *axes)."""
        var, mean, scalars = gaussian
        shape = self._shape(mean, var, *scalars)
        axes = self._axes(mean, var, *scalars)

        def flat(node: graph.Profile) -> np.ndarray:
            return np.ascontiguousarray(np.broadcast_to(self.along(node, axes), shape)).ravel()

        variances, means = flat(var), None if mean is None else flat(mean)
        try:
            return integrals(fn, variances, means, tuple(flat(s) for s in scalars))
        except LimitError as error:
            raise type(error)(f"{self._user(fn, var, node)} has no limit: {error}") from None

    def index(self, axes: Axes, *nodes: graph.Profile | None) -> np.ndarray:
        """Positions in the flattened `prepared` arrays, as an array (N, *axes)."""
        return np.broadcast_to(self.places(axes, *nodes), self._sizes(axes))

    def places(self, axes: Axes, *nodes: graph.Profile | None) -> np.ndarray:
        """The same, with unit dimensions for axes that the nodes lack."""
        shape = self._shape(*nodes)
        flat = np.arange(int(np.prod(shape))).reshape(shape)
        return labels.lift(flat, self._axes(*nodes), axes)

    def along(self, node: graph.Profile, axes: Axes) -> np.ndarray:
        """A node's values with unit dimensions for the axes that it lacks."""
        return labels.lift(self(node), self._own(node).axes, axes)

    def _axes(self, *nodes: graph.Profile | None) -> Axes:
        merged: dict[str, int] = {}
        for node in nodes:
            if node is not None:
                merged.update(dict(self._own(node).axes))
        return tuple(merged.items())

    def _shape(self, *nodes: graph.Profile | None) -> tuple[int, ...]:
        return self._sizes(self._axes(*nodes))


def _places(node: graph.Softmax) -> tuple[int, ...]:
    """The dimensions of a softmax's array that it sums over."""
    return tuple(k for k, (name, _) in enumerate(node.axes, 1) if name in node.over)


def _one_by_one(values: ProfileValues, node: graph.Carried1 | graph.Reduced) -> np.ndarray:
    from tpnum.evaluate.same import same_input
    from tpnum.evaluate.steps import reduced, walk

    found = reduced(values, node) if isinstance(node, graph.Reduced) else walk(values, node)
    if found is None:
        assert isinstance(node, graph.Reduced)
        return same_input(values, node.pair, node.axes)
    values._values |= found
    return found[node.key]
