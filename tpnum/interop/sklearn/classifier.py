"""`TPClassifier`: classification with the kernels of a net, with probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tpnum.arguments import choice
from tpnum.errors import InputError
from tpnum.interop.sklearn.learning import KERNELS, learn, square_of
from tpnum.interop.sklearn.networks import HasNet, network
from tpnum.predict import Ensemble, Posterior
from tpnum.predict.calibration import probabilities, temperature
from tpnum.predict.laplace import Laplace
from tpnum.tiles.driver import kernel as kernel_of


class TPClassifier(HasNet, ClassifierMixin, BaseEstimator):
    """Classification with an infinitely wide net.

    Parameters
    ----------
    net, input_shape, n_jobs : as in `TPRegressor`.
    kernel : "nngp", "ntk" or "precomputed".
    method : "regression" on one-hot targets, whose scores become probabilities by a softmax with the
        temperature of largest likelihood on leave-one-out scores (closed form); or "laplace", the softmax
        likelihood on the Gaussian process by Laplace's approximation, for kernels of sizes from 1 to 100:
        smaller priors leave probabilities at their frequencies, larger ones are not approximated well.
    noise : the variance of the noise of one-hot targets ("fit": of largest marginal likelihood).
    time : None, or how long to train by gradient flow, as in `TPRegressor`.

    Attributes
    ----------
    classes_ : the labels.
    temperature_ : of the softmax (regression).
    time_ : how long the ensemble was trained; None for a posterior.
    model_ : the fitted state.
    """

    model_: Any

    def __init__(
        self,
        net: Any = None,
        *,
        kernel: str = "nngp",
        method: str = "regression",
        noise: Any = 1e-3,
        time: float | None = None,
        input_shape: Any = None,
        n_jobs: int | None = None,
    ):
        self.net = net
        self.kernel = kernel
        self.method = method
        self.noise = noise
        self.time = time
        self.input_shape = input_shape
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> TPClassifier:
        """Learn from rows X (N, features) and labels y (N,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        choice(self.method, "method", ("regression", "laplace"))
        choice(self.kernel, "kernel", KERNELS)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y has one class, {self.classes_.tolist()[0]!r}: a classifier needs at least 2 classes to "
                "tell apart"
            )
        if self.kernel == "precomputed":
            square_of(X)
        if self.method == "laplace":
            if self.time is not None:
                raise InputError("time: it belongs to method='regression'; leave it out")
            if self.kernel == "precomputed":
                raise InputError(
                    "method='laplace' needs the variance of new rows, which a precomputed kernel lacks; give "
                    "a net, or method='regression'"
                )
            self._x, self._net = self._shaped(X), network(self.net)
            self.time_ = None
            self.model_ = Laplace.init(self._kernel(self._x, None), labels, len(self.classes_))
            return self
        onehot = np.eye(len(self.classes_))[labels] - 1.0 / len(self.classes_)
        self.model_ = learn(self, X, onehot)
        self.temperature_ = temperature(self._left_out(), labels)
        return self

    def _left_out(self) -> np.ndarray:
        """The score of every example when it is left out."""
        if isinstance(self.model_, Ensemble):
            return self.model_.leave_one_out(self.time_)
        return self.model_.leave_one_out().mean

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores (rows, classes); for two classes their difference (rows,), positive for the second."""
        check_is_fitted(self)
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (rows, classes)."""
        check_is_fitted(self)
        if self.method == "laplace":
            return self.model_.probabilities(*self._against(X))
        return probabilities(self._scores(X), self.temperature_)

    def predict(self, X: Any) -> np.ndarray:
        """The class of the largest score."""
        check_is_fitted(self)
        return self.classes_[np.argmax(self._scores(X), axis=1)]

    def _scores(self, X: Any) -> np.ndarray:
        if self.method == "laplace":
            with np.errstate(divide="ignore"):
                return np.log(self.model_.probabilities(*self._against(X)))
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if isinstance(self.model_, Posterior):
            return self.model_.compute(X).mean
        if isinstance(self.model_, Ensemble):
            return self.model_.predict(self._shaped(X), self.time_).mean
        return self.model_.predict(self._shaped(X)).mean

    def _against(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """The kernel of rows with those learned from, and its diagonal."""
        X = validate_data(self, X, reset=False, dtype=np.float64)
        x = self._shaped(X)
        return self._kernel(x, self._x), self._kernel(x, None, diag=True)

    def _kernel(self, x: np.ndarray, other: np.ndarray | None, diag: bool = False) -> np.ndarray:
        return kernel_of(self._net, x, other, get=self.kernel, diag=diag, n_jobs=self.n_jobs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags
