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

from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.charts import Chart, Line, Measures, Rank
from tpnum.spectra.closed import FreePoisson
from tpnum.spectra.sides import both_sides, joined

LINE = 1e-12
"""Of a point: an imaginary part that is none."""

GINIBRE = FreePoisson(1.0, 1.0)
"""The law of W W^T."""


class Residual(Chart):
    """(1 + X)(1 + X)^T over its mean.  X X^T: the free product of laws of mean one, ``parts`` are pairs (law,
    how often), times ``scale`` and so many ``weights``, Gaussian W W^T of mean one.
    """

    def __init__(self, parts: Sequence[tuple[Measure, float]], scale: float, weights: int) -> None:
        self.parts, self.scale, self.weights = tuple(parts), scale, weights

    @property
    def kind(self) -> object:
        return self.weights, tuple(t for _, t in self.parts)

    @staticmethod
    def rank(charts: Sequence[Chart]) -> Rank:
        return Residuals([chart for chart in charts if isinstance(chart, Residual)])

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
        """Where that would be an atom, of a kernel of half of all mass: the density is infinite left of it,
        and there is a gap to its right.
        """
        return 1.0 / self.grown if self._kernel == 0.5 else None

    @cached_property
    def _kernel(self) -> float:
        return max((a.mass for part, _ in self.parts for a in part.atoms if a.at == 0.0), default=0.0)


class Residuals(Rank):
    """Residual blocks of as many weights and laws, each as often, side by side.

    A point is one of each law, where u = p G(p) - 1, and m.
    """

    def __init__(self, blocks: Sequence[Residual]) -> None:
        self.weights, self.times = blocks[0].weights, [t for _, t in blocks[0].parts]
        self.total = sum(self.times)
        self.laws = Measures(law for block in blocks for law, _ in block.parts)
        self.scale = np.array([[block.scale] for block in blocks])
        self.grown, self.means = 1.0 + self.scale, np.ones(self.scale.shape)
        self._seconds = np.array([[law.second for law, _ in block.parts] for block in blocks])[:, :, None]

    def start(self, u: np.ndarray) -> np.ndarray:
        inner = (u * self.scale / self.grown)[:, None]
        return np.concatenate([1.0 / inner + self._seconds, 1.0 + inner / self.scale[:, :, None]], axis=1)

    def _inside(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u of every law, and its slope in log p, (laws, k - 1, n)."""
        own = p[:, :-1]
        flat = own.reshape(-1, own.shape[-1])
        value, slope = (x.reshape(own.shape) for x in self.laws.transform(flat))
        return own * value - 1.0, own * (value + own * slope)

    def _taken(self, x: np.ndarray) -> np.ndarray:
        """The sum over all laws of a block, each as often as it is there."""
        return np.asarray(sum(t * x[:, k] for k, t in enumerate(self.times)))

    def point(self, p: np.ndarray) -> np.ndarray:
        u = self._inside(p)[0][:, 0]
        total = u + p[:, -1]
        return total * total / (self._square(p, u) * self.grown)

    def _square(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
        """g^2 = u (1 + u) S(u), S a product of (1 + u) / (u p) and of 1 / (1 + u)."""
        made = u ** (1.0 - self.total) * (1.0 + u) ** (1.0 + self.total - self.weights) / self.scale
        for k, t in enumerate(self.times):
            made = made / p[:, k] ** t
        return np.asarray(made)

    def potential(self, p: np.ndarray) -> np.ndarray:
        """That of X X^T, a product, and log m; the imaginary part, from 0 to pi, up to whole turns."""
        u = self._inside(p)[0][:, 0]
        made = np.log(p[:, -1]) + (self.total + self.weights - 1.0) * np.log(u)
        made = made + np.log(self.scale / self.grown)
        if self.weights:
            made = made + self.weights * both_sides(GINIBRE._potential, (1.0 + u) ** 2 / u)
        # on the line, whatever rounding says, from the side that p has above it: there v falls in z
        tilt = self.lines(p).tilt.real
        side = joined(p.real, np.where(p.real * tilt > 0.0, -0.0, 0.0))
        points = np.where(np.abs(p.imag) > LINE * np.abs(p), p, side)[:, :-1]
        found = self.laws.potentials(points.reshape(-1, points.shape[-1])).reshape(points.shape)
        made = made + self._taken(found)
        turned = made.imag - 2.0 * np.pi * np.round((made.imag - 0.5 * np.pi) / (2.0 * np.pi))
        return np.asarray(made.real + 1j * np.clip(turned, 0.0, np.pi))

    def lines(self, p: np.ndarray) -> Line:
        m = p[:, -1]
        inside, bends = self._inside(p)
        u = inside[:, 0]
        # dlog p = (du + u - u_k) / bend, dlog g^2 = steep du + more
        aside, over = (u[:, None] - inside) / bends, 1.0 / bends
        steep = (1.0 - self.total) / u + (1.0 + self.total - self.weights) / (1.0 + u)
        steep = steep - self._taken(over)
        more = -self._taken(aside)
        square, double = self._square(p, u), 2.0 * m - 1.0
        # dm = part du + missing, dv = du + dm
        part, missing = square * steep / double, (square * (1.0 + more) - m * m + m) / double
        by = 1.0 / (1.0 + part)
        rest = -missing * by  # du = by dv + rest
        total = u + m
        return Line(
            w=total * total / (square * self.grown),
            value=total,
            rest=np.concatenate(
                [rest[:, None] * over + aside, ((part * rest + missing) / m)[:, None]], axis=1
            ),
            tilt=np.concatenate([by[:, None] * over, (part * by / m)[:, None]], axis=1),
            rest_w=-steep * rest - more,
            tilt_w=2.0 / total - steep * by,
        )
