"""`tpnum.factor`: a kernel matrix as L L' of low rank, from the columns that this needs and no others."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import jobs as jobs_of
from tpnum.arguments import number, shown, whole
from tpnum.errors import InputError, memory, require_memory
from tpnum.tiles.data import Held
from tpnum.tiles.driver import kernel
from tpnum.tiles.grid import Tile
from tpnum.tiles.pivoted import partial_cholesky
from tpnum.tiles.pool import one_blas_thread, thread_count
from tpnum.tiles.products import job_of

if TYPE_CHECKING:
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.data import Source
    from tpnum.tiles.tasks import Job

PASS = 1 << 30
"""Bytes of the pass over the examples, against as many of which columns are computed at a time."""


@dataclass(frozen=True, eq=False)
class Factor:
    """K = L L' + rest, the rest positive semidefinite and zero in the rows and columns of the pivots.

    Attributes
    ----------
    columns
        L, (N, rank).
    pivots
        The examples whose columns of K it was made of, in order.
    trace
        That of K.
    error
        The trace of the rest: the sum of its eigenvalues, an upper bound of the largest.
    computed
        The columns of K that were computed.
    """

    columns: np.ndarray
    pivots: np.ndarray
    trace: float
    error: float
    computed: int

    @property
    def rank(self) -> int:
        return len(self.pivots)

    def __repr__(self) -> str:
        left = self.error / self.trace if self.trace else 0.0
        return f"<Factor of rank {self.rank}: {left:.2g} of the trace is left>"


def factor(
    net: Layer | Program,
    x: Any,
    rank: int | None = None,
    *,
    get: str = "nngp",
    pivots: Any = None,
    rtol: float = 0.0,
    dtype: Any = None,
    n_jobs: int | None = None,
    mask_constant: float | None = None,
    pattern1: Any = None,
) -> Factor:
    """A low-rank factor of the kernel matrix of ``x``, by pivoted partial Cholesky or by Nystrom.

    Pivots are the examples at which most of the diagonal is left (greedy pivoted Cholesky, in blocks: a
    candidate that the pivots before it in its block explain already is left for later).  Given ``pivots``,
    the factor is Nystrom's of these examples.  Only their columns are computed, and K between the candidates
    of a block, in time O(N rank^2) beside them, and nothing larger than (N, rank) is held.

    Parameters
    ----------
    net, x, dtype, n_jobs, mask_constant, pattern1
        As in `tpnum.kernel`.
    rank
        The most columns of the factor.
    get
        "nngp" or "ntk".
    pivots
        Numbers of examples to use, rather than to choose.
    rtol
        Stop when this part of the trace is left.

    Returns
    -------
    Factor
        ``columns`` L with K ~ L L', ``pivots``, and the trace of what is left as ``error``.

    Raises
    ------
    InputError
        An argument that cannot be used, or a net whose output keeps index axes.
    SpecError
        A net that normalises over a batch of examples, whose kernels `tpnum.operator` takes.
    """
    threads = thread_count(jobs_of(n_jobs))
    least = number(rtol, "rtol", low=0, below=1)
    job = job_of(net, (x, None, mask_constant, pattern1, None), get, dtype, name="x")
    shape = job.shape()
    if len(shape) != 2:
        raise InputError(
            f"net: its output at this shape of x has index axes, and its kernel is of shape {shape}"
        )
    count = shape[0]
    given = None if pivots is None else _given(pivots, count)
    if rank is None and given is None:
        raise InputError("rank: give the number of columns, or pivots")
    most = min(count, len(given) if given is not None else count)
    size = most if rank is None else min(whole(rank, "rank", 1), most)
    require_memory(float(count) * size * job.dtype.itemsize, f"rank: a factor of {count} x {size}")
    data = {name: source.read(slice(0, count)) for name, source in job.first.items()}
    given_too: dict[str, Any] = {"mask_constant": mask_constant, "pattern1": pattern1}
    own = kernel(net, x, get=job.kinds[0], diag=True, dtype=job.dtype, **given_too)
    diagonal = np.array(own, np.float64)
    trace, columns = float(diagonal.sum()), _Columns(job, data, diagonal, threads)
    try:
        with one_blas_thread():
            made = partial_cholesky(
                diagonal,
                size,
                columns.between,
                columns.compute,
                given=given,
                enough=least * trace,
                dtype=job.dtype,
                jobs=threads,
            )
    finally:
        columns.job.forget()
        job.forget()
    error = float(made.left.sum())
    return Factor(made.rows.T, np.array(made.pivots, np.intp), trace, error, columns.computed)


def _given(pivots: Any, count: int) -> np.ndarray:
    try:
        made = np.asarray(pivots)
        if made.ndim != 1 or made.dtype.kind not in "iu" or not made.size:
            raise TypeError
    except Exception:  # whatever a stranger's array raises
        raise InputError(f"pivots is {shown(pivots)}: it must be numbers of examples") from None
    if made.min() < 0 or made.max() >= count:
        raise InputError(f"pivots: examples are numbered 0 to {count - 1}, and {int(made.max())} is given")
    if len(np.unique(made)) < len(made):
        raise InputError("pivots: an example is given twice")
    return made.astype(np.intp)


class _Columns:
    """Columns of a kernel matrix on demand: those of examples that are chosen later, against all."""

    def __init__(self, job: Job, data: dict[str, np.ndarray], diagonal: np.ndarray, threads: int):
        self.data, self.diagonal, self.count = data, diagonal, job.shape()[0]
        self.threads, self.computed = threads, 0
        # chosen examples take their place among the rows of the job
        self.pool = {name: np.zeros((0, *x.shape[1:]), x.dtype) for name, x in data.items()}
        self.job = replace(
            job, first=dict(job.first), second=job.first, kept=memory() / 4, token=uuid.uuid4().hex
        )
        each = sum(int(np.prod(x.shape[1:])) for x in data.values()) * (8 + job.dtype.itemsize)
        self.strip = max(4096, int(min(PASS, memory() / 8) // each))

    def between(self, chosen: np.ndarray) -> np.ndarray:
        """K[chosen][:, chosen]."""
        some: dict[str, Source] = {name: Held(x[chosen], "x") for name, x in self.data.items()}
        job, every = replace(self.job, first=some, second=None, token=uuid.uuid4().hex), slice(0, len(chosen))
        try:
            return job.compute(Tile(every, every, False))[self.job.kinds[0]]
        finally:
            job.forget()

    def compute(self, chosen: np.ndarray, out: np.ndarray) -> None:
        """K[chosen] into ``out``."""
        start = next(iter(self.pool.values())).shape[0]
        for name, x in self.data.items():
            self.pool[name] = np.concatenate([self.pool[name], x[chosen]])
            self.job.first[name] = Held(self.pool[name], "x")
        rows = slice(start, start + len(chosen))
        (kind,) = self.job.kinds
        for left in range(0, self.count, self.strip):
            cols = slice(left, min(left + self.strip, self.count))
            self.job.fill(Tile(rows, cols, False), {kind: out[:, cols]}, self.threads)
        # an example meets itself: noise of its own, as that of dropout, counts there
        out[np.arange(len(chosen)), chosen] = self.diagonal[chosen]
        self.computed += len(chosen)
