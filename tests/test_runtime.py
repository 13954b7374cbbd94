"""Compiled kernels on disk and in processes, and threads: whatever happens to them, numbers are right."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tpnum as tp
from tests.conftest import PACKAGE
from tpnum import nn
from tpnum.kernels import _building, _folders
from tpnum.kernels._arrays import plain
from tpnum.kernels._jit import kernel

Python = Callable[..., "subprocess.CompletedProcess[str]"]

# a small kernel: a copy of it is compiled in a second
_SMALL = """
import sys
import numpy as np
from tpnum.kernels.gram import mirror
n = int(sys.argv[2])
block = np.arange(n * n, dtype=sys.argv[1]).reshape(n, n)
out = np.zeros((2 * n, 2 * n), block.dtype)
mirror(block, out, 0, n)
stats = mirror.stats
print(float(np.abs(out[n:, :n] - block.T).max()), len(stats.cache_hits), len(stats.cache_misses))
"""


def _small(python: Python, folder: Path | str, dtype: str = "float64", **env: str) -> tuple[float, int, int]:
    """The error of a small kernel in a new process, and what was found in the cache and what was not."""
    done = python("-c", _SMALL, dtype, "40", env={"NUMBA_CACHE_DIR": str(folder), **env}, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    error, hits, misses = done.stdout.split()
    return float(error), int(hits), int(misses)


FOUND, MADE = (0.0, 1, 0), (0.0, 0, 1)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbc"))


@pytest.fixture(scope="module")
def filled(python: Python, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    assert _small(python, folder) == MADE
    return folder


# damage -------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "a bit": _flip,
    "text": lambda path: path.write_text("rubbish"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_made_again(case: str, filled: Path, python: Python, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    for path in _files(folder):
        DAMAGE[case](path)
    assert _small(python, folder) == MADE
    assert _small(python, folder) == FOUND


def _mirrors(folder: Path) -> set[Path]:
    return {path for path in _files(folder) if path.name.startswith("gram.mirror")}


def test_the_code_of_other_types_is_not_taken(filled: Path, python: Python, tmp_path: Path) -> None:
    """A file under the name of another is found out, as a wrong index would be."""
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    (old,) = _mirrors(folder)
    assert _small(python, folder, "float32") == MADE
    (new,) = _mirrors(folder) - {old}
    codes = old.read_bytes(), new.read_bytes()
    for path, other in zip((new, old), codes, strict=True):
        path.write_bytes(other)
    assert _small(python, folder)[0] == 0.0
    assert _small(python, folder, "float32")[0] == 0.0


# upgrades -----------------------------------------------------------------------------------------


def _copy(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "tpnum", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "tpnum" / "kernels"


def test_an_upgrade_of_a_helper_s_file_is_seen(python: Python, tmp_path: Path) -> None:
    """The kernel of sign holds code of another file; with half the angle 1 - 2 angle/pi is 2/3, not 1/3."""
    helper = _copy(tmp_path) / "_poly.py"
    code = "import tpnum as tp; print(tp.dual('sign')(1.0, 1.0, 0.5))"
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):
        assert float(python("-c", code, env=env, cwd=tmp_path).stdout) == pytest.approx(1 / 3, rel=1e-14)
    times, text = helper.stat(), helper.read_text()
    head, body, tail = text.partition("def _angle_64")
    helper.write_text(head + body + tail.replace("return odd * y + even", "return 0.5 * (odd * y + even)", 1))
    os.utime(helper, ns=(times.st_atime_ns, times.st_mtime_ns))  # as an installer may set them
    assert float(python("-c", code, env=env, cwd=tmp_path).stdout) == pytest.approx(2 / 3, rel=1e-14)
    helper.write_text(text)
    assert float(python("-c", code, env=env, cwd=tmp_path).stdout) == pytest.approx(1 / 3, rel=1e-14)


# several processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_cold_processes_that_start_together(
    pairs: int, environment: dict[str, str], tmp_path: Path, python: Python
) -> None:
    env = {**environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SMALL, dtype, "40"], env=env, stdout=subprocess.PIPE, text=True
        )
        for dtype in ("float64", "float32") * pairs
    ]
    results = [process.communicate(timeout=240)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 2 * pairs
    assert all(float(error) == 0.0 for error, _, _ in results)
    assert sum(int(misses) for _, _, misses in results) == 2, "one process compiles, the others wait"
    assert _small(python, tmp_path) == FOUND == _small(python, tmp_path, "float32")
    assert not list(tmp_path.rglob("*.tmp"))


_NESTED = """
from numba.core import event
from tpnum.kernels._elementary import angle_of
from tpnum.kernels._jit import Jitted
with event.install_recorder("numba:compile") as record:
    value = angle_of(0.3, 0.5)
