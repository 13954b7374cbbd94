"""Batch normalisation of Gaussian pre-activations, phi(BN(y)), y ~ N(0, Sigma) over the examples of a batch.

BN(y) = sqrt(B) x/|x|, x = G y, G = I - 11'/B, S = G Sigma G.  For phi(u) = a u + b |u| (relu, abs, leaky
relu) and with |x|^{-2} = int_0^inf e^{-s |x|^2} ds (Yang et al. 2019, mean field theory of batchnorm),

    E phi(BN y) phi(BN y)' = B int_0^inf det(I + 2 s S)^{-1/2} V(K) ds,   K = S (I + 2 s S)^{-1},

V(K)_jk = E phi(u) phi(v) over N(0, K)'s pairs.  Two batches, |x|^{-1} = int e^{-s|x|^2} (pi s)^{-1/2} ds:

    E phi(BN x) phi(BN y)' = sqrt(B B')/pi int int (s t)^{-1/2} delta(s, t) V(P_12) ds dt,

P the joint covariance of (x, y) weighted with e^{-s|x|^2 - t|y|^2} and delta its normaliser.  The Jacobian
of BN is G-projected and has |x|^{-2} and |x|^{-4} more, so derivatives carry factors s and t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.functions import get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.batch_rules import Batch, Rule, batch_of, centred_sides, refined, rules_for, scaled
from tpnum.gauss.special.goal import Aim
from tpnum.gauss.special.inputs import integral, law, real
from tpnum.kernels.batchnorm import add_moments, pair_moments


@dataclass(frozen=True)
class Slopes:
    """phi(u) = a u + b |u|: ``odd`` = a^2 and ``even`` = 2 b^2/pi, as the moments have them."""

    odd: float
    even: float


def homogeneous(phi: Any) -> Slopes:
    """The slopes of relu, abs, a leaky relu, the identity; an error for any other function."""
    made = homogeneous_or_none(phi)
    if made is None:
        raise InputError(f"phi must be relu, abs or a leaky relu here, not {phi}: use batchnorm_sampled")
    return made


def homogeneous_or_none(phi: Any) -> Slopes | None:
    """The slopes of a function a u + b |u|, None for any other."""
    closed = get(phi).closed
    if closed is None or closed[0] != "abrelu":
        return None
    low, high = closed[1]
    return Slopes((0.5 * (low + high)) ** 2, 0.5 * (high - low) ** 2 / np.pi)


@integral
def batchnorm(
    cov: Any, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E phi(BN y) phi(BN y)', (..., B, B), y ~ N(0, cov): the integral above by one eigendecomposition.

    ``phi``: "relu", "abs", a leaky relu, or a tpnum function of that kind; ``eps`` is added to the variance.
    The error is the difference of two quadratures; ``atol``, or ``rtol`` times the largest entry, is enough
    (1e-9 both, if none is given), and ``budget`` bounds the matrices under the integral.  Raises InputError
    for no such phi or cov, LimitError for a batch whose examples coincide (0/0).
    """
    goal, slopes = Aim.asked(atol, rtol, budget, 1e-9), homogeneous(phi)
    batch, _, shape = _batch(cov, eps)
    return refined("batchnorm", lambda rule: _moments(batch, slopes, rule), shape, goal, rules=rules_for(eps))


