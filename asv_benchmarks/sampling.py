"""Sampling of Gaussian expectations, as a table: python asv_benchmarks/sampling.py [randomisations].

First variances over independent randomisations, each as a multiple of the variance that plain Monte Carlo has
at as many evaluations of f (pilots counted), and the standard error of method="auto" over the better of the
two methods.  Then processor time, interleaved, beside SciPy's `qmc_quad` at equal error.
"""

from __future__ import annotations

import argparse
import math
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
from scipy.integrate import qmc_quad  # noqa: E402
from scipy.special import ndtri  # noqa: E402
from scipy.stats import qmc  # noqa: E402

import tpnum as tp  # noqa: E402
from tests.oracle.integrands import INTEGRANDS, Integrand  # noqa: E402
from tpnum.gauss.controls import control_variates  # noqa: E402
from tpnum.gauss.points import normal_points  # noqa: E402
from tpnum.gauss.sampling import SCRAMBLES, sobol  # noqa: E402

NEVER = 1e-15
STUDENT = 2.3646
SMALL, LARGE = 12, 15
"""log2 of all evaluations of f; the larger are eight scrambled sets of 2^12 points."""


def factor_of(cov: np.ndarray) -> np.ndarray:
    """Principal axes first."""
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.maximum(values, 0.0)))[..., ::-1]


def blockwise(row: Integrand) -> Callable[[np.ndarray], np.ndarray]:
    """Return f as the samplers call it."""

    def f_at(u: np.ndarray) -> np.ndarray:
        return row.f(*(u[:, k].reshape(-1) for k in range(row.d))).reshape(u.shape[0], 1, -1)

    return f_at


def variance_of(row: Integrand) -> float:
    """Var f, from 2^18 points."""
    factor, moments = np.linalg.cholesky(row.cov), []
    for scramble in range(1000, 1016):
        f = row.f(*(row.mean[:, None] + factor @ normal_points(row.d, 14, scramble)))
        moments.append((f.mean(), np.mean(f**2)))
    first, second = np.mean(moments, axis=0)
    return float(second - first**2)


def replicates(sampler: Callable[..., tuple], row: Integrand, log2: int, count: int) -> np.ndarray:
    """Return (value, error, evaluations) of independent randomisations, (count, 3)."""
    factor = factor_of(row.cov)[None]
    made = [sampler(blockwise(row), row.mean[None], factor, NEVER, 1 << log2, seed) for seed in range(count)]
    return np.array([(value[0, 0], error[0, 0], cost) for value, error, _, cost in made])


def variances(count: int) -> None:
    """Print the table of the twelve integrands."""
    print(f"variance of plain Monte Carlo over that of the method, {count} randomisations, and the share of")
    print("95 % errors that cover the truth")
    heads = ("controls", "Sobol", "auto / better, s.e.", "covered: controls", "Sobol")
    print(f"{'':<25}" + "".join(f"  {head:^18}" for head in heads))
    print(f"{'evaluations':<25}" + "".join(f"  {'2^' + str(n):>8}" for n in (SMALL, LARGE) * 5))
    covered = np.zeros(4)
    for row in INTEGRANDS:
        made = np.stack(
            [replicates(s, row, n, count) for s in (control_variates, sobol) for n in (SMALL, LARGE)]
        )
        variance = np.var(made[:, :, 0], axis=1, ddof=1) * made[:, 0, 2]  # of one evaluation
        auto = np.sqrt(np.maximum(variance[2:] / variance[:2], 1.0))  # it takes Sobol points
        inside = np.mean(np.abs(made[:, :, 0] - made[3, :, 0].mean()) <= made[:, :, 1], axis=1)
        covered += inside / len(INTEGRANDS)
        cells = "".join(f"  {x:>8.1f}" for x in variance_of(row) / variance)
        cells += "".join(f"  {x:>8.2f}" for x in (*auto, *inside))
        print(f"{row.name:<22}{row.d:>3}{cells}", flush=True)
    print(f"{'':<85}" + "".join(f"  {x:>8.2f}" for x in covered))


