"""2-d duals of user functions on 10^6 broadcast entries: python asv_benchmarks/duals.py.

Processor time on one thread, the best of interleaved repeats, with all that a call does: validation, distinct
variances, coefficients, bounds.  "first" makes a new `tp.dual`, "again" calls it a second time; the floor is
np.exp of 10^6 numbers.  Errors are those of 200 random entries against 200 x 200 Gauss-Hermite points (which
are good to 1e-9 for 1/(1 + u^2)), relative to the largest value.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402

import tpnum as tp  # noqa: E402

N = 1000
REPEATS = 7

Function = Callable[[np.ndarray], np.ndarray]
Grid = tuple[np.ndarray, np.ndarray, np.ndarray]

FUNCTIONS: dict[str, Function] = {
    "tanh(u) exp(-u^2/8)": lambda u: np.tanh(u) * np.exp(-u * u / 8),
    "log1p(exp(u))": lambda u: np.log1p(np.exp(u)),
    "tanh(u)": lambda u: np.tanh(u),
    "u/(1 + exp(-u))": lambda u: u / (1 + np.exp(-u)),
    "sin(u) + u": lambda u: np.sin(u) + u,
    "exp(-u^2/2)": lambda u: np.exp(-u * u / 2),
    "1/(1 + u^2)": lambda u: 1 / (1 + u * u),
}
SLOPES: dict[str, Function] = {
    "tanh(u) exp(-u^2/8)": lambda u: (1 - np.tanh(u) ** 2 - u / 4 * np.tanh(u)) * np.exp(-u * u / 8),
    "log1p(exp(u))": lambda u: 1 / (1 + np.exp(-u)),
}


def grids() -> dict[str, Grid]:
    """The layouts of 10^6 entries, variances about 1 and a correlation per entry."""
    rng = np.random.default_rng(0)
    q = np.linspace(0.5, 1.5, N)
    rho = rng.uniform(-1.0, 1.0, (N, N))
    row, col = np.broadcast_arrays(q[:, None], q)
    i, j = rng.integers(0, N, (2, N, N))
    many = rng.uniform(0.5, 1.5, (2, N, N))
    return {
        "grid": (q[:, None], q, rho * np.sqrt(row * col)),
        "grid written out": (row.copy(), col.copy(), rho * np.sqrt(row * col)),
        "two variances": (np.array(1.0), np.array(1.3), rho * np.sqrt(1.3)),
        "in no order": (q[i], q[j], rho * np.sqrt(q[i] * q[j])),
        "2 10^6 variances": (many[0], many[1], rho * np.sqrt(many[0] * many[1])),
    }


def reference(f: Function, q1: np.ndarray, q2: np.ndarray, c: np.ndarray) -> np.ndarray:
    """E f(u) f(v) by 200 x 200 Gauss-Hermite points."""
    z, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / w.sum()
    made = np.empty(c.size)
    for n, (a, b, k) in enumerate(zip(q1, q2, c, strict=True)):
        rest = np.sqrt(max(b - k * k / a, 0.0))
        v = k / np.sqrt(a) * z[:, None] + rest * z
        made[n] = (f(np.sqrt(a) * z) * w) @ (f(v.ravel()).reshape(v.shape) @ w)
    return made


def error(f: Function, given: Grid, made: np.ndarray) -> float:
    """The largest error of 200 entries."""
    q1, q2, c = (a.ravel() for a in np.broadcast_arrays(*given))
    at = np.random.default_rng(1).integers(0, c.size, 200)
    exact = reference(f, q1[at], q2[at], c[at])
    return float(np.abs(made.ravel()[at] - exact).max() / np.abs(exact).max())


def best(actions: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """The least processor time of each action: A B A B ..., so that a busy moment hits them alike."""
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.process_time()
            action()
            times[name].append(time.process_time() - start)
    return {name: min(taken) for name, taken in times.items()}


def measured(name: str, layout: str, given: Grid) -> Iterator[str]:
    """Yield a line each for the values and the slopes."""
    f = FUNCTIONS[name]
    y, out = np.random.default_rng(0).uniform(-1.0, 1.0, (2, N * N))
    for what in ("value", "slope"):
        kept = tp.dual(f)

        def first(what: str = what) -> np.ndarray:
            d = tp.dual(f)
            return d(*given) if what == "value" else d.derivative(*given)

        def again(what: str = what, d: object = kept) -> np.ndarray:
            return d(*given) if what == "value" else d.derivative(*given)  # type: ignore[operator,attr-defined]

        heavy = layout == "2 10^6 variances"
        took = best(
            {"floor": lambda: np.exp(y, out=out), "first": first, "again": again}, 2 if heavy else REPEATS
        )
        exact = f if what == "value" else SLOPES.get(name)
        off = f"{error(exact, given, again()):.0e}" if exact else ""
        ns = {key: value * 1e9 / (N * N) for key, value in took.items()}
        yield (
            f"{name:<21}{layout:<18}{what:<7}{ns['first']:>8.1f}{ns['again']:>8.1f}{ns['floor']:>8.1f}"
            f"{ns['first'] / ns['floor']:>8.2f}{off:>8}"
        )


def fresh() -> Iterator[str]:
    """Yield what the first call with a new function costs once the kernels are there."""
    for name, f in FUNCTIONS.items():
        taken = []
        for _ in range(5):
            start = time.process_time()
            tp.dual(f).estimate(1.0, 1.3, 0.4)
            taken.append(time.process_time() - start)
        yield f"{name:<21}{1e3 * min(taken):>8.1f} ms"


def main() -> None:
    """Measure everything; `quick` leaves all but the first two functions and layouts out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="the first two functions and layouts")
    quick = parser.parse_args().quick is not None
    print(f"{'ns an entry':<46}{'first':>8}{'again':>8}{'floor':>8}{'ratio':>8}{'error':>8}")
    for layout, given in list(grids().items())[: 2 if quick else None]:
        for name in list(FUNCTIONS)[: None if layout == "grid" and not quick else 2]:
            for line in measured(name, layout, given):
                print(line, flush=True)
    print("\na new function, one entry with its certificate")
    for line in fresh():
        print(line)


if __name__ == "__main__":
    main()
