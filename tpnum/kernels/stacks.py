"""The closed-form duals of many blocks of pairs at once."""

from __future__ import annotations

from tpnum.kernels._jit import kernel

CHUNK = 1024
"""Pairs at a time: the registers of a strip stay in the first-level cache."""


@kernel
def stack(dual, e, rp, cp, rows, steep, out, d):
    """out, d <- the strip ``dual`` of the co-correlations e (n, V), the latter only if ``steep`` is not 0.

    Row r is row r of ``rp`` (P, n), and ``rows`` of them follow one another that have columns in common: V of
    ``cp`` (P, n / rows * V).
    """
    width = e.shape[1]
    for r in range(e.shape[0]):
        first = r // rows * width
        for j in range(0, width, CHUNK):
            end = min(j + CHUNK, width)
            slope = d[r, j:end] if steep != 0 else d[0, :0]
            dual(e[r, j:end], rp, cp, 0, r, first + j, out[r, j:end], slope)
