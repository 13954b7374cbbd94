"""Two batches of Gaussian pre-activations, each normalised by itself (formulas: `batches`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.batch_rules import (
    NOTHING,
    Batch,
    Rule,
    batch_of,
    centred_sides,
    eigen,
    refined,
    rules_of_pairs,
    scaled,
)
from tpnum.gauss.special.batches import Slopes, homogeneous, matrix
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import finite, integral, law, split
from tpnum.gauss.special.lone_axes import LoneAxes, Made
from tpnum.kernels.batchnorm import add_moments, pair_moments


@integral
def batchnorm_pair(
    cov: Any, first: int | None = None, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E phi(BN x) phi(BN y)', (..., B, B'), for two batches normalised apart, (x, y) ~ N(0, cov).

    ``first`` = B (half by default).  For each s the covariance of y given the weight of x is diagonalised
    once; the inner integral then costs one matrix product a node.  Accuracy as in `batchnorm`; batches of one
    axis each, such as two examples, are known to 1e-13 (`lone_axes`).
    """
    goal, slopes = Aim.asked(atol, rtol, budget, 1e-9), homogeneous(phi)
    pair, _, shape = _pair(cov, first, eps)
    return _estimated(
        "batchnorm_pair", pair, pair.lone, lambda lone, at: lone.moments(slopes),
        lambda some, at, rule: _pair_moments(some, slopes, rule), shape, goal, np.zeros(len(pair.cross), int),
    )  # fmt: skip


