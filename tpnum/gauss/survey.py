"""A short look at a user's function before it is integrated: what every rule must know, decided in one place.

A rule sees its own points only; a window, a spike or a NaN between them goes unseen.  So a function of one
variable is looked at once, at about 90 000 points of u = mean + root z: 1e-4 standard deviations apart in the
bulk, farther towards the tails, and at many scales beside the declared kinks, around 0 and around the mean.
The `Survey` tells

* how large f is and where it is not zero (``largest``, ``support``, ``peaks``),
* where it is rough on the scale of the points: jumps and kinks, located by bisection (``jumps``, ``kinks``),
  and points through each narrow place, against which a table of f is held (``probes``),
* how well its values are known (``noise``: half and single precision, quantised functions),
* what a feature between the points could hide (``missed``, a part of E|f|).

Functions that do not work elementwise, are not real or are not finite on a stretch are refused by a
`FunctionError` (`tpnum.functions.checked`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from tpnum.errors import FunctionError
from tpnum.functions.checked import SAME, Value, check_elementwise, evaluate
from tpnum.gauss.narrow import located, narrow_places, noise_of, spike

SPACING = 9e-5
"""Of the points in the bulk, in standard deviations."""
REACH = 9.0

_PLACED = 1e-16  # the mass between a jump and where bisection in double precision put it
_GAP = 0.4 * SPACING  # the mass between two points of the bulk

_BULK = 4.0  # the points are even in s, z = s + (REACH - _BULK) (s/_BULK)^13
_POWER = 13
_EXACT = 1e-13  # noise above is no rounding of double precision
_SINGLE, _HIDES = 1e-6, 2e-7  # noise up to which slopes are read off single-precision and other values
_EACH = 48  # points kept of each
_COARSE = 64  # every so many-th point is kept as a probe everywhere
_TESTED = 97  # points on which f is called again, shuffled
_NEAR = 10.0 ** -np.arange(1.0, 16.0)


@dataclass(frozen=True)
class Survey:
    """What was found of f over u = mean + root z, |z| <= REACH."""

    mean: float
    root: float
    largest: float  # the largest |f| seen
    scale: float  # the largest |f| e^{-z^2/4}: what second moments see
    support: tuple[float, float] | None  # the outermost points at which f is not zero
    kinks: np.ndarray  # declared ones and those found, jumps included
    jumps: np.ndarray  # those at which f itself jumps
    peaks: np.ndarray  # up to PLACES points: the largest |f| of each narrow place
    probes: tuple[np.ndarray, np.ndarray]  # (u, f(u)), sorted: thinned everywhere, and each narrow place
    narrowest: float  # the width in u of the narrowest place, infinite where there is none
    crowded: bool  # more narrow places than are looked at one by one
    noise: float  # the root mean square of the noise of values, relative to ``scale``
    stepped: bool  # whether the noise hides f', or values are quantised: multiples of a power of ten
    missed: float  # a bound of what a feature between the points adds to E|f|
    cost: int  # evaluations
    least: float  # the root of the narrowest law, where it is of several
    sample: tuple[np.ndarray, np.ndarray]  # some points and values: the function is the same if these are

    def covers(self, mean: np.ndarray, root: np.ndarray) -> bool:
        """Whether it serves these laws, nearly the same ones or some of them."""
        inside = root.max() <= 1.2 * self.root and root.min() >= 0.8 * self.least
        return bool(inside and np.max(np.abs(mean - self.mean) + 8.0 * root) <= 1.2 * REACH * self.root)

    @property
    def smooth(self) -> bool:
        """Whether nothing narrow, no kink and no noise above rounding was seen."""
        return not (self.kinks.size or np.isfinite(self.narrowest) or self.crowded or self.noise > _EXACT)


# the points ----------------------------------------------------------------------------------------------


@cache
def _grid() -> tuple[np.ndarray, np.ndarray, int]:
    """z of the points, e^{-z^2/4} of the inner ones (two fewer at each end), how many there are."""
    count = 2 * int(round(_BULK / SPACING))
    s = SPACING * (np.arange(count) - 0.5 * (count - 1))  # 0 is not among them
    z = s + (REACH - _BULK) * (s / _BULK) ** _POWER
    return z, np.exp(-0.25 * z * z), count


def survey(
    f: Value, mean: float = 0.0, root: float = 1.0, kinks: Sequence[float] = (), name: object = "f"
) -> Survey:
    """The `Survey` of f over N(mean, root^2), made now; `kept_survey` remembers it with the function."""
    z, weight, count = _grid()
    u = mean + root * z
    declared = np.unique(np.asarray(kinks, dtype=float))
    seen = evaluate(f, u, name=name)
    rounded = _single(seen)
    cost = count
    special = _special(mean, root, declared)
    beside = evaluate(f, special, name=name)
    cost += special.size
    tested = np.linspace(0.0, 1.0, _TESTED) ** 1.5 * 6.0 - 2.5
    check_elementwise(f, mean + root * tested, name=name)
    cost += 2 * _TESTED
    seen = _finite(f, u, seen, name)
    kept = np.isfinite(beside)
    special, beside = special[kept], beside[kept]
    largest = max(float(seen.max()), -float(seen.min()), float(np.abs(beside).max(initial=0.0)))
    near = np.abs((special - mean) / root) <= REACH
    weighed = np.abs(beside[near]) * np.exp(-0.25 * ((special[near] - mean) / root) ** 2)
    size = np.abs(seen) * weight
    scale = max(float(size.max()), float(weighed.max(initial=0.0)))
    if scale == 0.0:
        return _nothing(mean, root, declared, largest, (u[::_COARSE], seen[::_COARSE]), cost)
    noise, extra = noise_of(f, mean, root, seen, scale, name)
    cost += extra
    quantised = noise > _EXACT and _decimal(seen)
    stepped = quantised or noise > (_SINGLE if rounded else _HIDES)
    places, crowded = narrow_places(seen, weight, scale, noise)
    found, jump, more = located(f, u, seen, places, scale, noise, declared, name)
    cost += more
    at = np.arange(0, count, _COARSE)
    peaks = np.array([a + int(np.argmax(np.abs(seen[a:b]))) for a, b in places], dtype=np.intp)
    inside = [np.arange(a, b, max(1, (b - a) // _EACH)) for a, b in places]
    at = np.unique(np.concatenate([at, peaks, *inside])) if len(places) else at
    points = np.concatenate([u[at], special])
    heights = np.concatenate([seen[at], beside])
    order = np.argsort(points, kind="stable")
    widths = [float(u[min(b, count - 1)] - u[a]) for a, b in places]
    nonzero = points[order][heights[order] != 0.0]
    spikes = max((spike(seen[max(a - 2, 0) : b + 2]) for a, b in places), default=0.0)
    missed = _GAP * (spikes if np.any(seen != seen[0]) else largest)  # a constant shows nothing of itself
    missed += largest * _PLACED * float(np.sum(1.0 + np.abs(jump - mean) / root))
    return Survey(
        mean, root, largest, scale,
        (float(nonzero[0]), float(nonzero[-1])) if nonzero.size else None,
        np.union1d(declared, found), jump, u[peaks], (points[order], heights[order]),
        min(widths, default=np.inf), crowded, noise, stepped, missed, cost, root,
        (u[:: count // 61], seen[:: count // 61]),
    )  # fmt: skip


def _nothing(
    mean: float,
    root: float,
    kinks: np.ndarray,
    largest: float,
    probes: tuple[np.ndarray, np.ndarray],
    cost: int,
) -> Survey:
    """Of a function that is zero wherever it was looked at: of what it is elsewhere, nothing is known."""
    none = np.empty(0)
    step = max(1, probes[0].size // 61)
    return Survey(
        mean, root, largest, 0.0, None, kinks, none, none, probes, np.inf, False, 0.0, False,
        _GAP * max(largest, 1.0), cost, root, (probes[0][::step], probes[1][::step]),
    )  # fmt: skip


def _special(mean: float, root: float, kinks: np.ndarray) -> np.ndarray:
    """Points beside and between the kinks, and around 0 and the mean at many scales."""
    near = np.concatenate([-_NEAR, _NEAR[::-1]])
    made = [mean + root * near, root * near if mean else np.empty(0)]
    for k in kinks[:256]:
        size = max(abs(k), root)
        made.append(k + size * near[np.abs(near) > 1e-13])
    made.append(0.5 * (kinks[1:] + kinks[:-1]))
    return np.unique(np.concatenate(made))


def _decimal(values: np.ndarray) -> bool:
    """Whether all values are multiples of 10^-k, k <= 12."""
    some = values[:: max(1, values.size // 509)]
    for digits in range(13):
        scaled = some * 10.0**digits
        if np.all(np.abs(scaled - np.rint(scaled)) <= 1e-6 + 4e-16 * np.abs(scaled)):
            return True
    return False


def _single(values: np.ndarray) -> bool:
    some = values[:: max(1, values.size // 509)]
    with np.errstate(all="ignore"):
        return bool(np.all((some == some.astype(np.float32)) | ~np.isfinite(some))) and bool(
            np.any(some != np.round(some, 3))
        )


def _finite(f: Value, u: np.ndarray, seen: np.ndarray, name: object) -> np.ndarray:
    """The values, those of single points at which f is not finite from beside them; refuses stretches."""
    lost = ~np.isfinite(seen)
    if not np.any(lost):
        return seen
    at = np.flatnonzero(lost)
    step = 1e-3 * (u[1] - u[0]) * SPACING
    beside = evaluate(f, np.concatenate([u[at] - step, u[at] + step]), name=name).reshape(2, -1)
    wrong = ~np.all(np.isfinite(beside), axis=0)
    if np.any(wrong):
        k = at[wrong][np.argmin(np.abs(u[at[wrong]] - 0.5 * (u[0] + u[-1])))]
        what = "undefined (NaN)" if np.isnan(seen[k]) else "infinite"
        raise FunctionError(
            f"{name} is {what} at u = {u[k]:.6g}, within reach of mean {0.5 * (u[0] + u[-1]):.6g} and "
            f"variance {(0.5 * (u[-1] - u[0]) / REACH) ** 2:.6g}: its expectation overflows or does not exist"
        )
    made = seen.copy()
    made[at] = beside.mean(axis=0)
    return made


# of many laws ----------------------------------------------------------------------------------------------


def over_laws(
    owner: Any, f: Value, mean: np.ndarray, root: np.ndarray, kinks: Sequence[float] = (), name: object = "f"
) -> Survey:
    """What is found of f over many laws: the surveys of a few scales, the widest law first."""
    centre, spread = 0.5 * (mean.min() + mean.max()), 0.5 * (mean.max() - mean.min())
    widest, least = (float(r + spread / 3.0) for r in (root.max(), root.min()))
    count = 1 if widest <= _ALIKE * least else 2 + int(np.log(widest / least) / np.log(_LADDER) - 1e-9)
    made = [
        kept_survey(owner, f, float(centre), float(scale), kinks, name)
        for scale in np.geomspace(widest, least, min(count, _SCALES))
    ]
    if least > _OWN:
        made.append(kept_survey(owner, f, 0.0, 1.0, kinks, name))
    return made[0] if len(made) == 1 else _together(made)


def _together(made: list[Survey]) -> Survey:
    """One survey of several: whatever any of them found."""
    points, heights = (np.concatenate([s.probes[k] for s in made]) for k in (0, 1))
    order = np.unique(points, return_index=True)[1]
    return replace(
        made[0],
        largest=max(s.largest for s in made),
        scale=min((s.scale for s in made if s.scale > 0), default=0.0),
        support=made[0].support or next((s.support for s in made if s.support), None),
        kinks=_union([s.kinks for s in made]), jumps=_union([s.jumps for s in made]),
        peaks=_union([s.peaks for s in made]), probes=(points[order], heights[order]),
        narrowest=min(s.narrowest for s in made), crowded=any(s.crowded for s in made),
        noise=max(s.noise for s in made), stepped=any(s.stepped for s in made),
        missed=max(s.missed for s in made), cost=sum(s.cost for s in made), least=made[-1].root,
    )  # fmt: skip


def _union(parts: list[np.ndarray]) -> np.ndarray:
    """Distinct points, those within rounding of one another taken for one."""
    points = np.unique(np.concatenate(parts))
    apart = np.diff(points, prepend=-np.inf) > 1e-12 * np.abs(points)
    return points[apart]


# kept with the function -----------------------------------------------------------------------------------

_KEPT: weakref.WeakKeyDictionary[Any, list[Survey]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()
_MOST = 8  # surveys kept of one function
_ALIKE = 2.0  # the ratio of scales up to which one look serves
_LADDER = 4.0  # the ratio of the scales at which a function of many laws is looked at
_SCALES = 4
_OWN = 10.0  # laws wider than this see little of the scale 1, at which functions are written


def kept_survey(
    owner: Any, f: Value, mean: float, root: float, kinks: Sequence[float] = (), name: object = "f"
) -> Survey:
    """The survey of f that is kept with ``owner`` (weakly), made if there is none for such a law.

    One for nearly the same law serves; a few values tell whether the function is still the same.
    """
    try:
        with _LOCK:
            known = list(_KEPT.get(owner, ()))
    except TypeError:  # neither hashable nor weakly referable
        return survey(f, mean, root, kinks, name)
    for one in known:
        near = abs(one.mean - mean) <= 0.1 * root and 0.9 * root <= one.root <= 1.2 * root
        if near and np.all(np.isin(kinks, one.kinks)):
            again = evaluate(f, one.sample[0], name=name)
            with np.errstate(all="ignore"):
                if np.all(np.abs(again - one.sample[1]) <= SAME * one.largest):
                    return one
    made = survey(f, mean, root, kinks, name)
    try:
        with _LOCK:
            _KEPT[owner] = [made, *(one for one in _KEPT.get(owner, ()) if one is not made)][:_MOST]
    except TypeError:
        pass
    return made
