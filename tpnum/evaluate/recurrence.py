"""Which nodes of one input form one recurrence: its states, and all that lies between two steps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tpnum.law import graph
from tpnum.law.carried import Unfolded
from tpnum.law.sources import below, profiles
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Container

    from tpnum.law.site import Site


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
        beside = {id(node): _beside(node) for node in self.order}
        reached: dict[int, set[int]] = {}
        for node in self.order:
            reached[id(node)] = found = set()
            todo = list(beside[id(node)])
            while todo:
                if id(at := todo.pop()) not in found:
                    found.add(id(at))
                    todo += beside[id(at)]
        self.moving = {id(node) for node in carried}
        self.moving |= {id(node) for node in self.order if any(at.key in inside for at in profiles(node))}
        size = 0
        while len(self.moving) > size:
            size = len(self.moving)
            self.moving |= {id(n) for n in self.order if self.moving & {id(b) for b in beside[id(n)]}}
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


@dataclass(frozen=True, eq=False)
class Recurrence:
    """States along ``axis`` that depend on one another, and all quantities between them, in order.

    ``crossed`` are those among them that are read from pairs of steps, and ``crossing`` these pairs.
    """

    axis: str
    states: list[graph.Carried1]
    inside: list[graph.Profile]
    crossed: list[graph.Reduced]
    crossing: Crossing | None

    @classmethod
    def of(cls, axis: str, states: list[graph.Carried1], inside: list[graph.Profile]) -> Recurrence:
        """That of states and of what lies between them.

        Raises `Unfolded` as `Crossing` does, and where states stand on pairs of their own positions.
        """
        if any(isinstance(node, graph.Reduced) and not node.crossed for node in inside if states):
            raise Unfolded("a recurrence whose variances are of pairs of positions")
        crossed = [node for node in inside if isinstance(node, graph.Reduced) and node.crossed]
        keys = {node.key for node in (*states, *inside)}
        return cls(axis, states, inside, crossed, Crossing(crossed, axis, keys) if crossed else None)


_KNOWN: WeakKeyDictionary[Site, dict[graph.Key, Recurrence]] = WeakKeyDictionary()


def recurrence(site: Site, state: graph.Carried1) -> Recurrence:
    """That of a state of one input, looked for once."""
    known = _KNOWN.setdefault(site, {})
    if state.key not in known:
        found = Recurrence.of(state.delay.axis, *_loop(site, state))
        known |= {at.key: found for at in found.states}
    return known[state.key]


def _loop(site: Site, start: graph.Carried1) -> tuple[list[graph.Carried1], list[graph.Profile]]:
    """The states that a state depends on and that depend on it, and all quantities between them, in order."""
    found: dict[graph.Key, list[graph.Profile]] = {}

    def known(at: graph.Profile) -> list[graph.Profile]:
        if at.key not in found:
            found[at.key] = before(site, at)
        return found[at.key]

    first: list[graph.Profile] = [start]
    order = postorder(first, known, lambda n: n.key, ())
    back = {start.key}
    size = 0
    while len(back) > size:
        size = len(back)
        for at in order:
            if any(s.key in back for s in known(at)):
                back.add(at.key)
    states = [at for at in order if isinstance(at, graph.Carried1) and at.key in back]
    ends = {at.key for at in order if isinstance(at, graph.Carried1)}
    within = [source for state in states for source in known(state)]
    order = postorder(within, lambda n: known(n) if n.key not in ends else [], lambda n: n.key, ())
    return states, [at for at in order if at.key in back and not isinstance(at, graph.Carried1)]


def before(site: Site, at: graph.Profile) -> list[graph.Profile]:
    """What a quantity of one input is computed from, at this step or the one before."""
    return [*at.below] if isinstance(at, graph.Carried1) else below(site, at)
