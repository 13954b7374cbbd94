"""Classification with a Gaussian process: Laplace's approximation of the softmax likelihood.

Rasmussen & Williams, section 3.5: the mode of log p(labels | f) + log p(f) by Newton's method, f = (f_1, ..,
f_C) with independent priors N(0, K), and the Gaussian of its curvature.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp, softmax

from tpnum.arguments import finite_array
from tpnum.errors import AccuracyWarning, InputError, outside
from tpnum.gauss.points import sobol_sequence
from tpnum.predict import arguments

STEPS = 100
"""Of Newton's method, which needs about ten."""
SLACK, SETTLED = 1e-9, 1e-11
"""What the objective may fall by rounding, and a step of f at the mode."""
ROUGH = 1e-4
"""Of the size of f, what it may be wrong by without a warning."""
POINTS = 1 << 9
"""Of the quadrature over the classes' Gaussian."""


@dataclass(frozen=True, eq=False)
class Laplace:
    """The approximate posterior of f given labels 0 .. C - 1."""

    pull: np.ndarray  # (N, C), onehot - pi: the mean is K pull
    inner: np.ndarray  # (C, N, N), E_c of the curvature
    lower: np.ndarray  # the Cholesky factor of sum_c E_c
    evidence: float

    @classmethod
    def init(cls, k: Any, labels: Any, classes: int) -> Laplace:
        """Find the mode.

        Parameters
        ----------
        k : (N, N), the kernel of the examples.
        labels, classes : (N,), whole numbers from 0 to classes - 1.

        Raises
        ------
        InputError : shapes or labels that do not fit; a kernel whose rounding is larger than all likelihoods.
        """
        matrix = arguments.square(k).astype(np.float64, copy=False)
        given = finite_array(labels, "labels", 1)
        found = given.astype(int)
        if len(found) != len(matrix) or (found != given).any() or found.min() < 0 or found.max() >= classes:
            raise InputError(f"labels: {len(matrix)} whole numbers from 0 to {classes - 1} are needed")
        onehot = np.eye(classes)[found]
        try:
            f, best = _mode(matrix, onehot)
            pi = softmax(f, axis=1)
            inner, halves = _curvature(matrix, pi)
            lower = np.linalg.cholesky(inner.sum(axis=0))
        except np.linalg.LinAlgError:
            raise InputError(
                f"k: beside entries of {matrix.max():.3g} likelihoods are lost in rounding; give a smaller "
                "kernel"
            ) from None
        evidence = best - halves - float(np.log(lower.diagonal()).sum())
        return cls(onehot - pi, inner, lower, evidence)

    def latent(self, k_new: Any, prior: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean (M, C) and covariance (M, C, C) of f at new examples; ``prior`` is K(x, x) of each."""
        across = arguments.cross(k_new, len(self.pull))
        own = finite_array(prior, "prior", 1)
        mean = across @ self.pull
        pulled = np.einsum("cij,mj->cmi", self.inner, across)  # E_c k*
        cov = np.einsum("cmi,dmi->mcd", pulled, _solved(self.lower, pulled))
        own_part = own[:, None] - np.einsum("cmi,mi->mc", pulled, across)
        at = np.arange(mean.shape[1])
        cov[:, at, at] += own_part
        return mean, cov

    def probabilities(self, k_new: Any, prior: Any) -> np.ndarray:
        """E softmax(f) (M, C) over the Gaussian of f, by quasi-random points (the same for every example)."""
        mean, cov = self.latent(k_new, prior)
        values, vectors = np.linalg.eigh(cov)
        roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        z = _points(mean.shape[1])
        made = np.empty_like(mean)
        for at, (m, root) in enumerate(zip(mean, roots, strict=True)):
            made[at] = softmax(m + z @ root.T, axis=1).mean(axis=0)
        return made / made.sum(axis=1, keepdims=True)


def _mode(k: np.ndarray, onehot: np.ndarray) -> tuple[np.ndarray, float]:
    """The f of largest posterior density by Newton's method, and the log of that density."""
    f = weights = np.zeros_like(onehot)
    best = _objective(f, weights, onehot)
    before = np.inf
    for _ in range(STEPS):
        pi = softmax(f, axis=1)
        inner, _ = _curvature(k, pi)
        lower = np.linalg.cholesky(inner.sum(axis=0))
        b = pi * f - pi * np.sum(pi * f, axis=1, keepdims=True) + onehot - pi
        c = np.einsum("cij,jc->ic", inner, k @ b)
        total = cho_solve((lower, True), c.sum(axis=1))
        step = b - c + np.einsum("cij,j->ic", inner, total) - weights
        move = k @ step
        size = 1.0
        # far from the mode Newton's step may be too long; near it the objective cannot tell
        while size > 1e-4 and _objective(f + size * move, weights + size * step, onehot) < best - SLACK:
            size *= 0.5
        weights, f = weights + size * step, f + size * move
        last, best = best, _objective(f, weights, onehot)
        moved = float(np.abs(move).max() / (1.0 + np.abs(f).max()))
        # at the mode steps are of rounding's size, which is that of the kernel, and shrink no more
        if moved <= SETTLED or (best - last <= SLACK and moved > 0.5 * before):
            break
        before = moved
    if moved > 1.0:
        raise np.linalg.LinAlgError("nothing is known of the mode")
    if moved > ROUGH:
        warnings.warn(
            f"k: by Newton's method the mode of f is only known to {moved:.2g} of its size; give a smaller "
            "kernel",
            AccuracyWarning,
            stacklevel=outside(),
        )
    return f, best


def _objective(f: np.ndarray, weights: np.ndarray, onehot: np.ndarray) -> float:
    return float(-0.5 * np.sum(weights * f) + np.sum(onehot * f) - logsumexp(f, axis=1).sum())


def _curvature(k: np.ndarray, pi: np.ndarray) -> tuple[np.ndarray, float]:
    """E_c = D^1/2 (1 + D^1/2 K D^1/2)^-1 D^1/2 of every class, and the halves of the log determinants."""
    inner = np.empty((pi.shape[1], *k.shape))
    halves = 0.0
    for c, root in enumerate(np.sqrt(pi.T)):
        factor, _ = cho_factor(np.eye(len(k)) + root[:, None] * k * root, lower=True)
        halves += float(np.log(factor.diagonal()).sum())
        inner[c] = root[:, None] * cho_solve((factor, True), np.diag(root))
    return inner, halves


def _solved(lower: np.ndarray, pulled: np.ndarray) -> np.ndarray:
    flat = pulled.reshape(-1, pulled.shape[-1])
    return cho_solve((lower, True), flat.T).T.reshape(pulled.shape)


@lru_cache(maxsize=16)
def _points(dimension: int) -> np.ndarray:
    from scipy.stats import norm

    made = sobol_sequence(dimension, np.random.default_rng(0)).random(POINTS // 2)
    z = norm.ppf(np.clip(made, 1e-12, 1 - 1e-12))
    return np.concatenate([z, -z])
