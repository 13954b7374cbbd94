"""Sums of products of points that are broadcast, and products with entries of tables."""

from __future__ import annotations

from tpnum.kernels._jit import kernel

TERMS = 3
"""Products that are added in one pass."""


@kernel
def accumulate(c0, x0, c1, x1, c2, x2, count, begin, out):
    """Add the first ``count`` of three products to out (a, b, points), or fill it with them if ``begin``.

    They are of coefs (a, points) and moments (a, b, points), whose lengths are those of ``out``, or one.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            line = out[i, j]
            if begin:
                line[:] = 0.0
            _added(c0, x0, i, j, line)
            if count > 1:
                _added(c1, x1, i, j, line)
            if count > 2:
                _added(c2, x2, i, j, line)


@kernel
def _added(coefs, moments, i, j, line):
    c = coefs[i if coefs.shape[0] > 1 else 0]
    x = moments[i if moments.shape[0] > 1 else 0, j if moments.shape[1] > 1 else 0]
    if c.size == 1 and x.size == 1:
        _shifted(c[0] * x[0], line)
    elif c.size == 1:
        _scaled(c[0], x, line)
    elif x.size == 1:
        _scaled(x[0], c, line)
    else:
        for k in range(line.size):
            line[k] += c[k] * x[k]


@kernel
def _shifted(c, line):
    for k in range(line.size):
        line[k] += c


@kernel
def _scaled(c, x, line):
    for k in range(line.size):
        line[k] += c * x[k]


@kernel
def multiply_entries(table, rows, cols, out):
    """Multiply out (a, b) by the entries of a table in the rows (a,) and columns (b,)."""
    for i in range(out.shape[0]):
        line, entries = out[i], table[rows[i]]
        for j in range(line.size):
            line[j] *= entries[cols[j]]
