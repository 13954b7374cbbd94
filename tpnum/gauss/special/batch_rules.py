"""The integral over s that replaces powers of |x|: quadrature rules and what they need of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import finite, halves

Rule = tuple[str, int]
RULES: tuple[Rule, ...] = (
    *(("angle", order) for order in (16, 19, 24, 36, 54)),
    *(("panels", order) for order in (8, 12, 16, 24)),
)
"""Gauss-Legendre nodes a dimension, or a panel where the eigenvalues are far apart, until two rules agree."""

SOFT: tuple[Rule, ...] = tuple(("scales", order) for order in (30, 40, 53, 70, 93))
"""Those where something is added to the variance, e^{-s B eps}: nodes in ten units of a line."""

SLOW: tuple[Rule, ...] = (
    *(("fitted", order) for order in (10, 13, 17)),
    *(("angle", order) for order in (24, 36)),
)
"""The first of pairs of few axes, where nothing ends the integral soon and neither kind is always best."""

FINER: tuple[Rule, ...] = tuple(("fitted", order) for order in (8, 11, 16, 21, 28, 37, 49))
LAST: tuple[Rule, ...] = (("line", 54), ("line", 81))
"""Where something is added to the variance, which ends the line; else it might be cut off too soon."""

Integral = Callable[[Rule], tuple[np.ndarray, int]]
"""The value by a rule, and how many matrices were evaluated."""

Nodes = Iterator[tuple[np.ndarray, np.ndarray]]
Grid = tuple[np.ndarray, np.ndarray]
"""The s and the steps of all nodes, (n, nodes) both."""

_PANEL = 3.0  # width in log s
NOTHING = 1e-13
"""Eigenvalues, and covariances of axes, below this share of the largest are none."""


@dataclass(frozen=True)
class Batch:
    """The centred covariances' eigenvalues (n, r), ascending, and vectors (n, B, r); ``eps`` (n,) is added
    to the variance that is divided by.  Axes without variance may be left out: r is B at most.
    """

    values: np.ndarray
    vectors: np.ndarray
    eps: np.ndarray

    @property
    def size(self) -> int:
        return self.vectors.shape[1]

    @property
    def ranks(self) -> np.ndarray:
        """How many axes have a variance."""
        return np.asarray(np.sum(self.values > 0.0, axis=1))

    def some(self, at: slice | np.ndarray) -> Batch:
        """Some of the problems."""
        return Batch(self.values[at], self.vectors[at], self.eps[at])

    def axes(self, kept: np.ndarray) -> Batch:
        """Some of its axes."""
        return replace(self, values=self.values[:, kept], vectors=self.vectors[:, :, kept])

    def nodes(self, rule: Rule) -> Nodes:
        """(s, weight) of each problem, the normaliser det(I + 2 s S)^{-1/2} e^{-s B eps} included."""
        return zip(*(np.ascontiguousarray(x.T) for x in self.every(rule)), strict=True)

    def every(self, rule: Rule) -> Grid:
        """The s and the weights of all nodes at once, (n, nodes) both."""
        kind, order = rule
        return _RULES[kind](self, order)

    def weighed(self, s: np.ndarray, step: np.ndarray) -> Grid:
        """Nodes and their steps times the normaliser."""
        return s, step * np.exp(-self.decay(s))

    def decay(self, s: np.ndarray) -> np.ndarray:
        """Minus the logarithm of the normaliser at s (n, nodes)."""
        determinant = np.sum(np.log1p(2.0 * s[:, :, None] * self.values[:, None, :]), axis=2)
        return np.asarray(0.5 * determinant + self.size * s * self.eps[:, None])

    def weighted(self, s: np.ndarray) -> np.ndarray:
        """K = S (I + 2 s S)^{-1}."""
        shrunk = self.values / (1.0 + 2.0 * s[:, None] * self.values)
        return np.matmul(self.vectors * shrunk[:, None, :], self.vectors.transpose(0, 2, 1))


def centred_sides(matrix: np.ndarray) -> np.ndarray:
    """G matrix G', G the centring of either side."""
    matrix = matrix - matrix.mean(axis=1, keepdims=True)
    return matrix - matrix.mean(axis=2, keepdims=True)


def eigen(centred: np.ndarray, eps: np.ndarray) -> Batch:
    """A centred covariance's axes; those without variance are exactly so."""
    values, vectors = np.linalg.eigh(0.5 * (centred + centred.transpose(0, 2, 1)))
    return Batch(np.where(values > NOTHING * values[:, -1:], values, 0.0), vectors, eps)


