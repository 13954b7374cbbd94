"""Second moments of phi(u) = a u + b |u| over blocks of Gaussian pairs: the integrands of batchnorm."""

from __future__ import annotations

import math

from tpnum.kernels._elementary import angle_of
from tpnum.kernels._jit import kernel

_QUARTER = 0.5 * math.pi
_TINY = 1e-150
"""Beside deviations, whose inverses stay finite."""


@kernel
def _deviations(q, up, down):
    for j in range(q.shape[0]):
        up[j] = math.sqrt(q[j])
        down[j] = 1.0 / (up[j] + _TINY)


@kernel
def _row(c, q1, up, down, odd, even, v, w, root):
    deviation = math.sqrt(q1)
    inverse = 1.0 / (deviation + _TINY)
    for j in range(c.shape[0]):
        cosine = min(1.0, abs(c[j]) * inverse * down[j])
        sine = math.sqrt((1.0 - cosine) * (1.0 + cosine))
        angle = _QUARTER - angle_of(sine, cosine)
        arc = angle if c[j] >= 0.0 else -angle
        root[j] = deviation * up[j] * sine
        v[j] = odd * c[j] + even * (root[j] + c[j] * arc)
        w[j] = odd + even * arc


@kernel
def add_moments(c, q1, q2, weight, odd, even, scratch, out):
    """Add weight E phi(u_i) phi(v_j) to out; covariances c (n, rows, columns), variances q1 and q2.

    Of as many as there are more than in ``out`` (m, rows, columns), so many are added to each of its
    matrices in turn.  ``odd`` = a^2, ``even`` = 2 b^2/pi; scratch (5, columns).
    """
    v, w, root = scratch[0], scratch[1], scratch[2]
    up, down = scratch[3], scratch[4]
    each = c.shape[0] // max(out.shape[0], 1)
    for n in range(c.shape[0]):
        _deviations(q2[n], up, down)
        for i in range(c.shape[1]):
            _row(c[n, i], q1[n, i], up, down, odd, even, v, w, root)
            line = out[n // each, i]
            for j in range(line.shape[0]):
                line[j] += weight[n] * v[j]


@kernel
def pair_moments(c, q1, q2, odd, even, scratch, v, w, root):
    """Fill E phi phi', E phi' phi' (almost everywhere) and sqrt(q1 q2 - c^2), arrays (n, rows, columns)."""
    up, down = scratch[3], scratch[4]
    for n in range(c.shape[0]):
        _deviations(q2[n], up, down)
        for i in range(c.shape[1]):
            _row(
                c[n, i], q1[n, i], up, down, odd, even,
                v[n, i], w[n, i], root[n, i],
            )  # fmt: skip
