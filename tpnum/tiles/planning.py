"""`tpnum.plan`: which road a kernel matrix takes, region by region, and what it will cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import shown, whole
from tpnum.errors import InputError, TpnumError
from tpnum.kernels import cells as cell_kernels
from tpnum.law import graph
from tpnum.lower.assembler import listing
from tpnum.lower.blocks import BlockLevel
from tpnum.lower.network import grid_of
from tpnum.nn.base import Layer
from tpnum.program.text import line_text
from tpnum.tiles import arguments, batches, extras
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.pool import one_blas_thread, thread_count
from tpnum.tiles.sampled import SampledWorker
from tpnum.tiles.store_plan import StorePlan, store_plan
from tpnum.tiles.tally import Tally
from tpnum.tiles.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tpnum.lower.network import Root
    from tpnum.lower.schedule import Level
    from tpnum.program import Program
    from tpnum.tiles.pool import Worker

MOST = 1 << 40
"""Examples, cores and sizes beyond which nobody's matrix goes."""


@dataclass(frozen=True)
class Region:
    """A piece of the schedule that runs without a buffer in between.

    ``grid`` are its index axes with their positions for either input, ``cells`` the pairs of positions on
    its largest grid, in ``components`` that never read each other.  ``loads`` and ``stores`` are what comes
    from buffers and goes into them, per pair of examples; ``listing`` are its instructions, one per line.
    ``back_end`` is "compiled", or "NumPy" with the ``reason``; its instructions are then nodes of the graph.
    One that is "sampled" is the whole program, line by line.
    """

    grid: str
    components: int
    cells: int
    instructions: int
    loads: tuple[str, ...]
    stores: tuple[str, ...]
    seconds_per_pair: float
    listing: str = field(repr=False)
    back_end: str = "compiled"
    reason: str = ""

    def __str__(self) -> str:
        back_end = f"{self.back_end} ({self.reason})" if self.reason else self.back_end
        lines = [
            f"{self.grid}: {_count(self.components, 'component')}, {_count(self.cells, 'cell')}, "
            f"{_count(self.instructions, 'instruction')}, {back_end}, {_time(self.seconds_per_pair)} a pair"
        ]
        lines += [f"  {word} {', '.join(found)}" for word, found in self._buffers() if found]
        return "\n".join(lines)

    def _buffers(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("loads", self.loads), ("stores", self.stores)


@dataclass(frozen=True, repr=False)
class KernelPlan:
    """How `tpnum.kernel` computes a matrix, and what that costs on this machine; it prints itself.

    Attributes
    ----------
    get, shape, dtype
        What was asked for.
    road
        "machine" (compiled, nets without index axes), "cells" (compiled, nets with index axes, and those of
        which some nodes are not compiled, each a region by NumPy), "general" (NumPy, everything else) or
        "ensemble" (sampled, where no rules reach): the one that `tpnum.kernel` takes.
    reason
        Why this road; for the general path what the others do not know, for the cells what is not compiled.
    regions
        The pieces of the schedule in order, see `Region`.
    tile
        Rows and columns of a tile.
    n, cores
        The size of the matrix and the number of threads, None if no size was given.
    batch_size
        Where examples come in batches, their size: pairs, tiles and costs are then those of batches.
    store
        With ``out``: tiles, bytes, files and seconds of the matrix on disk, see `StorePlan`.
    measured
        The pairs of random inputs that were computed for the times, or, where a single pair takes long,
        of which some cells were.
    """

    get: tuple[str, ...]
    shape: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    dtype: np.dtype
    road: str
    reason: str
    regions: tuple[Region, ...]
    bytes_per_pair: int
    """Bytes of results per pair."""
    bytes_per_example: int
    tally: Tally
    n: int | None = None
    cores: int | None = None
    store: StorePlan | None = None
    batch_size: int | None = None

    @property
    def inputs(self) -> int | None:
        """The rows of the matrix of inputs, which are examples or whole batches; None without n."""
        return None if self.n is None else self.n // (self.batch_size or 1)

    @property
    def tile(self) -> tuple[int, int]:
        return self.tally.cut.height, self.tally.cut.width

    @property
    def measured(self) -> int:
        return self.tally.pairs

    @property
    def seconds_per_pair(self) -> float:
        """Processor seconds of one thread per pair of examples in whole tiles; mirror images are free."""
        return self.tally.inputs + sum(self.tally.regions)

    @property
    def bytes_per_thread(self) -> int:
        """The most bytes that a thread holds for its tile."""
        return round(self.tally.memory.thread)

    @property
    def seconds(self) -> float | None:
        """Seconds for the symmetric n x n matrix, if threads do not slow each other down; None without n."""
        if self.inputs is None or self.cores is None:
            return None
        return self.tally.seconds(self.inputs, self.cores)

    @property
    def bytes(self) -> int | None:
        """Bytes of the n x n matrix, its inputs, what is made of them, and the tiles; None without n."""
        if self.inputs is None or self.cores is None:
            return None
        given = self.inputs * (self.inputs * self.bytes_per_pair + self.bytes_per_example)
        return given + round(self.tally.bytes(self.inputs, self.cores))

    def __str__(self) -> str:
        """The road, the regions, and the costs: in lines."""
        height, width = self.tile
        grouped = f", pairs and tiles of batches of {self.batch_size}" if self.batch_size else ""
        lines = [
            f"{', '.join(self.get)} at shape {self._shape()} in {self.dtype}{grouped}",
            f"road: {self.road} ({self.reason})",
        ]
        for number, region in enumerate(self.regions, 1):
            first, *rest = str(region).split("\n")
            lines += [f"  {number}  {first}", *(f"     {line}" for line in rest)]
        lines += [
            f"a pair and thread: {_time(self.seconds_per_pair)}, {_time(self.tally.inputs)} of it for the "
            f"inputs of a tile; {_size(self.bytes_per_pair)} of results",
            f"a thread: {_size(self.bytes_per_thread)} for a tile of {height} x {width} pairs",
        ]
        if self.seconds is not None and self.bytes is not None:
            lines.append(
                f"{self.n} x {self.n}, symmetric, {_count(self.cores or 1, 'thread')}: "
                f"{_time(self.seconds)}, {_size(self.bytes)}"
            )
        if self.store is not None:
            lines += _stored(self.store)
        lines.append(f"times were measured on {_count(self.measured, 'pair')} of random inputs, one thread")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<KernelPlan: {self}>"

    def _shape(self) -> str:
        if isinstance(self.shape, tuple):
            return _by(self.shape)
        return ", ".join(f"{name} {_by(shape)}" for name, shape in self.shape.items())


def plan(
    net: Layer | Program,
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    *,
    get: str | tuple[str, ...] = "nngp",
    dtype: Any = None,
    n: int | None = None,
    cores: int | None = None,
    mask_constant: float | None = None,
    pattern1: Any = None,
    out: Any = None,
    batch_size: int | None = None,
) -> KernelPlan:
    """How `tpnum.kernel` will compute a net's kernels, and what that costs on this machine.

    Times are measured, in a second or two beside making the schedule, which a run does too: random inputs of
    the shape, as many pairs as fill a strip; of nets whose pairs take long some components of their cells,
    which stand for the rest.  Kernels are compiled first, where they are not yet.  Data whose examples are
    nearly equal can take longer: series of smooth functions need more terms.

    Parameters
    ----------
    net
        Layers of `tpnum.nn`, or a `Program` with data lines and declared outputs.
    shape
        One example's (*index axes, features); for a program with several data lines, a dict by name.
    get
        "nngp", "ntk" or both as a tuple.
    dtype
        float64 (default) or float32.
    n
        Examples of a symmetric matrix, for its total time and memory.
    cores
        Threads of it, or processors of a cluster; all of this machine by default.
    mask_constant
        Where given, examples have padding, as `tpnum.kernel` finds it: the plan is that of a masked net, and
        some positions of the random inputs are masked.
    pattern1
        Graphs (examples, *tails, *heads) for `nn.Aggregate`, random ones by default.
    out
        Where the matrix is to be stored, as in `tpnum.kernel`, for its tiles, bytes, files, seconds, and the
        number of processors from which on the file system there is the limit.
    batch_size
        Examples of a batch, as in `tpnum.kernel`, for nets of layers that normalise over it.

    Returns
    -------
    KernelPlan
        Road, reason, regions and costs; printing it says all.

    Raises
    ------
    InputError
        An argument that cannot be used, or a shape that does not fit the net; the message names it.
    LimitError
        A line that has no limit law here; the message names the line.
    """
    kinds = arguments.kinds_of(get)
    work = arguments.dtype_of(dtype)
    size = None if n is None else whole(n, "n", 1, MOST)
    if size is None and cores is not None:
        raise InputError("cores: a number of threads goes with a size; give n as well")
    if size is None and out is not None:
        raise InputError("out: a matrix on disk has a size; give n as well")
    threads = (
        None if size is None else thread_count(None) if cores is None else whole(cores, "cores", 1, MOST)
    )
    shapes = _shapes(shape)
    group = None if batch_size is None else whole(batch_size, "batch_size", 1, MOST)
    if group is not None and out is not None:
        raise InputError("batch_size: matrices on disk have none; leave it or out")
    if group is not None and (size or 0) % group:
        raise InputError(f"batch_size: {group} does not divide n = {size}; give a multiple")
    given = {} if mask_constant is None else {"mask": _masked(net, shapes, mask_constant)}
    try:
        with one_blas_thread(), np.errstate(all="ignore"):
            every = shapes | given
            if group is not None:
                net = batches.program_at(net, every, group)
                every = {name: (group, *one) for name, one in every.items()}
            trial = Trial(net, every, kinds, work, pattern1)
            worker, tally = trial.tally(size if size is None else size // (group or 1))
            regions = _regions(worker, tally)
    except TpnumError as error:
        argument, colon, rest = str(error).partition(": ")
        if argument not in ("x1", "x") or not colon:
            raise
        raise type(error)(f"shape: {rest}") from None
    store = None
    if size is not None and out is not None:
        store = store_plan(net, shapes, kinds, work, size, threads or 1, out)
    return KernelPlan(
        kinds,
        shapes[""] if "" in shapes else shapes,
        work,
        worker.road,
        worker.reason,
        regions,
        trial.bytes_per_pair,
        trial.features * work.itemsize,
        tally,
        size,
        threads,
        store,
        group,
    )


def _shapes(shape: Any) -> dict[str, tuple[int, ...]]:
    """The shape of an example by data line, "" for the one of a net."""
    if isinstance(shape, dict):
        if not shape or not all(isinstance(name, str) for name in shape):
            raise InputError(f"shape is {shown(shape)}: a dict of it has the names of data lines as keys")
        return {name: _sizes(sizes, f"shape[{name!r}]") for name, sizes in shape.items()}
    return {"": _sizes(shape, "shape")}


def _masked(net: Layer | Program, shapes: dict[str, tuple[int, ...]], constant: Any) -> tuple[int, ...]:
    """The shape of an example's mask."""
    extras.constant_of(constant)
    if "" not in shapes or not isinstance(net, Layer):
        raise InputError(f"mask_constant: {extras.LAYERS}")
    if len(shapes[""]) < 2:
        raise InputError(
            f"mask_constant: an example of shape {shapes['']} has no index axis whose positions could be "
            "masked"
        )
    return shapes[""][:-1]


def _sizes(sizes: Any, name: str) -> tuple[int, ...]:
    try:
        if isinstance(sizes, (str, bytes)):
            raise TypeError
        made = tuple(whole(size, name, 1, MOST) for size in sizes)
    except TpnumError:
        raise
    except Exception:  # whatever the iteration of a stranger raises
        raise InputError(
            f"{name} is {shown(sizes)}: it must be the sizes of one example, features last, as in (32, 32, 3)"
        ) from None
    if not made:
        raise InputError(f"{name} is empty: it must end in the number of features")
    if prod(made) > MOST // 8:
        raise InputError(f"{name} is {shown(made)}: an example of that size does not fit into memory")
    return made


# -- regions -----------------------------------------------------------------------------------------


def _regions(worker: Worker, tally: Tally) -> tuple[Region, ...]:
    if isinstance(worker, MachineWorker):
        code = worker.machine
        stores = tuple(f"{kind}: 1 cell" for kind, _ in code.outputs)
        (seconds,) = tally.regions
        return (Region("no axes", 1, 1, len(code.code), (), stores, seconds, code.listing),)
    if isinstance(worker, CellWorker):
        one = slice(0, 1)
        programs = worker._programs(one, one, worker.work)
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
    nodes = [root.node for root in level.roots]
    return Region(
        _grid(level.grid), level.cells, level.cells, len(nodes), loads, stores, seconds, _nodes(nodes),
        "NumPy", level.reason,
    )  # fmt: skip


def _level(worker: CellWorker, level: Level, code: np.ndarray, seconds: float) -> Region:
    sizes = {grid: _real(level, grid) for grid in level.spaces}
    grid = max(sizes, key=lambda key: (sizes[key], len(key)), default=())
    loads, stores = (tuple(_buffer(worker, root) for root in roots) for roots in (level.loaded, level.stored))
    text = listing(code, cell_kernels.OPERATIONS)
    components = prod(len(found) for found in level.components)
    return Region(_grid(grid), components, sizes.get(grid, 1), len(code), loads, stores, seconds, text)


def _real(level: Level, grid: tuple[tuple[str, int, int], ...]) -> int:
    """The cells of a grid in all components of a level, without those of the padding."""
    ends = {name: (n, m) for name, n, m in grid}
    count = 1
    for slot, found in zip(level.slots, level.components, strict=True):
        n, m = ends.get(slot, (1, 1))
        count *= sum(p < n and q < m for c in found for p, q in c.get(grid, ()))
    return count


def _buffer(worker: CellWorker, root: Root) -> str:
    cells = prod(len(found) for found in worker.schedule.buffers[id(root.node)])
    held = "increments" if root.held == "inc" else "covariance"
    return f"{'pooled ' * root.pooled}{held} on {_grid(grid_of(root.node))}: {_count(cells, 'cell')}"


def _grid(grid: tuple[tuple[str, int, int], ...]) -> str:
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


def _stored(store: StorePlan) -> list[str]:
    height, width = store.tile
    made = store.bytes / store.processor_seconds
    return [
        f"on disk: {_count(store.tiles, 'tile')} of {height} x {width} pairs, {_size(store.bytes)} in "
        f"{_count(store.files, 'file')}; {_time(store.tile_seconds)} a tile, {_time(store.write_seconds)} to "
        "write it",
        f"by {_count(store.cores, 'processor')}: {_time(store.seconds)}; one makes {_size(made)} a second, "
        f"the file system takes {_size(store.bandwidth)}: from {_count(round(store.limit), 'processor')} on "
        "it is the limit",
    ]


# -- words -------------------------------------------------------------------------------------------


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _time(seconds: float) -> str:
    """Seconds with three digits, in the unit that fits."""
    for least, unit, size in (
        (86400.0, "days", 86400.0),
        (3600.0, "h", 3600.0),
        (60.0, "min", 60.0),
        (1.0, "s", 1.0),
        (1e-3, "ms", 1e-3),
        (1e-6, "us", 1e-6),
    ):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _size(count: float) -> str:
    """Bytes with three digits, in the unit that fits."""
    for power, unit in ((50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2.0**power:
            return f"{count / 2.0**power:.4g} {unit}"
    return f"{count:.0f} bytes"
