"""Errors and derivatives on disk, beside the kernels: the numbers of the same inputs in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tests.test_tile_ensemble import GATED
from tpnum import nn
from tpnum.ensemble import tile as ensembles
from tpnum.errors import AccuracyWarning, InputError, LimitError, StoreError

zarr = pytest.importorskip("zarr")

BOTH = ("nngp", "ntk")
RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((11, 3)), RNG.standard_normal((6, 3))


def mlp(w: float = 1.3, b: float = 0.2) -> nn.Layer:
    return nn.serial(nn.Dense(8, W_std=w, b_std=b), nn.Relu(), nn.Dense(8, W_std=w, b_std=b), nn.Relu(),
                     nn.Dense(1, W_std=w, b_std=b))  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def whole(matrix: Any) -> np.ndarray:
    return np.asarray(matrix[:])


# derivatives --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "options"),
    [(None, {"out": "K.zarr"}), (None, {"out": "K.zarr", "symmetric": "half"}), (Y, {"out": "K.npy"}),
     (Y, {"backend": "processes", "n_jobs": 1})],
)  # fmt: skip
def test_derivatives_are_those_of_differences(options: dict[str, Any], second: Any) -> None:
    made = tp.kernel(mlp(), X, second, get=BOTH, wrt=("W_std", "b_std"), tile=4, **options)
    step = 1e-6
    for kind in BOTH:
        kernel, slopes = getattr(made.kernel, kind), getattr(made.derivatives, kind)
        np.testing.assert_allclose(whole(kernel), tp.kernel(mlp(), X, second, get=kind), rtol=1e-13)
        assert len(slopes) == 2
        for at, slope in enumerate(slopes):
            ends = [np.array([1.3, 0.2]) + sign * step * np.eye(2)[at] for sign in (1, -1)]
            up, down = (tp.kernel(mlp(*end), X, second, get=kind) for end in ends)
            np.testing.assert_allclose(whole(slope), (up - down) / (2 * step), rtol=1e-7, atol=1e-8)


def test_derivatives_with_index_axes_and_padding() -> None:
    net = nn.serial(nn.Conv(8, (3,), padding="SAME", b_std=0.2), nn.Relu(), nn.Conv(4, (3,), padding="SAME"))
    x = RNG.standard_normal((5, 4, 2))
    x[1, 2:] = x[4, 3:] = 9.0
    want = tp.kernel(net, x, wrt="W_std", mask_constant=9.0)
    made = tp.kernel(net, x, wrt="W_std", mask_constant=9.0, tile=2, out="K.zarr")
    assert made.derivatives.shape == want.derivatives.shape == (5, 5, 4, 4)
    np.testing.assert_allclose(whole(made.kernel), want.kernel, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(whole(made.derivatives), want.derivatives, rtol=1e-12, atol=1e-13)


def test_a_store_names_what_it_holds_and_goes_on() -> None:
    made = tp.kernel(mlp(), X, get="ntk", wrt="layers[0].b_std", tile=4, out="K.zarr")
    stored = tp.open("K.zarr")
    name = "ntk_wrt_layers[0].b_std"
    assert list(stored) == ["ntk", name] == sorted(zarr.open_group("K.zarr", mode="r"))
    before = whole(made.derivatives)
    np.testing.assert_array_equal(before, before.T)
    Path("K.zarr", name, "c", "2", "0").unlink()
    with pytest.raises(StoreError, match="of other kernels"):
        tp.kernel(mlp(), X, get="ntk", tile=4, out="K.zarr", resume=True)
    again = tp.kernel(mlp(), X, get="ntk", wrt="layers[0].b_std", out="K.zarr", resume=True, verify=True)
    np.testing.assert_array_equal(whole(again.derivatives), before)
    np.testing.assert_allclose(stored[name].linear_operator() @ np.ones(11), before @ np.ones(11))


# errors -------------------------------------------------------------------------------------------


def test_errors_of_rounding() -> None:
    want = tp.kernel(mlp(), X, Y, get=BOTH, error=True)
    made = tp.kernel(mlp(), X, Y, get=BOTH, error=True, tile=4, out="K.zarr")
    for kind in BOTH:
        np.testing.assert_allclose(whole(getattr(made.kernel, kind)), getattr(want.kernel, kind), rtol=1e-13)
        np.testing.assert_allclose(whole(getattr(made.error, kind)), getattr(want.error, kind), rtol=1e-6)


def test_errors_of_batches_are_theirs() -> None:
    net = nn.serial(nn.Dense(8), nn.BatchNorm(), nn.Relu(), nn.Dense(1))
    x = X[:8]
    want = tp.kernel(net, x, error=True, batch_size=4)
    made = tp.kernel(net, x, error=True, batch_size=4, out="K.zarr")
    np.testing.assert_array_equal(whole(made.kernel), want.kernel)
    np.testing.assert_array_equal(whole(made.error), want.error)
    assert (want.error > 0).all()


def test_errors_of_what_is_sampled_are_those_of_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POINTS", "MORE"):
        monkeypatch.setattr(ensembles, name, 1 << 12)
    x = RNG.standard_normal((3, 4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        cross, own = (tp.kernel(GATED, x[:2], second, error=True) for second in (x[2:], None))
    with pytest.warns(AccuracyWarning, match="sampled since") as caught:
        made = tp.kernel(GATED, x, error=True, tile=2, out="K.zarr", n_jobs=2)
    assert len(caught) == 1
    for stored, off, on in zip(made, cross, own, strict=True):
        np.testing.assert_array_equal(stored[:2, :2], on)
        np.testing.assert_array_equal(stored[:2, 2:], off)
        np.testing.assert_array_equal(stored[2:, :2], off.T)
    with pytest.raises(StoreError, match="with another seed: 0, now 1"):
        tp.kernel(GATED, x, error=True, seed=1, out="K.zarr", resume=True)
    with pytest.raises(LimitError, match="wrt: the kernel is sampled"):
        tp.kernel(GATED, x, wrt="W_std", out="D.zarr")
    assert not Path("D.zarr").exists()


# refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"diag": True}, "diag: what is returned has no pairs"),
        ({"wrt": "W_std", "against": np.ones((11, 11))}, "against: what is returned has no pairs"),
        ({"wrt": "W_std", "error": True}, "error: derivatives and sums have none"),
        ({"wrt": "W_std", "batch_size": 1}, "batch_size: kernels of batches have no derivatives"),
        ({"wrt": "W_sdt"}, "wrt: 'W_sdt' is no deviation"),
        ({"wrt": "x1"}, "wrt: a derivative by x1 has entries for every pair"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tp.kernel(mlp(), X, out="K.zarr", **options)
    assert not Path("K.zarr").exists()


@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_what_has_no_derivatives_leaves_nothing(out: str) -> None:
    net = nn.serial(nn.Conv(4, (3,), padding="SAME"), nn.MaxPool((2,), (2,)), nn.Flatten(), nn.Dense(1))
    with pytest.raises(LimitError, match="MaxPool.*leave out wrt"):
        tp.kernel(net, np.random.default_rng(0).standard_normal((4, 6, 2)), out=out, wrt="W_std")
    assert not list(Path().iterdir())
