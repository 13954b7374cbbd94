"""Recurrences on a tile by the general path: all pairs of steps (s, t), one antidiagonal s + t at a time.

A pair of states at two steps is known from pairs one step before on one side or on both, so all pairs of
steps with the same sum are computed at once: by the rules of `tpnum.evaluate.general`, on nodes that have
one axis of such pairs where those of the graph have the steps of the rows and of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import Block, dims
from tpnum.evaluate.general import PairValues
from tpnum.law import graph
from tpnum.law.carried import Unfolded
from tpnum.law.remade import Remade
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tpnum.program.lines import Axes

    Steps = tuple[np.ndarray, np.ndarray]
    """The steps of the rows and of the columns, pair by pair."""


@dataclass(frozen=True, eq=False)
class Loop:
    """States along ``axis`` that depend on one another, or one that does not, and the nodes between them.

    ``inside`` are these nodes, operands first, and ``reads`` what they and the states are made of besides.
    """

    axis: str
    states: list[graph.Carried]
    inside: list[graph.Pair]
    reads: list[graph.Pair]

    @property
    def below(self) -> list[graph.Pair]:
        """What the states are one step before."""
        return list({id(node): node for (node,) in (state.below for state in self.states)}.values())


def first_loop(order: list[graph.Pair]) -> Loop | None:
    """One that stands on no other, of nodes in the order of `graph.schedule`; None if there is none.

    Raises `Unfolded` where a step cannot be computed from the one before.
    """
    states = [node for node in order if isinstance(node, graph.Carried)]
    if not states:
        return None
    reads = {id(node): _reads(node) for node in order}
    readers: dict[int, list[graph.Pair]] = {id(node): [] for node in order}
    for node in order:
        for below in reads[id(node)]:
            if id(below) in readers:
                readers[id(below)].append(node)
    while states:
        state = states[0]
        back = _reached(state, reads)
        own = back & _reached(state, readers)
        others = [node for node in states if id(node) in back - own]
        if not others:
            return _loop(state.axis, [node for node in order if id(node) in own], reads)
        states = others
    return None


def check(outputs: list[graph.Pair]) -> None:
    """Raise `Unfolded` where the recurrences that outputs stand on are not computed step by step."""
    if any(isinstance(node, graph.PairExpect) for node in graph.schedule(outputs)):
        raise Unfolded("expectations of pairs of steps that are unlike: few points serve all of them")
    known: set[int] = set()
    while loop := first_loop(graph.schedule(outputs, known)):
        known |= {id(state) for state in loop.states}


def _loop(axis: str, nodes: list[graph.Pair], reads: dict[int, list[graph.Pair]]) -> Loop:
    own = {id(node) for node in nodes}
    states = [node for node in nodes if isinstance(node, graph.Carried)]
    inside = [node for node in nodes if not isinstance(node, graph.Carried)]
    outside = {id(below): below for node in nodes for below in reads[id(node)] if id(below) not in own}
    _check(axis, states, inside)
    return Loop(axis, states, inside, list(outside.values()))


def _reads(node: graph.Pair) -> list[graph.Pair]:
    """The nodes that a node is made of, at the same step or one before."""
    return node.below if isinstance(node, graph.Carried) else graph.operands(node)


def _reached(start: graph.Pair, edges: dict[int, list[graph.Pair]]) -> set[int]:
    """A node and what is reached from it."""
    return {id(node) for node in postorder([start], lambda node: edges.get(id(node), []), id, ())}


FOLLOWED = (graph.Sum, graph.Dual, graph.Mapped, graph.Weighted, graph.Embedded, graph.Diagonal)
"""The nodes that are computed for some pairs of steps."""


def _check(axis: str, states: list[graph.Carried], inside: list[graph.Pair]) -> None:
    if any(state.axis != axis for state in states):
        raise Unfolded("recurrences along two axes that stand on each other")
    for node in inside:
        if not isinstance(node, FOLLOWED) or axis in _changed(node):
            raise Unfolded(f"{type(node).__name__} is not computed step by step")
    if len({_sides(node, axis) for node in (*states, *inside)}) > 1:
        raise Unfolded("pairs of one step and of two that stand on each other")


def _changed(node: graph.Pair) -> set[str]:
    """The axes that a node is not computed along position by position."""
    match node:
        case graph.Mapped():
            maps = [one for one in (node.row_map, node.col_map) if one is not None]
            return {name for one in maps for name in (one.axis, *(name for name, _ in one.out))}
        case graph.Weighted():
            return {name for name, _ in (*node.over, *(node.weights.axes if node.weights else ()))}
        case graph.Embedded() | graph.Diagonal():
            return {name for name, _ in node.axes}
    return set()


def _sides(node: graph.Pair, axis: str) -> tuple[int, ...]:
    """The sides along which a node has an axis."""
    return tuple(side for name, side in dims(node) if name == axis)


# -- values -------------------------------------------------------------------------------------------------


def walked(
    values: PairValues, loop: Loop, order: list[graph.Pair], wanted: Sequence[int]
) -> dict[int, Block]:
    """The blocks of a loop's states, and of its nodes that others of ``order`` read or are ``wanted``."""
    own = {id(node) for node in (*loop.states, *loop.inside)}
    read = {id(below) for node in order if id(node) not in own for below in graph.operands(node)}
    kept = {id(node): node for node in loop.below}
    kept |= {id(node): node for node in loop.inside if id(node) in read or id(node) in wanted}
    around = PairValues(*_place(values))
    around.run(loop.reads, values.found, [id(node) for node in loop.reads if node.increments])
    made = {key: around(node) for key, node in kept.items() if key not in own}
    if loop.inside:
        inner = [node for key, node in kept.items() if key in own]
        made |= _Walk(loop, around, inner).blocks()
    blocks = {id(state): _stepped(state, made[id(state.below[0])], values) for state in loop.states}
    return blocks | {key: block for key, block in made.items() if key in own}


