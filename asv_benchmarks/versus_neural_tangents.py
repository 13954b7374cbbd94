"""Time tpnum beside neural_tangents, which gets a virtual environment of its own.

    python asv_benchmarks/versus_neural_tangents.py [--venv DIR] [job ...]

The peer runs in a process of its own that stays alive; repeats are interleaved: ours, theirs, ours, theirs.
Both sides get the same inputs, X against X, NNGP and NTK in one call, threads as each likes; the peer's
function is compiled by jax.jit and called once before it is timed.
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
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

# the last versions that import together
PINS = ("neural_tangents==0.6.5", "jax==0.4.30", "jaxlib==0.4.30", "numpy==1.26.4", "scipy==1.13.1")

# job: size, features, depth, nonlinearity, W_std, b_std, the CPU ratio promised
JOBS: dict[str, tuple[int, int, int, str, float, float, float]] = {
    "relu3": (4096, 784, 3, "Relu", 2**0.5, 0.1, 6.0),
    "relu10": (4096, 64, 10, "Relu", 2**0.5, 0.1, 40.0),
    "tanh1": (2048, 64, 1, "Tanh", 1.0, 0.1, 1500.0),
}

PEER = r"""
import json, sys, time
import jax, numpy as np
from neural_tangents import stax

def net(depth, layer, weight, bias):
    nonlinearity = stax.ElementwiseNumerical(jax.numpy.tanh, 25) if layer == "Tanh" else stax.Relu()
    dense = lambda: stax.Dense(512, W_std=weight, b_std=bias)
    layers = []
    for _ in range(depth):
        layers += [dense(), nonlinearity]
    return stax.serial(*layers, dense())[2]

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job == "again":
        wall, cpu = time.perf_counter(), time.process_time()
        done = jax.block_until_ready(function(x))
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall]), flush=True)
    else:
        size, features, depth, layer, weight, bias, dtype = job
        kernel = net(depth, layer, weight, bias)
        function = jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))
        x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((size, features)).astype(dtype))
        done = [np.asarray(k) for k in jax.block_until_ready(function(x))]
        assert all(k.dtype == dtype for k in done), [k.dtype for k in done]
        print(json.dumps([[float(k[0, 1]), float(k[0, -1])] for k in done]), flush=True)
"""


class Peer:
    """The other library, in a process of its own, at one precision."""

    def __init__(self, python: Path, dtype: str, program: str = PEER) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"JAX_ENABLE_X64": str(int(dtype == "float64")), "JAX_PLATFORMS": "cpu"}
        self.dtype = dtype
        self._process = subprocess.Popen(
            [python, "-c", program],
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
    from benchmarks.common import Ratio, Seconds, median, timed
    from benchmarks.jobs import gram, inputs, net

    size, features, depth, layer, weight, bias, promised = JOBS[name]
    x = inputs(features, peer.dtype, size)
    ours = gram(net(depth, layer, weight, bias), x)
    found = ours()
    theirs = peer.ask([size, features, depth, layer, weight, bias, peer.dtype])
    apart = max(
        abs(float(k[place]) / value - 1)
        for k, values in zip(found, theirs, strict=True)
        for place, value in zip(((0, 1), (0, -1)), values, strict=True)
    )
    mine, yours = [], []
    for _ in range(repeats):
        mine.append(timed(ours))
        yours.append(Seconds(*peer.ask("again")))
    both = Ratio(median(yours), median(mine))
    verdict = "ok" if both.cpu >= promised else "MISSED"
    what = f"{layer.lower()} depth {depth}, N={size}, d={features}, {peer.dtype}"
    times = "".join(f"{1e3 * t.cpu:>11.1f}{1e3 * t.wall:>9.1f}" for t in (both.candidate, both.floor))
    return f"{what:<42}{times}{both.cpu:>9.1f}x{both.wall:>8.1f}x{promised:>8g}x {verdict:<7}{apart:>9.0e}"


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
        print(f"{'':<42}{'theirs: cpu':>11}{'wall':>9}{'ours: cpu':>11}{'wall':>9}", end="")
        print(f"{'cpu':>10}{'wall':>9}{'at least':>9}{'apart':>17}   (ms; ratios; relative difference)")
        for dtype in ("float64", "float32"):
            peer = Peer(python, dtype)
            try:
                for name in args.jobs or JOBS:
                    print(compare(name, peer, args.repeats), flush=True)
            finally:
                peer.close()


if __name__ == "__main__":
    main()
