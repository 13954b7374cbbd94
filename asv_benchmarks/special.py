"""Special Gaussian integrals beside what there was: python asv_benchmarks/special.py.

Processor time on one BLAS thread, interleaved repeats; a ratio above one says how much faster tpnum is.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from benchmarks.common import interleaved  # noqa: E402
from scipy.stats import multivariate_normal  # noqa: E402

from tpnum.gauss import special  # noqa: E402
from tpnum.gauss.points import point_sets  # noqa: E402
from tpnum.gauss.special.randomised import SETS  # noqa: E402
from tpnum.kernels.softmax import softmax_sums  # noqa: E402

Row = tuple[str, float, str, float]


def laws(count: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Random means and covariances."""
    rng = np.random.default_rng(d)
    root = rng.standard_normal((count, d, d + 1))
    return 0.5 * rng.standard_normal((count, d)), root @ root.transpose(0, 2, 1) / d


def row(what: str, ours: Callable[[], object], count: int, theirs: Callable[[], object], others: int) -> Row:
    """Return nanoseconds a problem of ours, and how many times longer theirs take."""
    one, other = interleaved(ours, theirs, repeats=3)
    return what, 1e9 * one.cpu / count, "ns", (other.cpu / others) / (one.cpu / count)


def distribution() -> Iterator[Row]:
    """Yield P(Z <= upper) against SciPy's function in a loop, at its accuracy of about 1e-5."""
    for d, count, few in ((2, 20_000, 50), (3, 5_000, 50), (4, 1_000, 10), (6, 100, 4), (8, 50, 4)):
        mean, cov = laws(count, d)

        def loop(mean: np.ndarray = mean, cov: np.ndarray = cov, few: int = few) -> None:
            for i in range(few):
                multivariate_normal.cdf(np.zeros(mean.shape[1]), mean[i], cov[i])

        atol = 1e-6 if d <= 4 else 5e-5
        yield row(
            f"normal_cdf, d = {d}", lambda m=mean, c=cov, a=atol: special.normal_cdf(0.0, m, c, atol=a),
            count, loop, few,
        )  # fmt: skip


def softmax() -> Iterator[Row]:
    """Yield one sample of the whole T x T block against NumPy on the same points."""
    for tokens in (4, 8, 16):
        d, log2 = 2 * tokens, 11
        _, cov = laws(1, d)
        factor = np.linalg.cholesky(cov)
        z = np.ascontiguousarray(point_sets(d, log2, 1 << log2, range(SETS)).transpose(1, 0, 2))
        weight = np.full(1 << log2, 0.5**log2)
        out = np.empty((1, SETS, d + tokens * tokens))

        def plain(z: np.ndarray = z, factor: np.ndarray = factor[0], tokens: int = tokens) -> None:
            for points in z:
                x = factor @ points
                a, b = np.exp(x[:tokens]), np.exp(x[tokens:])
                (a / a.sum(axis=0)) @ (b / b.sum(axis=0)).T

        mean, samples = np.zeros((1, d)), SETS << log2

        def ours(a: tuple[object, ...] = (mean, factor, tokens, z, weight, out)) -> None:
            softmax_sums(*a)

        yield row(f"softmax block, one sample, T = {tokens}", ours, samples, plain, samples)


def maxima() -> Iterator[Row]:
    """Yield E[max u max v] against plain sampling with 10^5 points (about three digits)."""
    for window, count, atol in ((2, 5_000, 1e-9), (3, 100, 1e-9), (4, 20, 3e-3)):
        mean, cov = laws(count, 2 * window)

        def plain(window: int = window, mean: np.ndarray = mean[0], cov: np.ndarray = cov[0]) -> None:
            rng = np.random.default_rng(0)
            u = mean[:, None] + np.linalg.cholesky(cov) @ rng.standard_normal((2 * window, 100_000))
            np.mean(u[:window].max(axis=0) * u[window:].max(axis=0))

        yield row(
            f"max_second, windows of {window}, atol {atol:g}",
            lambda m=mean, c=cov, a=atol: special.max_second(m, c, atol=a), count, plain, 1,
        )  # fmt: skip


def batches() -> Iterator[Row]:
    """Yield E relu(BN) relu(BN)' to 1e-9 against plain sampling with 10^4 points (two digits)."""
    for size in (8, 64):
        _, cov = laws(1, 2 * size)

        def plain(size: int = size, cov: np.ndarray = cov[0]) -> None:
            rng = np.random.default_rng(0)
            y = np.linalg.cholesky(cov) @ rng.standard_normal((2 * size, 10_000))
            for part in (y[:size], y[size:]):
                part -= part.mean(axis=0)
                part /= np.sqrt(np.mean(part**2, axis=0))
            np.maximum(y, 0.0, out=y)
            y[:size] @ y[size:].T

        one = cov[:, :size, :size]
        yield row(f"batchnorm, B = {size}", lambda c=one: special.batchnorm(c), 1, plain, 1)
        yield row(f"batchnorm_pair, B = {size}", lambda c=cov: special.batchnorm_pair(c), 1, plain, 1)


def main() -> None:
    """Measure everything."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.simplefilter("ignore")
    print(f"{'':<42}{'one takes':>14}   {'times faster':>12}")
    for part in (distribution, softmax, maxima, batches):
        for what, value, unit, ratio in part():
            scale, name = (1.0, unit) if value < 1e3 else (1e-3, "us") if value < 1e6 else (1e-6, "ms")
            print(f"{what:<42}{value * scale:>11.1f} {name}   {ratio:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
