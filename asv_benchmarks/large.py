"""Kernel regression without the matrix: python asv_benchmarks/large.py [--examples 50000] [--features 100].

Conjugate gradients to a residual of 1e-6 on (K + noise) w = y through `tp.operator`, plain and beside a
pivoted Cholesky factor of rank 500 (`predict.iterative_posterior`); time, steps, and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import nn, predict

NOISE = 0.1
RTOL = 1e-6


def timed(name: str, call: Callable[[], Any], said: Callable[[Any], str] = lambda _: "") -> Any:
    """What a call gives; its time is printed."""
    begun, busy = time.perf_counter(), time.process_time()
    made = call()
    wall, busy = time.perf_counter() - begun, time.process_time() - busy
    print(f"{name}: {said(made)}{wall:.1f} s ({busy:.1f} s of processors)", flush=True)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--rank", type=int, default=500)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float32", help="of the tiles")
    parser.add_argument("--product", action="store_true", help="one product with the matrix, and no more")
    given = parser.parse_args()
    layers = [layer for _ in range(2) for layer in (nn.Dense(1, W_std=1.4, b_std=0.1), nn.Relu())]
    net = nn.serial(*layers, nn.Dense(1))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((given.examples, given.features))
    y = np.sin(x[:, 0]) + np.sqrt(NOISE) * rng.standard_normal(given.examples)
    tp.kernel(net, x[:2], dtype=given.dtype)  # compiled
    k = tp.operator(net, x, dtype=given.dtype)
    timed("one product", lambda: k @ y)
    if not given.product:
        options = {"noise": NOISE, "rtol": RTOL, "dtype": given.dtype}
        gp = timed(
            f"beside a factor of rank {given.rank}, which is made first",
            lambda: predict.iterative_posterior(net, x, y, rank=given.rank, **options),
            lambda gp: f"{gp.steps} steps, ",
        )
        timed(
            "plain",
            lambda: predict.conjugate_gradients(gp.operator(), y, rtol=RTOL),
            lambda found: f"{found.steps} steps, ",
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at its peak: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
