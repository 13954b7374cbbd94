"""Regression with a Gaussian process whose kernel matrix is never held: for more examples than memory takes.

Every answer is a solve with K + noise by conjugate gradients (`tpnum.predict.krylov`), a step of which is one
pass over the tiles of K for all right-hand sides, beside a pivoted Cholesky factor of low rank.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from tpnum import nn
from tpnum.arguments import choice, flag, number, whole
from tpnum.arguments import jobs as jobs_of
from tpnum.errors import AccuracyWarning, InputError, outside
from tpnum.predict import arguments
from tpnum.predict.folds import Gradient
from tpnum.predict.gaussian import Prediction
from tpnum.predict.krylov import MOST, Probed, conjugate_gradients, lanczos_logdet, probes_of
from tpnum.predict.nearby import Nearby, preconditioner
from tpnum.predict.savable import Savable
from tpnum.predict.source import Source, blocks, examples
from tpnum.program import Program
from tpnum.tiles.arguments import KINDS, dtype_of
from tpnum.tiles.factor import factor
from tpnum.tiles.products import operator

COLUMNS = 256
"""New examples whose variances are solved for together."""
STEPS = 1000
"""Of conjugate gradients at most."""


@dataclass(frozen=True, eq=False)
class Iterative(Savable):
    """The posterior of f ~ GP(0, K) given y = f + noise, K a kernel of a net.  Made by `iterative_posterior`.

    ``weights`` are (K + noise)^-1 y to ``residual`` <= ``rtol``, which took ``steps``.
    """

    source: Source
    get: str
    x: np.ndarray
    y: np.ndarray
    noise: float | np.ndarray
    near: Nearby
    rank: int  # of the preconditioner at most
    rtol: float
    dtype: np.dtype
    weights: np.ndarray
    steps: int = 0
    residual: float = np.inf

    def __repr__(self) -> str:
        return (
            f"<Iterative on {len(self.x)} examples with the {self.get} of {self.source.of!r}: "
            f"{self.steps} steps beside rank {self.near.rank}, residual {self.residual:.2g}>"
        )

    def operator(self) -> LinearOperator:
        """K + noise."""
        k = operator(self.source.of, self.x, get=self.get, dtype=self.dtype, n_jobs=self.source.n_jobs)

        def times(v: np.ndarray) -> np.ndarray:
            return k @ v + (np.reshape(self.noise, (-1, 1)) * v.reshape(len(v), -1)).reshape(v.shape)

        return LinearOperator(k.shape, matvec=times, matmat=times, dtype=np.float64)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(K + noise)^-1 b for columns (N, ..) of b."""
        made = conjugate_gradients(self.operator(), b, near=self.near, rtol=self.rtol, steps=STEPS)
        _said(made.steps, made.residual, self.rtol)
        return made.x

    def predict(self, x: Any, *, variance: bool = True, cov: bool = False, noise: Any = 0.0) -> Prediction:
        """Mean and variance of f at new examples, and their covariance with ``cov``.

        A mean costs a row of the kernel; a variance is a solve with a right-hand side of its own, and NaN
        without ``variance``.  ``noise`` is added to the variance, as in `Regression.predict`.
        """
        new = examples(x, "x", self.x)
        added = arguments.variance(noise, len(new))
        if flag(cov, "cov"):
            across = self.source(new, self.x, self.get)
            joint = self.source(new, None, self.get) - across @ self.solve(across.T)
            joint = 0.5 * (joint + joint.T)
            spread = np.maximum(joint.diagonal(), 0.0) + added
            total = joint + np.diag(np.broadcast_to(added, len(new)))
            return Prediction(across @ self.weights, spread, total)
        means, spreads = [], []
        for at in blocks(len(new), COLUMNS if flag(variance, "variance") else self.source.rows(len(self.x))):
            across = self.source(new[at], self.x, self.get)
            means.append(across @ self.weights)
            if variance:
                own = self.source(new[at], None, self.get, diag=True)
                lost = np.einsum("ij,ji->i", across, self.solve(across.T))
                spreads.append(np.maximum(own - lost, 0.0))
        spread = np.concatenate(spreads) if variance else np.full(len(new), np.nan)
        return Prediction(np.concatenate(means), spread + added)

    def sample(self, x: Any, draws: int = 1, seed: Any = None) -> np.ndarray:
        """Draws of f at new examples, jointly: (draws, M) or (draws, M, outputs)."""
        return self.predict(x, cov=True).sample(draws, seed)

    def add(self, x: Any, y: Any, noise: Any = None) -> Iterative:
        """The posterior given further examples: conjugate gradients go on from the weights there are."""
        new = examples(x, "x", self.x)
        target = arguments.continued(self.y, y, len(new), "x")
        more = arguments.further(self.noise, noise, len(new))
        return _started(
            replace(
                self,
                x=np.concatenate([self.x, new]),
                y=np.concatenate([self.y, target]),
                noise=arguments.joined(self.noise, len(self.x), more, len(new)),
                weights=np.concatenate([self.weights, np.zeros_like(target)]),
            )
        )

    def log_marginal(self, *, probes: int = 16, steps: int = 50, seed: Any = 0) -> Probed:
        """log p(y), summed over outputs, with the error of log det by stochastic Lanczos quadrature.

        ``probes`` random vectors, and ``steps`` of Lanczos, which all of them share.
        """
        found = lanczos_logdet(self.operator(), near=self.near, probes=probes, steps=steps, seed=seed)
        known = -0.5 * float(np.sum(self.y * self.weights))
        known -= 0.5 * self._outputs * len(self.y) * math.log(2.0 * math.pi)
        return Probed(known - 0.5 * self._outputs * found.value, 0.5 * self._outputs * found.error)

    def log_marginal_gradient(
        self, wrt: Any, *, probes: int = 16, steps: int = 50, seed: Any = 0
    ) -> tuple[Probed, Gradient]:
        """`log_marginal` and its derivatives by deviations of the net, and by the noise of each example.

        d log p = w' dK w / 2 - outputs tr(A^-1 dK) / 2, the trace by the same kind of probes: those of the
        preconditioner P, E z z' = P, of which tr(A^-1 dK) = E (A^-1 z)' dK (P^-1 z).
        """
        count = whole(probes, "probes", 1, MOST)
        z = probes_of(self.near, len(self.x), count, arguments.generator(seed))
        share = -0.5 * self._outputs / count
        wide = self.weights.reshape(len(self.x), -1)
        left = np.concatenate([0.5 * wide, share * self.solve(z)], axis=1)
        right = np.concatenate([wide, self.near(z)], axis=1)
        slopes = sum(
            self.source.slopes(self.x[at], self.x, self.get, wrt, left[at] @ right.T, self.dtype)
            for at in blocks(len(self.x), self.source.rows(len(self.x)))
        )
        value = self.log_marginal(probes=probes, steps=steps, seed=seed)
        return value, Gradient(value.value, np.asarray(slopes), np.einsum("ij,ij->i", left, right))

    @property
    def _outputs(self) -> int:
        return self.y.shape[1] if self.y.ndim == 2 else 1


