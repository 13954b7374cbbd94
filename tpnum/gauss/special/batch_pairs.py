"""Two batches of Gaussian pre-activations, each normalised by itself (formulas: `batches`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.batch_rules import (
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
from tpnum.gauss.special.goal import Aim
from tpnum.gauss.special.inputs import integral, law, split
from tpnum.kernels.batchnorm import add_moments, pair_moments


@integral
def batchnorm_pair(
    cov: Any, first: int | None = None, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E phi(BN x) phi(BN y)', (..., B, B'), for two batches normalised apart, (x, y) ~ N(0, cov).

    ``first`` = B (half by default).  For each s the covariance of y given the weight of x is diagonalised
    once; the inner integral then costs one matrix product a node.  Accuracy as in `batchnorm`.
    """
    goal, slopes = Aim.asked(atol, rtol, budget, 1e-9), homogeneous(phi)
    pair, _, shape = _pair(cov, first, eps)
    return refined(
        "batchnorm_pair",
        lambda rule: _pair_moments(pair, slopes, rule),
        shape,
        goal,
        rules=rules_of_pairs(pair.one),
    )


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
    theta = matrix("theta", theta, shape, (pair.size, pair.other))
    sizes = np.frexp(np.max(np.abs(theta), axis=(1, 2), initial=0.0))[1]
    theta = centred_sides(np.ldexp(theta, -sizes[:, None, None]))
    return refined(
        "batchnorm_pair_tangent", lambda rule: _pair_tangent(pair, theta, slopes, rule), shape, goal,
        sizes - powers, rules_of_pairs(pair.one),
    )  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    """The first batch diagonalised, the centred cross and second blocks."""

    one: Batch
    cross: np.ndarray
    second: np.ndarray
    eps: np.ndarray

    @property
    def size(self) -> int:
        return self.cross.shape[1]

    @property
    def other(self) -> int:
        return self.cross.shape[2]

    def nodes(self, rule: Rule) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Batch]]:
        """(s, weight, cov of x with y, y's batch) at each s, under the weight e^{-s |x|^2}."""
        u = self.one.vectors
        rotated = u.transpose(0, 2, 1) @ self.cross
        for s, weight in self.one.nodes(rule):
            shrink = 1.0 / (1.0 + 2.0 * s[:, None] * self.one.values)
            across = (u * shrink[:, None, :]) @ rotated
            half = np.sqrt(2.0 * s[:, None] * shrink)[:, :, None] * rotated
            left = self.second - half.transpose(0, 2, 1) @ half
            yield s, weight / np.sqrt(s), across, eigen(left, self.eps)


def _pair(cov: Any, first: int | None, eps: float) -> tuple[_Pair, np.ndarray, tuple[int, ...]]:
    """The pair of order one, the powers of two that its deviations have together, and the leading shape."""
    _, cov, shape = law(0.0, cov)
    first = split(first, cov.shape[1])
    if min(first, cov.shape[1] - first) < 2:
        raise InputError("a batch needs at least two examples: both blocks of cov must be 2 x 2 or larger")
    one, powers = scaled(cov[:, :first, :first])
    second, others = scaled(cov[:, first:, first:])
    cross = np.ldexp(cov[:, :first, first:], -(powers + others)[:, None, None])
    spare = np.ldexp(eps, -2 * others)
    batch_of(second, spare)  # refused where it has no batch normalisation
    made = _Pair(
        batch_of(one, np.ldexp(eps, -2 * powers)), centred_sides(cross), centred_sides(second), spare
    )
    return made, powers + others, shape


def _diagonal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """diag(a b) as a column."""
    return np.einsum("nij,nji->ni", a, b)[:, :, None]


def _pair_moments(pair: _Pair, slopes: Slopes, rule: Rule) -> tuple[np.ndarray, int]:
    n, b, other = pair.cross.shape
    out, scratch, used = np.zeros(pair.cross.shape), np.empty((5, other)), 0
    front = np.sqrt(b * other) / np.pi
    for s, weight, across, batch in pair.nodes(rule):
        moved = across @ batch.vectors
        q0 = (pair.one.vectors**2 @ _shrunk(s, pair.one.values)[:, :, None])[:, None, :, 0]
        t, inner = batch.every(rule)
        shrink = 1.0 / (1.0 + 2.0 * t[:, :, None] * batch.values[:, None, :])
        q1 = np.maximum(q0 - 2.0 * t[:, :, None] * (shrink @ (moved**2).transpose(0, 2, 1)), 0.0)
        q2 = (shrink * batch.values[:, None, :]) @ (batch.vectors**2).transpose(0, 2, 1)
        scale = front * weight[:, None] * inner / np.sqrt(t)
        both = np.empty((2, t.shape[1], b, other))  # all t as one product of matrices
        for k in range(n):
            np.multiply(moved[k], shrink[k, :, None, :], out=both[0])
            np.matmul(both[0].reshape(-1, other), batch.vectors[k].T, out=both[1].reshape(-1, other))
            add_moments(both[1], q1[k], q2[k], scale[k], slopes.odd, slopes.even, scratch, out[k : k + 1])
        used += t.size
    return out, used


def _shrunk(s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The eigenvalues of K = S (I + 2 s S)^{-1}."""
    return values / (1.0 + 2.0 * s[:, None] * values)


def _pair_tangent(pair: _Pair, theta: np.ndarray, slopes: Slopes, rule: Rule) -> tuple[np.ndarray, int]:
    out, used = np.zeros(pair.cross.shape), 0
    v, w, root = (np.empty(out.shape) for _ in range(3))
    scratch = np.empty((5, pair.other))
    front = np.sqrt(pair.size * pair.other) / np.pi
    for s, weight, across, batch in pair.nodes(rule):
        moved = across @ batch.vectors
        whole = pair.one.weighted(s)
        turned = batch.vectors.transpose(0, 2, 1)
        at_s = s[:, None, None]
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
            tp22, p11t, p21t = theta @ p22, p11 @ theta, p21 @ theta
            near = w * theta - 2.0 * at_t * (_diagonal(theta, p21) * n1 + tp22 * w)
            near -= 2.0 * at_s * (n2 * _diagonal(p21, theta).transpose(0, 2, 1) + p11t * w)
            far = np.einsum("nij,nij->n", theta, p12)[:, None, None] * v
            far += _diagonal(p11t, p21) * n1 + n2 * _diagonal(p21t, p22).transpose(0, 2, 1)
            far += (p11 @ tp22 + (p21t @ p21).transpose(0, 2, 1)) * w
            scale = front * weight * inner / np.sqrt(t)
            out += scale[:, None, None] * (near + 4.0 * at_s * at_t * far)
            used += t.size
    return out, used
