"""Kernel regression without the matrix: python asv_benchmarks/large.py [--examples 50000] [--features 100].

Conjugate gradients to a residual of 1e-6 on (K + noise) w = y with `tp.operator`, plain and beside a partial
Cholesky factor of rank 500; time, steps, and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.sparse.linalg import LinearOperator

import tpnum as tp
from tpnum import nn, predict

NOISE = 0.1
RTOL = 1e-6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--rank", type=int, default=500)
    given = parser.parse_args()
    net = nn.serial(
        nn.Dense(1, W_std=1.4, b_std=0.1),
        nn.Relu(),
        nn.Dense(1, W_std=1.4, b_std=0.1),
        nn.Relu(),
        nn.Dense(1),
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((given.examples, given.features))
    y = np.sin(x[:, 0]) + np.sqrt(NOISE) * rng.standard_normal(given.examples)
    k = tp.operator(net, x)
    a = LinearOperator(
        k.shape, matvec=lambda v: k @ v + NOISE * v, matmat=lambda v: k @ v + NOISE * v, dtype=float
    )
    begun, busy = time.perf_counter(), time.process_time()
    _ = k @ y
    wall, busy = time.perf_counter() - begun, time.process_time() - busy
    print(f"one product: {wall:.1f} s ({busy:.1f} s of processors)", flush=True)

    def solve(name: str, near: object) -> None:
        begun, busy = time.perf_counter(), time.process_time()
        made = predict.conjugate_gradients(a, y, near=near, rtol=RTOL)
        wall, busy = time.perf_counter() - begun, time.process_time() - busy
        print(f"{name}: {made.steps} steps, {wall:.0f} s ({busy:.0f} s of processors)", flush=True)

    begun, busy = time.perf_counter(), time.process_time()
    near = predict.pivoted_cholesky(
        tp.kernel(net, x, diag=True), lambda i: tp.kernel(net, x[i], x), NOISE, given.rank
    )
    wall, busy = time.perf_counter() - begun, time.process_time() - busy
    print(f"factor of rank {near.rank}: {wall:.0f} s ({busy:.0f} s of processors)", flush=True)
    solve(f"beside a factor of rank {near.rank}", near)
    solve("plain", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at its peak: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
