"""Files and texts: what is read is checked, what is written is whole and has one writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main
from tpnum.errors import ProgramError, SpecError
from tpnum.program import Program

DENSE = {"op": "Dense", "out_dim": 16, "W_std": 1.3, "b_std": 0.2}
NETWORK = {"op": "serial", "layers": [DENSE, {"op": "Relu"}, DENSE]}
KERNEL = ["kernel", "net.json", "x.npy", "--out"]

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and signals of POSIX")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a net and inputs."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((7, 5)))
    Path("net.json").write_text(json.dumps(NETWORK))
    return tmp_path


def expected() -> np.ndarray:
    made: np.ndarray = tp.kernel(nn.from_spec(NETWORK), np.load("x.npy"))
    return made


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with; nothing is left behind."""
    before = sorted(Path().rglob("*"))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tpnum: error: ") and err.count("\n") == 1, err
    assert "unexpected" not in err
    assert sorted(Path().rglob("*")) == before
    return err


# what is read -------------------------------------------------------------------------------------


def _header(text: str, version: int = 1) -> None:
    """x.npy with a header of this text and a few numbers."""
    body = text.encode() + b"\n"
    size = len(body).to_bytes(2 if version == 1 else 4, "little")
    Path("x.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + body + bytes(64))


def _described(shape: object, dtype: object = "<f8") -> str:
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


HEADERS = {
    "negative": _described((-1, 5)),
    "both negative": _described((-2, -4)),
    "huge": _described((10**18, 4)),
    "huge and huge": _described((10**18, 10**18)),
    "beyond any integer": _described((10**40, 2)),
    "huge times nothing": _described((10**30, 0)),
    "many axes": _described((1,) * 100),
    "not a tuple": _described(5),
    "not numbers": _described(("a", 2)),
    "not whole": _described((1.5, 2)),
    "no such type": _described((2, 2), "<f77"),
    "of no size": _described((2, 2), "<V0"),
    "a structure": _described((2, 2), [("a", "<f8")]),
    "objects": _described((2, 2), "|O"),
    "not a dict": "[1, 2]",
    "an expression": "__import__('os').system('true')",
    "deep": "(" * 3000 + ")" * 3000,
    "nothing": "",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("version", [1, 2, 3, 9])
@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers(case: str, version: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _header(HEADERS[case], version)
    assert "x.npy" in refused([*KERNEL, "K.npy"], capsys)


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_torn_files(length: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:length])
    assert "x.npy" in refused([*KERNEL, "K.npy"], capsys)


@posix
@pytest.mark.parametrize("place", [1, 2])
def test_what_has_no_end_is_not_read(place: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    os.symlink("pipe", "link")
    for name in ("/dev/zero", "/dev/null", "pipe", "link"):
        words = [*KERNEL, "K.npy"]
        words[place] = name
        assert "not a file" in refused(words, capsys)


def test_a_net_longer_than_any_net(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open("net.json", "wb") as stream:
        stream.truncate(1 << 36)  # takes no space
    assert "longer than 64 MiB" in refused([*KERNEL, "K.npy"], capsys)


def test_a_byte_order_mark_is_nothing(folder: Path) -> None:
    Path("net.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(NETWORK).encode())
    assert main([*KERNEL, "K.npy"]) == 0
    np.testing.assert_array_equal(np.load("K.npy"), expected())
    p = tp.Program()
    p.vector("x")
    assert Program.from_json("\ufeff" + p.to_json()) == p


def test_a_key_given_twice_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.json").write_text('{"op": "serial", "layers": [{"op": "Dense", "out_dim": 1, "out_dim": 2}]}')
    assert "'out_dim' is given twice" in refused([*KERNEL, "K.npy"], capsys)
    p = tp.Program()
    p.vector("x", var=4.0)
    text = p.to_json().replace('"version": 2', '"version": 2, "version": 2')
    with pytest.raises(ProgramError, match="'version' is given twice"):
        Program.from_json(text)


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "NaN", "-Infinity"])
def test_numbers_that_are_none(number: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.json").write_text(json.dumps(NETWORK).replace("1.3", number))
    assert refused([*KERNEL, "K.npy"], capsys)


# what is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["made", "made/", "made/.", ".", "..", "made/../made"])
def test_a_directory_is_no_output(out: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("made").mkdir()
    assert "directory" in refused([*KERNEL, out], capsys)
    assert "directory" in refused([*KERNEL, out, "--get", "nngp,ntk", "--force"], capsys)


@pytest.mark.parametrize("out", ["new/", ".npy", "K.", "K.npy.", "K.png", "sub/.npy"])
def test_names_that_would_become_others(out: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    refused([*KERNEL, out], capsys)


def test_a_name_as_long_as_a_name_may_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stem in ("k" * 251, "κ" * 125 + "k"):
        name = f"{stem}.npy"
        assert len(os.fsencode(name)) == 255
        assert main([*KERNEL, name]) == 0
        assert capsys.readouterr().out == f"{name}: 7 x 7 float64\n"
        assert sorted(os.listdir()) == [name, "net.json", "x.npy"] or sorted(os.listdir())[-1] == name
        np.testing.assert_array_equal(np.load(name), expected())
        os.unlink(name)
    name = "k" * 252 + ".npy"
    assert f"{name} cannot be written" in refused([*KERNEL, name], capsys)
    assert "cannot be written" in refused([*KERNEL, "k" * 251, "--get", "nngp,ntk"], capsys)


@posix
def test_links_are_followed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    Path("there/old.npy").write_text("old")
    os.symlink("there/old.npy", "old.npy")
    os.symlink("there/new.npy", "new.npy")
    os.symlink("loop.npy", "loop.npy")
    os.symlink("nowhere/K.npy", "lost.npy")
    assert "exists" in refused([*KERNEL, "old.npy"], capsys)
    assert main([*KERNEL, "old.npy", "--force"]) == 0
    assert main([*KERNEL, "new.npy"]) == 0
    for name in ("old.npy", "new.npy"):
        assert Path(name).is_symlink() and not Path("there", name).is_symlink()
        np.testing.assert_array_equal(np.load(Path("there", name)), expected())
    assert sorted(os.listdir("there")) == ["new.npy", "old.npy"]
    capsys.readouterr()
    assert "loop.npy" in refused([*KERNEL, "loop.npy"], capsys)
    assert "nowhere does not exist" in refused([*KERNEL, "lost.npy"], capsys)


@posix
def test_two_outputs_that_are_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("K.ntk.npy", "K.nngp.npy")
    assert "are one file" in refused([*KERNEL, "K", "--get", "nngp,ntk"], capsys)


@posix
def test_an_output_that_is_a_device(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("/dev/null", "K.npy")
    os.mkfifo("F.npy")
    for name in ("K.npy", "F.npy", "/dev/null"):
        assert "not a file" in refused([*KERNEL, name, "--force"], capsys)
    assert "'-' names no file" in refused([*KERNEL, "-"], capsys)


def test_an_input_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("x.npy").read_bytes()
    os.link("x.npy", "y.npy")
    for name in ("x.npy", "./x.npy", str(folder / "x.npy"), "x", "y.npy"):
        assert "is the input x.npy" in refused([*KERNEL, name, "--force"], capsys)
    assert Path("x.npy").read_bytes() == before


# several writers, and writers that are killed -----------------------------------------------------

_HELD = """
import sys, time
from pathlib import Path
import tpnum.cli.kernel as command
whole = command.kernel
def held(*arguments, **keywords):
    Path("under-way").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return whole(*arguments, **keywords)
command.kernel = held
from tpnum.cli import main
sys.exit(main())
"""


@pytest.fixture
def writer(folder: Path, environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `tpnum kernel` in another process, which stops half way until a file "go" is there."""

    def start(*words: str) -> subprocess.Popen[str]:
        Path("under-way").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", _HELD, *(words or [*KERNEL, "K.npy"])],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while not Path("under-way").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None
        return process

    return start


def _cleared() -> list[str]:
    return sorted(set(os.listdir()) - {"under-way", "go"})


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_of_two_writers_one_fails(
    force: list[str], writer: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = writer(*KERNEL, "K.npy", *force)
    assert main([*KERNEL, "K.npy", *force]) == 1
    assert "K.npy is being written by another process" in capsys.readouterr().err
    Path("go").touch()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert _cleared() == ["K.npy", "net.json", "x.npy"]
    np.testing.assert_array_equal(np.load("K.npy"), expected())


def test_a_file_that_came_meanwhile_is_kept(writer: Callable[..., subprocess.Popen[str]]) -> None:
    first = writer()
    Path("K.npy").write_text("mine")
    Path("go").touch()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "K.npy exists by now" in err and err.count("\n") == 1
    assert Path("K.npy").read_text() == "mine"
    assert _cleared() == ["K.npy", "net.json", "x.npy"]


@posix
def test_a_killed_run_is_swept_up_by_the_next(writer: Callable[..., subprocess.Popen[str]]) -> None:
    first = writer()
    first.kill()
    first.communicate()
    assert any(name.endswith(".part") for name in os.listdir())
    assert main([*KERNEL, "K.npy"]) == 0
    assert _cleared() == ["K.npy", "net.json", "x.npy"]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_end_a_process_leave_nothing(
    number: signal.Signals, writer: Callable[..., subprocess.Popen[str]]
) -> None:
    process = writer()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert _cleared() == ["net.json", "x.npy"]


# programs as text ---------------------------------------------------------------------------------


def bump(u: np.ndarray) -> np.ndarray:
    return np.maximum(u - 0.5, 0.0)


def _with_call(module: str, name: str) -> str:
    p = tp.Program()
    p.output(tp.apply(bump, p.vector("x")))
    return (
        p.to_json()
        .replace(json.dumps(bump.__module__), json.dumps(module))
        .replace('"bump"', json.dumps(name))
    )


def test_a_text_imports_nothing_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "payload.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\ndef f(u): return u\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for text in (_with_call("payload", "f"), _with_call("os", "system"), _with_call("builtins", "print")):
        with pytest.raises(ProgramError, match="may not be imported"):
            Program.from_json(text)
        with pytest.raises(ProgramError, match="may not be imported"):
            Program.from_json(text, modules=["tests.test_files", "pay", "payload.more"])
    assert not Path("ran").exists() and "payload" not in sys.modules
    made = Program.from_json(_with_call("payload", "f"), modules=("payload",))
    assert Path("ran").exists()
    assert Program.from_json(made.to_json(), modules="payload") == made


def test_an_allowed_module_does_not_lend_those_it_imports() -> None:
    with pytest.raises(ProgramError, match="os is a module"):
        Program.from_json(_with_call(__name__, "os.system"), modules=[__name__])


def test_a_user_s_function_goes_through_text() -> None:
    p = tp.Program()
    p.output(tp.apply(bump, p.vector("x")))
    assert Program.from_json(p.to_json(), modules=[__name__]) == p
    with pytest.raises(ProgramError, match=f"modules=\\('{__name__}',\\)"):
        Program.from_json(p.to_json())


def test_a_net_imports_nothing_however_deep_it_asks() -> None:
    user = {"call": ["os", "system"], "slopes": [None], "kinks": [], "arity": 1, "scalars": 0, "parity": 0,
            "growth": "poly"}  # fmt: skip
    outer = {"name": "compose", "params": {"outer": {"function": {"name": "f", "user": user}}}}
    for fn in ({"name": "f", "user": user}, outer, {"name": "tanh", "params": 3}, {"user": {}}, {}):
        with pytest.raises(SpecError):
            nn.from_spec({"op": "Elementwise", "fn": fn})
