"""What cells beside each other read alike: runs of them, and windows that slide from one to the next."""

from __future__ import annotations

import numpy as np


def runs(pointer: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Per cell how many cells from it on have the same weights, each on the cells beside those before."""
    lengths = np.diff(pointer)
    cell = np.repeat(np.arange(lengths.size), lengths)
    beside = np.minimum(np.arange(index.size) + lengths[cell], max(index.size - 1, 0))
    moved = (index[beside] == index + 1) & (weights[beside] == weights)
    follows = np.zeros(lengths.size, bool)
    follows[:-1] = lengths[1:] == lengths[:-1]
    follows &= np.bincount(cell, ~moved, lengths.size) == 0
    ends = np.where(follows, lengths.size, np.arange(lengths.size))
    return np.minimum.accumulate(ends[::-1])[::-1] - np.arange(lengths.size) + 1


def slides(pointer: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(cells, 4): what a cell and the next read, two or three cells each with one weight, two of them common.

    First what the cell alone reads, or -1, the two that both read, and what the next alone reads, or -1.  The
    two are -1 where it is not so.
    """
    lengths, count = np.diff(pointer), max(pointer.size - 1, 0)
    made = np.full((count, 4), -1, np.int64)
    few = (lengths == 2) | (lengths == 3)
    tap = np.minimum(pointer[:-1, None] + np.arange(3), max(index.size - 1, 0))
    there = few[:, None] & (np.arange(3) < lengths[:, None])
    read, weight = (np.where(there, one[tap] if index.size else 0, -1) for one in (index, weights))
    few &= ((weight == weight[:, :1]) | ~there).all(1)
    both = few[:-1] & few[1:] & (weight[:-1, 0] == weight[1:, 0])
    alike = (read[:-1, :, None] == read[1:, None]) & there[:-1, :, None] & there[1:, None]
    shared, again = alike.any(2), alike.any(1)
    both &= shared.sum(1) == 2
    at = np.flatnonzero(both)
    made[at, 0] = np.where(there[at] & ~shared[at], read[at], -1).max(1)
    made[at, 1:3] = read[at][shared[at]].reshape(-1, 2)
    made[at, 3] = np.where(there[at + 1] & ~again[at], read[at + 1], -1).max(1)
    return made
