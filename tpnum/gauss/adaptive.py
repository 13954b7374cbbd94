"""Adaptive panels for E g(z), z ~ N(0, 1), along many lines at once: halved until two rules agree.

A panel's weight is the normal density, which underflows beyond |z| = 38.  The rule (Clenshaw and Curtis) has
nodes at the ends of a panel, so that a jump close to an end, where a Gauss rule has no node, is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_HALF = (1.5, 3.5, 6.5, 12.0, 38.0)
EDGES = np.array([*(-x for x in reversed(_HALF)), 0.0, *_HALF])
NEAR = np.array([-10.0, *EDGES[2:-2], 10.0])
"""Where panels end for a function that does not grow: beyond there is 1.5e-23 of the probability."""
WIDE = np.array([-10.0, -4.5, -1.5, 1.5, 4.5, 10.0])
"""The same where panels are many: three dimensions."""
PANEL = 0.5 * _HALF[0]
"""Half a panel in the middle that is not halved."""
_FINEST = 1e-14
"""Panels shorter than this, relative to their place, are not halved: the point of a jump is found."""
_ROUNDS = 60
_PANELS = 1 << 10
"""Panels of one line that are halved: beyond, the error says what was reached."""
_SHARE = 0.03
"""The part of a line's tolerance that one panel may be off."""
_ROOT_TURN = np.sqrt(2.0 * np.pi)


def _clenshaw_curtis(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes -cos(pi k/n) and weights on [-1, 1], n even."""
    k = np.arange(n + 1)
    j = np.arange(1, n // 2 + 1)
    factor = np.where(j == n // 2, 1.0, 2.0) / (4.0 * j * j - 1.0)
    weight = (1.0 - np.cos(2.0 * np.pi / n * np.outer(k, j)) @ factor) / n
    return -np.cos(np.pi * k / n), weight * np.where((k == 0) | (k == n), 1.0, 2.0)


NODES, _FINE = _clenshaw_curtis(16)
_COARSE = _clenshaw_curtis(8)[1]
"""The weights of every other node."""

Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]
"""(value, error, size) (panels, nodes, components) of g; line is (panels,), z and density (panels, nodes)."""


@dataclass(frozen=True)
class Lines:
    """E g, its error and E|g|, each (lines, components), and half the length of the shortest panels."""

    value: np.ndarray
    error: np.ndarray
    size: np.ndarray
    shortest: np.ndarray


def adapt(
    evaluate: Evaluate,
    tolerance: np.ndarray,
    more: np.ndarray,
    go_on: Callable[[], bool],
    finest: float = _FINEST,
    edges: np.ndarray = EDGES,
) -> Lines:
    """The integrals along lines, one per ``tolerance``; while ``go_on()`` panels are halved, to ``finest``.

    Panels end at ``edges`` and at ``more`` (lines, m).
    """
    lines = tolerance.size
    ends = np.concatenate([np.tile(edges, (lines, 1)), more], axis=1)
    ends = np.sort(np.clip(ends, edges[0], edges[-1]), axis=1)
    line = np.repeat(np.arange(lines), ends.shape[1] - 1)
    low, high = ends[:, :-1].reshape(-1), ends[:, 1:].reshape(-1)
    some = high > low
    line, low, high = line[some], low[some], high[some]
    halved, shortest = np.zeros(lines, dtype=int), np.full(lines, np.inf)
    sums: np.ndarray | None = None
    for turn in range(_ROUNDS):
        half, middle = 0.5 * (high - low), 0.5 * (high + low)
        z = middle[:, None] + half[:, None] * NODES
        density = np.exp(-0.5 * z * z)
        density /= _ROOT_TURN
        value, error, size = evaluate(line, z, density)
        scale = half[:, None] * density
        weight = scale * _FINE
        fine = np.einsum("pn,pnk->pk", weight, value)
        absolute = np.einsum("pn,pnk->pk", weight, size)
        coarse = np.einsum("pn,pnk->pk", scale[:, ::2] * _COARSE, value[:, ::2])
        spread = value * weight[:, :, None]
        spread -= 0.5 * fine[:, None] * _FINE[:, None]
        np.abs(spread, out=spread)
        own = _honest(np.abs(fine - coarse), spread.sum(axis=1))
        inner = np.einsum("pn,pnk->pk", weight, error) if error.any() else 0.0
        if sums is None:
            sums = np.zeros((3, lines, value.shape[2]))
        split = np.any(own > _SHARE * tolerance[line][:, None], axis=1)
        split &= half > finest * np.maximum(1.0, np.abs(middle))
        split &= (halved[line] < _PANELS) & (turn + 1 < _ROUNDS) & go_on()
        done = ~split
        for k, part in enumerate((fine, own + inner, absolute)):
            np.add.at(sums[k], line[done], part[done])
        if not np.any(split):
            break
        np.add.at(halved, line[split], 1)
        np.minimum.at(shortest, line[split], 0.5 * half[split])
        line = np.repeat(line[split], 2)
        ends = np.stack([low[split], middle[split], high[split]], axis=1)
        low, high = ends[:, :2].reshape(-1), ends[:, 1:].reshape(-1)
    assert sums is not None
    return Lines(sums[0], sums[1] + 5e-15 * sums[2], sums[2], shortest)


def _honest(difference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The error of the longer rule from the difference of the two (as in QUADPACK)."""
    ratio = np.divide(200.0 * difference, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.where(spread > 0, spread * np.minimum(1.0, ratio**1.5), difference)
