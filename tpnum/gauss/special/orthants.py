"""Normal distribution functions, orthant probabilities, and E prod_i Phi(a_i z_i), which is one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.inputs import law, report, tolerance
from tpnum.gauss.special.randomised import SETS, adaptive, uniform_sets
from tpnum.kernels.orthant import small_cdf
from tpnum.kernels.separation import separated_cdf

_EXACT = 4
"""Up to this dimension the probabilities are one-dimensional integrals."""


def normal_cdf(upper: Any, mean: Any, cov: Any, atol: float = 1e-6) -> Estimate:
    """P(Z_i <= upper_i for all i), Z ~ N(mean, cov).

    ``upper`` and ``mean`` are (..., d), infinite bounds allowed, or numbers that stand for all
    coordinates; ``cov`` is (..., d, d), singular ones included; leading axes broadcast.

    d = 1, 2: closed form and Gauss-Legendre in the angle (Drezner and Wesolowsky 1990, Genz 2004), about
    1e-15, |rho| near 1 included.  d = 3, 4: one-dimensional quadrature of Plackett's formula (Plackett
    1954), about 1e-14 unless the covariance of four coordinates has rank two.  d >= 5: separation of
    variables with reordering (Genz 1992) on scrambled Sobol points, doubled until ``atol`` is met.

    Raises InputError for arrays that are no such law, warns with AccuracyWarning where ``atol`` is missed.
    """
    atol = tolerance(atol)
    upper, mean, cov, full = _beside("upper", upper, mean, cov)
    if np.any(np.isnan(upper)):
        raise InputError("upper is not a number somewhere")
    return _estimate("normal_cdf", upper - mean, cov, full, atol)


def orthant(cov: Any, mean: Any = 0.0, atol: float = 1e-6) -> Estimate:
    """P(Z_i > 0 for all i), Z ~ N(mean, cov): `normal_cdf` of -Z at zero; a coordinate that is 0 fails.

    Zero means in two and three dimensions: 1/4 + asin(rho)/(2 pi), 1/8 + sum of asin(rho_ij)/(4 pi).
    """
    atol = tolerance(atol)
    mean, cov, shape = law(mean, cov)
    still = np.einsum("nii->ni", cov) <= 0.0
    return _estimate("orthant", np.where(still & (mean <= 0.0), -1.0, mean), cov, shape, atol)


def product_of_cdfs(a: Any, cov: Any, mean: Any = 0.0, atol: float = 1e-6) -> Estimate:
    """E prod_i Phi(a_i z_i), z ~ N(mean, cov), Phi the normal distribution function; ``a`` is (..., d).

    With independent standard normal e_i, Phi(a z) = P(e < a z | z), hence the orthant probability of
    N(a mean, I + diag(a) cov diag(a)).  Gates: (1 + erf x)/2 = Phi(sqrt(2) x), and 1 - Phi(x) = Phi(-x).
    """
    atol = tolerance(atol)
    mean, cov, shape = gated(a, cov, mean)
    return _estimate("product_of_cdfs", mean, cov, shape, atol)


def gated(a: Any, cov: Any, mean: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The law of y = a z + e, whose orthant probability is E prod Phi(a_i z_i)."""
    a, mean, cov, full = _beside("a", a, mean, cov)
    if not np.all(np.isfinite(a)):
        raise InputError("a is not finite somewhere")
    return a * mean, np.eye(a.shape[1]) + a[:, :, None] * cov * a[:, None, :], full


def _beside(
    name: str, given: Any, mean: Any, cov: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """(given (n, d), mean (n, d), cov (n, d, d), leading shape) of an argument that broadcasts with a law."""
    mean, cov, shape = law(mean, cov)
    d = mean.shape[1]
    try:
        given = np.asarray(given, dtype=np.float64)
        given = np.broadcast_to(given, (*given.shape[:-1], d))
        full = np.broadcast_shapes(given.shape[:-1], shape)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be real, (..., {d}), its leading axes like those of cov {shape}, "
            f"not {np.shape(given)}"
        ) from None
    given = np.broadcast_to(given, (*full, d)).reshape(-1, d)
    mean = np.broadcast_to(mean.reshape(*shape, d), (*full, d)).reshape(-1, d)
    cov = np.broadcast_to(cov.reshape(*shape, d, d), (*full, d, d)).reshape(-1, d, d)
    return given, mean, cov, full


def _estimate(name: str, bound: np.ndarray, cov: np.ndarray, shape: tuple[int, ...], atol: float) -> Estimate:
    value, error, cost = probability(bound, cov, atol)
    report(name, error, atol)
    method = "quadrature" if bound.shape[1] <= _EXACT else "separation of variables"
    return Estimate(value.reshape(shape)[()], error.reshape(shape)[()], method, cost)


def probability(bound: np.ndarray, cov: np.ndarray, atol: float) -> tuple[np.ndarray, np.ndarray, int]:
    """(P(Z < bound), error, cost), Z ~ N(0, cov), for arrays (n, d) and (n, d, d) known to be fine."""
    count, d = bound.shape
    if d == 0:
        return np.ones(count), np.zeros(count), 0
    variance = np.einsum("nii->ni", cov)
    # powers of two bring the variances to order one without rounding
    halves = np.where(variance > 0.0, np.frexp(np.where(variance > 0.0, variance, 1.0))[1] // 2, 0)
    bound = np.ascontiguousarray(np.ldexp(bound, -halves))
    cov = np.ascontiguousarray(np.ldexp(cov, -(halves[:, :, None] + halves[:, None, :])))
    if d <= _EXACT:
        value, error = np.empty(count), np.empty(count)
        small_cdf(bound, cov, value, error)
        return value, error, count

    def run(rows: np.ndarray, log2: int) -> np.ndarray:
        out = np.empty((rows.size, SETS))
        separated_cdf(bound[rows], cov[rows], uniform_sets(d - 1, log2), out)
        return out[:, :, None]

    made, wrong, cost = adaptive(run, count, atol)
    return made[:, 0], wrong[:, 0], cost
