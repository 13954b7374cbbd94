"""The regions that a worker runs, as `tpnum.plan` shows them: cells, buffers, instructions, seconds."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.arguments import counted
from tpnum.kernels.operations import OPERATIONS
from tpnum.law import graph
from tpnum.lower.blocks import BlockLevel
from tpnum.lower.codes import NOWHERE
from tpnum.lower.network import grid_of, real
from tpnum.lower.panels import listing
from tpnum.program.text import line_text
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.costs.kernel_plan import Region
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.sampled import SampledWorker

if TYPE_CHECKING:
    from tpnum.lower.network import Grid, Root
    from tpnum.lower.schedule import Level
    from tpnum.tiles.costs.tally import Tally
    from tpnum.tiles.pool import Worker


def regions_of(worker: Worker, tally: Tally) -> tuple[Region, ...]:
    """What `tpnum.plan` shows of a worker: one region per level of a schedule, one in all on other roads."""
    if isinstance(worker, MachineWorker):
        code = worker.machine
        stores = tuple(f"{kind}: 1 cell" for kind, _ in code.outputs)
        (seconds,) = tally.regions
        return (Region("no axes", 1, 1, len(code.code), (), stores, seconds, code.listing),)
    if isinstance(worker, CellWorker):
        one = slice(0, 1)
        programs = worker.programs(one, one, worker.work)
        return tuple(
            _block(worker, level, seconds)
            if isinstance(level, BlockLevel)
            else _level(worker, level, program.code, seconds)  # type: ignore[union-attr]
            for level, program, seconds in zip(worker.schedule.levels, programs, tally.regions, strict=True)
        )
    if isinstance(worker, SampledWorker):
        lines = worker.plan.programs[0].lines
        (seconds,) = tally.regions
        text = "\n".join(line_text(line, str(k)) for k, line in enumerate(lines, 1))
        cells = worker.plan.members**2
        return (Region("all", 1, cells, len(lines), (), (), seconds, text, "sampled", worker.reason),)
    entries = [entry.node for found in worker.plan.entries.values() for entry in found]  # type: ignore[attr-defined]
    nodes = graph.schedule(entries)
    (seconds,) = tally.regions
    most = max(nodes, key=_cells, default=None)
    grid, cells = ("no axes", 0) if most is None else (_axes(most), _cells(most))
    return (Region(grid, 1, cells, len(nodes), (), (), seconds, _nodes(nodes), "NumPy", worker.reason),)


def _nodes(nodes: list[graph.Pair]) -> str:
    return "\n".join(f"{type(node).__name__:16s} {_axes(node)}" for node in nodes)


def _block(worker: CellWorker, level: BlockLevel, seconds: float) -> Region:
    loads, stores = (tuple(_buffer(worker, root) for root in roots) for roots in (level.loaded, level.stored))
    return Region(
        _grid(level.grid), level.cells, level.cells, len(level.nodes), loads, stores, seconds,
        _nodes(level.nodes), "NumPy", level.reason,
    )  # fmt: skip


def _level(worker: CellWorker, level: Level, code: np.ndarray, seconds: float) -> Region:
    sizes = {grid: _real(level, grid) for grid in level.spaces}
    grid = max(sizes, key=lambda key: (sizes[key], len(key)), default=())
    loads, stores = (tuple(_buffer(worker, root) for root in roots) for roots in (level.loaded, level.stored))
    text = listing(code, OPERATIONS)
    components = prod(len(found) for found in level.components)
    return Region(_grid(grid), components, sizes.get(grid, 1), len(code), loads, stores, seconds, text)


def _real(level: Level, grid: Grid) -> int:
    """The cells of a grid in all components of a level, without those of the padding."""
    count = 1
    for slot, found in zip(level.slots, level.components, strict=True):
        own = np.concatenate([NOWHERE, *(c.get(grid, NOWHERE) for c in found)])
        count *= int(real(own, grid, slot).sum())
    return count


def _buffer(worker: CellWorker, root: Root) -> str:
    cells = prod(len(found) for found in worker.schedule.buffers[id(root.node)])
    held = "increments" if root.held == "inc" else "covariance"
    return f"{'pooled ' * root.pooled}{held} on {_grid(grid_of(root.node))}: {counted(cells, 'cell')}"


def _grid(grid: Grid) -> str:
    return ", ".join(f"{name} {n} x {m}" for name, n, m in grid) or "no axes"


def _axes(node: graph.Pair) -> str:
    cols = dict(node.cols)
    both = [f"{name} {size}" for name, size in node.tied]
    free = [f"{name} {size} x {cols[name]}" for name, size in node.rows if name in cols]
    rest = [f"{name} {size}" for name, size in node.rows if name not in cols]
    rest += [f"{name} {size}" for name, size in node.cols if name not in dict(node.rows)]
    return ", ".join([*both, *free, *rest]) or "no axes"


def _cells(node: graph.Pair) -> int:
    return prod(size for _, size in (*node.tied, *node.rows, *node.cols))
