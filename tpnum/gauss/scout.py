"""How finely f varies over a Gaussian law, seen along lines: what panels and a lattice must not step over.

`expect` asks it, law by law; it lays the lines, and `tpnum.gauss.look` tells what is narrow in the values.
"""

from __future__ import annotations

import numpy as np

from tpnum.gauss.adaptive import adapt
from tpnum.gauss.goal import Goal
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.look import REACH, Stretches, extents, places, stretches
from tpnum.gauss.steps import CELLS, FAR, Pieces, in_pieces

_RANDOM = 3  # lines besides those along the axes
_SAMPLE = 32
_ROUGH = 1e-3
"""Panels as short as this are a kink or a jump."""
_TOLERANCE = 1e-6
"""Of the panels: at smaller ones smooth functions need short panels as well."""
_JUMP = 1e-6
_BESIDE, _AROUND = 1e-9, 0.02
"""How far on both sides of a place where f may break it is compared, and a panel ends."""
_POINTS = {1: 1 << 17, 2: 1 << 11, 3: 1 << 11}
"""Where f is looked at along a line, by rank."""
_TAILS = 1 << 12
"""And farther out along a line in one dimension."""
_PART = 1 << 11
"""The same for one dimension of many."""
_IMAGE, _FEW, _PICTURES = 128, 4, 8
"""Rows and columns of a picture of f over two dimensions; half as many, and of so
many laws, where there are more than a few."""
_AMPLE = 1 << 17
"""A budget that has room for a picture."""
_ENOUGH, _LEAST = 1 << 18, 1 << 12
"""Evaluations along the lines of one law where no budget is given, else a quarter of it, and at least."""
_MIDDLE, _CHANGES, _SPOT = 4.5, 16, 0.1
"""Of a picture the part that matters; how many changes it may have; and which part of it is a spot."""
_HITS = 8
"""Scattered points that met something, through which lines are laid."""
_BLOCK = 1 << 13
_FAINT = 1e-9
"""The tolerance along a single line, where it is not asked for less."""
_TOGETHER = 256  # laws whose lines are followed at once
_NEAR = 0.25
"""Features of a line that are closer than this are hidden from most panels."""
_CLOSE = 0.5  # octaves of the deviation, and deviations of the mean, within which laws are looked at as one


