"""``tpnum warm``: compile what common nets need, once, so that later processes only load it."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.cli.doctor import cache_folder
from tpnum.tiles.driver import kernel

NONLINEARITIES = ("Relu", "LeakyRelu", "Abs", "Sign", "Erf", "Gelu", "Sin", "Exp", "Tanh", "Sigmoid")
_ARGUMENTS = {"LeakyRelu": {"alpha": 0.1}, "Exp": {"a": 1.0, "b": 0.3}}


def run(args: argparse.Namespace) -> None:
    """Run tiny kernels over the nonlinearities and dtypes, and tell what was compiled."""
    from numba.core import event

    start = time.perf_counter()
    x = np.random.default_rng(0).standard_normal((5, 3))
    with event.install_recorder("numba:compile") as recorder:
        for name in NONLINEARITIES:
            for dtype in ("float64", "float32"):
                kernel(_net(name), x, get=("nngp", "ntk"), dtype=dtype, n_jobs=1)
                kernel(_net(name), x, x[:2] + 1, get=("nngp", "ntk"), dtype=dtype, n_jobs=1)
    compiled = sum(1 for _, happening in recorder.buffer if happening.is_start)
    did = f"compiled {compiled} functions" if compiled else "nothing to compile"
    print(f"{did} in {time.perf_counter() - start:.1f} s; the cache is {cache_folder()}")


def _net(name: str) -> Any:
    layer = {"op": name, **_ARGUMENTS.get(name, {})}
    dense = {"op": "Dense", "out_dim": 1, "W_std": 1.2, "b_std": 0.1}
    return nn.from_spec({"op": "serial", "layers": [dense, layer, dense]})
