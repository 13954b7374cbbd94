"""Free additive convolution of any laws, and its powers.

The sum of free X_1, .., X_k, the l-th taken t_l times (t_l real, T = sum t_l), has with F = 1/G

    F_1(w_1) = .. = F_k(w_k) = F(z),        sum t_l w_l - (T - 1) F = z.

The potential composes like the transform (U' = G): U = sum t_l U_l(w_l) - (T - 1) log F.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import above
from tpnum.spectra.sides import both_sides_with_slope
from tpnum.spectra.subordination import Convolution, Solved, common_atoms

LOST = 1e-9
"""An imaginary part of F, relative to F and the law, that is none."""


class FreeSum(Convolution):
    """The free additive convolution."""

    name = "free sum"

    @cached_property
    def mean(self) -> float:
        return float(sum(t * part.mean for part, t in self.parts))

    @cached_property
    def second(self) -> float:
        return float(sum(t * part.variance for part, t in self.parts)) + self.mean**2

    def _start(self, z: np.ndarray) -> Solved:
        f = z - self.mean
        return Solved(f, [f + part.mean for part, _ in self.parts])

    def _below(self, part: Measure, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g, slope = both_sides_with_slope(part._transform, w)
        return 1.0 / g, -slope / (g * g)

    def _step(self, z: np.ndarray, at: Solved) -> tuple[Solved, np.ndarray, np.ndarray]:
        f = at.top
        values, slopes = zip(
            *(self._below(part, w) for (part, _), w in zip(self.parts, at.points, strict=True)), strict=True
        )
        bent = 1.0 - self.total + np.zeros(z.shape, np.complex128)
        left = z + (self.total - 1.0) * f
        for (_, t), w, value, slope in zip(self.parts, at.points, values, slopes, strict=True):
            bent = bent + t / slope
            left = left - t * (w + (f - value) / slope)
        change = left / bent
        size = self.size
        moved = np.abs(change) / (np.abs(f) + 1e-6 * size)
        points = []
        for w, value, slope in zip(at.points, values, slopes, strict=True):
            step = (f + change - value) / slope
            moved = np.maximum(moved, np.abs(step) / (np.abs(w) + 1e-6 * size))
            points.append(_kept(w, step))
        return Solved(_kept(f, change), points), moved, bent

    def _sound(self, z: np.ndarray, at: Solved) -> np.ndarray:
        # F rises in z outside all mass: where it is real and falls, another root has been found
        real = (z.imag == 0.0) & (np.abs(at.top.imag) < LOST * (np.abs(at.top) + self.size))
        return super()._sound(z, at) & ~(real & (self._step(z, at)[2].real < 0.0))

    def _unity(self) -> float:
        return 1e-3 * self.size

    def r_transform(self, g: Any) -> Any:
        """The sum of those of the parts."""
        return sum(t * part.r_transform(g) for part, t in self.parts)

    def _transform_of(self, z: np.ndarray, at: Solved) -> tuple[np.ndarray, np.ndarray]:
        bent = self._step(z, at)[2]
        g = 1.0 / at.top
        return g, -g * g / bent

    def _potential(self, z: np.ndarray) -> np.ndarray:
        flat = z.reshape(-1)
        with np.errstate(all="ignore"):
            at = self.solve(flat)
            made = (1.0 - self.total) * np.log(above(at.top))
            for (part, t), w in zip(self.parts, at.points, strict=True):
                made = made + t * part._potential(above(w))
        return made.reshape(z.shape)

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        return common_atoms(self.parts, lambda points, times: float(np.dot(points, times)))

    def _outside(self) -> tuple[float, float]:
        low, high = self.mean, self.mean
        for part, t in self.parts:
            low -= max(t, 1.0) * (part.mean - part.hull[0])
            high += max(t, 1.0) * (part.hull[1] - part.mean)
        margin = 1e-3 * self.size + (2.0 * self.size if self.total > len(self.parts) else 0.0)
        return low - margin, high + margin

    def _place(self, at: Solved) -> float:
        z = (1.0 - self.total) * at.top[0].real
        return float(z + sum(t * w[0].real for (_, t), w in zip(self.parts, at.points, strict=True)))


def _kept(at: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A step that stays in the closed upper half-plane: one that would leave it goes nine tenths of the
    way.
    """
    new = at + step
    out = (new.imag < 0.0) & (at.imag > 0.0)
    shorter = np.where(out, 0.9 * at.imag / np.where(step.imag != 0.0, -step.imag, 1.0), 1.0)
    return np.where(out, at + shorter * step, new)
