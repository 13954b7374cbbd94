"""Regression with a Gaussian process whose covariance is a kernel matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tpnum.arguments import finite_array, flag, number, whole
from tpnum.errors import InputError, require_memory
from tpnum.predict import arguments
from tpnum.predict.cholesky import Cholesky
from tpnum.predict.folds import Folds, Gradient, k_fold, k_fold_slope
from tpnum.predict.noise import fitted
from tpnum.predict.savable import Savable

MOST = 1 << 40
"""Draws that anyone could want."""
LOG_2PI = math.log(2.0 * math.pi)


class Prediction(NamedTuple):
    """Mean (M,) or (M, outputs), variance (M,), and the covariance (M, M) where it was asked for.

    Outputs are independent and have one variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray | None = None

    @property
    def std(self) -> np.ndarray:
        """The standard deviation."""
        return np.sqrt(self.variance)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """The central interval that holds ``level`` of the Gaussian."""
        from scipy.special import ndtri

        reach = float(ndtri(0.5 + 0.5 * number(level, "level", above=0.0, below=1.0))) * self.std
        reach = reach if self.mean.ndim == 1 else reach[:, None]
        return self.mean - reach, self.mean + reach

    def sample(self, draws: int, seed: Any = None) -> np.ndarray:
        """``draws`` of the joint Gaussian (draws, *mean.shape); needs the covariance."""
        if self.covariance is None:
            raise InputError("samples need the covariance: predict with cov=True")
        count = whole(draws, "draws", 1, MOST)
        require_memory(8.0 * count * self.mean.size, f"draws: {count} of them")
        rng = arguments.generator(seed)
        values, vectors = np.linalg.eigh(self.covariance)  # a posterior's is often singular
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        z = rng.standard_normal((count, len(root), *self.mean.shape[1:]))
        return self.mean + np.einsum("ij,sj...->si...", root, z)


