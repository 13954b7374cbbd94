"""The special Gaussian integrals by other means: mpmath, tensor quadrature, plain Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

from tests.oracle.recorded import recorded

DIGITS = 30


X, W = np.polynomial.legendre.leggauss(32)


def line_mp(f: Callable[[mpmath.mpf], mpmath.mpf], low: mpmath.mpf, high: mpmath.mpf) -> mpmath.mpf:
    """The integral of f times the normal density by one Gauss-Legendre panel, nodes and weights floats."""
    half, middle = (high - low) / 2, (high + low) / 2
    nodes = [middle + half * mpmath.mpf(float(x)) for x in X]
    return half * sum(mpmath.mpf(float(w)) * mpmath.npdf(z) * f(z) for z, w in zip(nodes, W, strict=True))


@recorded
def gate_mp(m: float, s: float, power: int = 1) -> float:
    """E g(m + s z)^power, g the logistic function, by panels around its step."""
    with mpmath.workdps(25):
        m, s = mpmath.mpf(m), mpmath.mpf(s)
        cuts = {mpmath.mpf(k) for k in (-10, -5, 0, 5, 10)}
        cuts |= {-m / s + sign * k / s for sign in (-1, 1) for k in (0, 1, 3, 8, 20, 60, 400)}
        cuts = sorted(c for c in cuts if -10 <= c <= 10)
        return float(mpmath.quad(lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-m - s * z)) ** power, cuts))


@recorded
def bivariate_mp(h: float, k: float, q1: float, q2: float, c: float) -> float:
    """P(X < h, Y < k) for variances q1, q2, covariance c, floats taken exactly, by conditioning on X."""
    with mpmath.workdps(DIGITS):
        h, k, q1, q2, c = map(mpmath.mpf, (h, k, q1, q2, c))
        h, k = h / mpmath.sqrt(q1), k / mpmath.sqrt(q2)
        r = c / mpmath.sqrt(q1 * q2)
        left = q1 * q2 - c * c
        if left <= 0:
            return float(mpmath.ncdf(min(h, k)) if r > 0 else max(0, mpmath.ncdf(h) - mpmath.ncdf(-k)))
        s = mpmath.sqrt(left / (q1 * q2))
        cuts = {h, *(mpmath.mpf(at) for at in (-9, -6, -3, 0, 3, 6))}
        if r:  # where the conditional probability turns, within the width s/r
            cuts |= {(k + width * s) / r for width in (-9, -4, 0, 4, 9)}
        cuts = sorted(at for at in cuts if -9 <= at <= h)
        panels = [
            line_mp(lambda x: mpmath.ncdf((k - r * x) / s), *ends)
            for ends in zip(cuts, cuts[1:], strict=False)
        ]
        return float(sum(panels, mpmath.mpf(0)))


def trivariate_mp(bound: np.ndarray, cov: np.ndarray) -> float:
    """P(Z < bound) in three dimensions by conditioning twice."""
    with mpmath.workdps(20):
        b = [mpmath.mpf(float(v)) for v in bound]
        low = mpmath.cholesky(mpmath.matrix(cov.tolist()))
        far = mpmath.mpf(9)

        def given(x: mpmath.mpf) -> mpmath.mpf:
            last = (b[2] - low[2, 0] * x) / low[2, 2], low[2, 1] / low[2, 2]
            top = min((b[1] - low[1, 0] * x) / low[1, 1], far)
            cuts = [-far + (top + far) * k / 2 for k in range(3)]
            return sum(line_mp(lambda y: mpmath.ncdf(last[0] - last[1] * y), *ends)
                       for ends in zip(cuts, cuts[1:], strict=False))  # fmt: skip

        top = min(b[0] / low[0, 0], far)
        cuts = [-far + (top + far) * k / 2 for k in range(3)]
        return float(sum(line_mp(given, *ends) for ends in zip(cuts, cuts[1:], strict=False)))


def conditioned(bound: np.ndarray, cov: np.ndarray, nodes: int = 160) -> float:
    """P(Z < bound) by tensor Gauss-Legendre over the Cholesky variables, the last one integrated exactly."""
    low = np.linalg.cholesky(cov)
    d = len(bound)
    x, w = np.polynomial.legendre.leggauss(nodes)
    weight: np.ndarray = np.ones(1)
    y = np.empty((1, 0))
    for k in range(d - 1):
        top = np.clip((bound[k] - y @ low[k, :k]) / low[k, k], -9.0, 9.0)
        half = 0.5 * (top + 9.0)
        at = (-9.0 + half)[:, None] + half[:, None] * x
        density = np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi)
        weight = (weight[:, None] * half[:, None] * w * density).ravel()
        y = np.concatenate([np.repeat(y, nodes, axis=0), at.reshape(-1, 1)], axis=1)
        kept = weight > 1e-22
        weight, y = weight[kept], y[kept]
    return float(weight @ ndtr((bound[-1] - y @ low[-1, :-1]) / low[-1, -1]))


def equicorrelated(bound: float, rho: float, d: int) -> float:
    """P(Z_i < bound) for unit variances and a common correlation: Z_i = sqrt(rho) x + sqrt(1 - rho) e_i."""

    def integrand(x: float) -> float:
        inside = ndtr((bound - np.sqrt(rho) * x) / np.sqrt(1 - rho))
        return float(np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * inside**d)

    return float(quad(integrand, -9, 9, epsabs=1e-13, epsrel=1e-12, limit=200)[0])


def iid_max(d: int, power: int = 1) -> float:
    """E (max of d independent standard normals)^power by its density d phi Phi^{d-1}."""

    def integrand(x: float) -> float:
        return float(x**power * d * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * ndtr(x) ** (d - 1))

    return float(quad(integrand, -9, 9, epsabs=1e-13, epsrel=1e-13, limit=200)[0])


def tensor(
    f: Callable[[np.ndarray], np.ndarray], mean: np.ndarray, cov: np.ndarray, order: int
) -> np.ndarray:
    """E f(Z) by a tensor Gauss-Hermite rule, f: (d, points) -> (..., points)."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    d = len(mean)
    z = np.stack([a.ravel() for a in np.meshgrid(*[x] * d, indexing="ij")])
    weight = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[w / w.sum()] * d, indexing="ij")]), axis=0)
    values, vectors = np.linalg.eigh(cov)
    return f(mean[:, None] + (vectors * np.sqrt(np.maximum(values, 0))) @ z) @ weight


