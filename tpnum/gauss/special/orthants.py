"""Normal distribution functions, orthant probabilities, and E prod_i Phi(a_i z_i), which is one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.special.goal import Aim, Price, report
from tpnum.gauss.special.inputs import halves, integral, law, real
from tpnum.gauss.special.randomised import Problems, adaptive, largest
from tpnum.kernels.orthant import small_cdf
from tpnum.kernels.separation import separated_sums, triangles

_EXACT = 4
"""Up to this dimension the probabilities are one-dimensional integrals."""
LEAST = 1e-4
"""What is asked for where the user asks for nothing; quadratures give far more."""
_TOGETHER = 256  # problems of a compiled call
_WORK = 1e8  # and multiplications


@integral
def normal_cdf(
    upper: Any, mean: Any, cov: Any, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """P(Z_i <= upper_i for all i), Z ~ N(mean, cov).

    ``upper`` and ``mean`` are (..., d), infinite bounds allowed, or numbers that stand for all
    coordinates; ``cov`` is (..., d, d), singular ones included; leading axes broadcast.

    d = 1, 2: closed form and Gauss-Legendre in the angle (Drezner and Wesolowsky 1990, Genz 2004), about
    1e-15, |rho| near 1 included.  d = 3, 4: one-dimensional quadrature of Plackett's formula (Plackett
    1954), about 1e-14 unless the covariance of four coordinates has rank two.  d >= 5: separation of
    variables with reordering (Genz 1992) on scrambled Sobol points, doubled until an error of ``atol`` or of
    ``rtol`` times the probability is met (1e-4 both is the aim, if none is given), up to ``budget`` points
    (2^18).

    Raises InputError for arrays that are no such law; warns with AccuracyWarning where the goal is missed,
    or the aim by twenty times it.
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    upper, mean, cov, full = _beside("upper", upper, mean, cov)
    if np.any(np.isnan(upper)):
        raise InputError("upper is not a number somewhere")
    return _estimate("normal_cdf", upper - mean, cov, full, goal)