def scipy_quad(row: Integrand, cov: np.ndarray, n: int, seed: int | None = None) -> tuple[float, float]:
    """Return the value and standard error of SciPy's function, through the inverse normal and Cholesky."""
    factor = np.linalg.cholesky(cov)

    def on_cube(x: np.ndarray) -> np.ndarray:
        return row.f(*(row.mean[:, None] + factor @ ndtri(x)))

    rule = None if seed is None else qmc.Halton(row.d, rng=np.random.default_rng(seed))
    made = qmc_quad(on_cube, np.zeros(row.d), np.ones(row.d), n_estimates=SCRAMBLES, n_points=n, qrng=rule)
    return float(made.integral), float(made.standard_error)


def points_for(row: Integrand, deviation: float) -> int:
    """Return SciPy's n_points at which its standard error is ``deviation``, between powers of two."""
    last, n = math.inf, 128
    while True:
        made = math.sqrt(np.mean([scipy_quad(row, row.cov, n, seed)[1] ** 2 for seed in range(6)]))
        if made <= deviation or n >= 1 << 19:
            break
        last, n = made, 2 * n
    if made >= last or math.isinf(last):
        return n
    return int(n / 2 * 2 ** (math.log(last / deviation) / math.log(last / made)))


def beside_scipy(rtol: float = 5e-4, batch: int = 64) -> Iterator[tuple[str, float, int, float]]:
    """Yield (what, milliseconds an expectation takes, SciPy's points, times faster) in eight dimensions."""
    for row in (row for row in INTEGRANDS if row.d == 8):
        made = tp.expect(row.f, row.mean, row.cov, method="qmc", rtol=rtol)
        again = replicates(sobol, row, (made.cost // SCRAMBLES).bit_length() + 2, 12)[:, 1]
        n = points_for(row, math.sqrt(np.mean(np.square(again))) / STUDENT)
        ours, theirs = interleaved(
            lambda row=row: tp.expect(row.f, row.mean, row.cov, method="qmc", rtol=rtol),
            lambda row=row, n=n: scipy_quad(row, row.cov, n),
            repeats=3,
        )
        yield row.name, 1e3 * ours.cpu, n, theirs.cpu / ours.cpu
        shrink = np.linspace(0.8, 1.2, batch)[:, None, None]
        ours, theirs = interleaved(
            lambda row=row, c=shrink * row.cov: tp.expect(row.f, row.mean, c, method="qmc", rtol=rtol),
            lambda row=row, n=n: [scipy_quad(row, s * row.cov, n) for s in (0.9, 1.1)],
            repeats=3,
        )
        yield (
            f"{row.name}, {batch} covariances",
            1e3 * ours.cpu / batch,
            n,
            theirs.cpu / 2 / (ours.cpu / batch),
        )


def overheads() -> Iterator[tuple[str, int, float]]:
    """Yield nanoseconds a point and coordinate of the samplers themselves: f returns what it had ready."""
    ready = np.ones(1 << 16)
    for d in (4, 8, 16):
        rng = np.random.default_rng(d)
        factor = rng.standard_normal((64, d, d)) / np.sqrt(d)
        for name, sampler, count in (("Sobol", sobol, 64), ("controls", control_variates, 4)):

            def f_at(u: np.ndarray) -> np.ndarray:
                n = u.shape[0] * u.shape[2]
                return (ready[:n] if sampler is sobol else u[:, 0] * u[:, 1]).reshape(u.shape[0], 1, -1)  # noqa: B023

            def action(sampler: Callable[..., tuple] = sampler, count: int = count) -> int:
                return sampler(f_at, np.zeros((count, d)), factor[:count], NEVER, 1 << 15)[3]  # noqa: B023

            cost = action()
            yield name, d, 1e9 * interleaved(action, repeats=3)[0].cpu / (cost * d)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("randomisations", nargs="?", type=int, default=24)
    count = parser.parse_args().randomisations
    warnings.simplefilter("ignore")
    variances(count)
    title = "processor time at equal error, d = 8"
    print(f"\n{title:<38}{'ours, ms':>9}  {'qmc_quad points':>15}  {'faster':>7}")
    for what, taken, n, ratio in beside_scipy():
        print(f"{what:<38}{taken:>9.2f}  {f'8 x {n}':>15}  {ratio:>6.1f}x", flush=True)
    print("\nthe samplers without f, ns a point and coordinate")
    for name, d, taken in overheads():
        print(f"{name:<12} d = {d:<3} {taken:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
