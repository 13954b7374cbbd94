"""Masked examples and graphs on disk and in processes: the numbers of the same call in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main
from tpnum.errors import InputError, StoreError

pytest.importorskip("zarr")

BOTH = ("nngp", "ntk")
RNG = np.random.default_rng(3)
PAD = 100.0
NET = nn.serial(
    nn.Conv(8, (3,), padding="SAME", b_std=0.2), nn.Relu(), nn.Conv(8, (3,), padding="SAME"), nn.Relu(),
    nn.GlobalAvgPool(), nn.Dense(1),
)  # fmt: skip
GRAPHS = nn.serial(
    nn.Dense(8, b_std=0.1), nn.Relu(), nn.Aggregate(), nn.Dense(8), nn.Relu(), nn.Flatten(), nn.Dense(1)
)


def padded(count: int, constant: float) -> np.ndarray:
    x = RNG.standard_normal((count, 5, 2))
    for one, length in zip(x, RNG.integers(1, 6, count), strict=True):
        one[length:] = constant
    return x


X, Y = padded(23, PAD), padded(9, PAD)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("second", "options"),
    [(None, {"out": "K.zarr"}), (Y, {"out": "K.npy"}), (Y, {"backend": "processes", "n_jobs": 1})],
)
def test_masks(options: dict[str, Any], second: Any) -> None:
    want = tp.kernel(NET, X, second, get=BOTH, mask_constant=PAD)
    made = tp.kernel(NET, X, second, get=BOTH, mask_constant=PAD, tile=8, **options)
    for kind in BOTH:
        np.testing.assert_allclose(getattr(made, kind)[:], getattr(want, kind), rtol=1e-13)


def test_masks_of_nan_and_of_maps() -> None:
    x = np.where(X == PAD, np.nan, X)
    np.save("x.npy", x)
    want = tp.kernel(NET, X, mask_constant=PAD)
    made = tp.kernel(NET, np.load("x.npy", mmap_mode="r"), mask_constant=np.nan, tile=8, out="K.zarr")
    np.testing.assert_allclose(made[:], want, rtol=1e-13)


def test_without_padding_it_is_the_plain_kernel() -> None:
    x = RNG.standard_normal((9, 5, 2))
    np.testing.assert_array_equal(tp.kernel(NET, x, mask_constant=PAD, out="K.zarr")[:], tp.kernel(NET, x))


@pytest.mark.parametrize(
    ("second", "options"),
    [(Y[:7], {"out": "K.zarr"}), (None, {"backend": "processes", "n_jobs": 1})],
)
def test_graphs(options: dict[str, Any], second: Any) -> None:
    x, y = (None if a is None else np.where(a == PAD, 0.0, a) for a in (X, second))
    patterns = {"pattern1": (RNG.random((23, 5, 5)) < 0.4).astype(float)}
    if y is not None:
        patterns["pattern2"] = (RNG.random((7, 5, 5)) < 0.4).astype(float)
    want = tp.kernel(GRAPHS, x, y, get=BOTH, **patterns)
    made = tp.kernel(GRAPHS, x, y, get=BOTH, tile=8, **patterns, **options)
    for kind in BOTH:
        np.testing.assert_allclose(getattr(made, kind)[:], getattr(want, kind), rtol=1e-13)


def test_known_scalars() -> None:
    p = tp.Program()
    u = p.data("u", channels="d")
    s = p.scalars("s")
    p.output(p.matrix("W") @ tp.relu(s * (p.matrix("A", cols="d") @ u)))
    inputs = {"u": RNG.standard_normal((9, 3)), "s": RNG.random(9)}
    want = tp.kernel(p, inputs, get="nngp")
    np.testing.assert_allclose(tp.kernel(p, inputs, tile=4, out="K.zarr")[:], want, rtol=1e-13)


def test_other_padding_is_other_data() -> None:
    tp.kernel(NET, X, mask_constant=PAD, out="K.zarr", tile=8, shard=(1, 2))
    other = np.where(X == PAD, 0.0, X)
    with pytest.raises(StoreError, match="of other data|with another net"):
        tp.kernel(NET, other, out="K.zarr", resume=True)
    want = tp.kernel(NET, X, mask_constant=PAD)
    made = tp.kernel(NET, X, mask_constant=PAD, out="K.zarr", resume=True)
    np.testing.assert_allclose(made[:], want, rtol=1e-13)


def test_refusals_are_those_of_memory() -> None:
    bad = X.copy()
    bad[17] = PAD
    graphs = np.ones((22, 5, 5))
    for net, options, message in (
        (NET, {"x1": bad, "mask_constant": PAD}, "example 17 are masked"),
        (NET, {"x1": X, "mask_constant": "none"}, "mask_constant"),
        (NET, {"x1": X, "pattern1": np.ones((23, 5, 5))}, "no Aggregate layer"),
        (GRAPHS, {"x1": X, "pattern1": graphs}, "22 graphs, and x1 23 examples"),
        (GRAPHS, {"x1": X}, "pattern1: Aggregate needs"),
        (GRAPHS, {"x1": X, "x2": Y, "pattern2": graphs}, "pattern2"),
    ):
        for place in ({}, {"out": "K.zarr"}):
            with pytest.raises(InputError, match=message):
                tp.kernel(net, **options, **place)
    assert not list(Path().iterdir())


NORMALISED = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.1), nn.BatchNorm(), nn.Relu(), nn.Dense(1))
BATCH = {"batch_size": 6}


@pytest.mark.parametrize(
    ("second", "options"),
    [(None, {"out": "K.zarr", "tile": 12}), (6, {"out": "K.npy"}), (6, {"out": "K.zarr"})],
)
def test_batches(options: dict[str, Any], second: int | None) -> None:
    x = RNG.standard_normal((18, 4))
    y = None if second is None else RNG.standard_normal((second, 4))
    want = tp.kernel(NORMALISED, x, y, **BATCH)
    made = tp.kernel(NORMALISED, x, y, **BATCH, **options)
    np.testing.assert_allclose(made[:], want, rtol=1e-6, atol=1e-9)  # as far as the quadrature is asked to go
    if options["out"] == "K.zarr" and y is None:
        with pytest.raises(StoreError, match="with another batch_size: 6, now 3"):
            tp.kernel(NORMALISED, x, batch_size=3, resume=True, **options)


def test_batches_and_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    x = RNG.standard_normal((12, 4))
    np.save("x.npy", x)
    Path("net.json").write_text(json.dumps(NORMALISED.to_spec()))
    want = tp.kernel(NORMALISED, x, **BATCH)
    for out in ("K.zarr", "K.npy"):
        assert main(["kernel", "net.json", "x.npy", "--batch-size", "6", "--out", out]) == 0
        assert "12 x 12 float64" in capsys.readouterr().out
    np.testing.assert_allclose(tp.open("K.zarr")["nngp"][:], want, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.load("K.npy"), want, rtol=1e-6, atol=1e-9)
    for wrong, message in (
        (["--batch-size", "5"], "does not divide the 12 examples"),
        (["--batch-size", "6", "--tile", "4"], "would cut batches of 6"),
        ([], "batch"),
    ):
        for out in ("W.zarr", "W.npy"):
            assert main(["kernel", "net.json", "x.npy", "--out", out, *wrong]) == 1
            assert message in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["K.npy", "K.zarr", "net.json", "x.npy"]
