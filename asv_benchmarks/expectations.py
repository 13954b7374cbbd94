"""tp.expect beside SciPy, on one thread: python asv_benchmarks/expectations.py.

A batch of 10^4 smooth two-dimensional integrals at 1e-8 against a loop over `scipy.integrate.dblquad` with
the density written out in Python floats, as one would; kinked and jumping integrands with what they cost;
first calls in new processes.  Processor time, interleaved repeats.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from benchmarks.common import interleaved, timed  # noqa: E402
from scipy.integrate import dblquad  # noqa: E402

import tpnum as tp  # noqa: E402

COUNT, FEW = 10_000, 24
RTOL = 1e-8
REACH = 8.0


@dataclass(frozen=True)
class Case:
    """An integrand for arrays and the same for two floats."""

    name: str
    f: Callable[..., np.ndarray]
    scalar: Callable[[float, float], float]


CASES = (
    Case("tanh u tanh v", lambda u, v: np.tanh(u) * np.tanh(v), lambda u, v: math.tanh(u) * math.tanh(v)),
    Case("v^2 cos u", lambda u, v: np.cos(u) * v * v, lambda u, v: math.cos(u) * v * v),
    Case(
        "log(1 + e^(u+v))", lambda u, v: np.logaddexp(0.0, u + v),
        lambda u, v: max(u + v, 0.0) + math.log1p(math.exp(-abs(u + v))),
    ),
    Case(
        "u sigmoid(v)", lambda u, v: u / (1.0 + np.exp(-v)), lambda u, v: u / (1.0 + math.exp(-v)),
    ),
)  # fmt: skip

ROUGH = {
    "relu u relu v": lambda u, v: np.maximum(u, 0.0) * np.maximum(v, 0.0),
    "max(u, v)": np.maximum,
    "1{u > 0} 1{v > 0}": lambda u, v: (u > 0) & (v > 0),
    "sin 30 u |v|": lambda u, v: np.sin(30.0 * u) * np.abs(v),
}

FIRST = {
    "a named function": "tp.expect('gelu', 0.0, 1.3)",
    "a user's function": "tp.expect(lambda u, v: np.tanh(u) * v * v, [0, 0], [[1, 0.3], [0.3, 1]])",
    "the dual of a user's function": "tp.dual(lambda u: np.tanh(u) * np.cos(u))(1, 1.3, np.linspace(-1, 1))",
    "a jitted function of numbers": "tp.expect(f, [0, 0], [[1, 0.3], [0.3, 1]])",
}


def laws() -> np.ndarray:
    """Covariances (COUNT, 2, 2), variances in [0.5, 1.5], correlations in [-0.95, 0.95]."""
    rng = np.random.default_rng(0)
    q = rng.uniform(0.5, 1.5, (2, COUNT))
    c = rng.uniform(-0.95, 0.95, COUNT) * np.sqrt(q[0] * q[1])
    return np.moveaxis(np.array([[q[0], c], [c, q[1]]]), -1, 0)


def loop(f: Callable[[float, float], float], covs: np.ndarray) -> list[float]:
    """E f by dblquad, one covariance after another."""
    made = []
    for cov in covs:
        (p, r), (_, s) = np.linalg.inv(cov).tolist()
        scale = 2.0 * math.pi * math.sqrt(np.linalg.det(cov))
        a, b = (REACH * math.sqrt(q) for q in np.diag(cov).tolist())

        def density(
            v: float, u: float, p: float = p, r: float = r, s: float = s, scale: float = scale
        ) -> float:
            return f(u, v) * math.exp(-0.5 * (p * u * u + 2.0 * r * u * v + s * v * v)) / scale

        made.append(dblquad(density, -a, a, -b, b, epsabs=RTOL, epsrel=RTOL)[0])
    return made


def against_dblquad() -> None:
    """Print how many times faster a batch is."""
    covs = laws()
    print(f"{COUNT} integrals over two Gaussians at {RTOL:g}")
    print(f"{'':<44}{'us each':>9}{'dblquad / tpnum':>20}{'difference':>13}")
    for case in CASES:
        ours, theirs = interleaved(
            lambda f=case.f: tp.expect(f, np.zeros(2), covs, rtol=RTOL),
            lambda f=case.scalar: loop(f, covs[:FEW]), repeats=3,
        )  # fmt: skip
        each, other = ours.cpu / COUNT, theirs.cpu / FEW
        off = tp.expect(case.f, np.zeros(2), covs[:FEW], rtol=RTOL).value - loop(case.scalar, covs[:FEW])
        print(f"{case.name:<44}{1e6 * each:>9.1f}{other / each:>20.0f}{np.max(np.abs(off)):>13.0e}")


def rough() -> None:
    """Print what kinks, jumps and waves cost."""
    cov = [[1.0, 0.6], [0.6, 1.2]]
    print("\nrough integrands, one at a time                  rtol      ms   evaluations   error estimate")
    for name, f in ROUGH.items():
        for rtol in (1e-6, 1e-10):
            made = tp.expect(f, [0.0, 0.0], cov, rtol=rtol)
            taken = timed(lambda f=f, rtol=rtol: tp.expect(f, [0.0, 0.0], cov, rtol=rtol))
            print(f"{name:<46}{rtol:>7.0e}{1e3 * taken.cpu:>8.0f}{made.cost:>14}{float(made.error):>17.0e}")


def first_calls() -> None:
    """Print the processor time of a first call in a new process, imports apart, and of the second."""
    print("\nnew process                                     first call, s    second, s")
    for name, call in FIRST.items():
        script = (
            "import time, numpy as np, numba, scipy.special, scipy.stats, tpnum as tp\n"
            "f = numba.njit(lambda u, v: u * v if u > 0 else np.tanh(v))\n"
            "for _ in range(2):\n"
            f"    begun = time.process_time(); {call}; print(time.process_time() - begun)\n"
        )
        made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        first, second = map(float, made.stdout.split())
        print(f"{name:<46}{first:>14.2f}{second:>13.4f}")


def main() -> None:
    """Measure everything."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.simplefilter("ignore")
    against_dblquad()
    rough()
    first_calls()


if __name__ == "__main__":
    main()
