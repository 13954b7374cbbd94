"""Pairs of maxima by sampling, with one direction integrated exactly.

Along that direction every coordinate is a line in t ~ N(0, 1); a maximum of lines is their upper
envelope, so the product of two is a quadratic between the break points and the argmax is constant.
"""

from __future__ import annotations

import numpy as np

from tpnum.kernels._jit import helper, maker
from tpnum.kernels.normal import cdf, density

_END = 40.0
_BLOCK = 64


@helper
def _envelope(order, height, slope, line, start):
    """The upper envelope of height + slope t, slopes ascending along ``order``: lines and where they begin.

    Returns how many lines it has; equal slopes: the higher line, then the earlier one.
    """
    count = 0
    for k in range(order.shape[0]):
        i = order[k]
        at = -_END
        keep = True
        while count > 0:
            top = line[count - 1]
            steeper = slope[i] - slope[top]
            ahead = height[top] - height[i]
            if steeper <= 0.0:
                if ahead >= 0.0:
                    keep = False
                    break
                at = -_END
            else:
                at = ahead / steeper if abs(ahead) < _END * steeper else (_END if ahead > 0.0 else -_END)
            if at <= start[count - 1] or steeper <= 0.0:
                count -= 1
                at = -_END
            else:
                break
        if keep and at < _END:
            line[count], start[count] = i, at
            count += 1
    return count


@helper
def _integrate(high, slope, first, lines, starts, counts, out):
    """Add E[max_i max_j] to out[0] and P(argmax = (i, j)) to out[1 + ...] over t."""
    second = high.shape[0] - first
    i, j = 0, 0
    low, p_low, f_low = -_END, 0.0, 0.0
    while True:
        next_i = starts[0, i + 1] if i + 1 < counts[0] else _END
        next_j = starts[1, j + 1] if j + 1 < counts[1] else _END
        end = min(next_i, next_j)
        p_end = 1.0 if end >= _END else cdf(end)
        f_end = 0.0 if end >= _END else density(end)
        a, b = lines[0, i], lines[1, j]
        mass = p_end - p_low
        moved = low * f_low - end * f_end if end < _END else low * f_low
        out[0] += high[a] * high[b] * mass + (high[a] * slope[b] + high[b] * slope[a]) * (f_low - f_end)
        out[0] += slope[a] * slope[b] * (mass + moved)
        out[1 + a * second + b - first] += mass
        if end >= _END:
            return
        if next_i <= end:
            i += 1
        if next_j <= end:
            j += 1
        low, p_low, f_low = end, p_end, f_end


@maker
def max_pairs(mean, factor, order, first, z, out):
    """Sums over the points z (sets, rank - 1, points) for u = mean + factor (t, z), problem by problem.

    ``factor`` is (n, d, rank), its first column the direction that is integrated; ``order`` (n, d) sorts
    each window by that column.  out (n, sets, 1 + first (d - first)): E[max u max v], then the
    probabilities of the argmax pairs.
    """
    d, rank = factor.shape[1], factor.shape[2]
    high, slope, part = np.empty((_BLOCK, d)), np.empty(d), np.empty(out.shape[2])
    lines, starts = np.empty((2, d), np.int64), np.empty((2, d))
    counts = np.empty(2, np.int64)
    points = z.shape[2]
    for n in range(mean.shape[0]):
        for i in range(d):
            slope[i] = factor[n, i, 0]
        for s in range(z.shape[0]):
            part[:] = 0.0
            for begin in range(0, points, _BLOCK):
                size = min(_BLOCK, points - begin)
                for p in range(size):
                    for i in range(d):
                        high[p, i] = mean[n, i]
                for k in range(1, rank):
                    for p in range(size):
                        at = z[s, k - 1, begin + p]
                        for i in range(d):
                            high[p, i] += factor[n, i, k] * at
                for p in range(size):
                    counts[0] = _envelope(order[n, :first], high[p], slope, lines[0], starts[0])
                    counts[1] = _envelope(order[n, first:], high[p], slope, lines[1], starts[1])
                    _integrate(high[p], slope, first, lines, starts, counts, part)
            for k in range(out.shape[2]):
                out[n, s, k] = part[k]
