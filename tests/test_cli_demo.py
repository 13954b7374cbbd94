"""`tpnum demo digits`: the table, the picture, the pieces."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tpnum.cli import main
from tpnum.cli.demos import digits


def test_a_small_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "digits", "--size", "400", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "400 digits" in out
    held_out = [float(word) for word in re.findall(r"% +([\d.]+)%", out)]
    assert len(held_out) == 2
    assert min(held_out) > 90, "a kernel that learns nothing gets 10"
    header = Path("tpnum-digits.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) > 800


def test_convolutions_beside_the_dense_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "digits", "--net", "cnn", "--size", "150", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    names = re.findall(r"^(NTK, .*?|RBF)  ", out, re.MULTILINE)
    assert names == ["NTK, relu net of depth 3", "NTK, 5 convolutions", "RBF"]
    assert min(float(word) for word in re.findall(r"% +([\d.]+)%", out)) > 75


def test_the_parts_share_no_digit() -> None:
    parts = digits.split(1797)
    assert sorted(np.concatenate(parts)) == list(range(1797))
    assert [len(part) for part in parts] == [898, 300, 599]


def test_regression_solves_the_normal_equations() -> None:
    """One feature per class: every guess is right; a constant kernel knows only the largest class."""
    labels = np.array([0, 1, 2] * 6 + [0] * 2)
    order = np.arange(len(labels))
    same = (labels[:, None] == labels).astype(float)
    assert digits.accuracy(same, labels, order[::2], order[1::2], 1e-3) == 1.0
    constant = digits.accuracy(np.ones_like(same), labels, order[10:], order[:10], 1e-3)
    assert constant == np.mean(labels[:10] == 0)


def test_rbf_is_the_formula() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3))
    kernels, widths = digits.rbf(x)
    want = np.exp(-np.sum((x[1] - x[4]) ** 2) / (2 * widths[2] ** 2))
    np.testing.assert_allclose(kernels[2][1, 4], want, rtol=1e-12)


def test_a_picture_that_exists_is_redrawn_but_not_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "digits", "--out", str(tmp_path / "a.jpg")]) == 1
    assert "does not end in .png" in capsys.readouterr().err
    assert main(["demo", "digits", "--out", str(tmp_path / "no" / "a.png")]) == 1
    assert "does not exist" in capsys.readouterr().err


def not_there(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package were not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_without_the_extra_it_says_so(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    not_there(missing, monkeypatch)
    assert main(["demo", "digits", "--size", "120", "--out", str(tmp_path / "a.png")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pip install 'tpnum[demo]'" in err


def test_other_demos_refuse_what_is_for_digits(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--net", "cnn"), ("--jobs", "1")):
        assert main(["demo", "semicircle", option, value]) == 1
        assert f"{option} is for the demo digits; leave it out of semicircle" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["demo", "depth"], ["signals", "net.json"]])
def test_a_picture_that_cannot_be_drawn_is_refused_before_work(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    not_there("matplotlib", monkeypatch)
    assert main([*command, "--out", str(tmp_path / "a.png")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'tpnum[demo]'" in err


def test_sentences_are_told_apart_by_what_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words of a sentence and of its mirror image are the same: their average tells nothing."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "text"]) == 0
    rows = re.findall(r"^(\w.*?) {2,}((?: *[\d.]+%)+)$", capsys.readouterr().out, re.MULTILINE)
    last = {name: float(shares.split("%")[-2]) for name, shares in rows}
    assert last["average of the words"] < 55
    assert min(last["recurrent, last state"], last["attention with positions"]) > 97
    assert Path("tpnum-text.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_words_are_those_of_the_embeddings() -> None:
    """Inner products of glove.840B over 300: |fox|^2, fox and dog, The and the."""
    from tpnum.cli.demos.sentences import EXAMPLES, WORDS, embedded, sentences, vectors

    gram = vectors() @ vectors().T / 9
    fox, dog, the, The = (WORDS.index(word) for word in ("fox", "dog", "the", "The"))
    want = {(fox, fox): 0.139760, (fox, dog): 0.073760, (The, the): 0.053765, (dog, dog): 0.164909}
    for place, value in want.items():
        assert abs(gram[place] - value) < 2e-6
    texts, first = sentences()
    assert len(set(texts)) == 200
    assert first.sum() == 100
    assert np.isnan(embedded(EXAMPLES)[0, 7:]).all()


def test_gradients_by_depth_are_those_of_nets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tpnum.cli.demos.depth import growth

    np.testing.assert_allclose([growth(kind) for kind in ("plain", "layernorm")], [1.125, 1.0], rtol=1e-9)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "depth", "--size", "300"]) == 0
    rows = re.findall(r"([\d.]+) +([\d.]+) \+- ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 3
    for right, found, error in np.array(rows, dtype=float):
        assert abs(found - right) < 4 * error + 0.015 * right
    assert Path("tpnum-depth.png").exists()
