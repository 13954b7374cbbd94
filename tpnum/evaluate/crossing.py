"""Second moments of a recurrence's states with other vectors of its steps, for one input: row by row.

The variance of a state that is a sum of itself and of a function of it, h <- h + f(W h), needs E h_s f_t of
all steps s before t.  Row t of every pair node holds its entries (t, s), s <= t, of all examples at once.  Of
what lies above the diagonal only E h_(t-1) f_t is read: it is below with both sides exchanged.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims
from tpnum.evaluate.general import ROUNDING
from tpnum.evaluate.tape import at_step
from tpnum.evaluate.tile import TileValues
from tpnum.gauss.pair import Prepared, in_rows, prepare
from tpnum.gauss.rules import Kept
from tpnum.kernels.carry import carry
from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.evaluate.recurrence import Crossing
    from tpnum.functions import Function

    Gaussian = tuple[graph.Profile, graph.Profile | None, tuple[graph.Profile, ...]]
    """The variance, the mean and the scalars of a function's argument."""
    Form = tuple[np.ndarray, dict[int, np.ndarray]]
    """What a node is but for those that are carried along its row, and the coefficients of these."""

EXAMPLE: Dim = ("", 2)
"""The examples, each of which meets itself alone."""


class Rows:
    """The rows of pair nodes at one step after the other, of all examples of ``whole``.

    A row has two parts, what is below the diagonal and what is ``on`` it, which may stand on the former.
    """

    def __init__(self, crossing: Crossing, whole: ProfileValues):
        self.crossing, self.axis, self.whole = crossing, crossing.axis, whole
        self._before: dict[int, np.ndarray] = {}
        self._now: dict[tuple[int, bool], np.ndarray] = {}
        self._on = False
        self._blocks: dict[int, np.ndarray] = {}
        self._known: dict[graph.Key, np.ndarray] = {}  # at all steps, of which some are there
        self._recorded: dict[graph.Key, int] = {}  # up to which
        self._kept: dict[Function, Kept] = {}
        self._dims: dict[int, list[Dim]] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}

    def start(self, step: int, values: ProfileValues) -> None:
        """Begin the row of a step; ``values`` are the quantities of one input there."""
        self._now, self.step, self._values = {}, step, values
        self._calls: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray | None]] = {}

    def finish(self) -> None:
        """Keep what the next row reads of this one, and the quantities of one input that it asks for."""
        kept: dict[int, np.ndarray] = {}
        for node in self.crossing.order:
            parts = [self.part(node, on) for on in (False, True)]
            if id(node) in self.crossing.kept:
                names = self.dims(node)
                wide = (self.axis, 1) in names
                kept[id(node)] = np.concatenate(parts, axis=names.index((self.axis, 1))) if wide else parts[1]
        self._before = kept

    def reduced(self, node: graph.Reduced) -> np.ndarray:
        """(N, *axes) of a quantity of one input that is an entry of a pair node."""
        own = [key if key == EXAMPLE else key[0] for key in self.dims(node.pair)]
        return labels.align(self.part(node.pair, True), own, [EXAMPLE, *(name for name, _ in node.axes)])

    def part(self, node: graph.Pair, on: bool) -> np.ndarray:
        """A part of a row, with every dimension."""
        before, self._on = self._on, on
        try:
            return np.broadcast_to(self(node), self.shape(node))
        finally:
            self._on = before

    def dims(self, node: graph.Pair) -> list[Dim]:
        """Those of a row: of examples there is one dimension."""
        if id(node) not in self._dims:
            self._dims[id(node)] = [EXAMPLE, *(key for key in dims(node) if key[0])]
        return self._dims[id(node)]

    def shape(self, node: graph.Pair) -> tuple[int, ...]:
        """The lengths of a row's dimensions."""
        if id(node) not in self._shapes:
            sides = ((2, node.tied), (0, node.rows), (1, node.cols))
            sizes = {(name, side): size for side, axes in sides for name, size in axes}
            sizes |= {(self.axis, side): 1 for side in (0, 1, 2)} | {EXAMPLE: self.whole.size}
            self._shapes[id(node)] = tuple(sizes[key] for key in self.dims(node))
        known = self._shapes[id(node)]
        if self._on or (self.axis, 1) not in self.dims(node):
            return known
        place = self.dims(node).index((self.axis, 1))
        return (*known[:place], self.step, *known[place + 1 :])

    def __call__(self, node: graph.Pair) -> np.ndarray:
        key = id(node), self._on
        if key not in self._now:
            moving = id(node) in self.crossing.moving
            followed = moving or isinstance(node, graph.Sum | graph.Shared | graph.Gram)
            shape = self.shape(node)
            if 0 in shape:
                self._now[key] = np.zeros(shape)
            else:
                self._now[key] = self._compute(node) if followed else self._cut(node)
        return self._now[key]

    def inner(self, node: graph.Pair, frame: graph.Pair) -> np.ndarray:
        """A node's row along that of ``frame``."""
        return _aligned(self(node), self.dims(node), self.dims(frame))

    def profile(self, node: graph.Profile, side: int, frame: graph.Pair) -> np.ndarray:
        """A quantity of one input along a part of a row of ``frame``: in free columns at the steps before."""
        axes = self._values.axes(node)
        names = [name for name, _ in axes]
        tied = (self.axis, 2) in self.dims(frame)
        own = [EXAMPLE, *((name, 2 if (name, 2) in self.dims(frame) else side) for name in names)]
        if self.axis not in names:
            return _aligned(self._values(node), own, self.dims(frame))
        early = side and not self._on and not tied  # what is now may stand on what is before
        if not early and self._recorded.get(node.key, -1) < self.step:
            now = self._values(node)
            if node.key not in self._known:
                self._known[node.key] = np.empty((now.shape[0], *(size for _, size in axes)))
            at_step(self._known[node.key], axes, self.axis, self.step)[...] = now
            self._recorded[node.key] = self.step
        steps = slice(0, self.step) if early else slice(self.step, self.step + 1)
        where = (slice(None), *(steps if name == self.axis else slice(None) for name in names))
        return _aligned(self._known[node.key][where], own, self.dims(frame))

    def _cut(self, node: graph.Pair) -> np.ndarray:
        """A row of what stands on no state, which is computed as a whole."""
        if id(node) not in self._blocks:
            made = []
            for example in range(self.whole.size):
                at = slice(example, example + 1)
                tile = TileValues(self.whole, self.whole, at, at, same=True)
                tile.run([node])
                made.append(
                    labels.align(tile.full(node), dims(node), [("", 0), ("", 1), *self.dims(node)[1:]])
                )
            self._blocks[id(node)] = np.concatenate(made)[:, 0]
        here = slice(self.step, self.step + 1)
        places = {(self.axis, 0): here, (self.axis, 1): here if self._on else slice(0, self.step)}
        places[self.axis, 2] = here
        return self._blocks[id(node)][tuple(places.get(key, slice(None)) for key in self.dims(node))]

    # -- rules -------------------------------------------------------------------------------------

    @singledispatchmethod
    def _compute(self, node: graph.Pair) -> np.ndarray:
        raise TypeError(f"no rule for {type(node).__name__}")

    @_compute.register
    def _(self, node: graph.Shared) -> np.ndarray:
        return np.full((1,) * len(self.dims(node)), node.value)

    @_compute.register
    def _(self, node: graph.Gram) -> np.ndarray:
        tied = {name for name, _ in node.tied}
        letters = {key: chr(97 + k) for k, key in enumerate(self.dims(node))}
        spelled, sides = [], []
        for side, name in enumerate(node.data):
            axes = [axis for axis, _ in self.whole.site.lines.axes(name)]
            early = side and self.axis not in tied and not self._on
            steps = slice(0, self.step) if early else slice(self.step, self.step + 1)
            here = [steps if axis == self.axis else slice(None) for axis in axes]
            sides.append(self.whole.data[name][(slice(None), *here)].astype(np.float64))
            own = [EXAMPLE, *((axis, 2 if axis in tied else side) for axis in axes)]
            spelled.append("".join(letters[key] for key in own) + "z")
        made = np.einsum(f"{','.join(spelled)}->{''.join(letters.values())}", *sides)
        return np.asarray(made) / sides[0].shape[-1]

    @_compute.register
    def _(self, node: graph.Sum) -> np.ndarray:
        total = np.zeros((1,) * len(self.dims(node)))
        for part in node.parts:
            value = self._factor(part, node)
            for pair in part.pairs:
                value = value * self.inner(pair, node)
            total = total + value
        return total

    def _factor(self, part: graph.Part, frame: graph.Pair) -> np.ndarray:
        """The coefficient of a part and its quantities of one input."""
        total = np.full((1,) * len(self.dims(frame)), float(part.coef))
        for side, factors in enumerate((part.rows, part.cols)):
            for factor in factors:
                total = total * self.profile(factor, side, frame)
        return total

    @_compute.register
    def _(self, node: graph.Diagonal) -> np.ndarray:
        row, names = self.part(node.operand, True), self.dims(node.operand)
        for name, _ in node.axes:
            own = [k for k, key in enumerate(names) if key[0] == name]
            if len(own) == 2:
                row = np.moveaxis(np.diagonal(row, axis1=own[0], axis2=own[1]), -1, own[0])
            names = [*names[: own[0]], (name, 2), *(key for key in names[own[0] :] if key[0] != name)]
        return labels.align(row, names, self.dims(node))

    @_compute.register
    def _(self, node: graph.Dual) -> np.ndarray:
        key = id(node.call), self._on
        if key not in self._calls:
            self._calls[key] = self._call(node.call, node)
        made = self._calls[key][node.what == "slope"]
        assert made is not None
        return made

    def _call(self, call: graph.DualCall, frame: graph.Pair) -> tuple[np.ndarray, np.ndarray | None]:
        """E f g and E f' g' at the cells of a row."""
        shape, names = self.shape(frame), self.dims(frame)
        q, q2 = (self.profile(var, side, frame) for side, var in enumerate(call.vars))
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = np.where(q * q2 > 0.0, self.inner(call.cov, frame) / np.sqrt(q) / np.sqrt(q2), 1.0)
        e = np.maximum(1.0 - np.abs(rho), 0.0)
        e[e <= ROUNDING] = 0.0
        e = np.broadcast_to(np.copysign(e, rho), shape)
        if call.own:
            e = self._apart(e, frame)
        left, i = self._prepared(call.f, (call.vars[0], call.means[0], call.f_scalars), 0, frame)
        right, j = self._prepared(call.g, (call.vars[1], call.means[1], call.g_scalars), 1, frame)
        steep = "slope" in call.wanted
        if (self.axis, 1) not in names:
            made, d = in_rows(left, right, i[..., None], j[..., None], e[..., None], steep)
        else:  # the steps, of each row together
            place = names.index((self.axis, 1))
            i_last, j_last, e_last = (np.moveaxis(part, place, -1) for part in (i, j, e))
            made, d = in_rows(left, right, i_last, j_last, e_last, steep)
            made, d = np.moveaxis(made, -1, place), d if d is None else np.moveaxis(d, -1, place)
        value = np.copysign(1.0 - np.abs(made), made).reshape(shape)
        value = value * np.sqrt(left.second)[i] * np.sqrt(right.second)[j]
        return value, d if d is None else d.reshape(shape)

    def _prepared(
        self, fn: Function, gaussian: Gaussian, side: int, frame: graph.Pair
    ) -> tuple[Prepared, np.ndarray]:
        """One side's one-dimensional integrals, and the place of every cell among them."""
        var, mean, scalars = gaussian
        arrays = [self.profile(node, side, frame) for node in (var, *([mean] if mean else ()), *scalars)]
        both = np.broadcast_arrays(*arrays)
        q, *rest = (np.ravel(array) for array in both)
        kept = self._kept.setdefault(fn, Kept())
        prepared = prepare(fn, q, rest.pop(0) if mean else None, tuple(rest), kept=kept, many=1)
        return prepared, np.broadcast_to(np.arange(q.size).reshape(both[0].shape), self.shape(frame))

    def _apart(self, e: np.ndarray, node: graph.Pair) -> np.ndarray:
        """Co-correlations that are zero where every free index agrees on both sides."""
        cols = dict(node.cols)
        shared = [(name, size) for name, size in node.rows if name in cols]
        if not self._on and any(name == self.axis for name, _ in shared):
            return e
        same = np.ones((1,) * e.ndim, bool)
        for name, size in shared:
            if name != self.axis:
                equal = np.arange(size)[:, None] == np.arange(cols[name])
                same = same & labels.align(equal, [(name, 0), (name, 1)], self.dims(node))
        return np.where(same, 0.0, e)

    # -- states ------------------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Carried) -> np.ndarray:
        if node.row_delay is None:
            return self._sideways(node)
        shape, names = self.shape(node), self.dims(node)
        if not self.step:
            return np.zeros(shape)
        free = (self.axis, 1) in names
        if free and self._on and node.col_delay is None:  # above the diagonal: below it with sides exchanged
            other = self.crossing.turned[node.names]
            turned = [(name, {0: 1, 1: 0}.get(side, side)) for name, side in self.dims(other)]
            return labels.align(self.part(other, True), turned, names)
        below = labels.align(self._before[id(node.below[0])], self.dims(node.below[0]), names)
        if not free or node.col_delay is None:
            return below
        place = names.index((self.axis, 1))
        if self._on:
            return below.take([-1], axis=place)
        row = np.zeros(shape)
        np.moveaxis(row, place, 0)[1:] = np.moveaxis(below, place, 0)[:-1]
        return row

    def _sideways(self, node: graph.Carried) -> np.ndarray:
        """States of the columns alone: a linear recurrence along the row, of all that need one another."""
        if self._on:
            if not self.step:
                return np.zeros(self.shape(node))
            names = self.dims(node.below[0])
            last = self.part(node.below[0], False).take([-1], axis=names.index((self.axis, 1)))
            return labels.align(last, names, self.dims(node))
        loop = self.crossing.loops[id(node)]
        states = [at for at in loop if isinstance(at, graph.Carried)] or [node]
        inside = {id(at) for at in loop}
        flat = [self._flat(state) for state in states]
        base, coefs = [], []
        for state in states:
            free, linear = self._form(state.below[0], inside)
            below, goal = self.dims(state.below[0]), self.dims(state)
            base.append(self._laid(_aligned(free, below, goal), state))
            zero = np.zeros((1,) * len(goal))
            coefs += [
                self._laid(_aligned(linear[id(s)], below, goal) if id(s) in linear else zero, state)
                for s in states
            ]
        count = len(states)
        made = np.empty((count, *flat[0]))
        carry(np.stack(base), np.stack(coefs).reshape(count, count, *flat[0]), made)
        for state, row in zip(states, made, strict=True):
            place = self.dims(state).index((self.axis, 1))
            shape = self.shape(state)
            moved = row.reshape(*shape[:place], *shape[place + 1 :], shape[place])
            self._now[id(state), False] = np.moveaxis(moved, -1, place)
        return self._now[id(node), False]

    def _flat(self, state: graph.Carried) -> tuple[int, int]:
        shape = self.shape(state)
        return int(np.prod(shape)) // self.step, self.step

    def _laid(self, row: np.ndarray, state: graph.Carried) -> np.ndarray:
        """A row of a state's dimensions as (all others, steps of the columns)."""
        place = self.dims(state).index((self.axis, 1))
        whole = np.broadcast_to(row, self.shape(state))
        return np.moveaxis(whole, place, -1).reshape(self._flat(state))

    def _form(self, node: graph.Pair, inside: set[int]) -> Form:
        """A node of a linear recurrence along its row by the states of this."""
        if id(node) not in inside:
            return self(node), {}
        ndim = len(self.dims(node))
        if isinstance(node, graph.Carried):
            return np.zeros((1,) * ndim), {id(node): np.ones((1,) * ndim)}
        assert isinstance(node, graph.Sum)
        total, linear = np.zeros((1,) * ndim), dict[int, np.ndarray]()
        for part in node.parts:
            value, states = self._factor(part, node), dict[int, np.ndarray]()
            for pair in part.pairs:
                free, more = self._form(pair, inside)
                own, goal = self.dims(pair), self.dims(node)
                free = _aligned(free, own, goal)
                states = {name: coef * free for name, coef in states.items()}
                states |= {name: value * _aligned(coef, own, goal) for name, coef in more.items()}
                value = value * free
            total = total + value
            for name, coef in states.items():
                linear[name] = linear.get(name, 0.0) + coef
        return total, linear


def _aligned(values: np.ndarray, own: list[Dim], target: list[Dim]) -> np.ndarray:
    return values if own == target else labels.align(values, own, target)
