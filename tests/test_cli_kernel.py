"""`tpnum kernel`: what it writes, and that every refusal is one line that leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main, outputs

Python = Callable[..., "subprocess.CompletedProcess[str]"]

DENSE = {"op": "Dense", "out_dim": 16, "W_std": 1.3, "b_std": 0.2}
NETWORK = {"op": "serial", "layers": [DENSE, {"op": "Relu"}, DENSE]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a net and inputs."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.standard_normal((7, 5)))
    np.save("y.npy", rng.standard_normal((4, 5)))
    Path("net.json").write_text(json.dumps(NETWORK))
    return tmp_path


def expected(get: str | tuple[str, ...], x2: str | None = None, **keywords: object) -> Any:
    x = np.load("x.npy")
    return tp.kernel(nn.from_spec(NETWORK), x, None if x2 is None else np.load(x2), get=get, **keywords)


def test_two_kernels_are_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernel", "net.json", "x.npy", "--get", "nngp,ntk", "--out", "K.npy"]) == 0
    both = expected(("nngp", "ntk"))
    np.testing.assert_array_equal(np.load("K.nngp.npy"), both.nngp)
    np.testing.assert_array_equal(np.load("K.ntk.npy"), both.ntk)
    assert not Path("K.npy").exists()
    assert capsys.readouterr().out == "K.nngp.npy: 7 x 7 float64\nK.ntk.npy: 7 x 7 float64\n"


def test_order_of_get_does_not_swap_the_files(folder: Path) -> None:
    assert main(["kernel", "net.json", "x.npy", "y.npy", "--get", "ntk,nngp", "--out", "sub.K.npy"]) == 0
    both = expected(("ntk", "nngp"), "y.npy")
    np.testing.assert_array_equal(np.load("sub.K.nngp.npy"), both.nngp)
    np.testing.assert_array_equal(np.load("sub.K.ntk.npy"), both.ntk)


def test_one_kernel_is_one_file_and_a_spec_is_a_net(folder: Path) -> None:
    Path("spec.json").write_text(json.dumps({"format": 1, "name": "a spec", "network": NETWORK}))
    arguments = ["--get", "ntk", "--out", "K", "--dtype", "float32", "--jobs", "1", "--tile", "3"]
    assert main(["kernel", "spec.json", "x.npy", "y.npy", *arguments]) == 0
    written = np.load("K.npy")
    assert written.dtype == np.float32
    assert written.shape == (7, 4)
    np.testing.assert_array_equal(written, expected("ntk", "y.npy", dtype="float32", tile=3))


def test_remaining_axes_follow_the_examples(folder: Path) -> None:
    x = np.random.default_rng(1).standard_normal((3, 6, 2))
    np.save("seq.npy", x)
    conv = {"op": "Conv", "out_chan": 8, "filter_shape": [3], "padding": "CIRCULAR", "W_std": 1.2}
    network = {"op": "serial", "layers": [conv, {"op": "Relu"}, conv]}
    Path("conv.json").write_text(json.dumps(network))
    assert main(["kernel", "conv.json", "seq.npy", "--out", "K.npy"]) == 0
    np.testing.assert_array_equal(np.load("K.npy"), tp.kernel(nn.from_spec(network), x))
    assert np.load("K.npy").shape == (3, 3, 6, 6)


def test_padding_and_graphs_go_along(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"op": "serial", "layers": [{"op": "Aggregate"}, DENSE, {"op": "Relu"}, {"op": "GlobalAvgPool"}]}
    rng = np.random.default_rng(1)
    x, graphs = rng.standard_normal((4, 3, 5)), rng.random((4, 3, 3))
    x[1, 2] = np.nan
    for name, array in (("seq", x), ("first", graphs[:3]), ("second", graphs[3:]), ("more", x[3:])):
        np.save(f"{name}.npy", array[:3] if name == "seq" else array)
    Path("graph.json").write_text(json.dumps(spec))
    command = [
        "kernel",
        "graph.json",
        "seq.npy",
        "more.npy",
        "--mask-constant",
        "nan",
        "--pattern1",
        "first.npy",
    ]
    assert main([*command, "--pattern2", "second.npy", "--out", "K.npy"]) == 0
    how = {"mask_constant": np.nan, "pattern1": graphs[:3], "pattern2": graphs[3:]}
    np.testing.assert_array_equal(np.load("K.npy"), tp.kernel(nn.from_spec(spec), x[:3], x[3:], **how))
    capsys.readouterr()
    assert main([*command, "--pattern2", "first.npy", "--out", "L.npy"]) == 1
    assert "first.npy: it holds 3 graphs, and x2 1 examples" in capsys.readouterr().err
    assert not Path("L.npy").exists()


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8, ">f8", np.float16, bool])
def test_any_real_numbers_will_do(folder: Path, dtype: object) -> None:
    x = np.asfortranarray(np.random.default_rng(2).integers(0, 2, (6, 5)).astype(dtype))  # type: ignore[call-overload]
    x[:, 0] = 1
    np.save("n.npy", x)
    assert main(["kernel", "net.json", "n.npy", "--out", "K.npy"]) == 0
    want = tp.kernel(nn.from_spec(NETWORK), x.astype(np.float64))
    np.testing.assert_allclose(np.load("K.npy"), want, rtol=1e-6)


def test_force_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("K.npy").write_text("old")
    command = ["kernel", "net.json", "x.npy", "--out", "K.npy"]
    assert main(command) == 1
    assert capsys.readouterr().err == "tpnum: error: K.npy exists; choose another --out or give --force\n"
    assert Path("K.npy").read_text() == "old"
    assert main([*command, "--force"]) == 0
    np.testing.assert_array_equal(np.load("K.npy"), expected("nngp"))


def test_a_failing_run_keeps_the_old_file(folder: Path) -> None:
    Path("K.npy").write_text("old")
    x = np.load("x.npy")
    x[5, 1] = np.inf
    np.save("x.npy", x)
    assert main(["kernel", "net.json", "x.npy", "--out", "K.npy", "--force"]) == 1
    assert Path("K.npy").read_text() == "old"


def _net(text: object) -> Callable[[], None]:
    return lambda: _ignore(Path("net.json").write_text(text if isinstance(text, str) else json.dumps(text)))


def _ignore(_: object) -> None:
    return None


def _x(array: object, **keywords: object) -> Callable[[], None]:
    return lambda: np.save("x.npy", np.asarray(array), **keywords)  # type: ignore[arg-type]


def _cut() -> None:
    Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:-8])


def _with(layer: object) -> dict[str, object]:
    return {"op": "serial", "layers": [DENSE, layer, DENSE]}


REFUSALS = {
    "no such net": (lambda: Path("net.json").unlink(), [], ["net.json", "No such file"]),
    "net is a directory": (lambda: None, ["NET=."], ["cannot be read", "directory"]),
    "net is not text": (lambda: None, ["NET=x.npy"], ["x.npy is not text"]),
    "net is not JSON": (_net('{"op": "serial",'), [], ["net.json is not JSON", "line 1"]),
    "net is a list": (_net([NETWORK]), [], ["net.json is not a net"]),
    "network is a list": (_net({"network": [1]}), [], ['"network" is not an object']),
    "unknown op": (_net(_with({"op": "Rellu"})), [], ["Rellu", "Relu"]),
    "misspelt argument": (_net(_with({**DENSE, "w_std": 1})), [], ["w_std", "W_std"]),
    "spatial layer without an axis": (_net(_with({"op": "GlobalAvgPool"})), [], ["GlobalAvgPool"]),
    "no such x": (lambda: Path("x.npy").unlink(), [], ["x.npy cannot be read", "No such file"]),
    "x is a directory": (lambda: None, ["X=."], ["directory"]),
    "x is not npy": (lambda: _ignore(Path("x.npy").write_text("1 2 3")), [], ["x.npy is not a .npy file"]),
    "x is empty": (lambda: _ignore(Path("x.npy").write_text("")), [], ["x.npy is not a .npy file"]),
    "x is cut": (_cut, [], ["x.npy cannot be used"]),
    "x is pickled": (_x(np.array([{}, None], object), allow_pickle=True), [], ["x.npy", "Python objects"]),
    "x is complex": (_x([[1j]]), [], ["x.npy holds complex128", "float64"]),
    "x holds strings": (_x([["a"]]), [], ["x.npy holds <U1"]),
    "x is a number": (_x(3.0), [], ["x.npy: ", "shape ()"]),
    "x is a vector": (_x([1.0, 2.0]), [], ["x.npy: ", "shape (2,)"]),
    "x has no example": (_x(np.zeros((0, 5))), [], ["x.npy: ", "empty"]),
    "x has no feature": (_x(np.zeros((5, 0))), [], ["x.npy: ", "empty"]),
    "x has NaN": (_x([[1.0, 2], [np.nan, 1]]), [], ["x.npy: ", "example 1", "NaN"]),
    "x overflows": (_x(np.full((3, 5), np.longdouble("1e400"))), [], ["x.npy: ", "example 0", "infinity"]),
    "x2 has infinity": (_x([[1.0] * 5, [np.inf] * 5]), ["X=y.npy", "X2=x.npy"], ["x.npy: ", "infinity"]),
    "feature counts differ": (_x(np.ones((3, 2))), ["X2=y.npy"], ["y.npy: ", "(4, 5)", "(3, 2)"]),
    "out is a directory": (lambda: Path("K.npy").mkdir(), [], ["K.npy is a directory"]),
    "out lies nowhere": (lambda: None, ["--out", "no/where/K.npy"], ["no/where does not exist"]),
    "out is no npy": (lambda: None, ["--out", "K.png"], ["K.png", ".npy"]),
    "out has no name": (lambda: None, ["--out", ""], ["--out"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, extra, words = REFUSALS[case]
    spoil()
    swaps = dict(word.split("=") for word in extra if "=" in word)
    inputs = [swaps.get("NET", "net.json"), swaps.get("X", "x.npy"), *filter(None, [swaps.get("X2")])]
    options = [word for word in extra if "=" not in word] or ["--out", "K.npy"]
    before = sorted(folder.rglob("*"))
    assert main(["kernel", *inputs, *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tpnum: error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert sorted(folder.rglob("*")) == before, "something was left behind"


def test_overflow_names_the_line_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [DENSE, {"op": "Exp", "a": 1.0, "b": 3.0}] * 4 + [DENSE]
    Path("net.json").write_text(json.dumps({"op": "serial", "layers": layers}))
    before = sorted(folder.rglob("*"))
    assert main(["kernel", "net.json", "x.npy", "--out", "K.npy"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("tpnum: error: ")
    assert err.count("\n") == 1
    assert "unexpected" not in err
    assert sorted(folder.rglob("*")) == before


def test_a_full_disk_is_an_error_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    before = sorted(folder.rglob("*"))
    assert main(["kernel", "net.json", "x.npy", "--out", "K.npy"]) == 1
    assert capsys.readouterr().err == "tpnum: error: K.npy cannot be written: No space left on device\n"
    assert sorted(folder.rglob("*")) == before


def test_more_than_the_disk_holds_is_refused_with_its_size(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left)
    before = sorted(folder.rglob("*"))
    count, size = len(np.load("x.npy")), 8
    left.free = count**2 * size - 1
    assert main(["kernel", "net.json", "x.npy", "--out", "K.npy"]) == 1
    err = capsys.readouterr().err
    assert f"K.npy would take {count**2 * size / 2**30:.3g} GiB, and {folder} has" in err
    left.free = count**2 * size
    assert main(["kernel", "net.json", "x.npy", "--get", "nngp,ntk", "--out", "K.npy"]) == 1
    assert "as others beside it" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    assert main(["kernel", "net.json", "x.npy", "--out", "K.npy"]) == 0


def test_a_folder_that_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so what the system would say to another user is said for it."""
    (folder / "locked").mkdir(mode=0o500)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and may(path, mode))
    assert main(["kernel", "net.json", "x.npy", "--out", "locked/K.npy"]) == 1
    assert "locked cannot be written" in capsys.readouterr().err
    assert not list((folder / "locked").iterdir())


