"""Pivoted partial Cholesky factors: the algebra, of rows of K that somebody else computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs, solve_triangular

from tpnum.kernels.inplace import add_product, take_squares, triangle_times
from tpnum.law.threads import Stop, together

Rows = Callable[[np.ndarray, np.ndarray], None]
"""Of examples and an array (their number, N): the rows of K of these examples are put into the array."""

BLOCK = 256
"""Rows that are computed together."""
HEIGHT = 128
"""Of so many of them products are taken at a time: with an inverse, so few that it loses no digits."""
SPARE = 1.5
"""Examples that are looked at for each row of a block, at most."""
LOOK = 8
"""Of so many entries of K that are computed one may be between examples that are only looked at."""
FAIR = 0.5
"""A pivot is taken if what is left at it is this much of what is left at all that were not looked at."""
ROUNDING = 1e-13
"""Of the largest entry of the diagonal: what is left below that is rounding."""
WIDTH = 1024
"""Columns that stay in the cache from a product to the next, and to the sum of their squares."""


class Pivoted:
    """K = L L' + rest, the rest zero in the rows and columns of the pivots.

    Attributes
    ----------
    rows
        L', one row a pivot; each is written once.
    pivots
        Numbers of examples, in order.
    left
        The diagonal of the rest.
    """

    def __init__(self, diagonal: np.ndarray, size: int, dtype: Any = np.float64):
        self.left = np.array(diagonal, np.float64)
        self.pivots: list[int] = []
        self._rows = np.empty((size, len(self.left)), dtype)
        rounding = ROUNDING if self._rows.dtype == np.float64 else float(np.finfo(self._rows.dtype).eps)
        self.tiny = rounding * float(self.left.max(initial=0.0))

    @property
    def rows(self) -> np.ndarray:
        return self._rows[: len(self.pivots)]

    def likely(self, count: int) -> tuple[np.ndarray, float]:
        """The examples at which most is left, those at which it is rounding left out; the most elsewhere."""
        few = min(count + 1, len(self.left))
        order = np.argpartition(self.left, -few)[-few:]
        order = order[np.argsort(-self.left[order], kind="stable")]
        elsewhere = float(self.left[order[-1]]) if few > count else 0.0
        return order[:count][self.left[order[:count]] > self.tiny], elsewhere

    def choose(
        self, among: np.ndarray, inner: np.ndarray, most: int, fair: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Greedy pivots among examples, of K between these, and the Cholesky factor of the rest there."""
        known = self.rows[:, among].astype(np.float64)
        rest = np.asarray(inner, np.float64) - known.T @ known
        if not rest.diagonal().max() > self.tiny:
            return among[:0], np.empty((0, 0))
        (pstrf,) = get_lapack_funcs(("pstrf",), (rest,))
        low, order, found, _ = pstrf(rest.T, tol=max(self.tiny, fair), lower=1, overwrite_a=1)
        count = min(most, int(found))
        return among[order[:count] - 1], np.tril(low[:count, :count])

    def add(self, chosen: np.ndarray, root: np.ndarray, rows: Rows, jobs: int) -> None:
        """Take in pivots with the factor of the rest between them, by threads."""
        done, end = len(self.pivots), len(self.pivots) + len(chosen)
        rows(chosen, self._rows[done:end])
        before = np.ascontiguousarray(-self.rows[:, chosen].T)
        # root^-1 (K - before L'), in place
        steps = [_step(root[low : low + HEIGHT], low, before.dtype) for low in range(0, len(chosen), HEIGHT)]
        size = len(self.left)

        def update(starts: range) -> None:
            for start in starts:
                here = slice(start, min(start + WIDTH, size))
                new = self._rows[done:end, here]
                add_product(before, self._rows[:done, here], new)
                for within, inverse in steps:
                    count, top = within.shape
                    add_product(within, new[:top], new[top : top + count])
                    triangle_times(inverse, new[top : top + count])
                take_squares(new, self.left[here])

        starts = range(0, size, WIDTH)
        share = -(-len(starts) // jobs)
        together(update, [starts[k : k + share] for k in range(0, len(starts), share)], jobs, Stop())
        self.pivots += [int(k) for k in chosen]
        self.left[chosen] = 0.0


def _step(root: np.ndarray, top: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of rows (A, B) of a triangle, the first of them row ``top`` and B on its diagonal: -A and B^-1."""
    inverse = solve_triangular(root[:, top : top + len(root)], np.eye(len(root)), lower=True)
    return np.ascontiguousarray(-root[:, :top], dtype), np.ascontiguousarray(inverse, dtype)


def _looked_at(width: int, count: int) -> int:
    """Of so many examples one triangle of K is computed to choose ``width`` of ``count``."""
    return 1 if width == 1 else max(width, min(int(SPARE * width), int((2 * width * count / LOOK) ** 0.5)))


def partial_cholesky(
    diagonal: np.ndarray,
    size: int,
    inner: Callable[[np.ndarray], np.ndarray],
    rows: Rows,
    *,
    given: np.ndarray | None = None,
    enough: float = 0.0,
    block: int = BLOCK,
    dtype: Any = np.float64,
    jobs: int = 1,
) -> Pivoted:
    """Pivots where most of the diagonal is left, in blocks, until ``size`` or until ``enough`` is left of it.

    Of a block's examples only K between them is asked for, as ``inner(examples)``; of the greedy choice among
    them whole rows, as ``rows(pivots, out)``, which fills ``out``.  With blocks of one this is the greedy
    factor; larger ones leave a candidate for later that the pivots before it in its block explain already.
    Given pivots are taken in their order, block by block.
    """
    made = Pivoted(diagonal, size, dtype)
    while len(made.pivots) < size and made.left.sum() > enough:
        width = min(block, size - len(made.pivots))
        fair = 0.0
        if given is None:
            among, elsewhere = made.likely(_looked_at(width, len(made.left)))
            fair = FAIR * elsewhere
        else:
            among, given = given[:width], given[width:]
        if not len(among):
            break
        chosen, root = made.choose(among, inner(among), width, fair)
        if len(chosen):
            made.add(chosen, root, rows, jobs)
        else:
            made.left[among] = 0.0  # by rounding alone it was more
    return made