@integral
def batchnorm_pair_tangent(
    cov: Any, theta: Any, first: int | None = None, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E[J_1 theta J_2'] across two batches, (..., B, B'), theta (..., B, B') the tangent kernel across.

        sqrt(B B')/pi int int (s t)^{-1/2} delta [W*T - 2 t X - 2 s Y + 4 s t Z] ds dt,   T = G theta G',
        X = diag(T P_21) N + (T P_22)*W,    Y = N' diag(P_12' T) + (P_11 T)*W,
        Z = V tr(T P_21) + diag(P_11 T P_21) N + N' diag(P_21 T P_22) + (P_11 T P_22 + (P_21 T P_21)')*W

    with N = E phi''(x_j) phi(y_k) and N' = E phi(x_j) phi''(y_k).  Accuracy as in `batchnorm`, 1e-8
    if nothing is given.
    """
    goal, slopes = Aim.asked(atol, rtol, budget, 1e-8), homogeneous(phi)
    pair, powers, shape = _pair(cov, first, eps)
    theta = matrix("theta", theta, shape, pair.shape[1:])
    sizes = np.frexp(np.max(np.abs(theta), axis=(1, 2), initial=0.0))[1]
    theta = centred_sides(np.ldexp(theta, -sizes[:, None, None]))
    return _estimated(
        "batchnorm_pair_tangent", pair, pair.lone & pair.holds(theta),
        lambda lone, at: lone.tangents(theta[at], slopes),
        lambda some, at, rule: _pair_tangent(some, theta[at], slopes, rule), shape, goal, sizes - powers,
    )  # fmt: skip


def _estimated(
    name: str,
    pair: _Pair,
    lone: np.ndarray,
    exact: Callable[[LoneAxes, np.ndarray], Made],
    integral_of: Callable[[_Pair, np.ndarray, Rule], tuple[np.ndarray, int]],
    shape: tuple[int, ...],
    goal: Aim,
    units: np.ndarray,
) -> Estimate:
    """Times 2^units, of ``lone`` axes by what is known of two numbers, else by the integrals."""
    value, error = np.empty(pair.shape), np.empty(pair.shape)
    rest, cost = ~lone, int(lone.sum())
    if cost:
        some = pair.some(lone)
        made = exact(LoneAxes.of(some.one, some.two, some.cross), lone)
        value[lone], error[lone] = (np.ldexp(x, units[lone, None, None]) for x in made)
        finite(name, value[lone])
        top = np.max(np.abs(value[lone]), axis=(1, 2), keepdims=True, initial=0.0)
        report(name, goal, error[lone], top, Price(cost))
    if rest.any() or not cost:
        some = pair.some(rest)
        by_rules = refined(
            name, lambda rule: integral_of(some, rest, rule), (len(some.cross),), goal, units[rest],
            rules_of_pairs(some.one),
        )  # fmt: skip
        value[rest], error[rest], cost = by_rules.value, by_rules.error, cost + by_rules.cost
    form = (*shape, *pair.shape[1:])
    return Estimate(value.reshape(form), error.reshape(form), "quadrature", cost)


_TOGETHER = 1 << 16
"""Numbers of the matrices that are filled at once."""


@dataclass(frozen=True)
class _Pair:
    """Both batches diagonalised, and the covariances of their axes."""

    one: Batch
    two: Batch
    cross: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.cross), self.one.size, self.two.size

    @property
    def lone(self) -> np.ndarray:
        """Where either batch has one axis."""
        return np.asarray((self.one.ranks == 1) & (self.two.ranks == 1))

    def holds(self, theta: np.ndarray) -> np.ndarray:
        """Where theta (n, B, B') is a multiple of what lone axes make."""
        u, v = self.one.vectors[:, :, -1], self.two.vectors[:, :, -1]
        along = np.einsum("ni,nij,nj->n", u, theta, v)
        rest = np.abs(theta - along[:, None, None] * u[:, :, None] * v[:, None, :])
        return np.asarray(rest.max(axis=(1, 2)) <= NOTHING * np.abs(theta).max(axis=(1, 2)))

    def some(self, at: slice | np.ndarray) -> _Pair:
        """Some of the problems."""
        return _Pair(self.one.some(at), self.two.some(at), self.cross[at])

    def nodes(self, rule: Rule) -> Iterator[tuple[slice, _Nodes]]:
        """All s of some problems after another."""
        each = rule[1] * self.one.size * self.two.size
        some = max(1, _TOGETHER // each)
        for k in range(0, len(self.cross), some):
            at = slice(k, k + some)
            yield at, self.some(at)._nodes(rule)

    def _nodes(self, rule: Rule) -> _Nodes:
        """The laws under the weights e^{-s |x|^2}."""
        one, two, (_, size, other) = self.one, self.two, self.shape
        s, weight = one.every(rule)
        shrink = 1.0 / (1.0 + 2.0 * s[:, :, None] * one.values[:, None, :])
        half = np.sqrt(2.0 * s[:, :, None] * shrink)[..., None] * self.cross[:, None]
        spread = two.values[:, None, :, None] * np.eye(self.cross.shape[2])
        left = spread - half.transpose(0, 1, 3, 2) @ half
        made = eigen(left.reshape(-1, *left.shape[2:]), np.repeat(two.eps, s.shape[1]))
        turn = made.vectors.reshape(left.shape)
        moved = (one.vectors[:, None] * shrink[:, :, None, :]) @ (self.cross[:, None] @ turn)
        axes = (two.vectors[:, None] @ turn).reshape(-1, other, turn.shape[-1])
        return _Nodes(
            s, weight / np.sqrt(s), shrink * one.values[:, None, :], moved.reshape(-1, size, turn.shape[-1]),
            replace(made, vectors=axes),
        )  # fmt: skip


@dataclass(frozen=True)
class _Nodes:
    """Every s (n, nodes) with its weight, the variances of x's axes, (n, nodes, r), and, problem by problem
    and node by node, the covariances of x with y's axes and y's batch.
    """

    s: np.ndarray
    weight: np.ndarray
    variances: np.ndarray
    moved: np.ndarray
    batch: Batch


def _pair(cov: Any, first: int | None, eps: float) -> tuple[_Pair, np.ndarray, tuple[int, ...]]:
    """The pair of order one, the powers of two that its deviations have together, and the leading shape."""
    _, cov, shape = law(0.0, cov)
    first = split(first, cov.shape[1])
    if min(first, cov.shape[1] - first) < 2:
        raise InputError("a batch needs at least two examples: both blocks of cov must be 2 x 2 or larger")
    (first_cov, powers), (second_cov, others) = (
        scaled(cov[:, part, part]) for part in (slice(first), slice(first, None))
    )
    across = centred_sides(np.ldexp(cov[:, :first, first:], -(powers + others)[:, None, None]))
    one = batch_of(first_cov, np.ldexp(eps, -2 * powers))
    two = batch_of(second_cov, np.ldexp(eps, -2 * others))
    across = one.vectors.transpose(0, 2, 1) @ across @ two.vectors
    rows, cols = _seen(one, across, 2), _seen(two, across, 1)
    return _Pair(one.axes(rows), two.axes(cols), across[:, rows][:, :, cols]), powers + others, shape


def _seen(batch: Batch, across: np.ndarray, other: int) -> np.ndarray:
    """Which axes have a variance in some problem, or covary with the other batch."""
    covary = np.max(np.abs(across), axis=other, initial=0.0) > NOTHING
    return np.any(covary | (batch.values > 0.0), axis=0)


def _diagonal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """diag(a b) as a column."""
    return np.einsum("nij,nji->ni", a, b)[:, :, None]


def _pair_moments(pair: _Pair, slopes: Slopes, rule: Rule) -> tuple[np.ndarray, int]:
    _, b, other = pair.shape
    out, scratch, used = np.zeros(pair.shape), np.empty((5, other)), 0
    front = np.sqrt(b * other) / np.pi
    for at, nodes in pair.nodes(rule):
        moved, batch = nodes.moved, nodes.batch
        t, inner = batch.every(rule)
        shrink = 1.0 / (1.0 + 2.0 * t[:, :, None] * batch.values[:, None, :])
        q0 = nodes.variances @ (pair.one.vectors[at] ** 2).transpose(0, 2, 1)
        less = 2.0 * t[:, :, None] * (shrink @ (moved**2).transpose(0, 2, 1))
        q1 = np.maximum(q0.reshape(-1, 1, b) - less, 0.0)
        q2 = (shrink * batch.values[:, None, :]) @ (batch.vectors**2).transpose(0, 2, 1)
        scale = front * nodes.weight.reshape(-1, 1) * inner / np.sqrt(t)
        for line, rows in _together(out[at], nodes.s.shape[1], t.shape[1] * b * other):
            shrunk = moved[rows, None] * shrink[rows, :, None, :]
            turned = batch.vectors[rows].transpose(0, 2, 1)
            across = shrunk.reshape(len(shrunk), -1, shrunk.shape[-1]) @ turned
            add_moments(
                across.reshape(-1, b, other), q1[rows].reshape(-1, b), q2[rows].reshape(-1, other),
                scale[rows].ravel(), slopes.odd, slopes.even, scratch, line,
            )  # fmt: skip
        used += t.size
    return out, used


def _together(out: np.ndarray, count: int, each: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Each problem's matrix, and as many of its ``count`` nodes after another as are worked on at once."""
    some = max(1, _TOGETHER // each)
    for n in range(len(out)):
        for k in range(n * count, (n + 1) * count, some):
            yield out[n : n + 1], slice(k, min(k + some, (n + 1) * count))


def _pair_tangent(pair: _Pair, theta: np.ndarray, slopes: Slopes, rule: Rule) -> tuple[np.ndarray, int]:
    out, used = np.zeros(pair.shape), 0
    scratch = np.empty((5, pair.two.size))
    front = np.sqrt(pair.one.size * pair.two.size) / np.pi
    for at, nodes in pair.nodes(rule):
        moved, batch, count = nodes.moved, nodes.batch, nodes.s.shape[1]
        given = np.repeat(theta[at], count, axis=0)
        total, v, w, root = (np.zeros(given.shape) for _ in range(4))
        axes = pair.one.vectors[at, None]
        whole = (axes * nodes.variances[:, :, None, :]) @ axes.transpose(0, 1, 3, 2)
        whole = whole.reshape(len(given), *whole.shape[2:])
        turned = batch.vectors.transpose(0, 2, 1)
        at_s = nodes.s.reshape(-1, 1, 1)
        for t, inner in batch.nodes(rule):
            shrink = 1.0 / (1.0 + 2.0 * t[:, None, None] * batch.values[:, None, :])
            at_t = t[:, None, None]
            p12 = (moved * shrink) @ turned
            p11 = whole - 2.0 * at_t * (moved * shrink) @ moved.transpose(0, 2, 1)
            p22 = batch.weighted(t)
            q1 = np.maximum(np.einsum("nii->ni", p11), 0.0)
            q2 = np.ascontiguousarray(np.einsum("nii->ni", p22))
            pair_moments(p12, q1, q2, slopes.odd, slopes.even, scratch, v, w, root)
            n1 = slopes.even * root / (q1[:, :, None] + 1e-300)
            n2 = slopes.even * root / (q2[:, None, :] + 1e-300)
            p21 = p12.transpose(0, 2, 1)
            tp22, p11t, p21t = given @ p22, p11 @ given, p21 @ given
            near = w * given - 2.0 * at_t * (_diagonal(given, p21) * n1 + tp22 * w)
            near -= 2.0 * at_s * (n2 * _diagonal(p21, given).transpose(0, 2, 1) + p11t * w)
            far = np.einsum("nij,nij->n", given, p12)[:, None, None] * v
            far += _diagonal(p11t, p21) * n1 + n2 * _diagonal(p21t, p22).transpose(0, 2, 1)
            far += (p11 @ tp22 + (p21t @ p21).transpose(0, 2, 1)) * w
            scale = front * nodes.weight.ravel() * inner / np.sqrt(t)
            total += scale[:, None, None] * (near + 4.0 * at_s * at_t * far)
            used += t.size
        out[at] += total.reshape(-1, count, *total.shape[1:]).sum(axis=1)
    return out, used