@integral
def orthant(
    cov: Any, mean: Any = 0.0, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """P(Z_i > 0 for all i), Z ~ N(mean, cov): `normal_cdf` of -Z at zero; a coordinate that is 0 fails.

    Zero means in two and three dimensions: 1/4 + asin(rho)/(2 pi), 1/8 + sum of asin(rho_ij)/(4 pi).
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = law(mean, cov)
    still = np.einsum("nii->ni", cov) <= 0.0
    return _estimate("orthant", np.where(still & (mean <= 0.0), -1.0, mean), cov, shape, goal)


@integral
def product_of_cdfs(
    a: Any, cov: Any, mean: Any = 0.0, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E prod_i Phi(a_i z_i), z ~ N(mean, cov), Phi the normal distribution function; ``a`` is (..., d).

    With independent standard normal e_i, Phi(a z) = P(e < a z | z), hence the orthant probability of
    N(a mean, I + diag(a) cov diag(a)).  Gates: (1 + erf x)/2 = Phi(sqrt(2) x), and 1 - Phi(x) = Phi(-x).
    """
    goal = Aim.asked(atol, rtol, budget, LEAST)
    mean, cov, shape = gated(a, cov, mean)
    return _estimate("product_of_cdfs", mean, cov, shape, goal)


def gated(a: Any, cov: Any, mean: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The law of y = a z + e, whose orthant probability is E prod Phi(a_i z_i)."""
    a, mean, cov, full = _beside("a", a, mean, cov)
    if not np.all(np.isfinite(a)):
        raise InputError("a is not finite somewhere")
    made = a * mean, np.eye(a.shape[1]) + a[:, :, None] * cov * a[:, None, :]
    if not all(np.all(np.isfinite(part)) for part in made):
        raise InputError("a times mean and cov overflows: rescale a")
    return *made, full


def _beside(
    name: str, given: Any, mean: Any, cov: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """(given (n, d), mean (n, d), cov (n, d, d), leading shape) of an argument that broadcasts with a law."""
    mean, cov, shape = law(mean, cov)
    d, given = mean.shape[1], real(name, given)
    try:
        given = np.broadcast_to(given, (*given.shape[:-1], d))
        full = np.broadcast_shapes(given.shape[:-1], shape)
    except ValueError:
        raise InputError(
            f"{name} must be real, (..., {d}), its leading axes like those of cov {shape}, "
            f"not {np.shape(given)}"
        ) from None
    given = np.broadcast_to(given, (*full, d)).reshape(-1, d)
    mean = np.broadcast_to(mean.reshape(*shape, d), (*full, d)).reshape(-1, d)
    cov = np.broadcast_to(cov.reshape(*shape, d, d), (*full, d, d)).reshape(-1, d, d)
    return given, mean, cov, full


def _estimate(name: str, bound: np.ndarray, cov: np.ndarray, shape: tuple[int, ...], goal: Aim) -> Estimate:
    value, error, price = probability(bound, cov, goal)
    report(name, goal, error, value, price)
    method = "quadrature" if bound.shape[1] <= _EXACT else "separation of variables"
    return Estimate(value.reshape(shape)[()], error.reshape(shape)[()], method, price.cost)


def probability(bound: np.ndarray, cov: np.ndarray, goal: Aim) -> tuple[np.ndarray, np.ndarray, Price]:
    """(P(Z < bound), error, price), Z ~ N(0, cov), for arrays (n, d) and (n, d, d) known to be fine."""
    count, d = bound.shape
    if d == 0:
        return np.ones(count), np.zeros(count), Price(0)
    powers = halves(np.einsum("nii->ni", cov))
    bound = np.ascontiguousarray(np.ldexp(bound, -powers))
    cov = np.ascontiguousarray(np.ldexp(cov, -(powers[:, :, None] + powers[:, None, :])))
    if d <= _EXACT:
        value, error = np.empty(count), np.empty(count)
        for begin in range(0, count, _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            small_cdf(bound[part], cov[part], value[part], error[part])
        return value, error, Price(count)
    return _separated(bound, cov, goal)


def _separated(bound: np.ndarray, cov: np.ndarray, goal: Aim) -> tuple[np.ndarray, np.ndarray, Price]:
    """Separation of variables; no probability is larger than the smallest of a single coordinate."""
    from scipy.special import ndtr

    count, d = bound.shape
    h, typical, group = np.empty((count, d)), np.empty((count, d)), np.empty((count, d), np.int64)
    low, rank = np.empty((count, d, d)), np.full(count, -1)
    step = max(1, int(_WORK / d**3))
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        scratch = np.empty_like(cov[part])
        for k, end in _columns(d, scratch.shape[0]):
            triangles(
                bound[part],
                cov[part],
                h[part],
                scratch,
                low[part],
                typical[part],
                group[part],
                rank[part],
                k,
                end,
            )

    def run(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty(rows.size)
        separated_sums(h, low, rank, group, rows, ndtr(z), out)
        return out[:, None]

    top = np.where(rank >= 0, ndtr(np.min(h, axis=1, initial=np.inf)), 0.0)
    problems = Problems(count, d - 1, 1, 0.3 * d * d + 50.0 * d, top[:, None])
    value, error, price = adaptive(problems, run, goal, largest)
    return value[:, 0], error[:, 0] + np.where(rank >= 0, 1e-300, 1e-15), price


def _columns(d: int, count: int) -> list[tuple[int, int]]:
    """The columns in parts that cost about the same work: column k costs 2 k (d - k) multiplications."""
    parts, begin, work = [], 0, 0.0
    for k in range(d):
        work += 2.0 * count * k * (d - k)
        if work > _WORK or k == d - 1:
            parts.append((begin, k + 1))
            begin, work = k + 1, 0.0
    return parts
