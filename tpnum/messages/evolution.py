"""State evolution in numbers, for signals with finitely many values, and where l1 recovery tips over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import flag, number, real_array, whole
from tpnum.errors import InputError
from tpnum.messages.denoisers import as_denoiser, prior_of

REACH, POINTS = 12.0, 24


@dataclass(frozen=True, eq=False)
class Evolution:
    """The effective noise tau_t^2 before each step and the mean squared error after it."""

    tau2: np.ndarray
    mse: np.ndarray


def state_evolution(
    denoiser: Any, points: Any, masses: Any = None, variances: Any = 0.0, *, delta: Any, noise: Any = 0.0,
    steps: Any = 100, derivative: Any = None,
) -> Evolution:  # fmt: skip
    """tau_{t+1}^2 = noise + E(eta_t(X + tau_t Z, tau_t) - X)^2 / delta, from eta_0 = 0.

    X has the law sum masses N(points, variances).  Exact: a one-dimensional integral per part of it, split
    where the denoiser's slope jumps.
    """
    eta = as_denoiser(denoiser, derivative)
    prior = prior_of(points, masses, variances)
    x, w, v = prior
    ratio, sigma2 = number(delta, "delta", above=0.0), number(noise, "noise", low=0.0)
    count = whole(steps, "steps", 1, 1_000_000)
    tau2 = sigma2 + float(w @ (x**2 + v)) / ratio
    taus, errors = [], []
    for _ in range(count):
        taus.append(tau2)
        mse = _mse(eta, prior, float(np.sqrt(tau2)))
        errors.append(mse)
        tau2 = sigma2 + mse / ratio
    return Evolution(np.array(taus), np.array(errors))


def _mse(eta: Any, prior: tuple[np.ndarray, ...], tau: float) -> float:
    if tau == 0.0:
        return 0.0
    t, weights = np.polynomial.legendre.leggauss(POINTS)
    total = 0.0
    for value, mass, variance in zip(*prior, strict=True):
        # r ~ N(value, variance + tau^2), and X given r is Gaussian
        root = float(np.sqrt(variance + tau * tau))
        breaks = [(b - value) / root for b in eta.breaks(tau)]
        ends = np.unique([*np.linspace(-REACH, REACH, 25), *(b for b in breaks if abs(b) < REACH)])
        middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * np.diff(ends)
        z = (middle[:, None] + half[:, None] * t).reshape(-1)
        p = (half[:, None] * weights).reshape(-1) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
        known = value + z * (variance / root)
        away = np.asarray(eta(value + root * z, np.full(z.size, tau))) - known
        total += mass * (float(p @ away**2) + variance * (tau / root) ** 2)
    return total


def l1_transition(delta: Any, positive: bool = False) -> Any:
    """The sparsity rho (non-zeros over measurements) up to which l1 recovers, at m/n = delta, of any shape.

    rho = max over z >= 0 of (1 - k/delta u(z)) / (1 + z^2 - k u(z)), u(z) = (1 + z^2) Phi(-z) - z phi(z), k
    = 2, or 1 for signals >= 0 (Donoho, Maleki, Montanari 2009).
    """
    ratios = real_array(delta, "delta").astype(np.float64)
    if not np.all((ratios > 0.0) & (ratios < 1.0)):
        raise InputError("delta must be between 0 and 1: measurements per unknown")
    k = 1.0 if flag(positive, "positive") else 2.0
    return np.array([_transition(float(d), k)[0] for d in ratios.reshape(-1)]).reshape(ratios.shape)[()]


def minimax_threshold(delta: Any, positive: bool = False) -> float:
    """The alpha of soft thresholding at which state evolution recovers as far as l1 does."""
    ratio = number(delta, "delta", above=0.0, below=1.0)
    return _transition(ratio, 1.0 if flag(positive, "positive") else 2.0)[1]


def _transition(delta: float, k: float) -> tuple[float, float]:
    from scipy.optimize import minimize_scalar
    from scipy.special import ndtr

    def rho(z: float) -> float:
        u = (1.0 + z * z) * ndtr(-z) - z * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
        return float((1.0 - k / delta * u) / (1.0 + z * z - k * u))

    grid = np.linspace(0.01, 12.0, 1200)
    best = float(grid[int(np.argmax([rho(z) for z in grid]))])
    found = minimize_scalar(lambda z: -rho(z), bounds=(max(best - 0.01, 1e-3), best + 0.01), method="bounded",
                            options={"xatol": 1e-12})  # fmt: skip
    return -float(found.fun), float(found.x)
