"""Laws of squared slopes: f(mean + sqrt(q) z)^2, z ~ N(0, 1), as the diagonal factors of a Jacobian have it.

Free products ask for their Cauchy transform off the line, where a rule in z is exact.  On the line the
density is a change of variables: z runs through pieces on which f^2 is monotone, a constant piece is an atom.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.arguments import number
from tpnum.propagation.activation import Expectations
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import Discrete
from tpnum.spectra.piecewise import tabulate_panels

REACH, WIDTH, POINTS = 8.5, 0.5, 10
"""Of the rule in z."""

GRID = 3401
"""Points among which f^2 is seen to turn."""

STEP, BESIDE, DIGITS = 2e-3, 4e-5, 10
"""Of differences in the place of a slope, how near to a kink they come, and the decimals that they have."""

STEPS = 60
"""Of a bisection for z."""

NEAR_ZERO = 1e-4
"""Of the largest f^2: a density that is followed down to there reaches 0."""

FLAT = 1e-13
"""Of the largest f^2: a piece that varies less is an atom."""


def slope_law(phi: Any, q: Any) -> Measure:
    """The law of phi'(sqrt(q) z)^2, z ~ N(0, 1); the slope of a phi that knows none by differences."""
    f = Expectations(phi)
    kinks = f.kinks
    slope = f.f.derivative() if f.knows_slope else _differences(f.f, kinks)
    return square_law(slope, number(q, "q", low=0.0), 0.0, kinks)


def unbounded(f: Callable[..., Any]) -> bool:
    """Whether a function of one number keeps growing, as far as can be seen: beyond 12, 60 and 10^4."""

    def largest(low: float, high: float) -> float:
        x = np.linspace(low, high, 401)
        with np.errstate(all="ignore"):
            values = np.abs(np.broadcast_to(np.asarray(f(np.append(x, -x)), dtype=np.float64), (802,)))
        kept = values[~np.isnan(values)]
        return float(np.max(kept, initial=0.0))

    near, far, farthest = largest(0.0, 12.0), largest(12.0, 60.0), largest(60.0, 1e4)
    return far > 3.0 * near and farthest > 3.0 * far


def _differences(f: Callable[..., Any], kinks: tuple[float, ...]) -> Callable[[Any], np.ndarray]:
    """The slope by five points, of which none is behind a kink."""

    def slope(u: Any) -> np.ndarray:
        x = np.asarray(u, dtype=np.float64)
        for k in kinks:  # beside a kink the slope a little further off
            x = np.where(np.abs(x - k) < BESIDE, np.where(x < k, k - BESIDE, k + BESIDE), x)
        away = [np.abs(x - k) for k in kinks]
        step = np.minimum(STEP, 0.25 * np.min(away, axis=0)) if away else np.full(x.shape, STEP)

        def at(k: float) -> np.ndarray:
            return np.broadcast_to(np.asarray(f(x + k * step), dtype=np.float64), x.shape)

        made = (8.0 * (at(1.0) - at(-1.0)) - at(2.0) + at(-2.0)) / (12.0 * step)
        return np.round(made, DIGITS)  # constant where f is linear

    return slope


def square_law(f: Callable[..., Any], q: float, mean: float = 0.0, kinks: tuple[float, ...] = ()) -> Measure:
    """The law of f(mean + sqrt(q) z)^2, of f smooth between its kinks."""
    root = float(np.sqrt(q))
    ends = np.unique([*np.arange(-REACH, REACH + WIDTH, WIDTH), *_inside(kinks, mean, root)])
    t, w = np.polynomial.legendre.leggauss(POINTS)
    middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * np.diff(ends)
    z = (middle[:, None] + half[:, None] * t).reshape(-1)
    mass = (half[:, None] * w).reshape(-1) * np.exp(-0.5 * z * z)

    def square(z: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.asarray(f(mean + root * z), dtype=np.float64), z.shape) ** 2

    values = square(z)
    scale = float(np.max(values)) or 1.0
    law = Discrete(np.round(values / scale, 14) * scale, mass / mass.sum())  # of an even f, up to rounding
    kept = law.masses > 1e-17
    masses = law.masses[kept]
    if masses.size == 2 and abs(masses[0] - 0.5) < 1e-14:  # a slope that jumps at 0: halves up to rounding
        masses = np.array([0.5, 0.5])
    points, masses = law.points[kept], masses / masses.sum()
    pieces = _pieces(square, _inside(kinks, mean, root), FLAT * scale)
    spread = [min(piece.first, piece.last) for piece in pieces if not piece.flat]
    if not spread:
        return Discrete(points, masses)
    return SquareLaw(Rule(points, masses, min(spread) < NEAR_ZERO * scale), square, pieces)


def _inside(kinks: tuple[float, ...], mean: float, root: float) -> list[float]:
    return [(k - mean) / root for k in kinks if root and abs(k - mean) < REACH * root]


class Piece:
    """An interval of z on which f^2 is monotone, and its values at the ends."""

    def __init__(self, low: float, high: float, first: float, last: float, flat: bool) -> None:
        self.low, self.high, self.first, self.last, self.flat = low, high, first, last, flat


