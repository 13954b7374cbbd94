"""Many two-dimensional laws and one smooth function: its values on one grid serve all of them.

The trapezoidal rule in the coordinates u, v of f, not in those of each law: f is evaluated once per point of
a grid that covers every law, and a law costs a sum of values times its density (`kernels.plane`), a few
nanoseconds a point.  The error is that of `lattice`: the decay of the spectrum of f times the density.
"""

from __future__ import annotations

import numpy as np

from tpnum.gauss.integrand import Integrand
from tpnum.gauss.spectrum import PROBES, SAFETY, continued, rounding
from tpnum.kernels.plane import PAD, SUMS, plane_sums

_LARGEST = 1 << 22
"""Points of the largest grid."""
_WORTH = 4
"""A grid may have this many times a hundred points for each law, about the price of a small lattice."""
_BLOCK = 1 << 15
_RATIO = 2.0**-0.5


def on_one_grid(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float, pilots: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(value, error, E|f|, evaluations) at mean (n, 2) and triangular factor (n, 2, 2) of full rank.

    Steps shrink until ``rtol`` is met; the first ``pilots`` laws tell where those of f end and the others may
    begin.  The error is infinite where the next grid had too many points.
    """
    run = _Run(f_at, mean, factor, rtol)
    own = run.level.copy()
    first, rest = np.split(np.arange(mean.shape[0]), [pilots])
    run.settle(first)
    limited = run.level[first][run.level[first] > own[first]]
    if limited.size:
        run.level[rest] = np.maximum(own[rest], int(np.median(limited)))
    run.settle(rest)
    return run.value, run.error, run.size, run.cost


class _Run:
    """The laws, the level of each (its step is that of level 0 times `_RATIO` ** level), and the answers."""

    def __init__(self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float) -> None:
        self.f_at, self.mean, self.rtol = f_at, mean, rtol
        self.root = np.ascontiguousarray(factor[:, [0, 1, 1], [0, 0, 1]])
        deviation = np.sqrt(np.sum(factor * factor, axis=2))
        # of a coordinate given the other one: what a step must not exceed
        narrow = np.abs(self.root[:, :1] * self.root[:, 2:]) / deviation[:, ::-1]
        self.coarse = narrow.max(axis=0)
        self.level = np.ceil(np.log(np.min(narrow / self.coarse, axis=1)) / np.log(_RATIO)).astype(int)
        self.radius = float(np.sqrt(-2.0 * np.log(min(0.001 * rtol, 1e-5)))) + 0.2
        self.low = np.min(mean - self.radius * deviation, axis=0)
        self.extent = np.max(mean + self.radius * deviation, axis=0) - self.low
        shape = mean.shape[0], f_at.components or 1
        self.value, self.size, self.error = np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)
        self.cost = 0
        self.grids: dict[int, np.ndarray] = {}

    def settle(self, rows: np.ndarray) -> None:
        """Answer for some laws, level by level."""
        while rows.size:
            level = int(self.level[rows].min())
            now = rows[self.level[rows] == level]
            step = self.coarse * _RATIO**level
            values = self.grid(level, step)
            if values is None:
                return
            found = _sums(values, self.low, step, self.mean[now], self.root[now], self.radius)
            value, size, rim = (found[..., k] for k in range(3))
            waves = found[..., SUMS:].reshape(*value.shape, 4, len(PROBES), 2)
            aliased = SAFETY * continued(np.sqrt(np.sum(waves * waves, axis=(2, 4))))
            self.value[now], self.size[now] = value, size
            self.error[now] = aliased + rim + rounding(values.shape[1] * values.shape[2]) * size
            again = np.any(aliased > 0.5 * self.rtol * size, axis=1)
            self.level[now[again]] += 1
            rows = np.setdiff1d(rows, now[~again])

    def grid(self, level: int, step: np.ndarray) -> np.ndarray | None:
        """f on the grid of a level, None where it is too large or f not finite."""
        if level not in self.grids:
            shape = np.ceil(self.extent / step).astype(int) + 1
            if float(np.prod(shape.astype(float))) > min(_LARGEST, _WORTH * 100 * self.mean.shape[0]):
                return None
            shape[1] += PAD
            values = _values(self.f_at, self.low, step, shape)
            self.cost += int(shape.prod())
            if not np.all(np.isfinite(values)):
                return None
            self.grids[level] = values
        return self.grids[level]


def _values(f_at: Integrand, low: np.ndarray, step: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """f on the grid, (components, rows, columns), some rows at a time."""
    u, v = (low[k] + step[k] * np.arange(shape[k]) for k in range(2))
    chunk = max(1, _BLOCK // v.size)
    parts = []
    for begin in range(0, u.size, chunk):
        rows = u[begin : begin + chunk]
        columns = [np.repeat(rows, v.size)[None], np.tile(v, rows.size)[None]]
        parts.append(f_at.columns(columns)[0].reshape(-1, rows.size, v.size))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _sums(
    values: np.ndarray, low: np.ndarray, step: np.ndarray, mean: np.ndarray, root: np.ndarray, radius: float
) -> np.ndarray:
    """The kernel's sums, (rows, components, sums)."""
    phases = [np.pi * np.outer(PROBES, np.arange(n)) for n in values.shape[1:]]
    cosines, sines = (tuple(wave(p) for p in phases) for wave in (np.cos, np.sin))
    out = np.empty((values.shape[0], mean.shape[0], SUMS + 8 * len(PROBES)))
    for k in range(values.shape[0]):
        plane_sums(values[k], low, step, mean, root, radius, cosines, sines, out[k])
    return out.transpose(1, 0, 2)
