"""Free convolutions by subordination: what sums (`additive`) and products (`multiplicative`) share.

A function common to all parts, F = 1/G or u = z G - 1, has the same value at subordinated points w_l of the
parts, l taken t_l times, T = sum t_l, and one more equation holds between the w_l and z.  Newton's method
solves for the value and all w_l at once, followed from far above the line, where they are asymptotically
linear, down to it.  Where dz/dF vanishes on the line the law has an edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.spectra.base import Atom, Measure

DESCENT = 3.0
"""The imaginary part falls by this factor per step."""

LOWEST = 1e-7
"""Of the imaginary part before the line itself, relative to the size of the law."""

QUADRATIC, ROUGHLY = 1e-9, 3e-2
"""A step of Newton's so small is followed by none, on the line and on the way to it."""

NEWTON, FINAL = 4, 60

EQUAL = 1e-12
"""Points of atoms closer than this, relative to the law, are one."""

GAP = 1e-7
"""Where -Im G times the size of the law is smaller there is no mass."""

SCAN, DIPS, DEEPEST, RESCANS = 500, 4, 12, 3
"""Points at which gaps are looked for, how often the deepest dips and an edge are looked at more closely."""


@dataclass(frozen=True)
class Solved:
    """F (or z G = 1 + u) and the subordinated points w_l at some z, (n,) each, or (k, n) of a `Chart`."""

    top: np.ndarray
    points: list[np.ndarray]

    def part(self, where: np.ndarray) -> Solved:
        """The solutions at some z."""
        return Solved(self.top[where], [w[..., where] for w in self.points])

    def replace(self, where: np.ndarray, by: Solved) -> None:
        """Put other solutions at some z."""
        self.top[where] = by.top
        for own, new in zip(self.points, by.points, strict=True):
            own[..., where] = new