@dataclass(frozen=True, eq=False)
class Posterior(Savable):
    """The posterior of f ~ GP(0, K) given y = f + noise: factored once, asked often.

    mean(x) = k(x) (K + noise)^-1 y, variance(x) = k(x, x) - k(x) (K + noise)^-1 k(x)'.
    """

    factor: Cholesky
    y: np.ndarray
    noise: float | np.ndarray
    weights: np.ndarray  # (K + noise)^-1 y

    @classmethod
    def init(cls, k: Any, y: Any, noise: Any = 0.0, *, overwrite: bool = False) -> Posterior:
        """Factor K + noise.

        Parameters
        ----------
        k : (N, N), the kernel of the examples; float32 is kept.
        y : (N,) or (N, outputs).
        noise : the variance of the noise: a number, one per example, or "fit" for the number of largest
            marginal likelihood.
        overwrite : let the factor take the memory of ``k``.

        Raises
        ------
        InputError : shapes that do not fit; NaN; a matrix that is not symmetric or has a negative eigenvalue.
        """
        matrix = arguments.square(k, overwrite=overwrite)
        target = arguments.targets(y, len(matrix))
        if isinstance(noise, str):
            if noise != "fit":
                raise InputError(f'noise is {noise!r}: give a variance, one per example, or "fit"')
            variance: float | np.ndarray = fitted(matrix, target)
        else:
            variance = arguments.variance(noise, len(matrix))
        factor = Cholesky.init(matrix, variance)
        return cls(factor, target, variance, factor.solve(target))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def jitter(self) -> float:
        """What had to be added to the diagonal."""
        return self.factor.jitter

    @property
    def outputs(self) -> int:
        """How many targets an example has."""
        return self.y.shape[1] if self.y.ndim == 2 else 1

    def compute(self, k_new: Any, prior: Any = None, cov: bool = False) -> Prediction:
        """Predict at new examples.

        Parameters
        ----------
        k_new : (M, N), their kernel with the examples learned from.
        prior : their own kernel: its diagonal (M,), or all of it (M, M) with ``cov``.
        cov : whether the covariance is wanted.
        """
        flag(cov, "cov")
        across = arguments.cross(k_new, len(self))
        mean = across @ self.weights
        if prior is None:
            if cov:
                raise InputError("prior: the covariance needs the kernel of the new examples with themselves")
            return Prediction(mean, np.full(len(across), np.nan))
        own = finite_array(prior, "prior", 2 if cov else 1)
        if own.shape != (len(across),) * own.ndim:
            raise InputError(f"prior: shape {own.shape} does not go with {len(across)} new examples")
        half = self.factor.half(across.T)
        if not cov:
            return Prediction(mean, np.maximum(own - np.einsum("ij,ij->j", half, half), 0.0))
        joint = own - half.T @ half
        joint = 0.5 * (joint + joint.T)
        return Prediction(mean, np.maximum(joint.diagonal(), 0.0), joint)

    def add(self, across: Any, k: Any, y: Any, noise: Any = None) -> Posterior:
        """The posterior given further examples, by a block of the factor: O(N^2 M), not O((N + M)^3).

        ``across`` (M, N) is their kernel with the examples there are, ``k`` (M, M) their own.
        """
        corner = arguments.square(k)
        side = arguments.cross(across, len(self), "across")
        if len(side) != len(corner):
            raise InputError(f"across: {len(side)} rows, and k is of {len(corner)} new examples")
        target = arguments.continued(self.y, y, len(corner), "k")
        variance = arguments.further(self.noise, noise, len(corner))
        factor = self.factor.extend(side, corner, variance)
        both = np.concatenate([self.y, target])
        variance = arguments.joined(self.noise, len(self), variance, len(corner))
        return Posterior(factor, both, variance, factor.solve(both))

    # --- how well it fits

    def log_marginal(self) -> float:
        """log p(y), summed over outputs: -1/2 y' A^-1 y - 1/2 log det A - N/2 log 2 pi, A = K + noise."""
        fit = float(np.sum(self.y * self.weights))
        return -0.5 * fit - 0.5 * self.outputs * (self.factor.logdet + len(self) * LOG_2PI)

    def log_marginal_gradient(self, dk: Any = ()) -> Gradient:
        """`log_marginal` and its derivatives along each of ``dk`` (P, N, N), and by the noise."""
        return Gradient.along(self.log_marginal(), self.log_marginal_slope(), dk)

    def log_marginal_slope(self) -> np.ndarray:
        """The derivatives (N, N) of `log_marginal` by the entries of K, for `tpnum.kernel` ``against``."""
        weights = self.weights.reshape(len(self), -1)
        slope = self.factor.inverse()
        slope *= -0.5 * self.outputs
        slope += (0.5 * weights) @ weights.T
        return slope

    def leave_one_out(self) -> Folds:
        """Every target predicted from all others, in closed form."""
        return self.k_fold(len(self)) if len(self) > 1 else _refuse_one()

    def leave_one_out_gradient(self, dk: Any = ()) -> Gradient:
        """The log density of `leave_one_out` and its derivatives."""
        return self.k_fold_gradient(len(self), dk) if len(self) > 1 else _refuse_one()

    def leave_one_out_slope(self) -> np.ndarray:
        """The derivatives (N, N) of that log density by the entries of K."""
        return self.k_fold_slope(len(self)) if len(self) > 1 else _refuse_one()

    def k_fold(self, folds: Any) -> Folds:
        """Every fold's targets predicted from all others, in closed form: one inverse for all folds.

        ``folds``: a number, or arrays of example numbers.
        """
        parts = arguments.folds_of(folds, len(self))
        return k_fold(self.factor.inverse(), self.y, self.weights, parts)

    def k_fold_gradient(self, folds: Any, dk: Any = ()) -> Gradient:
        """The log density of `k_fold`, its derivatives along each of ``dk`` (P, N, N) and by the noise."""
        return Gradient.along(self.k_fold(folds).log_density, self.k_fold_slope(folds), dk)

    def k_fold_slope(self, folds: Any) -> np.ndarray:
        """The derivatives (N, N) of the log density of `k_fold` by the entries of K."""
        parts = arguments.folds_of(folds, len(self))
        return k_fold_slope(self.factor.inverse(), self.weights, parts)


def _refuse_one() -> Any:
    raise InputError("y: leaving one out needs at least two examples")
