"""Who computes a tile: the compiled machine where the plan allows it, else the general path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.tile import TileValues
from tpnum.law.threads import Stop
from tpnum.lower.panels import panels
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.variances import Variances
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.diagonal import check_range, exact_diagonals
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.grid import Tile, general_side, squares

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.tiles.pool import Worker
    from tpnum.tiles.sinks import Sink


def make_worker(
    plan: Plan,
    profiles: tuple[ProfileValues, ProfileValues],
    sink: Sink,
    dtype: np.dtype,
    tile: int | None,
    variances: Variances,
    many: int | None = None,
) -> Worker:
    """The machine where no index axes are left, the cells where they are or something is not compiled, the
    general path for what neither has a schedule for.

    The worker says which `road` it is and for what `reason`: `tpnum.plan` shows both.  The tiles of cells are
    as large as for ``many`` columns, where those given are a few of them.
    """
    reason = "the kernels are zero, by the program's text"
    if any(plan.entries.values()):
        if not plan.has_axes:
            check_range(plan, profiles, dtype)
            try:
                return MachineWorker(plan, panels(plan, *profiles, dtype), profiles, sink, dtype, tile)
            except Unsupported:
                pass  # the cells cut out what is not compiled
        try:
            return CellWorker(plan, profiles, sink, dtype, tile, variances, many)
        except Unsupported as why:
            reason = str(why)
            if plan.general is not plan:
                return make_worker(plan.general, plan.again(profiles), sink, dtype, tile, Variances())
    check_range(plan, profiles, dtype)
    return GeneralWorker(plan, profiles, sink, tile, reason)


class GeneralWorker:
    """`tpnum.evaluate.general` on square tiles, in float64; ``reason`` is why no compiled road will do."""

    road = "general"
    grain = 1 << 6

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        sink: Sink,
        tile: int | None,
        reason: str,
    ):
        self.stop = Stop()
        self.plan, self.sink, self.reason = plan, sink, reason
        self.rows, self.cols = profiles
        self.symmetric = self.rows is self.cols
        self.side = tile or general_side(plan)
        self.pairs = (4 * self.side) ** 2
        mirrored = self.symmetric and plan.mirrored
        self.tiles = squares(self.rows.size, self.cols.size, self.side, mirrored)

    def prepare(self) -> None:
        """The profile pass: one pair touches every profile, before threads could race for them."""
        if len(self.tiles) == 1:
            return
        one = slice(0, 1)
        self.plan.tile(TileValues(self.rows, self.cols, one, one, self.symmetric))

    def tile(self, tile: Tile) -> None:
        values = TileValues(self.rows, self.cols, tile.rows, tile.cols, self.symmetric, self.stop)
        self.sink.put(tile, self.plan.tile(values))

    def finish(self) -> None:
        own = self.symmetric and not self.plan.axes[0]
        self.sink.done(exact_diagonals(self.plan, self.rows) if own else {})
