"""Probabilities from scores, by one temperature of largest likelihood; how often what is said is right."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from tpnum.arguments import finite_array, shown, whole
from tpnum.errors import InputError
from tpnum.predict.gaussian import Prediction

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


class Curve(NamedTuple):
    """By bins or levels of confidence, empty ones left out: its mean, the share that is right, how many."""

    confidence: np.ndarray
    accuracy: np.ndarray
    size: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy."""
        return float(np.sum(self.size * np.abs(self.confidence - self.accuracy)) / self.size.sum())


def calibration_curve(chances: Any, labels: Any, bins: int = 10) -> Curve:
    """How often the likeliest class is right, by how likely it is said to be.

    Parameters
    ----------
    chances : (N, classes), probabilities.
    labels : (N,), the classes' numbers.
    bins : of equal width between 0 and 1.
    """
    given, right = finite_array(chances, "chances", 2), finite_array(labels, "labels", 1)
    if not given.size or len(given) != len(right):
        raise InputError(
            f"labels: {len(right)} for chances of shape {given.shape}; one for each row is needed"
        )
    if given.min() < 0 or given.max() > 1 + 1e-9:
        raise InputError("chances must be probabilities, between 0 and 1")
    if np.abs(given.sum(axis=1) - 1.0).max() > 1e-3:
        at = int(np.abs(given.sum(axis=1) - 1.0).argmax())
        raise InputError(
            f"chances: row {at} sums to {given[at].sum():.4g}; give those of all classes, whose sum is 1"
        )
    if not np.isin(right, np.arange(given.shape[1])).all():
        raise InputError(f"labels: they must be numbers of classes, from 0 to {given.shape[1] - 1}")
    count = whole(bins, "bins", 1, 1 << 20)
    confidence, hits = given.max(axis=1), given.argmax(axis=1) == right
    place = np.minimum((confidence * count).astype(int), count - 1)
    sizes = np.bincount(place, minlength=count)
    kept = sizes > 0
    means = [np.bincount(place, weights=w, minlength=count)[kept] / sizes[kept] for w in (confidence, hits)]
    return Curve(means[0], means[1], sizes[kept])


def coverage_curve(found: Prediction, y: Any, levels: Any = None) -> Curve:
    """How many targets lie in the central interval of every level, for predictions with Gaussian errors.

    Parameters
    ----------
    found : predictions of y, the noise of y included (``predict(x, noise=..)``).
    y : the targets, of the shape of ``found.mean``.
    levels : between 0 and 1; 0.05, 0.1, .., 0.95 by default.

    Returns
    -------
    Curve
        ``confidence`` the levels, ``accuracy`` the shares of targets inside, ``size`` how many there are.
    """
    if not isinstance(found, Prediction):
        raise InputError(f"found is {shown(found)}; give what predict(x) of a model returns")
    target = finite_array(y, "y")
    if target.shape != found.mean.shape:
        raise InputError(f"y: shape {target.shape} is not that of the predictions, {found.mean.shape}")
    wanted = np.arange(1, 20) / 20.0 if levels is None else finite_array(levels, "levels").ravel()
    if not ((wanted > 0.0) & (wanted < 1.0)).all():
        raise InputError("levels: each is a probability, more than 0 and less than 1")
    inside = [
        float(np.mean((low <= target) & (target <= high)))
        for low, high in map(found.interval, wanted.tolist())
    ]
    return Curve(wanted, np.array(inside), np.full(len(wanted), target.size))
