"""What a layer costs an entry while its strip is in the first-level cache: no matrix product, no memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tpnum.lower.variances import Variances
from tpnum.tiles import inputs
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import make_worker

from .jobs import GET, HELD, net, variance_held

ROWS, PASSES, REPEATS = 64, 20, 15
STRIP = {"float64": 512, "float32": 1024}
NETS: dict[str, tuple[str, float, float | None]] = {
    "relu": ("Relu", 2**0.5, None),
    "relu with bias": ("Relu", 2**0.5, 0.1),
    "tanh, variance 0.6 to 1.2": ("Tanh", *HELD),
}


def _panel(name: str, depth: int, dtype: str) -> Any:
    """Return a job that runs one panel of ROWS x one strip through a net."""
    layer, weight, bias = NETS[name]
    x = variance_held(64, dtype, ROWS + STRIP[dtype])
    first, second = {"": x[:ROWS].copy()}, {"": x[ROWS:].copy()}
    plan = inputs.plan_of(net(depth, layer, weight, bias), first, second, GET)
    outs = {kind: np.empty((ROWS, STRIP[dtype]), dtype) for kind in GET}
    variances = Variances()
    profiles = plan.profiles(first, second, variances)
    worker = make_worker(plan, profiles, ArraySink(outs), np.dtype(dtype), None, variances)
    (tile,) = worker.tiles
    return lambda: [worker.tile(tile) for _ in range(PASSES)]


def nanoseconds(name: str, dtype: str, added: int = 5) -> float:
    """Return what each of `added` more layers costs an entry: least processor time of interleaved repeats."""
    jobs = [_panel(name, depth, dtype) for depth in (1 + added, 1)]
    least = [float("inf"), float("inf")]
    with one_blas_thread():
        for _ in range(REPEATS):
            for k, job in enumerate(jobs):
                begun = time.process_time()
                job()
                least[k] = min(least[k], time.process_time() - begun)
    return 1e9 * (least[0] - least[1]) / (added * PASSES * ROWS * STRIP[dtype])


class LayerInCache:
    """Nanoseconds an entry and layer, one thread."""

    params = (tuple(NETS), ("float64", "float32"))
    param_names = ("layer", "dtype")
    unit = "ns"

    def track_nanoseconds(self, name: str, dtype: str) -> float:
        return nanoseconds(name, dtype)
