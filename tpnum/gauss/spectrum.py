"""The error of a trapezoidal rule from the values that it has: frequencies below Nyquist's, and the rim.

The rule's error is the Fourier transform F of f times the density at twice Nyquist's frequency; the sums that
give F below it cost no evaluation of f.
"""

from __future__ import annotations

import numpy as np

PROBES = (0.5, 0.7, 0.9)
"""Parts of the Nyquist frequency at which F is looked at."""
SAFETY = 5.0
_SLOWER = 0.85


def continued(heights: np.ndarray) -> np.ndarray:
    """|F| at the first alias, twice Nyquist's frequency, from its heights (.., probes) at the probes.

    The exponential through two of them is continued, a little slower since some decay like exp(-sqrt k); by
    the last and by the middle probe, as F may have a zero at one of them.
    """
    made = np.zeros(heights.shape[:-1])
    for k in range(1, len(PROBES)):
        first, last = heights[..., 0], heights[..., k]
        decay = np.minimum(1.0, np.divide(last, first, out=np.ones_like(last), where=first > 0))
        further = (2.0 - PROBES[k]) / (PROBES[k] - PROBES[0])
        np.maximum(made, last * decay ** (_SLOWER * further), out=made)
    return made


def cut_off(outer: np.ndarray, inner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What lies beyond the ball of a rule, from E|f| in its last two shells, continued geometrically."""
    fall = np.divide(outer, inner, out=np.ones_like(outer), where=inner > 0)
    beyond = 2.0 * outer * fall / (1.0 - np.minimum(fall, 0.5))
    return np.where(fall < 0.5, beyond, np.where(outer > 0, size, 0.0))