class _Walk:
    """The nodes ``kept`` of a loop, wave by wave; all that the loop reads is known to ``around``."""

    def __init__(self, loop: Loop, around: PairValues, kept: list[graph.Pair]):
        self.loop, self.around, self.kept, self.axis = loop, around, kept, loop.axis
        self.sides = _sides(kept[0], loop.axis)
        lengths = dict(zip(dims(kept[0]), around.shape(kept[0]), strict=True))
        self.lengths = [lengths[self.axis, side] for side in self.sides]
        self._made: dict[int, Block] = {}  # (*steps, *dimensions of a copy)
        self._copies: dict[int, dict[int, graph.Pair]] = {}

    def blocks(self) -> dict[int, Block]:
        """Those of the nodes that are kept."""
        for steps in self._waves():
            self._wave(steps)
        return {id(node): _each(partial(self._back, node), self._made[id(node)]) for node in self.kept}

    def _waves(self) -> Iterator[Steps]:
        n, m = self.lengths[0], self.lengths[-1]
        if len(self.sides) == 1:
            yield from ((at, at) for at in np.arange(n)[:, None])
            return
        for total in range(n + m - 1):
            steps = np.arange(max(0, total - m + 1), min(n, total + 1))
            yield steps, total - steps

    def _wave(self, steps: Steps) -> None:
        """Compute the nodes at some pairs of steps, and keep what they are."""
        copies = self._copied(steps[0].size)
        wave = _Wave(self.around, self.axis, steps)
        given = {id(copies[id(node)]): self._cut(node, steps) for node in self.loop.reads}
        given |= {id(copies[id(state)]): self._state(state, wave, steps) for state in self.loop.states}
        asked = [id(copies[id(node)]) for node in self.kept if node.increments]
        wave.run([copies[id(node)] for node in self.kept], given, asked)
        at = steps[: len(self.sides)]
        for node in self.kept:
            block, shape = wave(copies[id(node)]), wave.shape(copies[id(node)])
            if id(node) not in self._made:
                whole = (*self.lengths, *shape[1:])
                self._made[id(node)] = Block(np.empty(whole), None if block.d is None else np.empty(whole))
            for part, found in zip(self._made[id(node)], block, strict=True):
                if part is not None:
                    part[at] = found

    def _copied(self, count: int) -> dict[int, graph.Pair]:
        """The nodes of the loop and what they read, with an axis of so many pairs of steps."""
        if count not in self._copies:
            made: dict[int, graph.Pair] = {}
            remade = Remade(lambda node: made[id(node)])
            for node in (*self.loop.reads, *self.loop.states):
                made[id(node)] = _along_pairs(node, self.axis, count)
            for node in self.loop.inside:
                made[id(node)] = _along_pairs(remade(node), self.axis, count)
            self._copies[count] = made
        return self._copies[count]

    def _cut(self, node: graph.Pair, steps: Steps) -> Block:
        """What is known of a node at all steps, at some."""
        sides = _sides(node, self.axis)
        if not sides:
            return self.around(node)
        places = [dims(node).index((self.axis, side)) for side in sides]

        def picked(array: np.ndarray) -> np.ndarray:
            front = np.moveaxis(array, places, range(len(places)))
            lengths = zip(sides, front.shape, strict=False)
            return front[tuple(steps[side % 2] * (n > 1) for side, n in lengths)]

        return _each(picked, self.around(node))

    def _state(self, state: graph.Carried, wave: PairValues, steps: Steps) -> Block:
        """A state at some pairs of steps: what it was made of before, or nothing at the first."""
        (below,) = state.below
        copy = self._copied(steps[0].size)[id(state)]
        late = _late(state)
        before = [at - (side in late) for side, at in zip(self.sides, steps, strict=False)]
        there = np.flatnonzero(np.minimum(before[0], before[-1]) >= 0)
        start = _nothing(copy, wave)
        if not there.size:
            return start
        at = tuple(one[there] for one in before)
        if id(below) in self._made:
            then = _each(lambda array: array[at], self._made[id(below)])
        else:
            then = self._cut(below, (at[0], at[-1]))
        own, goal = ([(self.axis, 2), *(k for k in dims(x) if k[0] != self.axis)] for x in (below, state))

        def stepped(at_first: np.ndarray, part: np.ndarray) -> np.ndarray:
            whole = np.array(np.broadcast_to(at_first, wave.shape(copy)))
            whole[there] = labels.align(part, own, goal)
            return whole

        return _each(stepped, start, then)

    def _back(self, node: graph.Pair, array: np.ndarray) -> np.ndarray:
        """Of arrays with the steps in front the dimensions of the node."""
        places = [dims(node).index((self.axis, side)) for side in self.sides]
        return np.moveaxis(array, range(len(places)), places)


