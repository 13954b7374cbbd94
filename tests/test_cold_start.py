"""How fast a new process gets going: what it imports, and that it compiles nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
import tpnum.kernels
from tpnum import nn
from tpnum.kernels import cells, duals, machine
from tpnum.kernels._cache import folder_name
from tpnum.kernels._jit import Jitted

Python = Callable[..., "subprocess.CompletedProcess[str]"]

_TIME = "import time; s = time.process_time(); import {0}; print(time.process_time() - s)"
_RUN = """
import json
from numba.core import event
import numpy as np
import tpnum as tp
from tpnum import nn
net = nn.serial(nn.Dense(8, W_std=1.0), nn.Relu(), nn.Dense(8, W_std=1.1), nn.Abs(), nn.Dense(1))
x = np.random.default_rng(0).standard_normal((9, 4))
x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
with event.install_recorder("numba:compile") as recorder:
    both = tp.kernel(net, x, get=("nngp", "ntk"), n_jobs=2)
    other = tp.kernel(net, x, -x[:3], get="ntk", n_jobs=1)
names = [str(e.data["dispatcher"].py_func.__name__) for _, e in recorder.buffer if e.is_start]
print(json.dumps({"compiled": names, "trace": [float(np.trace(both.ntk)), float(other.sum())]}))
"""

_DUAL = """
import json
from numba.core import event
import numpy as np
import tpnum as tp
q, rho = np.linspace(0.5, 1.5, 40), np.linspace(-1, 1, 1600).reshape(40, 40)
c = rho * np.sqrt(q[:, None] * q)
total = 0.0
with event.install_recorder("numba:compile") as recorder:
    for f in (FUNCTIONS):
        d = tp.dual(f)
        total += float(d(q[:, None], q, c).sum() + d.derivative(q[:, None], q, c).sum())
        total += float(d(q, q[::-1], 0.3 * rho).sum() + d.estimate(1.0, 1.3, 0.4, 0.1, -0.2).value)
