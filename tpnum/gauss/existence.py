"""What rays out of the middle show: whether E f(Z) can exist, and what points near it may have missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.integrand import Integrand

_FAR = np.array([10.0, 20.0, 28.0, 33.0, 38.0])
"""Standard deviations; the density underflows beyond."""
_NEAR = np.array([0.01, 0.1, 0.3, 0.6, *np.arange(1.0, 10.5, 0.5), *np.arange(11.0, 21.0)])
_HIGH = 30.0
_SIGNS = 8
_AXES = 32
"""Of many dimensions so many principal axes and coordinates are looked at."""
_BLOCK = 1 << 15


def check_growth(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, name: Callable[[int], str]
) -> np.ndarray:
    """The largest |f| e^{-r^2/2}, r deviations out, of each entry.

    Raises LimitError, with the ``name`` of the entry, where |f| grows faster than the density falls.

    Looked at along the principal axes, the coordinates and some diagonals, both ways, out to where the
    density underflows: what still grows there has no expectation, or one beyond the range of float64.
    """
    largest = np.empty(mean.shape[0])
    for begin, columns, made in _along(f_at, mean, factor, _FAR):
        made = np.max(np.abs(made), axis=1)
        log = np.log(made, out=np.full(made.shape, -np.inf), where=made > 0) - 0.5 * _FAR**2
        bad = np.any(_grows(log), axis=1)
        if np.any(bad):
            i = int(np.argmax(bad))
            j = int(np.argmax(_grows(log)[i]))
            point = ", ".join(f"{c[i, j, -1]:.4g}" for c in columns)
            where = f"E f{name(begin + i)} does not exist or overflows: towards ({point})"
            if np.any(np.isposinf(log[i, j])):
                raise LimitError(
                    f"{where} |f| grows faster than the Gaussian density falls, or it overflows before that "
                    "falls: values of f must be finite in float64 where they matter"
                )
            raise LimitError(f"{where} |f| grows faster than the Gaussian density falls")
        log = np.where(np.isfinite(made), log, np.inf)
        largest[begin : begin + made.shape[0]] = np.exp(np.max(log, axis=(1, 2)))
    return largest


def beyond(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, points: float, met: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What so many random points may have missed, and the largest |f| on rays: (n, k) each.

    Half-spaces so far out that they had few points, weighted with |f| at their edge if it is far above
    E|f|, of which ``met`` (n, k) was met; where this is 0, any region with a probability below 3/points:
    |f| there is taken from the rays, and to be 1 where it vanishes on them as well.  Rays are not the
    shortest ways: what one of them enters at r may be r / sqrt(rank) away, and no nearer.
    """
    from scipy.special import ndtr

    missed, largest = [], []
    few = rare(points)
    chance, nearest = (np.minimum(ndtr(-_NEAR / s), few) for s in (1.0, np.sqrt(factor.shape[2])))
    slab = np.minimum(np.exp(-0.5 * _NEAR**2) * np.gradient(_NEAR) / np.sqrt(2.0 * np.pi), chance * 30.0)
    for begin, _, made in _along(f_at, mean, factor, _NEAR):
        size = np.where(np.isfinite(made), np.abs(made), 0.0)
        top = size.max(axis=(2, 3))
        typical = met[begin : begin + top.shape[0], :, None, None]
        counts = (typical == 0) | ((size > _HIGH * typical) & (ndtr(-_NEAR) < 0.1 * few))
        tails = np.max(size * np.where(typical > 0, chance, nearest), axis=(2, 3), where=counts, initial=0.0)
        along = np.sum(size * slab, axis=3, where=counts)
        tails = np.maximum(tails, np.max(along, axis=2))
        height = np.where(top > 0, top, 1.0)
        missed.append(np.where((typical[..., 0, 0] > 0) | (tails > 0), tails, few * height))
        largest.append(top)
    return np.concatenate(missed), np.concatenate(largest)


def rare(points: float) -> float:
    """The probability that a region without a point of so many may have."""
    return 3.0 / max(points, 3.0)


def constant(f_at: Integrand, mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Whether f is one and the same number on all rays, of each entry and component (n, k)."""
    made = np.zeros((mean.shape[0], f_at.components or 1), dtype=bool)
    for begin, _, values in _along(f_at, mean, factor, _NEAR):
        flat = values.reshape(*values.shape[:2], -1)
        made[begin : begin + flat.shape[0]] = np.all(flat == flat[:, :, :1], axis=2)
    return made


def _along(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, radii: np.ndarray
) -> Iterator[tuple[int, list[np.ndarray], np.ndarray]]:
    """Some entries at a time: the first one, the points by coordinate (entries, rays, radii), and f there."""
    count, d, rank = factor.shape
    seen = min(d, _AXES)
    ends = _directions(rank)
    step = max(1, _BLOCK // ((ends.shape[1] + 2 * seen) * radii.size))
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        own = factor[part, :seen].transpose(0, 2, 1)  # the direction of steepest growth of each coordinate
        norm = np.sqrt(np.sum(own * own, axis=1, keepdims=True))
        own = np.divide(own, norm, out=np.zeros_like(own), where=norm > 0)
        axes = np.concatenate([np.broadcast_to(ends, (own.shape[0], *ends.shape)), own, -own], axis=2)
        z = (axes[..., None] * radii).reshape(own.shape[0], rank, -1)
        columns = [mean[part, k, None] + (factor[part, k, None] @ z)[:, 0] for k in range(d)]
        made = f_at.columns(columns)
        shape = -1, axes.shape[2], radii.size
        yield begin, [c.reshape(shape) for c in columns], made.reshape(made.shape[0], -1, *shape[1:])


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
