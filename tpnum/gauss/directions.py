"""The directions in which a function of Gaussians varies most, from a small pilot sample.

With Z standard normal, f varies by the eigenvectors of E[grad f grad f'] (its active directions), often by
two or three of them.  Gradients are differences over `STEP` standard deviations: wide enough for a jump
to be seen, and for rounding not to be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tpnum.gauss.points import normal_points

Batched = Callable[[np.ndarray], np.ndarray]
"""f on (batch, d, points) arrays -> (batch, components, points)."""

STEP = 0.3
_LOG2 = 6  # of the most points
_FEWEST = 8
_AXES = 64
_BLOCK = 1 << 15


def turned(
    f_at: Batched, mean: np.ndarray, factor: np.ndarray, evaluations: int, seed: int
) -> tuple[np.ndarray, int, bool]:
    """(factor with the most active directions first, evaluations used, whether it was turned).

    At most ``evaluations`` of f are spent on an entry of the batch (mean (count, d), factor
    (count, d, rank)); when they are too few for a gradient everything stays as it is.  Only the leading
    64 axes are turned.  Components of f count alike, by their gradients relative to their size.
    """
    count, _, rank = factor.shape
    axes = min(rank, _AXES)
    points = min(1 << _LOG2, evaluations // (axes + 1))
    if points < _FEWEST or axes < 2:
        return factor, 0, axes == 1
    base = normal_points(rank, _LOG2, seed)[:, :points]
    z = np.repeat(base[:, None], axes + 1, axis=1)
    z[np.arange(axes), np.arange(1, axes + 1)] += STEP
    z = z.reshape(rank, -1)
    made = factor.copy()
    step = max(1, _BLOCK // z.shape[1])
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        value = f_at(mean[part, :, None] + factor[part] @ z)
        value = value.reshape(*value.shape[:2], axes + 1, points)
        change = value[:, :, 1:] - value[:, :, :1]
        size = np.sum(change**2, axis=(2, 3), keepdims=True)
        change /= np.sqrt(np.where(size > 0, size, 1.0))
        change = change.transpose(0, 2, 1, 3).reshape(change.shape[0], axes, -1)
        vectors = np.linalg.eigh(change @ change.transpose(0, 2, 1))[1][:, :, ::-1]
        made[part, :, :axes] = factor[part, :, :axes] @ vectors
        # an eigenvector's sign is arbitrary, the sign of an axis is not: like laws are sampled alike
        made[part] *= np.where(made[part].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return made, count * z.shape[1], True
