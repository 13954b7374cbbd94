"""Cross-validation of a Gaussian process in closed form, and derivatives by the kernel matrix.

With A = K + noise, B = A^-1 and w = B y, what all examples but those of a fold I say of y_I is Gaussian with
mean y_I - B_II^-1 w_I and covariance B_II^-1 (noise included).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from tpnum.arguments import finite_array
from tpnum.errors import InputError


class Folds(NamedTuple):
    """Out-of-fold predictions of the targets: means, variances with the noise, log density of all folds."""

    mean: np.ndarray
    variance: np.ndarray
    log_density: float


class Gradient(NamedTuple):
    """A value and its derivatives along kernel matrices, and by the noise of each example."""

    value: float
    kernel: np.ndarray
    noise: np.ndarray

    @classmethod
    def along(cls, value: float, slope: np.ndarray, dk: Any) -> Gradient:
        """Contract the symmetric ``slope``, d value = tr(slope dK), with directions (P, N, N)."""
        size = len(slope)
        directions = finite_array(dk, "dk")
        if directions.ndim == 2:
            directions = directions[None]
        if directions.shape[1:] == (size, size):
            along = np.einsum("pij,ij->p", directions, slope)
        elif directions.shape == (0,):
            along = np.empty(0)
        else:
            raise InputError(
                f"dk: shape {directions.shape} is not (parameters, {size}, {size}), one matrix for each"
            )
        return cls(value, along, slope.diagonal().copy())


def k_fold(inverse: np.ndarray, y: np.ndarray, weights: np.ndarray, folds: list[np.ndarray]) -> Folds:
    """The predictions of every fold; examples in none keep NaN."""
    outputs = y.shape[1] if y.ndim == 2 else 1
    mean, variance = np.full(y.shape, np.nan), np.full(len(y), np.nan)
    density = 0.0
    for part in folds:
        pulled, residual, factor = _fold(inverse, weights, part)
        mean[part] = y[part] - residual
        variance[part] = cho_solve((factor, True), np.eye(len(part))).diagonal()
        logdet = 2.0 * float(np.log(factor.diagonal()).sum())
        density -= 0.5 * float(np.sum(pulled * residual))
        density += 0.5 * outputs * (logdet - len(part) * math.log(2.0 * math.pi))
    return Folds(mean, variance, density)


def k_fold_slope(inverse: np.ndarray, weights: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """G with d log density = tr(G dK): G = sym(B r w') - B R B / 2, R of blocks r r' + outputs B_II^-1."""
    wide = weights.reshape(len(weights), -1)
    residuals = np.zeros_like(wide)
    middle = np.zeros_like(inverse)
    for part in folds:
        _, residual, factor = _fold(inverse, wide, part)
        residuals[part] = residual
        own = cho_solve((factor, True), np.eye(len(part)))
        middle[np.ix_(part, part)] = residual @ residual.T + wide.shape[1] * own
    first = (inverse @ residuals) @ wide.T
    return 0.5 * (first + first.T) - 0.5 * inverse @ middle @ inverse


def _fold(
    inverse: np.ndarray, weights: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w_I, B_II^-1 w_I and the Cholesky factor of B_II."""
    factor, _ = cho_factor(inverse[np.ix_(part, part)], lower=True)
    pulled = weights[part]
    return pulled, cho_solve((factor, True), pulled), factor
