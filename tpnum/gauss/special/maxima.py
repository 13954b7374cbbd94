"""Maxima of Gaussian vectors: E max, E max^2, E[max u max v] and who the maxima are (max pooling)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.special import tails
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import centring, finite, integral, law, root_mean_square, split
from tpnum.gauss.special.orthants import LEAST, probability
from tpnum.gauss.special.randomised import Problems, adaptive, largest
from tpnum.kernels.maximum import max_pairs

_EXACT = 4
"""Orthants of up to this dimension are quadratures; larger ones are sampled."""

Part = tuple[np.ndarray, np.ndarray]


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
    if d - 1 > _EXACT:
        joint, wide = np.zeros((n, d + 1, d + 1)), np.ones((n, d + 1))
        joint[:, :d, :d], wide[:, :d] = cov, mean
        made = _sampled(wide, joint, d, goal, scale, "max")
        return _estimate("expected_max", made, shape, "smoothed qmc", goal, scale)
    means, covs = _against_others(mean, cov, (d,))
    first, error, price = tails.first_moments(*_flat(means, covs), d - 1, goal.share(d))
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
    if d - 1 > _EXACT:
        twice = np.concatenate([mean, mean], axis=1)
        made = _sampled(twice, np.tile(cov, (1, 2, 2)), d, goal, scale, "max")
        return _estimate("max_square", made, shape, "smoothed qmc", goal, scale)
    means, covs = _against_others(mean, cov, (d,))
    (_, _, second), price = tails.moments(*_flat(means, covs), d - 1, goal.share(d))
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
    two need bivariate ones only.  Larger ones: the principal axis of the differences within the windows is
    integrated exactly, along the upper envelopes of lines, which leaves a smooth integrand of the other
    axes for scrambled Sobol points.  Accuracy as in `expected_max`, ``rtol`` relative to the
    mean square of the largest coordinate or the value.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    first = split(first, d)
    scale = root_mean_square(mean, cov) ** 2
    if d - 2 > _EXACT:
        made = _sampled(mean, cov, first, goal, scale, "max")
        return _estimate("max_second", made, shape, "smoothed qmc", goal, scale)
    means, covs = _against_others(mean, cov, (first, d - first))
    count = means.shape[1]
    (_, _, second), price = tails.moments(*_flat(means, covs), d - 2, goal.share(count))
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
    if d - 2 > _EXACT:
        made, method = _sampled(mean, cov, first, goal, np.ones(n), "who"), "smoothed qmc"
    else:
        means, covs = _against_others(mean, cov, (first, d - first))
        m = d - 2
        flat_mean, flat_cov = _flat(means, covs)
        made, method = probability(flat_mean[:, :m], flat_cov[:, :m, :m], goal), "quadrature"
    value, error = (part.reshape(n, first, d - first) for part in made[:2])
    scale = np.max(value, axis=(1, 2), initial=0.0)[:, None, None]
    return _estimate("argmax_joint", (value, error, made[2]), shape, method, goal, scale)


def exact_square(mean: np.ndarray, cov: np.ndarray, floor: float) -> np.ndarray | None:
    """E max(u, floor)^2, floor 0 or -inf, (n,); None for windows of which it would be sampled."""
    means, covs = _against_others(*_above(mean, cov, floor), (_size(cov, floor),))
    m = means.shape[2] - 1
    if m > _EXACT:
        return None
    (_, _, second), _ = tails.moments(*_flat(means, covs), m, _CLOSE.share(m + 1))
    return np.asarray(second[0][:, 0, 0].reshape(means.shape[:2]).sum(axis=1))


def exact_argmax(mean: np.ndarray, cov: np.ndarray, floor: float) -> np.ndarray | None:
    """P(u_i is the largest, and above the floor), (n, d); None for windows of which it would be sampled."""
    means, covs = _against_others(*_above(mean, cov, floor), (_size(cov, floor),))
    m = means.shape[2] - 1
    if m > _EXACT:
        return None
    flat_mean, flat_cov = _flat(means, covs)
    value, _, _ = probability(flat_mean[:, :m], flat_cov[:, :m, :m], _CLOSE)
    return np.asarray(value.reshape(means.shape[:2])[:, -cov.shape[1] :])


_CLOSE = Aim.asked(None, 1e-12, None, LEAST)


def _size(cov: np.ndarray, floor: float) -> int:
    return cov.shape[1] + (floor == 0.0)


def _above(mean: np.ndarray, cov: np.ndarray, floor: float) -> Part:
    """The law with a coordinate that is the floor, the first, if there is one."""
    if floor != 0.0:
        return mean, cov
    n, d = mean.shape
    wide = np.zeros((n, d + 1, d + 1))
    wide[:, 1:, 1:] = cov
    return np.concatenate([np.zeros((n, 1)), mean], axis=1), wide


def _estimate(
    name: str, made: tuple[np.ndarray, np.ndarray, Price], shape: tuple[int, ...], method: str, goal: Aim,
    scale: np.ndarray,
) -> Estimate:  # fmt: skip
    value, error, price = made
    report(name, goal, error, np.maximum(np.abs(value), scale), price)
    tail = finite(name, value).shape[1:]
    return Estimate(value.reshape(shape + tail)[()], error.reshape(shape + tail)[()], method, price.cost)


def _flat(means: np.ndarray, covs: np.ndarray) -> Part:
    d = means.shape[2]
    return means.reshape(-1, d), covs.reshape(-1, d, d)


def _against_others(mean: np.ndarray, cov: np.ndarray, sizes: tuple[int, ...]) -> Part:
    """The laws of (leads over the others .., leaders ..) for each choice of one leader per window.

    (n, choices, d) and (n, choices, d, d): a lead is u_i - u_k, and where it is zero almost surely its
    mean is set to +-1 so that the earlier coordinate leads.
    """
    d = mean.shape[1]
    begins = np.cumsum((0, *sizes))[:-1]
    choices = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
    maps = np.zeros((len(choices), d, d))
    earlier = np.zeros((len(choices), d - len(sizes)))
    for number, leaders in enumerate(choices):
        row = 0
        for begin, size, leader in zip(begins, sizes, leaders, strict=True):
            for k in range(size):
                if k != leader:
                    maps[number, row, begin + leader], maps[number, row, begin + k] = 1.0, -1.0
                    earlier[number, row] = 1.0 if leader < k else -1.0
                    row += 1
        for window, (begin, leader) in enumerate(zip(begins, leaders, strict=True)):
            maps[number, row + window, begin + leader] = 1.0
    means = np.einsum("cij,nj->nci", maps, mean)
    covs = np.einsum("cij,njk,clk->ncil", maps, cov, maps, optimize=True)
    m = earlier.shape[1]
    size = np.einsum("cij,nj->nci", np.abs(maps), np.einsum("njj->nj", cov))[:, :, :m]
    still = np.einsum("ncii->nci", covs)[:, :, :m] <= 1e-14 * size
    tied = still & (np.abs(means[:, :, :m]) <= 1e-7 * np.sqrt(size))
    leads = means[:, :, :m]
    leads[tied] = np.broadcast_to(earlier, leads.shape)[tied]
    moving = np.ones(means.shape, dtype=bool)
    moving[:, :, :m] = ~still
    return means, np.where(moving[:, :, :, None] & moving[:, :, None, :], covs, 0.0)


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
