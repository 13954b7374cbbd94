"""The noise of largest marginal likelihood, from one eigendecomposition."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from tpnum.errors import InputError

RANGE = (1e-10, 1e3)
"""Where it is looked for, in units of the mean of the diagonal."""
GRID = 66


def fitted(k: np.ndarray, y: np.ndarray) -> float:
    """The noise variance in `RANGE` that maximises log p(y) under N(0, K + noise I)."""
    scale = float(k.diagonal().mean())
    if not scale > 0:
        raise InputError(
            'noise: the kernel of the examples is zero, so that all is noise; give a number instead of "fit"'
        )
    values, vectors = eigh(k.astype(np.float64, copy=False))
    wide = y.reshape(len(y), -1)
    squares, outputs = ((vectors.T @ wide) ** 2).sum(axis=1), wide.shape[1]
    floor = np.maximum(values, 0.0)

    def cost(log_noise: float) -> float:
        total = floor + np.exp(log_noise)
        return 0.5 * float(np.sum(squares / total) + outputs * np.sum(np.log(total)))

    low, high = np.log(RANGE[0] * scale), np.log(RANGE[1] * scale)
    grid = np.linspace(low, high, GRID)
    best = int(np.argmin([cost(point) for point in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)])
    found = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": 1e-10})
    return float(np.exp(found.x))
