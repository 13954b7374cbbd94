"""Pairs of steps of one input along a recurrence whose states meet what is not one: row by row.

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
from tpnum.evaluate.general import ROUNDING, PairValues
from tpnum.gauss.pair import Prepared, entries, prepare
from tpnum.kernels.carry import carry
from tpnum.law import graph
from tpnum.law.carried import Unfolded
from tpnum.law.sources import profiles

if TYPE_CHECKING:
    from collections.abc import Container

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.functions import Function

    Gaussian = tuple[graph.Profile, graph.Profile | None, tuple[graph.Profile, ...]]
    """The variance, the mean and the scalars of a function's argument."""
    Form = tuple[np.ndarray, dict[int, np.ndarray]]
    """What a node is but for those that are carried along its row, and the coefficients of these."""

EXAMPLE: Dim = ("", 2)
"""The examples, each of which meets itself alone."""


class Crossing:
    """The pair nodes that variances of a recurrence along ``axis`` are read from, and how they hang together.

    Quantities of one input whose keys are ``inside`` are known only step by step.

    Raises `Unfolded` where there are such as cannot be followed row by row.
    """

    def __init__(self, reduced: list[graph.Reduced], axis: str, inside: Container[graph.Key]):
        self.axis = axis
        self.order = graph.schedule([node.pair for node in reduced])
        carried = [node for node in self.order if isinstance(node, graph.Carried)]
        sideways = [node for node in carried if node.row_delay is None]
        self.turned = {node.names[::-1]: node for node in sideways}
        self.kept = {id(node.below[0]) for node in carried if node.row_delay is not None}
        below = {id(node): _beside(node) for node in self.order}
        reached: dict[int, set[int]] = {}
        for node in self.order:
            reached[id(node)] = found = set()
            todo = list(below[id(node)])
            while todo:
                if id(at := todo.pop()) not in found:
                    found.add(id(at))
                    todo += below[id(at)]
        self.moving = {id(node) for node in carried}
        self.moving |= {id(node) for node in self.order if any(at.key in inside for at in profiles(node))}
        size = 0
        while len(self.moving) > size:
            size = len(self.moving)
            self.moving |= {id(n) for n in self.order if self.moving & {id(b) for b in below[id(n)]}}
        self.loops = {
            id(node): [at for at in self.order if id(at) in reached[id(node)] and id(node) in reached[id(at)]]
            for node in sideways
        }
        self._check(carried)

    def _check(self, carried: list[graph.Carried]) -> None:
        for state in carried:
            whole = (
                state.col_delay is None and self.axis in dict(state.cols) and state.names not in self.turned
            )
            if state.axis != self.axis or whole:
                raise Unfolded("a recurrence that reads later steps of another line")
        for node in self.order:
            if id(node) in self.moving and not isinstance(node, FOLLOWED):
                raise Unfolded(f"{type(node).__name__} is not followed row by row")
        for loop in self.loops.values():
            if not all(isinstance(node, graph.Sum | graph.Carried) for node in loop):
                raise Unfolded("a recurrence along the steps of one side that is not linear")


def _beside(node: graph.Pair) -> list[graph.Pair]:
    """What a node's row is computed from in the same row, below the diagonal."""
    if not isinstance(node, graph.Carried):
        return graph.operands(node)
    return node.below if node.row_delay is None else []


