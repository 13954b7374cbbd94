"""The Cholesky factor of a kernel matrix, by LAPACK in place, with the jitter that it took."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

from tpnum.errors import AccuracyWarning, InputError, outside

LADDER = {
    np.dtype(np.float64): (1e-14, 1e-12, 1e-10, 1e-8, 1e-6),
    np.dtype(np.float32): (1e-6, 1e-5, 1e-4, 1e-3),
}
"""Jitters that are tried, in units of the mean of the diagonal."""
BLOCK = 128
"""Rows and columns that are turned over together."""
ROUNDING = 8.0
"""Pivots of fewer units of rounding of their own diagonal entry are noise: the matrix is singular."""


@dataclass(frozen=True, eq=False)
class Cholesky:
    """A = L L', the factor of a symmetric positive definite matrix.

    ``lower`` holds L in its lower triangle (C order); what is above is not to be read.  ``jitter`` is what
    had to be added to the diagonal of A, 0.0 almost always.
    """

    lower: np.ndarray
    jitter: float = 0.0

    @classmethod
    def init(
        cls,
        a: np.ndarray,
        added: float | np.ndarray = 0.0,
        name: str = "k",
        before: np.ndarray | None = None,
    ) -> Cholesky:
        """Factor ``a + diag(added)`` in the memory of ``a`` (symmetric, C order).

        A matrix that is singular to rounding gets the smallest jitter of `LADDER` that mends it, with an
        `AccuracyWarning`.  Rounding is that of ``before``, the diagonal of what ``a`` is left of by
        elimination; its own by default.

        Raises
        ------
        InputError : no square matrix of floats; an eigenvalue is negative beyond rounding.
        """
        if a.ndim != 2 or a.shape[0] != a.shape[1]:
            raise InputError(f"{name}: shape {a.shape} is none of a square matrix")
        if a.dtype not in LADDER:
            raise InputError(f"{name} holds {a.dtype}; it is factored in place: give float64 or float32")
        diagonal = a.diagonal() + added
        sizes = diagonal if before is None else before + added
        scale = float(sizes.mean()) or 1.0
        for relative in (0.0, *LADDER[a.dtype]):
            jitter = relative * scale
            np.fill_diagonal(a, diagonal + jitter)
            if _factored(a, sizes + jitter):
                if jitter:
                    warnings.warn(
                        f"{name} is singular to rounding: {jitter:.3g} was added to its diagonal "
                        "(equal examples, or more of them than features); a noise says how far to trust them",
                        AccuracyWarning,
                        stacklevel=outside(),
                    )
                return cls(a, jitter)
        raise InputError(
            f"{name} is not positive semidefinite: with {jitter:.3g} added to its diagonal an eigenvalue is "
            "still negative; give a kernel of examples with themselves, or a larger noise"
        )

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def logdet(self) -> float:
        """log det A."""
        return 2.0 * float(np.log(self.lower.diagonal().astype(np.float64)).sum())

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^-1 b."""
        (potrs,) = get_lapack_funcs(("potrs",), (self.lower, b))
        made, _ = potrs(self.lower.T, b, lower=False)
        return made

    def half(self, b: np.ndarray) -> np.ndarray:
        """L^-1 b, whose squares sum to b' A^-1 b."""
        return self._triangular(b, transposed=True)

    def back(self, b: np.ndarray) -> np.ndarray:
        """L'^-1 b."""
        return self._triangular(b, transposed=False)

    def times(self, b: np.ndarray) -> np.ndarray:
        """L b."""
        return np.tril(self.lower) @ b

    def inverse(self) -> np.ndarray:
        """A^-1, symmetric."""
        (potri,) = get_lapack_funcs(("potri",), (self.lower,))
        made, _ = potri(self.lower.T, lower=False, overwrite_c=False)
        return _mirrored(made.T)

    def extend(self, across: np.ndarray, a: np.ndarray, added: float | np.ndarray = 0.0) -> Cholesky:
        """The factor of [[A, across'], [across, a + diag(added)]], without factoring A again."""
        n, m = len(self), len(a)
        lower = np.zeros((n + m, n + m), self.lower.dtype)
        lower[:n, :n] = self.lower
        beside = self.half(across.T).T
        lower[n:, :n] = beside
        corner = np.ascontiguousarray(a + self.jitter * np.eye(m) - beside @ beside.T, self.lower.dtype)
        inner = Cholesky.init(corner, added, before=a.diagonal())
        lower[n:, n:] = inner.lower
        return Cholesky(lower, self.jitter + inner.jitter)

    def _triangular(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        (trtrs,) = get_lapack_funcs(("trtrs",), (self.lower, b))
        made, _ = trtrs(self.lower.T, b, lower=False, trans=int(transposed))
        return made


def _factored(a: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether ``a`` now holds its factor; if not, its lower triangle is what it was (but the diagonal).

    Pivots are held against the rounding of ``sizes``.
    """
    potrf: Any = get_lapack_funcs(("potrf",), (a,))[0]
    made, fault = potrf(a.T, lower=False, clean=False, overwrite_a=True)
    if made.ctypes.data != a.ctypes.data:  # LAPACK worked in a copy
        a[...] = made.T
    # a pivot of rounding's size is no number; a failure leaves the last ones undone
    pivots = a.diagonal().astype(np.float64) ** 2
    rounding = ROUNDING * np.finfo(a.dtype).eps
    if fault == 0 and (pivots > rounding * sizes).all():
        return True
    _mirrored(a.T)  # above the diagonal all is as it was
    return False


def _mirrored(a: np.ndarray) -> np.ndarray:
    """``a`` with what is below its diagonal above it too, in blocks that stay in the cache."""
    for start in range(0, len(a), BLOCK):
        part = slice(start, start + BLOCK)
        for left in range(0, start, BLOCK):
            a[left : left + BLOCK, part] = a[part, left : left + BLOCK].T
        corner = a[part, part]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T
    return a
