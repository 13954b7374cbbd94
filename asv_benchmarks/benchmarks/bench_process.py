"""What a new process pays: import, the first call, memory. Each is measured in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import REPEATS

ROOT = Path(__file__).resolve().parents[2]

_IMPORT = "import time; s = time.perf_counter(); import {0}; print(time.perf_counter() - s)"
_FIRST = """
import time; s = time.perf_counter()
import numpy as np, tpnum as tp
from tpnum import nn
net = nn.serial(nn.Dense(512, W_std=1.4, b_std=.1), nn.Relu(), nn.Dense(1))
tp.kernel(net, np.ones((16, 4)) + np.eye(16, 4), get=("nngp", "ntk"))
print(time.perf_counter() - s)
"""
_MEMORY = """
import sys
import numpy as np, tpnum as tp
from tpnum import nn
features, dtype, jobs, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def status(key):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key)) * 1024
layers = [nn.Dense(512, W_std=1.4, b_std=.1), nn.Relu()] * 3 + [nn.Dense(1, W_std=1.0, b_std=.1)]
net = nn.serial(*layers)
tp.kernel, nn.program(net, (features,))
import tpnum.kernels, joblib, numba, scipy.linalg
x = np.random.default_rng(0).standard_normal((size, features)).astype(dtype)
out = {get: np.ones((size, size), dtype) for get in ("nngp", "ntk")}
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
tp.kernel(net, x, get=("nngp", "ntk"), dtype=dtype, n_jobs=jobs, out=out)
allowed = (64 + 16 * jobs) * 2**20 + 64 * size * len(nn.program(net, (features,)).lines)
print(status("VmHWM") - before, allowed)
"""


def _run(code: str, *arguments: object, **variables: str) -> list[float]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def import_seconds(module: str) -> float:
    """Return the shortest import of `REPEATS` processes."""
    return min(_run(_IMPORT.format(module))[0] for _ in range(REPEATS))


def first_call_seconds(warm: bool = True) -> float:
    """Return import and first call together, with an empty or with a filled cache of compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        cold = _run(_FIRST, NUMBA_CACHE_DIR=folder)[0]
        return min(_run(_FIRST, NUMBA_CACHE_DIR=folder)[0] for _ in range(3)) if warm else cold


def extra_memory(features: int, dtype: str, jobs: int, size: int = 4096) -> tuple[float, float]:
    """Return (peak beyond inputs and outputs, what is allowed) in bytes; Linux only."""
    peak, allowed = _run(_MEMORY, features, dtype, jobs, size)
    return peak, allowed


class Start:
    """Seconds of a new process."""

    unit = "s"
    timeout = 600

    def track_import_beyond_numpy(self) -> float:
        return import_seconds("tpnum") - import_seconds("numpy")

    def track_first_call_warm(self) -> float:
        return first_call_seconds()

    def track_first_call_cold(self) -> float:
        return first_call_seconds(warm=False)


class Memory:
    """Bytes beyond inputs and outputs."""

    params = ((784, 64), ("float64", "float32"), (1, 2))
    param_names = ("features", "dtype", "jobs")
    unit = "bytes"

    def track_extra(self, features: int, dtype: str, jobs: int) -> float:
        return extra_memory(features, dtype, jobs)[0]
