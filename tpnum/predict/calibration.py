"""Probabilities from scores: one temperature, of largest likelihood on scores of examples left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

LOWEST, HIGHEST = -9.0, 9.0
"""Logarithms of the temperatures that are tried, in units of the scores' size."""


def temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """T that maximises sum log softmax(scores / T)[label]."""
    size = float(np.std(scores)) or 1.0

    def cost(log_t: float) -> float:
        logs = log_softmax(scores / (size * np.exp(log_t)), axis=1)
        return -float(logs[np.arange(len(labels)), labels].mean())

    grid = np.linspace(LOWEST, HIGHEST, 73)
    best = int(np.argmin([cost(t) for t in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": 1e-8})
    return size * float(np.exp(found.x))


def probabilities(scores: np.ndarray, t: float) -> np.ndarray:
    """softmax(scores / t)."""
    return np.asarray(softmax(scores / t, axis=1))


def calibration_curve(
    chances: np.ndarray, labels: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, share that is right and number of examples of every bin of confidence with any."""
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    kept = count > 0
    means = [np.bincount(place, weights=w, minlength=bins)[kept] / count[kept] for w in (confidence, right)]
    return means[0], means[1], count[kept]