def _pieces(square: Callable[[np.ndarray], np.ndarray], kinks: list[float], flat: float) -> list[Piece]:
    from scipy.optimize import minimize_scalar

    made = []
    for begin, end in zip([-REACH, *sorted(kinks)], [*sorted(kinks), REACH], strict=True):
        inner = 1e-12 * (end - begin)  # a kink's own value belongs to no side
        z = np.linspace(begin + inner, end - inner, max(64, int(GRID * (end - begin) / (2.0 * REACH))))
        y = square(z)
        change = np.where(np.abs(np.diff(y)) <= flat, 0.0, np.sign(np.diff(y)))
        cuts = [z[0]]
        for k in map(int, np.flatnonzero(change[1:] != change[:-1]) + 1):
            if not change[k] or not change[k - 1]:  # a plateau begins or ends
                cuts.append(z[k])
                continue
            up = 1.0 if change[k - 1] > 0.0 else -1.0

            def height(s: float, up: float = up) -> float:
                return -up * float(square(np.array([s]))[0])

            bounds = (z[k - 1], z[k + 1])
            found = minimize_scalar(height, bounds=bounds, method="bounded", options={"xatol": 1e-12})
            cuts.append(float(found.x))
        cuts.append(z[-1])
        values = square(np.array(cuts))
        cuts[0], cuts[-1] = begin, end
        for j in range(len(cuts) - 1):
            first, last = float(values[j]), float(values[j + 1])
            made.append(Piece(cuts[j], cuts[j + 1], first, last, abs(last - first) <= flat))
    return made


class Rule(Discrete):
    """Atoms in the place of a density, which has no gaps where they are apart, and may reach 0."""

    def __init__(self, points: Any, masses: Any, reaches_zero: bool) -> None:
        super().__init__(points, masses)
        self._reaches_zero = reaches_zero

    @cached_property
    def of_mean_one(self) -> Measure:
        return Rule(self.points / self.mean, self.masses, self._reaches_zero)

    @property
    def reaches_zero(self) -> bool:
        return self._reaches_zero


class SquareLaw(Measure):
    """A law of f^2 with a density; ``rule`` has its integrals, atoms in the place of the density."""

    def __init__(
        self, rule: Discrete, square: Callable[[np.ndarray], np.ndarray], pieces: list[Piece]
    ) -> None:
        self.rule, self.square, self.pieces = rule, square, pieces

    @property
    def quick(self) -> Measure:
        return self.rule.quick

    @property
    def mean(self) -> float:
        return self.rule.mean

    @property
    def second(self) -> float:
        return self.rule.second

    def moments(self, k: Any) -> np.ndarray:
        return self.rule.moments(k)

    @cached_property
    def hull(self) -> tuple[float, float]:
        values = [v for piece in self.pieces for v in (piece.first, piece.last)]
        return min(values), max(values)

    @cached_property
    def edges(self) -> np.ndarray:
        spans = sorted(sorted((p.first, p.last)) for p in self.pieces if not p.flat)
        made = [spans[0]]
        for low, high in spans[1:]:
            if low <= made[-1][1]:
                made[-1][1] = max(made[-1][1], high)
            else:
                made.append([low, high])
        return np.array(made)

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        flat = [p for p in self.pieces if p.flat]
        if not flat:
            return ()
        law = Discrete([p.first for p in flat], [_normal(p.high) - _normal(p.low) for p in flat])
        return tuple(a for a in law.atoms if a.mass > 1e-15)

    @cached_property
    def _panels(self) -> Measure:
        """The same law on panels: its transform on the line."""
        return tabulate_panels(self)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._panels._transform(z)

    def _potential(self, z: np.ndarray) -> np.ndarray:
        return self._panels._potential(z)

    def _roots(self, y: np.ndarray, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        """The z of a piece with f^2 = y, and whether there is one."""
        rising = piece.last > piece.first
        low, high = np.full(y.shape, piece.low), np.full(y.shape, piece.high)
        for _ in range(STEPS):
            middle = 0.5 * (low + high)
            below = (self.square(middle) < y) == rising
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        seen = (y > min(piece.first, piece.last)) & (y < max(piece.first, piece.last))
        return 0.5 * (low + high), seen

    def _density(self, x: np.ndarray) -> np.ndarray:
        made = np.zeros(x.shape)
        for piece in self.pieces:
            if piece.flat:
                continue
            z, seen = self._roots(x, piece)
            # five points, within the piece
            step = np.minimum(1e-3, 0.25 * np.minimum(z - piece.low, piece.high - z))
            far, near = (self.square(z + k * step) - self.square(z - k * step) for k in (2.0, 1.0))
            slope = (8.0 * near - far) / (12.0 * step)
            with np.errstate(divide="ignore", invalid="ignore"):
                part = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi) / np.abs(slope)
            made += np.where(seen, part, 0.0)
        return made

    def cdf(self, x: Any) -> Any:
        from tpnum.arguments import real_array

        points = real_array(x, "x").astype(np.float64)
        flat = points.reshape(-1)
        made = np.zeros(flat.shape)
        for piece in self.pieces:
            whole = _normal(piece.high) - _normal(piece.low)
            z, _ = self._roots(flat, piece)
            part = (
                _normal(z) - _normal(piece.low)
                if piece.last > piece.first
                else _normal(piece.high) - _normal(z)
            )
            least, most = sorted((piece.first, piece.last))
            made += np.where(flat >= most, whole, np.where(flat <= least, 0.0, part))
        return made.reshape(points.shape)[()]


def _normal(z: Any) -> Any:
    from scipy.special import ndtr

    return np.where(np.abs(z) >= REACH * (1.0 - 1e-9), np.where(np.asarray(z) > 0.0, 1.0, 0.0), ndtr(z))