def scaled(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cov/4^k, k) of order one, (n, B, B) and (n): batch normalisation sees no scale, its Jacobian does."""
    powers = halves(np.max(np.abs(cov), axis=(1, 2), initial=0.0))
    return np.ldexp(cov, -2 * powers[:, None, None]), powers


def batch_of(cov: np.ndarray, eps: np.ndarray) -> Batch:
    """The batch of covariances (n, B, B) of order one, centred; one whose examples coincide is refused."""
    made = eigen(centred_sides(cov), eps)
    still = made.values[:, -1] <= NOTHING * np.max(np.abs(cov), axis=(1, 2), initial=0.0)
    if np.any(still):
        raise LimitError(
            f"the examples of batch {int(np.argmax(still))} coincide: their batch normalisation is 0/0"
        )
    return made


def rules_for(eps: float) -> tuple[Rule, ...]:
    """The rules by what is added to the variance."""
    return SOFT if eps else RULES


def rules_of_pairs(one: Batch) -> tuple[Rule, ...]:
    """Fitted ones, from the order on that leaves 1e-9 for a batch like this, if any is known."""
    _, ends = _line_ends(one, _FAR)
    first = math.ceil(1.8 + 0.95 * np.max(ends, initial=0.0))
    begun = SLOW if first > SLOW[0][1] else tuple(("fitted", first + k) for k in range(3))
    last = LAST if np.all(one.eps > 0.0) else (("fitted", 64),)
    return (*begun, *(rule for rule in FINER if rule[1] > begun[-1][1]), *last)


@cache
def _legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(order)
    return 0.5 * (x + 1.0), 0.5 * w


def _angle(batch: Batch, order: int) -> Grid:
    """s = c tan^2 over an angle in (0, pi/2), c = rank/(2 tr S): analytic at both ends."""
    scale = (batch.ranks / (2.0 * batch.values.sum(axis=1)))[:, None]
    x, w = _legendre(order)
    tangent = np.tan(0.5 * np.pi * x)
    return batch.weighed(scale * tangent**2, scale * w * np.pi * tangent * (1.0 + tangent**2))


def _panels(batch: Batch, order: int) -> Grid:
    """Panels in log s between the eigenvalues' scales, s itself before them and s^{-1/2} beyond."""
    values = batch.values
    low = 0.5 / values[:, -1:]
    high = 0.5 / np.min(np.where(values > 0.0, values, values[:, -1:]), axis=1, keepdims=True)
    count = 1 + int(np.max(np.log(high / low)) / _PANEL)
    width = np.log(high / low) / count
    x, w = _legendre(order)
    between = low * np.exp((np.arange(count)[:, None] + x).ravel() * width)
    s = low * x, between, high / x**2
    steps = low * w, between * width * np.tile(w, count), high * 2.0 * w / x**3
    return batch.weighed(np.concatenate(s, axis=1), np.concatenate(steps, axis=1))


_FAR = 36.0  # the normaliser's logarithm falls so far until nothing is left
_STEADY = 2.2  # and so far for each node of the trapezoidal rule
_LONGEST = 30.0  # nor is the line followed further: s is e^60 there
_FIRST = 3.7  # exp(-e^3.7) is nothing


def _fitted(batch: Batch, order: int) -> Grid:
    """Gauss's rule of the weight that the batch itself has, delta(s) (s (1 + s/c))^{-1/2} ds.

    Its polynomials are those in theta^2, s = c tan^2 theta: what a pair's weight leaves of the integral
    is even in theta, and as smooth at its far end.  With c = 1/(2 (the largest eigenvalue + B eps)) nothing
    is singular close by.  The weight is summed on a line, s = c sinh^2 x, by the trapezoidal rule.
    """
    scale, end = _line_ends(batch, _FAR)
    fine = 2 * order + 16 + math.ceil(4.0 * np.max(end, initial=0.0))
    x = (np.arange(fine) + 0.5) * (end / fine)
    _, share = batch.weighed(scale * np.sinh(x) ** 2, end / fine)
    square, weight = gauss_rule(np.arctan(np.sinh(x)) ** 2, share, order)
    tangent = np.tan(np.sqrt(square))
    return scale * tangent**2, 2.0 * scale * tangent * np.sqrt(1.0 + tangent**2) * weight