def iterative_posterior(
    net: Any,
    x: Any,
    y: Any,
    *,
    noise: Any,
    get: str = "nngp",
    rank: int = 200,
    rtol: float = 1e-6,
    dtype: Any = None,
    n_jobs: int | None = None,
) -> Iterative:
    """`posterior` without the matrix: conjugate gradients beside a pivoted Cholesky factor.

    Memory is that of a few tiles and of (N, rank) numbers; a step is a product with K through
    `tpnum.operator`, computed anew.  Where N x N numbers fit, `posterior` is exact, and faster.

    Parameters
    ----------
    net, x, y, get, n_jobs : as in `posterior`; a net or a program.
    noise : the variance of the noise, more than 0: a number, or one per example.
    rank : of the preconditioner.
    rtol : the residual of every solve, relative to its right-hand side.
    dtype : of the kernel's tiles.

    Raises
    ------
    InputError : arguments that do not fit; a noise of 0.
    """
    choice(get, "get", KINDS)
    source = Source.read(net, jobs_of(n_jobs))
    if not isinstance(net, (nn.Layer, Program)):
        raise InputError(
            "net: products without the matrix need a net or a program, not a function of kernels"
        )
    data = np.array(examples(x, "x"))
    target = arguments.targets(y, len(data), of="x")
    if isinstance(noise, str):
        raise InputError(f"noise is {noise!r}: give a variance, or one per example")
    variance = arguments.variance(noise, len(data))
    near = preconditioner(np.zeros((len(data), 0)), variance)
    return _started(
        Iterative(
            source, get, data, target, variance, near, whole(rank, "rank", 1),
            number(rtol, "rtol", above=0.0, below=1.0), dtype_of(dtype), np.zeros_like(target),
        )
    )  # fmt: skip


def _started(made: Iterative) -> Iterative:
    """With a preconditioner of its examples, and weights by steps from those that it has."""
    low = factor(made.source.of, made.x, made.rank, get=made.get, dtype=made.dtype, n_jobs=made.source.n_jobs)
    near = preconditioner(low.columns.astype(np.float64, copy=False), made.noise)
    start = made.weights if made.weights.any() else None
    found = conjugate_gradients(made.operator(), made.y, near=near, start=start, rtol=made.rtol, steps=STEPS)
    _said(found.steps, found.residual, made.rtol)
    return replace(made, near=near, weights=found.x, steps=found.steps, residual=found.residual)


def _said(steps: int, residual: float, rtol: float) -> None:
    if residual > rtol:
        warnings.warn(
            f"conjugate gradients: after {steps} steps the residual is {residual:.2g}, and rtol {rtol:.2g}; "
            "give a higher rank, a larger noise or a larger rtol",
            AccuracyWarning,
            stacklevel=outside(),
        )
