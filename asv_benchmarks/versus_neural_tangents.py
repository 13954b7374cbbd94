"""Time tpnum beside neural_tangents, which gets a virtual environment of its own.

    python asv_benchmarks/versus_neural_tangents.py [--venv DIR] [job ...]

The peer runs in a process of its own that stays alive; repeats are interleaved: ours, theirs, ours, theirs.
Both sides build the net from the same description and get the same inputs, NNGP and NTK in one call, threads
as each likes; the peer's function is compiled by jax.jit and called once before it is timed.  A matrix is as
large as each side needs to be at its best, times are per entry of it, and the entries that both have are
compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from benchmarks.common import Ratio, Seconds, median, timed  # noqa: E402  (the tree beside this file is measured)

# the last versions that import together
PINS = ("neural_tangents==0.6.5", "jax==0.4.30", "jaxlib==0.4.30", "numpy==1.26.4", "scipy==1.13.1")

Layers = list[tuple[str, list[Any], dict[str, Any]]]


def dense(depth: int, layer: str = "Relu", weight: float = 2**0.5) -> Layers:
    """Return Dense and a nonlinearity, `depth` times, and a readout; every Dense has a bias."""
    made = ("Dense", [512], {"W_std": weight, "b_std": 0.1})
    return [*[made, (layer, [], {})] * depth, made]


def convolutional(head: str) -> Layers:
    """Return five 3 x 3 convolutions, each before a relu, then the head and a readout."""
    made = ("Conv", [512, [3, 3]], {"padding": "SAME", "W_std": 2**0.5, "b_std": 0.1})
    return [*[made, ("Relu", [], {})] * 5, (head, [], {}), ("Dense", [1], {})]


class Job(NamedTuple):
    """A net, the shape of its examples, how many of them, and the ratio promised by a clock.

    ``ours`` and ``theirs`` are examples of either side of the matrix, or one number: X against itself.
    """

    layers: Layers
    shape: tuple[int, ...]
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    promised: float | None
    clock: str = "cpu"


JOBS = {
    "relu3": Job(dense(3), (784,), (4096,), (4096,), 6.0),
    "relu10": Job(dense(10), (64,), (4096,), (4096,), 40.0),
    "tanh1": Job(dense(1, "Tanh", 1.0), (64,), (2048,), (2048,), 1500.0),
    "pooled32": Job(convolutional("GlobalAvgPool"), (32, 32, 3), (2, 64), (4, 4), 50.0, "wall"),
    "flat32": Job(convolutional("Flatten"), (32, 32, 3), (256, 256), (64, 64), 8.0, "wall"),
    "pooled8": Job(convolutional("GlobalAvgPool"), (8, 8, 1), (64, 64), (64, 64), None),
}

PEER = r"""
import json, sys, time
import jax, numpy as np
from neural_tangents import stax

def made(name, args, options):
    if name == "Tanh":
        return stax.ElementwiseNumerical(jax.numpy.tanh, 25)
    return getattr(stax, name)(*args, **options)

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job == "again":
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(*inputs))
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]), flush=True)
    else:
        layers, shape, sizes, dtype, shared = job
        kernel = stax.serial(*[made(*layer) for layer in layers])[2]
        function = jax.jit(lambda x, y=None: tuple(kernel(x, y, ("nngp", "ntk"))))
        inputs = [
            jax.numpy.asarray(np.random.default_rng(seed).standard_normal((size, *shape)).astype(dtype))
            for seed, size in enumerate(sizes)
        ]
        found = [np.asarray(k) for k in jax.block_until_ready(function(*inputs))]
        assert all(k.dtype == dtype for k in found), [k.dtype for k in found]
        print(json.dumps([k[:shared, :shared].tolist() for k in found]), flush=True)
"""
SHARED = 16
"""At most so many rows and columns are compared."""


class Peer:
    """The other library, in a process of its own, at one precision."""

    def __init__(self, python: Path, dtype: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"JAX_ENABLE_X64": str(int(dtype == "float64")), "JAX_PLATFORMS": "cpu"}
        self.dtype = dtype
        self._process = subprocess.Popen(
            [python, "-c", PEER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def ask(self, question: Any) -> Any:
        """Send one line, return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def environment(folder: Path) -> Path:
    """Return the Python of a virtual environment in `folder` that holds the peer, made if it is not there."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        print(f"installing {', '.join(PINS)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "-qq", *PINS], check=True)
    return python


def compare(name: str, peer: Peer, repeats: int) -> str:
    """Return one line of the table."""
    import numpy as np

    import tpnum as tp
    from tpnum import nn

    job = JOBS[name]
    net = nn.serial(*[getattr(nn, layer)(*args, **options) for layer, args, options in job.layers])
    inputs = [
        np.random.default_rng(seed).standard_normal((size, *job.shape)).astype(peer.dtype)
        for seed, size in enumerate(job.ours)
    ]
    out = {get: np.zeros((job.ours[0], job.ours[-1]), peer.dtype) for get in ("nngp", "ntk")}

    def ours() -> None:
        tp.kernel(net, *inputs, get=tuple(out), dtype=peer.dtype, out=out)

    ours()
    shared = min(*job.ours, *job.theirs, SHARED)
    theirs = peer.ask([job.layers, job.shape, job.theirs, peer.dtype, shared])
    apart = max(
        float(np.max(np.abs(mine[:shared, :shared] / np.array(yours) - 1)))
        for mine, yours in zip(out.values(), theirs, strict=True)
    )
    times: tuple[list[Seconds], list[Seconds]] = [], []
    for _ in range(repeats):
        times[0].append(timed(ours))
        times[1].append(Seconds(*peer.ask("again")))
    each = [
        Seconds(found.cpu / (sizes[0] * sizes[-1]), found.wall / (sizes[0] * sizes[-1]))
        for found, sizes in zip(map(median, times), (job.ours, job.theirs), strict=True)
    ]
    shown = "".join(f"{1e6 * one.cpu:>11.3g}{1e6 * one.wall:>11.3g}" for one in reversed(each))
    found = Ratio(each[1], each[0])
    verdict = ""
    if job.promised is not None:
        verdict = f"{job.promised:>8g}x {'ok' if found.by(job.clock) >= job.promised else 'MISSED'}"
    return f"{name + ', ' + peer.dtype:<20}{shown}{found.cpu:>9.1f}x{found.wall:>8.1f}x{apart:>9.0e}{verdict}"


def main() -> None:
    """Install, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", metavar="job", help=f"{', '.join(JOBS)} (default: all)")
    parser.add_argument("--venv", type=Path, help="keep the environment here (default: a temporary folder)")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if unknown := set(args.jobs) - set(JOBS):
        parser.error(f"unknown job {sorted(unknown)[0]}: choose from {', '.join(JOBS)}")

    with tempfile.TemporaryDirectory() if args.venv is None else nullcontext(args.venv) as folder:
        python = environment(Path(folder))
        print("microseconds a pair; ratios theirs / ours; largest relative difference; at least")
        print(f"{'':<20}{'theirs: cpu':>11}{'wall':>11}{'ours: cpu':>11}{'wall':>11}", end="")
        print(f"{'cpu':>10}{'wall':>9}{'apart':>9}")
        for dtype in ("float64", "float32"):
            peer = Peer(python, dtype)
            try:
                for name in args.jobs or JOBS:
                    print(compare(name, peer, args.repeats), flush=True)
            finally:
                peer.close()


if __name__ == "__main__":
    main()
