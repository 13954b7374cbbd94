"""One-dimensional Gaussian expectations of a function, for any array of variances at once.

V(q) = E f(u)^2,    V'(q) = E f(u)^2 (z^2 - 1) / (2 q),    X(q) = E f'(u)^2,    u = sqrt(q) z, z ~ N(0, 1)
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.functions import Function, get
from tpnum.gauss.rules import knows_slope
from tpnum.nn.activations import Activation
from tpnum.nn.base import Layer
from tpnum.nn.dense import Dense

REACH, WIDTH, POINTS, PANELS = 12.5, 0.5, 20, 20
"""Of z: how far the rule reaches, the widest panel and its points, and panels towards 0, each half as
wide.
"""

TABLE = 600
"""Variances of a table."""


class Expectations:
    """V, V' and X of a function by panels in z that end at its kinks."""

    def __init__(self, f: Any) -> None:
        self.f: Function = get(f)
        if self.f.arity != 1 or self.f.n_scalars:
            raise LimitError(f"{self.f} is not a function of one vector")
        ends = np.sort(
            np.concatenate([np.arange(WIDTH, REACH + WIDTH, WIDTH), WIDTH * 0.5 ** np.arange(1, PANELS)])
        )
        ends = ends[::-1]
        self._ends = np.concatenate([-ends, [0.0], ends[::-1]])
        self._points, self._weights = np.polynomial.legendre.leggauss(POINTS)
        self.knows_slope = knows_slope(self.f)

    def second(self, q: Any) -> np.ndarray:
        """V(q)."""
        return self._integral(q, lambda z, u: self._value(self.f, u) ** 2)

    def second_slope(self, q: Any) -> np.ndarray:
        """V'(q)."""
        made = self._integral(q, lambda z, u: self._value(self.f, u) ** 2 * (z * z - 1.0))
        return made / (2.0 * np.asarray(q, dtype=np.float64))

    def slope_second(self, q: Any) -> np.ndarray:
        """X(q)."""
        if not self.knows_slope:
            return self._integral(q, self._differentiated)
        slope = self.f.derivative()
        return self._integral(q, lambda z, u: self._value(slope, u) ** 2)

    def _differentiated(self, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        """f'(u)^2 by the slopes of f's polynomials on the panels, in z."""
        panels = self._value(self.f, u).reshape(-1, POINTS)
        length = np.ptp(u.reshape(-1, POINTS), axis=1)[:, None] / np.ptp(self._points)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.where(length > 0.0, (panels @ self._derive.T) / length, 0.0)
        return (slopes**2).reshape(u.shape)

    @cached_property
    def _derive(self) -> np.ndarray:
        """Values at the points of [-1, 1] -> slopes there, of polynomials."""
        legendre = np.polynomial.legendre
        vander = legendre.legvander(self._points, POINTS - 1)
        slopes = np.stack(
            [legendre.legval(self._points, legendre.legder(row)) for row in np.eye(POINTS)], axis=1
        )
        return slopes @ np.linalg.inv(vander)

    @staticmethod
    def _value(f: Function, u: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.asarray(f(u.reshape(-1)), dtype=np.float64), (u.size,)).reshape(u.shape)

    def _integral(self, q: Any, of: Any) -> np.ndarray:
        variances = np.asarray(q, dtype=np.float64)
        flat = variances.reshape(-1)
        made = np.empty(flat.size)
        step = 256
        for begin in range(0, flat.size, step):
            root = np.sqrt(flat[begin : begin + step, None])
            z, w = self._rule(root)
            with np.errstate(over="ignore", invalid="ignore"):
                made[begin : begin + step] = np.sum(w * of(z, root * z), axis=1)
        if not np.isfinite(made).all():
            raise LimitError(f"the second moment of {self.f} overflows; take smaller variances")
        return made.reshape(variances.shape)[()]

    def _rule(self, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = np.broadcast_to(self._ends, (root.size, self._ends.size))
        kinks = self.f.kinks
        if kinks:
            with np.errstate(divide="ignore", invalid="ignore"):
                at = np.clip(np.nan_to_num(np.array(kinks) / root, nan=0.0), -REACH, REACH)
            ends = np.sort(np.concatenate([ends, at], axis=1), axis=1)
        middle, half = 0.5 * (ends[:, 1:] + ends[:, :-1]), 0.5 * np.diff(ends, axis=1)
        z = (middle[:, :, None] + half[:, :, None] * self._points).reshape(root.size, -1)
        w = (half[:, :, None] * self._weights).reshape(root.size, -1)
        return z, w * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)

    def nodes(self, q: float) -> tuple[np.ndarray, np.ndarray]:
        """Points u and probabilities of the law N(0, q)."""
        z, w = self._rule(np.array([[np.sqrt(q)]]))
        return np.sqrt(q) * z[0], w[0] / w[0].sum()

    @cached_property
    def _tables(self) -> tuple[Any, Any]:
        from scipy.interpolate import CubicSpline

        grid = np.linspace(np.log(1e-9), np.log(1e6), TABLE)
        q = np.exp(grid)
        return CubicSpline(grid, self.second(q)), CubicSpline(grid, self.slope_second(q))

    def tabulated(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V and X between 1e-9 and 1e6 from tables: to six digits or more, and quick."""
        at = np.log(np.clip(q, 1e-9, 1e6))
        second, slope = self._tables
        return second(at), slope(at)


def plain(block: Any) -> tuple[Expectations, Dense] | None:
    """The function and the weights of a block that is an activation and a Dense, else None."""
    from tpnum.propagation.blocks import layers_of

    match layers_of(block) if isinstance(block, Layer) else []:
        case [Activation() as first, Dense() as last]:
            f = first.as_function()
            return None if f.n_scalars or f.arity != 1 else (Expectations(f), last)
    return None
