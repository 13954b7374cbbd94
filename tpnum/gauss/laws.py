"""Gaussian laws as arguments: means and covariances with leading batch axes, checked, and their factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.arguments import real_array
from tpnum.errors import InputError

_SKEW = 1e-10
_NEGATIVE = 1e-10
"""An eigenvalue above minus this share of the largest is rounding."""
_FLAT = 1e-15
"""And an eigenvalue below this share is none,"""
_CONDITIONAL = {2: 1e-18, 3: 1e-18}
_ROUNDED = 4e-16
"""nor is such a share of a coordinate's variance that the coordinates before it leave, by dimension: a few
coordinates are taken at their word, where many leave what rounding made of a singular covariance."""


def validated(mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """(mean (n, d), cov (n, d, d), leading shape), real, finite, symmetric; two numbers are d = 1."""
    mean, cov = (real_array(x, name).astype(np.float64) for x, name in ((mean, "mean"), (cov, "cov")))
    if mean.ndim == 0 and cov.ndim == 0:
        mean, cov = mean[None], cov[None, None]
    if mean.ndim < 1 or cov.ndim < 2 or cov.shape[-1] != cov.shape[-2] or cov.shape[-1] != mean.shape[-1]:
        raise InputError(f"mean must be (..., d) and cov (..., d, d), not {mean.shape} and {cov.shape}")
    d = mean.shape[-1]
    if d == 0:
        raise InputError("mean and cov must have at least one coordinate")
    try:
        shape = np.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    except ValueError:
        raise InputError(
            f"the leading axes of mean {mean.shape[:-1]} and cov {cov.shape[:-2]} do not broadcast"
        ) from None
    mean = np.broadcast_to(mean, (*shape, d)).reshape(-1, d)
    cov = np.broadcast_to(cov, (*shape, d, d)).reshape(-1, d, d)
    for name, array in (("mean", mean), ("cov", cov)):
        bad = ~np.all(np.isfinite(array), axis=tuple(range(1, array.ndim)))
        if np.any(bad):
            raise InputError(f"{name}{of_entry(int(np.argmax(bad)), shape)} is not finite")
    skew = np.max(np.abs(cov - cov.transpose(0, 2, 1)), axis=(1, 2), initial=0.0)
    bad = skew > _SKEW * np.max(np.abs(cov), axis=(1, 2), initial=0.0)
    if np.any(bad):
        raise InputError(f"cov{of_entry(int(np.argmax(bad)), shape)} is not symmetric")
    return mean, cov + 0.5 * (cov.transpose(0, 2, 1) - cov), shape


def of_entry(i: int, shape: tuple[int, ...]) -> str:
    """Which entry of the batch, nothing where there is only one."""
    return f" of batch entry {tuple(int(k) for k in np.unravel_index(i, shape))}" if shape else ""


def distinct(mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first row of every different law, which of these each row is)."""
    count = mean.shape[0]
    if count > 1 and np.all(mean == mean[:1]) and np.all(cov == cov[:1]):
        return np.zeros(1, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if count < 2:
        return np.arange(count), np.arange(count)
    flat = np.ascontiguousarray(np.concatenate([mean, cov.reshape(count, -1)], axis=1) + 0.0)
    keys = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1])))[:, 0]
    _, first, again = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # laws stay in the order of their first rows
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return first[order], place[again.reshape(-1)]


def alike(cov: np.ndarray, factor: np.ndarray) -> list[np.ndarray]:
    """The rows of one rank and one pattern of zeros, group by group."""
    pattern = np.concatenate([cov.reshape(cov.shape[0], -1) != 0.0, np.any(factor != 0.0, axis=1)], axis=1)
    if np.all(pattern == pattern[:1]):
        return [np.arange(cov.shape[0])]
    _, group = np.unique(np.packbits(pattern, axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(group[order])) + 1))


def principal_factors(cov: np.ndarray, name: Callable[[int], str] = lambda i: "") -> np.ndarray:
    """L (n, d, d) with L L' = cov, principal axes first; axes without variance are zero columns.

    Raises InputError with the eigenvalue and the ``name`` of the entry where a covariance is indefinite
    beyond rounding.
    """
    values, vectors = np.linalg.eigh(cov)
    top = np.maximum(values[:, -1:], 0.0)
    bad = values[:, 0] < -_NEGATIVE * top[:, 0] - 1e-300
    if np.any(bad):
        i = int(np.argmax(bad))
        raise InputError(f"cov{name(i)} has the negative eigenvalue {values[i, 0]:.6g}")
    values = np.where(values > _FLAT * top, values, 0.0)
    return (vectors * np.sqrt(values)[:, None, :])[:, :, ::-1]


def triangular_factors(cov: np.ndarray) -> np.ndarray:
    """L (n, d, r) with L L' = cov, L_ij = 0 for i < j before the columns without variance are dropped.

    Accurate relative to each conditional variance, in extended precision: cov may be nearly singular.
    """
    count, d = cov.shape[:2]
    wide, least = cov.astype(np.longdouble), _CONDITIONAL.get(d, _ROUNDED)
    made = np.zeros((count, d, d), dtype=np.longdouble)
    for j in range(d):
        left = wide[:, j, j] - np.sum(made[:, j, :j] ** 2, axis=1)
        root = np.sqrt(np.where(left > least * wide[:, j, j], left, 0.0))[:, None]
        rest = wide[:, j:, j] - np.einsum("nik,nk->ni", made[:, j:, :j], made[:, j, :j])
        made[:, j:, j] = np.divide(rest, root, out=np.zeros_like(rest), where=root > 0)
        made[:, j, j] = root[:, 0]
    used = np.any(made != 0, axis=(0, 1))
    used[0] |= not np.any(used)
    return np.ascontiguousarray(made[:, :, used], dtype=np.float64)
