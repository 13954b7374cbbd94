"""Plain Monte Carlo with control variates: E f = E (f - g), g a combination of controls of known mean.

The sample has two halves.  On each the combination is fitted that is taken from the values of the other
half, so that both means are unbiased.  Controls come from `tpnum.gauss.dictionary`, the few that explain
what the earlier ones left, in `_ROUNDS` rounds; a part of the half is put aside and says after which
round, if any, to stop, so that a poor fit is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.gauss.dictionary import Controls, Dictionary, polynomials
from tpnum.gauss.directions import Batched, turned
from tpnum.gauss.estimate import NORMAL
from tpnum.gauss.points import normal_sample

_HALF = 1 << 12
"""Points of a half that coefficients are fitted on, and of a block afterwards."""
_LARGEST = 1 << 15
_ENTRIES = 256  # whose coefficients are held at a time
_FEWEST = 64
_ROUNDS = 3
_MOST = 320
_POINTS_EACH = 10  # at least so many points for a control
_ASIDE = 8  # one point in so many
_RIDGE = 1e-3
_PILOT = 16  # of the first two halves, on top


def control_variates(
    f_at: Batched,
    mean: np.ndarray,
    factor: np.ndarray,
    rtol: float,
    budget: int | None = None,
    seed: int = 0,
    atol: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(value, error, E|f|, evaluations) by Monte Carlo with controls, until ``rtol`` of E|f| or ``budget``.

    mean (count, d), factor (count, d, rank) with factor factor' = cov; value, error and size are
    (count, components).  The standard normal points are the same for all entries.  ``budget`` bounds the
    evaluations of f for an entry, up to a sixteenth on top for the pilot that turns the axes; an error of
    ``atol`` is enough.
    """
    most = _LARGEST if budget is None else max(1, budget // 2)
    parts = [
        _block(f_at, mean[i : i + _ENTRIES], factor[i : i + _ENTRIES], (rtol, atol), most, seed)
        for i in range(0, mean.shape[0], _ENTRIES)
    ]
    value, error, size, cost = zip(*parts, strict=True)
    return np.concatenate(value), np.concatenate(error), np.concatenate(size), sum(cost)


def _block(
    f_at: Batched, mean: np.ndarray, factor: np.ndarray, goal: tuple[float, float], most: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """`control_variates` for a few entries, up to ``most`` points in each half."""
    count, _, rank = factor.shape
    half = min(_HALF, most)
    factor = np.ascontiguousarray(factor)  # BLAS takes no reversed axes
    factor, cost, _ = turned(f_at, mean, factor, 2 * half // _PILOT, 2 * seed + 1)
    sums = _Sums(count)
    fits: list[tuple[_Fit, _Fit]] = []
    points = [normal_sample(rank, half, seed, side, 0) for side in (0, 1)]
    products = [polynomials(z) for z in points]
    work = np.empty((_MOST, half))
    for row in range(count):
        law = Dictionary(mean[row], factor[row])
        values = [f_at(mean[row : row + 1, :, None] + factor[row : row + 1] @ z)[0] for z in points]
        controls = [law.controls(z, p) for z, p in zip(points, products, strict=True)]
        both = _fit(law, controls[1], values[1], work), _fit(law, controls[0], values[0], work)
        fits.append(both)
        for side in (0, 1):
            sums.add(row, side, both[side].left(controls[side], values[side]), values[side])
    cost += 2 * half * count
    todo = sums.open(np.arange(count), half, *goal)
    done, part = half, 0
    while todo.size and done < most:
        part += 1
        size = min(half, most - done)
        for side in (0, 1):
            z = normal_sample(rank, half, seed, side, part)[:, :size]
            common = polynomials(z)
            for row in todo:
                made = f_at(mean[row : row + 1, :, None] + factor[row : row + 1] @ z)[0]
                fit = fits[row][side]
                sums.add(row, side, fit.left(fit.law.controls(z, common), made), made)
        done += size
        cost += 2 * size * todo.size
        todo = sums.open(todo, done, *goal)
    return sums.value, sums.error, sums.size, cost


class _Sums:
    """Means and errors from the residuals of the two halves, as they come."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.value = self.error = self.size = np.zeros((count, 0))

    def add(self, row: int, side: int, left: np.ndarray, values: np.ndarray) -> None:
        """Count residuals (k, n) of the values (k, n) of f."""
        if not self.value.shape[1]:
            k = left.shape[0]
            self.value, self.error, self.size = np.zeros((3, self.count, k))
            self.origin, self.first, self.second, self.absolute = np.zeros((4, self.count, 2, k))
            self.points = np.zeros((self.count, 2, 1))
        if not self.points[row, side]:
            self.origin[row, side] = left.mean(axis=1)
        left = left - self.origin[row, side][:, None]
        self.points[row, side] += left.shape[1]
        self.first[row, side] += left.sum(axis=1)
        self.second[row, side] += np.sum(left**2, axis=1)
        self.absolute[row, side] += np.abs(values).sum(axis=1)

    def open(self, rows: np.ndarray, points: int, rtol: float, atol: float) -> np.ndarray:
        """Update ``rows`` and return those whose error is above ``rtol`` of E|f| and ``atol``."""
        first, second = self.first[rows] / points, self.second[rows] / points
        spread = np.maximum(second - first**2, 0.0) / max(points - 1, 1)
        self.value[rows] = np.mean(self.origin[rows] + first, axis=1)
        self.size[rows] = np.mean(self.absolute[rows], axis=1) / points
        self.error[rows] = NORMAL * 0.5 * np.sqrt(spread.sum(axis=1)) + 1e-15 * self.size[rows]
        return rows[np.any(self.error[rows] > np.maximum(rtol * self.size[rows], atol), axis=1)]


@dataclass(frozen=True)
class _Fit:
    """A combination of the controls of a law for every component of f, and its mean."""

    law: Dictionary
    coefs: np.ndarray | None
    mean: np.ndarray

    def left(self, controls: Controls, values: np.ndarray) -> np.ndarray:
        """What the combination does not explain of values (k, n), of the same expectation."""
        if self.coefs is None:
            return values
        return values - (self.law.combine(controls, self.coefs) - self.mean[:, None])


def _fit(law: Dictionary, controls: Controls, values: np.ndarray, columns: np.ndarray) -> _Fit:
    """Choose controls and coefficients on the first seven eighths of the points, judged by the rest.

    The chosen ones are written into ``columns`` (_MOST, n).
    """
    k, n = values.shape
    train = n - n // _ASIDE
    most = min(_MOST, train // _POINTS_EACH)
    nothing = _Fit(law, None, np.zeros(k))
    if n < _FEWEST or law.starts[-1] == 0:
        return nothing
    shown = Controls(*(a[:, :train] for a in controls))
    scale = law.deviations(shown)
    centred = values - values[:, :train].mean(axis=1, keepdims=True)
    target, judge = centred[:, :train], centred[:, train:]
    size = np.sqrt(np.sum(target**2, axis=1, keepdims=True))
    if not np.any(size > 0):
        return nothing

    chosen = np.arange(min(controls.polynomials.shape[0], law.factor.shape[1], most))
    gram = np.empty((most, most))
    best = judge.var(axis=1)
    coefs = np.zeros((k, law.starts[-1]))
    found = 0
    for rounds in range(_ROUNDS + 1):
        new = chosen[found:]
        block = columns[found : chosen.size]
        law.columns(controls, new, block)
        block -= block[:, :train].mean(axis=1, keepdims=True)
        block /= scale[new, None]
        used = columns[: chosen.size]
        cross = block[:, :train] @ used[:, :train].T / train
        gram[found : chosen.size, : chosen.size] = cross
        gram[: chosen.size, found : chosen.size] = cross.T
        found = chosen.size
        ridged = gram[:found, :found] + _RIDGE * np.eye(found)
        beta = np.linalg.solve(ridged, used[:, :train] @ target.T / train).T
        left = target - beta @ used[:, :train]
        spread = (judge - beta @ used[:, train:]).var(axis=1)
        better = spread < best
        best = np.where(better, spread, best)
        coefs[better] = 0.0
        coefs[np.ix_(better, chosen)] = beta[better] / scale[chosen]
        room = (most - found) // max(_ROUNDS - rounds, 1)
        if rounds == _ROUNDS or room == 0:
            break
        left -= left.mean(axis=1, keepdims=True)
        weight = np.sum((law.correlate(shown, left / np.where(size > 0, size, 1.0)) / scale) ** 2, axis=0)
        weight[chosen] = -1.0
        top = np.argsort(-weight, kind="stable")[:room]
        chosen = np.concatenate([chosen, top[weight[top] > 0.0]])
        if chosen.size == found:
            break
    return _Fit(law, coefs, coefs @ law.means()) if np.any(coefs) else nothing
