"""Maxima of Gaussian vectors: E max, E max^2, E[max u max v] and who the maxima are (max pooling)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.special import tails
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import centring, finite, integral, law, root_mean_square, split
from tpnum.gauss.special.leads import EXACT, against_others, flat
from tpnum.gauss.special.orthants import LEAST, probability
from tpnum.gauss.special.randomised import Problems, adaptive, largest
from tpnum.gauss.special.tied_maxima import MOST, SHARES, VALUES, Order, distinct, enough, pairs
from tpnum.kernels.maximum import max_pairs


@integral
def expected_max(
    mean: Any, cov: Any, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E max_i u_i, u ~ N(mean, cov); ``mean`` (..., d) or a number, ``cov`` (..., d, d).

    By integration by parts, with P_i = P(u_i is the maximum),

        E max u = sum_i mean_i P_i + sum_{i<k} Var(u_i - u_k) p_ik(0) P(u_l < u_i for all l | u_i = u_k),

    p_ik the density of u_i - u_k (d = 2: Clark 1961; d <= 5: one-dimensional quadrature).  Larger
    windows are sampled as in `max_second`.  Coordinates that are equal almost surely count once.

    An error of ``atol``, or of ``rtol`` times the root mean square of the largest coordinate or the value,
    is enough (1e-4 both is the aim, if none is given); ``budget`` bounds the points of the samples (2^18).
    A missed goal is an AccuracyWarning, a missed aim only above 2e-3.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    scale = root_mean_square(mean, cov)
    if d - 1 > EXACT:
        joint, wide = np.zeros((n, d + 1, d + 1)), np.ones((n, d + 1))
        joint[:, :d, :d], wide[:, :d] = cov, mean
        made = _sampled(wide, joint, d, goal, scale, "max")
        return _estimate("expected_max", made, shape, "smoothed qmc", goal, scale)
    means, covs = against_others(mean, cov, (d,))
    first, error, price = tails.first_moments(*flat(means, covs), d - 1, goal.share(d))
    value = first[:, 0].reshape(n, d).sum(axis=1), error[:, 0].reshape(n, d).sum(axis=1)
    return _estimate("expected_max", (*value, price), shape, "integration by parts", goal, scale)


@integral
def max_square(
    mean: Any, cov: Any, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E (max_i u_i)^2, u ~ N(mean, cov), `max_second` of a window with itself; see there."""
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    scale = root_mean_square(mean, cov) ** 2
    if d - 1 > EXACT:
        twice = np.concatenate([mean, mean], axis=1)
        made = _sampled(twice, np.tile(cov, (1, 2, 2)), d, goal, scale, "max")
        return _estimate("max_square", made, shape, "smoothed qmc", goal, scale)
    means, covs = against_others(mean, cov, (d,))
    (_, _, second), price = tails.moments(*flat(means, covs), d - 1, goal.share(d))
    value = second[0][:, 0, 0].reshape(n, d).sum(axis=1), second[1][:, 0, 0].reshape(n, d).sum(axis=1)
    return _estimate("max_square", (*value, price), shape, "integration by parts", goal, scale)