@integral
def batchnorm_tangent(
    cov: Any, theta: Any, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E[J theta J'], J = d phi(BN y)/dy: what batchnorm makes of the tangent kernel theta (..., B, B).

    With T = G theta G, W = E phi' phi', N_jk = E phi''(u_j) phi(u_k) = (2 b^2/pi) sqrt(det K_jk)/K_jj:

        B int delta [W*T - s (M + M') + s^2/2 (tr(TK) V + diag(KTK) N + N' diag(KTK) + 2 (KTK)*W)] ds,
        M = diag(TK) N + (TK)*W

    (* entry by entry).  Finite where S has rank three or more, so for batches of four at least; SL leaves
    batchnorm's gradients out, TP2 has them.  Adjoint of `batchnorm_gradient`.  Accuracy as in `batchnorm`,
    1e-8 if nothing is given.
    """
    goal = Aim.asked(atol, rtol, budget, 1e-8)
    return _derived("batchnorm_tangent", cov, "theta", theta, phi, goal, _tangent, eps)


@integral
def batchnorm_gradient(
    cov: Any, delta: Any, phi: Any = "relu", atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None, eps: float = 0.0,
) -> Estimate:  # fmt: skip
    """E[J' delta J], J = d phi(BN y)/dy: second moments of gradients (..., B, B) before from those after.

        B int delta(s) G [delta*W + s^2/2 (<delta, V> K + 2 K J K) - s (K J + J K)] G ds,
        J_jk = delta_jk W_jk (j != k),  J_jj = delta_jj W_jj + sum_{k != j} delta_jk N_jk

    with K, V, W, N of `batchnorm_tangent` (relu: Yang et al. 2019).  At the fixed point of a deep relu net
    the squared norm grows by 1.473 a layer for B = 256, by pi/(pi - 1) = 1.467 as B -> inf.
    """
    goal = Aim.asked(atol, rtol, budget, 1e-8)
    return _derived("batchnorm_gradient", cov, "delta", delta, phi, goal, _gradient, eps)


def _batch(cov: Any, eps: float) -> tuple[Batch, np.ndarray, tuple[int, ...]]:
    _, cov, shape = law(0.0, cov)
    if cov.shape[1] < 2:
        raise InputError("a batch needs at least two examples: cov must be (..., B, B) with B >= 2")
    cov, powers = scaled(cov)
    return batch_of(cov, np.ldexp(eps, -2 * powers)), powers, shape


def matrix(name: str, given: Any, shape: tuple[int, ...], sides: tuple[int, int]) -> np.ndarray:
    """An argument (..., sides), broadcast to the batch."""
    given = real(name, given)
    try:
        made = np.broadcast_to(given, (*shape, *sides))
    except ValueError:
        raise InputError(
            f"{name} must be real, {(*shape, *sides)} or broadcast to it, not {np.shape(given)}"
        ) from None
    if not np.all(np.isfinite(made)):
        raise InputError(f"{name} is not finite somewhere")
    return made.reshape(-1, *sides)


def _moments(batch: Batch, slopes: Slopes, rule: Rule) -> tuple[np.ndarray, int]:
    n, size = batch.values.shape
    out, scratch, used = np.zeros((n, size, size)), np.empty((5, size)), 0
    for s, weight in batch.nodes(rule):
        k = batch.weighted(s)
        q = np.ascontiguousarray(np.einsum("nii->ni", k))
        add_moments(k, q, q, weight * size, slopes.odd, slopes.even, scratch, out)
        used += n
    return out, used


# derivatives within a batch -----------------------------------------------------------------------------

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _derived(
    name: str, cov: Any, argument: str, given: Any, phi: Any, goal: Aim,
    integrand: Callable[[np.ndarray, np.ndarray, Parts, np.ndarray], np.ndarray],
    eps: float,
) -> Estimate:  # fmt: skip
    slopes = homogeneous(phi)
    batch, powers, shape = _batch(cov, eps)
    rank = int(np.min(batch.ranks, initial=batch.size))
    if rank < 3 and eps == 0.0:
        raise LimitError(
            f"{name} is infinite: the centred covariance has rank {rank}, below three (B >= 4 needed)"
        )
    given = matrix(argument, given, shape, (batch.size, batch.size))
    if np.any(np.abs(given - given.transpose(0, 2, 1)) > 1e-10 * np.max(np.abs(given), initial=0.0)):
        raise InputError(f"{argument} is not symmetric")

    sizes = np.frexp(np.max(np.abs(given), axis=(1, 2), initial=0.0))[1]
    given = np.ldexp(given, -sizes[:, None, None])

    def value_of(rule: Rule) -> tuple[np.ndarray, int]:
        total, used = np.zeros_like(given), 0
        for s, weight in batch.nodes(rule):
            k = batch.weighted(s)
            made = integrand(given, k, _parts(k, slopes, batch.ranks == 1), s[:, None, None])
            total += batch.size * weight[:, None, None] * made
            used += s.size
        return (centred_sides(total) if integrand is _gradient else total), used

    return refined(name, value_of, shape, goal, sizes - 2 * powers, rules_for(eps))


def _parts(k: np.ndarray, slopes: Slopes, lone: np.ndarray) -> Parts:
    """V, W and N of a batch; where it has a lone axis all correlations are 1 or -1."""
    q = np.ascontiguousarray(np.einsum("nii->ni", k))
    v, w, root = (np.empty(k.shape) for _ in range(3))
    pair_moments(k, q, q, slopes.odd, slopes.even, np.empty((5, k.shape[2])), v, w, root)
    # u with itself, where the rounding of a correlation of one would show
    np.einsum("nii->ni", w)[:] = slopes.odd + 0.5 * np.pi * slopes.even
    np.einsum("nii->ni", root)[:] = 0.0
    w[lone], root[lone] = slopes.odd + 0.5 * np.pi * slopes.even * np.sign(k[lone]), 0.0
    return v, w, slopes.even * root / q[:, :, None]


def _tangent(theta: np.ndarray, k: np.ndarray, parts: Parts, s: np.ndarray) -> np.ndarray:
    v, w, n = parts
    t = centred_sides(theta)
    tk = t @ k
    ktk = k @ tk
    m = np.einsum("nii->ni", tk)[:, :, None] * n + tk * w
    side = np.einsum("nii->ni", ktk)[:, :, None] * n
    trace = np.einsum("nii->n", tk)[:, None, None]
    far = trace * v + side + side.transpose(0, 2, 1) + 2.0 * ktk * w
    return w * t - s * (m + m.transpose(0, 2, 1)) + 0.5 * s * s * far


def _gradient(delta: np.ndarray, k: np.ndarray, parts: Parts, s: np.ndarray) -> np.ndarray:
    v, w, n = parts
    j = delta * w
    np.einsum("nii->ni", j)[:] += np.sum(delta * n, axis=2)
    kj = k @ j
    far = np.sum(delta * v, axis=(1, 2))[:, None, None] * k + 2.0 * kj @ k
    return delta * w - s * (kj + kj.transpose(0, 2, 1)) + 0.5 * s * s * far
