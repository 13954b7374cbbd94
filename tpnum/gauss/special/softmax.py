"""E softmax(z) and E softmax(z) softmax(z')' for Gaussian logits (attention scaled by 1/sqrt(n))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.special.inputs import centring, law, report, split, tolerance
from tpnum.gauss.special.randomised import SETS, adaptive, normal_sets
from tpnum.kernels.softmax import softmax_sums

_ORDERS = (16, 32, 64, 128)  # Gauss-Hermite nodes an axis, for at most two axes
_AXES = 2


@dataclass(frozen=True)
class SoftmaxMoments:
    """E softmax(z) (..., T), E softmax(z') (..., T') and E softmax(z) softmax(z')' (..., T, T')."""

    first: Estimate
    second: Estimate
    cross: Estimate


def softmax_moments(mean: Any, cov: Any, first: int | None = None, atol: float = 1e-4) -> SoftmaxMoments:
    """Moments of the softmax of two logit vectors, (z, z') ~ N(mean, cov) in T + T' dimensions.

    ``mean`` (..., T + T') or a number, ``cov`` (..., T + T', T + T'), ``first`` = T (half by default);
    z' may be z itself (singular cov).  The softmax sees differences only, so the covariance is centred
    in either block and factored along its principal axes.  Two axes at most (T = T' = 2, where it is the
    sigmoid of a difference): tensor Gauss-Hermite rules, two orders for the error.  Otherwise scrambled
    Sobol points that all problems share, the whole T x T' block from each; an error from the scrambles.
    """
    atol = tolerance(atol)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    first = split(first, d)
    within = centring([first, d - first])
    centred = within @ cov @ within
    factor = principal_factors(0.5 * (centred + centred.transpose(0, 2, 1)))
    rank = max(1, int(np.max(np.sum(np.any(factor != 0.0, axis=1), axis=1), initial=0)))
    factor = np.ascontiguousarray(factor[:, :, : min(rank, max(1, d - 2))])
    size = d + first * (d - first)
    value, error, cost, method = np.empty((n, size)), np.full((n, size), np.inf), 0, "quadrature"
    if factor.shape[2] <= _AXES:
        value, error, cost = _tensor(mean, factor, first, size, atol)
    left = np.flatnonzero(np.any(error > atol, axis=1))
    if left.size:
        method = "qmc"

        def run(rows: np.ndarray, log2: int) -> np.ndarray:
            out = np.empty((rows.size, SETS, size))
            weight = np.full(1 << log2, 0.5**log2)
            picked = left[rows]
            softmax_sums(mean[picked], factor[picked], first, normal_sets(factor.shape[2], log2), weight, out)
            return out

        value[left], error[left], more = adaptive(run, left.size, atol)
        cost += more
    report("softmax_moments", error, atol)

    def part(begin: int, end: int, *sides: int) -> Estimate:
        made = [a[:, begin:end].reshape(*shape, *sides) for a in (value, error)]
        return Estimate(made[0], made[1], method, cost)

    return SoftmaxMoments(part(0, first, first), part(first, d, d - first), part(d, size, first, d - first))


def _tensor(
    mean: np.ndarray, factor: np.ndarray, first: int, size: int, atol: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Gauss-Hermite rules of growing order until two agree."""
    n, _, axes = factor.shape
    out = np.empty((n, 1, size))
    value, error = np.zeros((n, size)), np.full((n, size), np.inf)
    todo, cost = np.arange(n), 0
    for number, order in enumerate(_ORDERS):
        x, w = np.polynomial.hermite_e.hermegauss(order)
        z = np.stack([a.ravel() for a in np.meshgrid(*[x] * axes, indexing="ij")])
        weight = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[w] * axes, indexing="ij")]), axis=0)
        kept = weight > 1e-32
        weight = weight[kept] / weight.sum()
        out = np.empty((todo.size, 1, size))
        softmax_sums(mean[todo], factor[todo], first, np.ascontiguousarray(z[None, :, kept]), weight, out)
        cost += todo.size * weight.size
        if number:
            error[todo] = np.abs(out[:, 0] - value[todo]) + 1e-15
        value[todo] = out[:, 0]
        todo = todo[np.any(error[todo] > 0.1 * atol, axis=1)]
        if not todo.size:
            break
    return value, error, cost
