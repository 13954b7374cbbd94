"""Transformers: features whose inner products are close to a kernel of a net, for linear models behind them.

make_pipeline(StandardScaler(), TPRandomFeatures(MLP(depth=3), n_components=4096), Ridge(1e-2))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tpnum.arguments import choice, whole
from tpnum.interop.sklearn.networks import HasNet, network
from tpnum.predict import Cholesky
from tpnum.tiles.arguments import KINDS
from tpnum.tiles.driver import kernel as kernel_of
from tpnum.tiles.factor import factor
from tpnum.tiles.features import random_features

NOISE = 1e-6
"""Of its size, by which a kernel's diagonal may be more than that of an example and its copy by rounding."""


class _Features(HasNet, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What the two have in common: rows in, vectors out."""

    kernel: str
    n_components: int
    _n_features_out: int

    def fit(self, X: Any, y: Any = None) -> Any:
        """Make the map from rows X (N, features); y is not read."""
        X = self._shaped(validate_data(self, X, dtype=np.float64))
        choice(self.kernel, "kernel", KINDS)
        self._make(X, whole(self.n_components, "n_components", 1))
        self._n_features_out = self._map(X[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Vectors (rows, n_components) whose inner products are close to the kernel."""
        check_is_fitted(self)
        return self._map(self._shaped(validate_data(self, X, reset=False, dtype=np.float64)))

    def _make(self, X: np.ndarray, count: int) -> None:
        raise NotImplementedError

    def _map(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class TPRandomFeatures(_Features):
    """Random features of a net's kernel (`tpnum.random_features`): fitting reads nothing but the shape.

    Parameters
    ----------
    net : a net of `tpnum.nn`, its JSON form, or an `MLP` (the default).
    kernel : "nngp" or "ntk".
    n_components : the length of the vectors.
    method : "directions" (arc-cosine features and their like) or "series" (a sketch of the Hermite series).
    random_state : of the directions and sketches.
    input_shape : the shape of an example, for images and sequences given as flat rows.

    Attributes
    ----------
    error_ : measured on some of the rows, |F F' - K| / |K|.
    """

    def __init__(
        self,
        net: Any = None,
        *,
        kernel: str = "nngp",
        n_components: int = 1000,
        method: str = "directions",
        random_state: Any = None,
        input_shape: Any = None,
    ):
        self.net = net
        self.kernel = kernel
        self.n_components = n_components
        self.method = method
        self.random_state = random_state
        self.input_shape = input_shape

    def _make(self, X: np.ndarray, count: int) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        net = network(self.net)
        self._features = random_features(net, X, count, get=self.kernel, method=self.method, seed=seed)
        self.error_ = self._features.error

    def _map(self, X: np.ndarray) -> np.ndarray:
        return self._features(X)


class TPNystroem(_Features):
    """Nystrom's features of a net's kernel, at the rows where most is left to explain (`tpnum.factor`).

    Rows are met as new ones, those of ``fit`` too.  The noise that `tpnum.nn.Dropout` gives every example
    for itself is no feature of any: it adds to the penalty of the linear model behind.

    Parameters
    ----------
    net, kernel, input_shape : as in `TPRandomFeatures`.
    n_components : rows to choose, and the length of the vectors; fewer where these explain all.
    n_jobs : threads.

    Attributes
    ----------
    components_, component_indices_ : the rows that were chosen, and their numbers.
    error_ : the part of the trace of the kernel of X that is left.
    """

    def __init__(
        self,
        net: Any = None,
        *,
        kernel: str = "nngp",
        n_components: int = 100,
        input_shape: Any = None,
        n_jobs: int | None = None,
    ):
        self.net = net
        self.kernel = kernel
        self.n_components = n_components
        self.input_shape = input_shape
        self.n_jobs = n_jobs

    def _make(self, X: np.ndarray, count: int) -> None:
        self._net = network(self.net)
        made = factor(self._net, X, count, get=self.kernel, n_jobs=self.n_jobs)
        self.component_indices_, self.components_ = made.pivots, X[made.pivots]
        self._root = self._shared(made.columns[made.pivots])
        self.error_ = made.error / made.trace if made.trace else 0.0

    def _shared(self, root: np.ndarray) -> np.ndarray:
        """The factor of the components' kernel, from that of a kernel with noise of each for itself."""
        chosen = self.components_
        k = kernel_of(self._net, chosen, chosen.copy(), get=self.kernel, n_jobs=self.n_jobs)
        own = np.einsum("ij,ij->i", root, root) - k.diagonal()
        if (own <= NOISE * k.diagonal()).all():
            return root
        return np.tril(Cholesky.init(k).lower)

    def _map(self, X: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular

        rows = kernel_of(self._net, X, self.components_, get=self.kernel, n_jobs=self.n_jobs)
        return np.ascontiguousarray(solve_triangular(self._root, rows.T, lower=True).T)
