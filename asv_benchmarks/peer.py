"""Time convolutional and dense nets, a pair of examples, beside neural_tangents in the same minutes.

    python asv_benchmarks/peer.py PYTHON [job ...]

PYTHON is the interpreter of an environment that has the peer, as in

    python -m venv /tmp/peer
    /tmp/peer/bin/pip install neural_tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 numpy==1.26.4 scipy==1.13.1

Both sides build the net from the same description and get the same images, NNGP and NTK in one call, threads
as each likes; the peer's function is compiled by jax.jit and called before it is timed.  Repeats are
interleaved: ours, theirs, ours, theirs.  A matrix is as large as each side needs to be at its best, times are
per entry of it, and the entries that both have are compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from benchmarks.common import Seconds, median, timed  # noqa: E402  (the tree beside this file is measured)
from versus_neural_tangents import Peer  # noqa: E402

Layers = list[tuple[str, list[Any], dict[str, Any]]]


class Job(NamedTuple):
    """A net, the shape of its examples, matrices of either side, and the ratio of wall times promised."""

    layers: Layers
    shape: tuple[int, ...]
    ours: tuple[int, int]
    theirs: tuple[int, int]
    promised: float | None


WEIGHTS = {"W_std": 2**0.5, "b_std": 0.1}


def convolutional(head: str) -> Layers:
    """Return five 3 x 3 convolutions, each before a relu, then the head and a readout."""
    conv = ("Conv", [512, [3, 3]], {"padding": "SAME", **WEIGHTS})
    return [*[conv, ("Relu", [], {})] * 5, (head, [], {}), ("Dense", [1], {})]


def dense(depth: int) -> Layers:
    """Return Dense and Relu, `depth` times, and a readout."""
    return [*[("Dense", [512], WEIGHTS), ("Relu", [], {})] * depth, ("Dense", [1], {})]


JOBS = {
    "pooled32": Job(convolutional("GlobalAvgPool"), (32, 32, 3), (2, 64), (4, 4), 50.0),
    "flat32": Job(convolutional("Flatten"), (32, 32, 3), (256, 256), (64, 64), 8.0),
    "pooled8": Job(convolutional("GlobalAvgPool"), (8, 8, 1), (64, 64), (64, 64), None),
    "dense3": Job(dense(3), (784,), (2048, 2048), (2048, 2048), None),
}

PROGRAM = r"""
import json, sys, time
import jax, numpy as np
from neural_tangents import stax

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job == "again":
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(x, y))
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]), flush=True)
    else:
        layers, shape, sizes, dtype, shared = job
        kernel = stax.serial(*[getattr(stax, name)(*args, **options) for name, args, options in layers])[2]
        function = jax.jit(lambda x, y: tuple(kernel(x, y, ("nngp", "ntk"))))
        x, y = (
            jax.numpy.asarray(np.random.default_rng(seed).standard_normal((size, *shape)).astype(dtype))
            for seed, size in enumerate(sizes)
        )
        made = [np.asarray(k) for k in jax.block_until_ready(function(x, y))]
        assert all(k.dtype == dtype for k in made), [k.dtype for k in made]
        print(json.dumps([k[:shared, :shared].tolist() for k in made]), flush=True)
"""


def compare(name: str, peer: Peer, repeats: int) -> str:
    """Return one line of the table."""
    import numpy as np

    import tpnum as tp
    from tpnum import nn

    job = JOBS[name]
    net = nn.serial(*[getattr(nn, layer)(*args, **options) for layer, args, options in job.layers])
    x, y = (
        np.random.default_rng(seed).standard_normal((size, *job.shape)).astype(peer.dtype)
        for seed, size in enumerate(job.ours)
    )
    shared = min(*job.ours, *job.theirs)
    theirs = peer.ask([job.layers, job.shape, job.theirs, peer.dtype, shared])
    found: list[Any] = []

    def ours() -> None:
        found[:] = tp.kernel(net, x, y, get=("nngp", "ntk"), dtype=peer.dtype)

    ours()
    apart = max(
        float(np.max(np.abs(mine[:shared, :shared] / np.array(yours) - 1)))
        for mine, yours in zip(found, theirs, strict=True)
    )
    times: tuple[list[Seconds], list[Seconds]] = [], []
    for _ in range(repeats):
        times[0].append(timed(ours))
        times[1].append(Seconds(*peer.ask("again")))
    each = [
        Seconds(found.cpu / (n * m), found.wall / (n * m))
        for found, (n, m) in zip(map(median, times), (job.ours, job.theirs), strict=True)
    ]
    shown = "".join(f"{1e6 * one.cpu:>13.4g}{1e6 * one.wall:>11.4g}" for one in reversed(each))
    cpu, wall = each[1].cpu / each[0].cpu, each[1].wall / each[0].wall
    verdict = (
        "" if job.promised is None else f"{job.promised:>8g}x {'ok' if wall >= job.promised else 'MISSED'}"
    )
    return f"{name + ', ' + peer.dtype:<20}{shown}{cpu:>9.1f}x{wall:>8.1f}x{apart:>9.0e}{verdict}"


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "python", type=Path, metavar="PYTHON", help="interpreter that imports neural_tangents"
    )
    parser.add_argument("jobs", nargs="*", metavar="job", help=f"{', '.join(JOBS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.jobs) - set(JOBS):
        parser.error(f"unknown job {sorted(unknown)[0]}: choose from {', '.join(JOBS)}")

    print(
        "microseconds a pair, NNGP and NTK; ratios theirs / ours; largest relative difference; wall at least"
    )
    head = f"{'theirs: cpu':>13}{'wall':>11}{'ours: cpu':>13}{'wall':>11}{'cpu':>10}{'wall':>9}{'apart':>9}"
    print(f"{'':<20}{head}")
    for dtype in ("float64", "float32"):
        peer = Peer(args.python, dtype, PROGRAM)
        try:
            for name in args.jobs or JOBS:
                print(compare(name, peer, args.repeats), flush=True)
        finally:
            peer.close()


if __name__ == "__main__":
    main()
