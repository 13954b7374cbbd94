"""Narrow features of a function whose values at equidistant points of lines are known: windows, bumps, kinks.

A second difference that is much larger than those a few steps before and after it belongs to something about
as wide as the step: a kink, a jump, a bump.  It is looked for with steps of many lengths.  What is smooth on
the scale of the longest step is seen by panels and lattices without help.  The values are of lines through
several dimensions, of many laws at once, as `tpnum.gauss.scout` sees them; a function of one variable that a
dual or a limit is made of is looked at more closely, once, by `tpnum.gauss.survey`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

REACH = 6.5
"""Deviations to either side that are looked at: the probability beyond is 8e-11."""
_FACTOR = 8
"""From one length of the step to the next."""
_LONGEST = 0.11
_FEWEST = 48  # points that make a level
_ASIDE = (3, 5, 7)
"""Steps to the differences that are compared, of which all but one must be small: a window may have its other
edge at one of them, where waves have a zero."""
_EDGE = max(_ASIDE)
_SHARPER = 4.0
_LONELY = 0.1
_WAVES = 0.12
"""A line with more such places is one of waves."""
_SHARE = 0.02
"""A feature that contributes less than this part of the tolerance may stay unseen."""
_BLOCK = 1 << 13
_MOST = 48
"""Features of a line that are told: a function with more is not of narrow features but rough."""


@dataclass(frozen=True)
class Stretches:
    """Stretches [low, high] in deviations of the lines in which something narrow was found."""

    line: np.ndarray
    low: np.ndarray
    high: np.ndarray
    single: np.ndarray
    """Whether it is no wider than a kink or a jump."""

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Stretches]]) -> Stretches:
        """Those of several blocks of lines, each with the number of its first line."""
        moved = [(made.line + begin, made.low, made.high, made.single) for begin, made in parts]
        return cls(*(np.concatenate(a) for a in zip(*moved, strict=True)))

    def where(self, some: np.ndarray) -> Stretches:
        """Those of the stretches."""
        return Stretches(self.line[some], self.low[some], self.high[some], self.single[some])

    def of(self, line: int) -> np.ndarray:
        """The ends of the stretches of one line, in order."""
        own = self.line == line
        return np.unique(np.concatenate([self.low[own], self.high[own]]))

    def ends(self, lines: int) -> np.ndarray:
        """The ends of all (lines, m), filled up with infinities."""
        count = np.bincount(self.line, minlength=lines)
        made = np.full((lines, 2 * int(np.max(count, initial=0))), np.inf)
        order = np.argsort(self.line, kind="stable")
        place = np.arange(order.size) - np.repeat(np.cumsum(count) - count, count)
        made[self.line[order], 2 * place] = self.low[order]
        made[self.line[order], 2 * place + 1] = self.high[order]
        return made

    def narrowest(self, line: int, extent: np.ndarray) -> float:
        """The width of the narrowest thing on a line that single kinks and jumps are not, by `extents`.

        Stretches around one that a shorter step has found are the same thing.
        """
        own = np.flatnonzero(self.line == line)
        seen: list[tuple[float, float, bool]] = []
        for k in own[np.argsort(self.high[own] - self.low[own], kind="stable")]:
            low, high = self.low[k], self.high[k]
            if all(high < a or b < low for a, b, _ in seen):
                seen.append((low, high, bool(self.single[k])))
        seen.sort()
        widths = [float(extent[k]) for k in own if not self.single[k]]
        widths += [b[0] - a[1] for a, b in zip(seen, seen[1:], strict=False)]
        return min(widths, default=np.inf)


@lru_cache(maxsize=32)
def places(points: int, reach: float = REACH) -> np.ndarray:
    """Where to look."""
    z = np.linspace(-reach, reach, points)
    z.setflags(write=False)
    return z


@lru_cache(maxsize=32)
def _weights(points: int, reach: float) -> np.ndarray:
    """The probabilities of the places."""
    z = places(points, reach)
    made = np.exp(-0.5 * z * z) * ((z[1] - z[0]) / np.sqrt(2.0 * np.pi))
    made.setflags(write=False)
    return made


def stretches(values: np.ndarray, tolerance: float, reach: float = REACH) -> Stretches:
    """What is narrow in values (lines, components, points) of f at `places`, to a tolerance relative to E|f|.

    Values that are not finite count as zero; two of them side by side are a feature.
    """
    lines, _, points = values.shape
    z, weight = places(points, reach), _weights(points, reach)
    step = z[1] - z[0]
    size = np.einsum("lkn,n->lk", np.abs(values), weight)
    found: list[tuple[np.ndarray, ...]] = []
    if not np.all(np.isfinite(size)):
        lost = ~np.isfinite(values)
        values = np.where(lost, 0.0, values)
        size = np.einsum("lkn,n->lk", np.abs(values), weight)
        line, at = np.nonzero(np.any(lost[:, :, 1:] & lost[:, :, :-1], axis=1))
        first = np.zeros(line.size, dtype=bool)
        found.append(_stretches(line, z[at] + 0.5 * step, step, np.full(line.size, np.inf), first))
    unit = size
    if not np.all(size > 0):
        top = np.max(np.abs(values), axis=2)
        unit = np.where(size > 0, size, np.where(top > 0, top, 1.0))
    unit, least = unit[:, :, None], _SHARE * tolerance
    faint = least * float(np.min(unit))
    stride = 1
    while stride * step <= _LONGEST and points // stride >= _FEWEST:
        some = values[:, :, ::stride]
        # so many at a time as stay in the cache
        block = max(_FEWEST, _BLOCK // (lines * values.shape[1]))
        width = stride * step
        for begin in range(0, some.shape[2] - 2 * _EDGE - 2, block):
            own = some[:, :, begin : begin + block + 2 * _EDGE + 2]
            second = own[:, :, 2:] + own[:, :, :-2]
            second -= 2.0 * own[:, :, 1:-1]
            inner = slice((begin + 1 + _EDGE) * stride, (begin + block + 1 + _EDGE) * stride, stride)
            highest = max(float(second.max()), -float(second.min()))
            if highest * stride * float(weight[inner].max(initial=0.0)) <= faint:
                continue
            np.abs(second, out=second)
            second /= unit
            found += _sharp(second.max(axis=1), z[inner], stride * weight[inner], least, width)
        stride *= _FACTOR
    found = [part for part in found if part[0].size]
    if not found:
        return Stretches(np.zeros(0, dtype=int), np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))
    line, low, high, single, worth = (np.concatenate(a) for a in zip(*found, strict=True))
    order = np.lexsort((-worth, line))
    count = np.bincount(line, minlength=lines)
    kept = np.arange(order.size) - np.repeat(np.cumsum(count) - count, count) < _MOST
    order = order[kept]
    return Stretches(line[order], low[order], high[order], single[order])


def extents(values: np.ndarray, seen: Stretches, reach: float = REACH) -> np.ndarray:
    """How wide the thing in each stretch is: its area above a chord over its height, at most the stretch.

    That is as long as the step with which it was found, the thing in it may be far narrower.
    """
    z = places(values.shape[2], reach)
    made = seen.high - seen.low
    first, last = np.searchsorted(z, seen.low), np.searchsorted(z, seen.high)
    for k, (line, a, b) in enumerate(zip(seen.line, first, last, strict=True)):
        own = values[line, :, a:b]
        if own.shape[1] > 2 and np.all(np.isfinite(own)):
            above = np.abs(own - np.linspace(own[:, 0], own[:, -1], own.shape[1], axis=1))
            area, top = above.sum(axis=1), above.max(axis=1)
            wide = np.divide(area, top, out=np.full(top.shape, np.inf), where=top > 0)
            made[k] = min(made[k], float(np.min(wide)) * (z[1] - z[0]))
    return made


def _sharp(
    second: np.ndarray, z: np.ndarray, weight: np.ndarray, least: float, width: float
) -> list[tuple[np.ndarray, ...]]:
    """Stretches of differences (lines, m + 2 _EDGE) that stand out and matter."""
    middle = second[:, _EDGE : second.shape[1] - _EDGE]
    weight = weight[: middle.shape[1]]
    if float(middle.max(initial=0.0)) * float(weight.max(initial=0.0)) <= least:
        return []
    worth = middle * weight
    sharp = np.zeros(middle.shape, dtype=np.int8)
    for k in _ASIDE:
        beside = np.maximum(
            second[:, _EDGE - k : second.shape[1] - _EDGE - k],
            second[:, _EDGE + k : second.shape[1] - _EDGE + k],
        )
        sharp += middle > _SHARPER * beside
    sharp = (sharp >= len(_ASIDE) - 1) & (worth > least)
    sharp[np.mean(sharp, axis=1) > _WAVES] = False
    line, at = np.nonzero(sharp)
    around = np.sort(second[line[:, None], at[:, None] + _EDGE + np.arange(-3, 4)], axis=1)
    lonely = around[:, -3] <= _LONELY * around[:, -1]  # a jump has two large differences, a kink one or two
    return [_stretches(line, z[at], width, worth[line, at], lonely)]


def _stretches(
    line: np.ndarray, z: np.ndarray, width: float, weight: np.ndarray, lonely: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Points close to each other as one: (line, low, high, whether two lonely ones, the largest weight)."""
    first = np.ones(line.size, dtype=bool)
    first[1:] = (line[1:] != line[:-1]) | (z[1:] - z[:-1] > 4.5 * width)
    begin = np.flatnonzero(first)
    if not begin.size:
        return line, z, z, first, weight
    last = np.append(begin[1:], line.size) - 1
    low, high = z[begin] - 1.6 * width, z[last] + 1.6 * width
    single = (last - begin < 2) & np.logical_and.reduceat(lonely, begin)
    return line[begin], low, high, single, np.maximum.reduceat(weight, begin)
