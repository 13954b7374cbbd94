"""Instructions, registers and parameters for the machine, before registers are allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.lower import registers
from tpnum.lower.registers import made_by
from tpnum.lower.tables import SeriesTables

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.profile import ProfileValues

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}

SLOTS = {
    "gram": "w", "zero": "w", "first": "mw", "relu": "mm", "relu_bias": "mm", "abrelu_layer": "mm",
    "dense": "mm", "multiply": "mr", "add": "mr", "add_product": "mrr", "add_outer": "m", "start": "ww",
    "collect": "mmr", "join": "mr", "both": "wrr", "normal": "wr", "plain": "wr",
    "copy": "wr", "store_covariance": "r", "store_scaled": "r", "dual": "wrw", "series": "wrw",
}  # fmt: skip
"""What each operation does to its registers a, b, c: reads, writes, or modifies them in place."""

Norms = tuple[graph.Profile, graph.Profile]
"""The second moments of a variable at the first and at the second input."""


@dataclass(frozen=True)
class Instruction:
    """An operation on values: it reads some and makes new ones, slot by slot, -1 where there is none.

    No value ever changes.  Where the kernel works in place, the slot has both the value that it reads and
    the one that stands there afterwards.
    """

    op: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    p: int
    n: int


@dataclass(frozen=True)
class Machine:
    """Code and parameters for one pair of data sets; ``outputs`` are the (kind, entry) stored by number."""

    code: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    registers: int
    tables: SeriesTables
    duals: tuple[str, ...]
    grams: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> int:
        """Roundings along the longest chain, in units of a relu layer; smooth functions may be chaotic."""
        layers = {CODE[name]: 1 for name in ("relu", "relu_bias", "abrelu_layer", "both")}
        layers |= {CODE["dual"]: 2, CODE["series"]: 2, CODE["join"]: 1}
        return sum(layers.get(op, 0) for op in self.code[:, 0].tolist())

    @property
    def listing(self) -> str:
        """The instructions, one per line."""
        return listing(self.code, kernels.OPERATIONS)


def listing(code: np.ndarray, operations: tuple[str, ...]) -> str:
    """Instructions, one per line: the operation of a row's first number, then the others."""
    rows = ((operations[op], rest) for op, *rest in code.tolist())
    return "\n".join(f"{name:16s} " + " ".join(f"{v:3d}" for v in rest) for name, rest in rows)


class Assembler:
    """Collects instructions on values, and the parameters that they read per input."""

    def __init__(self, rows: ProfileValues, cols: ProfileValues, dtype: np.dtype):
        self.profiles = (rows, cols)
        self.dtype = dtype
        self.tables = SeriesTables()
        self.instructions: list[Instruction] = []
        self.values_made = 0
        self.params: dict[Hashable, int] = {}
        self.columns: list[tuple[np.ndarray, np.ndarray]] = []
        self.duals: list[str] = []
        self.grams: list[tuple[str, str]] = []

    def finish(self, outputs: tuple[tuple[str, int], ...]) -> Machine:
        rows, count = allocate(self.instructions)
        code = np.array([(CODE[op], *rest) for op, *rest in rows], dtype=np.int64)
        sizes = [v.size for v in self.profiles]
        first, second = (
            np.array([pair[s] for pair in self.columns]).reshape(len(self.columns), sizes[s]) for s in (0, 1)
        )
        return Machine(code, first, second, count, self.tables, tuple(self.duals), tuple(self.grams), outputs)

    def emit(self, op: str, *operands: int, p: int = 0, n: int = 0, makes: int = 2) -> tuple[int, int]:
        """Append an operation on values, -1 for those it can do without; the two that it makes, or -1.

        Of what it would write afresh it writes the first ``makes``.
        """
        reads, made, results = made_by(SLOTS[op], operands, makes, self._value)
        self.instructions.append(Instruction(op, reads, made, p, n))
        return results

    def value_of(self, op: str, *operands: int, p: int = 0, n: int = 0) -> int:
        """The one value that an operation makes."""
        return self.emit(op, *operands, p=p, n=n, makes=1)[0]

    def _value(self) -> int:
        self.values_made += 1
        return self.values_made - 1

    def param(self, key: Hashable | None, row: np.ndarray, col: np.ndarray) -> int:
        """The number of a parameter per row and per column; what has a key is kept once."""
        if key is not None and key in self.params:
            return self.params[key]
        self.columns.append((row, col))
        if key is not None:
            self.params[key] = len(self.columns) - 1
        return len(self.columns) - 1

    def block(self, rows: np.ndarray, cols: np.ndarray) -> int:
        """Consecutive parameters; the number of the first."""
        first = len(self.columns)
        self.columns += list(zip(rows, cols, strict=True))
        return first

    def deviations(self, norms: Norms, factor: float) -> int:
        """The number of the roots of the second moments, times a factor."""
        sides = []
        for side in (0, 1):
            root = np.sqrt(self.value(norms, side))
            sides.append(np.where(root == 0.0, 0.0, root) * factor)
        return self.param(("deviation", norms[0].key, norms[1].key, factor), *sides)

    def inverse_deviations(self, norms: Norms) -> int:
        sides = [inverse(np.sqrt(self.value(norms, side))) for side in (0, 1)]
        return self.param(("inverse", norms[0].key, norms[1].key), *sides)

    def value(self, norms: Norms | None, side: int) -> np.ndarray:
        assert norms is not None
        return self.values(norms[side], side)

    def values(self, node: graph.Profile, side: int) -> np.ndarray:
        return np.asarray(self.profiles[side](node)).reshape(self.profiles[side].size)


def inverse(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0.0, 0.0, 1.0 / np.where(x == 0.0, 1.0, x))


Row = tuple[str, int, int, int, int, int]
"""An operation on registers: (name, a, b, c, p, n)."""


def allocate(instructions: list[Instruction]) -> tuple[list[Row], int]:
    """The operations on registers, and how many registers there are, one at least."""
    placed, kinds = registers.allocate(instructions, lambda value: "strip")
    rows: list[Row] = [
        ("copy", *places, 0, 0) if one is None else (one.op, *places, one.p, one.n)
        for one, _, places in placed
    ]
    return rows, max(len(kinds), 1)
