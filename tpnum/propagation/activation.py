"""One-dimensional Gaussian expectations of a function, for any array of variances at once.

V(q) = E f(u)^2,    V'(q) = E f(u)^2 (z^2 - 1) / (2 q),    X(q) = E f'(u)^2,    u = sqrt(q) z, z ~ N(0, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.functions import Function, get
from tpnum.gauss.rules import knows_slope, surveyed
from tpnum.nn.activations import Activation
from tpnum.nn.base import Layer
from tpnum.nn.combinators import Identity
from tpnum.nn.dense import Dense
from tpnum.nn.spatial import Conv, ConvLocal

BULK, REACH, WIDTH, POINTS, PANELS = 12.5, 38.5, 0.5, 20, 20
"""Of z: where the bulk ends and the density underflows, the widest panel of the bulk and its points, and
panels towards 0, each half as wide.
"""

Values = Callable[[np.ndarray], np.ndarray]

FINEST, CLOSE = 64, 1e-13
"""Into how many a panel is cut at most, and the change of a sum, of that of absolute values, that is none."""

LOOKED_AT = (0.1, 1.0, 10.0)
"""Deviations of the laws under which a function of a user's is looked at for kinks."""

LEAST, MOST = 1e-9, 1e6
TABLE, DEGREE = 600, 7
"""Of a table: its variances, how many, and the degree of the splines between them."""

TINY = 1e-300
"""The logarithm of a smaller mean square is that of this one."""


