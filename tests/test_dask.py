"""Kernel matrices on a Dask cluster: the same bits, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.forked import BOTH, NET, TILE
from tests.test_kills import Deadly
from tpnum.errors import InputError, StoreError
from tpnum.tiles import dask_backend, scheduling

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

ROOT = str(Path(__file__).resolve().parents[1])


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of one worker with one thread, in a process that is restarted when it dies."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as made:
        yield made


@pytest.fixture
def x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    return np.random.default_rng(0).standard_normal((200, 6))


def make(x: Any, out: Any, **options: Any) -> Any:
    return tp.kernel(NET, x, **{"get": BOTH, "tile": TILE, "out": out, **options})


def test_a_cluster_of_one_core_gives_the_same_bits(client: Any, x: np.ndarray) -> None:
    joblib = pytest.importorskip("joblib")
    want = make(x, "W.zarr").ntk[:]
    np.testing.assert_array_equal(make(x, "C.zarr", scheduler=client).ntk[:], want)
    np.testing.assert_array_equal(make(x, "A.zarr", scheduler=client.scheduler.address).ntk[:], want)
    np.testing.assert_array_equal(make(x, None, backend="dask").ntk, want)
    with joblib.parallel_config(backend="dask"):
        np.testing.assert_array_equal(make(x, "P.zarr").ntk[:], want)
    assert sorted(os.listdir()) == ["A.zarr", "C.zarr", "P.zarr", "W.zarr"]


def inner(x: np.ndarray) -> np.ndarray:
    made: np.ndarray = tp.kernel(NET, x, get="ntk")
    return made


def test_a_kernel_in_a_task_stays_in_it(client: Any, x: np.ndarray) -> None:
    """Where the only worker waited for a task of its own, it would wait for ever."""
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="dask"):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(inner)(x[:k]) for k in (20, 30))
    np.testing.assert_allclose(found[1], tp.kernel(NET, x[:30], get="ntk"), rtol=1e-13)


@pytest.mark.parametrize("count", [3, *(pytest.param(k, marks=pytest.mark.slow) for k in (0, 1, 7, 12, 20))])
def test_workers_that_are_killed_lose_nothing(count: int, client: Any, x: np.ndarray) -> None:
    """All of them, and with them whatever results they hold."""
    want = make(x, "W.zarr").ntk[:]
    client.wait_for_workers(1, timeout=60)
    pids = client.run(os.getpid).values()

    def kill() -> None:
        end = time.monotonic() + 60
        while len(list(Path().glob("K.zarr/nngp/receipts/*.json"))) < count and time.monotonic() < end:
            time.sleep(0.001)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    made = make(x, "K.zarr", scheduler=client)
    killer.join()
    np.testing.assert_array_equal(made.ntk[:], want)


def test_a_task_that_kills_its_workers_ends_the_run(client: Any, x: np.ndarray) -> None:
    begun = time.monotonic()
    with pytest.raises(StoreError, match="columns 64 to 96 has lost 3 workers"):
        make(Deadly(x[:100]), "K.zarr", scheduler=client)
    assert time.monotonic() - begun < 60
    np.testing.assert_array_equal(make(x[:100], "K.zarr", resume=True).ntk[:], make(x[:100], "W.zarr").ntk[:])


@pytest.fixture
def local() -> Iterator[Any]:
    """A cluster of one worker, a thread of this process, that nothing starts again."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(processes=False, **options) as cluster:
        yield cluster


def test_a_cluster_that_is_left_without_workers_ends_the_run(
    local: Any, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "PATIENCE", 1.0)
    monkeypatch.setattr(scheduling, "COUNT", 0.1)

    def leave(done: int, total: int) -> None:
        if done == 3:
            local.scale(0)

    with distributed.Client(local) as client:
        with pytest.raises(StoreError, match="no worker is left.*the tile of rows .* was under way"):
            make(x, "K.zarr", scheduler=client, progress=leave)
        local.scale(1)
        np.testing.assert_array_equal(
            make(x, "K.zarr", scheduler=client, resume=True).ntk[:], make(x, "W.zarr").ntk[:]
        )


def test_a_scheduler_that_goes_ends_the_run(local: Any, x: np.ndarray) -> None:
    def leave(done: int, total: int) -> None:
        if done == 3:
            local.close()

    with pytest.raises(StoreError, match="scheduler: it does not answer any more"):
        make(x, "K.zarr", scheduler=local.scheduler_address, progress=leave)
    assert 3 <= len(list(Path().glob("K.zarr/nngp/receipts/*.json"))) < 28


def test_schedulers_that_are_not_there(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_backend, "TIMEOUT", 1.0)
    for scheduler, message in (("tcp://127.0.0.1:9", "none answers"), (3, "client or an address")):
        with pytest.raises(InputError, match=message):
            make(x, "K.zarr", scheduler=scheduler)
    assert not os.listdir()
