"""What a plan says: the road of a kernel matrix, its regions and their costs, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpnum.arguments import counted
from tpnum.tiles.units import duration, storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tpnum.tiles.costs.tally import Tally
    from tpnum.tiles.costs.ways_back import WayBack
    from tpnum.tiles.stores.store_plan import StorePlan


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
            f"{self.grid}: {counted(self.components, 'component')}, {counted(self.cells, 'cell')}, "
            f"{counted(self.instructions, 'instruction')}, {back_end}, "
            f"{duration(self.seconds_per_pair)} a pair"
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
    axes
        The index axes that the output keeps, of the first input and of the second: a kernel is (N, N, *axes).
    tile
        Rows and columns of a tile.
    n, cores
        The size of the matrix and the number of threads, None if no size was given.
    batch_size
        Where examples come in batches, their size: pairs, tiles and costs are then those of batches.
    store
        With ``out``: tiles, bytes, files and seconds of the matrix on disk, see `StorePlan`.
    wrt, ways_back
        With ``wrt``: the names, and for every kernel how its derivatives are found, see `WayBack`.
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
    axes: tuple[int, ...]
    bytes_per_pair: int
    """Bytes of results per pair."""
    bytes_per_example: int
    tally: Tally
    n: int | None = None
    cores: int | None = None
    store: StorePlan | None = None
    batch_size: int | None = None
    wrt: tuple[str, ...] = ()
    ways_back: tuple[WayBack, ...] = ()

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
        tallies = [way.tally for way in self.ways_back] or [self.tally]
        return sum(tally.seconds(self.inputs, self.cores) for tally in tallies)

    @property
    def bytes(self) -> int | None:
        """Bytes of the n x n matrix, its inputs, what is made of them, and the tiles; None without n."""
        if self.inputs is None or self.cores is None:
            return None
        n, cores = self.inputs, self.cores
        work = self.tally.bytes(n, cores)
        if self.ways_back:  # all at once in float64, of which kernels, or all if need be, are copied
            kernels = self.bytes_per_pair / (1 + len(self.wrt))
            wider = kernels if self.dtype.itemsize == 8 else 2 * self.bytes_per_pair
            work = n * n * wider + max(way.tally.bytes(n, cores) for way in self.ways_back)
        return n * (n * self.bytes_per_pair + self.bytes_per_example) + max(0, round(work))

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
            f"a pair and thread: {duration(self.seconds_per_pair)}, {duration(self.tally.inputs)} of it "
            f"for the inputs of a tile; {storage(self.bytes_per_pair)} of results"
            + (f" ({_by(self.axes)}: the output keeps its positions)" if self.axes else ""),
            f"a thread: {storage(self.bytes_per_thread)} for a tile of {height} x {width} pairs",
        ]
        lines += [_derived(way, self.wrt) for way in self.ways_back]
        if self.n is not None and self.seconds is not None and self.bytes is not None:
            matrix = _by((self.n, self.n, *self.axes))
            threads = counted(self.cores or 1, "thread")
            lines.append(f"{matrix}, symmetric, {threads}: {duration(self.seconds)}, {storage(self.bytes)}")
        if self.store is not None:
            lines += _stored(self.store)
        lines.append(f"times were measured on {counted(self.measured, 'pair')} of random inputs, one thread")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<KernelPlan: {self}>"

    def _shape(self) -> str:
        if isinstance(self.shape, tuple):
            return _by(self.shape)
        return ", ".join(f"{name} {_by(shape)}" for name, shape in self.shape.items())


def _derived(way: WayBack, names: tuple[str, ...]) -> str:
    how = {
        "adjoints": "compiled adjoints",
        "backwards": "the graph's rules backwards, NumPy",
        "forwards": "the graph's rules forwards, name by name, NumPy",
    }
    height, width = way.tile
    return (
        f"derivatives of {way.kind} by {', '.join(names)}: {how[way.road]} ({way.reason}), "
        f"{duration(way.seconds_per_pair)} a pair; {storage(way.tally.memory.thread)} for a tile of "
        f"{height} x {width} pairs"
    )


def _stored(store: StorePlan) -> list[str]:
    height, width = store.tile
    made = store.bytes / (store.tiles * store.tile_seconds)
    start = f", {duration(store.start_seconds)} of them to start" if store.start_seconds else ""
    return [
        f"on disk: {counted(store.tiles, 'tile')} of {height} x {width} pairs, {storage(store.bytes)} in "
        f"{counted(store.files, 'file')}; {duration(store.tile_seconds)} a tile, "
        f"{duration(store.write_seconds)} to write it",
        f"by {counted(store.cores, 'processor')}: {duration(store.seconds)}{start}; one makes "
        f"{storage(made)} a second, the file system takes {storage(store.bandwidth)}: from "
        f"{counted(round(store.limit), 'processor')} on it is the limit",
    ]


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
