"""Variances of carried states, and of sums over positions: pairs of an example with itself, at some cells."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.same import same_input
from tpnum.evaluate.steps import Moments, reduced, walk
from tpnum.kernels._arrays import aligned
from tpnum.law import graph
from tpnum.lower.blocks import BlockLayout
from tpnum.lower.network import grid_of
from tpnum.lower.program import Program, buffer_places
from tpnum.lower.regions import cut, lanes, program, regions
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from tpnum.lower.blocks import BlockProgram
    from tpnum.lower.layout import Layout
    from tpnum.lower.program import Kept
    from tpnum.lower.schedule import Schedule

CHUNK = 32
"""Examples at a time at least."""
TOGETHER = 16 << 20
"""Bytes of numbers of as many as are taken together: code is built once for them."""
NARROW = 8
"""Lanes, of which an example with itself is one: a vector of them."""
STATES = 1024
"""Examples whose states are followed together."""


class Variances:
    """E Z^2 of carried states and of sums over positions, for all examples of a data set, each once.

    A profile pass over some of the examples asks for its `part`; what was found goes with the pass over all.
    """

    def __init__(self) -> None:
        self.proceed: Callable[[], None] = lambda: None
        """Called every now and then; it may raise."""
        self._found: WeakKeyDictionary[ProfileValues, dict[graph.Key, np.ndarray]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def __call__(self, values: ProfileValues, node: graph.Carried1 | graph.Reduced) -> np.ndarray:
        """(N, *axes) for a profile pass over all examples."""
        with self._lock:
            found = self._found.setdefault(values, {})
            if node.key not in found:
                if isinstance(node, graph.Carried1):
                    found |= self._walk(values, node)
                else:
                    found |= self._parts(values, partial(reduced, node=node)) or {
                        node.key: self._compute(values, node)
                    }
            return found[node.key]

    def _walk(self, whole: ProfileValues, node: graph.Carried1) -> dict[graph.Key, np.ndarray]:
        """The states of a recurrence, followed through all its steps."""
        return self._parts(whole, partial(walk, node=node))

    def _parts(
        self,
        whole: ProfileValues,
        follow: Callable[[ProfileValues], dict[graph.Key, np.ndarray] | None],
    ) -> dict[graph.Key, np.ndarray]:
        """What a recurrence is followed for, some examples at a time; nothing where there is none."""
        parts = []
        for low in range(0, whole.size, STATES):
            self.proceed()
            found = follow(self.part(whole, slice(low, low + STATES), Moments))
            if found is None:
                return {}
            parts.append(found)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def part(
        self, whole: ProfileValues, rows: slice | np.ndarray, kind: type[ProfileValues] = ProfileValues
    ) -> ProfileValues:
        """The profile pass of some examples; what it needs of variances is that part of the whole's.

        Functions have the same series as in the whole, however few the examples are.
        """
        data = {name: x[rows] for name, x in whole.data.items()}
        made = kind(whole.pairs, whole.side, data, whole.account, lambda _, node: self(whole, node)[rows])
        made.many = -(-whole.many * made.size // whole.size)
        return made

    def _compute(self, values: ProfileValues, node: graph.Reduced) -> np.ndarray:
        try:
            one = self.part(values, slice(0, 1))
            if cut([node.pair]):
                raise Unsupported("whole blocks of one pair at a time: lanes would be in vain")
            schedule, layouts, looked = regions([node.pair], (one, one), np.dtype(np.float64))
            chunk, parts = self._together(looked), []
            for low in range(0, values.size, chunk):
                self.proceed()
                part = self.part(values, slice(low, min(low + chunk, values.size)))
                parts.append(self._chunk(part, schedule, layouts))
        except Unsupported:
            return same_input(values, node.pair, node.axes)
        names = [name for name, _, _ in grid_of(node.pair)]
        made = np.concatenate([found for found, _ in parts])
        made = made.transpose(0, *(1 + names.index(name) for name, _ in node.axes))
        again = np.flatnonzero(np.concatenate([missed for _, missed in parts]))  # series do not converge
        if again.size:
            made[again] = same_input(values, node.pair, node.axes, again.tolist())
        return made

    def _together(self, programs: Sequence[Program | BlockProgram]) -> int:
        """How many examples are taken at once: as their numbers take `TOGETHER` bytes, `CHUNK` at least."""
        laid = sum(one.bytes_laid() for one in programs if isinstance(one, Program))
        return max(CHUNK, int(TOGETHER / max(laid, 1.0)))

    def _chunk(
        self, profile: ProfileValues, schedule: Schedule, layouts: list[Layout | BlockLayout]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, *axes in the order of a grid), and where pairs of positions were missed by their series."""
        dtype, both = np.dtype(np.float64), (profile, profile)
        programs = [program(one, both, dtype, NARROW) for one in layouts]
        if any(one.selection.wide for one in programs if isinstance(one, Program)):
            programs = [program(one, both, dtype, lanes(dtype)) for one in layouts]
        across, size = programs[0].lanes, profile.size
        # lanes that nobody reads: one vector, and none where there are no instructions
        width = 1 if any(isinstance(one, BlockLayout) for one in layouts) else across
        strips = [slice(k, min(k + width, size)) for k in range(0, size, width)]
        for one in programs:
            one.prepare(strips, _once(), width == across)
        starts, numbers = buffer_places(programs, 1)
        scratch = aligned(max(p.work_cells for p in programs) * across, dtype)
        buffers = np.zeros(numbers)
        (output,) = schedule.outputs.values()
        where, count = starts[id(output)]
        shape = [len(found) for found in schedule.buffers[id(output)]]
        made = np.empty((size, *shape))
        missed = np.zeros(size, np.int64)
        for i in range(size):
            buffers[:] = 0.0
            own = i // width * width
            for one in programs:
                at = missed[i : i + 1]
                one.run(i // width, (i, i + 1), own, buffers, starts, scratch, at, self.proceed)
            made[i] = buffers[where : where + count * across].reshape(*shape, across)[..., i - own]
        return made, missed


def _once() -> Kept:
    """Hands out what was laid out for either side of a program."""
    laid: dict[Hashable, Any] = {}

    def kept(sides: tuple[int, ...], what: Hashable, each: float, make: Callable[[], Any]) -> Any:
        key = tuple(sorted(sides)), what
        if key not in laid:
            laid[key] = make()
        return laid[key]

    return kept
