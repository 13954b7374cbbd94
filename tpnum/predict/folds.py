"""Cross-validation of a Gaussian process in closed form, and derivatives by the kernel matrix.

With A = K + noise, B = A^-1 and w = B y, what all examples but those of a fold I say of y_I is Gaussian with
mean y_I - B_II^-1 w_I and covariance B_II^-1 (noise included).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    for part, residual, own, logdet in _solved(inverse, weights, folds):
        mean[part] = y[part] - residual
        variance[part] = own if own.ndim == 1 else own.diagonal()
        density -= 0.5 * float(np.sum(weights[part] * residual))
        density += 0.5 * outputs * (logdet - len(part) * math.log(2.0 * math.pi))
    return Folds(mean, variance, density)


def k_fold_slope(inverse: np.ndarray, weights: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """G with d log density = tr(G dK): G = sym(B r w') - B R B / 2, R of blocks r r' + outputs B_II^-1."""
    wide = weights.reshape(len(weights), -1)
    residuals = np.zeros_like(wide)
    middle = np.zeros_like(inverse)
    for part, residual, own, _ in _solved(inverse, wide, folds):
        residuals[part] = residual
        if own.ndim == 1:
            middle[part, part] = np.sum(residual**2, axis=1) + wide.shape[1] * own
        else:
            middle[np.ix_(part, part)] = residual @ residual.T + wide.shape[1] * own
    first = (inverse @ residuals) @ wide.T
    return 0.5 * (first + first.T) - 0.5 * inverse @ middle @ inverse


def _solved(
    inverse: np.ndarray, weights: np.ndarray, folds: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """(I, B_II^-1 w_I, B_II^-1, log det B_II) of folds; those of one example at once, B_II^-1 as a vector."""
    singles = [part for part in folds if len(part) == 1]
    if singles:
        part = np.concatenate(singles)
        own = 1.0 / inverse[part, part]
        yield part, (weights[part].T * own).T, own, -float(np.log(own).sum())
    for part in folds:
        if len(part) > 1:
            factor = cho_factor(inverse[np.ix_(part, part)], lower=True)
            logdet = 2.0 * float(np.log(factor[0].diagonal()).sum())
            yield part, cho_solve(factor, weights[part]), cho_solve(factor, np.eye(len(part))), logdet
