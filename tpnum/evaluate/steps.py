"""Variances along a recurrence: step by step, all states that depend on one another together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate.crossing import Rows
from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.recurrence import Recurrence, before, recurrence
from tpnum.evaluate.tape import NotTaped, Tape, at_step
from tpnum.gauss.moments import bound, profile
from tpnum.gauss.prepared import has_family, prepare
from tpnum.gauss.rules import Kept, check_growth
from tpnum.gauss.spans import spanned_profile
from tpnum.law import graph
from tpnum.law.carried import Unfolded
from tpnum.law.sources import below, profiles
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.gauss.moments import Profile
    from tpnum.gauss.prepared import Prepared
    from tpnum.law.site import Site
    from tpnum.program.lines import Axes


class Moments(ProfileValues):
    """A profile pass that knows moments alone where no pair asks for more: series are for pairs."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self._known: dict[graph.Key, Profile | Prepared] = {}
        self._kept: dict[Function, Kept] = {}

    def _moments(self, node: graph.Expect1) -> Profile | Prepared:
        key = (node.fn, node.mean and node.mean.key, node.var.key, tuple(s.key for s in node.scalars))
        if key not in self._known:
            gaussian = node.var, node.mean, node.scalars
            self._known[key] = self._integrals(self._alone, node.fn, gaussian, node)
        return self._known[key]

    def _alone(
        self, fn: Function, variances: np.ndarray, means: np.ndarray | None, scalars: tuple[np.ndarray, ...]
    ) -> Profile | Prepared:
        if scalars or fn.name == "elementwise_numerical" or has_family(fn):
            return prepare(fn, variances, means, scalars)
        check_growth(fn, variances, 2)
        if means is None or not np.any(means):
            known = spanned_profile(bound(fn, ()), variances)
            if known is not None:
                return known
        kept = self._kept.setdefault(fn, Kept())
        return profile(fn, variances, 0.0 if means is None else means, kept=kept)


def walk(whole: ProfileValues, node: graph.Carried1) -> dict[graph.Key, np.ndarray]:
    """The values (N, *axes) of a carried state and of those that it depends on and that depend on it."""
    start = whole._own(node)
    assert isinstance(start, graph.Carried1)
    found = recurrence(whole.site, start)
    if found.crossing:
        return _followed(whole, found)
    made = {state.key: np.zeros(whole._sizes(state.axes)) for state in found.states}
    try:
        tape = Tape(whole, found)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            if not tape.solve(made):
                for t in range(dict(node.axes)[found.axis] - 1):
                    tape.step(t, made)
        if all(np.isfinite(values).all() for values in made.values()):
            return made
    except (NotTaped, LimitError):  # to be said of the step and the line that it comes from
        pass
    return _followed(whole, found)


def check(site: Site, outputs: list[graph.Pair]) -> None:
    """Raise `Unfolded` where outputs stand on states of an input that cannot be followed step by step."""
    read = [site.own(at) for node in graph.schedule(outputs) for at in profiles(node)]
    for at in postorder(read, partial(before, site), lambda n: n.key, ()):
        if isinstance(at, graph.Carried1):
            recurrence(site, at)


def reduced(whole: ProfileValues, node: graph.Reduced) -> dict[graph.Key, np.ndarray] | None:
    """The values of an entry of a pair of states and others, with those of its loop; None if it is none."""
    if not node.crossed:
        return None
    for at in postorder([whole._own(node)], partial(below, whole.site), lambda n: n.key, ()):
        if isinstance(at, graph.Carried1) and node.key in {
            inner.key for inner in recurrence(whole.site, at).inside
        }:
            return walk(whole, at)
    carried = [at for at in graph.schedule([node.pair]) if isinstance(at, graph.Carried)]
    if carried[0].axis not in dict(node.axes):
        return None
    try:
        return _followed(whole, Recurrence.of(carried[0].axis, [], [node]))
    except Unfolded:
        return None


def _followed(whole: ProfileValues, found: Recurrence) -> dict[graph.Key, np.ndarray]:
    """States, and entries of pairs of them and others, node by node at one step after the other."""
    axis, states, crossed = found.axis, found.states, found.crossed
    made = {at.key: np.zeros(whole._sizes(at.axes)) for at in (*states, *crossed)}
    count = dict((*states, *crossed)[0].axes)[axis]
    keys = {at.key for at in found.inside}
    kept: dict[Function, Kept] = {}
    rows = Rows(found.crossing, whole) if found.crossing else None
    for t in range(count if crossed else count - 1):
        now = {state.key: at_step(made[state.key], state.axes, axis, t) for state in states}
        step = _Step(whole, axis, t, now, keys, kept, rows)
        for state in states if t + 1 < count else ():
            (after,) = state.below
            value = np.broadcast_to(step.along(after, state.axes), now[state.key].shape)
            at_step(made[state.key], state.axes, axis, t + 1)[...] = value
        for node in crossed:
            at_step(made[node.key], node.axes, axis, t)[...] = step(node)
        if rows is not None:
            rows.finish()
    return made


class _Step(Moments):
    """The profile pass at one step: what lies ``inside`` the loop is computed, all else is cut out."""

    def __init__(
        self,
        whole: ProfileValues,
        axis: str,
        step: int,
        states: dict[graph.Key, np.ndarray],
        inside: set[graph.Key],
        kept: dict[Function, Kept],
        rows: Rows | None,
    ):
        def variances(values: ProfileValues, node: graph.Carried1 | graph.Reduced) -> np.ndarray:
            if rows is not None and isinstance(node, graph.Reduced) and node.crossed:
                return rows.reduced(node)
            return whole._variances(values, node)

        super().__init__(whole.pairs, whole.side, whole.data, whole.account, variances)
        if rows is not None:
            rows.start(step, self)
        self._whole, self._axis, self._step, self._inside, self._kept = whole, axis, step, inside, kept
        self._values |= states

    def _sizes(self, axes: Axes) -> tuple[int, ...]:
        return (self.size, *(1 if name == self._axis else size for name, size in axes))

    def __call__(self, node: graph.Profile) -> np.ndarray:
        if node.key not in self._values and node.key not in self._inside:
            self._values[node.key] = at_step(self._whole(node), self.axes(node), self._axis, self._step)
        return super().__call__(node)

    def _sources(self, node: graph.Profile) -> list[graph.Profile]:
        found = super()._sources(node)
        for source in found:
            if source.key not in self._inside:
                self(source)
        return found
