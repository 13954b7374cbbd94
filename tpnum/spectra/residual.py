"""The squared singular values of 1 + X, X R-diagonal, as a part of free products.

The symmetric law of X's singular values has the R-transform g R(g) = u at g^2 = u (1 + u) S(u), S the
S-transform of X X^T; that of 1 has the transform w / (w^2 - 1).  Their free sum at zeta (Haagerup and Schultz
2007) is solved by

    zeta g = u + m,        m^2 - m = g^2,

so that x = zeta^2 and x G(x) = u + m are explicit functions of u and m: a product needs no more, and no law
in between is ever written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from tpnum.spectra.base import Atom, Measure, _both_sides, _pair_of_sides
from tpnum.spectra.charts import Chart, Line
from tpnum.spectra.closed import FreePoisson

LINE = 1e-12
"""Of a point: an imaginary part that is none."""

GINIBRE = FreePoisson(1.0, 1.0)
"""The law of W W^T."""


class Residual(Chart):
    """(1 + X)(1 + X)^T over its mean.  X X^T: the free product of laws of mean one, ``parts`` are pairs (law,
    how often), times ``scale`` and so many ``weights``, Gaussian W W^T of mean one.

    A point is one of each law, where u = p G(p) - 1, and m.
    """

    def __init__(self, parts: Sequence[tuple[Measure, float]], scale: float, weights: int) -> None:
        self.parts, self.scale, self.weights = tuple(parts), scale, weights
        self.total = sum(t for _, t in parts)

    @property
    def mean(self) -> float:
        return 1.0

    @property
    def grown(self) -> float:
        """The mean before it is made one."""
        return 1.0 + self.scale

    @cached_property
    def second(self) -> float:
        spread = self.weights + sum(t * part.variance for part, t in self.parts)
        body = self.scale**2 * (1.0 + spread)
        return float(body + 4.0 * self.scale + 1.0) / self.grown**2

    @cached_property
    def hull(self) -> tuple[float, float]:
        """Bounds of all mass."""
        top = self.scale * 4.0**self.weights * np.prod([part.hull[1] ** t for part, t in self.parts])
        return 0.0, float((1.0 + top**0.5) ** 2 / self.grown)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """On the kernel of X, of more than half of all mass, 1 + X is 1."""
        return (Atom(1.0 / self.grown, 2.0 * self._kernel - 1.0),) if self._kernel > 0.5 else ()

    @property
    def peak(self) -> float | None:
        """Where that would be an atom, of a kernel of half of all mass."""
        return 1.0 / self.grown if self._kernel == 0.5 else None

    @cached_property
    def _kernel(self) -> float:
        return max((a.mass for part, _ in self.parts for a in part.atoms if a.at == 0.0), default=0.0)

    def start(self, u: np.ndarray) -> np.ndarray:
        inner = u * self.scale / self.grown
        points = [1.0 / inner + part.second for part, _ in self.parts]
        return np.stack([*points, 1.0 + inner / self.scale])

    def point(self, p: np.ndarray) -> np.ndarray:
        value = p[0] * _pair_of_sides(self.parts[0][0]._transform, p[0])[0]
        total = value - 1.0 + p[-1]
        return total * total / (self._square(p, value - 1.0) * self.grown)

    def _square(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
        """g^2 = u (1 + u) S(u), S a product of (1 + u) / (u p) and of 1 / (1 + u)."""
        made = u ** (1.0 - self.total) * (1.0 + u) ** (1.0 + self.total - self.weights) / self.scale
        for (_, t), own in zip(self.parts, p[:-1], strict=True):
            made = made / own**t
        return np.asarray(made)

    def potential(self, p: np.ndarray) -> np.ndarray:
        """That of X X^T, a product, and log m; the imaginary part, from 0 to pi, up to whole turns."""
        u = p[0] * _pair_of_sides(self.parts[0][0]._transform, p[0])[0] - 1.0
        made = np.log(p[-1]) + (self.total + self.weights - 1.0) * np.log(u) + np.log(self.scale / self.grown)
        if self.weights:
            made = made + self.weights * _both_sides(GINIBRE._potential, (1.0 + u) ** 2 / u)
        # on the line itself from above, whatever rounding says
        points = np.where(np.abs(p.imag) > LINE * np.abs(p), p, p.real + 0j)
        for (part, t), own in zip(self.parts, points[:-1], strict=True):
            made = made + t * _both_sides(part._potential, own)
        turned = made.imag - 2.0 * np.pi * np.round((made.imag - 0.5 * np.pi) / (2.0 * np.pi))
        return made.real + 1j * np.clip(turned, 0.0, np.pi)

    def lines(self, p: np.ndarray) -> Line:
        m, u, found = p[-1], 0.0, []
        for (part, _), own in zip(self.parts, p[:-1], strict=True):
            g, slope = _pair_of_sides(part._transform, own)
            found.append((own * g - 1.0, own * g + own * own * slope))  # u and its slope in log p
        u = found[0][0]
        # dlog p = (du + u - u_k) / bend, dlog g^2 = steep du + more
        steep = (1.0 - self.total) / u + (1.0 + self.total - self.weights) / (1.0 + u)
        more = np.zeros(u.shape, np.complex128)
        for (_, t), (own, bend) in zip(self.parts, found, strict=True):
            steep, more = steep - t / bend, more - t * (u - own) / bend
        square, double = self._square(p, u), 2.0 * m - 1.0
        # dm = part du + missing, dv = du + dm
        part, missing = square * steep / double, (square * (1.0 + more) - m * m + m) / double
        by, rest = 1.0 / (1.0 + part), -missing / (1.0 + part)  # du = by dv + rest
        total = u + m
        return Line(
            w=total * total / (square * self.grown),
            value=total,
            rest=np.stack([*((rest + u - own) / bend for own, bend in found), (part * rest + missing) / m]),
            tilt=np.stack([*(by / bend for _, bend in found), part * by / m]),
            rest_w=-steep * rest - more,
            tilt_w=2.0 / total - steep * by,
        )
