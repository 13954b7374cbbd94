"""Adaptive panels in several dimensions, one coordinate inside another: kinks, jumps, oscillation, growth.

Z_i = mean_i + L_i1 z_1 + .. + L_ii z_i with L triangular, so a break of f at a value of one coordinate is a
break in z_i alone once the coordinates before it are given: integrals over z_d are nested in those over
z_{d-1}, and so on.  All lines of one level are halved together (`adaptive`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.adaptive import EDGES, NEAR, NODES, WIDE, adapt
from tpnum.gauss.goal import Goal
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.lattice import Settled
from tpnum.gauss.look import Stretches, places, stretches
from tpnum.gauss.scout import Scout

_BLOCK = 1 << 17
"""Values of f held at a time."""
_TOGETHER = 4
"""Lines with lines inside them that are followed at once."""
_NOTHING = 1e-18
"""Of E|f|, what f times the density may be ten deviations out and is left away."""
_OFTEN = 1e-2
"""Of the tolerance, what an error is said to be at least: at kinks two rules may agree by chance."""
_NARROW = 0.9
"""The same where lines are looked at for narrow things, some of which may have passed between the points."""
_BESIDE = 1e-9
"""Panels end that close to where a coordinate is zero: functions like to break there, in thin layers too."""
_FEW = 8
"""Ends of a line up to which those of the lines beside it are of use."""
_CLOSE = np.linspace(-0.25, 1.25, 49)
"""Where a stretch in which something narrow was met is looked at closely."""
_FAINT = 1e-9


def cheapest(rank: int) -> int:
    """Evaluations of f where no panel is halved and each coordinate has one break."""
    return int((NODES.size * ((WIDE if rank > 2 else NEAR).size + 1)) ** rank)


def nested(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, size: np.ndarray, goal: Goal, budget: np.ndarray,
    name: Callable[[int], str], scout: Scout, far: np.ndarray,
) -> Settled:  # fmt: skip
    """E f at mean (n, d), triangular factor (n, d, r), to a goal; ``size`` (n,) guesses E|f|.

    What the ``scout`` has seen of these laws tells where panels end, and how closely inner lines are looked
    at before they are cut into panels; ``far`` (n,), f times the density far out, how far they reach.

    ``budget`` (n,) bounds the evaluations of f for each.  Where f is not finite it counts as zero, and as an
    error of its largest value weighted with the density there; LimitError, with ``name`` of the entry, where
    that matters.
    """
    made = []
    cost = 0
    for i in range(mean.shape[0]):
        scale = float(size[i])
        near = WIDE if factor.shape[2] > 2 else NEAR
        edges = near if far[i] <= _NOTHING * scale else EDGES
        run = _Nest(f_at, factor[i], int(budget[i]), goal.rtol, edges, *scout.told(i))
        while True:
            value, error, total = run.integrate(
                0, mean[i : i + 1], 0.5 * goal.allowed(np.array([scale])) if scale > 0 else np.array([np.inf])
            )
            smallest = float(np.min(total, where=total > 0, initial=np.inf))
            # a guess of E|f| that was too large made the tolerance too loose
            if run.cost > budget[i] or smallest == np.inf or (scale > 0 and smallest > 0.2 * scale):
                break
            scale = smallest
        if run.lost is not None and np.any(goal.missed(error, total)):
            raise LimitError(f_at.lost(run.lost, name(i)))
        cost += run.cost
        least = _NARROW if run.points else _OFTEN
        made.append((value, np.maximum(error, least * goal.rtol * total), total))
    value, error, total = (np.concatenate(a) for a in zip(*made, strict=True))
    return value, error, total, cost + scout.cost


class _Nest:
    """The nested integrals of one entry of the batch."""

    def __init__(
        self, f_at: Integrand, factor: np.ndarray, budget: int, rtol: float, edges: np.ndarray,
        ends: np.ndarray, points: int,
    ) -> None:  # fmt: skip
        self.f_at, self.budget, self.edges = f_at, budget, edges
        self.rtol, self.ends, self.points = rtol, ends, points
        used = [k for k in range(factor.shape[1]) if np.any(factor[:, k])]
        self.directions = [factor[:, k] for k in used]
        last = [max((j for j, k in enumerate(used) if row[k]), default=-1) for row in factor]
        self.settled = [np.flatnonzero(np.equal(last, j)) for j in range(len(used))]
        """The coordinates that the z of a level settles."""
        self.along = self.directions[0] / np.sum(self.directions[0] ** 2)
        self.met = np.empty(0), np.empty((0, _FEW))
        """Where inner lines of two dimensions met something narrow, and the ends of it."""
        self.cost = 0
        self.largest = 0.0
        self.lost: np.ndarray | None = None  # a point at which f is not finite

    def integrate(self, level: int, start: np.ndarray, tolerance: np.ndarray) -> tuple[np.ndarray, ...]:
        """(E f, error, E|f|) over z_level, z_level+1, .. from points (lines, d); (lines, components) each."""
        if level == len(self.directions):
            return self.leaves(start)
        innermost = level + 1 == len(self.directions)
        step = max(1, _BLOCK // (NODES.size * (self.edges.size + 1))) if innermost else _TOGETHER
        parts = []
        for begin in range(0, start.shape[0], step):
            some = slice(begin, begin + step)
            made = self.lines(level, start[some], tolerance[some])
            parts.append(made)
        value, error, total = (np.concatenate(a) for a in zip(*parts, strict=True))
        return value, error, total

    def lines(self, level: int, start: np.ndarray, tolerance: np.ndarray) -> tuple[np.ndarray, ...]:
        direction = self.directions[level]

        def innermost(line: np.ndarray, z: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, ...]:
            columns = [start[line, k, None] + z * slope for k, slope in enumerate(direction)]
            return tuple(a.reshape(*z.shape, -1) for a in self.values([c.reshape(1, -1) for c in columns]))

        def evaluate(line: np.ndarray, z: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, ...]:
            points = start[line][:, None, :] + z[:, :, None] * direction
            # what an inner line may be off grows where the density that weighs it is small
            loose = np.minimum(np.maximum(1.0, 0.1 / np.maximum(density, 1e-300)), 1e60)
            allowed = 0.3 * tolerance[line][:, None] * loose
            found = self.integrate(level + 1, points.reshape(-1, points.shape[2]), allowed.reshape(-1))
            return tuple(a.reshape(*z.shape, -1) for a in found)

        own = self.settled[level]
        zero = (self.f_at.breaks - start[:, own, None]) / direction[own, None]
        zero = zero.reshape(start.shape[0], -1)
        near = _BESIDE * np.maximum(1.0, np.abs(zero))
        more = [zero - near, zero + near]
        if level == 0:
            more.append(np.broadcast_to(self.ends, (start.shape[0], self.ends.size)))
        elif self.points and level + 1 == len(self.directions):
            more.append(self.looked(start, direction))
        beside = np.concatenate(more, axis=1)
        way = innermost if level + 1 == len(self.directions) else evaluate
        made = adapt(way, tolerance, beside, lambda: self.cost < self.budget, edges=self.edges)
        return made.value, made.error, made.size

    def looked(self, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Where narrow features of the innermost lines begin and end (lines, m)."""
        z = places(self.points)
        step = max(1, _BLOCK // (4 * self.points))
        made = []
        for begin in range(0, start.shape[0], step):
            points = start[begin : begin + step, None] + z[:, None] * direction
            columns = [
                np.ascontiguousarray(points[None, :, :, k]).reshape(1, -1) for k in range(points.shape[2])
            ]
            values = self.f_at.columns(columns)[0].reshape(-1, *points.shape[:2]).transpose(1, 0, 2)
            self.cost += points.shape[0] * points.shape[1]
            made.append((begin, stretches(values, self.rtol)))
        seen = Stretches.joined(made)
        ends, wider = (some.ends(start.shape[0]) for some in (seen, seen.where(~seen.single)))
        if len(self.directions) > 2 or wider.shape[1] > _FEW:
            return ends
        return np.concatenate([ends, self.beside(start, wider)], axis=1)

    def beside(self, start: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The ends (lines, m) of what stands where lines, or those next to them, met something.

        What was narrow there may be too narrow here for the points of a line: chords of a disc end as points.
        """
        at = start @ self.along
        known, told = self.met
        near = [ends]
        if known.size:
            k = np.searchsorted(known, at)
            near += [told[np.clip(j, 0, known.size - 1)] for j in (k - 1, k)]
        pairs = np.concatenate(near, axis=1).reshape(at.size, -1, 2)
        line, which = np.nonzero(np.isfinite(pairs[:, :, 0]))
        if not line.size:
            return np.empty((at.size, 0))
        close = np.full(pairs.shape, np.inf)
        close[line, which] = self.closely(start[line], *pairs[line, which].T)
        for again in (True, False):  # in order, what is told twice once, in order
            order = np.argsort(close[:, :, 0], axis=1)
            close = np.take_along_axis(close, order[:, :, None], axis=1)
            close[:, 1:][again & (close[:, 1:, 0] < close[:, :-1, 1])] = np.inf
        made = close[:, : _FEW // 2].reshape(at.size, -1)
        some = np.isfinite(made[:, 0])
        kept = np.pad(made[some], ((0, 0), (0, _FEW - made.shape[1])), constant_values=np.inf)
        known, first = np.unique(np.concatenate([known, at[some]]), return_index=True)
        self.met = known, np.concatenate([told, kept])[first]
        return made

    def closely(self, start: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The ends (n, 2) of what stands out of stretches of innermost lines, infinite where nothing does."""
        z = low[:, None] + (high - low)[:, None] * _CLOSE
        points = start[:, None] + z[:, :, None] * self.directions[-1]
        value = self.leaves(points.reshape(-1, points.shape[2]))[0].reshape(*z.shape, -1)
        chord = value[:, :1] + (value[:, -1:] - value[:, :1]) * np.linspace(0.0, 1.0, _CLOSE.size)[:, None]
        above = np.abs(value - chord).sum(axis=2)
        top = above.max(axis=1)
        out = above > 0.5 * top[:, None]
        first = np.argmax(out, axis=1) - 1
        last = _CLOSE.size - np.argmax(out[:, ::-1], axis=1)
        row = np.arange(z.shape[0])
        made = np.stack([z[row, np.maximum(first, 0)], z[row, np.minimum(last, _CLOSE.size - 1)]], axis=1)
        made[top <= _FAINT * np.abs(value).max(axis=(1, 2))] = np.inf
        return made

    def leaves(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """f itself at points (lines, d)."""
        return self.values([np.ascontiguousarray(points[None, :, k]) for k in range(points.shape[1])])

    def values(self, columns: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """f, its error and |f| (points, components) at points given by coordinates (1, points)."""
        value = self.f_at.columns(columns)[0].T
        self.cost += value.shape[0]
        error = np.zeros_like(value)
        lost = ~np.isfinite(value)
        if np.any(lost):
            value = np.where(lost, 0.0, value)
            first = int(np.argmax(np.any(lost, axis=1)))
            self.lost = np.array([c[0, first] for c in columns])
        size = np.abs(value)
        self.largest = max(self.largest, float(np.max(size, initial=0.0)))
        error[lost] = self.largest or 1.0
        return value, error, size
