"""The error of a trapezoidal rule from the values that it has: frequencies below Nyquist's, and the rim.

The rule's error is the Fourier transform F of f times the density at twice Nyquist's frequency; the sums that
give F below it cost no evaluation of f.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

PROBES = (0.5, 0.7, 0.9)
"""Parts of the Nyquist frequency at which F is looked at."""
SAFETY = 5.0
_SLOWER = 0.85


def continued(heights: np.ndarray) -> np.ndarray:
    """|F| at the first alias, twice Nyquist's frequency, from its heights (.., probes) at the probes.

    The exponential through two of them is continued, a little slower since some decay like exp(-sqrt k) or a
    power; the worst of all pairs, as F may have a zero at one of them and a slow tail may show at the last.
    """
    made = np.zeros(heights.shape[:-1])
    for i, j in combinations(range(len(PROBES)), 2):
        first, last = heights[..., i], heights[..., j]
        decay = np.minimum(1.0, np.divide(last, first, out=np.ones_like(last), where=first > 0))
        further = (2.0 - PROBES[j]) / (PROBES[j] - PROBES[i])
        np.maximum(made, last * decay ** (_SLOWER * further), out=made)
    return made


def rounding(points: float) -> float:
    """The rounding error of a sum of so many values, relative to the sum of their sizes."""
    return 2e-14 + 1.5e-16 * float(np.sqrt(points))


def cut_off(outer: np.ndarray, inner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What lies beyond the ball of a rule, from E|f| in its last two shells, continued geometrically."""
    fall = np.divide(outer, inner, out=np.ones_like(outer), where=inner > 0)
    beyond = 2.0 * outer * fall / (1.0 - np.minimum(fall, 0.5))
    return np.where(fall < 0.5, beyond, np.where(outer > 0, size, 0.0))