def monte_carlo(
    f: Callable[[np.ndarray], np.ndarray], mean: np.ndarray, cov: np.ndarray, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard error) of f(Z), f: (d, points) -> (..., points), in blocks of 2^17 points."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(cov)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    total: np.ndarray = np.zeros(1)
    squares: np.ndarray = np.zeros(1)
    done = 0
    while done < count:
        size = min(1 << 17, count - done)
        made = f(mean[:, None] + factor @ rng.standard_normal((len(mean), size)))
        total, squares = total + made.sum(axis=-1), squares + (made**2).sum(axis=-1)
        done += size
    average = total / count
    return average, np.sqrt(np.maximum(squares / count - average**2, 0) / count)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=0))
    return e / e.sum(axis=0)


def softmax_pair(first: int) -> Callable[[np.ndarray], np.ndarray]:
    """(z, z') -> softmax(z) softmax(z')', point by point."""
    return lambda z: softmax(z[:first])[:, None] * softmax(z[first:])[None]


def normalised(y: np.ndarray) -> np.ndarray:
    """BN over axis 0, biased variance, no eps."""
    x = y - y.mean(axis=0)
    return x / np.sqrt((x**2).mean(axis=0))


def batchnorm_jacobians(y: np.ndarray, slope_low: float, slope_high: float) -> np.ndarray:
    """d phi(BN y)/dy (points, B, B) of the piecewise linear phi, written out entry by entry."""
    size = y.shape[0]
    x = (y - y.mean(axis=0)).T
    norm = np.sqrt((x**2).sum(axis=1))
    unit = x / norm[:, None]
    centring = np.eye(size) - 1.0 / size
    inner = np.sqrt(size) / norm[:, None, None] * (centring - unit[:, :, None] * unit[:, None, :])
    return np.where(x > 0, slope_high, slope_low)[:, :, None] * inner