class Convolution(Measure):
    """What sums and products share: ``parts`` are pairs (measure, how often)."""

    def __init__(self, parts: Sequence[tuple[Any, float]]) -> None:
        self.parts = tuple(parts)
        self.total = float(sum(t for _, t in parts))

    @property
    def quick(self) -> Measure:
        return self.tabulated()

    # --- what they do not share

    def _start(self, z: np.ndarray) -> Solved:
        """The solution far above the line."""
        raise NotImplementedError

    def _below(self, part: Measure, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The function that is common to all parts, and its slope in w."""
        raise NotImplementedError

    def _step(self, z: np.ndarray, at: Solved) -> tuple[Solved, np.ndarray, np.ndarray]:
        """Newton's step, its relative size, and dz/dtop (or the like) that vanishes at edges."""
        raise NotImplementedError

    def _transform_of(self, z: np.ndarray, at: Solved) -> tuple[np.ndarray, np.ndarray]:
        """G and G'."""
        raise NotImplementedError

    # --- solving

    @cached_property
    def size(self) -> float:
        """A length that the law has."""
        lows, highs = zip(*(part.hull for part, _ in self.parts), strict=True)
        return float(max(np.sqrt(self.second), *(abs(x) for x in (*lows, *highs)), 1e-300))

    def _solve(self, z: np.ndarray, careful: float = 1.0) -> Solved:
        """The solution at points of the closed upper half-plane."""
        factor = DESCENT ** (1.0 / careful)
        extra = 1j * self._height()
        at = self._start(z + extra)
        while True:
            at = self._refined(z + extra, at, NEWTON, ROUGHLY)
            if abs(extra) <= LOWEST * self.size:
                return self._refined(z, at, FINAL, QUADRATIC)
            extra = extra / factor

    def _refined(self, z: np.ndarray, at: Solved, most: int, small: float) -> Solved:
        """At most so many of Newton's steps; points rest once one was small."""
        top, points = at.top.copy(), [w.copy() for w in at.points]
        live = np.arange(z.size)
        for _ in range(most):
            if not live.size:
                break
            made, moved, _ = self._step(z[live], Solved(top[live], [w[..., live] for w in points]))
            top[live] = made.top
            for own, new in zip(points, made.points, strict=True):
                own[..., live] = new
            live = live[~(moved < small)]
        return Solved(top, points)

    def _height(self) -> float:
        return 8.0 * self.size

    def solve(self, z: np.ndarray) -> Solved:
        """`_solve`, again with smaller steps where it went astray."""
        flat = z.reshape(-1)
        at = self._solve(flat)
        for careful in (4.0, 16.0):
            bad = np.flatnonzero(~self._sound(flat, at))
            if not bad.size:
                break
            at.replace(bad, self._solve(flat[bad], careful))
        return at

    def _sound(self, z: np.ndarray, at: Solved) -> np.ndarray:
        """Whether a solution is the one with F and all w in the upper half-plane."""
        residual = self._step(z, at)[1]
        good = np.isfinite(at.top) & (residual < 1e-6)
        for w in at.points:
            good &= w.imag >= z.imag * (1.0 - 1e-6) - 1e-7 * (np.abs(w) + self.size)
        return good

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            g, slope = self._transform_of(z.reshape(-1), self.solve(z))
        return g.reshape(z.shape), slope.reshape(z.shape)

    # --- edges

    @cached_property
    def edges(self) -> np.ndarray:
        """The intervals of the density: gaps are looked for, and followed to where dz/dF = 0."""
        low, high = self._outside()
        grid, there = self._looked_at(self._scanned(low, high))
        points = np.array([atom.at for atom in self.atoms])
        runs = np.flatnonzero(np.diff(np.concatenate([[0], there.view(np.int8), [0]])))
        spans = [
            (begin, end)
            for begin, end in runs.reshape(-1, 2)
            if any(np.min(np.abs(points - x), initial=np.inf) > EQUAL * self.size for x in grid[begin:end])
        ]
        inner = [(grid[begin - 1], grid[begin]) for begin, _ in spans if begin > 0]
        inner += [(grid[end], grid[end - 1]) for _, end in spans if end < grid.size]
        with np.errstate(all="ignore"):
            found = dict(zip(inner, self._edges_between(*np.array(inner).reshape(-1, 2).T), strict=True))
        made = [
            (
                found[grid[begin - 1], grid[begin]] if begin > 0 else low,
                found[grid[end], grid[end - 1]] if end < grid.size else high,
            )
            for begin, end in spans
        ]
        return np.array(made).reshape(-1, 2)

    def _looked_at(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points and whether the density is there, closer and closer where it is smallest: a gap may hide."""
        fresh, found = grid, np.empty((2, 0))
        for _ in range(DIPS + 1):
            with np.errstate(all="ignore"):
                weight = self._weight(fresh, self.solve(fresh + 0j))
            found = np.concatenate([found, [fresh, np.nan_to_num(weight)]], axis=1)
            found = found[:, np.argsort(found[0])]
            x, y = found
            dips = 1 + np.flatnonzero(
                (y[1:-1] < y[:-2]) & (y[1:-1] < y[2:]) & (y[1:-1] >= GAP) & (x[2:] - x[:-2] > GAP * self.size)
            )
            dips = dips[np.argsort(y[dips])[:DEEPEST]]
            if not dips.size:
                break
            part = np.linspace(0.0, 1.0, 18)[1:-1]
            fresh = np.unique((x[dips - 1] + part[:, None] * (x[dips + 1] - x[dips - 1])).reshape(-1))
        return found[0], found[1] >= GAP

    def _scanned(self, low: float, high: float) -> np.ndarray:
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        return middle - half * np.cos(np.linspace(0.0, np.pi, SCAN))

    def _unit(self, x: np.ndarray) -> Any:
        return self.size

    def _outside(self) -> tuple[float, float]:
        """Points beyond all mass."""
        raise NotImplementedError

    def _edges_between(self, empty: np.ndarray, full: np.ndarray) -> list[float]:
        """The edges between points without density and ones with: rescanned, then where dz/dtop = 0."""
        if not empty.size:
            return []
        rows = np.arange(empty.size)
        for _ in range(RESCANS):
            grid = np.linspace(empty, full, 24, axis=1)
            solved = self.solve(grid.reshape(-1) + 0j)
            there = (self._weight(grid.reshape(-1), solved) >= GAP).reshape(grid.shape)[:, 1:]
            first = np.where(there.any(axis=1), np.argmax(there, axis=1), grid.shape[1] - 2)
            empty, full = grid[rows, first], grid[rows, first + 1]
            made, sure = [], True
            for k, at in enumerate(rows * grid.shape[1] + first):
                # outside, where all w are beyond the mass of their parts, towards the edge
                outside, inside = (float(v) for v in self._value(solved.top[at : at + 2]).real)
                points = [w[..., at : at + 1].real + 0j for w in solved.points]
                found, root = self._polish(Solved(solved.top[at : at + 1], points), outside, inside)
                sure &= root and min(empty[k], full[k]) <= found <= max(empty[k], full[k])
                slack = 40.0 * abs(full[k] - empty[k]) + 1e-9 * abs(full[k])
                made.append(found if abs(found - full[k]) <= slack else float(0.5 * (empty[k] + full[k])))
            if sure:
                break
        return made

    def _weight(self, x: np.ndarray, at: Solved) -> np.ndarray:
        """The density in units of the law."""
        g = self._transform_of(x + 0j, at)[0]
        return np.abs(g.imag) * self._unit(x)

    def _along(self, value: float, at: Solved) -> Solved | None:
        """The real w_l whose F (or 1/u) is ``value``, from those nearby; None if there are none."""
        points = []
        for (part, _), w in zip(self.parts, at.points, strict=True):
            moved = self._moved(part, w, value)
            if moved is None:
                return None
            points.append(moved)
        return Solved(np.array([self._top(value) + 0j]), points)

    def _moved(self, part: Any, w: np.ndarray, value: float) -> np.ndarray | None:
        """That of one part."""
        last = np.inf
        for _ in range(FINAL):
            found, slope = self._linear(part, w)
            step = ((value - found) / slope).real
            w = w + step
            size = abs(step[0])
            # to rounding, where steps fall no more
            if size <= 4e-16 * abs(w[0]) or last <= size <= 1e-12 * abs(w[0]):
                break
            last = size
        return w if self._reached(self._linear(part, w)[0][0], value) else None

    def _reached(self, found: complex, value: float) -> bool:
        return abs(found - value) <= QUADRATIC * max(abs(value), self._unity())

    def _linear(self, part: Measure, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The common function in the form that is asymptotically linear in w, and its slope."""
        return self._below(part, w)

    def _value(self, top: Any) -> Any:
        """The form that the common value has in `_linear`."""
        return top

    def _top(self, value: Any) -> Any:
        """The common value from its form in `_linear`."""
        return value

    def _polish(self, at: Solved, first: float, towards: float) -> tuple[float, bool]:
        """From a point outside near an edge: the root of dz/dF by the secant rule, where z does not depend
        on it, and whether it has been found.
        """

        def bent(made: Solved | None) -> float:
            return np.nan if made is None else float(self._step(np.array([1.0 + 0j]), made)[2][0].real)

        scale = max(abs(first), self._unity())
        near, value, here, place = at, bent(self._along(first, at)), first, self._place(at)
        step = 1e-5 * scale if towards >= first else -1e-5 * scale
        for _ in range(200):
            after = self._along(here + step, near)
            other = bent(after)
            if after is None or not np.isfinite(other):
                # no real w: a part ends before, or F is 0 itself as at a hard edge
                step *= 0.5
                if abs(step) <= 1e-15 * scale:
                    return self._place(near), False
                continue
            change, before = other - value, place
            near, value, here, place = after, other, here + step, self._place(after)
            # z is stationary at the edge: it stands still before the root does
            if not change or abs(place - before) <= 2e-16 * abs(place):
                return place, True
            step = float(np.clip(-other * step / change, -0.1 * scale, 0.1 * scale))
            if abs(step) <= 1e-13 * scale:
                return place, True
        return place, False

    def _unity(self) -> float:
        """A small value of F (or 1/u) on the scale of the law."""
        raise NotImplementedError

    def _place(self, at: Solved) -> float:
        """The z that a real solution belongs to."""
        raise NotImplementedError


def common_atoms(parts: Iterable[tuple[Measure, float]], place: Any) -> tuple[Atom, ...]:
    """The atoms of a convolution: one of each part, of masses m_l with 1 - sum t_l (1 - m_l) > 0."""
    measures = [(part.atoms, t) for part, t in parts]
    if not all(found for found, _ in measures):
        return ()
    choices: list[tuple[tuple[float, ...], float]] = [((), 1.0)]
    for found, t in measures:
        choices = [
            ((*points, a.at), mass - t * (1.0 - a.mass))
            for points, mass in choices
            for a in found
            if mass - t * (1.0 - a.mass) > EQUAL
        ]
    times = [t for _, t in measures]
    return tuple(sorted(Atom(place(points, times), mass) for points, mass in choices))
