"""The samples of one sample space, and what is yet to be done to them.

Operations are listed until a number that they lead to is needed; then they are applied together, one block
of samples after another, so that the rows are read from memory once (`tpnum.kernels.ensemble`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tpnum.kernels import ensemble as machine
from tpnum.kernels.ensemble import BLOCK

PIECE = 64
"""Blocks of samples that a function without a kernel is called with at a time."""


WORK, EACH = 1 << 28, 16
"""Multiplications between two looks at whether to stop (a tenth of a second), and those of an operation."""


class Sums:
    """Means over the samples that are known once the operations before them are done."""

    def __init__(self, samples: Samples, place: int, shape: tuple[int, ...], padded: tuple[int, ...]) -> None:
        self._samples, self._place, self._shape, self._padded = samples, place, shape, padded
        self._value: np.ndarray | None = None

    def value(self) -> np.ndarray:
        """The means; runs what is waiting."""
        if self._value is None:
            self._samples.run()
        assert self._value is not None
        return self._value

    def take(self, sums: np.ndarray, size: int) -> None:
        """Read the means from the sums of a run."""
        whole = sums[self._place : self._place + int(np.prod(self._padded))].reshape(self._padded)
        self._value = whole[tuple(map(slice, self._shape))] / size


class Samples:
    """``height`` rows of ``size`` samples, the numbers ``first``, first + 1, .. of their streams."""

    def __init__(
        self, blocks: np.ndarray, size: int, first: int, stop: Callable[[], None] = lambda: None
    ) -> None:
        self.blocks, self.size, self.first, self.stop = blocks, size, first, stop
        self._clear()

    def _clear(self) -> None:
        self._ops: list[tuple[int, int, int, int, int]] = []
        self._rows: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []
        self._keys: list[int] = []
        self._sums: list[Sums] = []
        self._room = [0, 0, 0]  # rows, numbers, sums so far

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.blocks.shape[1]

    def _append(self, kind: int, n: int, m: int, rows: tuple[np.ndarray, ...], place: int) -> None:
        self._ops.append((kind, n, m, self._room[0], place))
        self._rows += rows
        self._room[0] += n + m

    # --- operations

    def combine(
        self, out: np.ndarray, rows: np.ndarray, coefs: np.ndarray, own: np.ndarray | None = None
    ) -> None:
        """Rows out[i] become own[i] (0 by default) times themselves plus sum_k coefs[i, k] rows[k].

        None of ``rows`` is among ``out``.
        """
        n, m = coefs.shape
        high, wide = -(-n // 4) * 4, -(-m // 4) * 4
        numbers = np.zeros(n + high * wide)
        if own is not None:
            numbers[:n] = own
        numbers[n:].reshape(high, wide)[:n, :m] = coefs
        self._append(machine.COMBINE, n, m, (out, rows), self._room[1])
        self._numbers.append(numbers)
        self._room[1] += numbers.size

    def apply(self, kind: int, args: np.ndarray, out: np.ndarray) -> None:
        """Rows out[i] become the function ``kind`` of the machine of rows args[:, i]."""
        self._append(kind, out.size, args.size, (out, args.ravel()), 0)

    def normals(self, out: np.ndarray, keys: list[int]) -> None:
        """Rows become the standard normals of these streams."""
        self._append(machine.NORMALS, out.size, 0, (out,), len(self._keys))
        self._keys += keys

    def quasi(self, out: np.ndarray, numbers: np.ndarray) -> None:
        """Rows become Sobol points, made normal; see `tpnum.law.sobol.scrambled` for the numbers."""
        self._append(machine.QUASI, out.size, 0, (out,), len(self._keys))
        self._keys += [numbers.shape[1], *numbers.ravel().tolist()]

    def constant(self, out: np.ndarray, value: float) -> None:
        """Rows become constant."""
        self._append(machine.CONSTANT, out.size, 0, (out,), self._room[1])
        self._numbers.append(np.array([value]))
        self._room[1] += 1

    def inner(self, left: np.ndarray, right: np.ndarray) -> Sums:
        """E x[left[i]] x[right[k]]."""
        n, m = left.size, right.size
        padded = (-(-n // 4) * 4, -(-m // 2) * 2)
        return self._sum(machine.INNER, n, m, (left, right), (n, m), padded)

    def dots(self, left: np.ndarray, right: np.ndarray) -> Sums:
        """E x[left[i]] x[right[i]]."""
        n = left.size
        return self._sum(machine.DOTS, n, n, (left, right), (n,), (n,))

    def _sum(
        self,
        kind: int,
        n: int,
        m: int,
        rows: tuple[np.ndarray, ...],
        shape: tuple[int, ...],
        padded: tuple[int, ...],
    ) -> Sums:
        made = Sums(self, self._room[2], shape, padded)
        self._append(kind, n, m, rows, self._room[2])
        self._sums.append(made)
        self._room[2] += int(np.prod(padded))
        return made

    def run(self) -> None:
        """Do what is waiting."""
        if not self._ops:
            return
        sums = np.zeros(self._room[2])
        listed = (
            np.array(self._ops, dtype=np.int64),
            np.concatenate(self._rows),
            np.concatenate(self._numbers) if self._numbers else np.zeros(0),
            np.array(self._keys, dtype=np.uint64),
            sums,
        )
        work = sum(max(n * m, EACH * (n + m)) for _, n, m, _, _ in self._ops)
        some = max(1, WORK // (BLOCK * work))
        for begin in range(0, len(self.blocks), some):
            self.stop()
            done = begin * BLOCK
            size = min(some * BLOCK, self.size - done)
            machine.run(self.blocks[begin : begin + some], size, self.first + done, *listed)
        for waiting in self._sums:
            waiting.take(sums, self.size)
        self._clear()

    # --- at once, in NumPy

    def row(self, row: int) -> np.ndarray:
        """The samples of one row, a copy."""
        self.run()
        return self.blocks[:, row].reshape(-1)[: self.size].copy()

    def map(self, fn: Callable[..., Any], args: np.ndarray, scalars: np.ndarray, out: int) -> None:
        """One row becomes fn(rows args; scalars)."""
        for piece, size in self._pieces():
            made = np.zeros(len(piece) * BLOCK)
            made[:size] = fn(*(piece[:, a].reshape(-1)[:size] for a in args), *scalars)
            piece[:, out] = made.reshape(-1, BLOCK)

    def average(self, fn: Callable[..., Any], args: np.ndarray, scalars: np.ndarray) -> tuple[float, float]:
        """E fn(rows args; scalars), and the largest |fn|."""
        total = largest = 0.0
        for piece, size in self._pieces():
            made = fn(*(piece[:, a].reshape(-1)[:size] for a in args), *scalars)
            total += float(np.broadcast_to(made, size).sum())
            largest = max(largest, float(np.max(np.abs(made))))
        return total / self.size, largest

    def _pieces(self) -> Iterator[tuple[np.ndarray, int]]:
        """Some blocks at a time, and how many samples there are in them."""
        self.run()
        for begin in range(0, len(self.blocks), PIECE):
            self.stop()
            piece = self.blocks[begin : begin + PIECE]
            yield piece, min(self.size - begin * BLOCK, len(piece) * BLOCK)
