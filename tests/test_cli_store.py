"""`tpnum kernel` into stores, `tpnum status`, `tpnum jobscript`: shards, signals, logs, scripts that run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.cli import main

pytest.importorskip("zarr")

DENSE = {"op": "Dense", "out_dim": 16, "W_std": 1.3, "b_std": 0.2}
NETWORK = {"op": "serial", "layers": [DENSE, {"op": "Relu"}, DENSE]}
KERNEL = ["kernel", "net.json", "x.npy", "--tile", "16", "--out"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((50, 6)))
    Path("net.json").write_text(json.dumps(NETWORK))
    return tmp_path


def stored(out: str = "W.zarr") -> np.ndarray:
    made = tp.kernel(nn.from_spec(NETWORK), np.load("x.npy"), tile=16, out=out)
    return np.asarray(made[:])


def test_a_zarr_group_is_an_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KERNEL, "K.zarr"]) == 0
    assert capsys.readouterr().out == "K.zarr: nngp, 50 x 50 float64\n"
    np.testing.assert_array_equal(tp.open("K.zarr")["nngp"][:], stored())
    assert main([*KERNEL, "K.zarr"]) == 1
    assert "K.zarr exists; --resume continues it" in capsys.readouterr().err
    assert main([*KERNEL, "K.zarr", "--resume", "--verify"]) == 0
    assert main([*KERNEL, "K.zarr", "--resume", "--get", "ntk"]) == 1
    assert "of other kernels: nngp, now ntk" in capsys.readouterr().err
    assert main([*KERNEL, "K.zarr", "--force"]) == 1
    assert "--force" in capsys.readouterr().err


def test_padding_and_graphs_count_in_stores_too(folder: Path) -> None:
    rng = np.random.default_rng(1)
    dense, relu = nn.Dense(4, b_std=0.3), nn.Relu()
    pooled = nn.serial(dense, relu, nn.GlobalAvgPool(), nn.Dense(1))
    passed = nn.serial(dense, relu, nn.Aggregate(), nn.GlobalAvgPool(), nn.Dense(1))
    x, graph = rng.standard_normal((9, 4, 2)), rng.integers(0, 2, (9, 4, 4)).astype(float)
    x[2, 1:] = x[5, 3:] = 7.0
    np.save("x.npy", x)
    np.save("graph.npy", graph)
    for layers, given, options in (
        (pooled, {"mask_constant": 7.0}, ["--mask-constant", "7"]),
        (passed, {"pattern1": graph}, ["--pattern1", "graph.npy"]),
    ):
        Path("net.json").write_text(json.dumps(layers.to_spec()))
        want = tp.kernel(layers, x, **given)
        name = f"{options[0][2:]}.zarr"
        assert main(["kernel", "net.json", "x.npy", "--tile", "4", "--out", name, *options]) == 0
        np.testing.assert_allclose(tp.open(name)["nngp"][:], want, rtol=1e-13)


@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_shards_and_their_status(out: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KERNEL, out, "--shard", "2/2"]) == 0
    assert capsys.readouterr().out == f"{out}: nngp, 50 x 50 float64; 5 tiles are missing yet\n"
    assert main(["status", out]) == 0
    told = capsys.readouterr().out
    assert "5 of 10 tiles of 16 x 16 are there" in told
    assert "missing: rows 0 to 16 x columns 0 to 16, rows 0 to 16 x columns 16 to 32" in told
    assert "of one thread" in told
    assert main([*KERNEL, out, "--shard", "1/2"]) == 0
    assert capsys.readouterr().out == f"{out}: nngp, 50 x 50 float64\n"
    assert main(["status", out, "--verify"]) == 0
    assert "complete" in capsys.readouterr().out
    found = np.load(out) if out == "K.npy" else tp.open(out)["nngp"][:]
    np.testing.assert_array_equal(found, stored())


def test_shards_over_another_matrix_are_not_told_to_be_forced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("K.npy", np.eye(3))
    assert main([*KERNEL, "K.npy", "--resume"]) == 1
    assert "choose another --out or give --force" in capsys.readouterr().err
    assert main([*KERNEL, "K.npy", "--shard", "1/2"]) == 1
    assert "choose another --out or remove it first" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load("K.npy"), np.eye(3))


def test_status_finds_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KERNEL, "K.zarr"]) == 0
    chunk = Path("K.zarr/nngp/c/1/2")
    content = bytearray(chunk.read_bytes())
    content[77] ^= 1
    chunk.write_bytes(content)
    capsys.readouterr()
    assert main(["status", "K.zarr", "--verify"]) == 0
    assert "1 of them are damaged" in capsys.readouterr().out
    assert main([*KERNEL, "K.zarr", "--resume", "--verify"]) == 0
    np.testing.assert_array_equal(tp.open("K.zarr")["nngp"][:], stored())


@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_derivatives_and_errors_lie_beside_the_kernels(
    out: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, both = ("layers[0].b_std", "W_std"), ("ntk", "nngp")
    net, x = nn.from_spec(NETWORK), np.load("x.npy")
    words = [*KERNEL, out, "--get", "ntk,nngp", "--wrt", ",".join(names)]
    for shard in ("2/2", "1/2"):
        assert main([*words, "--shard", shard]) == 0
    beside = [f"{kind}_wrt_{name}" for kind in both for name in names]
    said = f"{out}: nngp, ntk, {', '.join(beside)}, 50 x 50 float64"
    assert capsys.readouterr().out.splitlines()[-1] == said

    def made(name: str) -> np.ndarray:
        return np.asarray(tp.open(out)[name][:] if out == "K.zarr" else np.load(f"K.{name}.npy"))

    want = tp.kernel(net, x, get=both, wrt=names)
    for kind, slopes in want.derivatives._asdict().items():
        kernel = getattr(want.kernel, kind)
        size = np.sqrt(np.multiply.outer(np.diagonal(kernel), np.diagonal(kernel)))
        np.testing.assert_array_less(np.abs(made(kind) - kernel), 2e-15 * size)
        for name, slope in zip(names, slopes, strict=True):
            np.testing.assert_allclose(made(f"{kind}_wrt_{name}"), slope, rtol=1e-12, atol=1e-13)
    out = out.replace("K", "E")
    assert main([*KERNEL, out, "--error"]) == 0
    if out == "E.zarr":
        lost = np.asarray(tp.open(out)["nngp_error"][:])
    else:
        lost = np.load("E.nngp_error.npy")
    np.testing.assert_allclose(lost, tp.kernel(net, x, error=True).error, rtol=1e-9)


BEGUN = {
    "nothing": [],
    "half": [["--shard", "1/2"]],
    "all": [[]],
    "of another net": [["--net"]],
}
NEXT: dict[tuple[str, str], dict[str, str]] = {
    # what is there, option: what is said of .zarr, of .npy, of .npy beside others; nothing where it is done
    ("nothing", "--force"): {".zarr": "overwrites .npy files alone"},
    ("half", ""): {".zarr": "--resume continues it", ".npy beside": "--resume continues it"},
    ("half", "--verify"): {".zarr": "--resume continues it", ".npy": "--resume continues it"},
    ("half", "--force"): {".zarr": "overwrites .npy files alone", ".npy beside": "--resume continues it"},
    ("all", ""): {".zarr": "--resume continues it", ".npy": "give --force"},
    ("all", "--resume"): {".npy": "give --force"},
    ("all", "--verify"): {".zarr": "--resume continues it", ".npy": "give --force"},
    ("all", "--force"): {".zarr": "overwrites .npy files alone"},
    ("of another net", ""): {".zarr": "--resume continues it", ".npy": "give --force"},
    ("of another net", "--resume"): {
        ".zarr": "with another net; choose another --out",
        ".npy": "give --force",
    },
    ("of another net", "--verify"): {".zarr": "--resume continues it", ".npy": "give --force"},
    ("of another net", "--force"): {".zarr": "overwrites .npy files alone"},
}
"""Every refusal names a way on, which none of the others refuses."""


@pytest.mark.parametrize("ending", [".zarr", ".npy"])
@pytest.mark.parametrize("beside", [[], ["--error"], ["--wrt", "W_std"]], ids=["plain", "error", "wrt"])
def test_what_is_there_is_continued_replaced_or_kept(
    ending: str, beside: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**NETWORK, "layers": [DENSE, {"op": "Erf"}, DENSE]}
    Path("other.json").write_text(json.dumps(other))
    want = stored()
    for begun, runs in BEGUN.items():
        for option in ("", "--resume", "--verify", "--force"):
            shutil.rmtree("run", ignore_errors=True)
            Path("run").mkdir()
            out = f"run/K{ending}"
            words = [*KERNEL, out, *beside]
            for run in runs:
                done = (
                    [w.replace("net.json", "other.json") for w in words] if run == ["--net"] else words + run
                )
                assert main(done) == 0
            capsys.readouterr()
            before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
            status = main([*words, *([option] if option else [])])
            told, sayings = capsys.readouterr().err, NEXT.get((begun, option), {})
            if said := sayings.get(ending) or (sayings.get(f"{ending} beside") if beside else None):
                assert (status, told.count("\n")) == (1, 1), (begun, option, told)
                assert said in told, (begun, option, told)
                assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before
                continue
            assert status == 0, (begun, option, told)
            found = out if ending == ".zarr" or not beside else "run/K.nngp.npy"
            made = tp.open(found)["nngp"][:] if ending == ".zarr" else np.load(found)
            np.testing.assert_allclose(made, want, rtol=1e-13)


def test_a_run_that_replaces_can_be_resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was finished stays until all of what replaces it is there."""
    words = [*KERNEL, "K.npy", "--error"]
    assert main([*words, "--shard", "1/2"]) == 0
    np.save("K.nngp.npy", np.zeros((50, 50)))
    assert main([*words, "--resume"]) == 1
    assert "give --force" in capsys.readouterr().err
    assert not np.load("K.nngp.npy").any()
    assert main([*words, "--resume", "--force"]) == 0
    np.testing.assert_allclose(np.load("K.nngp.npy"), stored(), rtol=1e-13)
    assert not list(Path().glob(".K*"))


