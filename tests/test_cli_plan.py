"""`tpnum plan`: what it prints, and that every refusal is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpnum.cli import main

DENSE = {"op": "Dense", "out_dim": 16, "W_std": 1.3, "b_std": 0.2}
NETWORK = {"op": "serial", "layers": [DENSE, {"op": "Relu"}, DENSE]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(json.dumps(NETWORK))
    Path("spec.json").write_text(json.dumps({"format": 1, "name": "a spec", "network": NETWORK}))
    conv = {"op": "Conv", "out_chan": 8, "filter_shape": [3], "padding": "SAME"}
    Path("conv.json").write_text(json.dumps({"op": "serial", "layers": [conv, {"op": "Relu"}, conv]}))
    Path("bad.json").write_text("{")
    Path("unknown.json").write_text(json.dumps({"op": "serial", "layers": [{"op": "Densse"}]}))


@pytest.mark.parametrize("net", ["net.json", "spec.json"])
def test_a_net_and_a_spec(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--shape", "5", "--get", "nngp,ntk", "--dtype", "float32", "--n", "300", "--cores", "64"]
    assert main(["plan", net, *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for part in ("nngp, ntk at shape 5 in float32", "road: machine", "300 x 300", "64 threads", "measured"):
        assert part in printed.out
    assert "relu" not in printed.out


def test_shapes_with_axes_and_the_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "conv.json", "--shape", "6, 2", "--listing"]) == 0
    printed = capsys.readouterr().out
    assert "at shape 6 x 2 in float64" in printed
    assert "road: cells" in printed
    assert "threads" not in printed
    assert "\nregion 1:\n" in printed
    assert "\nrelu " in printed


def test_derivatives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "net.json", "--shape", "5", "--wrt", "W_std, b_std", "--get", "ntk"]) == 0
    printed = capsys.readouterr().out
    assert "derivatives of ntk by W_std, b_std: compiled adjoints" in printed
    assert "24 bytes of results" in printed


def test_positions_that_an_output_keeps_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--shape", "3,2,5", "--n", "7", "--dtype", "float32"]
    assert main(["plan", "net.json", *options]) == 0
    printed = capsys.readouterr().out
    assert "144 bytes of results (3 x 2 x 3 x 2: the output keeps its positions)" in printed
    assert "\n7 x 7 x 3 x 2 x 3 x 2, symmetric" in printed


PLAN = ["plan", "net.json"]
USAGE = {
    "no shape": (PLAN, "--shape"),
    "shape in words": ([*PLAN, "--shape", "big"], "'big' is not the shape of one example"),
    "shape with x": ([*PLAN, "--shape", "32x32x3"], "as in 32,32,3"),
    "empty shape": ([*PLAN, "--shape", ""], "'' is not the shape"),
    "a size of zero": ([*PLAN, "--shape", "4,0"], "'4,0' is not the shape"),
    "no examples": ([*PLAN, "--shape", "3", "--n", "0"], "'0' is not a number of examples"),
    "no threads": ([*PLAN, "--shape", "3", "--cores", "x"], "'x' is not a number of threads"),
    "unknown dtype": ([*PLAN, "--shape", "3", "--dtype", "float16"], "'float16'"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_status_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = USAGE[case]
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in said
    assert said.count("\n") == 1


WRONG = {
    "no file": (["plan", "none.json", "--shape", "3"], "none.json cannot be read"),
    "no JSON": (["plan", "bad.json", "--shape", "3"], "bad.json is not JSON"),
    "no layer": (["plan", "unknown.json", "--shape", "3"], "Densse"),
    "a shape that does not fit": (["plan", "conv.json", "--shape", "3"], "Conv"),
    "threads of no matrix": ([*PLAN, "--shape", "3", "--cores", "2"], "give n as well"),
    "no deviation": ([*PLAN, "--shape", "5", "--wrt", "W_sdt"], "'W_sdt' is no deviation"),
    "too large a shape": ([*PLAN, "--shape", "9999999999999"], "shape is 9999999999999"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line_and_status_1(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = WRONG[case]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("tpnum: error: ")
    assert message in said
    assert said.count("\n") == 1