@integral
def max_second(
    mean: Any, cov: Any, first: int | None = None, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E[max_i u_i max_j v_j] for two windows, (u, v) ~ N(mean, cov), u the ``first`` coordinates (half).

    Windows of together at most six coordinates: E[u_i v_j 1{u_i, v_j are the maxima}] by integration by
    parts (`tail_moments`), one-dimensional quadratures of orthant probabilities at most; two windows of
    two need bivariate ones only.  Centred windows of up to five: integrals of one variable, nested over
    ties of the largest (`tpnum.kernels.ties`).  Larger ones: the principal axis of the differences within
    the windows is integrated exactly, along the upper envelopes of lines, which leaves a smooth integrand
    of the other axes for scrambled Sobol points.  Accuracy as in `expected_max`, ``rtol`` relative to the
    mean square of the largest coordinate or the value.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    first = split(first, d)
    scale = root_mean_square(mean, cov) ** 2
    if d - 2 > EXACT and _small(mean, first):
        tied = _by_ties(cov, first, goal, scale, "max")
        return _estimate("max_second", tied, shape, "nested quadrature", goal, scale)
    if d - 2 > EXACT:
        made = _sampled(mean, cov, first, goal, scale, "max")
        return _estimate("max_second", made, shape, "smoothed qmc", goal, scale)
    means, covs = against_others(mean, cov, (first, d - first))
    count = means.shape[1]
    (_, _, second), price = tails.moments(*flat(means, covs), d - 2, goal.share(count))
    value = second[0][:, 0, 1].reshape(n, -1).sum(axis=1), second[1][:, 0, 1].reshape(n, -1).sum(axis=1)
    return _estimate("max_second", (*value, price), shape, "integration by parts", goal, scale)


@integral
def argmax_joint(
    mean: Any, cov: Any, first: int | None = None, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """P(argmax u = i, argmax v = j), (..., first, d - first): the derivative kernel of max pooling.

    E[d max u/d u_i d max v/d v_j] is this probability, of an orthant in d - 2 dimensions; arguments and
    methods as in `max_second`, ``rtol`` relative to the largest probability.  Of coordinates that
    are equal almost surely the earliest is the maximum.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    first = split(first, d)
    if d - 2 > EXACT and _small(mean, first):
        made, method = _by_ties(cov, first, goal, np.ones(n), "who"), "nested quadrature"
    elif d - 2 > EXACT:
        made, method = _sampled(mean, cov, first, goal, np.ones(n), "who"), "smoothed qmc"
    else:
        means, covs = against_others(mean, cov, (first, d - first))
        m = d - 2
        flat_mean, flat_cov = flat(means, covs)
        made, method = probability(flat_mean[:, :m], flat_cov[:, :m, :m], goal), "quadrature"
    value, error = (part.reshape(n, first, d - first) for part in made[:2])
    scale = np.max(value, axis=(1, 2), initial=0.0)[:, None, None]
    return _estimate("argmax_joint", (value, error, made[2]), shape, method, goal, scale)


def _estimate(
    name: str, made: tuple[np.ndarray, np.ndarray, Price], shape: tuple[int, ...], method: str, goal: Aim,
    scale: np.ndarray,
) -> Estimate:  # fmt: skip
    value, error, price = made
    report(name, goal, error, np.maximum(np.abs(value), scale), price)
    tail = finite(name, value).shape[1:]
    return Estimate(value.reshape(shape + tail)[()], error.reshape(shape + tail)[()], method, price.cost)


def _small(mean: np.ndarray, first: int) -> bool:
    return not np.any(mean) and max(first, mean.shape[1] - first) <= MOST


def _by_ties(
    cov: np.ndarray, first: int, goal: Aim, scale: np.ndarray, wanted: str
) -> tuple[np.ndarray, np.ndarray, Price]:
    """(value, error, price) of centred windows of up to five, as `_sampled` has them."""
    one, two = distinct(cov[:, :first, :first]), distinct(cov[:, first:, first:])
    ladder: tuple[Order, ...] = SHARES
    unit = np.ones(len(cov))
    if wanted == "max":
        deviations = np.sqrt(np.einsum("nii->ni", cov))
        ladder, unit = VALUES, deviations[:, :first].max(axis=1) * deviations[:, first:].max(axis=1)
    relative = np.divide(goal.allowed(scale), unit, out=np.ones(len(cov)), where=unit > 0.0)
    order = enough(ladder, float(np.min(relative, initial=1.0)))
    each = np.arange(len(cov))
    value, shares, blurred = pairs(one, two, each, each, cov[:, :first, first:], order)
    price = Price(order.nodes * len(cov))
    if wanted == "max":
        return value, order.error * unit + blurred, price
    return shares.reshape(len(cov), -1), np.full((len(cov), shares[0].size), order.error), price


def _sampled(
    mean: np.ndarray, cov: np.ndarray, first: int, goal: Aim, scale: np.ndarray, wanted: str
) -> tuple[np.ndarray, np.ndarray, Price]:
    """(value, error, price) for windows of any size: "max", E[max max] (n,), "who", the argmax (n, pairs)."""
    d = mean.shape[1]
    factor = principal_factors(cov)
    # the axis along which the coordinates of a window part most is integrated, the others by their variance
    _, _, axes = np.linalg.svd(centring([first, d - first]) @ factor)
    factor = factor @ axes.transpose(0, 2, 1)
    slope = factor[:, :, 0]
    across, size, _ = np.linalg.svd(factor[:, :, 1:], full_matrices=False)
    factor = np.ascontiguousarray(np.concatenate([slope[:, :, None], across * size[:, None, :]], axis=2))
    order = np.concatenate(
        [np.argsort(slope[:, :first], axis=1, kind="stable"),
         first + np.argsort(slope[:, first:], axis=1, kind="stable")], axis=1
    )  # fmt: skip
    pairs = first * (d - first)
    kept = slice(0, 1) if wanted == "max" else slice(1, 1 + pairs)

    def run(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty((rows.size, 1, 1 + pairs))
        max_pairs(mean[rows], factor[rows], order[rows], first, z[None], out)
        return out[:, 0, kept]

    def sizes(value: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return largest(value) if wanted == "who" else np.maximum(np.abs(value), scale[rows, None])

    top, steps = (1.0, True) if wanted == "who" else (0.0, False)
    problems = Problems(mean.shape[0], d - 1, 1 if wanted == "max" else pairs, d * (d + 60.0), top, steps)
    value, error, price = adaptive(problems, run, goal, sizes)
    return (value[:, 0], error[:, 0], price) if wanted == "max" else (value, error, price)
