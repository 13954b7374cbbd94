"""The ensemble beside finite nets and plain sampling: python asv_benchmarks/ensemble.py [part ...].

Processor time on one thread, interleaved repeats.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from benchmarks.common import interleaved, timed  # noqa: E402
from benchmarks.programs import PROGRAMS, separate, training  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

import tpnum as tp  # noqa: E402
from tests.oracle.training import Task, train, train_lazily  # noqa: E402
from tpnum import nn  # noqa: E402
from tpnum.law.ensemble import Ensemble  # noqa: E402
from tpnum.program.lines import MatMul  # noqa: E402

WIDTH, SAMPLES = 4096, 100_000
SEEDS = 16
FEW_HATS = 10


def row(what: str, value: str, target: str = "", good: bool = True) -> str:
    """Return one line of the report."""
    return f"{what:<62}{value:>12}{target:>12}{'' if good else '   MISSED'}"


def job(steps: int) -> tuple[nn.Training, Task]:
    """Return gradient descent on four examples as a program, and as the arrays of the finite nets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3))
    y = np.sin(x @ np.arange(1.0, 4.0) / 2.0)
    net = nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1, W_std=1.2), nn.Tanh(), nn.Dense(1))
    return nn.sgd(net, x, y, steps, 0.5), Task(np.tile(x, (steps, 1, 1)), np.tile(y, (steps, 1)), 0.5, 1.2)


def outputs(made: nn.Training) -> list[str]:
    """Return the names of f at every step before its update."""
    return [f.name for step in made.outputs[:-1] for f in step]


