"""Carried states: second moments that depend on themselves one step before.

K(t, t') of a state is that of what follows it at (t - 1, t' - 1), and zero at the first step of either
input.  The rules ask for it while that is not known yet, so they are given a node whose operand is filled in
afterwards (`States.close`).  Whether a pair of states is correlated at all is a fixed point: none is, until
the rules find the opposite; then everything is asked again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from tpnum.errors import LimitError
from tpnum.law import graph
from tpnum.program.lines import Delay

if TYPE_CHECKING:
    from tpnum.law.pairs import Pairs
    from tpnum.law.site import Site
    from tpnum.program.lines import Axes, Line


class Unfolded(LimitError):
    """A pair of variables of a folded scan whose law reads other steps than those just before."""


Demand: TypeAlias = "tuple[Pairs, str, str, Axes, bool, list[graph.Pair]]"
"""Rules, the variables that two states are delays of, their ties, whether centred, and where it is put."""


class States:
    """Pairs of states: those that are known to be correlated, and what was asked about all of them.

    ``increments`` has the correlated ones, and whether they have increments.
    """

    def __init__(self, increments: dict[graph.Key, bool] | None = None):
        self.increments = increments or {}
        self._pairs: dict[graph.Key, Demand] = {}
        self._profiles: list[tuple[Site, str, list[graph.Profile]]] = []

    def profile(self, site: Site, line: Delay, key: graph.Key) -> graph.Profile:
        """The second moments of a state at one input."""
        below: list[graph.Profile] = []
        self._profiles.append((site, line.family, below))
        return site.keys.setdefault(key, graph.Carried1(key, line.axes, delay=line, below=below))

    def pair(
        self, pairs: Pairs, lines: tuple[Line, Line], frame: tuple[Axes, Axes, Axes], centred: bool
    ) -> graph.Pair | None:
        """The second moments of two states as far as they are known; None are those assumed to be zero."""
        la, lb = lines
        if not (isinstance(la, Delay) and isinstance(lb, Delay) and la.axis == lb.axis):
            raise Unfolded("a carried state is read beside a variable that is not one")
        tied = frame[0]
        key = (*map(id, pairs.lines), la.name, lb.name, tied, centred)
        below: list[graph.Pair] = []
        self._pairs[key] = (pairs, la.family, lb.family, tied, centred, below)
        if key not in self.increments:
            return None
        return graph.Carried(*frame, increments=self.increments[key], row_delay=la, col_delay=lb, below=below)

    def close(self) -> bool:
        """Fill in what states stand on; False if more of them are correlated than was assumed."""
        done: set[graph.Key] = set()
        while len(done) < len(self._pairs):
            for key in [key for key in self._pairs if key not in done]:
                done.add(key)
                pairs, a, b, tied, centred, below = self._pairs[key]
                inner = pairs.second(a, b, tied, centred)
                if inner is None:
                    continue
                known = self.increments.get(key)
                found = known is not False and a == b and inner.increments
                if known is not found:
                    self.increments[key] = found
                    return False
                below.append(inner)
        for site, family, second in self._profiles:  # which grow
            second.append(site.second(family, family) or site.zero())
        return True
