"""Pairs of batches that have one axis each, as two examples do: two Gaussian numbers, not two vectors.

x = sigma xi e with a unit vector e, so that BN x = sqrt(B) e h(xi), h = xi/sqrt(xi^2 + a), a = B eps/sigma^2.
For phi(u) = alpha u + beta |u| and xi, eta of correlation cos omega, with N and P what the sectors hold where
the signs differ and where they agree (`tpnum.kernels.sectors`),

    E phi(BN x) phi(BN y)' = sqrt(B B') [alpha^2 (P - N) e e'' + beta^2 (P + N) |e| |e'|'],

and E J_1 theta J_2' the same with h' for h and alpha and beta exchanged, times e' theta e'/(sigma sigma').
Without eps h is the sign: P - N = 1 - 2 omega/pi, and h' is twice a delta function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.gauss.special.batch_rules import Batch
from tpnum.gauss.special.batches import Slopes
from tpnum.kernels.sectors import sectors

_ROUNDING = 4e-16
"""Of a correlation."""

_ONE_VECTOR = 1e-15
"""Correlations so close to one are of numbers that are equal."""

_QUADRATURE = 1e-13
"""Of the sectors, relative; ten times as much of derivatives."""

_NO_EPS = 1e-100
"""Beside the variance, what adds nothing to it."""

Made = tuple[np.ndarray, np.ndarray]
"""Values and the errors of them."""


@dataclass(frozen=True)
class LoneAxes:
    """Unit vectors (n, B) and deviations (n,) of both, the angle between both numbers (at most pi/2), the
    sign of their correlation, and what is added to their squares.
    """

    axes: tuple[np.ndarray, np.ndarray]
    deviations: tuple[np.ndarray, np.ndarray]
    angle: np.ndarray
    sign: np.ndarray
    added: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, one: Batch, two: Batch, cross: np.ndarray) -> LoneAxes:
        """The last axes are the only ones."""
        batches = one, two
        deviations = np.sqrt(one.values[:, -1]), np.sqrt(two.values[:, -1])
        correlation = cross[:, -1, -1] / (deviations[0] * deviations[1])
        size = np.abs(correlation)
        angle = np.where(size > 1.0 - _ONE_VECTOR, 0.0, np.arccos(np.minimum(size, 1.0)))
        first, second = (batch.size * batch.eps / batch.values[:, -1] for batch in batches)
        return cls(
            (one.vectors[:, :, -1], two.vectors[:, :, -1]), deviations, angle,
            np.sign(correlation), (first, second),
        )  # fmt: skip

    def moments(self, slopes: Slopes) -> Made:
        """E phi(BN x) phi(BN y)'."""
        equal, unequal = self._sectors(1.0 - self.angle / np.pi, self.angle / np.pi, slope=False)
        made = self._spread(slopes, self.sign * (equal - unequal), equal + unequal)
        unsure = _QUADRATURE + np.where(self.angle > 0.0, _ROUNDING / np.sqrt(self._near), 0.0)
        top = self._root * (slopes.odd + 0.5 * np.pi * slopes.even)
        return made, np.broadcast_to((top * unsure)[:, None, None], made.shape)

    def tangents(self, theta: np.ndarray, slopes: Slopes) -> Made:
        """E J_1 theta J_2' for theta that has no other axes."""
        with np.errstate(divide="ignore"):
            density = 1.0 / (np.pi * np.sin(self.angle))
        equal, unequal = self._sectors(density, density, slope=True)
        along = np.einsum("ni,nij,nj->n", self.axes[0], theta, self.axes[1])
        along /= self.deviations[0] * self.deviations[1]
        with np.errstate(invalid="ignore"):  # what is infinite is refused later
            made = self._spread(slopes, along * (equal + unequal), along * self.sign * (equal - unequal))
            unsure = 10.0 * _QUADRATURE + np.where(self.angle > 0.0, _ROUNDING / self._near, 0.0)
            top = np.max(np.abs(made), axis=(1, 2), initial=0.0)
            return made, np.broadcast_to((top * unsure)[:, None, None], made.shape)

    def _sectors(self, equal: np.ndarray, unequal: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        """What either pair of sectors holds: what is given where nothing is added."""
        soft = np.flatnonzero(np.maximum(*self.added) >= _NO_EPS)
        added = [np.maximum(a[soft], _NO_EPS) for a in self.added]
        made, widths = [], ((np.pi - self.angle)[soft], self.angle[soft])
        for k, closed in enumerate((equal, unequal)):
            out = np.empty(len(soft))
            sectors(widths[k], widths[1 - k], *added, slope, out)
            closed = closed.copy()
            closed[soft] = out
            made.append(closed)
        return made[0], made[1]

    def _spread(self, slopes: Slopes, odd: np.ndarray, even: np.ndarray) -> np.ndarray:
        """Over the examples: what is odd in a number has the sign of the example's part of its axis."""
        both = np.einsum("ni,nj->nij", *self.axes)
        odd, even = slopes.odd * odd, 0.5 * np.pi * slopes.even * even
        return self._root * (odd[:, None, None] * both + even[:, None, None] * np.abs(both))

    @property
    def _root(self) -> float:
        return float(np.sqrt(self.axes[0].shape[1] * self.axes[1].shape[1]))

    @property
    def _near(self) -> np.ndarray:
        """The square of the least angle within which something changes."""
        return np.asarray(np.sin(self.angle) ** 2 + np.minimum(*self.added))