def answers(law: Ensemble, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return values and errors of scalars."""
    found = [law.scalar(name) for name in names]
    return np.array([e.value for e in found]), np.array([e.error for e in found])


def steps() -> Iterator[str]:
    """Yield 20 steps of training in the limit against one run at width 4096."""
    made, task = job(20)
    names = outputs(made)

    def law(points: str) -> Ensemble:
        return Ensemble(made.program, samples=SAMPLES, points=points, n_jobs=1)

    jobs = {
        "training, updated in place": lambda: train(task, WIDTH, 0),
        "training, updates kept as factors": lambda: train_lazily(task, WIDTH, 0),
        "ensemble, plain points": lambda: law("random").scalar(names[-1]),
        "ensemble, Sobol points": lambda: law("sobol").scalar(names[-1]),
        "tp.limit, to the last number": lambda: made.trajectory(
            tp.limit(made.program, method="ensemble", samples=SAMPLES)
        ),
    }
    took = dict(zip(jobs, interleaved(*jobs.values(), repeats=5), strict=True))
    for what, seconds in took.items():
        yield row(what, f"{seconds.cpu:.2f} s")
    for points in ("plain", "Sobol"):
        for floor in list(jobs)[:2]:
            ratio = took[f"ensemble, {points} points"].cpu / took[floor].cpu
            yield row(f"ensemble, {points} points / {floor}", f"{ratio:.2f}", "<= 0.5", ratio <= 0.5)
    runs = np.array([train(task, 512, seed).ravel() for seed in range(SEEDS)])
    spread = runs.std(axis=0, ddof=1) * np.sqrt(512 / WIDTH)
    few = np.array([train(task, WIDTH, seed).ravel() for seed in range(4)])
    once = np.sqrt((few.var(axis=0, ddof=1) / spread**2).mean())
    yield row("spread at width 4096 / that expected from width 512", f"{once:.2f}")
    for points in ("random", "sobol"):
        found = law(points)
        _, error = answers(found, names)
        ratio = float(np.median(spread / error))
        yield row(f"spread / error, {points}, S = {found.samples}", f"{ratio:.1f}", ">= 4", ratio >= 4)


def widths() -> Iterator[str]:
    """Yield z-scores of nets of width 512 and 4096, and of both extrapolated in 1/n."""
    made, task = job(8)
    value, error = answers(Ensemble(made.program, samples=1 << 18), outputs(made))
    runs = {n: np.array([train(task, n, seed).ravel() for seed in range(SEEDS)]) for n in (512, WIDTH)}
    means = {n: (x.mean(axis=0), x.var(axis=0, ddof=1) / SEEDS) for n, x in runs.items()}
    (a, va), (b, vb) = means.values()
    means[0] = ((8 * b - a) / 7, (64 * vb + va) / 49)
    for n, (mean, variance) in means.items():
        z = (mean - value) / np.hypot(np.sqrt(variance), error)
        name = f"width {n}" if n else "extrapolated"
        worst = np.abs(z).max()
        good = n == 512 or bool(worst < 4.5)
        yield row(f"{name}: root mean square of z over {z.size} outputs", f"{np.sqrt((z**2).mean()):.2f}")
        yield row(f"{name}: largest z", f"{worst:.2f}", "" if n == 512 else "< 4.5", good)


def cost() -> Iterator[str]:
    """Yield how time grows with samples, and with lines whose matrices are not used again."""

    def seconds(program: tp.Program, scalar: str, samples: int) -> float:
        def run() -> None:
            Ensemble(program, samples=samples, n_jobs=1).scalar(scalar)

        run()
        return min(timed(run).cpu for _ in range(3))

    program, found = training(8, 4)
    times = {s: seconds(program, found[0].name, s) for s in (1 << 16, 1 << 18, 1 << 20)}
    for less, more in zip(times, list(times)[1:], strict=False):
        power = np.log(times[more] / times[less]) / np.log(more / less)
        yield row(f"time ~ samples^a, {less} to {more}", f"a = {power:.2f}", "<= 1.1", bool(power <= 1.1))
    lengths = {}
    for layers in (25, 50, 100, 200):
        program, found = separate(layers)
        lengths[layers] = seconds(program, found[0].name, 1 << 16)
    for less, more in zip(lengths, list(lengths)[1:], strict=False):
        power = np.log(lengths[more] / lengths[less]) / np.log(more / less)
        what = f"time ~ lines^a, {less} to {more} layers"
        yield row(what, f"a = {power:.2f}", "<= 1.1", bool(power <= 1.1))


def values(program: tp.Program, names: list[str], kind: str, seed: int, samples: int) -> np.ndarray:
    """Return scalars by one ensemble."""
    return answers(Ensemble(program, points=kind, samples=samples, seed=seed, n_jobs=1), names)[0]


def compared(name: str, samples: int) -> str:
    """Return one line of the table of plain and of Sobol points."""
    program, found = PROGRAMS[name]()
    program, names = program.expand(), [s.name for s in found]
    hats = sum(isinstance(line, MatMul) for line in program.lines)
    many = range(SEEDS, SEEDS + 8)
    truth = np.mean([values(program, names, "sobol", seed, 4 * samples) for seed in many], axis=0)
    error, took = {}, {}
    for kind in ("random", "sobol"):
        made: list[np.ndarray] = []

        def run(seed: int, kind: str = kind, made: list[np.ndarray] = made) -> None:
            made.append(values(program, names, kind, seed, samples))

        took[kind] = float(np.median([timed(lambda seed=seed: run(seed)).cpu for seed in range(SEEDS)]))
        error[kind] = np.sqrt(((np.array(made) - truth) ** 2).mean(axis=0))
    gain = error["random"] / error["sobol"] * np.sqrt(took["random"] / took["sobol"])
    mean, target = float(np.exp(np.log(gain).mean())), 10.0 if hats <= FEW_HATS else 1.0
    plain, sobol = (float(np.median(error[kind])) for kind in ("random", "sobol"))
    return (
        f"{name:<26}{hats:>5}{plain:>10.1e}{sobol:>10.1e}{took['random']:>9.3f}{took['sobol']:>9.3f}"
        f"{mean:>9.1f}{gain.min():>9.1f}{'' if mean >= target else '   MISSED'}"
    )


def points() -> Iterator[str]:
    """Yield errors of plain and of Sobol points, and how many times smaller at equal time."""
    for samples in (1 << 17, 1 << 19):
        yield f"S = {samples:<22} hats     plain     Sobol  seconds  seconds  smaller    least"
        for name in PROGRAMS:
            yield compared(name, samples)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    part.__name__: part for part in (steps, widths, cost, points)
}


def main() -> None:
    """Measure the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]}: choose from {', '.join(PARTS)}")
    with threadpool_limits(1, "blas"):
        for part in parts:
            for line in PARTS[part]():
                print(line, flush=True)


if __name__ == "__main__":
    main()
