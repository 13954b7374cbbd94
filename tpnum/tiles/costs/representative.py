"""Variances of some examples that stand for all, and what finding them for all would take."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.lower.variances import Variances
from tpnum.tiles.costs.stopwatch import SHARE, peak_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law import graph
    from tpnum.lower.blocks import BlockProgram
    from tpnum.lower.program import Program

SOME = 16
"""Examples whose variances are computed, to stand for all: series are as long as the largest asks for."""


class SomeForAll(Variances):
    """The variances of some examples, given to all by turns.

    ``once`` and ``example`` are the seconds that they take for a data set and for each of its examples,
    ``bytes`` what an example takes meanwhile, as one of ``together``, ``spent`` the seconds in which that was
    found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.once = self.example = self.bytes = self.spent = 0.0
        self.together = self._count = 1
        self._some: ProfileValues | None = None
        self._walked: dict[tuple[graph.Key, int], dict[graph.Key, np.ndarray]] = {}

    def _walk(self, whole: ProfileValues, node: graph.Carried1) -> dict[graph.Key, np.ndarray]:
        """States are followed step by step for all examples together: that is paid once."""
        key = node.key, whole.size
        if key not in self._walked:
            self._walked[key], own = self._own(partial(super()._walk, whole, node))
            self.once += own
        return self._walked[key]

    def _compute(self, values: ProfileValues, node: graph.Reduced) -> np.ndarray:
        if self._some is None:
            self._some = self.part(values, slice(0, SOME))
        if values is not self._some:
            return np.resize(self(self._some, node), (values.size, *(size for _, size in node.axes)))
        made, own = self._own(partial(super()._compute, values, node))
        self.once += own
        return made

    def _together(self, programs: Sequence[Program | BlockProgram]) -> int:
        self._count = super()._together(programs)
        return self._count

    def _chunk(self, profile: ProfileValues, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        chunk_of, together = super()._chunk, self._count
        whole = partial(chunk_of, profile, *arguments)
        one = partial(chunk_of, self.part(profile, slice(0, 1)), *arguments)
        made, _ = self._own(whole)  # what is below is found and kept, kernels are loaded
        count = len(made[0])
        (_, many), (_, own) = self._own(whole), self._own(one)
        each = max(0.0, many - own) / max(1, count - 1)
        chunk = max(0.0, own - each)
        self.example += each + chunk / together
        self.once += chunk / 2  # the last chunk is half full
        if many < SHARE:
            (peak, _), (alone, _) = (self._own(partial(peak_of, some)) for some in (whole, one))
            each = max(0.0, peak - alone) / max(1, count - 1)
            self._note(each + (peak - count * each) / together, together)
        return made

    def _note(self, each: float, together: int) -> None:
        """Keep the bytes of an example where those of all that are taken together are the most."""
        if each * together > self.bytes * self.together:
            self.bytes, self.together = each, together

    def _own(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """What a call gives, and its seconds but for those of such calls within it."""
        started, before = time.thread_time(), self.spent
        made = call()
        own = time.thread_time() - started - (self.spent - before)
        self.spent += own
        return made, own
