"""How finely f varies over a Gaussian law, seen along some lines: what a lattice must not step over."""

from __future__ import annotations

import numpy as np

from tpnum.gauss.adaptive import adapt
from tpnum.gauss.integrand import Integrand

_RANDOM = 3  # lines besides those along the axes
_SAMPLE = 32
_REACH = 8.0
_ROUGH = 1e-3
"""Panels as short as this are a kink or a jump."""
_TOLERANCE = 1e-6
"""Of the panels: at smaller ones smooth functions need short panels as well."""
_JUMP = 1e-6
_BESIDE, _AROUND = 1e-9, 0.02
"""How far on both sides of a zero of a coordinate f is compared, and a panel ends."""


def finest(f_at: Integrand, mean: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, int]:
    """Half the length of the shortest panels that lines through each law need (infinite: all long), and cost.

    Lines run along the axes of the factor (n, d, r) and in random directions, through random points; zeros of
    the coordinates, where functions like to break, are looked at closely.
    """
    count, d, rank = factor.shape
    rng = np.random.default_rng(1)
    ways = rng.standard_normal((_RANDOM, rank))
    ways = np.concatenate([np.eye(rank), ways / np.linalg.norm(ways, axis=1, keepdims=True)])
    through = rng.standard_normal(ways.shape)
    through -= np.sum(through * ways, axis=1, keepdims=True) * ways
    start = (mean[:, None] + np.einsum("ndr,lr->nld", factor, through)).reshape(-1, d)
    direction = np.einsum("ndr,lr->nld", factor, ways).reshape(-1, d)
    cost = 0

    def at(points: np.ndarray) -> np.ndarray:
        """The components of f at points (.., d), zero where they are not finite."""
        nonlocal cost
        flat = points.reshape(-1, d)
        cost += flat.shape[0]
        made = f_at.columns([np.ascontiguousarray(flat[None, :, k]) for k in range(d)])[0]
        return np.where(np.isfinite(made), made, 0.0).T.reshape(*points.shape[:-1], -1)

    cloud = mean[:, None] + np.einsum("ndr,pr->npd", factor, rng.standard_normal((_SAMPLE, rank)))
    scale = np.repeat(np.min(np.mean(np.abs(at(cloud)), axis=1), axis=1), ways.shape[0])

    def evaluate(line: np.ndarray, z: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, ...]:
        value = at(start[line][:, None, :] + z[:, :, None] * direction[line][:, None, :])
        return value, np.zeros_like(value), np.abs(value)

    zeros = np.divide(-start, direction, out=np.full_like(start, 100.0), where=direction != 0)
    around = np.concatenate([zeros - _AROUND, zeros + _AROUND], axis=1)
    made = adapt(evaluate, _TOLERANCE * scale, around, lambda: True, finest=_ROUGH)
    left, right = (
        at(start[:, None] + (zeros + side)[:, :, None] * direction[:, None]) for side in (-_BESIDE, _BESIDE)
    )
    jump = np.abs(right - left) > _JUMP * np.maximum(np.abs(left) + np.abs(right), scale[:, None, None])
    seen = np.any(jump & (np.abs(zeros) < _REACH)[:, :, None], axis=(1, 2))
    half = np.where(seen, 0.0, made.shortest)
    return np.min(half.reshape(count, -1), axis=1), cost
