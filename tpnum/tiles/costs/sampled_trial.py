"""What ensembles cost on this machine, for `tpnum.plan`: tiles of few inputs, and of more as time allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tpnum.tiles.costs.stopwatch import LONG, peak_of, seconds
from tpnum.tiles.costs.tally import Cut, Memory, Tally

if TYPE_CHECKING:
    from tpnum.ensemble.tile import SampledPlan
    from tpnum.tiles.pool import Worker


def sampled_tally(worker_of: Callable[[int], Worker], plan: SampledPlan, n: int) -> tuple[Worker, Tally]:
    """A worker, and the costs of up to ``n`` examples: what more of them take grows as it did last."""
    size, side, found = 1, min(plan.side, n), [0.0]
    while True:
        worker = worker_of(size)
        call = partial(worker.tile, worker.tiles[0])
        worker.prepare()
        if size == 1:
            seconds(call)  # loads kernels
        found.append(seconds(call))
        if 2 * size > side or 4 * found[-1] > LONG:
            break
        size *= 2
    grows = np.clip(np.log2(found[-1] / found[-2]), 0.0, 2.0) if size > 1 else 1.0
    whole = side if n <= side else 2 * side  # a tile off the diagonal is of both of its sides together
    strip = found[-1] * (whole / size) ** grows / side
    memory = Memory(0.0, 0.0, 0.0, 1, peak_of(call) * whole / size)
    cut = Cut(side, side, side, True, unit=0, slab=side)
    return worker, Tally(cut, 0.0, 0.0, 0.0, 0.0, (), (strip,), memory, worker.grain, size * size)
