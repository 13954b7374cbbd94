"""Leads: the differences of a leader of a window over the others, positive where it is the largest."""

from __future__ import annotations

import numpy as np

from tpnum.gauss.special import tails
from tpnum.gauss.special.goal import Aim
from tpnum.gauss.special.orthants import LEAST, probability

EXACT = 4
"""Orthants of up to this dimension are quadratures; larger ones are sampled."""

Part = tuple[np.ndarray, np.ndarray]


def exact_square(mean: np.ndarray, cov: np.ndarray, floor: float) -> np.ndarray | None:
    """E max(u, floor)^2, floor 0 or -inf, (n,); None for windows of which it would be sampled."""
    means, covs = against_others(*_above(mean, cov, floor), (_size(cov, floor),))
    m = means.shape[2] - 1
    if m > EXACT:
        return None
    (_, _, second), _ = tails.moments(*flat(means, covs), m, _CLOSE.share(m + 1))
    return np.asarray(second[0][:, 0, 0].reshape(means.shape[:2]).sum(axis=1))


def exact_argmax(mean: np.ndarray, cov: np.ndarray, floor: float) -> np.ndarray | None:
    """P(u_i is the largest, and above the floor), (n, d); None for windows of which it would be sampled."""
    means, covs = against_others(*_above(mean, cov, floor), (_size(cov, floor),))
    m = means.shape[2] - 1
    if m > EXACT:
        return None
    flat_mean, flat_cov = flat(means, covs)
    value, _, _ = probability(flat_mean[:, :m], flat_cov[:, :m, :m], _CLOSE)
    return np.asarray(value.reshape(means.shape[:2])[:, -cov.shape[1] :])


_CLOSE = Aim.asked(None, 1e-12, None, LEAST)


def _size(cov: np.ndarray, floor: float) -> int:
    return cov.shape[1] + (floor == 0.0)


def _above(mean: np.ndarray, cov: np.ndarray, floor: float) -> Part:
    """The law with a coordinate that is the floor, the first, if there is one."""
    if floor != 0.0:
        return mean, cov
    n, d = mean.shape
    wide = np.zeros((n, d + 1, d + 1))
    wide[:, 1:, 1:] = cov
    return np.concatenate([np.zeros((n, 1)), mean], axis=1), wide


def flat(means: np.ndarray, covs: np.ndarray) -> Part:
    d = means.shape[2]
    return means.reshape(-1, d), covs.reshape(-1, d, d)


def against_others(mean: np.ndarray, cov: np.ndarray, sizes: tuple[int, ...]) -> Part:
    """The laws of (leads over the others .., leaders ..) for each choice of one leader per window.

    (n, choices, d) and (n, choices, d, d): a lead is u_i - u_k, and where it is zero almost surely its
    mean is set to +-1 so that the earlier coordinate leads.
    """
    d = mean.shape[1]
    begins = np.cumsum((0, *sizes))[:-1]
    choices = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
    maps = np.zeros((len(choices), d, d))
    earlier = np.zeros((len(choices), d - len(sizes)))
    for number, leaders in enumerate(choices):
        row = 0
        for begin, size, leader in zip(begins, sizes, leaders, strict=True):
            for k in range(size):
                if k != leader:
                    maps[number, row, begin + leader], maps[number, row, begin + k] = 1.0, -1.0
                    earlier[number, row] = 1.0 if leader < k else -1.0
                    row += 1
        for window, (begin, leader) in enumerate(zip(begins, leaders, strict=True)):
            maps[number, row + window, begin + leader] = 1.0
    means = np.einsum("cij,nj->nci", maps, mean)
    covs = np.einsum("cij,njk,clk->ncil", maps, cov, maps, optimize=True)
    m = earlier.shape[1]
    size = np.einsum("cij,nj->nci", np.abs(maps), np.einsum("njj->nj", cov))[:, :, :m]
    still = np.einsum("ncii->nci", covs)[:, :, :m] <= 1e-14 * size
    tied = still & (np.abs(means[:, :, :m]) <= 1e-7 * np.sqrt(size))
    leads = means[:, :, :m]
    leads[tied] = np.broadcast_to(earlier, leads.shape)[tied]
    moving = np.ones(means.shape, dtype=bool)
    moving[:, :, :m] = ~still
    return means, np.where(moving[:, :, :, None] & moving[:, :, None, :], covs, 0.0)
