"""Pairs of Gaussians by panel quadrature: E f(u) g(v), E f'(u) g'(v) for kinked and badly resolved functions.

The functions enter the kernel as piecewise polynomials (`Table`); any correlation is allowed, +-1
included, and the co-correlation of (f(u), g(v)) keeps its digits where f(u) and g(v) nearly agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.functions import Function
from tpnum.gauss.moments import ORDER
from tpnum.gauss.rules import Kept, Rows, rows_of

_DROP = 64.0  # half of it is left for each factor of a product


@dataclass(frozen=True)
class Tabled:
    """Rows of one function, ready for the panel kernel; rows without variance are not among them."""

    rows: Rows
    unit: np.ndarray  # 1/sqrt(E f^2), by the same rule as the pairs
    reach: np.ndarray


def tabled(f: Function, mean: np.ndarray, q: np.ndarray, kept: Kept | None = None) -> Tabled:
    """The rows (mean, q > 0) of f for `pairs`."""
    rows = rows_of(f, mean, q, 2, _DROP, kept)
    second = np.empty(q.size)
    for block, z, w in rows.nodes(ORDER):
        small, size = rows.scaled(block, z, w)
        second[block] = np.einsum("ij,ij,ij->i", small, small, w) * size**2
    root = np.sqrt(second)
    unit = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return Tabled(rows, unit, np.maximum(8.75, np.minimum(np.maximum(-rows.low, rows.high), 14.0)))


def pairs(
    first: Tabled, second: Tabled, row: np.ndarray, col: np.ndarray, e: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(co-correlation of f(u), g(v); E f'(u) g'(v)) for pairs (row[n], col[n]) of co-correlation e[n]."""
    from tpnum.kernels.panels import panel_pairs

    a, b = first.rows, second.rows
    f, g = ((t.breaks, t.coef, t.slope, t.cuts, t.kinked) for t in (a.table, b.table))
    out_e, out_d = np.empty(e.size), np.empty(e.size)
    panel_pairs(
        np.ascontiguousarray(e, dtype=np.float64), np.ascontiguousarray(row, dtype=np.int64),
        np.ascontiguousarray(col, dtype=np.int64), (a.mean, a.root, first.unit, a.low, a.high),
        (b.mean, b.root, second.unit, second.reach), f, g, out_e, out_d,
    )  # fmt: skip
    return out_e, out_d