made = [one.data["dispatcher"] for _, one in record.buffer if one.is_start]
print(value, *[one.py_func.__name__ for one in made if isinstance(one, Jitted)])
"""


def test_what_a_function_calls_is_compiled_once_as_well(environment: dict[str, str], tmp_path: Path) -> None:
    """Numba's own stubs, and the choice of a body by dtype, belong to whoever compiles the caller."""
    env = {**environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-c", _NESTED]
    processes = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    results = [process.communicate(timeout=240)[0].split() for process in processes]
    np.testing.assert_allclose([float(value) for value, *_ in results], np.arcsin(0.3), rtol=5e-16)
    made = sorted(name for _, *names in results for name in names)
    assert made == ["_asin_64", "_quarter_turn_64", "angle_of"]


_OWN = """
import numpy as np
from tpnum.kernels._jit import full_width, kernel

@kernel
def inner(x):
    full_width()  # a function that is not inlined
    total = 0.0
    for v in x:
        total += v * v
    return total

@kernel
def outer(x):
    return inner(x) + 1.0

assert outer(np.arange(3.0)) == 6.0
(made,) = outer.overloads.values()
print(*{f.linkage.name for f in made.library._final_module.functions if "inner" in f.name})
(made,) = inner.within.overloads.values()
print(*{f.linkage.name for f in made.library._get_module_for_linking().functions if "inner" in f.name})
"""


def test_a_kernel_calls_its_own_copy_of_what_it_calls(python: Python, tmp_path: Path) -> None:
    """Another kernel's copy may contract other products: what was loaded first must not matter."""
    done = python("-c", _OWN, env={"NUMBA_CACHE_DIR": str(tmp_path)}, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["internal", "linkonce_odr"]


def test_a_process_that_is_stopped_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "one.lock"
    monkeypatch.setattr(_building, "PATIENCE", 0.2)
    with _building.turn(lock):
        done: list[float] = []

        def other() -> None:
            with _building.turn(lock):
                done.append(time.monotonic())

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
        assert done
    with _building.turn(None), _building.turn(tmp_path / "no" / "folder"):
        pass


# folders ------------------------------------------------------------------------------------------


def _no_folder(path: Path) -> str:
    """A path below a file: no folder can ever be made there, not even by root."""
    (path / "file").touch()
    return str(path / "file" / "below")


def _locked(kernels: Path) -> None:
    """Make the folder of compiled files of an installation one that nobody can write to."""
    (kernels / "__pycache__").write_text("in the way")


def test_without_any_folder_one_warning_and_right_numbers(python: Python, tmp_path: Path) -> None:
    _locked(_copy(tmp_path))
    nowhere = _no_folder(tmp_path)
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": "", "HOME": nowhere, "XDG_CACHE_HOME": ""}
    # the system's own temporary folders are taken away as well
    code = f"import tempfile; tempfile.tempdir = {nowhere!r}; "
    code += "import tpnum as tp; from tpnum.cli import main; "
    code += "[print(tp.dual(f)(1.0, 1.0, 0.5)) for f in ('sign', 'step')]; main(['doctor'])"
    done = python("-W", "always", "-c", code, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sign, step, *report = done.stdout.splitlines()
    assert float(sign) == pytest.approx(1 / 3, rel=1e-14) and float(step) == pytest.approx(1 / 3, rel=1e-14)
    assert done.stderr.count("Warning") == 1 and "NUMBA_CACHE_DIR" in done.stderr
    assert report[-1].startswith("  -> ") and "set NUMBA_CACHE_DIR" in report[-1]


def test_a_read_only_home_and_a_temporary_folder(python: Python, tmp_path: Path) -> None:
    _locked(_copy(tmp_path))
    (tmp_path / "tmp").mkdir()
    env = {"PYTHONPATH": str(tmp_path), "HOME": _no_folder(tmp_path), "XDG_CACHE_HOME": "",
           "TMPDIR": str(tmp_path / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    done = python("-c", _SMALL, "float64", "40", env={**env, "NUMBA_CACHE_DIR": ""}, cwd=tmp_path)
    assert done.stdout.split()[0] == "0.0", done.stderr
    assert done.stderr.count("Warning") == 1 and "NUMBA_CACHE_DIR" in done.stderr
    assert len(_files(tmp_path / "tmp")) == 1
    assert _small(python, "", **env) == FOUND, "and what is found there needs no warning"


def test_an_installation_that_was_warmed_serves_those_who_cannot_write_there(
    python: Python, tmp_path: Path
) -> None:
    kernels = _copy(tmp_path / "image")
    home = tmp_path / "home"
    home.mkdir()
    env = {
        "PYTHONPATH": str(tmp_path / "image"),
        "HOME": str(home),
        "XDG_CACHE_HOME": "",
        "NUMBA_CACHE_DIR": "",
    }
    assert _small(python, "", **env) == MADE
    assert _files(kernels) and not _files(home)
    # to root every folder can be written; here the one of the installation shall not
    deny = (
        "import tempfile; may = tempfile.TemporaryFile\n"
        "def refuse(dir):\n"
        "    if 'image' in str(dir): raise PermissionError(13, 'Permission denied')\n"
        "    return may(dir=dir)\n"
        "tempfile.TemporaryFile = refuse\n"
    )
    for dtype, result, count in (("float64", "1 0", 0), ("float32", "0 1", 1), ("float32", "1 0", 1)):
        done = python("-W", "error", "-c", deny + _SMALL, dtype, "40", env=env, cwd=os.sep)
        assert done.stdout.split(maxsplit=1) == ["0.0", result + "\n"], done.stderr
        assert len(_files(home)) == count and len(_files(kernels)) == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders of users of POSIX")
def test_a_temporary_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is run."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(_folders, "_temporary", _folders._temporary.__wrapped__)
    mine = tmp_path / f"tpnum-{os.getuid()}"
    assert _folders._temporary() == (mine,)
    mine.chmod(0o777)
    assert _folders._temporary() == ()
    mine.rmdir()
    (tmp_path / "other").mkdir(mode=0o700)
    mine.symlink_to(tmp_path / "other")
    assert _folders._temporary() == ()


def test_folders_of_other_versions_go_when_they_are_old(tmp_path: Path) -> None:
    old, new, own, foreign = (tmp_path / name for name in ("tpnum-a", "tpnum-b", "tpnum-c", "else-d"))
    for folder in (old, new, own, foreign):
        folder.mkdir()
        (folder / "f.nbc").touch()
    (own / ".x.tmp").touch()
    for path in (old, foreign, own / ".x.tmp"):
        os.utime(path, (0, 0))
    _folders._sweep(own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else-d", "tpnum-b", "tpnum-c"]
    assert [path.name for path in own.iterdir()] == ["f.nbc"]


# one machine code per kernel ----------------------------------------------------------------------


def test_plain_arrays_are_views_of_one_type() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert plain(x) is x
    x.flags.writeable = False
    seen = plain(x)
    assert seen.flags.writeable and np.shares_memory(seen, x) and np.array_equal(seen, x)
    assert not x.flags.writeable
    turned = plain(np.broadcast_to(np.arange(3.0), (2, 3)).T)
    assert turned.flags.c_contiguous and turned.tolist() == [[0, 0], [1, 1], [2, 2]]
    inside = plain((x, 1.0, (x,)))
    assert inside[0].flags.writeable and inside[1] == 1.0 and inside[2][0].flags.writeable


def test_no_flag_of_an_array_asks_for_code_of_its_own(tmp_path: Path) -> None:
    @kernel
    def total(x, weights):
        s = 0.0
        for i in range(x.shape[0]):
            s += weights[0][i] * x[i]
        return s

    x = np.arange(5.0)
    np.save(tmp_path / "x.npy", x)
    frozen = x.copy()
    frozen.flags.writeable = False
    for each in (x, frozen, np.load(tmp_path / "x.npy", mmap_mode="r"), np.broadcast_to(2.0, 5)):
        assert total(each, (frozen,)) == float(np.sum(np.asarray(each) * x))
    assert len(total.signatures) == 1


def test_a_kernel_is_called_by_kernels_and_by_python() -> None:
    """By one after the other, whichever is first: what kernels call has no entry for Python."""

    @kernel
    def half(x):
        return 0.5 * x

    @kernel
    def quarter(x):
        return half(half(x))

    before = gc.get_threshold()
    assert quarter(8.0) == 2.0
    assert half.signatures == []
    assert half(3.0) == 1.5
    assert half(np.int64(3)) == 1.5
    assert quarter(np.int64(8)) == 2.0
    assert gc.get_threshold() == before


# threads ------------------------------------------------------------------------------------------


def _blas() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    import scipy.linalg  # noqa: F401  (loads scipy's own BLAS, so that it has two of them too)

    with threadpool_limits(2, "blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_overlapping_calls_leave_the_blas_as_it_was_and_are_right() -> None:
    net = nn.serial(nn.Dense(8), nn.Relu(), nn.Dense(1))
    x = np.random.default_rng(0).standard_normal((300, 20))
    whole = tp.kernel(net, x, n_jobs=1)
    before = _blas()
    assert set(before) == {2}
    wrong: list[Any] = []

    def work(size: int) -> None:
        for _ in range(8):
            made = tp.kernel(net, x[:size], n_jobs=2)
            if not np.allclose(made, whole[:size, :size], rtol=1e-13, atol=1e-15):
                wrong.append(made)

    threads = [threading.Thread(target=work, args=(size,)) for size in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _blas() == before


@pytest.mark.usefixtures("two_threads")
def test_a_call_that_fails_gives_the_blas_back() -> None:
    before = _blas()
    assert set(before) == {2}

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tp.kernel(nn.serial(nn.Dense(1), nn.Relu(), nn.Dense(1)), np.eye(3), progress=fail)
    assert _blas() == before


_POOL = """
import json, multiprocessing, threading, warnings
import numpy as np
import tpnum as tp
from tpnum import nn

def child(n_jobs):
    net = nn.serial(nn.Dense(8), nn.Relu(), nn.Dense(1))
    x = np.random.default_rng(0).standard_normal((1200, 5))
    used = set()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tp.kernel(net, x, n_jobs=n_jobs, progress=lambda *_: used.add(threading.get_ident()))
    return [str(w.message) for w in told], len(used)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps(pool.map(child, [2, -1, None, 1])))
"""


def test_threads_in_a_process_of_a_pool(python: Python, tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(_POOL)
    done = python(str(script))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [told for told, _ in results] == [[]] * 4
    assert results[0][1] == 2 and results[3][1] == 1


# words about compilation --------------------------------------------------------------------------


def test_long_compilation_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_building, "SILENCE", 0.2)
    notice = _building.Notice()
    for _ in range(3):
        with notice.timed(), notice.timed():
            time.sleep(0.08)
    time.sleep(0.2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("tpnum: compiling kernels")
    with notice.timed():
        time.sleep(0.3)
    assert capsys.readouterr() == ("", "")
    quick = _building.Notice()
    with quick.timed():
        pass
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_without_compilation(python: Python) -> None:
    code = (
        "import numpy as np, tpnum as tp; print(float(tp.dual('relu')(1., 1., .5))); "
        "print(float(tp.dual('sign')(1., 1., .5)))"
    )
    done = python("-W", "error", "-c", code, env={"NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    relu = (3**0.5 / 2 + 0.5 * 2 * np.pi / 3) / (2 * np.pi)
    assert [float(line) for line in done.stdout.split()] == pytest.approx([relu, 1 / 3], rel=1e-12)
