"""Whether E f(Z) can exist: |f| times the Gaussian density must fall, far out along some directions."""

from __future__ import annotations

from itertools import islice, product

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.laws import of_entry

_FAR = np.array([12.0, 20.0, 28.0, 33.0, 38.0])
"""Standard deviations; the density underflows beyond."""
_SIGNS = 8
_AXES = 32
"""Of many dimensions so many principal axes and coordinates are looked at."""
_BLOCK = 1 << 15


def check_growth(f_at: Integrand, mean: np.ndarray, factor: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise LimitError for an entry in which |f| grows faster than the density falls.

    Looked at along the principal axes, the coordinates and some diagonals, both ways, out to where the
    density underflows: what still grows there has no expectation, or one beyond the range of float64.
    """
    count, d, rank = factor.shape
    seen = min(d, _AXES)
    ends = _directions(rank)
    step = max(1, _BLOCK // ((ends.shape[1] + 2 * seen) * _FAR.size))
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        own = factor[part, :seen].transpose(0, 2, 1)  # the direction of steepest growth of each coordinate
        norm = np.sqrt(np.sum(own * own, axis=1, keepdims=True))
        own = np.divide(own, norm, out=np.zeros_like(own), where=norm > 0)
        axes = np.concatenate([np.broadcast_to(ends, (own.shape[0], *ends.shape)), own, -own], axis=2)
        z = (axes[..., None] * _FAR).reshape(own.shape[0], rank, -1)
        columns = [mean[part, k, None] + (factor[part, k, None] @ z)[:, 0] for k in range(d)]
        made = np.max(np.abs(f_at.columns(columns)), axis=1).reshape(own.shape[0], -1, _FAR.size)
        log = np.log(made, out=np.full(made.shape, -np.inf), where=made > 0) - 0.5 * _FAR**2
        bad = np.any(_grows(log), axis=1)
        if np.any(bad):
            i = int(np.argmax(bad))
            j = int(np.argmax(_grows(log)[i]))
            point = ", ".join(f"{c[i, (j + 1) * _FAR.size - 1]:.4g}" for c in columns)
            raise LimitError(
                f"E f{of_entry(begin + i, shape)} does not exist or overflows: towards ({point}) "
                "|f| grows faster than the Gaussian density falls"
            )


def _grows(log: np.ndarray) -> np.ndarray:
    """Whether the last two finite values of |f| times the density, along the last axis, still increase."""
    finite = np.isfinite(log)
    last = _FAR.size - 1 - np.argmax(finite[..., ::-1], axis=-1)
    end = np.take_along_axis(log, last[..., None], -1)[..., 0]
    before = np.take_along_axis(log, np.maximum(last - 1, 0)[..., None], -1)[..., 0]
    first = np.isposinf(log[..., 0]) | (last == 0) & np.any(np.isposinf(log), axis=-1)
    return np.asarray((finite.any(axis=-1) & (last > 0) & (end > before) & (end > 0.0)) | first)


def _directions(rank: int) -> np.ndarray:
    """Unit vectors (rank, count): the axes both ways, and up to eight diagonals."""
    signs = np.array(list(islice(product((1.0, -1.0), repeat=min(rank, 16)), _SIGNS))).T
    diagonals = np.zeros((rank, signs.shape[1]))
    diagonals[: signs.shape[0]] = signs / np.sqrt(signs.shape[0])
    axes = np.eye(rank, min(rank, _AXES))
    return np.concatenate([axes, -axes, diagonals], axis=1)
