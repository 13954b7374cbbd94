"""Who computes a tile: the compiled machine where the plan allows it, else the general path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.general import PairValues
from tpnum.lower.compiler import Unsupported, compile_plan
from tpnum.lower.variances import Variances
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.diagonal import check_range, write_diagonal
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.grid import Tile, check_finite, general_side, put, squares
from tpnum.tiles.pool import Stopped

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.tiles.pool import Worker


def make_worker(
    plan: Plan,
    profiles: tuple[ProfileValues, ProfileValues],
    outs: dict[str, np.ndarray],
    dtype: np.dtype,
    tile: int | None,
    variances: Variances,
) -> Worker:
    """The machine where no index axes are left, the cells where they are or something is not compiled, the
    general path for what neither has a schedule for.

    The worker says which `road` it is and for what `reason`: `tpnum.plan` shows both.
    """
    reason = "the kernels are zero, by the program's text"
    if any(plan.entries.values()):
        if not plan.has_axes:
            check_range(plan, profiles, dtype)
            try:
                return MachineWorker(plan, compile_plan(plan, *profiles, dtype), profiles, outs, dtype, tile)
            except Unsupported:
                pass  # the cells cut out what is not compiled
        try:
            return CellWorker(plan, profiles, outs, dtype, tile, variances)
        except Unsupported as why:
            reason = str(why)
            if plan.unrolled is not plan:
                return make_worker(plan.unrolled, plan.unroll(profiles), outs, dtype, tile, Variances())
    check_range(plan, profiles, dtype)
    return GeneralWorker(plan, profiles, outs, tile, reason)


class GeneralWorker:
    """`tpnum.evaluate.general` on square tiles, in float64; ``reason`` is why no compiled road will do."""

    road = "general"
    grain = 1 << 6
    stopped = False

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        outs: dict[str, np.ndarray],
        tile: int | None,
        reason: str,
    ):
        self.plan, self.outs, self.reason = plan, outs, reason
        self.rows, self.cols = profiles
        self.symmetric = self.rows is self.cols
        self.side = tile or general_side(plan)
        mirrored = self.symmetric and plan.mirrored
        self.tiles = squares(self.rows.size, self.cols.size, self.side, mirrored)

    def prepare(self) -> None:
        """The profile pass: one pair touches every profile, before threads could race for them."""
        one = slice(0, 1)
        self.plan.tile(PairValues(self.rows, self.cols, one, one, self.symmetric))

    def tile(self, tile: Tile) -> None:
        values = PairValues(self.rows, self.cols, tile.rows, tile.cols, self.symmetric, self._proceed)
        half = len(self.plan.axes[0])
        for kind, block in self.plan.tile(values).items():
            check_finite(block, kind, tile, self.outs[kind].dtype)
            put(self.outs[kind], tile, block, half)

    def _proceed(self) -> None:
        if self.stopped:
            raise Stopped

    def finish(self) -> None:
        if self.symmetric and not self.plan.axes[0]:
            write_diagonal(self.plan, self.rows, self.outs)
