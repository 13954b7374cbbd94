"""Instructions, registers and parameters for the machine, before registers are allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import machine as kernels
from tpnum.law import graph
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
        given = iter(operands)
        reads = [-1 if slot == "w" else next(given) for slot in SLOTS[op]]
        made: list[int] = []
        for slot, read in zip(SLOTS[op], reads, strict=True):
            wanted = read >= 0 if slot == "m" else slot == "w" and len(made) - made.count(-1) < makes
            made.append(self._value() if wanted else -1)
        assert next(given, None) is None
        self.instructions.append(Instruction(op, tuple(reads), tuple(made), p, n))
        first, second, *_ = (*(v for v, slot in zip(made, SLOTS[op], strict=True) if slot != "r"), -1, -1)
        return first, second

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
    """Registers by linear scan, and how many: a value keeps its register until its last reader.

    A result that is made in place takes the register of its operand if nobody reads the operand again,
    else the register of a copy.
    """
    last: dict[int, int] = {}
    for k, one in enumerate(instructions):
        last |= dict.fromkeys((v for v in (*one.makes, *one.reads) if v >= 0), k)
    free: list[int] = []
    where: dict[int, int] = {}
    count = 0
    rows: list[Row] = []

    def fresh() -> int:
        nonlocal count
        if free:
            return free.pop()
        count += 1
        return count - 1

    for k, one in enumerate(instructions):
        places = []
        for read, made in zip(one.reads, one.makes, strict=True):
            if read >= 0 and made >= 0 and (last[read] > k or one.reads.count(read) > 1):
                where[made] = fresh()
                rows.append(("copy", where[made], where[read], -1, 0, 0))
            elif made >= 0:
                where[made] = where[read] if read >= 0 else fresh()
            places.append(where.get(made, where.get(read, -1)))
        a, b, c = (*places, -1, -1, -1)[:3]
        rows.append((one.op, a, b, c, one.p, one.n))
        mentioned = [v for v in (*one.reads, *one.makes) if v >= 0]
        kept = {where[v] for v in mentioned if last[v] > k}
        free += sorted({where[v] for v in mentioned} - kept)
    return rows, max(count, 1)
