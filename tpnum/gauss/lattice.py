"""The trapezoidal rule for E f(Z) in up to three dimensions: a lattice under the Gaussian density.

With Z = mean + L z and points z on the lattice h Z^r, the rule's error is the Fourier transform of f times
the density, F(k) = E f e^{ik.z}, summed over the other points of the dual lattice, |k| >= 2 pi/h.  It is
exponentially small in 1/h wherever f is analytic, poles near the real axis included (where Gauss-Hermite
rules are slow), and below rounding at h = 0.75 for polynomials.  The same values give F at smaller k.  Its
decay up to the Nyquist frequency pi/h, continued to 2 pi/h, is the error estimate: no second rule is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from tpnum.gauss.adaptive import PANEL
from tpnum.gauss.between import stepped_over
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.plane import on_one_grid
from tpnum.gauss.scout import Scout
from tpnum.gauss.spectrum import PROBES, SAFETY, continued, cut_off, rounding

Settled = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""(value (n, k), error (n, k), E|f| (n, k), evaluations of f)."""

_STEPS = tuple(0.84**k for k in range(40))
_MOST = {1: 1 << 14, 2: 1 << 16, 3: 1 << 18}
"""Points of the largest lattice, by rank."""
_BALL = {1: 1.0, 2: 0.79, 3: 0.53}  # the part of a cube that its ball fills
_FEATURE = 1.6
"""Steps to half the shortest panel that lines through f need: waves of such panels are not stepped over."""
_WIDER = (1.0, 1.4, 2.0, 2.8, 4.0)
_ROUGH = 0.2
"""A decay above this from low to high frequencies is none that a few finer lattices would end."""
_PATIENCE = 6  # steps before a rough function is given up
_BLOCK = 1 << 15  # values of f held at a time: they stay in the cache
_PILOTS = 16
_CHECKED = 8  # of those, in which scattered points look for what a lattice has stepped over
_FAINT = 0.02
"""A kink too faint to be seen so far may have an error of this part of the last height of a spectrum."""
_DOUBT = {1: 4e-12, 2: 5e-9, 3: 1e-8}
"""What features far out may add, by rank, relative to E|f|, whatever the spectrum says."""
_SURE = {1: 1e-13, 2: 1e-10, 3: 1e-6}
"""What is asked, by rank, of an entry or a few: digits cost next to nothing there."""


@dataclass(frozen=True)
class Lattice:
    """Points (r, P), their normalised weights (P,), and columns (P, c) that probe frequencies.

    The first column is the weight; then cosines and sines at the probes of each direction.  ``rims``
    (P, 3) are the weights, those of the outermost and of the last but one shell.
    """

    points: np.ndarray
    columns: np.ndarray
    rims: np.ndarray


@lru_cache(maxsize=64)
def lattice(rank: int, step: float, radius: float) -> Lattice:
    """The points of step Z^rank within a ball."""
    count = int(radius / step)
    axis = step * np.arange(-count, count + 1)
    z = np.stack([a.ravel() for a in np.meshgrid(*[axis] * rank, indexing="ij")])
    norm = np.sqrt(np.sum(z * z, axis=0))
    z, norm = np.ascontiguousarray(z[:, norm <= radius]), norm[norm <= radius]
    weight = np.exp(-0.5 * norm * norm)
    weight /= weight.sum()
    columns = [weight]
    for direction in product((-1, 0, 1), repeat=rank):
        if next((x for x in direction if x), 0) == 1:  # one of each pair of opposites
            phase = np.pi / step * (np.array(direction) @ z)
            columns += [weight * g(s * phase) for s in PROBES for g in (np.cos, np.sin)]
    rims = np.stack([weight, weight * (norm > radius - 1), weight * (np.abs(norm - radius + 1.5) < 0.5)])
    made = Lattice(z, np.ascontiguousarray(np.array(columns).T), np.ascontiguousarray(rims.T))
    for array in (made.points, made.columns, made.rims):
        array.setflags(write=False)
    return made


