"""`tpnum.kernel` where its results or its workers are elsewhere: on disk, in processes, on a cluster."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.joint import USUAL, Accuracy
from tpnum.tiles import arguments, batches
from tpnum.tiles.asked import Asked, require_no_store
from tpnum.tiles.beside import error_of, slope_of
from tpnum.tiles.gradients.derivatives import Derivatives
from tpnum.tiles.named import WithError
from tpnum.tiles.padding import all_sources, batched
from tpnum.tiles.stores.runs import write
from tpnum.tiles.stores.stored import Stored
from tpnum.tiles.stores.targets import on_disk
from tpnum.tiles.tasks import Job

if TYPE_CHECKING:
    from tpnum.nn.base import Layer
    from tpnum.program import Program


def kernel_elsewhere(
    asked: Asked, inputs: tuple[Any, Any, Any, Any, Any], out: Any, options: dict[str, Any]
) -> Any:
    """The kernels as `tpnum.kernel` returns them: `tpnum.open`'s of those on disk, else arrays.

    ``inputs`` are x1, x2, mask_constant, pattern1 and pattern2, ``options`` those of `write` that are no part
    of the request.  On disk the derivatives by several names are a tuple of matrices.
    """
    how = asked.effort
    job = job_on(asked.net, asked.kinds, asked.dtype, inputs, how.tile, asked.batch, how.accuracy)
    job = replace(job, beside=asked.beside)
    options = options | {"tile": how.tile, "n_jobs": how.n_jobs, "progress": how.report}
    stored = on_disk(out)
    try:
        made = _stored(job, out, options) if stored else _arrays(job, out, asked.single, options)
    finally:
        job.forget()

    def slopes(kind: str) -> Any:
        each = [made[slope_of(kind, name)] for name in asked.names]
        return asked.by_name(each, tuple if stored else np.stack)

    kernels = asked.by_kind(made.__getitem__)
    if asked.beside.error:
        return WithError(kernels, asked.by_kind(lambda kind: made[error_of(kind)]))
    return Derivatives(kernels, asked.by_kind(slopes)) if asked.names else kernels


def job_on(
    net: Layer | Program,
    kinds: tuple[str, ...],
    dtype: np.dtype,
    inputs: tuple[Any, Any, Any, Any, Any],
    tile: int | None = None,
    batch: int | None = None,
    accuracy: Accuracy = USUAL,
    name: str = "x1",
) -> Job:
    """The job of these inputs, by batches if that is asked."""
    first, second = all_sources(net, *inputs, name=name)
    if batch is not None:
        net = batches.program_of(net, first, batch)
        batches.rows_of(tile, batch)
        first, second = batched(first, batch), None if second is None else batched(second, batch)
    return Job(net, kinds, dtype, first, second, accuracy, batch)


def _stored(job: Job, out: Any, options: dict[str, Any]) -> dict[str, Any]:
    target = write(job, out, **options)
    made = target.complete()
    if made is not None:
        return made
    stored = Stored(target, target.document() or {})
    return {name: stored[name] for name in job.names}


def _arrays(job: Job, out: Any, single: bool, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """By way of a file, which other processes can write."""
    require_no_store(options)
    shape, beside = job.shape(), job.names[len(job.kinds) :]
    outs = arguments.outputs_of(out, job.kinds, shape, job.dtype, single)
    outs |= arguments.outputs_of(None, beside, shape, job.dtype, False)
    with tempfile.TemporaryDirectory(prefix="tpnum-") as folder:
        made = _stored(job, str(Path(folder, "K.npy")), options)
        for name, array in outs.items():
            array[...] = made[name]
        made.clear()
    return outs
