"""`tpnum.plan`: finds out which road a kernel matrix takes, region by region, and what it will cost."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice, shown, whole
from tpnum.errors import InputError, TpnumError
from tpnum.nn.base import Layer
from tpnum.tiles import arguments, batches, extras
from tpnum.tiles.backends import NAMES
from tpnum.tiles.beside import Beside, beside_of
from tpnum.tiles.costs.kernel_plan import KernelPlan
from tpnum.tiles.costs.regions import regions_of
from tpnum.tiles.costs.trial import Trial
from tpnum.tiles.costs.ways_back import Trials, WayBack
from tpnum.tiles.data import Held
from tpnum.tiles.gradients.contracted import asked_of
from tpnum.tiles.gradients.derivatives import by_rules
from tpnum.tiles.pool import one_blas_thread, thread_count
from tpnum.tiles.stores.store_plan import store_plan
from tpnum.tiles.tasks import Job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tpnum.program import Program
    from tpnum.tiles.data import Source

MOST = 1 << 40
"""Examples, cores and sizes beyond which nobody's matrix goes."""


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
    backend: str = "threads",
    wrt: str | tuple[str, ...] | None = None,
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
    backend
        "threads", "processes" or "dask": who computes a matrix on disk.  Processes, and shards, take a second
        or two before their first tile, which is measured by starting one.
    wrt
        Deviations to differentiate by, as in `tpnum.kernel`: ``ways_back`` says on which road that is done,
        and seconds, bytes and what is stored are those of kernels and derivatives together.

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
    if choice(backend, "backend", NAMES) != "threads" and out is None:
        raise InputError('backend: it is for matrices on disk; give out as well, as in out="K.zarr"')
    size, threads, group = _counts(n, cores, batch_size, out)
    shapes = _shapes(shape)
    names, paths = asked_of(net, wrt, None, kinds, False)
    beside = beside_of(False, names, group)
    given = {} if mask_constant is None else {"mask": _masked(net, shapes, mask_constant)}
    try:
        with one_blas_thread(), np.errstate(all="ignore"):
            every = shapes | given
            if group is not None:
                net = batches.program_at(net, every, group)
                every = {name: (group, *one) for name, one in every.items()}
            trial = Trial(net, every, kinds, work, pattern1)
            worker, tally = trial.tally(size if size is None else size // (group or 1))
            regions = regions_of(worker, tally)
            ways = _ways_back(trial, paths, size) if names else ()
    except TpnumError as error:
        error.rename({"x1": "shape", "x": "shape"})
        raise
    store = None
    if size is not None and out is not None:
        store = store_plan(partial(_job, trial, group, beside), work, size, threads or 1, out, backend)
    return KernelPlan(
        get=kinds,
        shape=shapes[""] if "" in shapes else shapes,
        dtype=work,
        road=worker.road,
        reason=worker.reason,
        regions=regions,
        axes=tuple(size for axes in trial.plan.axes for size in axes[0 if group is None else 1 :]),
        bytes_per_pair=trial.bytes_per_pair * (1 + len(names)),
        bytes_per_example=trial.features * work.itemsize,
        tally=tally,
        n=size,
        cores=threads,
        store=store,
        batch_size=group,
        wrt=names,
        ways_back=ways,
    )


def _counts(n: Any, cores: Any, batch_size: Any, out: Any) -> tuple[int | None, int | None, int | None]:
    """Examples, threads and the examples of a batch, None for what is not asked for."""
    group = None if batch_size is None else whole(batch_size, "batch_size", 1, MOST)
    if n is None:
        if cores is not None:
            raise InputError("cores: a number of threads goes with a size; give n as well")
        if out is not None:
            raise InputError("out: a matrix on disk has a size; give n as well")
        return None, None, group
    size = whole(n, "n", 1, MOST)
    if group is not None and size % group:
        raise InputError(f"batch_size: {group} does not divide n = {size}; give a multiple")
    return size, thread_count(None) if cores is None else whole(cores, "cores", 1, MOST), group


def _ways_back(trial: Trial, paths: list[list[str]], n: int | None) -> tuple[WayBack, ...]:
    by_rules(trial.plan)

    def most(count: int) -> int:
        return trial.most(count, 1 + 2 * len(paths))

    assert isinstance(trial.net, Layer)
    return Trials(trial.net, paths, trial.kinds, trial.named, most).ways(n or MOST)


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


def _job(trial: Trial, batch: int | None, beside: Beside, count: int) -> Job:
    """The tasks of random examples, whole batches of them where they come in batches."""
    x = trial.inputs(-(-count // (batch or 1)))
    sources: dict[str, Source] = {name: Held(array, "x") for name, array in x.items()}
    return Job(trial.net, trial.kinds, trial.dtype, sources, None, batch=batch, beside=beside)
