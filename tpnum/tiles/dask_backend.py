"""Tasks on a Dask cluster; the only file that imports distributed.

Futures carry tasks to the workers, by their paths, and receipts back: no array is ever scattered, so
nothing is lost with a worker but the task that it was at.
"""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tpnum.arguments import shown
from tpnum.errors import InputError, StoreError
from tpnum.tiles.backends import Lost

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 10.0
"""Seconds within which a scheduler and its first worker have to answer."""
GONE = "scheduler: it does not answer any more; what is finished stays, and resume=True continues it"


def in_a_task() -> bool:
    """Whether this thread runs a task of a cluster, which could wait for its own worker for ever."""
    from distributed.utils import thread_state

    return hasattr(thread_state, "execution_state")


class Dask:
    """A client of the user's, that of an address, or the one that is current."""

    shares = False

    def __init__(self, scheduler: Any):
        try:
            import distributed
        except ImportError:
            raise InputError("backend: \"dask\" needs distributed: pip install 'tpnum[dask]'") from None
        self._own = isinstance(scheduler, str)
        if isinstance(scheduler, distributed.Client):
            self._client = scheduler
        elif self._own:
            try:
                self._client = distributed.Client(scheduler, timeout=TIMEOUT, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(f"scheduler: none answers at {scheduler} ({error})") from error
        elif scheduler is None:
            try:
                self._client = distributed.get_client(timeout=TIMEOUT)
            except ValueError:
                raise InputError("scheduler: there is no Dask client here; give one, or an address") from None
        elif hasattr(scheduler, "scheduler_address"):  # a cluster
            self._own = True
            self._client = distributed.Client(scheduler.scheduler_address, set_as_default=False)
        else:
            raise InputError(f"scheduler is {shown(scheduler)}: it must be a Dask client or an address")
        self._sent: weakref.WeakSet[Any] = weakref.WeakSet()
        self._gone = False
        self._losses = (distributed.KilledWorker, distributed.client.FutureCancelledError)
        try:
            self._client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            raise InputError("scheduler: it has no worker; start some") from None

    def workers(self) -> int:
        """Threads of the workers that take tasks: one whose memory is full takes none."""
        known = self._asked(self._client.scheduler.identity, n_workers=-1)["workers"].values()
        return sum(worker["nthreads"] for worker in known if worker["status"] == "running")

    def _asked(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """The answer of the scheduler, or the error that there is none."""
        if self._client.status == "running":
            with suppress(OSError, TimeoutError):
                return self._client.sync(call, callback_timeout=TIMEOUT, **arguments)
        self._gone = True
        raise StoreError(GONE)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._client.status != "running":
            self._gone = True
            raise StoreError(GONE)
        made: Future[Any] = Future()
        theirs: Any = self._client.submit(call, *arguments, pure=False, retries=0)
        self._sent.add(theirs)

        def answer(done: Any) -> None:
            if made.cancelled():
                return
            if done.status == "finished":
                try:
                    made.set_result(done.result())
                except Exception as lost:  # the answer, with its worker
                    made.set_exception(Lost(str(lost)))
                return
            error: Any = None if done.cancelled() else done.exception()
            if error is None:
                made.set_exception(Lost("the scheduler has given it up"))
            elif isinstance(error, self._losses):
                made.set_exception(Lost(str(error)))
            else:
                made.set_exception(error)

        made.__dict__["theirs"] = theirs  # the scheduler forgets what nobody holds
        theirs.add_done_callback(answer)
        return made

    def close(self, now: bool) -> None:
        client: Any = self._client
        if now and not self._gone:
            client.cancel(list(self._sent), force=True)
        if self._own:
            client.close(TIMEOUT)
