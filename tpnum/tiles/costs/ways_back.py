"""What derivatives of kernels cost on this machine, for `tpnum.plan`: their roads, and tiles that grow."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.lower.variances import Variances
from tpnum.tiles.costs.stopwatch import first_touch, least, peak_of, seconds, tracing
from tpnum.tiles.costs.tally import Cut, Memory, Tally
from tpnum.tiles.gradients.derivatives import LINE, diagonals, plan_with_slopes, sides_of, worker_of
from tpnum.tiles.grid import Tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.plan import Plan
    from tpnum.nn.base import Layer
    from tpnum.tiles.extras import Inputs
    from tpnum.tiles.gradients.derivatives import Tiles

FEW = 2
"""Examples of the smallest trial."""
LONG = 1.0
"""Seconds that a tile may take."""

MATRIX = 32 << 20
"""Bytes of a matrix with which is found what new memory takes."""


@dataclass(frozen=True)
class WayBack:
    """How the derivatives of a kernel are found.

    ``road`` is "adjoints" (compiled), "backwards" (the graph's rules by NumPy, read
    backwards) or "forwards" (the same name by name, where the output has index axes), with its ``reason``;
    ``tally`` is what it costs, with the kernel, which comes along.
    """

    kind: str
    road: str
    reason: str
    tally: Tally

    @property
    def tile(self) -> tuple[int, int]:
        return self.tally.cut.height, self.tally.cut.width

    @property
    def seconds_per_pair(self) -> float:
        """Processor seconds of one thread per pair of examples in whole tiles, by all names together."""
        return self.tally.inputs + sum(self.tally.regions)


class Trials:
    """Derivatives of a net by ``paths`` (those of every name) of random examples, as many as asked for."""

    def __init__(
        self,
        net: Layer,
        paths: list[list[str]],
        kinds: tuple[str, ...],
        inputs: Callable[[int], Inputs],
        most: Callable[[int], int],
    ):
        self.inputs, self.most, self.count = inputs, most, len(paths)
        some, begun = inputs(FEW), time.thread_time()
        self.plan: Plan = plan_with_slopes(net, paths, (some, some), kinds, LINE)
        self.planned = time.thread_time() - begun

    def ways(self, n: int) -> tuple[WayBack, ...]:
        """For every kernel, of up to ``n`` examples; the first pays for what is made of these."""
        workers, _ = self._ready(FEW)  # compiles, or loads, what they need
        side = max((worker.size[0] for worker in workers.values()), default=1)
        count = max(FEW, self.most(min(n, 2 * side)))
        (_, little), (workers, much) = self._ready(FEW), self._ready(count)
        example = max(0.0, (much - little) / (count - FEW)) if count > FEW else 0.0
        once = self.planned + max(0.0, little - FEW * example)
        held = self._held(count)
        numbers = (self.count + LINE + 1) * prod((*self.plan.axes[0], *self.plan.axes[1]))
        found = []
        for kind, worker in workers.items():
            height, width = worker.size
            each, pair, size, thread = self._tiles(worker, count, height)
            new = 8 * numbers * (1 + self.plan.mirrored)  # of derivatives and the kernel, and of its copy
            pair += new * first_touch(MATRIX)
            memory = Memory(0.0, held, held, np.inf, thread * height * width / size**2)
            cut = Cut(height, width, height, self.plan.mirrored, unit=0, slab=width)
            strips = (pair * height,)
            tally = Tally(cut, once, example, each, 0.0, (), strips, memory, worker.grain, size**2)
            found.append(WayBack(kind, worker.road, worker.reason, tally))
            once = example = 0.0
        return tuple(found)

    def _ready(self, count: int) -> tuple[dict[str, Tiles], float]:
        """Workers, and the seconds of all that is made before their tiles, and by the first of them."""
        x, plan = self.inputs(count), self.plan
        shape = (self.count + LINE, count, count, *plan.axes[0], *plan.axes[1])
        outs = {kind: np.zeros(shape) for kind, entries in plan.entries.items() if entries}
        corner = Tile(slice(0, 1), slice(count - 1, count), False)
        begun = time.thread_time()
        variances = Variances()
        sides = sides_of(plan, self.count + LINE, x, None, variances)
        workers = {
            kind: worker_of(plan, kind, sides, out, variances, out.dtype) for kind, out in outs.items()
        }
        for kind, worker in workers.items():
            worker.tile(corner)
            if worker.apart:
                diagonals(plan, sides[0].values, sides[0], kind)
        taken = time.thread_time() - begun
        return workers, max(0.0, taken - sum(seconds(partial(one.tile, corner)) for one in workers.values()))

    def _held(self, count: int) -> float:
        """Bytes of an example beside its results, those of one kernel: they are made one after another."""
        self.inputs(count)
        positions = prod((*self.plan.axes[0], *self.plan.axes[1]))
        with tracing():
            before = tracemalloc.get_traced_memory()[0]
            workers, _ = self._ready(count)
            while len(workers) > 1:
                workers.popitem()
            held = tracemalloc.get_traced_memory()[0] - before
        results = 8 * len(workers) * (self.count + LINE) * count**2 * positions
        return max(0.0, (held - results) / count)

    def _tiles(self, worker: Tiles, count: int, side: int) -> tuple[float, float, int, float]:
        """Seconds of a tile and of each of its pairs, the side of the last that was tried, its bytes."""

        def tile(size: int) -> Callable[[], None]:
            rows, cols = slice(0, size), slice(count - size, count)  # off the diagonal, if possible
            return partial(worker.tile, Tile(rows, cols, self.plan.mirrored))

        first = taken = least(tile(1))
        size, most = 1, min(side, count)
        while size < most and taken * min(3, most / size) ** 2 < LONG:
            size = min(3 * size, most)
            taken = least(tile(size))
        pair = max(0.0, taken - first) / (size**2 - 1) if size > 1 else taken
        return max(0.0, first - pair), pair, size, peak_of(tile(size))
