"""Free multiplicative convolution of laws on [0, inf), and its powers.

The product of free positive X_1, .., X_k, the l-th taken t_l times (t_l real, T = sum t_l), has with
u = z G(z) - 1 and theta = (1 + u) / u

    u_1(w_1) = .. = u_k(w_k) = u(z),        prod w_l^t_l theta^-(T - 1) = z:

the equations of sums for logarithms.  The potential is U = sum t_l U_l(w_l) + (T - 1) log u.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.charts import Chart, Line, Rank, ranks
from tpnum.spectra.closed import Discrete, above
from tpnum.spectra.subordination import (
    DESCENT,
    FINAL,
    GAP,
    LOWEST,
    NEWTON,
    QUADRATIC,
    ROUGHLY,
    SCAN,
    Convolution,
    Solved,
    common_atoms,
)

RAY = 8.0
"""The sizes of points fall by this factor per step of their way to 0."""

LOST = 1e-9
"""An imaginary part of z G that is none."""

FALL, CAREFUL = 1e-2, 16.0
"""A step on the way down on which it falls so far has gone astray: steps are made smaller then, to a part."""

ALMOST = 1e-2
"""An angle, or an imaginary part of z G on the way, that is none."""

TOLD, SMALLEST = 1e-12, 1e-280
"""A relative distance that numbers tell, and a size of which they do."""

BESIDE = np.geomspace(1e-10, 1e-2, 65)
"""How near to an infinite density gaps are looked for."""

ASIDE = 1e-6, 1e-9
"""Points beside 0, in means, that tell whether a density grows or vanishes there."""

FAINT = 1e-5
"""Of the mean: below, atoms in the place of a density leave gaps that it has not."""

ESCAPED = 1e12
"""A subordinated point that is larger, in means of its law, is on its way to infinity: no solution."""


class FreeProduct(Convolution):
    """The free multiplicative convolution of laws on [0, inf)."""

    name = "free product"

    def __init__(self, parts: Sequence[tuple[Measure | Chart, float]]) -> None:
        super().__init__(parts)

    @cached_property
    def _spread(self) -> float:
        """The variance over the squared mean."""
        return float(sum(t * part.variance / part.mean**2 for part, t in self.parts))

    @cached_property
    def mean(self) -> float:
        return float(np.prod([part.mean**t for part, t in self.parts]))

    @property
    def second(self) -> float:
        return self.mean**2 * (1.0 + self._spread)

    @cached_property
    def size(self) -> float:
        return self.mean * (1.0 + self._spread)

    @cached_property
    def _far(self) -> float:
        """Where the law is seen from afar."""
        highs = [part.hull[1] / part.mean for part, _ in self.parts]
        return 8.0 * self.mean * (1.0 + self._spread) * float(max(highs))

    @cached_property
    def _ranks(self) -> list[tuple[Rank, np.ndarray]]:
        return ranks(self.parts)

    def _start(self, z: np.ndarray) -> Solved:
        u = self.mean / (z - self.mean * (1.0 + self._spread))
        return Solved(1.0 + u, [rank.start(u) for rank, _ in self._ranks])

    def solve(self, z: np.ndarray) -> Solved:
        size = np.abs(z)
        if np.any(near := size < TOLD * self.mean):
            turn = np.divide(z, size, out=np.ones_like(z), where=size > 0)
            z = np.where(near, np.maximum(size, self._nearest) * turn, z)
        return super().solve(z)

    @cached_property
    def _nearest(self) -> float:
        """The size of points so near to 0 that z G is not told from the mass there, or has no numbers."""
        mass, size = dict(self.atoms).get(0.0, 0.0), TOLD * self.mean
        with np.errstate(all="ignore"):
            at = super().solve(np.array([1j * size]))
            before, away = np.inf, float(np.abs(at.top[0] - mass))
            while TOLD * mass < away < before and size > SMALLEST * self.mean:
                size /= RAY
                at = self._refined(np.array([1j * size]), at, FINAL, QUADRATIC)
                before, away = away, float(np.abs(at.top[0] - mass))
        return size * RAY ** (2 if np.isfinite(away) else 8)

    def _density(self, x: np.ndarray) -> np.ndarray:
        made = super()._density(np.maximum(x, self._nearest) if np.any(x < TOLD * self.mean) else x)
        return np.where(x > 0.0, made, self._at_zero if np.any(x <= 0.0) else 0.0)

    @cached_property
    def _at_zero(self) -> float:
        """The density at 0: infinite, finite or none, as that at two points beside it tells."""
        far, near = super()._density(np.maximum(self.mean * np.array(ASIDE), self._nearest))
        if near <= 0.5 * far or near * self.mean <= GAP:
            return 0.0
        return float(near) if near <= 1.5 * far else np.inf

    def _solve(self, z: np.ndarray, careful: float = 1.0) -> Solved:
        """Along a ray to the size of z, then along a circle to z itself: power laws are lines on this map."""
        for peak in self._peaks:  # the edge itself is approached from the gap
            z = np.where(np.abs(z - peak) < TOLD * peak, peak * (1.0 + TOLD), z)
        length = np.log(self._far / np.maximum(np.abs(z), 1e-305))
        last = np.angle(z)
        first = np.maximum(last, 0.5 * np.pi)
        steps = 1 + int(careful * np.max(np.abs(length), initial=0.0) / np.log(RAY))
        at = self._start(self._far * np.exp(1j * first))
        for k in range(steps + 1):
            at = self._refined(self._far * np.exp(1j * first - (k / steps) * length), at, NEWTON, ROUGHLY)
        lowest = LOWEST * self._beside(z)
        part, strayed, before = 1.0, _astray(np.abs(z) * np.exp(1j * first), at.top), at.top.imag.copy()
        live = np.flatnonzero(part > lowest)
        while live.size:
            part /= DESCENT ** (1.0 / careful)
            before[live] = at.top.imag[live]
            way = np.abs(z[live]) * np.exp(1j * (last + part * (first - last))[live])
            some = self._refined(way, at.part(live), NEWTON, ROUGHLY)
            strayed[live] |= np.abs(some.top.imag) < FALL * np.abs(before[live])
            strayed[live] |= _astray(way, some.top)
            at.replace(live, some)
            live = live[part > lowest[live]]
        found = self._refined(z, at, FINAL, QUADRATIC)
        # beside a singularity the last step may lose the mass that stayed the same before it
        stayed = np.abs(at.top.imag) > DESCENT ** (-0.5 / careful) * np.abs(before)
        lost = stayed & (np.abs(found.top.imag) < LOST * np.abs(found.top))
        found.replace(lost, at.part(lost))
        if careful < CAREFUL and strayed.any():
            found.replace(strayed, self._solve(z[strayed], 4.0 * careful))
        return found

    def _beside(self, z: np.ndarray) -> np.ndarray:
        """How far points are from an infinite density, of their size, as far as numbers tell."""
        made = np.ones(z.shape)
        for at in self._peaks:
            made = np.minimum(made, np.maximum(np.abs(z / at - 1.0), TOLD))
        return made

    def _along(self, value: float, at: Solved) -> Solved | None:
        """By Newton's method for logarithms, as in `_step`."""
        top, points = self._top(value), []
        small = abs(top) < abs(top - 1.0)
        for (rank, _), p in zip(self._ranks, at.points, strict=True):
            last = np.inf
            for _ in range(FINAL):
                line = rank.lines(p)
                rest, by, away, _ = _wanted(line, np.array([top]), small)
                step = _limited((rest + by * away).real)
                p, size = p * np.exp(step), float(np.max(np.abs(step)))
                if size <= 4e-16 or last <= size <= 1e-12:  # to rounding, where steps fall no more
                    break
                last = size
            if not all(self._reached(self._value(found), value) for found in rank.lines(p).value[:, 0]):
                return None
            points.append(p)
        return Solved(np.array([top + 0j]), points)

    def _value(self, top: Any) -> Any:
        return 1.0 / (top - 1.0)

    def _top(self, value: Any) -> Any:
        return 1.0 + 1.0 / (value or 1e-300)

    def _unity(self) -> float:
        return 1e-3

    def s_transform(self, z: Any) -> Any:
        """The product of those of the parts."""
        return np.prod([part.s_transform(z) ** t for part, t in self.parts], axis=0)

    def _step(self, z: np.ndarray, at: Solved) -> tuple[Solved, np.ndarray, np.ndarray]:
        """Newton's step for the logarithms of u, or of z G = 1 + u where that is smaller, and of all w_l."""
        v = at.top
        u = v - 1.0
        small = np.abs(v) < np.abs(u)
        tilt = np.where(small, -1.0 / u, -1.0 / v)  # the slope of log theta
        bent = (1.0 - self.total) * tilt
        left = np.log(z) + (self.total - 1.0) * np.log(v / u)
        rules = []
        for (rank, t), p in zip(self._ranks, at.points, strict=True):
            line = rank.lines(p)
            rest, by, away, own = _wanted(line, v, small)
            steep = own * line.tilt_w
            bent = bent + np.sum(t * steep, axis=0)
            left = left - np.sum(t * (np.log(line.w) + line.rest_w + steep * away[:, 0]), axis=0)
            rules.append((rest, by, away))
        # logarithms of different sheets differ by whole turns
        left = left.real + 1j * _turned(left.imag)
        change = left / bent
        moved = np.abs(change)
        points = []
        for p, (rest, by, away) in zip(at.points, rules, strict=True):
            step = rest + by * (change + away)
            moved = np.maximum(moved, np.max(np.abs(step), axis=(0, 1)))
            points.append(p * np.exp(_limited(step)))
        grown = np.exp(_limited(change))
        return Solved(np.where(small, v * grown, 1.0 + u * grown), points), moved, bent / tilt

    def _transform_of(self, z: np.ndarray, at: Solved) -> tuple[np.ndarray, np.ndarray]:
        v = at.top
        slope = -v * (v - 1.0) / (self._step(z, at)[2] * z)  # dv/dz
        return v / z, (slope - v / z) / z

    def _sound(self, z: np.ndarray, at: Solved) -> np.ndarray:
        v, (_, residual, bent) = at.top, self._step(z, at)
        good = np.isfinite(v) & (residual < 1e-6) & (v.imag <= 1e-7 * np.abs(v))
        # z G falls in z outside all mass
        real = (z.imag == 0.0) & (np.abs(v.imag) < LOST * np.abs(v))
        good &= ~(real & ((v * (v - 1.0) / (bent * z)).real < 0.0)) & ~_astray(z, v)
        # a point that is so large is on its way to infinity
        most = ESCAPED * (1.0 + np.abs(1.0 / z))
        for (rank, _), w in zip(self._ranks, self._own(at), strict=True):
            good &= np.all((w.imag >= -1e-7 * np.abs(w)) & (np.abs(w) < most * rank.means), axis=0)
        return good

    def _own(self, at: Solved) -> list[np.ndarray]:
        """The w_l."""
        return [rank.point(p) for (rank, _), p in zip(self._ranks, at.points, strict=True)]

    def _potential(self, z: np.ndarray) -> np.ndarray:
        flat = z.reshape(-1)
        with np.errstate(all="ignore"):
            at = self.solve(flat)
            made = (self.total - 1.0) * np.log(np.conj(above(np.conj(at.top - 1.0))))
            for (rank, t), p in zip(self._ranks, at.points, strict=True):
                made = made + np.sum(t * rank.potential(p), axis=0)
        return made.reshape(z.shape)

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        at_zero = max((a.mass for part, _ in self.parts for a in part.atoms if a.at == 0.0), default=0.0)
        kept = [
            (Discrete([a.at for a in part.atoms if a.at], [a.mass for a in part.atoms if a.at]), t)
            for part, t in self.parts
            if any(a.at for a in part.atoms)
        ]
        found = []
        if len(kept) == len(self.parts):
            found = list(common_atoms(kept, lambda points, times: float(np.prod(np.power(points, times)))))
        return tuple(sorted([*([Atom(0.0, at_zero)] if at_zero else []), *found]))

    def _outside(self) -> tuple[float, float]:
        return 0.0, self._far

    def _scanned(self, low: float, high: float) -> np.ndarray:
        fine, coarse = (
            self.size * np.linspace(1e-3, 4.0, SCAN // 2),
            high * np.geomspace(1e-9, 1.0, SCAN // 2),
        )
        return np.unique(np.concatenate([fine, coarse]))

    @cached_property
    def _peaks(self) -> list[float]:
        """Points where the law has an edge at which its density is infinite."""
        peaks = [part.peak for part, _ in self.parts if isinstance(part, Chart)]
        return [at for at in peaks if at is not None] if self.total == 1.0 else []

    @cached_property
    def _vanishes_toward_zero(self) -> bool:
        """Whether the density goes down to 0, as that of a part of the largest mass at 0 does."""
        masses = [dict(part.atoms).get(0.0, 0.0) for part, _ in self.parts]
        return any(
            part.reaches_zero
            for (part, _), mass in zip(self.parts, masses, strict=True)
            if mass == max(masses)
        )

    def _looked_at(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A density that reaches 0 may vanish there, and has no gaps where atoms stand for one."""
        beside = [at * (1.0 + sign * BESIDE) for at in self._peaks for sign in (-1.0, 1.0)]
        x, there = super()._looked_at(np.unique(np.concatenate([grid, *beside, self._peaks])))
        there = there & ~np.isin(x, self._peaks)
        if self._vanishes_toward_zero and there.any():
            there = there | (x < max(FAINT * self.mean, float(x[np.argmax(there)])))
        return x, there

    def _edges_between(self, empty: np.ndarray, full: np.ndarray) -> list[float]:
        known = np.isin(empty, self._peaks)
        made = empty.copy()
        made[~known] = super()._edges_between(empty[~known], full[~known])
        return [float(x) for x in made]

    def _unit(self, x: np.ndarray) -> Any:
        return x

    def _place(self, at: Solved) -> float:
        v = at.top[0].real
        z = (1.0 - self.total) * np.log(np.abs(v / (v - 1.0)))
        for (_, t), w in zip(self._ranks, self._own(at), strict=True):
            z += np.sum(t * np.log(np.abs(w.real)))
        return float(np.exp(z))


def _turned(angle: np.ndarray) -> np.ndarray:
    """The angle within half a turn of 0."""
    return angle - 2.0 * np.pi * np.round(angle / (2.0 * np.pi))


def _limited(step: np.ndarray) -> np.ndarray:
    """A step of a logarithm, of at most 2."""
    return step * (2.0 / np.maximum(np.abs(step), 2.0))


def _astray(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where v is no z G(z): z / (z - x), x > 0, is on the arc over [0, 1] of inscribed angle arg z, so that
    the angle of every mean of these is larger.
    """
    angle = np.angle(v / (v - 1.0))
    angle = np.where(np.abs(v.imag) < ALMOST * np.abs(v), np.abs(angle), angle)
    return np.asarray(angle < np.angle(z) - ALMOST)


def _wanted(line: Line, v: np.ndarray, small: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How log p moves to a common value v: ``rest`` and so often ``by`` what log u, or log v where that is
    ``small``, moves, first ``away``; and the u or v of each law, (laws, n).
    """
    own = np.where(small, line.value, line.value - 1.0)
    away = np.log(np.where(small, v, v - 1.0) / own)
    return line.rest, own[:, None] * line.tilt, away[:, None], own
