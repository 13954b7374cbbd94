"""Sums over strips, whose terms may be regrouped."""

from __future__ import annotations

from tpnum.kernels._jit import reduction


@reduction
def summed(a):
    """The sum of a strip."""
    total = 0.0
    for k in range(a.size):
        total += a[k]
    return total


@reduction
def dotted(a, b):
    """The sum of the products of two strips."""
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total
