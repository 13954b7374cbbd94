"""Nodes and weights for one-dimensional Gaussian expectations, row by row.

A row is a pair (mean, variance); its panels in z are the unit intervals of the effective range cut at
the break points of the function's table, (break - mean)/sqrt(variance), with Gauss-Legendre nodes in
each: as accurate for tanh at variance 1e4 or a kinked function as for a polynomial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from tpnum.errors import LimitError, ProgramError
from tpnum.functions import Function
from tpnum.functions.checked import evaluate
from tpnum.gauss.survey import Survey, over_laws
from tpnum.gauss.table import Table, build

FARTHEST = 38.0  # the Gaussian density underflows beyond
_GRID = np.linspace(-FARTHEST, FARTHEST, 305)
_FAR = 1e4  # beyond, bisection from the ends comes to scales of 1 too late
_MUCH = 4.0  # a table this much wider than the rows is resolved for others
_MILD = 1e5  # the square of what grows faster than so much in 1e-9 has no integral
_BLOCK = 1 << 17  # node values held at a time

Value = Callable[[np.ndarray], np.ndarray]


@cache
def _legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(order)


@cache
def gauss_hermite(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the rule for E f(z), z ~ N(0, 1); the weights sum to one."""
    z, w = np.polynomial.hermite_e.hermegauss(points)
    return z, w / w.sum()


@dataclass
class Kept:
    """The last table of a function and the survey, for all who ask about the same rows again."""

    table: Table | None = None
    look: Survey | None = None


@dataclass(frozen=True)
class Rows:
    """Distinct (mean, variance > 0) pairs for one function of one variable."""

    f: Function
    mean: np.ndarray
    root: np.ndarray  # sqrt of the variance
    low: np.ndarray  # effective range in z
    high: np.ndarray
    table: Table
    look: Survey | None = None  # of a user's function

    def nodes(self, order: int, width: float = 1.0) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks of rows with their nodes z and weights (the density included), each (rows, nodes)."""
        x, w = _legendre(order)
        step = max(1, _BLOCK // (order * (self.table.cuts.size + int(2 * FARTHEST / width))))
        for begin in range(0, self.mean.size, step):
            rows = slice(begin, min(begin + step, self.mean.size))
            low, high = self.low[rows, None], self.high[rows, None]
            count = int(np.ceil(np.max(high - low) / width))
            even = low + (high - low) * np.linspace(0.0, 1.0, count + 1)
            cuts = (self.table.cuts[1:-1] - self.mean[rows, None]) / self.root[rows, None]
            # a cut between pieces wider than the panels marks nothing that these do not resolve
            rough = self.table.kinked[1:-1] | (self.table.finest < width * self.root[rows].max())
            used = np.any((cuts > low) & (cuts < high), axis=0) & rough
            edges = np.sort(np.concatenate([even, np.clip(cuts[:, used], low, high)], axis=1), axis=1)
            half, middle = 0.5 * np.diff(edges, axis=1), 0.5 * (edges[:, 1:] + edges[:, :-1])
            z = middle[:, :, None] + half[:, :, None] * x
            weight = half[:, :, None] * w * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
            count = z.shape[0]
            yield rows, z.reshape(count, -1), weight.reshape(count, -1)

    def shared(self, order: int, width: float) -> tuple[np.ndarray, np.ndarray] | None:
        """One rule (nodes, weights) for all rows, where f needs no cut within panels of this width."""
        rough = self.table.kinked[1:-1] | (self.table.finest < width * self.root.max())
        inner = self.table.cuts[1:-1][rough]
        low, high = float(self.low.min()), float(self.high.max())
        first, last = (float(g(self.mean + self.root * z)) for g, z in ((np.min, low), (np.max, high)))
        if np.any((inner > first) & (inner < last)):
            return None
        x, w = _legendre(order)
        edges = np.linspace(low, high, int(np.ceil((high - low) / width)) + 1)
        half, middle = 0.5 * np.diff(edges)[:, None], 0.5 * (edges[1:] + edges[:-1])[:, None]
        z = (middle + half * x).ravel()
        return z, (half * w).ravel() * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)

    def at(self, rows: slice, z: np.ndarray) -> np.ndarray:
        """The points u = mean + sqrt(variance) z."""
        return self.mean[rows, None] + self.root[rows, None] * z

    def values(self, rows: slice, z: np.ndarray, w: np.ndarray) -> np.ndarray:
        """f at the nodes, zero where a panel has no width: f need not be finite at its cuts."""
        return np.where(w > 0, values(self.f, self.at(rows, z)), 0.0)

    def scaled(self, rows: slice, z: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`values` over the largest of each row, and these: squares neither overflow nor underflow."""
        return scaled(self.values(rows, z, w))

    def steep(self, rows: slice) -> np.ndarray:
        """Infinity for the rows within whose range the square of the slope has no integral, else 0."""
        z = (self.table.steep - self.mean[rows, None]) / self.root[rows, None]
        inside = (z >= self.low[rows, None]) & (z <= self.high[rows, None])
        return np.where(np.any(inside, axis=1), np.inf, 0.0)


