"""Two correlated Gaussians x and y by polar angle, between the lines where one of them is zero.

Over the sector of width omega, tau from the line x = 0 and w the squared radius,

    1/(2 pi) int_0^omega dtau int_0^inf F(x, y) e^{-w/2} dw,   x^2 = w sin^2 tau,  y^2 = w sin^2(omega - tau).

Both integrals go over logarithms, of tau/(omega - tau) and of w, by the trapezoidal rule: whatever scales F
has beside the lines, nothing is singular within pi/2 of the path, so that one step fits all.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, kernel, maker, reduction

STEP, END, _LARGEST = 0.2, 34.0, 4.6
"""Of the logarithms; e^-END of the integral is left out, and e^{-w/2} from w = e^4.6 on."""


@kernel
def _radii(low, w, share):
    """Squared radii from e^low on, and their steps times e^{-w/2}/2; how many there are."""
    count = min(int((_LARGEST - low) / STEP), w.shape[0])
    for k in range(count):
        w[k] = math.exp(low + k * STEP)
        share[k] = 0.5 * STEP * w[k] * math.exp(-0.5 * w[k])
    return count


@reduction
def _normalised(count, w, share, x, y, a, b):
    total = 0.0
    for k in range(count):
        total += share[k] * w[k] / math.sqrt((w[k] * x + a) * (w[k] * y + b))
    return total * math.sqrt(x * y)


@reduction
def _slopes(count, w, share, x, y, a, b):
    total = 0.0
    for k in range(count):
        q = (w[k] * x + a) * (w[k] * y + b)
        total += share[k] / (q * math.sqrt(q))
    return total * a * b


@helper
def _squared_sine(width, other, part, rest):
    """sin^2 of this part of the width, exact where small: beyond a right angle by what is left to pi."""
    angle = width * part
    return math.sin(other + width * rest if angle > 0.5 * math.pi else angle) ** 2


@maker
def sectors(widths, others, a, b, slope, out):
    """Fill out with integrals of |x y|/sqrt((x^2 + a)(y^2 + b)), or of a b/((x^2 + a)(y^2 + b))^{3/2}.

    ``others`` are pi - widths.
    """
    w, share = np.empty(8192), np.empty(8192)
    for n in range(widths.shape[0]):
        one, two = max(a[n], 1.0), max(b[n], 1.0)
        low = min(0.0, math.log(min(a[n], b[n]))) if slope else 0.0
        count, most = _radii(low - END, w, share), int((END - 0.5 * low) / STEP)
        total = 0.0
        for k in range(-most, most + 1):
            part, rest = 1.0 / (1.0 + math.exp(-k * STEP)), 1.0 / (1.0 + math.exp(k * STEP))
            x = _squared_sine(widths[n], others[n], part, rest) / one
            y = _squared_sine(widths[n], others[n], rest, part) / two
            if slope:
                inner = _slopes(count, w, share, x, y, a[n] / one, b[n] / two)
            else:
                inner = _normalised(count, w, share, x, y, a[n] / one, b[n] / two)
            total += STEP * widths[n] * part * rest * inner
        out[n] = total / (math.pi * math.sqrt(one * two) if slope else math.pi)
