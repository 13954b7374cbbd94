"""Moments of a Gaussian vector on an orthant, by integration by parts: E[1{Y > 0} w w'].

For (Y, w) jointly Gaussian with mean m and covariance C, C_ai = Cov(w_a, Y_i) (Stein; Tallis 1961):

    E[w_a 1{Y>0}]     = m_a P + sum_i C_ai p_i(0) P(Y_{-i} > 0 | Y_i = 0)
    E[w_a w_b 1{Y>0}] = m_a E[w_b 1] + C_ab P + sum_i C_ai p_i(0) E[w_b 1{Y_{-i} > 0} | Y_i = 0]

p_i the density of Y_i.  Dimensions fall by one with each integration, so that up to four coordinates
need one-dimensional quadrature at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import whole
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import finite, integral, law, real, root_mean_square
from tpnum.gauss.special.orthants import LEAST, gated, probability

_FLAT = 1e-13  # a conditional variance below this share of the variance is none
_TIE = 1e-7  # and a mean below this share of the deviation is zero


@dataclass(frozen=True)
class Tail:
    """E[1{Y > 0}], E[w 1{Y > 0}] (..., k) and E[w w' 1{Y > 0}] (..., k, k)."""

    probability: Estimate
    first: Estimate
    second: Estimate


@integral
def tail_moments(
    mean: Any, cov: Any, m: int, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Tail:  # fmt: skip
    """Moments of w = Z_{m+1..d} where Y = Z_{1..m} is positive, Z ~ N(mean, cov) (formula above).

    ``mean`` (..., d) or a number, ``cov`` (..., d, d).  ``rtol`` (the aim is 1e-4, of ``atol`` too, if none
    is given) is relative to the probability, to the root mean square of the largest coordinate of w, and to
    its square; ``budget`` bounds the points for each probability of more than four dimensions.  Raises
    InputError for a law that is none.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    m = whole(m, "m", 0, mean.shape[1] - 1)
    return _packed("tail_moments", mean, cov, m, shape, goal)


@integral
def cdf_moments(
    a: Any, cov: Any, mean: Any = 0.0, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Tail:  # fmt: skip
    """E prod_i Phi(a_i z_i), times z_j, and times z_j z_k; arguments as in `product_of_cdfs`.

    What gated units need: E[z_j prod Phi] with sigmoid-like gates Phi; zero entries of ``a`` are not
    gates, they contribute factors 1/2 that are divided out.  Accuracy as in `tail_moments`.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    y_mean, y_cov, shape = gated(a, cov, mean)
    z_mean, z_cov, a = _broadcast(a, cov, mean, shape)
    d = z_mean.shape[1]
    joint = np.empty((z_mean.shape[0], 2 * d, 2 * d))
    joint[:, :d, :d], joint[:, d:, d:] = y_cov, z_cov
    joint[:, :d, d:] = a[:, :, None] * z_cov
    joint[:, d:, :d] = joint[:, :d, d:].transpose(0, 2, 1)
    kept = np.flatnonzero(np.any(a != 0.0, axis=0))
    index = np.concatenate([kept, np.arange(d, 2 * d)])
    mean = np.concatenate([y_mean, z_mean], axis=1)[:, index]
    return _packed("cdf_moments", mean, joint[:, index[:, None], index], kept.size, shape, goal)


def _broadcast(a: Any, cov: Any, mean: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    cov = real("cov", cov)
    d = max(1, np.shape(cov)[-1] if np.ndim(cov) else 1)
    z_mean = np.broadcast_to(real("mean", mean), (*shape, d)).reshape(-1, d)
    z_cov = np.broadcast_to(cov, (*shape, d, d)).reshape(-1, d, d)
    slopes = np.broadcast_to(real("a", a), (*shape, d)).reshape(-1, d)
    return z_mean, z_cov, slopes


def _packed(name: str, mean: np.ndarray, cov: np.ndarray, m: int, shape: tuple[int, ...], goal: Aim) -> Tail:
    parts, price = moments(mean, cov, m, goal)
    scale = root_mean_square(mean[:, m:], cov[:, m:, m:])
    sizes = parts[0][0], scale[:, None], scale[:, None, None] ** 2
    for (value, error), size in zip(parts, sizes, strict=True):
        finite(name, value)
        report(name, goal, error, size, price)
    made = [
        Estimate(value.reshape(shape + value.shape[1:])[()], error.reshape(shape + error.shape[1:])[()],
                 "integration by parts", price.cost)
        for value, error in parts
    ]  # fmt: skip
    return Tail(*made)


Part = tuple[np.ndarray, np.ndarray]


def moments(mean: np.ndarray, cov: np.ndarray, m: int, goal: Aim) -> tuple[tuple[Part, Part, Part], Price]:
    """((P, error), (first, error), (second, error)) and the price, for arrays (n, d) and (n, d, d)."""
    run = _Run(goal, mean, cov, m)
    floor = _FLAT * np.einsum("nii->ni", cov)
    p, p_error = run.positive(mean, cov, m, floor)
    each = _conditioned(mean, cov, m, floor)
    first, first_error = run.first(mean, cov, m, (p, p_error), each)
    second = mean[:, m:, None] * first[:, None, :] + cov[:, m:, m:] * p[:, None, None]
    second_error = np.abs(mean[:, m:, None]) * first_error[:, None, :]
    second_error += np.abs(cov[:, m:, m:]) * p_error[:, None, None]
    for i, (density, given_mean, given_cov, given_floor) in enumerate(each):
        q = run.positive(given_mean, given_cov, m - 1, given_floor)
        inner = _conditioned(given_mean, given_cov, m - 1, given_floor)
        made, wrong = run.first(given_mean, given_cov, m - 1, q, inner)
        weight = cov[:, m:, i] * density[:, None]
        second += weight[:, :, None] * made[:, None, :]
        second_error += np.abs(weight)[:, :, None] * wrong[:, None, :]
    second = 0.5 * (second + second.transpose(0, 2, 1))
    return ((p, p_error), (first, first_error), (second, second_error)), run.price


Given = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def first_moments(
    mean: np.ndarray, cov: np.ndarray, m: int, goal: Aim
) -> tuple[np.ndarray, np.ndarray, Price]:
    """E[w 1{Y > 0}] alone, its error and its price."""
    run = _Run(goal, mean, cov, m)
    floor = _FLAT * np.einsum("nii->ni", cov)
    p = run.positive(mean, cov, m, floor)
    return *run.first(mean, cov, m, p, _conditioned(mean, cov, m, floor)), run.price


class _Run:
    """One call: the goal of each of its probabilities, and what they cost together."""

    def __init__(self, goal: Aim, mean: np.ndarray, cov: np.ndarray, m: int) -> None:
        scale = root_mean_square(mean[:, m:], cov[:, m:, m:])
        size = np.maximum(1.0, np.max(scale, initial=0.0))
        self.goal = Aim(goal.rtol, float(goal.atol / size**2), goal.budget).share(2 + 2 * m)
        self.price = Price(0)

    def positive(self, mean: np.ndarray, cov: np.ndarray, m: int, floor: np.ndarray) -> Part:
        """P(Y > 0); a Y_i without variance is its mean, and fails at zero."""
        bound, block = mean[:, :m], cov[:, :m, :m]
        still = np.einsum("nii->ni", block) <= floor[:, :m]
        block = np.where(still[:, :, None] | still[:, None, :], 0.0, block)
        value, error, price = probability(np.where(still & (bound <= 0.0), -1.0, bound), block, self.goal)
        points = max(price.points, self.price.points)
        self.price = Price(self.price.cost + price.cost, points, price.power)
        return value, error

    def first(self, mean: np.ndarray, cov: np.ndarray, m: int, p: Part, each: list[Given]) -> Part:
        """E[w 1{Y > 0}] from the probability and the laws given that each of Y is zero."""
        first = mean[:, m:] * p[0][:, None]
        error = np.abs(mean[:, m:]) * p[1][:, None]
        for i, (density, given_mean, given_cov, given_floor) in enumerate(each):
            q, q_error = self.positive(given_mean, given_cov, m - 1, given_floor)
            weight = cov[:, m:, i] * density[:, None]
            first += weight * q[:, None]
            error += np.abs(weight) * q_error[:, None]
        return first, error


def _conditioned(mean: np.ndarray, cov: np.ndarray, m: int, floor: np.ndarray) -> list[Given]:
    """For each Y_i: its density at zero, and the law of the others given that it is zero.

    Coordinates that are zero with Y_i are multiples of it.  Positive ones bound the orthant by the same
    face, which they share; with a negative one the orthant has no inside, and its faces cancel.
    """
    made = []
    d = mean.shape[1]
    for i in range(m):
        others = np.delete(np.arange(d), i)
        variance = cov[:, i, i]
        moves = variance > floor[:, i]
        safe = np.where(moves, variance, 1.0)
        at = mean[:, i] / np.sqrt(safe)
        density = np.where(moves, np.exp(-0.5 * at * at) / np.sqrt(2.0 * np.pi * safe), 0.0)
        slope = np.where(moves[:, None], cov[:, others, i] / safe[:, None], 0.0)
        given_mean = mean[:, others] - slope * mean[:, i : i + 1]
        given_cov = cov[:, others[:, None], others] - slope[:, :, None] * cov[:, i, others][:, None, :]
        lower = floor[:, others]
        tied = (np.einsum("njj->nj", given_cov) <= lower) & (slope != 0.0)
        tied &= np.abs(given_mean) <= _TIE / np.sqrt(_FLAT) * np.sqrt(lower)
        tied[:, m - 1 :] = False
        share = 1.0 / (1.0 + tied.sum(axis=1))
        density *= np.where(np.any(tied & (slope < 0.0), axis=1), 0.0, share)
        given_mean[tied] = 1.0
        made.append((density, given_mean, given_cov, lower))
    return made