def values(f: Function, u: np.ndarray) -> np.ndarray:
    """f(u) as float64 of u's shape, whatever the user's function returns for it."""
    return evaluate(f, u.reshape(-1), name=f).reshape(u.shape)


def scaled(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows over their largest entries, and these."""
    size = np.abs(at).max(axis=1)
    return at / np.where(size > 0.0, size, 1.0)[:, None], size


def surveyed(f: Function, mean: np.ndarray, root: np.ndarray) -> Survey | None:
    """What a user's function looks like over these laws; None for functions that are known."""
    if not f.foreign:
        return None
    return over_laws(f.owner, f, mean, root, f.kinks, f)


def effective_range(
    f: Function,
    mean: np.ndarray,
    root: np.ndarray,
    power: int = 2,
    drop: float = 43.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Where |f|^power times the density is above e^-drop of its peak: (low, high).

    Raises LimitError where the expectation does not exist or overflows.
    """
    check_growth(f, root * root, power)
    low, high = np.empty(mean.size), np.empty(mean.size)
    step = max(1, _BLOCK // _GRID.size)
    for begin in range(0, mean.size, step):
        rows = slice(begin, begin + step)
        made = _beside(f, mean[rows, None] + root[rows, None] * _GRID, root[rows])
        size = np.log(np.abs(made), out=np.full(made.shape, -800.0), where=np.abs(made) > 0)
        log = power * np.maximum(size, -800.0) - 0.5 * _GRID**2
        lost = ~np.isfinite(made)
        log[lost] = np.where(np.isnan(made[lost]), -np.inf, np.inf)
        flat = -0.5 * _GRID**2
        top = np.max(np.where(lost, -np.inf, log), axis=1)
        _exists(f, lost & ((flat + power * 700.0) > top[:, None] - drop), made, mean[rows], root[rows])
        log[lost] = -np.inf
        reach = np.max(log[:, [0, -1]], axis=1) - top
        reach[top < -690.0] = -np.inf  # it underflows
        if np.any(reach > -30.0):
            i = int(np.argmax(reach))
            raise LimitError(
                f"E {f}{_power(power)} does not exist at variance {root[rows][i] ** 2:.6g}: it grows too fast"
            )
        # the Gaussian's own bulk always belongs to it: f' and f itself may live where f^2 is small
        kept = (log > top[:, None] - drop) | (np.abs(_GRID) <= np.sqrt(2.0 * drop) - 0.75)
        first, last = np.argmax(kept, axis=1), _GRID.size - 1 - np.argmax(kept[:, ::-1], axis=1)
        low[rows] = _GRID[np.maximum(first - 1, 0)]
        high[rows] = _GRID[np.minimum(last + 1, _GRID.size - 1)]
    return low, high


def _beside(f: Function, u: np.ndarray, root: np.ndarray) -> np.ndarray:
    """f(u); at single points where it is not finite, as log|u| at 0, the mean of its values beside them."""
    made = values(f, u)
    lost = ~np.isfinite(made)
    if np.any(lost):
        step = 1e-9 * np.broadcast_to(root[:, None], u.shape)[lost]
        near = np.stack([values(f, u[lost] - step), values(f, u[lost] + step)])
        mild = np.abs(near).max(axis=0) <= _MILD * max(1.0, float(np.median(np.abs(made[~lost]))))
        made[lost] = np.where(mild, near.mean(axis=0), made[lost])
    return made


def _exists(f: Function, lost: np.ndarray, made: np.ndarray, mean: np.ndarray, root: np.ndarray) -> None:
    if np.any(lost):
        i, j = np.argwhere(lost)[0]
        u = mean[i] + root[i] * _GRID[j]
        what = "undefined (NaN)" if np.isnan(made[i, j]) else "infinite"
        raise LimitError(
            f"{f} is {what} at u = {u:.6g}, within reach of mean {mean[i]:.6g} and variance "
            f"{root[i] ** 2:.6g}: its expectation overflows or does not exist"
        )


def check_growth(f: Function, variance: np.ndarray, power: int) -> None:
    """E |f|^power of a function that grows like e^{b u^2} exists only for power b q < 1/2."""
    if f.growth == "exp2" and f.rate > 0 and np.any(2.0 * power * f.rate * variance >= 1.0):
        worst = float(np.max(variance))
        raise LimitError(
            f"E {f}{_power(power)} does not exist at variance {worst:.6g}: it grows like "
            f"exp({f.rate:g} u^2), so the variance must stay below {1.0 / (2.0 * power * f.rate):.6g}"
        )


def _power(power: int) -> str:
    return f"^{power}" if power > 1 else ""


def rows_of(
    f: Function,
    mean: np.ndarray,
    variance: np.ndarray,
    power: int = 2,
    drop: float = 43.0,
    kept: Kept | None = None,
) -> Rows:
    """The rows of (mean, variance > 0) with the range and the table of f over all of them.

    A table that is ``kept`` of other rows is used again if it reaches as far, and not much farther.
    """
    root = np.sqrt(variance)
    known, look = (kept.table, kept.look) if kept is not None else (None, None)
    if look is None or not look.covers(mean, root):
        look = surveyed(f, mean, root)
    low, high = effective_range(f, mean, root, power, drop)
    reach_low, reach_high = float(np.min(mean + root * low)), float(np.max(mean + root * high))
    if known is not None:
        first, last = known.breaks[[0, -1]]
        if first <= reach_low and reach_high <= last and last - first <= _MUCH * (reach_high - reach_low):
            return Rows(f, mean, root, low, high, known, look)
    slope = None
    if f.primitive is None:
        slope = _slope(f)
    extent = root * np.maximum(-low, high)
    far, near = float(extent.max()), float(extent.min())
    steps = near * 16.0 ** np.arange(max(0, int(np.ceil(np.log(far / near) / np.log(16.0)))))
    grades = float(np.median(mean)) + np.concatenate([-steps[::-1], steps]) if far > 16.0 * near else None
    if far > _FAR:  # functions live at scales about 1
        steps = 16.0 ** np.arange(-1, int(np.log(far) / np.log(16.0)) + 1)
        grades = np.union1d(np.empty(0) if grades is None else grades, np.concatenate([-steps, steps]))
    bulk = np.abs(values(f, float(np.median(mean)) + near * np.linspace(-1.0, 1.0, 65)))
    scale = float(np.max(bulk, where=np.isfinite(bulk), initial=0.0))
    table = build(
        lambda u: values(f, u), slope, np.asarray(f.kinks, dtype=float), reach_low, reach_high,
        str(f), grades, scale, float(np.median(mean)), look,
    )  # fmt: skip
    if kept is not None:
        kept.table, kept.look = table, look
    return Rows(f, mean, root, low, high, table, look)


def knows_slope(f: Function) -> bool:
    """Whether f' can be evaluated, not only integrated."""
    try:
        return f.derivative().has_values
    except ProgramError:
        return False


def _slope(f: Function) -> Value | None:
    if not knows_slope(f):
        return None
    derived = f.derivative()
    return lambda u: values(derived, u)
