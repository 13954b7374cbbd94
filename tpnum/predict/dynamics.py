"""Training of an ensemble of wide nets, at any time, from one eigendecomposition (Lee et al. 2019).

A net f_0 ~ GP(0, K) of tangent kernel Theta, trained on 1/2 sum |f - y|^2, is Gaussian at every time.  With
P = p(Theta) of `tpnum.predict.filters` and a new example's rows Theta*, K*:

    mean(x) = Theta* P y
    cov(x, x') = K** + Theta* P K P Theta*' - Theta* P K*' - K* P Theta*'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh

from tpnum.arguments import finite_array
from tpnum.errors import InputError
from tpnum.predict import arguments
from tpnum.predict.filters import Filter, Flow, refuse_unstable
from tpnum.predict.gaussian import Prediction
from tpnum.predict.savable import Savable

RANK = 8.0
"""Eigenvalues of fewer units of rounding, times the examples, of the largest are zero."""
UNSEEN = 1e-12
"""The squared length of an example's part in what is never learned, from which on it is no rounding."""


class Loss(NamedTuple):
    """1/2 sum |f - y|^2 of the ensemble's mean, and its expectation over the ensemble."""

    of_mean: float
    expected: float


@dataclass(frozen=True, eq=False)
class Dynamics(Savable):
    """The ensemble on its training examples: Theta = U diag(values) U', decomposed once.

    ``inner`` is U' K U, None where K was not given: then there are means alone.
    """

    filter: Filter
    y: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    inner: np.ndarray | None

    @classmethod
    def init(cls, ntk: Any, y: Any, nngp: Any, filter_: Filter, *, stable: float | None = None) -> Dynamics:
        """Decompose the NTK of the training examples; ``stable`` is a rate to refuse where it diverges."""
        theta = arguments.square(ntk, "ntk").astype(np.float64, copy=False)
        target = arguments.targets(y, len(theta), of="ntk")
        prior = None if nngp is None else arguments.square(nngp, "nngp").astype(np.float64, copy=False)
        if prior is not None and len(prior) != len(theta):
            raise InputError(f"nngp: {len(prior)} examples, and ntk has {len(theta)}")
        values, vectors = eigh(theta, overwrite_a=True)
        top = float(values[-1])
        floor = RANK * np.finfo(np.float64).eps * len(values) * max(top, 0.0)
        if values[0] < -max(floor, 1e-9 * max(top, -float(values[0]))):
            raise InputError(
                f"ntk is not positive semidefinite: an eigenvalue is {values[0]:.6g}; "
                "give the kernel of the examples with themselves"
            )
        if stable is not None:
            refuse_unstable(filter_, stable, top)
        inner = None if prior is None else vectors.T @ prior @ vectors
        return cls(filter_, target, np.where(values > floor, values, 0.0), vectors, inner)

    @property
    def rank(self) -> int:
        """Eigenvalues that are not zero to rounding: along the others nothing is ever learned."""
        return int(np.count_nonzero(self.values))

    @property
    def largest_rate(self) -> float:
        """The learning rate from which on training diverges."""
        return self.filter.largest_rate(float(self.values[-1]))

    def kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """The NTK and the NNGP of the training examples, as they were given to rounding."""
        if self.inner is None:
            raise InputError("nngp: it was not given, and only means are known")
        root = self.vectors
        return (root * self.values) @ root.T, root @ self.inner @ root.T

    def filters(self, time: Any) -> tuple[np.ndarray, np.ndarray]:
        """p and e of every eigenvalue at a time; p is the pseudo-inverse at the end of training."""
        t = self.filter.time(time, "time")
        if t < math.inf:
            return self.filter(self.values, t)
        p = np.divide(1.0, self.values, out=np.zeros_like(self.values), where=self.values > 0)
        return p, np.where(self.values > 0, 0.0, 1.0)

    def compute(
        self, time: Any, ntk: Any, nngp: Any = None, prior: Any = None, cov: bool = False
    ) -> Prediction:
        """The ensemble at new examples and a time.

        Parameters
        ----------
        time : a time, or a number of steps; numpy.inf is the end of training.
        ntk, nngp : (M, N), the kernels of the new examples with the training examples.
        prior : the new examples' own NNGP: its diagonal (M,), or all of it (M, M) with ``cov``.
        cov : whether the covariance (M, M) is wanted too.
        """
        across = arguments.cross(ntk, len(self.y), "ntk") @ self.vectors
        p, _ = self.filters(time)
        mean = across @ _rows(p, self.vectors.T @ self.y)
        if prior is None or self.inner is None or nngp is None:
            if cov:
                raise InputError("prior: the covariance needs the NNGP of training and of new examples")
            return Prediction(mean, np.full(len(mean), np.nan))
        own = finite_array(prior, "prior", 2 if cov else 1)
        if own.shape != (len(across),) * own.ndim:
            raise InputError(f"prior: shape {own.shape} does not go with {len(across)} new examples")
        pull = across * p
        beside = arguments.cross(nngp, len(self.y), "nngp") @ self.vectors
        if not cov:
            inside = np.einsum("ij,ij->i", pull @ self.inner, pull)
            return Prediction(mean, np.maximum(own + inside - 2.0 * np.einsum("ij,ij->i", pull, beside), 0.0))
        crossed = pull @ beside.T
        joint = own + pull @ self.inner @ pull.T - crossed - crossed.T
        joint = 0.5 * (joint + joint.T)
        return Prediction(mean, np.maximum(joint.diagonal(), 0.0), joint)

    def train(self, time: Any, cov: bool = False) -> Prediction:
        """The ensemble at the training examples: mean Theta P y, covariance T K T, T = 1 - Theta P."""
        p, left = self.filters(time)
        # what a short time has learned has all digits; where nothing is left it is y itself
        mean = self.vectors @ _rows(self.values * p, self.vectors.T @ self.y) if left.any() else self.y.copy()
        if self.inner is None:
            if cov:
                raise InputError("nngp: the covariance needs the NNGP of the training examples")
            return Prediction(mean, np.full(len(mean), np.nan))
        pull = self.vectors * left
        half = pull @ self.inner
        variance = np.maximum(np.einsum("ij,ij->i", half, pull), 0.0)
        return Prediction(mean, variance, half @ pull.T if cov else None)

    def leave_one_out(self, time: Any) -> np.ndarray:
        """The mean at every example of an ensemble trained by flow on all others: (N,) or (N, outputs).

        Exact, and as cheap as predictions: a flow is a sum of ridges (`Flow.ridges`), whose means are known,
        y - w / B_ii with B = (Theta + s)^-1 and w = B y.
        """
        if not isinstance(self.filter, Flow):
            raise InputError(
                "leave_one_out: it is known for gradient flow alone; descent by small steps is the flow of "
                "t = lr * steps"
            )
        t = self.filter.time(time, "time")
        if len(self.y) < 2:
            raise InputError("y: leaving one out needs at least two examples")
        if not t:
            return np.zeros_like(self.y)
        if t == math.inf:
            return self._at_the_end()
        noises, weights = self.filter.ridges(t)
        return (self._left_out(1.0 / (self.values[:, None] + noises)) @ weights).real.reshape(self.y.shape)

    def _at_the_end(self) -> np.ndarray:
        """The limit of little noise: what is never learned decides where an example has a part in it."""
        unseen = (self.values == 0).astype(np.float64)
        part = self.vectors**2 @ unseen > UNSEEN
        found = self._left_out(np.stack([self.filters(math.inf)[0], unseen], axis=1))
        return np.where(part[:, None], found[:, :, 1], found[:, :, 0]).reshape(self.y.shape)

    def _left_out(self, inverses: np.ndarray) -> np.ndarray:
        """y - w / B_ii (N, outputs, m), B of each column of eigenvalues ``inverses`` (N, m)."""
        wide = self.y.reshape(len(self.y), -1, 1)
        columns = (self.vectors.T @ wide[:, :, 0])[:, :, None] * inverses[:, None, :]
        left = _times(self.vectors, columns.reshape(len(wide), -1)).reshape(columns.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            return wide - left / _times(self.vectors**2, inverses)[:, None, :]

    def loss(self, time: Any) -> Loss:
        """The training loss at a time, without predictions: O(N) after the decomposition."""
        _, left = self.filters(time)
        wide = (self.vectors.T @ self.y).reshape(len(left), -1)
        with np.errstate(over="ignore"):  # training that diverges
            of_mean = 0.5 * float(np.sum((left[:, None] * wide) ** 2))
            if self.inner is None:
                return Loss(of_mean, math.nan)
            spread = 0.5 * wide.shape[1] * float(np.sum(left**2 * self.inner.diagonal()))
        return Loss(of_mean, of_mean + spread)


def loss_of(found: Prediction, y: np.ndarray) -> Loss:
    """The loss of predictions against targets."""
    of_mean = 0.5 * float(np.sum((found.mean - y) ** 2))
    outputs = y.shape[1] if y.ndim == 2 else 1
    return Loss(of_mean, of_mean + 0.5 * outputs * float(np.sum(found.variance)))


def _times(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The product with columns that may be complex, without a complex copy of the matrix."""
    if not np.iscomplexobj(columns):
        return matrix @ columns
    return matrix @ columns.real + 1j * (matrix @ columns.imag)


def _rows(scale: np.ndarray, array: np.ndarray) -> np.ndarray:
    return scale.reshape(-1, *(1,) * (array.ndim - 1)) * array