class Scout:
    """What was seen of f under the laws of a batch, each looked at once.

    ``half`` is half the length of the shortest panels that lines need (infinite: all long; 0: kinks, jumps),
    ``ends`` where panels over the first axis should end, ``width`` the narrowest thing along lines,
    ``aligned`` whether f breaks, and only where a coordinate is at one of its known breaks.
    """

    def __init__(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, goal: Goal, part: bool = False
    ) -> None:
        self.f_at, self.mean, self.factor, self.goal = f_at, mean, factor, goal
        count = mean.shape[0]
        self.half, self.width = np.full((2, count), np.inf)
        self.aligned = np.zeros(count, dtype=bool)
        self.ends: list[np.ndarray] = [np.zeros(0)] * count
        self.known = np.zeros(count, dtype=bool)
        self.side = np.zeros(count, dtype=int)
        """Of the picture that is made before panels are."""
        rank = factor.shape[2]
        self.part = part
        self.hidden = np.zeros(count)
        """What pieces of a function that is constant in pieces may add, if no point has met them."""
        most = _PART if part and rank == 1 else _POINTS[rank]
        share = goal.spend(64 * most) // (4 if rank == 1 else 64)
        self.points = min(most, 1 << max(6, share.bit_length() - 1))
        self.tolerance = min(goal.rtol, _FAINT) if rank == 1 else goal.rtol
        self.cost = 0
        self.spent = np.zeros(count)
        """Evaluations of f for each law, by a lattice too."""

    def look(self, rows: np.ndarray) -> None:
        """See to it that ``rows`` are known."""
        rows = rows[~self.known[rows]]
        if rows.size:
            self.known[rows] = True
            way = self.one if self.factor.shape[2] == 1 else self.some
            for begin in range(0, rows.size, _TOGETHER):
                way(rows[begin : begin + _TOGETHER])

    def told(self, i: int) -> tuple[np.ndarray, int]:
        """Where panels over the first axis end, and how many points an inner line wants (0: none)."""
        self.look(np.array([i]))
        if self.side[i]:
            self.picture(i, int(self.side[i]))
        if not np.isfinite(self.width[i]):
            return self.ends[i], 0
        points = int(2.0 * REACH / max(0.3 * self.width[i], 1e-9))
        return self.ends[i], 1 << min(max(points.bit_length(), 8), 13)

    def of(self, rows: np.ndarray) -> Scout:
        """The same for some of the laws."""
        made = Scout(self.f_at, self.mean[rows], self.factor[rows], self.goal)
        made.points = self.points
        made.half, made.width, made.known = self.half[rows], self.width[rows], self.known[rows]
        made.aligned = self.aligned[rows]
        made.ends, made.side = [self.ends[i] for i in rows], self.side[rows]
        return made

    def at(self, points: np.ndarray) -> np.ndarray:
        """The components of f at points (.., d), last."""
        d = self.mean.shape[1]
        flat = points.reshape(-1, d)
        self.cost += flat.shape[0]
        made = self.f_at.columns([np.ascontiguousarray(flat[None, :, k]) for k in range(d)])[0]
        return made.T.reshape(*points.shape[:-1], -1)

    def seen(
        self, start: np.ndarray, direction: np.ndarray, points: int, reach: float = REACH
    ) -> tuple[Stretches, np.ndarray]:
        """The features along lines (lines, d), and how wide they are."""
        z = places(points, reach)
        step = max(1, _BLOCK // points)
        parts, wide = [], []
        for begin in range(0, start.shape[0], step):
            part = slice(begin, begin + step)
            values: np.ndarray | None = None
            for cut in range(0, points, _BLOCK):
                at = slice(cut, cut + _BLOCK)
                made = self.at(start[part, None] + z[at, None] * direction[part, None])
                if values is None:
                    values = np.empty((made.shape[0], made.shape[2], points))
                values[:, :, at] = made.transpose(0, 2, 1)
            assert values is not None
            parts.append((begin, stretches(values, self.tolerance, reach)))
            wide.append(extents(values, parts[-1][1], reach))
        return Stretches.joined(parts), np.concatenate(wide)

    def one(self, rows: np.ndarray) -> None:
        """Laws of one dimension: those much alike are looked at together, over all of their range."""
        root = np.sqrt(np.sum(self.factor[rows, :, 0] ** 2, axis=1))
        way = self.factor[rows, :, 0] / root[:, None]
        along = np.sum(self.mean[rows] * way, axis=1)
        rest = self.mean[rows] - along[:, None] * way
        keys = np.stack([np.round(np.log2(root) / _CLOSE), np.round(along / root / _CLOSE)], axis=1)
        keys = np.concatenate([keys, np.round(way, 12), np.round(rest / root[:, None], 12)], axis=1)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        group = group.reshape(-1)
        points = self.points
        for g in range(int(group.max()) + 1):
            own = np.flatnonzero(group == g)
            wide = float(root[own].max())
            middle = float(np.mean(along[own]))
            spread = wide if own.size == 1 else wide * (1.0 + _CLOSE / REACH)
            first = rest[own[0]] + middle * way[own[0]]
            steps = self.steps(rest[own[0]], way[own[0]], middle, spread, rows.size)
            if steps is None:
                near, _ = self.seen(first[None], spread * way[own[:1]], points)
                tails, _ = self.seen(first[None], spread * way[own[:1]], min(points, _TAILS), FAR)
                ends = np.union1d(near.of(0), tails.of(0))
            else:
                ends = steps.ends
                self.hidden[rows[own]] = steps.hidden
            for i in own:
                z = (middle + spread * ends - along[i]) / root[i]
                self.ends[rows[i]] = z[np.abs(z) < FAR + 1.0]
                self.half[rows[i]] = 0.0 if self.ends[rows[i]].size else np.inf
        smooth = rows[np.isinf(self.half[rows])]
        if smooth.size:
            self.some(smooth)

    def steps(
        self, rest: np.ndarray, way: np.ndarray, middle: float, spread: float, laws: int
    ) -> Pieces | None:
        """What is found of f along a line where it is constant in pieces, and not a part of something."""
        if self.part:
            return None
        # as many for a budget as a look along a line has points
        most = CELLS if laws <= _FEW else CELLS // 8
        cells = most if self.points == _POINTS[1] else self.points
        breaks = self.f_at.breaks
        return in_pieces(lambda u: self.at(rest + u[:, None] * way), middle, spread, cells, breaks)

    def some(self, rows: np.ndarray) -> None:
        """Lines along the axes of the factor and in random directions, through random points.

        The places where functions like to break are looked at closely.
        """
        mean, factor = self.mean[rows], self.factor[rows]
        count, d, rank = factor.shape
        rng = np.random.default_rng(1)
        ways = rng.standard_normal((_RANDOM, rank))
        ways = np.concatenate([np.eye(rank), ways / np.linalg.norm(ways, axis=1, keepdims=True)])
        through = rng.standard_normal(ways.shape)
        through -= np.sum(through * ways, axis=1, keepdims=True) * ways
        start = (mean[:, None] + np.einsum("ndr,lr->nld", factor, through)).reshape(-1, d)
        direction = np.einsum("ndr,lr->nld", factor, ways).reshape(-1, d)
        lines = ways.shape[0]

        cloud = mean[:, None] + np.einsum("ndr,pr->npd", factor, rng.standard_normal((_SAMPLE, rank)))
        scale = np.repeat(np.min(np.mean(np.abs(self.finite(cloud)), axis=1), axis=1), lines)

        def evaluate(line: np.ndarray, z: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, ...]:
            value = self.finite(start[line][:, None, :] + z[:, :, None] * direction[line][:, None, :])
            return value, np.zeros_like(value), np.abs(value)

        breaks = self.f_at.breaks - start[:, :, None]
        zeros = np.divide(
            breaks, direction[:, :, None], out=np.full(breaks.shape, 100.0), where=direction[:, :, None] != 0
        ).reshape(start.shape[0], -1)
        around = np.concatenate([zeros - _AROUND, zeros + _AROUND], axis=1)
        most = self.cost + count * max(self.goal.spend(4 * _ENOUGH) // 4, _LEAST)
        made = adapt(evaluate, _TOLERANCE * scale, around, lambda: self.cost < most, finest=_ROUGH)
        left, right = (
            self.finite(start[:, None] + (zeros + side)[:, :, None] * direction[:, None])
            for side in (-_BESIDE, _BESIDE)
        )
        jump = np.abs(right - left) > _JUMP * np.maximum(np.abs(left) + np.abs(right), scale[:, None, None])
        broken = np.any(jump & (np.abs(zeros) < 8.0)[:, :, None], axis=(1, 2))
        half = np.where(broken, 0.0, made.shortest)
        if rank > 1:
            seen, wide = self.seen(start, direction, max(self.points // (1 if count <= _FEW else 4), 64))
            np.minimum.at(half, seen.line, 0.5 * (seen.high - seen.low))
            foreign = np.all(
                (zeros[seen.line] < seen.low[:, None]) | (zeros[seen.line] > seen.high[:, None]), axis=1
            )
            oblique = np.zeros(start.shape[0], dtype=bool)
            oblique[seen.line[foreign]] = True
            kinked = np.isin(np.arange(start.shape[0]), seen.line) & ~oblique
            broken = np.any((broken | kinked).reshape(count, -1), axis=1)
            self.aligned[rows] = broken & ~np.any(oblique.reshape(count, -1), axis=1)
            seen = seen.where(foreign)  # panels end at the others without being told
            narrow = np.array([seen.narrowest(line, wide[foreign]) for line in range(start.shape[0])])
            narrow = np.where(narrow < _NEAR, narrow, np.inf)
            half = np.where(np.isfinite(narrow), 0.0, half)
            self.width[rows] = np.min(narrow.reshape(count, -1), axis=1)
        self.half[rows] = np.min(half.reshape(count, -1), axis=1)
        # panels over aligned breaks are as dense as a picture
        if rank == 2 and self.goal.spend(_AMPLE) >= _AMPLE:
            self.side[rows[:: -(-count // _PICTURES)]] = _IMAGE if count <= _FEW else _IMAGE // 2
            self.side[rows[self.aligned[rows]]] = 0

    def met(self, i: int, hits: np.ndarray) -> None:
        """Points z (n, 2) at which scattered ones met what a lattice has not: how wide it is, and where."""
        some = hits[:_HITS]
        ways = np.eye(2)
        through = (some[:, None] - some[:, :, None] * ways).reshape(-1, 2)
        start = self.mean[i] + through @ self.factor[i].T
        direction = np.tile(self.factor[i].T, (some.shape[0], 1))
        seen, wide = self.seen(start, direction, self.points)
        first = seen.line % 2 == 0
        self.ends[i] = np.unique(np.concatenate([self.ends[i], seen.low[first], seen.high[first]]))
        self.ends[i] = np.unique(np.concatenate([self.ends[i], some[:, 0] - _SPOT, some[:, 0] + _SPOT]))
        self.width[i] = min(self.width[i], float(np.min(wide, initial=_SPOT)))
        self.half[i] = 0.0

    def picture(self, i: int, side: int) -> None:
        """F on a grid over two axes, larger where it vanishes: features that the lines have not met."""
        z = places(side)
        first, second = (self.factor[i, :, k] for k in range(2))
        values = self.at(self.mean[i] + z[:, None, None] * first + z[:, None] * second)
        if side < 8 * _IMAGE and not np.any(values):
            return self.picture(i, 8 * _IMAGE)
        middle = np.abs(z) < _MIDDLE
        for axes in ((0, 2, 1), (1, 2, 0)):
            seen = stretches(values.transpose(axes)[middle], self.goal.rtol)
            if seen.line.size:
                self.half[i] = min(self.half[i], 0.5 * float(np.min(seen.high - seen.low)))
            if axes[0] == 0:  # where lines along the second axis begin and cease to meet something
                rough = np.zeros(z.size + 2, dtype=bool)
                rough[1 + np.flatnonzero(middle)[np.unique(seen.line)]] = True
                change = np.flatnonzero(rough[1:] != rough[:-1])
                change = change[np.abs(z[np.clip(change - 1, 0, side - 1)]) < _MIDDLE - 0.15]
                if 0 < change.size <= _CHANGES:
                    found = z[0] + (z[1] - z[0]) * np.unique([change - 1, change])
                    self.ends[i] = np.union1d(self.ends[i], found)
                    if np.count_nonzero(rough) < _SPOT * z.size:
                        self.width[i] = min(self.width[i], 2.0 * float(z[1] - z[0]))
        return None

    def finite(self, points: np.ndarray) -> np.ndarray:
        """The components of f, zero where they are not finite."""
        made = self.at(points)
        return np.where(np.isfinite(made), made, 0.0)
