"""Pivoted partial Cholesky factors: the algebra, of rows of K that somebody else computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Strip = Callable[[slice, np.ndarray], None]
"""Takes the entries of K in the rows of new pivots and in a slice of columns."""

BLOCK = 128
"""Rows that are computed together."""
SPARE = 4
"""Examples that are looked at for each row of a block, at most."""
LOOK = 8
"""Of so many entries of K that are computed one may be between examples that are only looked at."""
FAIR = 0.5
"""A pivot is taken if what is left at it is this much of what is left at all that were not looked at."""
ROUNDING = 1e-13
"""Of the largest entry of the diagonal: what is left below that is rounding."""
CACHED = 2048
"""Columns that stay in the cache from the subtraction to the solve."""


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
        left, low = rest.diagonal().copy(), np.zeros((len(among), most))
        taken: list[int] = []
        for count in range(min(most, len(among))):
            k = int(np.argmax(left))
            if left[k] <= self.tiny or (taken and left[k] < fair):
                break
            low[:, count] = (rest[:, k] - low[:, :count] @ low[k, :count]) / np.sqrt(left[k])
            left -= low[:, count] ** 2
            taken.append(k)
            left[taken] = -np.inf
        return among[taken], np.tril(low[taken, : len(taken)])

    def adding(self, chosen: np.ndarray, root: np.ndarray) -> Strip:
        """What takes K[chosen] strip by strip, in any order and by any thread; then comes `add`."""
        from scipy.linalg import get_blas_funcs

        done, end = len(self.pivots), len(self.pivots) + len(chosen)
        before, small = (
            np.ascontiguousarray(self.rows[:, chosen].T),
            np.asfortranarray(root, self._rows.dtype),
        )
        (trsm,) = get_blas_funcs(("trsm",), (small,))

        def take(cols: slice, part: np.ndarray) -> None:
            for start in range(cols.start, cols.stop, CACHED):
                here = slice(start, min(start + CACHED, cols.stop))
                rest = before @ self._rows[:done, here]
                np.subtract(part[:, start - cols.start : here.stop - cols.start], rest, out=rest)
                new = trsm(1.0, small, rest.T, side=1, lower=1, trans_a=1, overwrite_b=1).T  # root^-1 rest
                self._rows[done:end, here] = new
                left = self.left[here] - np.einsum("kn,kn->n", new, new, dtype=np.float64)
                self.left[here] = np.maximum(left, 0.0)

        return take

    def add(self, chosen: np.ndarray) -> None:
        """The rows of these examples are there."""
        self.pivots += [int(k) for k in chosen]
        self.left[chosen] = 0.0


def _looked_at(width: int, count: int) -> int:
    """Of so many examples one triangle of K is computed to choose ``width`` of ``count``."""
    return 1 if width == 1 else max(width, min(SPARE * width, int((2 * width * count / LOOK) ** 0.5)))


def partial_cholesky(
    diagonal: np.ndarray,
    size: int,
    inner: Callable[[np.ndarray], np.ndarray],
    rows: Callable[[np.ndarray, Strip], None],
    *,
    given: np.ndarray | None = None,
    enough: float = 0.0,
    block: int = BLOCK,
    dtype: Any = np.float64,
) -> Pivoted:
    """Pivots where most of the diagonal is left, in blocks, until ``size`` or until ``enough`` is left of it.

    Of a block's examples only K between them is asked for, as ``inner(examples)``; of the greedy choice among
    them whole rows, as ``rows(pivots, take)``, which hands them to ``take(columns, part)``.  With blocks of
    one this is the greedy factor; larger ones leave a candidate for later that the pivots before it in its
    block explain already.  Given pivots are taken in their order, block by block.
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
            rows(chosen, made.adding(chosen, root))
            made.add(chosen)
        else:
            made.left[among] = 0.0  # by rounding alone it was more
    return made
