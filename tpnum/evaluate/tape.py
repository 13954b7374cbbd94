"""A step of a recurrence as a list of rules, for sequences of a thousand: nothing is looked up twice.

Steps of many inputs are followed one by one.  Those of a few are solved for all at once by Newton's method:
the rules are computed at all steps, and what is linear in a change of the states is carried along by a
compiled loop.  Four or so such rounds take the place of a thousand steps.

`tpnum.evaluate.steps` follows what has no rule here node by node.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.evaluate import labels
from tpnum.gauss.moments import bound
from tpnum.gauss.prepared import alone
from tpnum.kernels.carry import carry
from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.evaluate.recurrence import Recurrence
    from tpnum.program.lines import Axes

Values: TypeAlias = "dict[graph.Key, np.ndarray]"
Rule: TypeAlias = Callable[[Values], np.ndarray]
"""A quantity at one step, (N, *axes), from those that it is made of."""


FEW = 16
"""Inputs, or their positions, whose steps take less time all at once, again and again, than one by one."""
LONG = 32
"""Steps from which on that is so."""
ROUNDS = 12
"""Of Newton's method, the most."""
NEAR = 2.0**-36
"""A relative change after which one more round leaves nothing but rounding."""
NUDGE = 2.0**-20
"""The relative change of states that slopes are told from."""


class NotTaped(Exception):
    """A quantity has no rule."""


class Tape:
    """One step of all states of a recurrence."""

    def __init__(self, whole: ProfileValues, found: Recurrence):
        self._whole, self._axis, self._states = whole, found.axis, found.states
        states, inside = found.states, found.inside
        self._known = {node.key for node in (*states, *inside)}
        self._outside: dict[graph.Key, tuple[np.ndarray, Axes]] = {}
        self._rules = [(node.key, self._rule(node)) for node in inside]
        self._next = [(state, self._read(state.below[0], state.axes)) for state in states]

    def step(self, t: int, made: Values) -> None:
        """Write what all states are at the step behind ``t``."""
        axis = self._axis
        now = {state.key: at_step(made[state.key], state.axes, axis, t) for state in self._states}
        for key, (values, axes) in self._outside.items():
            now[key] = at_step(values, axes, axis, t)
        for state, after in zip(self._states, self._after(now), strict=True):
            at_step(made[state.key], state.axes, axis, t + 1)[...] = after

    def _after(self, now: Values) -> list[np.ndarray]:
        """What follows the states, by their values and those of what is outside."""
        for key, rule in self._rules:
            now[key] = rule(now)
        return [read(now) for _, read in self._next]

    def solve(self, made: Values) -> bool:
        """Write what all states are at all steps; False if that is left to `step`."""
        shapes = {made[state.key].shape for state in self._states}
        place = 1 + [name for name, _ in self._states[0].axes].index(self._axis)
        (shape, *others), steps = shapes, next(iter(shapes))[place]
        if others or steps < LONG or made[self._states[0].key].size > FEW * steps:
            return False
        moved = shape[:place] + shape[place + 1 :]

        def followed(states: np.ndarray) -> np.ndarray:
            """(states, rows, steps), what follows them at the same places."""
            now = {key: values for key, (values, _) in self._outside.items()}
            for state, values in zip(self._states, states, strict=True):
                now[state.key] = np.moveaxis(values.reshape(*moved, steps), -1, place)
            after = (np.broadcast_to(made, shape) for made in self._after(now))
            return np.stack([np.moveaxis(one, place, -1).reshape(-1, steps) for one in after])

        found = solved(followed, len(self._states), made[self._states[0].key].size // steps, steps)
        if found is None:
            return False
        for state, values in zip(self._states, found, strict=True):
            made[state.key][...] = np.moveaxis(values.reshape(*moved, steps), -1, place)
        return True

    def _read(self, node: graph.Profile, axes: Axes) -> Rule:
        """A quantity along the axes of its reader."""
        own = self._whole._own(node)
        if own.key not in self._known and own.key not in self._outside:
            self._outside[own.key] = self._whole(own), own.axes
        if own.axes == axes:
            return itemgetter(own.key)
        return lambda values: labels.lift(values[own.key], own.axes, axes)

    def _rule(self, node: graph.Profile) -> Rule:
        if isinstance(node, graph.Polynomial):
            return self._polynomial(node)
        if isinstance(node, graph.Expect1):
            return self._expectation(node)
        raise NotTaped

    def _polynomial(self, node: graph.Polynomial) -> Rule:
        terms = [(coef, [self._read(f, node.axes) for f in factors]) for coef, factors in node.terms]
        ndim = 1 + len(node.axes)
        return lambda values: labels.polynomial(terms, lambda read: read(values), ndim)

    def _expectation(self, node: graph.Expect1) -> Rule:
        if node.mean is not None or node.scalars:
            raise NotTaped
        integral = alone(bound(node.fn, ()), node.what)
        if integral is None:
            raise NotTaped
        read = self._read(node.var, node.axes)

        def rule(values: Values) -> np.ndarray:
            q = read(values)
            found = integral(q.ravel())
            if found is None:
                raise NotTaped
            return found.reshape(q.shape)

        return rule


def solved(
    follow: Callable[[np.ndarray], np.ndarray], count: int, rows: int, steps: int
) -> np.ndarray | None:
    """States x (count, rows, steps), x(0) = 0, x(t + 1) = f(t, x(t)), f at all steps being ``follow``.

    None where rounds of Newton's method do not come to rest.
    """
    x = np.zeros((count, rows, steps))
    near = False
    for _ in range(ROUNDS):
        after = follow(x)
        slopes = np.empty((count, count, rows, steps))
        for k in range(count):
            size = np.abs(x[k])
            nudged = x.copy()
            nudged[k] += NUDGE * np.where(size > 0.0, size, size.max() or 1.0)
            slopes[:, k] = (follow(nudged) - after) / (nudged[k] - x[k])
        again = np.empty_like(x)
        carry(after - np.einsum("abrt,brt->art", slopes, x), slopes, again)
        if not np.isfinite(again).all():
            return None
        if near:
            again[:, :, 1:] = follow(again)[:, :, :-1]
            return again
        near = bool(np.all(np.abs(again - x) <= NEAR * np.abs(again)))
        x = again
    return None


def at_step(values: np.ndarray, axes: Axes, axis: str, step: int) -> np.ndarray:
    """One step of an (N, *axes) array, the axis kept."""
    where = tuple(slice(step, step + 1) if name == axis else slice(None) for name, _ in axes)
    return values[(slice(None), *where)]