def trapezoidal(f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float, scout: Scout) -> Settled:
    """E f at mean (n, d) and factor (n, d, r), r <= 3; the error is infinite or large where f is rough.

    Some entries of a large batch are settled first, beyond ``rtol``; they tell which lattice the others need.
    The ``scout`` is told what each has spent.
    """
    count, rank = factor.shape[0], factor.shape[2]
    run = _Run(f_at, mean, factor, min(rtol, _SURE[rank]), _FAINT, scout)
    pilots = np.unique(np.linspace(0, count - 1, _PILOTS).astype(int))
    level = run.settle(pilots, run.scout(pilots))
    wrong = rank == 2 and run.check(pilots[:: -(-pilots.size // _CHECKED)], rtol)
    if wrong:
        run.check(pilots, rtol)
    if pilots.size < count:
        run.ask(rtol if rank > 1 else run.rtol, 0.0)
        rest = np.setdiff1d(np.arange(count), pilots)
        if np.any(run.error[pilots] > rtol * run.size[pilots]):
            run.settle(rest, run.scout(rest))
        else:
            rest = run.share(pilots, rest)
            if rest.size:
                run.settle(rest, np.full(rest.size, run.coarsest(pilots, level)))
        if wrong:
            run.check(rest, rtol)
    error = np.maximum(run.error, min(_DOUBT[rank], 0.1 * rtol) * run.size)
    scout.spent = run.spent + scout.cost / count
    return run.value, error, run.size, int(round(scout.spent.sum()))


class _Run:
    """The state of a batch: every entry's best answer so far."""

    def __init__(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float, faint: float, scout: Scout
    ) -> None:
        self.f_at, self.mean, self.factor, self.look = f_at, mean, factor, scout
        self.value = self.size = self.error = np.empty((0, 0))
        self.spent = np.zeros(mean.shape[0])
        self.used = np.zeros((mean.shape[0], 2))
        """The step and the radius of the last lattice of each."""
        self.ask(rtol, faint)

    def ask(self, rtol: float, faint: float) -> None:
        """Set the tolerance, and the part of the last height of a spectrum that must be below it too."""
        self.rtol, self.faint = rtol, faint
        self.radius = float(np.sqrt(-2.0 * np.log(min(0.01 * rtol, 1e-4)))) + 0.5

    def scout(self, rows: np.ndarray) -> np.ndarray:
        """The first level fine enough for what lines through each law show; beyond the last for kinks."""
        self.look.look(rows)
        return np.searchsorted(-np.array(_STEPS), -np.minimum(self.look.half[rows], PANEL) / _FEATURE)

    def share(self, pilots: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Settle ``rest`` on one grid, if it agrees with what was found for the pilots; which are left."""
        if self.factor.shape[1:] != (2, 2) or not np.all(self.factor[:, [0, 1], [0, 1]]):
            return rest
        rows = np.concatenate([pilots, rest])
        value, error, size, cost = on_one_grid(
            self.f_at, self.mean[rows], self.factor[rows], self.rtol, pilots.size
        )
        self.spent[rows] += cost / rows.size
        done = np.all(np.isfinite(error), axis=1)
        wrong = np.abs(value[: pilots.size] - self.value[pilots]) > self.rtol * self.size[pilots]
        if np.any(wrong[done[: pilots.size]]):
            return rest
        done[: pilots.size] = False
        kept = rows[done]
        self.value[kept], self.error[kept], self.size[kept] = value[done], error[done], size[done]
        return rest[np.any(self.error[rest] > self.rtol * self.size[rest], axis=1)]

    def coarsest(self, rows: np.ndarray, level: np.ndarray) -> int:
        """The coarsest level for entries like ``rows``: from it on lattices agree with what was settled."""
        value, size = self.value[rows].copy(), self.size[rows]
        enough = np.zeros(rows.size, dtype=int)
        for s in range(int(level.max())):
            found, _ = self.sums(rows, lattice(self.factor.shape[2], _STEPS[s], self.radius))
            agree = np.all(np.abs(found[..., 0] - value) <= 0.5 * self.rtol * size, axis=1)
            enough = np.where(agree, enough, s + 1)
        return int(np.percentile(np.minimum(enough, level), 75))

    def fits(self, level: int, radius: float) -> bool:
        """Whether there is such a level and its lattice has no more points than are worth it."""
        rank = self.factor.shape[2]
        most = min(_MOST[rank], self.look.goal.spend(4 * _MOST[rank]) // 4)
        return level < len(_STEPS) and (2.0 * radius / _STEPS[level]) ** rank * _BALL[rank] <= most

    def usual(self) -> Lattice:
        """The finest lattice, up to a certain one, that may be paid for."""
        level = next((s for s in range(_PATIENCE, 0, -1) if self.fits(s, self.radius)), 0)
        return lattice(self.factor.shape[2], _STEPS[level], self.radius)

    def settle(self, rows: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Finer or wider lattices until the tolerance is met or f turns out rough; the level of each row."""
        if not self.value.size:
            self.reserve()
        rank = self.factor.shape[2]
        step = start.copy()
        levels, which = np.unique(step, return_inverse=True)
        rough = rows[~np.array([self.fits(int(s), self.radius) for s in levels])[which]]
        self.evaluate(rough, self.usual())  # for E|f|
        self.error[rough] = np.inf
        wide = np.zeros(rows.size, dtype=int)
        todo = np.arange(rows.size)
        while todo.size:
            keys, group = np.unique(np.stack([step[todo], wide[todo]]), axis=1, return_inverse=True)
            left = []
            for g, (s, w) in enumerate(keys.T):
                which = todo[group.reshape(-1) == g]
                radius = self.radius * _WIDER[w]
                if not self.fits(s, radius):
                    continue
                aliased, cut, rough = self.evaluate(rows[which], lattice(rank, _STEPS[s], radius))
                self.used[rows[which]] = _STEPS[s], radius
                goal = 0.5 * self.rtol
                finer = (aliased > goal) & ~(rough & (s >= _PATIENCE))
                wider = (cut > goal) & (w + 1 < len(_WIDER))
                more = np.where(cut > goal, wider, finer)
                more &= (aliased > goal) | (cut > goal)
                step[which] += more & finer & ~wider
                wide[which] += more & wider
                left.append(which[more])
            todo = np.concatenate(left) if left else np.empty(0, dtype=int)
        return step

    def check(self, rows: np.ndarray, rtol: float) -> bool:
        """Give up what was settled of laws of which scattered points show more than the lattice has seen."""
        wrong = False
        for i in rows[np.all(self.error[rows] <= rtol * self.size[rows], axis=1)]:
            allowed = float(np.min(self.look.goal.allowed(self.size[i])))
            step, radius = self.used[i]
            hits, cost = stepped_over(self.f_at, self.mean[i], self.factor[i], step, radius, allowed)
            self.spent[i] += cost
            if hits.size:
                self.error[i], wrong = np.inf, True
                self.look.met(int(i), hits)
        return wrong

    def reserve(self) -> None:
        """Room for the answers, once the number of components is known."""
        shape = (self.mean.shape[0], self.f_at.components or 1)
        self.value, self.size, self.error = np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)

    def sums(self, rows: np.ndarray, rule: Lattice) -> tuple[np.ndarray, np.ndarray]:
        """Sums of f with a rule's columns and of |f| with its rims, (rows, components, columns)."""
        points = rule.points.shape[1]
        chunk = max(1, _BLOCK // points)
        found: list[tuple[np.ndarray, ...]] = []
        for begin in range(0, rows.size, chunk):
            part = rows[begin : begin + chunk]
            columns = [
                self.mean[part, k, None] + self.factor[part, k] @ rule.points
                for k in range(self.mean.shape[1])
            ]
            made = self.f_at.columns(columns)
            flat = made.reshape(-1, points)  # one matrix product, not one per entry
            spectrum = flat @ rule.columns
            rims = np.abs(flat) @ rule.rims
            found.append(tuple(a.reshape(*made.shape[:2], -1) for a in (spectrum, rims)))
        self.spent[rows] += points
        spectrum, rims = (np.concatenate(a) for a in zip(*found, strict=True))
        return spectrum, rims

    def evaluate(self, rows: np.ndarray, rule: Lattice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Relative errors of the step and of the radius, and whether f looks rough, per row."""
        if not rows.size:
            return np.empty(0), np.empty(0), np.empty(0, dtype=bool)
        spectrum, rims = self.sums(rows, rule)
        value, size = spectrum[..., 0], rims[..., 0]
        unit = np.where((size > 0) & np.isfinite(size), size, 1.0)
        waves = (spectrum[..., 1:] / unit[..., None]).reshape(*value.shape, -1, len(PROBES), 2)
        heights = unit[..., None] * np.sqrt(np.sum(waves * waves, axis=(-1, -3)))
        aliased = SAFETY * continued(heights)
        cut = cut_off(rims[..., 1], rims[..., 2], size)
        error = aliased + cut + rounding(rule.points.shape[1]) * size
        lost = ~np.isfinite(value) | ~np.isfinite(size) | (size == 0.0)
        error[lost] = np.inf
        # a finer lattice is believed also where it is less sure of itself
        for kept, new in ((self.value, value), (self.size, size), (self.error, error)):
            kept[rows] = np.where(lost, kept[rows], new)
        slow = (heights[..., -1] > _ROUGH * heights[..., 0]) & (heights[..., -1] > 1e-13 * unit)
        rough = np.any(slow, axis=1) | np.any(lost, axis=1)
        doubt = np.maximum(aliased, self.faint * heights[..., -1])
        return np.max(doubt / unit, axis=1), np.max(np.where(lost, 0, cut / unit), axis=1), rough
