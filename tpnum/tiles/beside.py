"""What is computed beside kernels, tile by tile: how far they may be off, and their derivatives.

A tile is computed as a matrix of its own, of its rows' inputs against its columns', so that its numbers are
those of these inputs alone: they are the same whoever computes it, in whatever order, however often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import InputError
from tpnum.evaluate.joint import Account
from tpnum.gauss.special.families import REPLICATES
from tpnum.tiles.gradients.derivatives import LINE, by_rules, derivatives, names_of, plan_with_slopes
from tpnum.tiles.grid import general_side
from tpnum.tiles.roads import Call, filled

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.extras import Inputs

ROUNDS = 1 + REPLICATES
"""Times that a tile is computed, at most, to find its errors."""

Blocks = dict[str, np.ndarray]


@dataclass(frozen=True)
class Beside:
    """Standard errors, or derivatives by each name of ``wrt``; nothing by default."""

    error: bool = False
    wrt: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.error or bool(self.wrt)

    def names(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """Of all arrays, the kernels' first."""
        errors = (error_of(kind) for kind in kinds if self.error)
        slopes = (slope_of(kind, name) for kind in kinds for name in self.wrt)
        return tuple(dict.fromkeys((*kinds, *errors, *slopes)))


def beside_of(error: bool, names: tuple[str, ...], batch: int | None, sums: bool = False) -> Beside:
    """What is wanted beside kernels, or ``sums`` instead of them, if it goes together."""
    if error and (names or sums):
        raise InputError("error: derivatives and sums have none; leave wrt and against out, or error")
    if batch is not None and (names or sums):
        raise InputError(
            "batch_size: kernels of batches have no derivatives or sums here; leave it or wrt and against out"
        )
    return Beside(error, names)


def error_of(kind: str) -> str:
    """What the standard errors of a kernel are called where they are stored."""
    return f"{kind}_error"


def slope_of(kind: str, name: str) -> str:
    """What the derivatives of a kernel by a name of ``wrt`` are called."""
    return f"{kind}_wrt_{name}"


class Companions:
    """What is beside the kernels of a net, by its ``plan``; ``ones`` is an input of either side."""

    def __init__(
        self,
        net: Layer | Program,
        plan: Plan | SampledPlan,
        kinds: tuple[str, ...],
        wanted: Beside,
        ones: tuple[Inputs, Inputs],
    ):
        self.plan, self.kinds, self.wanted = plan, kinds, wanted
        self._net, self._ones = net, ones
        if wanted.wrt:
            by_rules(plan)

    @cached_property
    def _slopes(self) -> tuple[Plan, int]:
        paths = names_of(self._net, self.wanted.wrt)
        return plan_with_slopes(self._net, paths, self._ones, self.kinds, LINE), len(paths)

    def pairs(self, kernels: int) -> int:
        """As many pairs as a tile may have without taking long, of as many of the kernels alone."""
        if self.wanted.error:
            return max(1, kernels // ROUNDS)
        jets, count = self._slopes
        return max(1, min(kernels, (4 * general_side(jets)) ** 2) // (1 + count))

    def fill(self, blocks: Blocks, call: Call) -> Account:
        """All arrays of a tile, those of the kernels as ``call`` fills them; the account of their errors."""
        lost, account = filled(self.plan, replace(call, outs={k: blocks[k] for k in self.kinds}), True)
        for kind in self.kinds:
            blocks[error_of(kind)][...] = lost[kind]
        return account

    def differentiate(self, blocks: Blocks, call: Call) -> Account:
        """The kernels of a tile and their derivatives; the account of their errors."""
        jets, count = self._slopes
        block = blocks[self.kinds[0]]
        with np.errstate(all="ignore"):  # what is not finite is refused
            made, account = derivatives(
                jets, count, call.first, call.second, block.shape, block.dtype, False, call.effort
            )
        for kind in self.kinds:
            blocks[kind][...] = made[kind][0]
            for name, slope in zip(self.wanted.wrt, made[kind][1], strict=True):
                blocks[slope_of(kind, name)][...] = slope
        return account
