"""A plan without index axes as a program for Gram panels (`tpnum.kernels.machine`): a level of one cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import machine as kernels
from tpnum.law import graph
from tpnum.lower import registers
from tpnum.lower.dense import Dense
from tpnum.lower.network import Network
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.builder import Instruction
    from tpnum.lower.numbers import Numbers
    from tpnum.lower.tables import SeriesTables

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}
ROUNDINGS = {
    "relu_layer": 1, "relu_bias_layer": 1, "abrelu_layer": 1, "both": 1, "join": 1, "dual": 2, "series": 2,
}  # fmt: skip
"""Of the operations, in units of a relu layer; smooth functions may be chaotic."""


@dataclass(frozen=True)
class Panels:
    """Code and parameters for one pair of data sets; ``outputs`` are the (kind, entry) stored by number."""

    code: np.ndarray
    numbers: Numbers
    registers: int
    tables: SeriesTables
    duals: tuple[str, ...]
    grams: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> int:
        """Roundings along the longest chain."""
        return sum(ROUNDINGS.get(kernels.OPERATIONS[op], 0) for op in self.code[:, 0].tolist())

    @property
    def listing(self) -> str:
        """The instructions, one per line."""
        return listing(self.code, kernels.OPERATIONS)


def panels(plan: Plan, rows: ProfileValues, cols: ProfileValues, dtype: np.dtype) -> Panels:
    """The program for every entry of the plan; raises `Unsupported` with the reason."""
    nodes = [entry.node for entries in plan.entries.values() for entry in entries]
    for node in graph.schedule(nodes):
        if node.tied or node.rows or node.cols:
            raise Unsupported("some variables are families over index axes")
        if isinstance(node, graph.Fresh) and rows is cols and plan.axes[0]:
            raise Unsupported("fresh noise at two positions of one input")
        if not isinstance(node, (graph.Gram, graph.Shared, graph.Fresh, graph.Sum, graph.Dual)):
            raise Unsupported(f"no instruction for a {type(node).__name__} node")
    network = Network(nodes)
    keys = [(kind, k) for kind, entries in plan.entries.items() for k in range(len(entries))]
    entries = [(plan.entries[kind][k], number) for number, (kind, k) in enumerate(keys)]
    # tangent kernels first: they pull the layers along, so that few registers live at a time
    entries.sort(key=lambda one: (keys[one[1]][0] != "ntk", one[1]))
    outputs = [(entry.node, entry.weight, number) for entry, number in entries]
    made = Dense(network, (rows, cols), dtype, outputs)
    if not made.sources:
        raise Unsupported("no entry depends on a product of two inputs")
    code, count = allocate(made.code, made.numbers.sizes)
    grams = tuple(data for data, _ in made.sources.values())
    return Panels(code, made.numbers, count, made.tables, tuple(made.duals), grams, tuple(keys))


def allocate(instructions: list[Instruction], sizes: list[int]) -> tuple[np.ndarray, int]:
    """Rows (operation, a, b, c, p, n) on registers, and how many of these there are, one at least.

    ``sizes`` are those of the blocks of numbers, one after the other.
    """
    starts = [0, *np.cumsum(sizes).tolist()]
    placed, kinds = registers.allocate(instructions, lambda value: "strip")
    rows = [
        (CODE["copy"], *places, 0, 0) if one is None else (CODE[one.op], *places, starts[one.p], one.n)
        for one, _, places in placed
    ]
    return np.array(rows, np.int64).reshape(-1, 6), max(len(kinds), 1)


def listing(code: np.ndarray, operations: tuple[str, ...]) -> str:
    """Instructions, one per line: the operation of a row's first number, then the others."""
    rows = ((operations[op], rest) for op, *rest in code.tolist())
    return "\n".join(f"{name:16s} " + " ".join(f"{v:3d}" for v in rest) for name, rest in rows)
