"""Narrow places of a function with known values on a fine grid, and what is in them: kinks, jumps, noise.

A place is narrow where fourth differences are large on the scale of the function; bisection tells a jump from
a kink and from what is only steep.  `tpnum.gauss.survey` looks, this reads what was seen.
"""

from __future__ import annotations

import numpy as np

from tpnum.functions.checked import Value, evaluate

_ROUGH = 1e-9  # fourth differences above this share of the largest |f| are a narrow place
_NOISY = 40.0  # and above so many units of the noise
_MERGE = 8  # rough points closer than so many steps are one place
_PIECE = 1 << 12
PLACES = 64  # narrow places that are looked at one by one
_FINER = 1.1e-6  # spacing of the tiny grids that show the noise
_HALVINGS = 46


def noise_of(
    f: Value, mean: float, root: float, seen: np.ndarray, scale: float, name: object
) -> tuple[float, int]:
    """The noise of the values relative to ``scale``, from differences at three spacings, and evaluations.

    Of noise the sixth differences are larger than the fourth ones, of a function that is resolved smaller.
    """
    centres = mean + root * np.linspace(-2.9, 3.1, 64)
    tiny = (centres[:, None] + root * _FINER * np.arange(16)).reshape(-1)
    starts = np.linspace(0, seen.size - 8, 512).astype(np.intp)
    grids = (
        lambda: evaluate(f, tiny, name=name).reshape(64, 16),
        lambda: seen[starts[:, None] + np.arange(7)],
        lambda: seen[None, ::100],
    )
    found = 0.0
    for values in grids:
        with np.errstate(all="ignore"):
            fourth = np.diff(values(), 4, axis=1)
            sixth = np.diff(fourth, 2, axis=1)
            four, six = float(np.median(np.abs(fourth))), float(np.median(np.abs(sixth)))
        if np.isfinite(six) and six > 2.0 * four:
            found = max(found, four / (0.6745 * np.sqrt(70.0)))
        elif four > 0.0:  # resolved: wider spacings would show waves, not noise
            break
    return found / scale, tiny.size


def narrow_places(
    seen: np.ndarray, weight: np.ndarray, scale: float, noise: float
) -> tuple[list[tuple[int, int]], bool]:
    """Index ranges of the narrow places, and whether there are more than are returned."""
    limit = max(_ROUGH, _NOISY * noise) * scale
    found, heights = [], []
    for begin in range(0, seen.size - 4, _PIECE):  # short enough for a cache
        with np.errstate(all="ignore"):
            rough = seen[begin : begin + _PIECE + 4]
            for _ in range(4):
                rough = rough[1:] - rough[:-1]
            rough = np.abs(rough) * weight[begin + 2 : begin + 2 + rough.size]
        above = np.flatnonzero(rough > limit)
        if above.size:
            found.append(begin + above)
            heights.append(rough[above])
    if not found:
        return [], False
    at = np.concatenate(found)
    ends = np.flatnonzero(np.diff(at) > _MERGE)
    begin = at[np.concatenate([[0], ends + 1])]
    end = at[np.concatenate([ends, [at.size - 1]])]
    crowded = begin.size > PLACES
    if crowded:
        height = np.maximum.reduceat(np.concatenate(heights), np.concatenate([[0], ends + 1]))
        chosen = np.sort(np.argsort(-height)[:PLACES])
        begin, end = begin[chosen], end[chosen]
    return [(int(a), int(b) + 5) for a, b in zip(begin, end, strict=True)], crowded


def spike(values: np.ndarray) -> float:
    """The height of a place that no more than two points see: others may stand between the points."""
    base = np.linspace(values[0], values[-1], values.size)
    above = np.abs(values - base)
    height = float(above.max())
    lonely = np.count_nonzero(above > 0.5 * height) <= 2 and abs(values[-1] - values[0]) < 0.5 * height
    return height if lonely else 0.0


def located(
    f: Value, u: np.ndarray, seen: np.ndarray, places: list[tuple[int, int]], scale: float, noise: float,
    declared: np.ndarray, name: object,
) -> tuple[np.ndarray, np.ndarray, int]:  # fmt: skip
    """Kinks and jumps in the narrow places, by bisection: (kinks, jumps, evaluations).

    Of the second difference over an interval a jump leaves all to a half of it, a kink half, the rest less.
    """
    pairs = []
    for a, b in places:
        second = np.abs(np.diff(seen[a:b], 2))
        pairs += [(u[a + k], u[a + k + 2]) for k in _sharpest(second)]
        pairs += [(u[a + k], u[a + k + 1]) for k in np.argsort(-np.abs(np.diff(seen[a:b])))[:2]]
    if not pairs:
        return np.empty(0), np.empty(0), 0
    low, high = (np.array(side) for side in zip(*pairs, strict=True))
    cost, first, last, width = 0, None, np.zeros(low.size), high - low
    alive = np.ones(low.size, bool)
    for _ in range(_HALVINGS):
        parts = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, 5)
        made = evaluate(f, parts.reshape(-1), name=name).reshape(parts.shape)
        cost += made.size
        made = np.where(np.isfinite(made), made, 0.0)
        left = np.abs(made[:, 0] - 2.0 * made[:, 1] + made[:, 2])
        middle = np.abs(made[:, 1] - 2.0 * made[:, 2] + made[:, 3])
        right = np.abs(made[:, 2] - 2.0 * made[:, 3] + made[:, 4])
        stack = np.stack([left, middle, right], axis=1)
        choice = np.argmax(stack, axis=1)
        top = stack[np.arange(low.size), choice]
        whole = np.abs(made[:, 0] - 2.0 * made[:, 2] + made[:, 4])
        first = whole if first is None else first
        # gone into rounding, or resolved: a quarter is left
        alive &= (top > 0.3 * np.maximum(whole, top)) & (top > (8e-16 + 4.0 * noise) * scale)
        if not np.any(alive):
            break
        last[alive], width[alive] = top[alive], 0.5 * (high - low)[alive]
        index = np.arange(low.size)
        low, high = (
            np.where(alive, parts[index, choice], low), np.where(alive, parts[index, choice + 2], high)
        )  # fmt: skip
    assert first is not None
    start = np.array([b - a for a, b in pairs])
    halved = np.log2(np.maximum(start / width, 1.0))
    fell = np.log2(np.maximum(first, 1e-300)) - np.log2(np.maximum(last, 1e-300))
    rate = fell / np.maximum(halved, 1.0)
    rough = (halved >= 12) & (rate < 1.5)
    jump = rough & (rate < 0.25) & (halved >= 30)
    points = np.array([_nice(a, b) for a, b in zip(low, high, strict=True)])
    known = np.array([bool(np.any(np.abs(declared - p) <= 1e-9 * max(1.0, abs(p)))) for p in points])
    kinks = np.unique(points[rough & ~known])
    return kinks, np.unique(points[jump]), cost


def _sharpest(second: np.ndarray) -> np.ndarray:
    """The places of the largest second difference and of the next one apart from it."""
    order = np.argsort(-second)
    return np.concatenate([order[:1], order[np.abs(order - order[0]) > 4][:1]])


def _nice(low: float, high: float) -> float:
    """A point in [low, high], or beside it, at the shortest decimal: people put kinks there."""
    point = 0.5 * (low + high)
    for digits in range(13):
        short = round(point, digits)
        if 2 * low - high <= short <= 2 * high - low:
            return short
    return point
