"""Laws of functions of one variable: scaled and shifted, the square of a symmetric law, its signed root."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tpnum.arguments import real_array
from tpnum.errors import InputError
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.sides import both_sides, both_sides_with_slope, joined


class Affine(Measure):
    """The law of scale X + shift, X ~ ``of``."""

    @cached_property
    def quick(self) -> Measure:
        return Affine(self.of.quick, self.scale, self.shift)

    def __init__(self, of: Measure, scale: float, shift: float) -> None:
        self.of: Measure = of.of if isinstance(of, Affine) else of
        self.scale: float = scale * of.scale if isinstance(of, Affine) else scale
        self.shift: float = scale * of.shift + shift if isinstance(of, Affine) else shift

    def _back(self, z: np.ndarray) -> np.ndarray:
        w = (z - self.shift) / self.scale
        # a negative scale turns the half-planes over, the line's upper side included
        return w if self.scale > 0 else joined(w.real, -np.abs(w.imag))

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g, slope = both_sides_with_slope(self.of._transform, self._back(z))
        return g / self.scale, slope / self.scale**2

    def _potential(self, z: np.ndarray) -> np.ndarray:
        made = both_sides(self.of._potential, self._back(z)) + np.log(abs(self.scale))
        return made if self.scale > 0 else made + 1j * np.pi

    def _density(self, x: np.ndarray) -> np.ndarray:
        return self.of._density((x - self.shift) / self.scale) / abs(self.scale)

    def cdf(self, x: Any) -> Any:
        if self.scale < 0.0:
            return super().cdf(x)
        return self.of.cdf((real_array(x, "x") - self.shift) / self.scale)

    @cached_property
    def edges(self) -> np.ndarray:
        found = self.scale * self.of.edges + self.shift
        return found if self.scale > 0 else found[::-1, ::-1]

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return tuple(sorted(Atom(self.scale * a.at + self.shift, a.mass) for a in self.of.atoms))

    @property
    def mean(self) -> float:
        return self.scale * self.of.mean + self.shift

    @property
    def second(self) -> float:
        return self.scale**2 * self.of.variance + self.mean**2


class SignedRoot(Measure):
    """The symmetric law whose square is ``of``, a law on [0, inf): G(z) = z G_of(z^2)."""

    def __init__(self, of: Measure) -> None:
        if of.hull[0] < 0.0:
            raise InputError("the root of a law with negative points does not exist")
        self.of = of

    @cached_property
    def quick(self) -> Measure:
        return SignedRoot(self.of.quick)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = z * z
        # z^2 of the second quadrant, its real axis included, lies below the line
        square = joined(square.real, np.where(z.real < 0.0, -1.0, 1.0) * np.abs(square.imag))
        g, slope = both_sides_with_slope(self.of._transform, square)
        return z * g, g + 2.0 * square * slope

    def _potential(self, z: np.ndarray) -> np.ndarray:
        square = z * z
        left = z.real < 0.0
        square = joined(square.real, np.where(left, -1.0, 1.0) * np.abs(square.imag))
        made = 0.5 * both_sides(self.of._potential, square)
        return np.where(left, made + 1j * np.pi, made)

    def _density(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x) * self.of._density(x * x)

    @cached_property
    def edges(self) -> np.ndarray:
        found = np.sqrt(self.of.edges)  # intervals that meet at 0 stay two: the density may be infinite there
        return np.concatenate([-found[::-1, ::-1], found])

    @property
    def atoms(self) -> tuple[Atom, ...]:
        made: list[Atom] = []
        for at, mass in self.of.atoms:
            made += [Atom(-(at**0.5), mass / 2), Atom(at**0.5, mass / 2)] if at else [Atom(0.0, mass)]
        return tuple(sorted(made))

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def second(self) -> float:
        return self.of.mean


class Square(Measure):
    """The law of X^2 for a symmetric X ~ ``of``: G(z) = G_of(sqrt z) / sqrt z."""

    def __init__(self, of: Measure) -> None:
        self.of = of

    @cached_property
    def quick(self) -> Measure:
        return Square(self.of.quick)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(z)
            g, slope = self.of._transform(root)
            return g / root, (slope - g / root) / (2.0 * z)

    def _potential(self, z: np.ndarray) -> np.ndarray:
        made = 2.0 * self.of._potential(np.sqrt(z))
        return made.real + 1j * np.clip(made.imag, 0.0, np.pi)

    @cached_property
    def edges(self) -> np.ndarray:
        found = self.of.edges
        right = found[found[:, 1] > 0.0]
        return np.maximum(right, 0.0) ** 2

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return tuple(
            Atom(at**2, mass if at == 0.0 else 2.0 * mass) for at, mass in self.of.atoms if at >= 0.0
        )

    @property
    def mean(self) -> float:
        return self.of.second

    @cached_property
    def second(self) -> float:
        return float(self.of.moment(4))


class Described(Measure):
    """A law that another one, ``law``, is computed by; a subclass says more about it."""

    law: Measure

    @property
    def quick(self) -> Measure:
        return self.law.quick

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.law._transform(z)

    def _potential(self, z: np.ndarray) -> np.ndarray:
        return self.law._potential(z)

    def _density(self, x: np.ndarray) -> np.ndarray:
        return self.law._density(x)

    @property
    def edges(self) -> np.ndarray:
        return self.law.edges

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return self.law.atoms
