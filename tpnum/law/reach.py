"""Which products' hats a vector depends on: what its dots are regressed on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

import numpy as np

from tpnum.law.steps import Direction, opposite


class Reach:
    """For every vector the products that it depends on, as bits of an integer, in the order of work.

    Without ``corrections`` nothing is regressed on anything: transposes are independent matrices.
    """

    def __init__(self, corrections: bool) -> None:
        self._corrections = corrections
        self._of: dict[str, int] = {}
        self._bits: dict[Direction, list[int]] = {}
        self._prefix: dict[Direction, list[int]] = {}  # what the first k operands depend on
        self._count = 0

    def join(self, name: str, parts: Iterable[str]) -> None:
        """A vector made of others."""
        self._of[name] = reduce(or_, (self._of.get(part, 0) for part in parts), 0)

    def product(self, name: str, direction: Direction, operand: str, upto: int) -> None:
        """A product: its own hat, and through its dot what the first ``upto`` opposite operands depend on."""
        dependent = self._prefix.get(opposite(direction), [0])
        self._of[name] = (1 << self._count) | dependent[upto]
        self._bits.setdefault(direction, []).append(self._count)
        prefix = self._prefix.setdefault(direction, [0])
        prefix.append(prefix[-1] | self._of.get(operand, 0))
        self._count += 1

    def hats(self, direction: Direction, operands: list[str]) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """For each operand the opposite products whose hats it depends on: see `tpnum.law.steps.Multiply`."""
        upto = np.zeros(len(operands), dtype=np.int64)
        reached: list[np.ndarray | None] = [None] * len(operands)
        bits = np.array(self._bits.get(opposite(direction), []) if self._corrections else [], dtype=np.int64)
        for k, operand in enumerate(operands):
            hit = np.flatnonzero(_chosen(self._of.get(operand, 0), bits))
            if hit.size:
                upto[k] = hit[-1] + 1
                reached[k] = hit if 2 * hit.size < upto[k] else None
        return upto, reached


def _chosen(mask: int, bits: np.ndarray) -> np.ndarray:
    """Which of the bits are set in a mask."""
    if not mask or not bits.size:
        return np.zeros(bits.size, dtype=bool)
    packed = np.frombuffer(mask.to_bytes(int(bits[-1]) // 8 + mask.bit_length() // 8 + 1, "little"), np.uint8)
    return (packed[bits >> 3] >> (bits & 7).astype(np.uint8)) & 1 > 0
