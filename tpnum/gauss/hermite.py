"""Hermite series of functions of one Gaussian: f(mean + sqrt(q) z) = sum_k a_k h_k(z), h_k orthonormal.

With (u, v) of correlation rho, E f(u) g(v) = sum_k a_k b_k rho^k, and the coefficients of
f' are sqrt(k) a_k / sqrt(q), so the same pass gives E f'(u) g'(v) (Price's theorem).
"""

from __future__ import annotations

import numpy as np

from tpnum.functions import Function
from tpnum.gauss.interp import Work, over_variance
from tpnum.gauss.moments import ORDER, at_point, table_slope
from tpnum.gauss.rules import Kept, knows_slope, rows_of, scaled
from tpnum.gauss.truncated import Series, relative

SMOOTH_DEGREE = 512
KINKED_DEGREE = 1024
"""Highest degrees of the series; beyond, panels are cheaper."""

_FIRST = 32
DROP = 80.0  # coefficients of high degree see f against e^{-z^2/4}


def most_degrees(f: Function) -> int:
    """The highest degree of a function's series."""
    return KINKED_DEGREE if f.kinks else SMOOTH_DEGREE


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
    told = slope is None and knows_slope(f)  # the slope of a table of f alone is made of its differences
    # psi_k turns by sqrt(k) radians per unit of z: keep each panel within what its nodes resolve
    for block, z, w in rows.nodes(ORDER, min(1.0, 10.0 / np.sqrt(degrees))):
        out = spread[block]
        lift = w * np.exp(0.25 * z * z)
        at = rows.values(block, z, w)
        derived = np.where(w > 0, table_slope(rows, block, z), 0.0)  # not where a panel has no width
        flat = _nearly_constant(at, w) if told else np.zeros(len(at), bool)
        for source, target in ((at, value), (derived, slope)):
            if target is None and not flat.any():
                continue
            part = np.empty((z.shape[0], degrees))
            with np.errstate(invalid="ignore"):
                hermite_rows(z, np.ascontiguousarray(source * lift), part)
            if target is not None:
                target[out] = part
            else:  # a_k = sqrt(q/k) (of f')_{k-1}: of f they would be differences of nearly equal numbers
                root = rows.root[block][flat, None]
                value[out[flat], 1:] = root * part[flat, :-1] / np.sqrt(np.arange(1.0, degrees))
        made[0, out] = np.einsum("ij,ij->i", at, w)
        small, size = scaled(at)
        made[1, out] = np.einsum("ij,ij,ij->i", small, small, w) * size**2
        made[2, out] = np.einsum("ij,ij->i", derived, w)
        made[3, out] = value[out, 1] / rows.root[block]
        made[4, out] = np.einsum("ij,ij,ij->i", derived, derived, w) + rows.steep(block)
    if slope is None:
        made[2, spread] = made[3, spread]
    return made, value, slope, rows.table.resolved


def series(
    f: Function, mean: np.ndarray, q: np.ndarray, most: int = 1024, kept: Kept | None = None
) -> Series:
    """The `Series` of f over distinct rows, of the degree at which a few probes have negligible tails."""
    kept = kept or Kept()
    degrees = degrees_of(f, mean, q, most, kept)
    return Series.of(q, *_rows(f, mean, q, degrees, kept))


def degrees_of(f: Function, mean: np.ndarray, q: np.ndarray, most: int, kept: Kept) -> int:
    """The degree at which a few of the rows have negligible tails."""
    probe = np.unique(
        np.concatenate([np.argsort(q)[[0, q.size // 2, -1]], [np.argmin(mean), np.argmax(mean)]])
    )
    degrees = _FIRST
    while True:
        made = Series.of(q[probe], *coefficients(f, mean[probe], q[probe], degrees, kept))
        enough = made.enough
        if enough or degrees >= most:
            return enough or degrees
        degrees = min(most, 2 * degrees)


def _rows(
    f: Function, mean: np.ndarray, q: np.ndarray, degrees: int, kept: Kept
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """`coefficients`, interpolated in the variance where the rows are many and their means one."""
    if np.any(mean != mean[0]) or not np.any(q > 0):
        return coefficients(f, mean, q, degrees, kept)
    unresolved = [0.0]
    made = over_variance(packing(f, float(mean[0]), degrees, kept, unresolved), q)
    columns = expanded(made[:, :5])
    value = made[:, 5 : 5 + degrees] * np.sqrt(columns[1])[:, None]
    steep = np.where(np.isfinite(columns[4]), columns[4], 0.0)
    slope = made[:, 5 + degrees :] * np.sqrt(steep)[:, None] if made.shape[1] > 5 + degrees else None
    return columns, value, slope, max(unresolved)


def _nearly_constant(at: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The rows of values, of weights w, that differ by little of what they are."""
    least, most = np.where(w > 0, at, np.inf).min(axis=1), np.where(w > 0, at, -np.inf).max(axis=1)
    return most - least < 1e-4 * np.minimum(np.abs(least), np.abs(most))


def packing(f: Function, mean: float, degrees: int, kept: Kept, unresolved: list[float]) -> Work:
    """What gives well scaled columns of the variances of rows of one mean; it notes what is ``unresolved``.

    They are five of the profile, ``degrees`` of f, and of f' if f jumps: all coefficients in units of the
    function's size, as small ones need no relative accuracy.
    """

    def work(variances: np.ndarray) -> np.ndarray:
        means = np.full(variances.size, mean)
        columns, value, slope, left = coefficients(f, means, variances, degrees, kept)
        unresolved.append(left)
        parts = [_compact(columns), relative(value, columns[1])]
        if slope is not None:
            parts.append(relative(slope, columns[4]))
        return np.concatenate(parts, axis=1)

    return work


def _compact(columns: np.ndarray) -> np.ndarray:
    """Second moments by the logarithms of their roots, first ones relative to them: well scaled."""
    root, slope_root = np.sqrt(columns[1]), np.sqrt(columns[4])
    one = np.where((slope_root > 0) & np.isfinite(slope_root), slope_root, 1.0)
    safe = np.where(root > 0, root, 1.0)
    logs = [np.log(np.maximum(r, 1e-300)) for r in (root, slope_root)]
    return np.stack([columns[0] / safe, logs[0], columns[2] / one, columns[3] / one, logs[1]], 1)


def expanded(made: np.ndarray) -> np.ndarray:
    """The five columns of a profile from those of `packing`."""
    root, slope_root = (np.where(made[:, k] < -690.0, 0.0, np.exp(made[:, k])) for k in (1, 4))
    one = np.where((slope_root > 0) & np.isfinite(slope_root), slope_root, 1.0)
    safe = np.where(root > 0, root, 1.0)
    return np.stack([made[:, 0] * safe, root**2, made[:, 2] * one, made[:, 3] * one, slope_root**2])
