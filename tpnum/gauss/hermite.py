"""Hermite series of functions of one Gaussian: f(mean + sqrt(q) z) = sum_k a_k h_k(z), h_k orthonormal.

With (u, v) of correlation rho, E f(u) g(v) = sum_k a_k b_k rho^k (MATH.md 6), and the coefficients of
f' are sqrt(k) a_k / sqrt(q), so the same pass gives E f'(u) g'(v) (Price's theorem).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.functions import Function
from tpnum.gauss.interp import over_variance
from tpnum.gauss.moments import ORDER, Profile, at_point, table_slope
from tpnum.gauss.rules import Kept, rows_of

LADDER = (
    8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 320, 384, 512, 768, 1024,
    1536, 2048,
)  # fmt: skip
"""Truncation degrees at which the tails are kept."""

_FIRST = 32
DROP = 80.0  # coefficients of high degree see f against e^{-z^2/4}


@dataclass(frozen=True)
class Series:
    """Coefficients for distinct rows, relative to the root of the second moment (of f, of f').

    ``value[i, k] = a_k/sqrt(E f^2)``; ``slope[i, k]`` the coefficients of f' over sqrt(E f'^2), None where
    f has no jumps and they follow from those of f; ``tail`` and ``slope_tail`` (rows, ladder) hold the
    sums of squares from each ladder degree on, what lies beyond the computed degrees included;
    ``unresolved`` is the largest part of f that its table could not resolve, relative to f nearby.
    """

    profile: Profile
    value: np.ndarray
    slope: np.ndarray | None
    ladder: np.ndarray
    tail: np.ndarray
    slope_tail: np.ndarray
    unresolved: float = 0.0

    @classmethod
    def of(
        cls,
        q: np.ndarray,
        columns: np.ndarray,
        value: np.ndarray,
        slope: np.ndarray | None,
        unresolved: float = 0.0,
    ) -> Series:
        """From variances, profile columns and plain coefficients."""
        second, slope_second = columns[1], columns[4]
        infinite = ~np.isfinite(slope_second)  # as for a cube root
        some = np.where(second > 0, second, 1.0)
        steep = np.where((slope_second > 0) & ~infinite, slope_second, 1.0)
        value = value / np.sqrt(some)[:, None]
        ladder = np.array([k for k in LADDER if k <= value.shape[1]])
        squares = value * value
        tail = tails(squares, ladder, (second > 0).astype(float), 1e-13)
        if slope is not None:
            slope = np.where(infinite[:, None], 0.0, slope) / np.sqrt(steep)[:, None]
            squares = slope * slope
        else:
            ratio = np.divide(some, q * steep, out=np.zeros_like(some), where=q > 0)
            squares *= np.arange(value.shape[1])
            squares *= ratio[:, None]
        flat = (slope_second == 0) | (q == 0)
        slope_tail = tails(squares, ladder, np.where(flat, 0.0, 1.0), 1e-12)
        slope_tail[infinite] = np.inf
        return cls(Profile(*columns), value, slope, ladder, tail, slope_tail, unresolved)


def coefficients(
    f: Function, mean: np.ndarray, q: np.ndarray, degrees: int, kept: Kept | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """(profile columns, a_k, coefficients of f' if f jumps, unresolved part), one row per (mean, q)."""
    from tpnum.kernels.hermite import hermite_rows

    made = np.empty((5, q.size))
    value = np.zeros((q.size, degrees))
    point = q == 0.0
    if np.any(point):
        made[:, point] = at_point(f, mean[point])
        value[point, 0] = made[0, point]
    spread = np.flatnonzero(~point)
    if not spread.size:
        return made, value, None, 0.0
    rows = rows_of(f, mean[spread], q[spread], 2, DROP, kept)
    slope = np.zeros((q.size, degrees)) if rows.table.jumps else None
    # psi_k turns by sqrt(k) radians per unit of z: keep each panel within what its nodes resolve
    for block, z, w in rows.nodes(ORDER, min(1.0, 10.0 / np.sqrt(degrees))):
        out = spread[block]
        lift = w * np.exp(0.25 * z * z)
        at = rows.values(block, z, w)
        derived = np.where(w > 0, table_slope(rows, block, z), 0.0)  # not where a panel has no width
        for source, target in ((at, value), (derived, slope)):
            if target is None:
                continue
            part = np.empty((z.shape[0], degrees))
            with np.errstate(invalid="ignore"):
                hermite_rows(z, np.ascontiguousarray(source * lift), part)
            target[out] = part
        made[0, out] = np.einsum("ij,ij->i", at, w)
        small = at / rows.size[block, None]
        made[1, out] = np.einsum("ij,ij,ij->i", small, small, w) * rows.size[block] ** 2
        made[2, out] = np.einsum("ij,ij->i", derived, w)
        made[3, out] = value[out, 1] / rows.root[block]
        made[4, out] = np.einsum("ij,ij,ij->i", derived, derived, w) + rows.steep(block)
    if slope is None:
        made[2, spread] = made[3, spread]
    return made, value, slope, rows.table.resolved


def series(
    f: Function,
    mean: np.ndarray,
    q: np.ndarray,
    most: int = 1024,
    tolerance: float = 1e-16,
    kept: Kept | None = None,
) -> Series:
    """The `Series` of f over distinct rows, of the degree at which a few probes have negligible tails."""
    probe = np.unique(
        np.concatenate([np.argsort(q)[[0, q.size // 2, -1]], [np.argmin(mean), np.argmax(mean)]])
    )
    degrees = _FIRST
    kept = kept or Kept()
    while True:
        made = Series.of(q[probe], *coefficients(f, mean[probe], q[probe], degrees, kept))
        worst = np.maximum(made.tail.max(axis=0), 1e-3 * made.slope_tail.max(axis=0))
        enough = np.flatnonzero(worst <= tolerance)
        if enough.size or degrees >= most:
            break
        degrees = min(most, 2 * degrees)
    if enough.size:
        degrees = int(made.ladder[enough[0]])
    return Series.of(q, *_rows(f, mean, q, degrees, kept))


def _rows(
    f: Function, mean: np.ndarray, q: np.ndarray, degrees: int, kept: Kept
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """`coefficients`, interpolated in the variance where the rows are many and their means one."""
    if np.any(mean != mean[0]) or not np.any(q > 0):
        return coefficients(f, mean, q, degrees, kept)

    unresolved = [0.0]

    def work(variances: np.ndarray) -> np.ndarray:
        means = np.full(variances.size, mean[0])
        columns, value, slope, left = coefficients(f, means, variances, degrees, kept)
        unresolved.append(left)
        # all coefficients in units of the function's size: small ones need no relative accuracy
        parts = [_compact(columns), _relative(value, columns[1])]
        if slope is not None:
            parts.append(_relative(slope, columns[4]))
        return np.concatenate(parts, axis=1)

    made = over_variance(work, q)
    columns = _expand(made[:, :5])
    value = made[:, 5 : 5 + degrees] * np.sqrt(columns[1])[:, None]
    steep = np.where(np.isfinite(columns[4]), columns[4], 0.0)
    slope = made[:, 5 + degrees :] * np.sqrt(steep)[:, None] if made.shape[1] > 5 + degrees else None
    return columns, value, slope, max(unresolved)


def _relative(coef: np.ndarray, second: np.ndarray) -> np.ndarray:
    root = np.sqrt(np.where(np.isfinite(second), second, 0.0))[:, None]
    return np.divide(coef, root, out=np.zeros_like(coef), where=root > 0)


def _compact(columns: np.ndarray) -> np.ndarray:
    """Second moments by the logarithms of their roots, first ones relative to them: well scaled."""
    root, slope_root = np.sqrt(columns[1]), np.sqrt(columns[4])
    one = np.where((slope_root > 0) & np.isfinite(slope_root), slope_root, 1.0)
    safe = np.where(root > 0, root, 1.0)
    logs = [np.log(np.maximum(r, 1e-300)) for r in (root, slope_root)]
    return np.stack([columns[0] / safe, logs[0], columns[2] / one, columns[3] / one, logs[1]], 1)


def _expand(made: np.ndarray) -> np.ndarray:
    root, slope_root = (np.where(made[:, k] < -690.0, 0.0, np.exp(made[:, k])) for k in (1, 4))
    one = np.where((slope_root > 0) & np.isfinite(slope_root), slope_root, 1.0)
    safe = np.where(root > 0, root, 1.0)
    return np.stack([made[:, 0] * safe, root**2, made[:, 2] * one, made[:, 3] * one, slope_root**2])


def tails(squares: np.ndarray, ladder: np.ndarray, total: np.ndarray, floor: float) -> np.ndarray:
    """Sums of squares from each ladder degree on.

    Beyond the last degree it is Parseval's difference where that can be measured, else the geometric
    continuation of the last two sixteenths.
    """
    degrees = squares.shape[1]
    step = max(degrees // 16, 2)
    last, before = squares[:, -step:].sum(1), squares[:, -2 * step : -step].sum(1)
    ratio = np.clip(np.divide(last, before, out=np.zeros_like(last), where=before > 0), 0.0, 0.95)
    measured = total - squares.sum(1)
    beyond = np.where(measured > floor, measured, last * ratio / (1.0 - ratio))
    starts = ladder[ladder < degrees]
    blocks = np.zeros((squares.shape[0], ladder.size))
    if starts.size:
        blocks[:, : starts.size] = np.add.reduceat(squares, starts, axis=1)
    return np.cumsum(blocks[:, ::-1], axis=1)[:, ::-1] + beyond[:, None]
