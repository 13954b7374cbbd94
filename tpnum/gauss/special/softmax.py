"""E softmax(z) and E softmax(z) softmax(z')' for Gaussian logits (attention scaled by 1/sqrt(n))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import centring, finite, integral, law, split
from tpnum.gauss.special.randomised import Problems, adaptive, largest
from tpnum.kernels.softmax import gate_pairs, softmax_sums

_FINE = 0.45  # step of the trapezoidal rule times the slope that bounds the strip of analyticity
_REACH = 8.7  # standard deviations
_NODES = 1 << 12  # of a trapezoidal rule
_EXACT = 4e-15  # rounding of the quadratures
_TOGETHER = 32  # problems of a compiled call
_FLAT = 1e-15  # a conditional variance below this share of the variance is none
_NARROWEST = 1e-13  # a step narrower than this is one


@dataclass(frozen=True)
class SoftmaxMoments:
    """E softmax(z) (..., T), E softmax(z') (..., T') and E softmax(z) softmax(z')' (..., T, T')."""

    first: Estimate
    second: Estimate
    cross: Estimate


@integral
def softmax_moments(
    mean: Any, cov: Any, first: int | None = None, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> SoftmaxMoments:  # fmt: skip
    """Moments of the softmax of two logit vectors, (z, z') ~ N(mean, cov) in T + T' dimensions.

    ``mean`` (..., T + T') or a number, ``cov`` (..., T + T', T + T'), ``first`` = T (half by default);
    z' may be z itself (singular cov).  The softmax sees differences only, so the covariance is centred
    in either block and factored along its principal axes.

    | logits | method | error |
    |---|---|---|
    | at most two axes, moderate variances | trapezoidal rule of a step known to be enough | rounding |
    | T, T' <= 2 (gates, sigmoids of differences), any variances | panels around both steps | rounding |
    | others | scrambled Sobol points, the whole block from each | from the scrambles |

    An error of ``atol``, or of ``rtol`` times the largest entry, is enough (1e-4 both is the aim, if none is
    given); ``budget`` bounds the points (2^18).  A missed goal is an AccuracyWarning, a missed aim only above
    2e-3.
    """
    goal = Aim.asked(atol, rtol, budget, 1e-4)
    mean, cov, shape = law(mean, cov)
    n, d = mean.shape
    first = split(first, d)
    within = centring([first, d - first])
    centred = within @ cov @ within
    factor = principal_factors(0.5 * (centred + centred.transpose(0, 2, 1)))
    rank = max(1, int(np.max(np.sum(np.any(factor != 0.0, axis=1), axis=1), initial=0)))
    factor = np.ascontiguousarray(factor[:, :, : min(rank, max(1, d - 2))])
    size = d + first * (d - first)
    value, error = np.empty((n, size)), np.full((n, size), _EXACT)
    cost, left = _trapezoidal(mean, factor, first, value)
    price, method = Price(cost), "quadrature"
    if left.size and max(first, d - first) <= 2:
        price = Price(cost + _gates(mean, cov, first, left, value))
    elif left.size:
        method = "qmc"
        value[left], error[left], price = _sampled(mean[left], factor[left], first, size, goal)

    def part(begin: int, end: int, *sides: int) -> Estimate:
        made = [finite("softmax_moments", a[:, begin:end]) for a in (value, error)]
        report("softmax_moments", goal, made[1], largest(made[0]), price)
        whole, wrong = (a.reshape(*shape, *sides) for a in made)
        return Estimate(whole, wrong, method, price.cost)

    return SoftmaxMoments(part(0, first, first), part(first, d, d - first), part(d, size, first, d - first))


def _trapezoidal(
    mean: np.ndarray, factor: np.ndarray, first: int, value: np.ndarray
) -> tuple[int, np.ndarray]:
    """Fill the moments over one or two axes where few nodes do; (cost, the problems that are left).

    Along an axis where the logits of a block differ by slopes up to s, both softmaxes are analytic in the
    strip |Im z| < pi/s: the denominators have no zero there.  The error of the trapezoidal rule with a step h
    is of the order of exp(-2 pi^2/(s h)).
    """
    n, _, axes = factor.shape
    if axes > 2 or not n:
        return 0, np.arange(n)
    spans = [np.ptp(block, axis=1) for block in (factor[:, :first], factor[:, first:])]
    doubled = np.ceil(np.log2(np.maximum(np.maximum(*spans), 1.0)))  # steps are _FINE/2^doubled
    few = np.prod(2.0 * _REACH / _FINE * 2.0**doubled, axis=1) <= _NODES
    cost = 0
    for powers in np.unique(doubled[few], axis=0):
        rows = np.flatnonzero(few & np.all(doubled == powers, axis=1))
        ticks = []
        for power in powers:
            h = _FINE / 2.0**power
            count = int(_REACH / h)
            ticks.append(h * np.arange(-count, count + 1))
        z = np.stack([a.ravel() for a in np.meshgrid(*ticks, indexing="ij")])
        weight = np.exp(-0.5 * np.sum(z * z, axis=0))
        kept = weight > 1e-17
        z, weight = z[None, :, kept], weight[kept] / weight[kept].sum()
        for begin in range(0, rows.size, _TOGETHER):
            part = rows[begin : begin + _TOGETHER]
            out = np.empty((part.size, 1, value.shape[1]))
            softmax_sums(mean[part], factor[part], first, z, weight, out)
            value[part] = out[:, 0]
        cost += rows.size * weight.size
    return cost, np.flatnonzero(~few)


def _gates(mean: np.ndarray, cov: np.ndarray, first: int, rows: np.ndarray, value: np.ndarray) -> int:
    """Fill the moments of two logits, or one, and two: E g(u) g(v), g the logistic function; the cost.

    With u = m + s z: given z, v is normal again and its gate a function of one variable (`gate_pairs`).
    What is left is an integral over z with panels that shrink towards both steps.
    """
    d = mean.shape[1]
    turn = np.zeros((2, d))
    for row, begin, end in ((0, 0, first), (1, first, d)):
        if end - begin == 2:
            turn[row, begin:end] = 1.0, -1.0
    m = mean[rows] @ turn.T
    q = turn @ cov[rows] @ turn.T
    s = np.sqrt(np.maximum(q[:, 0, 0], 0.0))
    slope = np.where(s > 0.0, q[:, 0, 1] / np.where(s > 0.0, s, 1.0), 0.0)
    rest = q[:, 1, 1] - slope * slope
    rest = np.sqrt(np.where(rest > _FLAT * q[:, 1, 1], rest, 0.0))
    edges = np.sort(
        np.concatenate([
            np.broadcast_to(np.linspace(-9.0, 9.0, 13), (rows.size, 13)),
            _graded(m[:, 0], s, np.full(rows.size, 3.0)),
            _graded(m[:, 1], slope, np.maximum(3.0, rest)),
        ], axis=1), axis=1,
    )  # fmt: skip
    made, cost = np.empty((rows.size, 4)), np.zeros(rows.size, np.int64)
    for begin in range(0, rows.size, _TOGETHER):
        part = slice(begin, begin + _TOGETHER)
        gate_pairs(m[part], s[part], slope[part], rest[part], edges[part], made[part], cost[part])
    cross = made.reshape(-1, 2, 2)
    cross = cross if first == 2 else cross.sum(axis=1, keepdims=True)
    cross = cross if d - first == 2 else cross.sum(axis=2, keepdims=True)
    parts = cross.sum(axis=2), cross.sum(axis=1), cross.reshape(rows.size, -1)
    value[rows] = np.concatenate(parts, axis=1)
    return int(cost.sum())


def _graded(m: np.ndarray, s: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Edges of panels in z that double away from m + s z = 0, starting with |s z| < width."""
    steep = np.abs(s)
    safe = np.where(steep > 0.0, steep, 1.0)
    middle = np.where(steep > 0.0, np.clip(-m / np.where(steep > 0.0, s, 1.0), -20.0, 20.0), -20.0)
    first = np.where(steep > 0.0, np.clip(width / safe, _NARROWEST, 32.0), 32.0)
    count = 1 + int(np.ceil(np.log2(np.max(32.0 / first, initial=1.0))))
    away = first[:, None] * 2.0 ** np.arange(count)
    made = np.concatenate([middle[:, None] - away, middle[:, None], middle[:, None] + away], axis=1)
    return np.clip(made, -9.0, 9.0)


def _sampled(
    mean: np.ndarray, factor: np.ndarray, first: int, size: int, goal: Aim
) -> tuple[np.ndarray, np.ndarray, Price]:
    """Scrambled Sobol points."""
    n, d, axes = factor.shape

    def run(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty((rows.size, 1, size))
        softmax_sums(mean[rows], factor[rows], first, z[None], np.ones(z.shape[1]), out)
        return out[:, 0]

    def sizes(value: np.ndarray, rows: np.ndarray) -> np.ndarray:
        parts = value[:, :first], value[:, first:d], value[:, d:]
        return np.concatenate([np.broadcast_to(largest(a), a.shape) for a in parts], axis=1)

    price = 0.3 * d * axes + 3.0 * d + 0.5 * first * (d - first)
    return adaptive(Problems(n, axes, size, price, 1.0, steps=True), run, goal, sizes)
