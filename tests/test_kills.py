"""Runs that are killed at any moment: what they leave is continued to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.forked import BOTH, NET, TILE, Run
from tpnum.errors import StoreError

pytest.importorskip("zarr")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

N, TILES = 480, 120


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("undisturbed")
    x = np.random.default_rng(0).standard_normal((N, 6))
    made = tp.kernel(NET, x, get=BOTH, tile=TILE, out=folder / "K.zarr")
    return {kind: matrix[:] for kind, matrix in made._asdict().items()} | {"x": x}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, np.ndarray]) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", undisturbed["x"])
    return tmp_path


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """Start a run."""
    logs = tmp_path_factory.mktemp("logs")
    begun: list[Run] = []

    def run(**options: Any) -> Run:
        begun.append(Run(logs / str(len(begun)), options))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()


def receipts(name: str = "K.zarr") -> int:
    return sum(1 for _ in Path().glob(f"{name}/nngp/receipts/*.json"))


def after(count: int, process: Run, name: str = "K.zarr") -> None:
    """Wait until a run has made so many receipts, or has ended."""
    end = time.monotonic() + 60
    while receipts(name) < count and process.runs() and time.monotonic() < end:
        time.sleep(0.001)


def same(undisturbed: dict[str, np.ndarray], found: Any) -> None:
    for kind in BOTH:
        np.testing.assert_array_equal(found[kind][:], undisturbed[kind])


def resumed(undisturbed: dict[str, np.ndarray], out: str = "K.zarr") -> int:
    """Continue here, and hold the result against the undisturbed one; how many tiles were left."""
    steps: list[int] = []
    made = tp.kernel(
        NET, undisturbed["x"], get=BOTH, tile=TILE, resume=True, out=out, progress=lambda *_: steps.append(1)
    )
    same(undisturbed, made._asdict())
    assert not list(Path().rglob("*.partial"))
    assert not list(Path().glob(".*"))
    return len(steps)


def test_killed_before_it_began_and_in_between(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(1)
    for count in (0, *rng.integers(1, TILES // 2, 2)):
        process = start(out="K.zarr")
        after(int(count), process)
        if not count:
            while not Path("K.zarr").exists() and process.runs():
                time.sleep(0.001)
        process.kill()
    assert 0 < resumed(undisturbed) < TILES


def test_a_map_is_continued_too(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    process = start(out="K.npy")
    end = time.monotonic() + 60
    while len(list(Path().glob(".K.npy.tiles/receipts/*.json"))) < 9 and time.monotonic() < end:
        time.sleep(0.001)
    process.kill()
    if not Path("K.ntk.npy").exists():
        assert resumed(undisturbed, "K.npy") < TILES
    assert sorted(path.name for path in Path().iterdir()) == ["K.nngp.npy", "K.ntk.npy", "x.npy"]


def test_two_shards_at_once_one_of_them_killed(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    first, second = start(out="K.zarr", shard="1/2"), start(out="K.zarr", shard="2/2")
    after(20, first)
    second.kill()
    again = start(out="K.zarr", shard="2/2"), start(out="K.zarr", shard="2/2")  # twice, at once
    for process in (first, *again):
        process.end()
    assert not tp.open("K.zarr").missing
    assert resumed(undisturbed) == 0


def test_four_make_one(folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]) -> None:
    four = [start(out="K.zarr", shard=f"{k}/4") for k in (1, 2, 3, 4)]
    for process in four:
        process.end()
    same(undisturbed, tp.open("K.zarr"))
    assert sorted(path.name for path in Path().iterdir()) == ["K.zarr", "x.npy"]


def test_a_store_that_another_run_is_writing(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    process = start(out="K.zarr")
    after(1, process)
    process.signal(signal.SIGSTOP)
    try:
        for options in ({}, {"shard": (1, 2)}):
            with pytest.raises(StoreError, match=r"K\.zarr is being written by another run"):
                tp.kernel(NET, undisturbed["x"], get=BOTH, out="K.zarr", resume=True, **options)
    finally:
        process.signal(signal.SIGCONT)
    process.end()
    assert resumed(undisturbed) == 0


def children(pid: int) -> list[int]:
    """The processes that compute for a process."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "popen_loky" in line]


def test_a_worker_process_that_is_killed_is_replaced(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    process = start(out="K.zarr", backend="processes", n_jobs=1)
    after(10, process)
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    process.end()
    assert resumed(undisturbed) == 0


def test_all_processes_are_killed(
    folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    process = start(out="K.zarr", backend="processes", n_jobs=1)
    after(10, process)
    process.kill()
    resumed(undisturbed)


class Deadly:
    """Inputs on which any process dies but the one that made them, at the tiles of one slice."""

    def __init__(self, x: np.ndarray):
        self.x, self.shape, self.chunks, self.owner = x, x.shape, (TILE,), os.getpid()

    def __getitem__(self, rows: slice) -> np.ndarray:
        if os.getpid() != self.owner and rows.start == 2 * TILE:
            os._exit(1)
        return self.x[rows]


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_task_that_kills_its_workers_is_named(
    n_jobs: int, folder: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    x = Deadly(undisturbed["x"][:128])
    with pytest.raises(StoreError, match="rows .* columns 64 to 96 has lost 3 workers"):
        tp.kernel(NET, x, get=BOTH, tile=TILE, out="K.zarr", backend="processes", n_jobs=n_jobs)
    made = tp.kernel(NET, undisturbed["x"][:128], get=BOTH, tile=TILE, out="K.zarr", resume=True)
    np.testing.assert_array_equal(made.ntk[:], undisturbed["ntk"][:128, :128])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_runs(
    seed: int, folder: Path, start: Callable[..., Run], undisturbed: dict[str, np.ndarray]
) -> None:
    """Killed at random moments: threads, processes, two shards at once (one or both)."""
    rng = np.random.default_rng(seed)
    options: list[dict[str, Any]] = [
        [{}], [{"backend": "processes"}], [{"shard": "1/2"}, {"shard": "2/2"}]
    ][seed % 3]  # fmt: skip
    for _ in range(4):
        processes = [start(out="K.zarr", **each) for each in options]
        after(receipts() + int(rng.integers(0, 30)), processes[0])
        time.sleep(float(rng.random()) * 0.02)
        killed = int(rng.integers(1, len(processes) + 1))
        for process in processes[:killed]:
            process.kill()
        for process in processes[killed:]:
            process.end()
    resumed(undisturbed)