def _along_pairs(node: graph.Pair, axis: str, count: int) -> graph.Pair:
    """A node with one tied axis of pairs of steps in place of those along ``axis``, which stands first."""
    if not _sides(node, axis):
        return node

    def rest(axes: Axes) -> Axes:
        return tuple(one for one in axes if one[0] != axis)

    tied = ((axis, count), *rest(node.tied))
    return replace(node, tied=tied, rows=rest(node.rows), cols=rest(node.cols))


def _late(state: graph.Carried) -> set[int]:
    """The sides along which a state is that of the step before."""
    delays = (state.row_delay, state.col_delay)
    return {2, *(side for side, delay in enumerate(delays) if delay is not None)}


def _each(make: Callable[..., np.ndarray], *blocks: Block) -> Block:
    """What is made of K, and of D where all blocks have it."""
    increments = [block.d for block in blocks if block.d is not None]
    d = make(*increments) if len(increments) == len(blocks) else None
    return Block(make(*(block.k for block in blocks)), d)


def _nothing(node: graph.Pair, values: PairValues) -> Block:
    """A state that is uncorrelated with the other side's, as at its first step."""
    k = np.zeros((1,) * len(dims(node)))
    if not node.increments:
        return Block(k, None)
    first, second = values.seconds(node, node)
    return Block(k, first + second)


def _stepped(state: graph.Carried, then: Block, values: PairValues) -> Block:
    """A state from what follows it, one step before on each side that has a delay."""
    (below,) = state.below
    own, names, shape = dims(below), dims(state), values.shape(state)
    late = _late(state)
    places = [k for k, (name, side) in enumerate(names) if name == state.axis and side in late]

    def moved(at_first: np.ndarray, part: np.ndarray) -> np.ndarray:
        made = np.roll(np.broadcast_to(labels.align(part, own, names), shape), 1, places)
        for place in places:
            np.moveaxis(made, place, 0)[0] = np.moveaxis(np.broadcast_to(at_first, shape), place, 0)[0]
        return made

    return _each(moved, _nothing(state, values), then)


def _place(tile: PairValues) -> tuple[Any, ...]:
    """What a tile is made of, for another of which nothing is computed."""
    return (*tile.profiles, *tile.slices, tile.same, tile.proceed, tile.own)


class _Wave(PairValues):
    """A tile at some pairs of steps along an axis, where nodes have a tied one of that name."""

    def __init__(self, tile: PairValues, axis: str, steps: Steps):
        super().__init__(*_place(tile))
        self._axis, self._steps = axis, steps

    def some(self, values: np.ndarray, axes: Axes, side: int) -> np.ndarray:
        found = super().some(values, axes, side)
        for place, (name, _) in enumerate(axes, 1):
            if name == self._axis and found.shape[place] > 1:
                found = found.take(self._steps[side], axis=place)
        return found

    def coincide(self, node: graph.Pair) -> np.ndarray:
        same = super().coincide(node)
        if (self._axis, 2) not in dims(node):
            return same
        met = (self._steps[0] == self._steps[1]).astype(np.float64)
        return same * labels.align(met, [(self._axis, 2)], dims(node))
