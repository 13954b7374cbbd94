"""One replicate of an ensemble: the steps of a schedule on its own samples, with its own scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.kernels import ensemble as kernels
from tpnum.law.hats import Hats
from tpnum.law.steps import (
    Add,
    AddData,
    Apply,
    Average,
    Compute,
    Gaussians,
    Multiply,
    Products,
    Recall,
    Store,
)

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.law.draws import Draws
    from tpnum.law.steps import Schedule

FUSED: dict[tuple[str, tuple[int, ...]], Callable[..., None]] = {
    ("tanh", ()): kernels.tanh,
    ("tanh", (0,)): kernels.sech2,
    ("mul", ()): kernels.multiply,
    ("square", ()): kernels.multiply,
}
"""Functions with a kernel of their own, by name and order of differentiation."""

PIECE = 1 << 14
"""Samples that a function is called with at a time."""


class Replicate:
    """Runs a schedule with ``size`` samples; afterwards ``values`` are the scalars, ``kept`` the vectors."""

    def __init__(
        self,
        plan: Schedule,
        arenas: dict[str, np.ndarray],
        size: int,
        draws: Draws,
        data: Mapping[str, np.ndarray],
    ) -> None:
        self.plan, self.arenas, self.size, self.draws = plan, arenas, size, draws
        self.data = dict(data)
        self.values = np.full(len(plan.scalars) + 1, np.nan)
        self.values[-1] = 1.0
        self.kept: dict[str, np.ndarray] = {}
        self.hats = {direction: Hats(channel) for direction, channel in plan.channels.items()}
        self.combinations: dict[str, np.ndarray] = {}

    def run(self) -> Replicate:
        """All steps, in order; the arenas are free for others afterwards."""
        with np.errstate(all="ignore"):
            for step in self.plan.steps:
                RULES[type(step)](self, step)
        self.kept = {name: self.arenas[dim][row].copy() for name, (dim, row) in self.plan.kept.items()}
        self.arenas, self.combinations, self.hats = {}, {}, {}
        return self

    # --- rows

    def gaussians(self, step: Gaussians) -> None:
        x = self.arenas[step.dim]
        x[step.one] = 1.0
        if step.names:
            self.draws.fill(step.dim, x, step.rows, step.names, step.places)

    def apply(self, step: Apply) -> None:
        x = self.arenas[step.dim]
        fused = _fused(step.fn)
        if fused is not None:
            fused(x, step.args, step.out)
            return
        for args, scalars, out in zip(step.args.T, self._scalars(step.scalars), step.out, strict=True):
            for begin in range(0, self.size, PIECE):
                piece = slice(begin, begin + PIECE)
                x[out, piece] = step.fn(*(x[a, piece] for a in args), *scalars)

    def _scalars(self, places: np.ndarray) -> np.ndarray:
        return self.values[places.T]

    def _factors(self, step: Add | Recall | Products) -> np.ndarray:
        return step.coefs * self.values[step.scalars[0]] * self.values[step.scalars[1]]

    def add(self, step: Add) -> None:
        height = self.arenas[step.dim].shape[0]
        weights = self._factors(step)
        made = np.zeros((len(step.names), height))
        np.add.at(made.reshape(-1), step.at * height + step.row, weights)
        for at, other, coef, scalar in step.others:
            made[at] += (coef * self.values[scalar]) * self.combinations[other]
        self.combinations.update(zip(step.names, made, strict=True))

    def add_data(self, step: AddData) -> None:
        self.data[step.name] = np.sum([c * self.values[s] * self.data[v] for c, v, s in step.terms], axis=0)

    def store(self, step: Store) -> None:
        coefs = np.stack([self.combinations[name] for name in step.names])
        rows = np.flatnonzero(coefs.any(axis=0))
        if rows.size:
            kernels.combine(self.arenas[step.dim], rows, coefs[:, rows], step.rows)
        else:
            self.arenas[step.dim][step.rows] = 0.0

    # --- products with a matrix

    def multiply(self, step: Multiply) -> None:
        hats, opposite = self.hats[step.direction], self.hats.get((step.direction[0], not step.direction[1]))
        channel = hats.channel
        count = len(step.names)
        dots = opposite is not None and bool(step.upto.any())
        if channel.data:
            every = np.stack([self.data[name] for name in channel.operands[: step.end]])
            moments = every[step.begin :] @ every.T / every.shape[1]
        else:
            right = channel.operand_rows[: step.end]
            if dots and opposite is not None:
                right = np.concatenate([right, opposite.innovations])
            moments = np.empty((count, right.size))
            kernels.inner(self.arenas[channel.source], right[step.begin : step.end], right, moments)
        for name, second in zip(step.operands, np.diagonal(moments, step.begin), strict=False):
            if not np.isfinite(second):
                raise self.failure(name, "E Z^2", second)
        new = hats.enter(moments[:, : step.end], step.begin, step.end)
        x = self.arenas[channel.target]
        if new.size:
            pivots = hats.pivots[new]
            names = [channel.names[p] for p in pivots]
            places = np.array([channel.places[k] for k in new], dtype=np.int64)
            self.draws.fill(channel.target, x, channel.hat_rows[pivots], names, places)
        made = np.zeros((count, x.shape[0]))
        made[:, hats.innovations] = hats.factor[step.begin : step.end, : hats.rank]
        if dots and opposite is not None:
            slopes = channel.variance * opposite.slopes(moments[:, step.end :], step)
            rows = opposite.channel.operand_rows
            for i in range(count):
                made[i] += np.bincount(rows, slopes[i], minlength=x.shape[0])
        self.combinations.update(zip(step.names, made, strict=True))

    # --- scalars

    def recall(self, step: Recall) -> None:
        made = self.hats[step.direction].gram[step.left, step.right]
        self._put(step.names, step.out, made * self._factors(step))

    def products(self, step: Products) -> None:
        made = np.empty(step.out.size)
        kernels.dots(self.arenas[step.dim], step.left, step.right, made)
        self._put(step.names, step.out, made * self._factors(step))

    def average(self, step: Average) -> None:
        x = self.arenas[step.dim]
        made = np.empty(step.out.size)
        for k, (args, scalars) in enumerate(zip(step.args.T, self._scalars(step.scalars), strict=True)):
            made[k] = average(step.fn, [x[a] for a in args], scalars)
        self._put(step.names, step.out, made)

    def compute(self, step: Compute) -> None:
        made = np.asarray(step.fn(*(self.values[a] for a in step.args)), dtype=np.float64)
        self._put(step.names, step.out, made)

    def _put(self, names: list[str], places: np.ndarray, made: np.ndarray) -> None:
        self.values[places] = made
        finite = np.isfinite(self.values[places])
        if not finite.all():
            bad = int(np.argmin(finite))
            raise self.failure(names[bad], "its value", self.values[places[bad]])

    def failure(self, name: str, what: str, value: float) -> LimitError:
        """The error about a number that is not one."""
        return LimitError(
            f"{self.plan.where(name)}: {what} is {value} in an ensemble of {self.size} samples: it does not "
            "exist or overflows; look for a function that grows too fast or a division by zero before it"
        )


def _fused(fn: Function) -> Callable[..., None] | None:
    plain = fn.user is None and fn.split is None and not fn.params
    return FUSED.get((fn.name, fn.order)) if plain else None


def average(fn: Callable[..., Any], rows: list[np.ndarray], scalars: Any = ()) -> Any:
    """The mean of fn(*rows, *scalars) over the samples; of k components, k means."""
    size = rows[0].size
    total: Any = 0.0
    for begin in range(0, size, PIECE):
        pieces = [row[begin : begin + PIECE] for row in rows]
        made = np.asarray(fn(*pieces, *scalars), dtype=np.float64)
        if made.ndim and made.shape[-1] == pieces[0].size:
            total = total + made.sum(axis=-1)
        else:
            total = total + made * pieces[0].size
    return total / size


RULES: dict[type, Callable[[Replicate, Any], None]] = {
    Gaussians: Replicate.gaussians,
    Apply: Replicate.apply,
    Multiply: Replicate.multiply,
    Add: Replicate.add,
    AddData: Replicate.add_data,
    Store: Replicate.store,
    Recall: Replicate.recall,
    Products: Replicate.products,
    Average: Replicate.average,
    Compute: Replicate.compute,
}
