"""`TPRegressor`: Gaussian process and kernel regression with the kernels of a net."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tpnum.arguments import whole
from tpnum.errors import InputError
from tpnum.interop.sklearn.learning import learn, square_of
from tpnum.interop.sklearn.networks import HasNet
from tpnum.predict import Ensemble, Posterior, Prediction, Regression


class TPRegressor(HasNet, RegressorMixin, BaseEstimator):
    """Regression with an infinitely wide net: Bayesian (NNGP), or trained by gradient descent (NTK).

    Parameters
    ----------
    net : a net of `tpnum.nn`, its JSON form, or an `MLP` (the default).
    kernel : "nngp", "ntk", or "precomputed" for kernel matrices in the place of X.
    noise : the variance of the noise, of targets that are normalised if ``normalize_y``; "fit" for that of
        largest marginal likelihood.
    time : None, or how long to train by gradient flow on 1/(2 N) sum |f - y|^2 (early stopping; inf for the
        end): predictions are then of the ensemble of nets so trained (start by the NNGP, training by the
        NTK), whatever ``kernel`` and ``noise`` are.
    normalize_y : subtract the mean of y and divide by its standard deviation.
    input_shape : the shape of an example, for images and sequences given as flat rows.
    n_jobs : threads.

    Attributes
    ----------
    model_ : the fitted state of `tpnum.predict`.
    noise_ : the noise, given or fitted.
    time_ : how long the ensemble was trained; None for a posterior.
    log_marginal_likelihood_value_ : of the (normalised) targets.
    """

    model_: Any

    def __init__(
        self,
        net: Any = None,
        *,
        kernel: str = "nngp",
        noise: Any = 1e-2,
        time: float | None = None,
        normalize_y: bool = True,
        input_shape: Any = None,
        n_jobs: int | None = None,
    ):
        self.net = net
        self.kernel = kernel
        self.noise = noise
        self.time = time
        self.normalize_y = normalize_y
        self.input_shape = input_shape
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> TPRegressor:
        """Learn from rows X (N, features) and targets y (N,) or (N, outputs)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        if self.kernel == "precomputed":
            square_of(X)
        with np.errstate(over="ignore", invalid="ignore"):
            self._mean = np.mean(y, axis=0) if self.normalize_y else np.zeros(y.shape[1:])
            spread = np.std(y, axis=0) if self.normalize_y else np.ones(y.shape[1:])
        if not np.isfinite(spread).all():
            raise InputError("y: its deviation overflows; give it in another unit")
        self._scale = np.where(spread > 0, spread, 1.0)
        self.model_ = learn(self, X, (y - self._mean) / self._scale)
        self.noise_ = getattr(self.model_, "noise", 0.0)
        if isinstance(self.model_, (Regression, Posterior)):
            self.log_marginal_likelihood_value_ = self.model_.log_marginal()
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """The mean at X, and the standard deviation or the covariance of f (without the noise)."""
        if return_std and return_cov:
            raise InputError("return_std and return_cov: ask for one of them")
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if isinstance(self.model_, Posterior):
            if return_std or return_cov:
                raise InputError(
                    "return_std: a precomputed kernel of new rows says nothing of their variance"
                )
            return self._mean + self._scale * self.model_.compute(X).mean
        found = self._predicted(X, return_cov)
        mean = self._mean + self._scale * found.mean
        if found.covariance is not None:
            return mean, np.multiply.outer(found.covariance, self._scale**2)
        return (mean, np.multiply.outer(found.std, self._scale)) if return_std else mean

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draws of f at X: (rows, n_samples) or (rows, outputs, n_samples)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if isinstance(self.model_, Posterior):
            raise InputError("sample_y: a precomputed kernel of new rows says nothing of their covariance")
        count = whole(n_samples, "n_samples", 1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        drawn = self._predicted(X, True).sample(count, seed)
        return np.moveaxis(self._mean + self._scale * drawn, 0, -1)

    def _predicted(self, X: np.ndarray, cov: bool) -> Prediction:
        x = self._shaped(X)
        if isinstance(self.model_, Ensemble):
            return self.model_.predict(x, self.time_, cov=cov)
        return self.model_.predict(x, cov=cov)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.target_tags.multi_output = True
        return tags
