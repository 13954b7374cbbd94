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
from tpnum.tiles.directions import WHOLE
from tpnum.tiles.driver import kernel
from tpnum.tiles.grid import Tile
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.products import each_tile, job_of

if TYPE_CHECKING:
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.tasks import Job

BLOCK = 64
"""Columns that are computed together."""
STRIP = 8192
"""Examples against which they are computed at a time: as many at most as are kept as unit vectors."""
SOLVED = 512
"""Examples of a triangular solve, which stays in the cache."""
FAIR = 0.5
"""A candidate is taken if what is left at it is this much of what is left anywhere else."""
SPARE = 2
"""Candidates for each that was taken the time before."""
ROUNDING = 1e-13
"""Of the largest entry of the diagonal: what is left below that is rounding."""


@dataclass(frozen=True)
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
        return f"<Factor of rank {self.rank}: {self.error / self.trace:.2g} of the trace is left>"


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
) -> Factor:
    """A low-rank factor of the kernel matrix of ``x``, by pivoted partial Cholesky or by Nystrom.

    Pivots are the examples at which most of the diagonal is left (greedy pivoted Cholesky, in blocks: a
    candidate that the pivots before it in its block explain already is left for later).  Given ``pivots``,
    the factor is Nystrom's of these examples.  Only their columns are computed, in time O(N rank^2) beside
    them, and nothing larger than (N, rank) is held.

    Parameters
    ----------
    net, x, dtype, n_jobs
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
    """
    jobs = jobs_of(n_jobs)
    least = number(rtol, "rtol", low=0, below=1)
    job = job_of(net, x, None, get, dtype, name="x")
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
    inputs = data[""] if list(data) == [""] else data
    diagonal = np.array(kernel(net, inputs, get=job.kinds[0], diag=True, dtype=job.dtype), np.float64)
    try:
        return _Partial(job, data, diagonal, size, least, jobs).run(given)
    finally:
        job.forget()


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


class _Partial:
    """A partial Cholesky factor that grows block by block."""

    def __init__(
        self, job: Job, data: dict[str, np.ndarray], diagonal: np.ndarray, size: int, rtol: float, n_jobs: Any
    ):
        self.count, self.size, self.n_jobs = len(diagonal), size, n_jobs
        self.data, self.left, self.trace = data, diagonal.copy(), float(diagonal.sum())
        self.enough = rtol * self.trace
        self.tiny = ROUNDING * float(diagonal.max())
        if job.dtype == np.float32:
            self.tiny = max(self.tiny, float(np.finfo(np.float32).eps) * float(diagonal.max()))
        self.rows = np.empty((size, self.count), job.dtype)  # of L', each written once
        self.pivots: list[int] = []
        # candidates take their place among the rows of the job when they are chosen
        self.pool = {name: np.zeros((0, *x.shape[1:]), x.dtype) for name, x in data.items()}
        self.job = replace(
            job, first=dict(job.first), second=job.first, kept=memory() / 4, token=uuid.uuid4().hex
        )
        widest = max(int(np.prod(x.shape[1:])) for x in data.values()) * job.dtype.itemsize
        self.strip = int(np.clip(WHOLE // widest, 256, STRIP))
        self.computed = 0
        self.taken = BLOCK

    def run(self, given: np.ndarray | None) -> Factor:
        try:
            return self._run(given)
        finally:
            self.job.forget()

    def _run(self, queue: np.ndarray | None) -> Factor:
        while len(self.pivots) < self.size and self.left.sum() > self.enough:
            width = min(BLOCK, self.size - len(self.pivots))
            if queue is None:
                width = min(width, SPARE * max(1, self.taken))
            if queue is not None:
                chosen, queue = queue[:width], queue[width:]
                if not len(chosen):
                    break
                self._take(chosen, 0.0)
                continue
            order = np.argpartition(self.left, -min(width + 1, self.count))[-min(width + 1, self.count) :]
            order = order[np.argsort(-self.left[order], kind="stable")]
            chosen = order[:width][self.left[order[:width]] > self.tiny]
            if not len(chosen):
                break
            self._take(chosen, FAIR * float(self.left[order[-1]]))
        rank = len(self.pivots)
        error = float(np.maximum(self.left, 0.0).sum())
        pivots = np.array(self.pivots, np.intp)
        return Factor(self.rows[:rank].T, pivots, self.trace, error, self.computed)

    def _take(self, chosen: np.ndarray, fair: float) -> None:
        """Add the columns of those candidates at which enough is left when their turn comes."""
        done = len(self.pivots)
        rest = self._columns(chosen)
        known = self.rows[:done]
        with one_blas_thread():
            rest -= known[:, chosen].T @ known
        inner = rest[:, chosen].astype(np.float64)
        taken: list[int] = []
        left, work = inner.diagonal().copy(), inner.copy()
        for _ in range(len(chosen)):
            k = int(np.argmax(left))
            pivot = left[k]
            if pivot <= self.tiny or (taken and pivot < fair):
                break
            column = work[:, k] / np.sqrt(pivot)
            work -= np.outer(column, column)
            left -= column**2
            taken.append(k)
            left[taken] = -np.inf
        self.taken = len(taken)
        if taken:
            from scipy.linalg import cholesky

            root = cholesky(inner[np.ix_(taken, taken)], lower=True)
            new = self.rows[done : done + len(taken)]
            with one_blas_thread():
                _solve(root, rest if len(taken) == len(rest) and taken == sorted(taken) else rest[taken], new)
            np.subtract(self.left, np.einsum("kn,kn->n", new, new, dtype=np.float64), out=self.left)
            np.maximum(self.left, 0.0, out=self.left)
            self.pivots += [int(i) for i in chosen[taken]]
        self.left[chosen if not taken else chosen[taken]] = 0.0

    def _columns(self, chosen: np.ndarray) -> np.ndarray:
        """K[chosen], strip by strip."""
        start = next(iter(self.pool.values())).shape[0]
        for name, x in self.data.items():
            self.pool[name] = np.concatenate([self.pool[name], x[chosen]])
        for name in self.data:
            self.job.first[name] = Held(self.pool[name], "x")
        rows = slice(start, start + len(chosen))
        made = np.empty((len(chosen), self.count), self.rows.dtype)
        (kind,) = self.job.kinds

        def compute(tile: Tile) -> None:
            made[:, tile.cols] = self.job.compute(tile)[kind]

        starts = range(0, self.count, self.strip)
        tiles = [Tile(rows, slice(k, min(k + self.strip, self.count)), False) for k in starts]
        each_tile(self.job, tiles, compute, self.n_jobs)
        self.computed += len(chosen)
        return made


def _solve(root: np.ndarray, rest: np.ndarray, out: np.ndarray) -> None:
    """root^-1 rest by columns that stay in the cache."""
    from scipy.linalg import get_blas_funcs

    small = root.astype(rest.dtype)
    (trsm,) = get_blas_funcs(("trsm",), (small, rest))
    for start in range(0, rest.shape[1], SOLVED):
        part = np.asfortranarray(rest[:, start : start + SOLVED].T)
        out[:, start : start + SOLVED] = trsm(1.0, small, part, side=1, lower=1, trans_a=1, overwrite_b=1).T