names = [str(e.data["dispatcher"].py_func.__name__) for _, e in recorder.buffer if e.is_start]
print(json.dumps({"compiled": names, "trace": total}))
"""
_USERS = "lambda u: np.tanh(u) * np.exp(-u * u / 8), lambda u: np.maximum(u, 0.1), 'gelu'"


def test_importing_takes_numpy_s_time_and_a_tenth_of_a_second(python: Python) -> None:
    best = {"numpy": 1e9, "tpnum": 1e9}
    for _ in range(5):
        for name in best:
            best[name] = min(best[name], float(python("-c", _TIME.format(name)).stdout))
    assert best["tpnum"] <= best["numpy"] + 0.1, best


def test_importing_loads_neither_numba_nor_scipy(python: Python) -> None:
    """Nor do the language, the functions and the architectures, which are needed to build a net."""
    code = (
        "import sys, tpnum; from tpnum import nn; tpnum.Program, tpnum.tanh; "
        "nn.serial(nn.Dense(1), nn.Relu()); "
        "print([m for m in sys.modules if m in ('numba', 'scipy', 'joblib', 'sklearn', 'matplotlib')])"
    )
    assert python("-c", code).stdout.strip() == "[]"


def test_bare_import_loads_no_numpy(python: Python) -> None:
    assert (
        python("-c", "import sys, tpnum, tpnum.cli; print('numpy' in sys.modules)").stdout.strip() == "False"
    )


def test_importing_kernels_compiles_nothing(python: Python, tmp_path: Path) -> None:
    names = [f"tpnum.kernels.{path.stem}" for path in Path(tpnum.kernels.__path__[0]).glob("[!_]*.py")]
    code = f"import gc, {', '.join(names)}; from numba.core.dispatcher import Dispatcher as D; " + (
        "print(sum(len(d.signatures) if d.__module__.startswith('tpnum') else 0 "
        "for d in gc.get_objects() if isinstance(d, D)))"
    )
    done = python("-c", code, env={"NUMBA_CACHE_DIR": str(tmp_path)})
    assert done.stdout.strip() == "0", done.stderr
    assert not list(tmp_path.rglob("*.nbc"))


def _reached(kernel: Any, known: set[str]) -> set[str]:
    """The kernels that are compiled with a kernel, by name."""
    function = kernel.py_func
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    if name not in known:
        known.add(name)
        for word in function.__code__.co_names:
            if isinstance(found := function.__globals__.get(word), Jitted):
                _reached(found, known)
    return known


@pytest.mark.parametrize("machine", [cells, machine])
def test_the_machines_compile_neither_series_nor_ways_back(machine: Any) -> None:
    """These they call through pointers, where a program has them."""
    reached = _reached(machine.run, set())
    assert len(reached) > 20
    assert not reached & set(duals.CHOSEN)
    assert not {name for name in reached if name.startswith(("series.", "curves."))}


@pytest.mark.parametrize(
    ("layer", "gradient", "own"),
    [
        (nn.Relu(), False, set()),
        (nn.Tanh(), False, {duals.SERIES, "applied.over_functions"}),
        (nn.Relu(), True, {"adjoints.bent_relu"}),
        (nn.Tanh(), True, {duals.SERIES, "curves.curved"}),
    ],
    ids=["relu", "tanh", "relu and its way back", "tanh and its way back"],
)
def test_a_program_compiles_what_it_uses(
    layer: nn.Layer, gradient: bool, own: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()

    def pointer(name: str, *rest: Any, before: Any = duals.pointer) -> Any:
        asked.add(name)
        return before(name, *rest)

    monkeypatch.setattr(duals, "pointer", pointer)
    net = nn.serial(nn.Conv(1, (2,)), layer, nn.Conv(1, (2,)), layer, nn.GlobalAvgPool(), nn.Dense(1))
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    if gradient:
        tp.kernel(net, x, get="nngp", wrt="x1", against=np.ones((3, 3)))
    else:
        tp.kernel(net, x, get=("nngp", "ntk"))
    assert asked & {one.own for one in duals.OPERATIONS.values()} == own


LACKING = "gram.*"


@pytest.fixture(scope="module")
def first(
    python: Python, warmed: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], dict[str, Any]]:
    """A process whose cache lacks the kernels of a file: the environment with it, and what the process did.

    What a process compiles it keeps, be it one kernel or all of them; that a cache may be empty is tried
    with a small kernel, in test_runtime.py.
    """
    folder = tmp_path_factory.mktemp("cache") / folder_name()
    shutil.copytree(
        Path(os.environ["NUMBA_CACHE_DIR"]) / folder_name(), folder, ignore=shutil.ignore_patterns(LACKING)
    )
    assert not list(folder.glob(LACKING))
    env = {"NUMBA_CACHE_DIR": str(folder.parent)}
    return env, _result(python("-c", _RUN, env=env))


def _result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_second_process_compiles_nothing(
    python: Python, first: tuple[dict[str, str], dict[str, Any]]
) -> None:
    env, cold = first
    warm = _result(python("-c", _RUN, env=env))
    made = {path.stem.partition("-")[0] for path in Path(env["NUMBA_CACHE_DIR"]).rglob(f"{LACKING}.nbc")}
    assert made, "the first process should have compiled what its cache lacked"
    assert made <= {f"gram.{name}" for name in cold["compiled"]}
    assert warm["compiled"] == []
    assert warm["trace"] == cold["trace"]


def test_duals_of_new_functions_compile_nothing(python: Python) -> None:
    """Once a process has seen every kind of function; here the tests' own cache serves."""
    cold = _result(python("-c", _DUAL.replace("FUNCTIONS", _USERS)))
    others = "np.arctan, lambda u: np.abs(u - 0.2), 'gelu', 'softplus'"
    warm = _result(python("-c", _DUAL.replace("FUNCTIONS", f"{_USERS}, {others}")))
    assert warm["compiled"] == []
    assert abs(warm["trace"]) > abs(cold["trace"]) > 0.0


def test_other_shapes_and_nets_compile_nothing_more(
    python: Python, first: tuple[dict[str, str], dict[str, Any]]
) -> None:
    """No architecture triggers a compilation once its functions' kernels exist."""
    more = "nn.Dense(3), nn.Abs(), nn.Dense(5, W_std=1.2), nn.Relu(), nn.Dense(2))"
    wider = _RUN.replace("nn.Dense(1))", more).replace("(9, 4)", "(17, 2)")
    assert wider != _RUN
    assert _result(python("-c", wider, env=first[0]))["compiled"] == []


@pytest.mark.usefixtures("warmed")
def test_after_warm_nothing_compiles(python: Python, tmp_path: Path) -> None:
    """Whatever net, function, type or flag: one machine code per kernel, and all of them are there."""
    done = python(str(Path(__file__).parent / "oracle" / "after_warm.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
