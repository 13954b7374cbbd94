"""Variances along a recurrence: step by step, all states that depend on one another together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.tape import NotTaped, Tape, at_step
from tpnum.gauss.moments import bound, profile
from tpnum.gauss.prepared import has_family, prepare
from tpnum.gauss.rules import Kept, check_growth
from tpnum.gauss.spans import spanned_profile
from tpnum.law import graph
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.gauss.moments import Profile
    from tpnum.gauss.prepared import Prepared
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
    states, inside = _loop(whole, node)
    axis = node.delay.axis
    made = {state.key: np.zeros(whole._sizes(state.axes)) for state in states}
    steps = range(dict(node.axes)[axis] - 1)
    try:
        tape = Tape(whole, axis, states, inside)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for t in steps:
                tape.step(t, made)
        if all(np.isfinite(values).all() for values in made.values()):
            return made
    except (NotTaped, LimitError):  # to be said of the step and the line that it comes from
        pass
    keys = {at.key for at in inside}
    kept: dict[Function, Kept] = {}
    for t in steps:
        now = {state.key: at_step(made[state.key], state.axes, axis, t) for state in states}
        step = _Step(whole, axis, t, now, keys, kept)
        for state in states:
            (below,) = state.below
            found = np.broadcast_to(step.along(below, state.axes), now[state.key].shape)
            at_step(made[state.key], state.axes, axis, t + 1)[...] = found
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
    ):
        super().__init__(whole.pairs, whole.side, whole.data, whole.account, whole._variances)
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


def _loop(whole: ProfileValues, node: graph.Carried1) -> tuple[list[graph.Carried1], list[graph.Profile]]:
    """The states that a state depends on and that depend on it, and all quantities between them, in order."""

    def sources(at: graph.Profile) -> list[graph.Profile]:
        return [*at.below] if isinstance(at, graph.Carried1) else whole._sources(at)

    start = whole._own(node)
    order = postorder([start], lambda n: [whole._own(s) for s in sources(n)], lambda n: n.key, ())
    back = {start.key}
    size = 0
    while len(back) > size:
        size = len(back)
        for at in order:
            if any(s.key in back for s in sources(at)):
                back.add(at.key)
    states = [at for at in order if isinstance(at, graph.Carried1) and at.key in back]
    return states, [at for at in order if at.key in back and not isinstance(at, graph.Carried1)]
