"""Products of kernel matrices with vectors, the matrix read or computed tile by tile, never held."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from tpnum.arguments import jobs as jobs_of
from tpnum.arguments import shown, whole
from tpnum.errors import InputError
from tpnum.evaluate.joint import USUAL, Accuracy
from tpnum.tiles import arguments
from tpnum.tiles.backends import Threads
from tpnum.tiles.data import checked
from tpnum.tiles.elsewhere import job_on
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.scheduling import execute
from tpnum.tiles.stores import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.stored import StoredMatrix
    from tpnum.tiles.tasks import Job


class StoredOperator(LinearOperator):  # type: ignore[misc]
    """A stored matrix as an operator: one pass over the disk for all vectors of a product."""

    def __init__(self, matrix: StoredMatrix):
        if matrix.ndim != 2:
            raise InputError(f"linear_operator: a matrix with index axes, {matrix.shape}, is no operator")
        self._matrix = matrix
        super().__init__(matrix.dtype, matrix.shape)

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        return np.concatenate([self._matrix[rows] @ vectors for rows in self._matrix.tile_rows()])

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._matmat(vector.reshape(-1, 1))[:, 0]

    def _rmatmat(self, vectors: np.ndarray) -> np.ndarray:
        made = np.zeros((self.shape[1], vectors.shape[1]), np.result_type(self.dtype, vectors))
        for rows in self._matrix.tile_rows():
            made += self._matrix[rows].T @ vectors[rows]
        return made

    def _rmatvec(self, vector: np.ndarray) -> np.ndarray:
        return self._rmatmat(vector.reshape(-1, 1))[:, 0]


class KernelOperator(LinearOperator):  # type: ignore[misc]
    """A kernel matrix that is computed anew, tile by tile, for every product.

    All vectors of a product share one sweep, and of a symmetric matrix one triangle is computed.
    """

    def __init__(self, job: Job, tile: int | None, n_jobs: int | None):
        shape = job.shape()
        if len(shape) != 2:
            raise InputError(
                f"net: its output at this shape of x1 has index axes, so {shape} is its kernel's; "
                "end the net in Flatten or a pooling layer"
            )
        own = job.second is None and job.plan().mirrored
        sides = layout.FULL if own else layout.WHOLE
        self._job, self._n_jobs, self._symmetric = job, n_jobs, own
        self._layout = layout.cut(job.kinds, shape, job.dtype, job.pairs(), tile, sides, job.batch or 1)
        weakref.finalize(self, job.forget)
        super().__init__(job.dtype, shape)

    def _sweep(self, vectors: np.ndarray, turned: bool) -> np.ndarray:
        made = np.zeros(
            (self.shape[1 if turned else 0], vectors.shape[1]), np.result_type(np.float64, vectors)
        )
        given = vectors.astype(np.result_type(self.dtype, vectors), copy=False)
        lock = threading.Lock()
        (kind,) = self._job.kinds

        def add(rows: slice, part: np.ndarray) -> None:
            with lock:
                made[rows] += part

        def product(tile: Tile) -> None:
            block = self._job.compute(tile)[kind]
            with one_blas_thread():
                if turned or tile.mirror:
                    add(tile.cols, block.T @ given[tile.rows])
                if not turned or tile.mirror:
                    add(tile.rows, block @ given[tile.cols])

        each_tile(self._job, self._layout.tiles, product, self._n_jobs)
        return made.astype(given.dtype, copy=False)

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        return self._sweep(vectors, False)

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._sweep(vector.reshape(-1, 1), False)[:, 0]

    def _rmatmat(self, vectors: np.ndarray) -> np.ndarray:
        return self._sweep(vectors, not self._symmetric)

    def _rmatvec(self, vector: np.ndarray) -> np.ndarray:
        return self._rmatmat(vector.reshape(-1, 1))[:, 0]


def each_tile(job: Job, tiles: Sequence[Tile], call: Callable[[Tile], None], n_jobs: int | None) -> None:
    """A call per tile by threads; one that fails, or Ctrl-C, ends them all."""
    backend = Threads(n_jobs)
    try:
        with one_blas_thread():
            execute(backend, lambda tile: (call, tile), tiles, lambda *_: None)
    except BaseException:
        job.stop()
        backend.close(True)
        job.forget()
        raise
    backend.close(False)


def job_of(
    net: Layer | Program,
    inputs: tuple[Any, Any, Any, Any, Any],
    get: Any,
    dtype: Any,
    tile: int | None = None,
    batch: int | None = None,
    accuracy: Accuracy = USUAL,
    name: str = "x1",
) -> Job:
    """The job of one kind, its inputs (x1, x2, mask_constant, pattern1, pattern2) looked through."""
    kinds = arguments.kinds_of(get)
    if len(kinds) != 1:
        raise InputError(f'get: {shown(get)} is more than one kernel; give "nngp" or "ntk"')
    job = job_on(net, kinds, arguments.dtype_of(dtype), inputs, tile, batch, accuracy, name=name)
    for side in (job.first, job.second or {}):
        for source in side.values():
            for _ in checked(source):
                pass
    return job


def operator(
    net: Layer | Program,
    x1: Any,
    x2: Any = None,
    *,
    get: str = "nngp",
    dtype: Any = None,
    n_jobs: int | None = None,
    tile: int | None = None,
    rtol: float | None = None,
    budget: int | None = None,
    mask_constant: float | None = None,
    pattern1: Any = None,
    pattern2: Any = None,
    batch_size: int | None = None,
) -> KernelOperator:
    """The kernel matrix of a net as a `scipy.sparse.linalg.LinearOperator` that is never stored.

    Every product computes the tiles of the matrix anew; ``op @ V`` with V of several columns takes one sweep
    for all of them.  For N at which the matrix fits nowhere: solvers and spectra of `scipy.sparse.linalg`.

    Parameters
    ----------
    net, x1, x2, dtype, n_jobs, tile, rtol, budget, mask_constant, pattern1, pattern2, batch_size
        As in `tpnum.kernel`; memory maps and Zarr arrays are read by slices.
    get
        "nngp" or "ntk".

    Returns
    -------
    LinearOperator
        Of shape (N1, N2), with its transpose; products agree to rounding whatever the number of threads.

    Raises
    ------
    InputError
        An argument that cannot be used, or a net whose output keeps index axes.
    LimitError
        As `tpnum.kernel`.
    """
    side = None if tile is None else whole(tile, "tile", 1)
    jobs = jobs_of(n_jobs)
    batch = None if batch_size is None else whole(batch_size, "batch_size", 1)
    inputs, accuracy = (x1, x2, mask_constant, pattern1, pattern2), Accuracy.of(rtol, budget)
    return KernelOperator(job_of(net, inputs, get, dtype, side, batch, accuracy), side, jobs)
