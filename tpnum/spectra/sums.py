"""Cauchy transforms of atoms, of power series and of panels at arrays of points, by compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from tpnum.kernels import cauchy

Pair = tuple[np.ndarray, np.ndarray]

FAR, TERMS = 2.4, 36
"""Radii from which on a cluster is seen by its moments, and how many of these."""

NEAR, POINTS = 1.6 + 1.0 / 1.6, 44
"""Twice the half-axis of the ellipse around a panel beyond which a sum over so many points is exact."""


def of_atoms(z: np.ndarray, points: np.ndarray, masses: np.ndarray, starts: np.ndarray | None = None) -> Pair:
    """sum mass / (z - point), and its slope; of laws side by side z[l] with the atoms from starts[l] on."""
    if starts is None:
        starts = np.array([0, points.size])
    return _filled(cauchy.atoms, z, points, masses, starts)


def power_series(w: np.ndarray, coefs: np.ndarray) -> Pair:
    """sum c_k w^k, |w| <= 1, and its slope."""
    return _filled(cauchy.power_series, w, np.ascontiguousarray(coefs))


def _filled(kernel: Callable[..., Any], z: np.ndarray, *given: Any) -> Pair:
    flat = z.reshape(-1)
    value, slope = np.empty(flat.size, np.complex128), np.empty(flat.size, np.complex128)
    if flat.size:
        made = np.empty((4, flat.size))
        kernel(flat.real.copy(), flat.imag.copy(), *given, *made)
        value.real, value.imag, slope.real, slope.imag = made
    return value.reshape(z.shape), slope.reshape(z.shape)


@dataclass(frozen=True)
class Tree:
    """Panels as the leaves of a binary tree; `transform` is G and G' of their densities."""

    arrays: tuple[Any, ...]

    def transform(self, z: np.ndarray) -> Pair:
        """G and G' at z, Im z >= 0."""
        return _filled(cauchy.panels, z, *self.arrays)


def tree(low: np.ndarray, high: np.ndarray, coefs: np.ndarray) -> Tree:
    """The tree of panels in order, of Legendre coefficients ``coefs``."""
    t, w = legendre.leggauss(POINTS)
    weights = np.ascontiguousarray(legendre.legval(t, coefs.T) * w)
    half, middle = 0.5 * (high - low), 0.5 * (low + high)
    points, masses = middle[:, None] + half[:, None] * t, weights * half[:, None]
    spans: list[tuple[int, int]] = [(0, low.size)]
    children: list[tuple[int, int]] = []
    for begin, end in spans:  # grows while it is walked
        if end - begin > 1:
            cut = (begin + end) // 2
            children.append((len(spans), len(spans) + 1))
            spans += [(begin, cut), (cut, end)]
        else:
            children.append((-1, -1))
    first, last = np.array(spans).T
    centre, radius = 0.5 * (low[first] + high[last - 1]), 0.5 * (high[last - 1] - low[first])
    moments = np.empty((len(spans), TERMS))
    for k, (begin, end) in enumerate(spans):
        powers = np.vander(((points[begin:end] - centre[k]) / radius[k]).reshape(-1), TERMS, increasing=True)
        moments[k] = masses[begin:end].reshape(-1) @ powers
    leaf = np.where(last - first == 1, first, -1)
    pairs = np.array(children)
    return Tree(
        (centre, radius, moments, pairs[:, 0].copy(), pairs[:, 1].copy(), leaf, low, high,
         np.ascontiguousarray(coefs), t, weights, FAR, NEAR)
    )  # fmt: skip
