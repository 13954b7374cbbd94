"""Instructions, registers and parameters for the machine, before registers are allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.plan.tables import SeriesTables

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.plan.profile import ProfileValues

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}
Norms = tuple[graph.Profile, graph.Profile]
"""The second moments of a variable at the first and at the second input."""


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
        return "\n".join(
            f"{kernels.OPERATIONS[op]:16s} " + " ".join(f"{v:3d}" for v in rest)
            for op, *rest in self.code.tolist()
        )


class Assembler:
    """Collects instructions on virtual registers, and the parameters that they read per input."""

    def __init__(self, rows: ProfileValues, cols: ProfileValues, dtype: np.dtype):
        self.profiles = (rows, cols)
        self.dtype = dtype
        self.tables = SeriesTables()
        self.ops: list[tuple[str, int, int, int, int, int]] = []
        self.registers = 0
        self.params: dict[Hashable, int] = {}
        self.columns: list[tuple[np.ndarray, np.ndarray]] = []
        self.duals: list[str] = []
        self.grams: list[tuple[str, str]] = []

    def finish(self, outputs: tuple[tuple[str, int], ...]) -> Machine:
        physical, count = _allocate(self.ops)
        code = np.array(
            [(CODE[op[0]], *physical[k], *op[4:]) for k, op in enumerate(self.ops)], dtype=np.int64
        )
        sizes = [v.size for v in self.profiles]
        first, second = (
            np.array([pair[s] for pair in self.columns]).reshape(len(self.columns), sizes[s]) for s in (0, 1)
        )
        return Machine(code, first, second, count, self.tables, tuple(self.duals), tuple(self.grams), outputs)

    def emit(self, op: str, a: int, b: int = -1, c: int = -1, p: int = 0, n: int = 0) -> int:
        self.ops.append((op, a, b, c, p, n))
        return a

    def register(self) -> int:
        self.registers += 1
        return self.registers - 1

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


def _allocate(ops: list[tuple[str, int, int, int, int, int]]) -> tuple[list[tuple[int, int, int]], int]:
    """Registers by linear scan: a virtual register lives from its first mention to its last."""
    last: dict[int, int] = {}
    for k, op in enumerate(ops):
        for register in op[1:4]:
            if register >= 0:
                last[register] = k
    free: list[int] = []
    where: dict[int, int] = {}
    count = 0
    placed = []
    for k, op in enumerate(ops):
        row = []
        for register in op[1:4]:
            if register < 0:
                row.append(-1)
                continue
            if register not in where:
                if free:
                    where[register] = free.pop()
                else:
                    where[register] = count
                    count += 1
            row.append(where[register])
        placed.append((row[0], row[1], row[2]))
        for register in {r for r in op[1:4] if r >= 0 and last[r] == k}:
            free.append(where[register])
    return placed, max(count, 1)
