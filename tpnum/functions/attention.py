"""Softmax-weighted sums as functions of several vectors: the scalar lines of attention.

Arguments are the logits, then the vectors that are summed, for "softmax_slope" the direction of the logits,
and at last the weights of the positions where there are any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.functions.record import Record


def _values(size: int, weighted: bool, along: bool) -> dict[tuple[int, ...], Any]:
    def shares(args: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The softmax, and all other arguments by kind, (kinds, size, ..)."""
        groups = np.stack(np.broadcast_arrays(*args)).astype(float)
        logits, *rest = groups.reshape(-1, size, *groups.shape[1:])
        if weighted:
            logits = np.where(rest[-1] > 0.0, logits, -np.inf)
        top = logits.max(axis=0)
        made = np.exp(logits - np.where(np.isfinite(top), top, 0.0)) * (rest[-1] if weighted else 1.0)
        total = made.sum(axis=0)
        return made / np.where(total == 0.0, 1.0, total), np.stack(rest)

    def moved(share: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.asarray(share * (by - (share * by).sum(axis=0)))

    def value(*args: Any, **_: Any) -> Any:
        share, rest = shares(args)
        return ((moved(share, rest[1]) if along else share) * rest[0]).sum(axis=0)

    def slope(i: int) -> Any:
        kind, at = divmod(i, size)

        def derivative(*args: Any, **_: Any) -> Any:
            share, rest = shares(args)
            if kind == 1:
                return share[at]
            return share[at] * (rest[0][at] - (share * rest[0]).sum(axis=0))

        return derivative

    return {(): value} | ({} if along else {(i,): slope(i) for i in range(2 * size)})


def _record(along: bool) -> Record:
    def arity(size: int, weighted: bool) -> int:
        return (2 + along + weighted) * size

    return Record(
        "the derivative of the sum of softmax(s)_i v_i along t" if along else "the sum of softmax(s)_i v_i",
        lambda size, weighted: _values(size, weighted, along),
        (("size", 1), ("weighted", False)),
        arity=arity,
        parities=(0,) * 4096,
        named=False,
    )


ATTENTION = {"softmax_sum": _record(False), "softmax_slope": _record(True)}
