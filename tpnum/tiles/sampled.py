"""Kernels by an ensemble over every tile of inputs: the road of nets that the rules do not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.law.threads import Stop
from tpnum.tiles.grid import Tile, squares

if TYPE_CHECKING:
    from tpnum.ensemble.tile import Sampled, SampledPlan
    from tpnum.evaluate.joint import Account, Accuracy
    from tpnum.tiles.extras import Inputs
    from tpnum.tiles.sinks import Sink

GROWTH = 4
"""Points become so many times more, until the accuracy is there."""


class Sampling:
    """The ensembles of a kernel, as accurate as is asked; errors are noted in ``account``."""

    def __init__(self, plan: SampledPlan, accuracy: Accuracy, account: Account | None = None) -> None:
        self.plan, self.accuracy = plan, accuracy
        self.account = accuracy.account() if account is None else account

    def __call__(self, rows: Inputs, cols: Inputs | None, jobs: int, stop: Stop) -> dict[str, Sampled]:
        asked, most = self.accuracy, self.accuracy.most
        points = min(self.plan.points, most)
        while True:
            made = self.plan.sample(rows, cols, points, asked.seed, jobs, stop)
            worst = max(made.values(), key=lambda one: one.relative)
            if asked.rtol is None or worst.relative <= asked.rtol or GROWTH * points > most:
                break
            points *= GROWTH
        what = f"the kernel, sampled since {self.plan.reason},"
        self.account.note(worst.relative, what, worst.points, of="its tile's largest entry")
        return made


class SampledWorker:
    """A `tpnum.ensemble.tile.SampledPlan` on square tiles; ``errors`` takes the standard errors."""

    road = "ensemble"
    grain = 1

    def __init__(
        self,
        sampling: Sampling,
        data: tuple[Inputs, Inputs | None],
        sink: Sink,
        errors: Sink | None = None,
        tile: int | None = None,
        jobs: int = 1,
    ) -> None:
        self.stop = Stop()
        self.sampling, self.sink, self.errors = sampling, sink, errors
        self.plan = sampling.plan
        self.reason = self.plan.reason
        self._rows, self._cols = data[0], data[0] if data[1] is None else data[1]
        self._symmetric = data[1] is None
        n1, n2 = (len(next(iter(x.values()))) for x in (self._rows, self._cols))
        self.side = tile or self.plan.side
        self.pairs = self.side**2
        self.tiles = squares(n1, n2, self.side, self._symmetric)
        self._jobs = max(1, jobs // len(self.tiles))

    def prepare(self) -> None:
        """The program's text is read once, before threads could race for it."""
        self.plan.text  # noqa: B018

    def tile(self, tile: Tile) -> None:
        rows = {name: x[tile.rows] for name, x in self._rows.items()}
        own = self._symmetric and tile.rows == tile.cols
        cols = None if own else {name: x[tile.cols] for name, x in self._cols.items()}
        made = self.sampling(rows, cols, self._jobs, self.stop)
        self.sink.put(tile, {kind: one.value for kind, one in made.items()})
        if self.errors is not None:
            self.errors.put(tile, {kind: one.error for kind, one in made.items()})

    def finish(self) -> None:
        self.sink.done({})


def sampled_diagonals(
    sampling: Sampling, data: Inputs, outs: dict[str, np.ndarray], errors: dict[str, np.ndarray], jobs: int
) -> None:
    """K(x, x) at every position of the output and its standard errors, tile by tile."""
    count = len(next(iter(data.values())))
    for begin in range(0, count, sampling.plan.side):
        some = slice(begin, begin + sampling.plan.side)
        made = sampling({name: x[some] for name, x in data.items()}, None, jobs, Stop())
        for kind, one in made.items():
            outs[kind][some] = own_entries(one.value)
            errors[kind][some] = own_entries(one.error)


def own_entries(block: np.ndarray) -> np.ndarray:
    """K(x, x) at equal positions, (N, *axes), of a block (N, N, *axes, *axes)."""
    half = block.ndim // 2 - 1
    letters = "".join(chr(98 + k) for k in range(half))
    return np.einsum(f"aa{letters}{letters}->a{letters}", block)
