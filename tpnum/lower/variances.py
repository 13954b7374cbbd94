"""Variances of sums over positions: a pair of an example with itself, at the cells that they need."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tpnum.evaluate.general import same_input
from tpnum.evaluate.profile import ProfileValues
from tpnum.lower.compiler import Unsupported
from tpnum.lower.layout import Layout
from tpnum.lower.network import grid_of
from tpnum.lower.program import Program, buffer_places
from tpnum.lower.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.law import graph

CHUNK = 32
"""Examples at a time."""


class Variances:
    """E Z^2 of variables that are sums over positions, for all examples of a data set, each once.

    A profile pass over some of the examples asks for its `part`; what was found goes with the pass over all.
    """

    def __init__(self) -> None:
        self.proceed: Callable[[], None] = lambda: None
        """Called every now and then; it may raise."""
        self._found: WeakKeyDictionary[ProfileValues, dict[graph.Key, np.ndarray]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def __call__(self, values: ProfileValues, node: graph.Reduced) -> np.ndarray:
        """(N, *axes) for a profile pass over all examples."""
        with self._lock:
            found = self._found.setdefault(values, {})
            if node.key not in found:
                found[node.key] = self._compute(values, node)
            return found[node.key]

    def part(self, whole: ProfileValues, rows: slice) -> ProfileValues:
        """The profile pass of some examples; what it needs of variances is that part of the whole's."""
        data = {name: x[rows] for name, x in whole.data.items()}
        return ProfileValues(
            whole.pairs, whole.side, data, whole.account, lambda _, node: self(whole, node)[rows]
        )

    def _compute(self, values: ProfileValues, node: graph.Reduced) -> np.ndarray:
        try:
            schedule = Schedule([node.pair])
            layouts = [Layout(level, schedule.buffers) for level in schedule.levels]
            parts = []
            for low in range(0, values.size, CHUNK):
                self.proceed()
                parts.append(
                    self._chunk(values, slice(low, min(low + CHUNK, values.size)), schedule, layouts)
                )
            made = np.concatenate(parts)
        except Unsupported:
            return same_input(values, node.pair, node.axes)
        names = [name for name, _, _ in grid_of(node.pair)]
        return made.transpose(0, *(1 + names.index(name) for name, _ in node.axes))

    def _chunk(
        self, values: ProfileValues, rows: slice, schedule: Schedule, layouts: list[Layout]
    ) -> np.ndarray:
        profile = self.part(values, rows)
        dtype = np.dtype(np.float64)
        programs = [Program(layout, schedule, (profile, profile), dtype) for layout in layouts]
        size = profile.size
        for program in programs:
            program.prepare([slice(0, size)], lambda side, make: make())
        starts, numbers = buffer_places(programs, 1)
        lanes = programs[0].lanes
        scratch = np.zeros(max(p.work_cells for p in programs) * lanes)
        buffers = np.zeros(numbers)
        (output,) = schedule.outputs.values()
        where, count = starts[id(output)]
        shape = [len(found) for found in schedule.buffers[id(output)]]
        made = np.empty((size, *shape))
        for i in range(size):
            buffers[:] = 0.0
            for program in programs:
                if program.run(0, (i, i + 1), 0, buffers, starts, scratch, self.proceed):
                    raise Unsupported("the series of a variance does not converge")
            made[i] = buffers[where : where + count * lanes].reshape(*shape, lanes)[..., i]
        return made
