"""A step of a recurrence as a list of rules, for sequences of a thousand: nothing is looked up twice.

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
from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.evaluate.recurrence import Recurrence
    from tpnum.program.lines import Axes

Values: TypeAlias = "dict[graph.Key, np.ndarray]"
Rule: TypeAlias = Callable[[Values], np.ndarray]
"""A quantity at one step, (N, *axes), from those that it is made of."""


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
        for key, rule in self._rules:
            now[key] = rule(now)
        for state, read in self._next:
            at_step(made[state.key], state.axes, axis, t + 1)[...] = read(now)

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


def at_step(values: np.ndarray, axes: Axes, axis: str, step: int) -> np.ndarray:
    """One step of an (N, *axes) array, the axis kept."""
    where = tuple(slice(step, step + 1) if name == axis else slice(None) for name, _ in axes)
    return values[(slice(None), *where)]