FOLLOWED = (graph.Sum, graph.Dual, graph.Diagonal, graph.Carried)
"""The nodes on states that have rules here."""


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
        self._known: dict[graph.Key, list[np.ndarray]] = {}

    def start(self, step: int, values: ProfileValues) -> None:
        """Begin the row of a step; ``values`` are the quantities of one input there."""
        self._now, self.step, self._values = {}, step, values
        self._calls: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}

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
        return [EXAMPLE, *(key for key in dims(node) if key[0])]

    def shape(self, node: graph.Pair) -> tuple[int, ...]:
        """The lengths of a row's dimensions."""
        sides = ((2, node.tied), (0, node.rows), (1, node.cols))
        sizes = {(name, side): size for side, axes in sides for name, size in axes}
        sizes |= {(self.axis, 0): 1, (self.axis, 1): 1 if self._on else self.step, (self.axis, 2): 1}
        sizes[EXAMPLE] = self.whole.size
        return tuple(sizes[key] for key in self.dims(node))

    def __call__(self, node: graph.Pair) -> np.ndarray:
        key = id(node), self._on
        if key not in self._now:
            moving = id(node) in self.crossing.moving
            followed = moving or isinstance(node, graph.Sum | graph.Shared | graph.Gram)
            if 0 in self.shape(node):
                self._now[key] = np.zeros(self.shape(node))
            else:
                self._now[key] = self._compute(node) if followed else self._cut(node)
        return self._now[key]

    def inner(self, node: graph.Pair, frame: graph.Pair) -> np.ndarray:
        """A node's row along that of ``frame``."""
        return labels.align(self(node), self.dims(node), self.dims(frame))

    def profile(self, node: graph.Profile, side: int, frame: graph.Pair) -> np.ndarray:
        """A quantity of one input along a part of a row of ``frame``: in free columns at the steps before."""
        tied = {name for name, _ in frame.tied}
        axes = self._values.axes(node)
        known = self._known.setdefault(node.key, [])
        if not side or self._on or self.axis in tied or self.axis not in dict(axes):
            values = self._values(node)
            if len(known) == self.step:
                known.append(values)
        else:
            values = np.concatenate(known[: self.step], axis=1 + [name for name, _ in axes].index(self.axis))
        own = [EXAMPLE, *((name, 2 if name in tied else side) for name, _ in axes)]
        return labels.align(values, own, self.dims(frame))

    def _cut(self, node: graph.Pair) -> np.ndarray:
        """A row of what stands on no state, which is computed as a whole."""
        if id(node) not in self._blocks:
            made = []
            for example in range(self.whole.size):
                at = slice(example, example + 1)
                tile = PairValues(self.whole, self.whole, at, at, same=True)
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
            i, j = names.index((name, 0)), names.index((name, 1))
            row = np.diagonal(row, axis1=i, axis2=j)
            names = [*(key for key in names if key[0] != name), (name, 2)]
        return labels.align(row, names, self.dims(node))

    @_compute.register
    def _(self, node: graph.Dual) -> np.ndarray:
        key = id(node.call), self._on
        if key not in self._calls:
            self._calls[key] = self._call(node.call, node)
        return self._calls[key][node.what == "slope"]

    def _call(self, call: graph.DualCall, frame: graph.Pair) -> tuple[np.ndarray, np.ndarray]:
        """E f g and E f' g' at the cells of a row."""
        shape = self.shape(frame)
        q, q2 = (self.profile(var, side, frame) for side, var in enumerate(call.vars))
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = np.where(q * q2 > 0.0, self.inner(call.cov, frame) / np.sqrt(q) / np.sqrt(q2), 1.0)
        e = np.maximum(1.0 - np.abs(rho), 0.0)
        e[e <= ROUNDING] = 0.0
        e = np.broadcast_to(np.copysign(e, rho), shape)
        if call.own:
            e = np.where(self._coincide(frame), 0.0, e)
        left, i = self._prepared(call.f, (call.vars[0], call.means[0], call.f_scalars), 0, frame)
        right, j = self._prepared(call.g, (call.vars[1], call.means[1], call.g_scalars), 1, frame)
        steep = "slope" in call.wanted
        made, slope = entries(left, right, i, j, np.ravel(e), np.float64, steep)
        value = np.copysign(1.0 - np.abs(made), made) * np.sqrt(left.second[i]) * np.sqrt(right.second[j])
        return value.reshape(shape), slope.reshape(shape) if steep else slope

    def _prepared(
        self, fn: Function, gaussian: Gaussian, side: int, frame: graph.Pair
    ) -> tuple[Prepared, np.ndarray]:
        """One side's one-dimensional integrals, and the place of every cell among them."""
        var, mean, scalars = gaussian
        arrays = [self.profile(node, side, frame) for node in (var, *([mean] if mean else ()), *scalars)]
        both = np.broadcast_arrays(*arrays)
        q, *rest = (np.ravel(array) for array in both)
        prepared = prepare(fn, q, rest.pop(0) if mean else None, tuple(rest))
        index = np.broadcast_to(np.arange(q.size).reshape(both[0].shape), self.shape(frame))
        return prepared, index.ravel()

    def _coincide(self, node: graph.Pair) -> np.ndarray:
        """Where every free index agrees on both sides."""
        cols = dict(node.cols)
        total = np.ones((1,) * len(self.dims(node)), bool)
        for name, size in node.rows:
            if name in cols:
                equal = np.arange(size)[:, None] == np.arange(cols[name])
                if name == self.axis:
                    equal = np.full((1, 1 if self._on else self.step), self._on)
                total = total & labels.align(equal, [(name, 0), (name, 1)], self.dims(node))
        return total

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
            base.append(self._laid(labels.align(free, below, goal), state))
            zero = np.zeros((1,) * len(goal))
            coefs += [
                self._laid(labels.align(linear[id(s)], below, goal) if id(s) in linear else zero, state)
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
                free = labels.align(free, own, goal)
                states = {name: coef * free for name, coef in states.items()}
                states |= {name: value * labels.align(coef, own, goal) for name, coef in more.items()}
                value = value * free
            total = total + value
            for name, coef in states.items():
                linear[name] = linear.get(name, 0.0) + coef
        return total, linear