def _line(batch: Batch, order: int) -> Grid:
    """The trapezoidal rule on the same line, s = c sinh^2 x: s^{-1/2} ds is even in x.

    Its end moves out with the order, such that what is cut off falls with what the step leaves.
    """
    scale, end = _line_ends(batch, min(_STEADY * order, _FAR))
    x = (np.arange(order) + 0.5) * (end / order)
    return batch.weighed(scale * np.sinh(x) ** 2, scale * np.sinh(2.0 * x) * (end / order))


def gauss_rule(x: np.ndarray, weight: np.ndarray, order: int) -> Grid:
    """Nodes and weights (n, order) of Gauss's rule for the points x (n, many) with these weights.

    By Lanczos' recurrence, orthogonalised in full.
    """
    total = weight.sum(axis=1, keepdims=True)
    basis = np.empty((order + 1, *x.shape))
    basis[0] = np.sqrt(weight / total)
    jacobi = np.zeros((len(x), order, order))
    for k in range(order):
        v = x * basis[k]
        jacobi[:, k, k] = np.sum(v * basis[k], axis=1)
        for _ in range(2):
            v -= np.einsum("mn,mnx->nx", np.einsum("mnx,nx->mn", basis[: k + 1], v), basis[: k + 1])
        norm = np.sqrt(np.sum(v * v, axis=1, keepdims=True))
        basis[k + 1] = v / norm
        if k + 1 < order:
            jacobi[:, k, k + 1] = jacobi[:, k + 1, k] = norm[:, 0]
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, total * vectors[:, 0] ** 2


def _line_ends(batch: Batch, target: float) -> Grid:
    """c and the x at which the normaliser times s has fallen by e^-target, (n, 1) both."""
    top = batch.values[:, -1:] + batch.size * batch.eps[:, None]
    scale = 0.5 / top
    low, high = np.zeros(top.shape), np.full(top.shape, _LONGEST)
    for _ in range(12):
        x = 0.5 * (low + high)
        s = scale * np.sinh(x) ** 2
        beyond = batch.decay(s) - np.log1p(2.0 * s * top) > target
        low, high = np.where(beyond, low, x), np.where(beyond, x, high)
    return scale, high


def _scales(batch: Batch, order: int) -> Grid:
    """s = c exp(x - e^-x) by the trapezoidal rule: no scale that e^{-s B eps} adds is singular close by."""
    scale, end = _line_ends(batch, _FAR)
    end = np.maximum(2.0 * np.log(np.sinh(end)), 0.0)
    count = math.ceil(0.1 * order * (_FIRST + np.max(end, initial=0.0)))
    step = (_FIRST + end) / count
    x = (np.arange(count) + 0.5) * step - _FIRST
    s = scale * np.exp(x - np.exp(-x))
    return batch.weighed(s, s * (1.0 + np.exp(-x)) * step)


_RULES = {"angle": _angle, "panels": _panels, "fitted": _fitted, "line": _line, "scales": _scales}


def refined(
    name: str,
    value_of: Integral,
    shape: tuple[int, ...],
    goal: Aim,
    powers: np.ndarray | None = None,
    rules: tuple[Rule, ...] = RULES,
) -> Estimate:
    """The first of ``rules`` that agrees with the one before within the goal, times 2^powers (n).

    No finer rule is begun after ``budget`` matrices a problem.
    """
    value, cost = value_of(rules[0])
    error = np.full(value.shape, np.inf)
    units = np.zeros(value.shape[0], np.int64) if powers is None else powers
    units = units.reshape(-1, *[1] * (value.ndim - 1))
    size: np.ndarray = np.zeros(1)
    for rule in rules[1:]:
        made, used = value_of(rule)
        error, value, cost = np.abs(made - value) + 1e-15 * np.abs(made), made, cost + used
        size = np.max(np.abs(value), axis=(1, 2), keepdims=True, initial=0.0)
        met = (error <= goal.rtol * size) | (np.ldexp(error, units) <= goal.atol)
        if np.all(met) or (goal.budget is not None and cost >= goal.budget * max(1, value.shape[0])):
            break
    value, error, size = (np.ldexp(a, units) for a in (value, error, size))
    report(name, goal, error, size, Price(cost))
    tail = finite(name, value).shape[1:]
    return Estimate(value.reshape(shape + tail), error.reshape(shape + tail), "quadrature", cost)
