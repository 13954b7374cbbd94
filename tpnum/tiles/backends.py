"""Where tasks run: threads, processes, a Dask cluster, or whatever offers three methods.

A backend of your own (ray, MPI) has

* ``workers()``: how many tasks it runs at a time, which may change; a run that has none for half a minute
  ends with an error;
* ``submit(call, *arguments)``: a `concurrent.futures.Future` of a call that is sent to a worker; one that
  fails with `Lost`, with `concurrent.futures.BrokenExecutor` or is cancelled counts as a worker that died
  under its task, and is submitted again a few times;
* ``close(now)``: let go of the workers, at once if ``now``.

Calls and their arguments can be pickled; no array is among them, and what comes back is a receipt.  With
threads as workers::

    class Mine:
        def __init__(self):
            self.pool = ThreadPoolExecutor(2)

        def workers(self):
            return 2

        def submit(self, call, *arguments):
            return self.pool.submit(call, *arguments)

        def close(self, now):
            self.pool.shutdown(cancel_futures=now)

    tpnum.kernel(net, x, out="K.zarr", backend=Mine())

An object with ``submit`` alone, as every `concurrent.futures.Executor` is (mpi4py's MPIPoolExecutor,
ray's, loky's), will do too.
"""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from tpnum.arguments import shown
from tpnum.errors import InputError
from tpnum.tiles.pool import thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Lost(Exception):
    """A worker died, or was taken away, under its task."""


LOSSES = (Lost, BrokenExecutor, CancelledError)


class Backend(Protocol):
    """Runs calls somewhere."""

    @property
    def shares(self) -> bool:
        """Whether its workers are threads of this process."""

    def workers(self) -> int: ...

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]: ...

    def close(self, now: bool) -> None: ...


class Threads:
    """Threads of this process: the kernels hold no lock of the interpreter."""

    shares = True

    def __init__(self, n_jobs: int | None):
        self._count = thread_count(n_jobs)
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="tpnum")

    def workers(self) -> int:
        return self._count

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._pool.submit(call, *arguments)

    def close(self, now: bool) -> None:
        self._pool.shutdown(wait=True, cancel_futures=now)


_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""The environment of workers that are processes."""


class Processes:
    """Processes of this machine, spawned by loky; one that died is replaced."""

    shares = False

    def __init__(self, n_jobs: int | None):
        self._count = thread_count(n_jobs)
        self._pool: Any = None

    def workers(self) -> int:
        return self._count

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        from joblib.externals.loky import get_reusable_executor

        self._pool = get_reusable_executor(
            self._count, context="loky", timeout=60, env=ONE_THREAD, initializer=_begin
        )
        made: Future[Any] = self._pool.submit(call, *arguments)
        return made

    def close(self, now: bool) -> None:
        if self._pool is not None:
            # tidying up a whole interpreter takes a worker longer than many a tile, and all it did is on disk
            self._pool.shutdown(wait=True, kill_workers=True)


def _begin() -> None:
    """In a worker: Ctrl-C is for the process that has started it, and ends it."""
    from joblib.externals.loky import process_executor

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # pages of the mapped output count as a worker's memory: to loky they are a leak, and a reason to restart
    process_executor._USE_PSUTIL = False


def in_fresh_processes(call: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of calls in workers as those of `Processes`, all started at once, one for each."""
    from joblib.externals.loky import ProcessPoolExecutor

    with ExitStack() as stack:
        pools = [ProcessPoolExecutor(1, env=ONE_THREAD, initializer=_begin) for _ in each]
        for pool in pools:
            stack.enter_context(pool)
        begun = [pool.submit(call, *arguments) for pool, arguments in zip(pools, each, strict=True)]
        return [one.result() for one in begun]


class Custom:
    """A backend, or an executor, of the user's, which stays open."""

    shares = False

    def __init__(self, given: Any, n_jobs: int | None):
        self._given = given
        self._says = callable(getattr(given, "workers", None))
        most = getattr(given, "_max_workers", None)
        self._count = most if n_jobs is None and isinstance(most, int) else thread_count(n_jobs)
        self.shares = isinstance(given, ThreadPoolExecutor)

    def workers(self) -> int:
        return int(self._given.workers()) if self._says else self._count

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        made: Future[Any] = self._given.submit(call, *arguments)
        return made

    def close(self, now: bool) -> None:
        if not isinstance(self._given, Executor) and hasattr(self._given, "close"):
            self._given.close(now)


def _dask(scheduler: Any) -> Backend:
    from tpnum.tiles.dask_backend import Dask

    return Dask(scheduler)


NAMES = ("threads", "processes", "dask")


def backend_of(backend: Any, scheduler: Any, n_jobs: int | None) -> Backend:
    """The backend of an argument; without one Dask where `joblib.parallel_config` says so, or threads."""
    if backend is None and scheduler is None:
        scheduler = _around()
    if backend is None:
        backend = "threads" if scheduler is None else "dask"
    name = backend if isinstance(backend, str) else ""
    if scheduler is not None and name != "dask":
        raise InputError(f'scheduler: it goes with backend="dask", not with {shown(backend)}')
    if name == "threads":
        return Threads(n_jobs)
    if name == "processes":
        return Processes(n_jobs)
    if name == "dask":
        return _dask(scheduler)
    if callable(getattr(backend, "submit", None)):
        return Custom(backend, n_jobs)
    raise InputError(
        f"backend is {shown(backend)}: it must be one of {', '.join(NAMES)}, or have a method submit"
    )


def is_remote(backend: Any, scheduler: Any, around: bool = True) -> bool:
    """Whether a call, or what is ``around`` it, asks for something else than threads of this process."""
    if backend is None and scheduler is None:
        return around and _around() is not None
    return not (isinstance(backend, str) and backend == "threads") or scheduler is not None


def _around() -> Any:
    """The client of a `joblib.parallel_config(backend="dask")` that is in force."""
    from joblib.parallel import get_active_backend

    active, _ = get_active_backend()
    if type(active).__name__ != "DaskDistributedBackend":
        return None
    from tpnum.tiles.dask_backend import in_a_task

    return None if in_a_task() else getattr(active, "client", None)
