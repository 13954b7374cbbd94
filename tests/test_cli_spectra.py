"""`tpnum signals` and the demos of spectra, phases and message passing: tables, pictures, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main

NET = nn.serial(nn.Dense(64, W_std=1.4, b_std=0.3), nn.Tanh(), nn.Dense(64, W_std=1.4, b_std=0.3), nn.Tanh(),
                nn.Dense(1))  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(json.dumps(NET.to_spec()))
    return tmp_path


def picture(path: Path) -> tuple[int, int]:
    """The sizes of a PNG, which is one."""
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


DEMOS = [
    ("semicircle", 200, r"W \+ W\^T: from -2 to 2; even moments 1, 2, 5\n"),
    ("jacobian", 120, r"relu +gaussian +largest +27\.2728, of width 120"),
    ("phases", 100, "100 x 100 points"),
    ("amp", 400, r"Bayes-optimal +mean squared error after 12 rounds: 0\.0\d+"),
    ("kernel-spectrum", 150, r"tanh  conjugate kernel   largest    8.74376, of size 150"),
]


@pytest.mark.parametrize(("name", "size", "words"), DEMOS, ids=[name for name, *_ in DEMOS])
def test_demos_end_in_a_picture(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, size: int, words: str
) -> None:
    assert main(["demo", name, "--size", str(size)]) == 0
    out = capsys.readouterr().out
    assert re.search(words, out), out
    assert out.endswith(f"the picture: tpnum-{name}.png\n")
    assert min(picture(folder / f"tpnum-{name}.png")) > 500


def test_the_jacobians_of_the_demo_are_near_their_law(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest squared singular value of width 300, within fifteen per cent."""
    assert main(["demo", "jacobian", "--size", "300"]) == 0
    pairs = re.findall(r"largest +([\d.]+), of width 300: ([\d.]+)", capsys.readouterr().out)
    assert len(pairs) == 4
    for law, found in pairs:
        assert float(found) == pytest.approx(float(law), rel=0.15)


def test_signals_are_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signals", "net.json", "--q", "0.8", "--c", "0.3", "--out", "s.png"]) == 0
    out = capsys.readouterr().out
    found = tp.signals(NET, q=0.8, c=0.3)
    assert out.startswith(str(found))
    (point,) = found.fixed_points
    q = re.search(r"q\* = ([\d.]+), c\* = ([\d.]+)", out)
    assert q is not None
    np.testing.assert_allclose([float(q[1]), float(q[2])], [point.q, point.c], rtol=1e-9)
    assert f"{point.phase}, stable" in out
    assert min(picture(folder / "s.png")) > 500


def test_signals_of_batches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.serial(nn.Dense(8), nn.BatchNorm(), nn.Relu(), nn.Dense(8))
    Path("bn.json").write_text(json.dumps(net.to_spec()))
    assert main(["signals", "bn.json", "--batch-size", "8"]) == 0
    assert "chi_1 = 1.788189977" in capsys.readouterr().out


def test_signals_of_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conv = nn.serial(nn.Conv(8, (3,), padding="SAME"), nn.Relu(), nn.Flatten(), nn.Dense(1))
    Path("conv.json").write_text(json.dumps({"network": conv.to_spec()}))
    assert main(["signals", "conv.json", "--shape", "8,3"]) == 0
    assert "layers[0] Conv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.json", "--c", "1.5"], "c is 1.5: a correlation is at most 1"),
        (["net.json", "--q", "-1"], "q is -1"),
        (["net.json", "--out", "s.jpg"], "--out s.jpg does not end in .png"),
        (["net.json", "--q", "1e308"], "squared norm of input 0 overflows; scale"),
        (["none.json"], "none.json"),
        ([""], "a file without a name cannot be read; give a JSON file"),
    ],
)
def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["signals", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
