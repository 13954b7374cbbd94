"""`tpnum.plan` of matrices on disk: its counts are those of a store, its seconds those of a run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main
from tpnum.errors import InputError, StoreError

pytest.importorskip("zarr")

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.1), nn.Relu(), nn.Dense(8), nn.Relu(), nn.Dense(1))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("get", ["ntk", ("nngp", "ntk")])
@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_counts_are_those_of_a_store(get, out) -> None:
    made = tp.plan(NET, (6,), get=get, dtype="float32", n=700, cores=3, out=out).store
    assert not os.listdir()
    tp.kernel(NET, np.random.default_rng(0).standard_normal((700, 6)), get=get, dtype="float32", out=out)
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert made.files == len(files)
    bulk = sum(path.stat().st_size for path in files if path.suffix != ".json")
    assert abs(made.bytes - bulk) <= 256
    if out == "K.zarr":
        assert made.tiles == len(list(Path("K.zarr").rglob("receipts/*.json")))
        assert made.tile == tuple(tp.open(out).provenance["tile"])


def test_derivatives_are_counted() -> None:
    options = {"get": "ntk", "wrt": ("W_std", "layers[0].b_std")}
    made = tp.plan(NET, (6,), n=70, cores=1, out="K.zarr", **options).store
    alone = tp.plan(NET, (6,), n=70, cores=1, out="K.zarr", get="ntk").store
    tp.kernel(NET, np.random.default_rng(0).standard_normal((70, 6)), out="K.zarr", n_jobs=1, **options)
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert made.files == len(files)
    assert abs(made.bytes - sum(path.stat().st_size for path in files if path.suffix != ".json")) <= 256
    assert made.tile == tuple(tp.open("K.zarr").provenance["tile"])
    assert made.tile_seconds > alone.tile_seconds


CASES: dict[str, tuple[nn.Layer, tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    "batches": (
        nn.serial(nn.Dense(8), nn.BatchNorm(), nn.Relu(), nn.Dense(1)), (6,),
        {"batch_size": 3}, {"batch_size": 3},
    ),
    "padding": (
        nn.serial(nn.Conv(8, (3,), padding="SAME"), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1)), (4, 2),
        {"mask_constant": 9.0}, {"mask_constant": 9.0},
    ),
    "graphs": (
        nn.serial(nn.Dense(8), nn.Relu(), nn.Aggregate(), nn.Flatten(), nn.Dense(1)), (4, 2),
        {"pattern1": np.ones((5, 4, 4))}, {"pattern1": np.ones((30, 4, 4))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_batches_padding_and_graphs_are_counted(case: str) -> None:
    net, shape, planned, options = CASES[case]
    made = tp.plan(net, shape, n=30, cores=1, out="K.zarr", **planned).store
    x = np.random.default_rng(0).standard_normal((30, *shape))
    if case == "padding":
        x[3, 2:] = 9.0
    tp.kernel(net, x, out="K.zarr", n_jobs=1, **options)
    assert made.files == sum(path.is_file() for path in Path().rglob("*"))
    assert made.tile == tuple(tp.open("K.zarr").provenance["tile"])
    assert made.tiles == len(tp.open("K.zarr").missing) + len(list(Path("K.zarr").rglob("receipts/*.json")))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "features"), [(3000, 784), (6000, 784), (4000, 30)])
def test_seconds_are_those_of_a_run(n: int, features: int) -> None:
    """In processor time: others may be at work here."""
    x = np.random.default_rng(0).standard_normal((n, features)).astype(np.float32)
    tp.kernel(NET, x[:300], get="ntk", dtype="float32", n_jobs=1, out="W.zarr")
    made = min(
        (tp.plan(NET, (features,), get="ntk", dtype="float32", n=n, cores=1, out="K.zarr").store
         for _ in range(3)),
        key=lambda store: store.processor_seconds,
    )  # fmt: skip
    taken = []
    for k in range(3):
        begun = time.process_time()
        tp.kernel(NET, x, get="ntk", dtype="float32", n_jobs=1, out=f"K{k}.zarr")
        taken.append(time.process_time() - begun)
    assert 0.75 < made.processor_seconds / min(taken) < 1.25


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2])
def test_seconds_of_short_runs_by_processes(cores: int) -> None:
    """Their start is most of them."""
    x = np.random.default_rng(0).standard_normal((4000, 30)).astype(np.float32)
    tp.kernel(NET, x[:300], get="ntk", dtype="float32", n_jobs=1, out="W.zarr")
    made, taken = [], []
    for k in range(3):
        out = f"K{k}.zarr"
        made.append(
            tp.plan(
                NET, (30,), get="ntk", dtype="float32", n=4000, cores=cores, out=out, backend="processes"
            ).store.processor_seconds
        )
        begun = sum(os.times()[:4])
        tp.kernel(NET, x, get="ntk", dtype="float32", n_jobs=cores, backend="processes", out=out)
        taken.append(sum(os.times()[:4]) - begun)
    assert 0.75 < sorted(made)[1] / sorted(taken)[1] < 1.25


def test_processes_take_a_while_to_start() -> None:
    made = tp.plan(NET, (6,), n=700, cores=2, out="K.zarr", backend="processes").store
    assert not os.listdir()
    assert made.start_seconds > 0.1  # an interpreter and its imports
    assert made.processor_seconds == made.tiles * made.tile_seconds + 2 * made.start_seconds
    slowest = max(made.tile_seconds * -(-made.tiles // 2), made.bytes / made.bandwidth)
    assert made.seconds == made.start_seconds + slowest
    assert tp.plan(NET, (6,), n=700, cores=2, out="K.zarr").store.start_seconds == 0.0


def test_a_million_examples_on_a_thousand_processors(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.json").write_text(json.dumps(NET.to_spec()))
    words = ["plan", "net.json", "--shape", "20", "--dtype", "float32", "--n", "1000000", "--cores", "1000"]
    assert main([*words, "--out", "K.zarr"]) == 0
    said = capsys.readouterr().out
    assert "on disk: 119805 tiles of 2048 x 2048 pairs, 3.649 TiB in 358929 files" in said
    assert "by 1000 processors" in said
    made = tp.plan(NET, (20,), dtype="float32", n=10**6, cores=1000, out="K.zarr").store
    slowest = made.bytes / made.bandwidth
    assert made.seconds == pytest.approx(max(slowest, made.processor_seconds / 1000), rel=0.01)
    assert made.limit == pytest.approx(max(1.0, made.processor_seconds / slowest))


def test_refusals() -> None:
    Path("file").write_text("")
    with pytest.raises(InputError, match="out: a matrix on disk has a size"):
        tp.plan(NET, (6,), out="K.zarr")
    with pytest.raises(InputError, match="out"):
        tp.plan(NET, (6,), n=10, out=np.zeros(3))
    with pytest.raises(InputError, match="backend: it is for matrices on disk"):
        tp.plan(NET, (6,), n=10, backend="processes")
    with pytest.raises(InputError, match="backend must be one of"):
        tp.plan(NET, (6,), n=10, out="K.zarr", backend="MPI")
    with pytest.raises(StoreError, match="does not exist"):
        tp.plan(NET, (6,), n=10, out="none/K.zarr")
