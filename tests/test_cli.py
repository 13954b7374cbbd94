"""The command line apart from its commands: help, usage errors, exit statuses."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable

import pytest

import tpnum
from tpnum.cli import main
from tpnum.cli.parser import build
from tpnum.errors import InputError

Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    "words", [["--help"], ["kernel", "--help"], ["demo", "--help"], ["doctor", "--help"]]
)
def test_help_loads_nothing_heavy(words: list[str], python: Python) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print([m for m in sys.modules if m in "
        "('numpy', 'numba', 'scipy', 'joblib')])); from tpnum.cli import main; main(sys.argv[1:])"
    )
    done = python("-c", code, *words)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: tpnum")
    assert done.stdout.endswith("[]\n")


def test_help_is_instant(python: Python) -> None:
    def seconds(*arguments: str) -> float:
        before = os.times()
        assert python(*arguments).returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    bare = min(seconds("-c", "import argparse") for _ in range(5))
    helped = min(seconds("-m", "tpnum", "kernel", "--help") for _ in range(5))
    assert helped <= bare + 0.1, "processor time, which other processes do not change"


def test_version(python: Python) -> None:
    done = python("-m", "tpnum", "--version")
    assert (done.returncode, done.stdout) == (0, f"tpnum {tpnum.__version__}\n")


KERNEL = ["kernel", "net.json", "x.npy", "--out", "K.npy"]
USAGE = {
    "no command": ([], "COMMAND"),
    "unknown command": (["kernels"], "'kernels'"),
    "no out": (["kernel", "net.json", "x.npy"], "--out"),
    "too many files": (["kernel", "a", "b", "c", "d", "--out", "K.npy"], "d"),
    "unknown get": ([*KERNEL, "--get", "ntk,nnpg"], "unknown kernel 'nnpg': give nngp, ntk or nngp,ntk"),
    "empty get": ([*KERNEL, "--get", ""], "unknown kernel ''"),
    "get twice": ([*KERNEL, "--get", "ntk,ntk"], "names a kernel twice"),
    "unknown dtype": ([*KERNEL, "--dtype", "float16"], "'float16'"),
    "no jobs": ([*KERNEL, "--jobs", "0"], "'0' is not a number of threads"),
    "jobs in words": ([*KERNEL, "--jobs", "many"], "'many' is not a number of threads"),
    "negative tile": ([*KERNEL, "--tile", "-3"], "'-3' is not a number of rows"),
    "tile in words": ([*KERNEL, "--tile", "big"], "'big' is not a number of rows"),
    "unknown demo": (["demo", "cats"], "'cats'"),
    "too few digits": (["demo", "digits", "--size", "5"], "'5' is not a number from 100 up"),
    "unknown option": (["doctor", "--fast"], "--fast (see tpnum doctor --help)"),
    "unknown option of another": ([*KERNEL, "--fast", "1"], "--fast 1 (see tpnum kernel --help)"),
    "unknown option before the command": (["--fast", "doctor"], "--fast (see tpnum --help)"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_status_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = USAGE[case]
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("tpnum: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert "--help" in err


def test_debugging_is_in_the_help(python: Python) -> None:
    assert "--debug" in python("-m", "tpnum", "kernel", "--help").stdout


@pytest.mark.parametrize("jobs", ["-100", "1000000", str(2**70)])
def test_jobs_are_those_of_the_library(jobs: str) -> None:
    assert build().parse_args([*KERNEL, "--jobs", jobs]).n_jobs == int(jobs)


def _command(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object], command: str = "doctor") -> None:
    """Let a command do something else."""

    def instead(args: argparse.Namespace) -> None:
        action()

    monkeypatch.setitem(sys.modules, f"tpnum.cli.{command}", types.SimpleNamespace(run=instead))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("batch_size: 3 cuts", "--batch-size: 3 cuts"),
        ("n_jobs is 0", "--jobs is 0"),
        ("symmetric: Zarr alone", "--half: Zarr alone"),
        ("cores is 0", "cores is 0"),  # no option of this command
        ("K is there; resume=True goes on", "K is there; --resume goes on"),
    ],
)
def test_errors_are_about_what_was_typed(
    said: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _command(monkeypatch, _raiser(InputError(said)), "kernel")
    assert main(KERNEL) == 1
    assert capsys.readouterr().err == f"tpnum: error: {typed}\n"


def _raiser(error: BaseException) -> Callable[[], object]:
    def action() -> object:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x1: two\nlines"), "tpnum: error: x1: two lines"),
        (
            FileNotFoundError(2, "No such file or directory", "f"),
            "tpnum: error: f: No such file or directory",
        ),
        (
            MemoryError("Unable to allocate 8 TiB"),
            "tpnum: error: not enough memory (Unable to allocate 8 TiB)",
        ),
        (KeyError("k"), "tpnum: error: unexpected KeyError: 'k' (tpnum doctor --debug shows where)"),
    ],
)
def test_errors_are_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _command(monkeypatch, _raiser(error))
    assert main(["doctor"]) == 1
    assert capsys.readouterr() == ("", line + "\n")
    with pytest.raises(type(error)):
        main(["doctor", "--debug"])


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _command(monkeypatch, _raiser(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "tpnum: interrupted; nothing was written\n"


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        warnings.warn("not quite\nexact", tpnum.errors.AccuracyWarning, stacklevel=1)

    _command(monkeypatch, action)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "tpnum: warning: not quite exact\n"


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    command = f"'{sys.executable}' -m tpnum doctor | head -n 1"
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("tpnum ")
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full device")
def test_what_cannot_be_printed_is_one_line(environment: dict[str, str]) -> None:
    script = "import sys, types; from tpnum.cli import main; sys.modules['tpnum.cli.doctor'] = "
    script += "types.SimpleNamespace(run=lambda args: print('words')); sys.exit(main(['doctor']))"
    command = f"'{sys.executable}' -c \"{script}\" > /dev/full"
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "tpnum: error: the output: No space left on device\n")
    closed = subprocess.run(
        command.replace("> /dev/full", ">&- 2>&-"),
        shell=True,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert closed.returncode == 0
