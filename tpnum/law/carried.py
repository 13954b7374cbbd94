"""Carried states: second moments that depend on themselves at earlier steps.

K(t, t') of two states is that of what follows them at (t - 1, t' - 1), and zero at the first step of either
input; that of a state and of what is not one is that of what follows the state at (t - 1, t').  The rules ask
for it while that is not known yet, so they are given a node whose operand is filled in afterwards
(`States.close`).  Whether a pair of states is correlated at all is a fixed point: none is, until the rules
find the opposite; then everything is asked again.  So it is with the mean of a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tpnum.errors import LimitError
from tpnum.law import graph
from tpnum.program.lines import Delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.law.pairs import Pairs
    from tpnum.program.lines import Axes


class Unfolded(LimitError):
    """A folded scan whose law reads other steps than it can be followed by."""


class Demand(NamedTuple):
    """Rules, the variables one step before, their ties, whether centred, and where what is found is put.

    ``alike`` says that both sides are states, and of one variable: they may have increments.
    """

    pairs: Pairs
    names: tuple[str, str]
    tied: Axes
    centred: bool
    alike: bool
    below: list[graph.Pair]


class Moment(NamedTuple):
    """A moment of a state at one input, how to ask for that of what follows it, and where that is put."""

    key: graph.Key
    ask: Callable[[], graph.Profile | None]
    below: list[graph.Profile]


class States:
    """What is known of states, and what was asked about them.

    ``increments`` has the pairs that are correlated, and whether they have increments; ``means`` the means
    that are not zero.  Both are taken over from what is ``known`` already.
    """

    def __init__(self, known: States | None = None):
        self.increments: dict[graph.Key, bool] = known.increments if known else {}
        self.means: set[graph.Key] = known.means if known else set()
        self._pairs: dict[graph.Key, Demand] = {}
        self._moments: list[Moment] = []

    def moment(self, key: graph.Key, line: Delay, ask: Callable[[], graph.Profile]) -> graph.Carried1:
        """A second moment of a state at one input."""
        self._moments.append(Moment(key, ask, []))
        return graph.Carried1(key, line.axes, delay=line, below=self._moments[-1].below)

    def mean(
        self, key: graph.Key, line: Delay, ask: Callable[[], graph.Profile | None]
    ) -> graph.Carried1 | None:
        """The mean of a state as far as it is known; None is one that is assumed to be zero."""
        self._moments.append(Moment(key, ask, []))
        if key not in self.means:
            return None
        return graph.Carried1(key, line.axes, delay=line, below=self._moments[-1].below)

    def pair(self, pairs: Pairs, names: tuple[str, str], tied: Axes, centred: bool) -> graph.Pair | None:
        """The second moments of states as far as they are known; None are those assumed to be zero.

        One of two variables is a state at least; both step back where they are states along one axis.
        """
        lines = [own.by_name[name] for own, name in zip(pairs.lines, names, strict=True)]
        first, second = (line if isinstance(line, Delay) else None for line in lines)
        if first and second and first.axis != second.axis:
            second = None
        along = {line.axis for line in (first, second) if line}
        both = first is not None and second is not None
        loose = () if both else tuple(axis for axis in tied if axis[0] in along)
        if loose:
            free = tuple(axis for axis in tied if axis not in loose)
            inner = pairs.second(*names, free, centred)
            frame = pairs.frame(*names, tied)
            return inner and graph.Diagonal(*frame, increments=False, operand=inner, axes=loose)
        key = (*map(id, pairs.lines), *names, tied, centred)
        before = (first.family if first else names[0], second.family if second else names[1])
        below: list[graph.Pair] = []
        self._pairs[key] = Demand(pairs, before, tied, centred, both and before[0] == before[1], below)
        if key not in self.increments:
            return None
        return graph.Carried(
            *pairs.frame(*names, tied),
            increments=self.increments[key],
            names=names,
            row_delay=first,
            col_delay=second,
            below=below,
        )

    def close(self) -> bool:
        """Fill in what states stand on; False if there is more of it than was assumed."""
        pairs, moments = 0, 0
        while pairs < len(self._pairs) or moments < len(self._moments):  # which grow
            if pairs < len(self._pairs):
                key = list(self._pairs)[pairs]
                pairs += 1
                settled = self._close_pair(key, self._pairs[key])
            else:
                settled = self._close_moment(self._moments[moments])
                moments += 1
            if not settled:
                return False
        return True

    def _close_pair(self, key: graph.Key, asked: Demand) -> bool:
        inner = asked.pairs.second(*asked.names, asked.tied, asked.centred)
        if inner is None:
            return True
        known = self.increments.get(key)
        self.increments[key] = known is not False and asked.alike and inner.increments
        asked.below.append(inner)
        return known is self.increments[key]

    def _close_moment(self, asked: Moment) -> bool:
        found = asked.ask()
        if found is None:
            return True
        asked.below.append(found)
        if asked.key[0] != "mean" or asked.key in self.means:
            return True
        self.means.add(asked.key)
        return False
