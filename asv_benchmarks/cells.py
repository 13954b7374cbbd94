"""Gated cells beside orthant probabilities: python asv_benchmarks/cells.py [steps ...].

A state of a GRU is the sum of what its steps have added, times products of gates.  Where gates are normal
distribution functions the mean of a product of gates is an orthant probability, of as many dimensions as
there are gates: SciPy's, one for every pair of steps, are timed at three digits of the sum.

Processor time on one thread.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from benchmarks.common import timed  # noqa: E402
from scipy.stats import multivariate_normal  # noqa: E402

import tpnum as tp  # noqa: E402
from tpnum import nn  # noqa: E402

FEATURES, SEQUENCES = 3, 8
ORTHANTS = 12
"""Orthant probabilities that are timed: the time of all of them is told from theirs."""

CELLS: dict[str, nn.Layer] = {
    "GRU": nn.Gru(8, b_std=0.1, return_sequences=False),
    "GRU, reset before": nn.Gru(
        8, nn.Erf(), "sigmoid_like", b_std=0.1, reset_after=False, return_sequences=False
    ),
    "LSTM": nn.Lstm(8, b_std=0.1, return_sequences=False),
}


def inputs(count: int, steps: int) -> np.ndarray:
    """Random sequences."""
    return np.random.default_rng(0).standard_normal((count, steps, FEATURES))


def pair(cell: nn.Layer, steps: int, get: str, count: int) -> tuple[float, float]:
    """Return seconds a pair and the largest standard error, as a part of the root of both variances."""
    x = inputs(count, steps)

    def run() -> tuple[np.ndarray, np.ndarray]:
        made = tp.kernel(cell, x, get=get, error=True, n_jobs=1)
        return made.kernel, made.error

    value, error = run()
    seconds = min(timed(run).cpu for _ in range(2))
    root = np.sqrt(value.diagonal())
    return seconds / (count * (count + 1) / 2), float(np.max(error / np.multiply.outer(root, root)))


def orthants(steps: int) -> tuple[float, float]:
    """Return seconds that a pair of sequences takes by orthant probabilities: of the last states, of all.

    The law of a step's gates is the covariances of the states before, so that all of them are needed.
    """
    x = inputs(1, steps)
    every = nn.Gru(8, nn.Erf(), "sigmoid_like", b_std=0.1, reset_after=False)
    states = np.asarray(tp.kernel(every, x, n_jobs=1)).reshape(steps, steps)
    cov = x[0] @ x[0].T / FEATURES + 0.01
    cov[1:, 1:] += states[:-1, :-1]
    rng = np.random.default_rng(0)

    def mean(parts: np.ndarray) -> float:
        """Seconds of one: of what step i added to the state behind step t, in both sequences."""
        return float(
            np.mean(
                [_seconds(cov, parts[k], parts[m]) for k, m in rng.integers(0, len(parts), (ORTHANTS, 2))]
            )
        )

    parts = np.array([(i, t) for t in range(1, steps + 1) for i in range(t)])
    return mean(parts[-steps:]) * steps**2, mean(parts) * len(parts) ** 2


def _seconds(cov: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Return those of E (1 - z_i) z_i+1 .. z_t of both, z = P(a normal of variance 1/2 is below)."""
    gates = np.array([*range(*one), *range(*other)])
    sign = np.where(np.isin(np.arange(gates.size), (0, one[1] - one[0])), -1.0, 1.0)
    law = sign[:, None] * sign * cov[np.ix_(gates, gates)] + 0.5 * np.eye(gates.size)
    zero = np.zeros(gates.size)
    few = multivariate_normal.cdf(zero, zero, law, maxpts=1000, abseps=1.0)
    close = 1e-3 * max(few, 1e-3)  # what is less than a thousandth does not matter
    return timed(
        lambda: multivariate_normal.cdf(zero, zero, law, maxpts=10**8, abseps=close, releps=1e-3)
    ).cpu


def rows(steps: int) -> Iterator[str]:
    """Yield the table of so many steps."""
    found = {}
    for name, cell in CELLS.items():
        for get in ("nngp", "ntk"):
            found[name, get], error = pair(cell, steps, get, SEQUENCES if get == "nngp" else 2)
            yield f"{f'{name}, {get}, {steps} steps':<44}{found[name, get]:>10.3f} s a pair{error:>10.1e}"
    yield f"{'LSTM / GRU, nngp':<44}{found['LSTM', 'nngp'] / found['GRU', 'nngp']:>10.2f} x"
    if steps <= 16:
        for what, seconds in zip(("the last states", "all states"), orthants(steps), strict=True):
            ratio = seconds / found["GRU, reset before", "nngp"]
            name = f"orthants of {what}, {steps} steps, to 1e-3"
            yield f"{name:<44}{seconds:>10.1f} s a pair{ratio:>9.0f} x"


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    for steps in map(int, sys.argv[1:] or ("16",)):
        for line in rows(steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