REFUSED = {
    "no such store": (["status", "none.zarr"], "none.zarr does not exist"),
    "no name": (["status", ""], "a store without a name does not exist"),
    "no store": (["status", "."], "no Zarr group; give another path"),
    "a net": (["status", "net.json"], "net.json is a file, not a Zarr group; give another path"),
    "a vector": (["status", "v.npy"], "v.npy holds float64 of shape (3,), which no kernel matrix is"),
    "whole numbers": (["status", "i.npy"], "i.npy holds int64 of shape (2, 2), which no kernel matrix is"),
    "shard": ([*KERNEL, "K.zarr", "--shard", "3/2"], "shard: 3/2 is out of range"),
    "shard zero": ([*KERNEL, "K.zarr", "--shard", "0/2"], "shard: 0/2 is out of range"),
    "shard word": ([*KERNEL, "K.zarr", "--shard", "first"], "shard is 'first'"),
    "half npy": ([*KERNEL, "K.npy", "--half"], "symmetric"),
    "scheduler": ([*KERNEL, "K.zarr", "--scheduler", "x", "--backend", "threads"], "scheduler"),
    "force": ([*KERNEL, "K.zarr", "--error", "--force"], "--force overwrites .npy files alone"),
    "force of a shard": ([*KERNEL, "K.npy", "--shard", "1/2", "--force"], "--force is for whole runs"),
    "force of an input": (
        ["kernel", "net.json", "x.nngp.npy", "--error", "--out", "x.npy", "--force"],
        "is the input x.nngp.npy",
    ),
    "no deviation": ([*KERNEL, "K.zarr", "--wrt", "W_sdt"], "'W_sdt' is no deviation of weights or biases"),
    "slopes of batches": ([*KERNEL, "K.zarr", "--wrt", "W_std", "--batch-size", "5"], "--batch-size: "),
    "ending": (["jobscript", "net.json", "x.npy", "--scheduler", "lsf", "--out", "K"], "ends neither"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_line(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = REFUSED[case]
    np.save("x.nngp.npy", np.load("x.npy"))
    np.save("v.npy", np.ones(3))
    np.save("i.npy", np.ones((2, 2), np.int64))
    before = sorted(Path().rglob("*"))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("tpnum: error: ") and message in err, err
    assert sorted(Path().rglob("*")) == before


USAGE = {
    "both": (["--error", "--wrt", "W_std"], "argument --wrt: not allowed with argument --error"),
    "an input": (["--wrt", "W_std,x1"], "derivatives by 'x1' are summed and not stored"),
    "no name": (["--wrt", "W_std,"], "'W_std,' lacks a name"),
    "twice": (["--wrt", "W_std,W_std"], "names a deviation twice"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_status_2(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = USAGE[case]
    with pytest.raises(SystemExit) as end:
        main([*KERNEL, "K.zarr", *words])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not Path("K.zarr").exists()


# signals ------------------------------------------------------------------------------------------

_SLOW = """
import sys, time
from tpnum.tiles import tasks
from tpnum.kernels._building import notice
notice.said = True  # what is said must be all about the end
compute = tasks.Job.compute
def slow(job, tile):
    time.sleep(0.2)
    return compute(job, tile)
tasks.Job.compute = slow
from tpnum.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (signal.SIGTERM, 75, "asked to end"),
        (signal.SIGUSR1, 75, "asked to end"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_run_that_is_ended_can_be_resumed(
    number: signal.Signals, status: int, text: str, folder: Path, environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *KERNEL, "K.zarr", "--jobs", "1"],
        env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(list(Path().glob("K.zarr/nngp/receipts/*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, f"tpnum: {text}; --resume continues K.zarr\n")
    missing = len(tp.open("K.zarr").missing)
    assert 0 < missing <= 7
    assert main([*KERNEL, "K.zarr", "--resume"]) == 0
    np.testing.assert_array_equal(tp.open("K.zarr")["nngp"][:], stored())


# logs and scripts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_has_lines(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KERNEL, "K.zarr", "--log", form, "--shard", "1/2"]) == 0
    err = capsys.readouterr().err.splitlines()
    if form == "json":
        facts = json.loads(err[-1])
        assert (facts["run"], facts["done"], facts["total"]) == ("K.zarr 1/2", 5, 5)
        assert facts["tiles_per_second"] > 0 and facts["seconds_left"] == 0
    else:
        assert "K.zarr 1/2: 5/5 tiles" in err[-1]


@pytest.mark.parametrize("beside", [["--error"], ["--wrt", "W_std"]])
def test_what_is_beside_a_tile_has_no_lines(
    beside: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*KERNEL, "K.zarr", "--log", "json", *beside]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [(line["run"], line["done"], line["total"]) for line in lines] == [("K.zarr", 10, 10)]


def test_without_a_log_nothing_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KERNEL, "K.zarr"]) == 0
    assert capsys.readouterr().err == ""


def script(capsys: pytest.CaptureFixture[str], scheduler: str) -> str:
    words = ["net.json", "x.npy", "--out", "K 1.zarr", "--tile", "16", "--shards", "3", "--cores", "2"]
    assert main(["jobscript", *words, "--scheduler", scheduler]) == 0
    return capsys.readouterr().out


def command(name: str, text: str) -> str:
    """A command of this name, a shell script, and the PATH on which it is the first."""
    Path("bin").mkdir(exist_ok=True)
    Path("bin", name).write_text(f"#!/bin/bash\n{text}")
    Path("bin", name).chmod(0o755)
    return f"{Path('bin').resolve()}:{os.environ['PATH']}"


@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "lsf"])
def test_job_scripts_are_scripts(
    scheduler: str, folder: Path, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    """Run as the batch system would, once for each shard; the commands that they come to fill the store."""
    text = script(capsys, scheduler)
    assert text.startswith("#!/bin/bash\n#")
    Path("job.sh").write_text(text)
    # every call leaves its words, one a line, and its environment
    path = command("tpnum", 'printf "%s\\n" "$@" > "words.$1"\nenv > "env.$1"\nexit "${CODE:-0}"\n')
    index = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX"}[scheduler]
    given = {
        **environment, "PATH": path, "PBS_O_WORKDIR": str(folder), "XDG_CACHE_HOME": str(folder),
        "SLURM_ARRAY_JOB_ID": "7",
    }  # fmt: skip
    for k in (3, 1, 2):
        job = ["bash", "job.sh"]
        done = subprocess.run(job, env={**given, index: str(k)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert Path("words.warm").read_text() == "warm\n"
        found = dict(line.partition("=")[::2] for line in Path("env.kernel").read_text().splitlines())
        assert found["OPENBLAS_NUM_THREADS"] == found["OMP_NUM_THREADS"] == "1"
        assert Path(found["NUMBA_CACHE_DIR"]).is_dir() and found["NUMBA_CACHE_DIR"].startswith(str(folder))
        assert main(Path("words.kernel").read_text().splitlines()) == 0
        assert len(tp.open("K 1.zarr").missing) == {3: 6, 1: 3, 2: 0}[k]
    np.testing.assert_array_equal(tp.open("K 1.zarr")["nngp"][:], stored())
    for code in (1, 75):  # a run that fails is a job that fails, as one that cannot be queued again
        done = subprocess.run(job, env={**given, index: "1", "CODE": str(code)}, capture_output=True)
        assert done.returncode == code


WORDS = {
    "slurm": ["--array=1-3", "--requeue", "--signal=B:USR1@120", "--cpus-per-task=2", "scontrol requeue"],
    "pbs": ["-J 1-3", "-r y", "ncpus=2", "--signal=USR1"],
    "lsf": ["tpnum[1-3]", '-Q "75"', "-wa USR1", "-n 2"],
}


@pytest.mark.parametrize("scheduler", WORDS)
def test_what_job_scripts_ask_for(scheduler: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, scheduler)
    common = ["tpnum warm", "OPENBLAS_NUM_THREADS=1", "NUMBA_CACHE_DIR", "'K 1.zarr'", "--resume", "--jobs 2"]
    for word in WORDS[scheduler] + common:
        assert word in text


@pytest.mark.parametrize("beside", [["--error"], ["--wrt", "W_std,layers[2].b_std"]])
def test_job_scripts_ask_for_what_is_beside_kernels(
    beside: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["net.json", "x.npy", "--out", "K.zarr", "--scheduler", "slurm", *beside]
    assert main(["jobscript", *words]) == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("tpnum kernel"))
    assert shlex.split(line.rstrip("\\"))[1:] == ["kernel", "net.json", "x.npy", "--out", "K.zarr", *beside]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_slurm_job_that_is_warned_is_queued_again(
    folder: Path, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    Path("job.sh").write_text(script(capsys, "slurm"))
    command("scontrol", 'echo "$@" > requeued\n')
    path = command(
        "tpnum",
        "[ $1 = warm ] && exit 0\ntrap 'exit 75' USR1\ntouch begun\nwhile :; do sleep 0.05; done\n",
    )
    job = subprocess.Popen(
        ["bash", "job.sh"],
        env={
            **environment, "PATH": path, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2",
            "XDG_CACHE_HOME": str(folder),
        },
    )  # fmt: skip
    end = time.monotonic() + 30
    while not Path("begun").exists() and time.monotonic() < end:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 0
    assert Path("requeued").read_text() == "requeue 7_2\n"