_SLOW = """
import sys, time
import tpnum.cli.kernel as command
from tpnum.kernels._building import notice
notice.said = True  # what is said must be all about the end
def half(*arguments, out, **keywords):
    out[0] = 1.0
    time.sleep(60)
command.kernel = half
from tpnum.cli import main, outputs
sys.exit(main())
"""


def test_being_stopped_as_a_draft_is_opened_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "_opened", _interrupted(outputs._opened))
        with pytest.raises(KeyboardInterrupt), outputs._draft(tmp_path / "K.npy", Path("K.npy")):
            pass
    assert not list(tmp_path.iterdir())


def _interrupted(opened: Callable[[Path], int | None]) -> Callable[[Path], int | None]:
    """As ``opened``, but Ctrl-C comes as soon as it has opened for the first time."""
    handles: list[int | None] = []

    def call(draft: Path) -> int | None:
        handles.append(opened(draft))
        if len(handles) == 1:
            raise KeyboardInterrupt
        return handles[-1]

    return call


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_leaves_nothing(
    number: signal.Signals, status: int, folder: Path, environment: dict[str, str]
) -> None:
    before = sorted(folder.rglob("*"))
    words = ["kernel", "net.json", "x.npy", "--out", "K.npy"]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # whoever started the tests in the background may have them ignore interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not list(folder.glob(".K.npy.*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert process.poll() is None
    assert list(folder.glob(".K.npy.*")), "a matrix under way has a name of its own"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert err == ("tpnum: interrupted; nothing was written\n" if number == signal.SIGINT else "")
    assert sorted(folder.rglob("*")) == before