class Expectations:
    """V, V' and X of a function by panels in z that end at its kinks."""

    def __init__(self, f: Any) -> None:
        self.f: Function = get(f)
        if self.f.arity != 1 or self.f.n_scalars:
            raise LimitError(f"{self.f} is not a function of one vector")
        bulk = np.arange(WIDTH, BULK + WIDTH, WIDTH)
        inner, outer = WIDTH * 0.5 ** np.arange(1, PANELS), np.arange(BULK + 2.0, REACH, 2.0)
        ends = np.sort(np.concatenate([bulk, inner, outer, [REACH]]))
        self._ends = np.concatenate([-ends[::-1], [0.0], ends])
        self._points, self._weights = np.polynomial.legendre.leggauss(POINTS)
        self.knows_slope = knows_slope(self.f)
        look = surveyed(self.f, np.zeros(len(LOOKED_AT)), np.array(LOOKED_AT))
        self.kinks: tuple[float, ...] = tuple(self.f.kinks if look is None else look.kinks)

    def second(self, q: Any) -> np.ndarray:
        """V(q)."""
        return self._integral(q, self._value)

    def second_slope(self, q: Any) -> np.ndarray:
        """V'(q)."""
        made = self._integral(q, self._value, lambda z: z * z - 1.0)
        return made / (2.0 * np.asarray(q, dtype=np.float64))

    def slope_second(self, q: Any) -> np.ndarray:
        """X(q)."""
        return self._integral(q, self._slope_value)

    def _value(self, u: np.ndarray) -> np.ndarray:
        return _called(self.f, u)

    def _slope_value(self, u: np.ndarray) -> np.ndarray:
        return _called(self._slope, u) if self.knows_slope else self._differentiated(u)

    @cached_property
    def _slope(self) -> Function:
        return self.f.derivative()

    def _differentiated(self, u: np.ndarray) -> np.ndarray:
        """f'(u) by the slopes of f's polynomials on the panels."""
        panels = self._value(u).reshape(-1, POINTS)
        length = np.ptp(u.reshape(-1, POINTS), axis=1)[:, None] / np.ptp(self._points)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.where(length > 0.0, (panels @ self._derive.T) / length, 0.0)
        return slopes.reshape(u.shape)

    @cached_property
    def _derive(self) -> np.ndarray:
        """Values at the points of [-1, 1] -> slopes there, of polynomials."""
        legendre = np.polynomial.legendre
        vander = legendre.legvander(self._points, POINTS - 1)
        slopes = np.stack(
            [legendre.legval(self._points, legendre.legder(row)) for row in np.eye(POINTS)], axis=1
        )
        return slopes @ np.linalg.inv(vander)

    def _integral(self, q: Any, g: Values, factor: Values | None = None) -> np.ndarray:
        made = self._summed(q, g, factor)
        if not np.isfinite(made).all():
            with np.errstate(all="ignore"):
                seen = self._value(np.sqrt(np.max(q)) * np.linspace(-3.0, 3.0, 3 * POINTS))
            if np.isnan(seen).any():
                raise LimitError(f"{self.f} is not defined on all of the line: it has no second moment")
            what = f"the slope of {self.f}" if g == self._slope_value else f"{self.f}"
            raise LimitError(f"the second moment of {what} overflows; take smaller variances")
        return made

    def _summed(self, q: Any, g: Values, factor: Values | None = None) -> np.ndarray:
        """E factor(z) g(u)^2 by panels that are cut until it stays; not finite where it overflows."""
        variances = np.asarray(q, dtype=np.float64)
        flat = variances.reshape(-1)
        made, live, parts = self._on_panels(flat, 1, g, factor)[0], np.arange(flat.size), 1
        while live.size and parts < FINEST:
            parts *= 2
            finer, size = self._on_panels(flat[live], parts, g, factor)
            with np.errstate(invalid="ignore"):
                moved = np.abs(finer - made[live]) > CLOSE * size
            made[live] = finer
            live = live[moved]
        return np.asarray(made.reshape(variances.shape)[()])

    def _on_panels(
        self, q: np.ndarray, parts: int, g: Values, factor: Values | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The sums over panels cut into so many parts, and those of absolute values."""
        made, size = np.empty((2, q.size))
        step = max(1, 256 // parts)
        for begin in range(0, q.size, step):
            some = slice(begin, begin + step)
            root = np.sqrt(q[some, None])
            z, w = self._rule(root, parts)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                terms = w * (g(root * z) * np.exp(-0.25 * z * z)) ** 2  # g^2 alone may overflow
                terms = terms if factor is None else terms * factor(z)
                made[some], size[some] = np.sum(terms, axis=1), np.sum(np.abs(terms), axis=1)
                # what is left at the end of the range belongs to an integral that goes on
                ends = np.abs(terms[:, :POINTS]).sum(axis=1) + np.abs(terms[:, -POINTS:]).sum(axis=1)
                made[some] = np.where(ends > CLOSE * size[some], np.inf, made[some])
        return made, size

    def _rule(self, root: np.ndarray, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Points z and weights, without the density's exponential."""
        share = np.arange(parts) / parts
        own = np.append((self._ends[:-1, None] + np.diff(self._ends)[:, None] * share).ravel(), REACH)
        ends = np.broadcast_to(own, (root.size, own.size))
        if self.kinks:
            with np.errstate(divide="ignore", invalid="ignore"):
                at = np.clip(np.nan_to_num(np.array(self.kinks) / root, nan=0.0), -REACH, REACH)
            ends = np.sort(np.concatenate([ends, at], axis=1), axis=1)
        middle, half = 0.5 * (ends[:, 1:] + ends[:, :-1]), 0.5 * np.diff(ends, axis=1)
        z = (middle[:, :, None] + half[:, :, None] * self._points).reshape(root.size, -1)
        w = (half[:, :, None] * self._weights).reshape(root.size, -1)
        return z, w / np.sqrt(2.0 * np.pi)

    def nodes(self, q: float) -> tuple[np.ndarray, np.ndarray]:
        """Points u and probabilities of the law N(0, q)."""
        z, w = self._rule(np.array([[np.sqrt(q)]]), 4)
        w = w[0] * np.exp(-0.5 * z[0] * z[0])
        return np.sqrt(q) * z[0], w / w.sum()

    @cached_property
    def _tables(self) -> tuple[float, Any, Any]:
        """The largest variance without an overflow, log V and log X as splines in log q."""
        from scipy.interpolate import make_interp_spline

        q = np.geomspace(LEAST, MOST, TABLE)
        seen = self._summed(q, self._value), self._summed(q, self._slope_value)
        finite = np.isfinite(seen[0]) & np.isfinite(seen[1])
        count = q.size if finite.all() else int(np.argmin(finite))
        if count <= DEGREE:
            raise LimitError(f"the second moment of {self.f} overflows at every variance")
        log = np.log(q[:count])
        splines = [make_interp_spline(log, np.log(np.maximum(x[:count], TINY)), k=DEGREE) for x in seen]
        return float(q[count - 1]), *splines

    def tabulated(self, q: np.ndarray) -> np.ndarray:
        """V between 1e-9 and 1e6 from a table: to ten digits, and quick; infinite where it overflows."""
        top, second, _ = self._tables
        return self._looked_up(q, top, second)

    def tabulated_slope(self, q: np.ndarray) -> np.ndarray:
        """X in the same way."""
        top, _, slope = self._tables
        return self._looked_up(q, top, slope)

    @staticmethod
    def _looked_up(q: np.ndarray, top: float, spline: Any) -> np.ndarray:
        return np.where(q <= top, np.exp(spline(np.log(np.clip(q, LEAST, top)))), np.inf)


def _called(f: Function, u: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(f(u.reshape(-1)), dtype=np.float64), (u.size,)).reshape(u.shape)


class Chain:
    """Weights and functions in series: their maps q -> W^2 q + b^2 and q -> V(q), one after another.

    Each stands for the block from its input on: the turned block has another chain, of the same steps.
    """

    def __init__(self, steps: Sequence[Expectations | Layer]) -> None:
        self.steps = tuple(steps)

    @property
    def plain(self) -> tuple[Expectations, Any] | None:
        """The function and the weights where there is one of each, in either order."""
        match self.steps:
            case (Expectations() as f, Layer() as weights) | (Layer() as weights, Expectations() as f):
                return f, weights
        return None

    def forward(self, q: np.ndarray, weight: Any, bias: Any) -> np.ndarray:
        """q' where all weights have the variance ``weight``, all biases ``bias``."""
        for f in self.steps:
            q = f.tabulated(q) if isinstance(f, Expectations) else weight * q + bias
        return np.asarray(q)

    def slope(self, q: np.ndarray, weight: Any, bias: Any) -> np.ndarray:
        """chi_1, what a squared gradient grows by."""
        chi: Any = 1.0
        for f in self.steps:
            if isinstance(f, Expectations):
                chi, q = chi * f.tabulated_slope(q), f.tabulated(q)
            else:
                chi, q = chi * weight, weight * q + bias
        return np.asarray(chi)


def chain(block: Any) -> Chain | None:
    """The chain of a block of layers that do nothing but what one has, else None."""
    from tpnum.propagation.blocks import layers_of

    steps: list[Expectations | Layer] = []
    known: dict[Function, Expectations] = {}
    for layer in layers_of(block) if isinstance(block, Layer) else []:
        if isinstance(layer, Identity):
            continue
        if _weighs(layer):
            steps.append(layer)
            continue
        f = layer.as_function() if isinstance(layer, Activation) else None
        if f is None or f.n_scalars or f.arity != 1:
            return None
        steps.append(known.setdefault(f, Expectations(f)))
    return Chain(steps) if any(isinstance(step, Layer) for step in steps) else None


def _weighs(layer: Layer) -> bool:
    """Whether a layer makes W^2 q + b^2 of features that are alike at all positions."""
    if isinstance(layer, (Conv, ConvLocal)):
        return layer.padding == "CIRCULAR"
    return isinstance(layer, Dense)
