"""One replicate of an ensemble: the steps of a schedule on its own samples, with its own scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.kernels import ensemble as machine
from tpnum.law.hats import Hats
from tpnum.law.samples import Samples, Sums
from tpnum.law.steps import (
    Add,
    AddData,
    Apply,
    Average,
    Compute,
    Gaussians,
    Measure,
    Multiply,
    Products,
    Recall,
    Store,
    opposite,
)

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.law.draws import Draws
    from tpnum.law.steps import Direction, Schedule

FUSED: dict[tuple[str, tuple[int, ...]], int] = {
    ("tanh", ()): machine.TANH,
    ("tanh", (0,)): machine.SECH2,
    ("mul", ()): machine.MULTIPLY,
    ("square", ()): machine.MULTIPLY,
    ("relu", ()): machine.RELU,
    ("relu", (0,)): machine.STEP,
    ("step", ()): machine.STEP,
}
"""Functions with a kernel of their own, by name and order of differentiation."""


class Replicate:
    """Runs a schedule on ``size`` samples, those from ``first`` on of their streams.

    Afterwards ``values`` are the scalars, ``largest`` how far what they average varies within a stratum,
    where it is not their own size, ``kept`` the vectors.
    """

    def __init__(
        self,
        plan: Schedule,
        arenas: dict[str, np.ndarray],
        size: int,
        first: int,
        draws: Draws,
        data: Mapping[str, np.ndarray],
    ) -> None:
        self.plan, self.size, self.draws = plan, size, draws
        self.samples = {dim: Samples(blocks, size, first) for dim, blocks in arenas.items()}
        self.data = dict(data)
        self.values = np.full(len(plan.scalars) + 1, np.nan)
        self.values[-1] = 1.0
        self.largest: dict[int, float] = {}
        self.kept: dict[str, np.ndarray] = {}
        self.hats = {direction: Hats(channel) for direction, channel in plan.channels.items()}
        self.measured: dict[tuple[Direction, int], Sums] = {}
        self.waiting: list[tuple[Products, Sums]] = []
        self.combinations: dict[str, np.ndarray] = {}

    def run(self) -> Replicate:
        """All steps, in order; the arenas are free for others afterwards."""
        with np.errstate(all="ignore"):
            for step in self.plan.steps:
                RULES[type(step)](self, step)
            self.settle()
            self.kept = {name: self.samples[dim].row(row) for name, (dim, row) in self.plan.kept.items()}
        self.samples, self.combinations, self.hats = {}, {}, {}
        return self

    # --- rows

    def gaussians(self, step: Gaussians) -> None:
        x = self.samples[step.dim]
        if step.one.size:
            x.constant(step.one, 1.0)
        if step.names:
            self.draws.fill(step.dim, x, step.rows, step.names, step.places)

    def apply(self, step: Apply) -> None:
        x = self.samples[step.dim]
        kind = _fused(step.fn)
        if kind is not None:
            x.apply(kind, step.args, step.out)
            return
        for args, scalars, out in zip(step.args.T, self._scalars(step.scalars), step.out, strict=True):
            x.map(step.fn, args, scalars, out)

    def _scalars(self, places: np.ndarray) -> np.ndarray:
        self.settle()
        return self.values[places.T]

    def _factors(self, step: Add | Recall | Products | Multiply) -> np.ndarray:
        return step.coefs * self.values[step.scalars[0]] * self.values[step.scalars[1]]

    def add(self, step: Add) -> None:
        self.settle()
        made = np.zeros((len(step.names), self.samples[step.dim].height))
        _add_at(made, step.at, step.row, self._factors(step))
        for at, other, coef, scalar in step.others:
            made[at] += (coef * self.values[scalar]) * self.combinations[other]
        self.combinations.update(zip(step.names, made, strict=True))

    def add_data(self, step: AddData) -> None:
        self.settle()
        self.data[step.name] = np.sum([c * self.values[s] * self.data[v] for c, v, s in step.terms], axis=0)

    def store(self, step: Store) -> None:
        coefs = np.array([self.combinations[name] for name in step.names])
        rows = np.flatnonzero(coefs.any(axis=0))
        if rows.size:
            self.samples[step.dim].combine(step.rows, rows, coefs[:, rows])
        else:
            self.samples[step.dim].constant(step.rows, 0.0)

    # --- products with a matrix

    def measure(self, step: Measure) -> None:
        channel = self.plan.channels[step.direction]
        left, right = channel.operand_rows[step.begin : step.end], channel.operand_rows[: step.end]
        if step.dots:
            right = np.concatenate([right, self.hats[opposite(step.direction)].innovations])
        self.measured[step.direction, step.begin] = self.samples[channel.source].inner(left, right)

    def multiply(self, step: Multiply) -> None:
        self.settle()
        hats = self.hats[step.direction]
        channel = hats.channel
        if channel.data:
            every = np.stack([self.data[name] for name in channel.operands[: step.end]])
            moments = every[step.begin :] @ every.T / every.shape[1]
        else:
            moments = self.measured.pop((step.direction, step.begin)).value()
        second = np.diagonal(moments, step.begin)
        if not np.isfinite(second).all():
            bad = int(np.argmin(np.isfinite(second)))
            raise self.failure(step.operands[bad], "E Z^2", second[bad])
        new = hats.enter(moments[:, : step.end], step.begin, step.end)
        x = self.samples[channel.target]
        if new.size:
            pivots = hats.pivots[new]
            names = [channel.names[p] for p in pivots]
            places = np.array([channel.places[k] for k in new], dtype=np.int64)
            self.draws.fill(channel.target, x, channel.hat_rows[pivots], names, places)
        made = np.zeros((len(step.names), x.height))
        made[:, hats.innovations] = hats.factor[step.begin : step.end, : hats.rank]
        if step.upto.any():
            other = self.hats[opposite(step.direction)]
            slopes = channel.variance * other.slopes(moments[:, step.end :], step)
            _add_at(made, np.arange(len(made))[:, None], other.channel.operand_rows, slopes)
        made *= self._factors(step)[:, None]
        self.combinations.update(zip(step.names, made, strict=True))

    # --- scalars

    def recall(self, step: Recall) -> None:
        self.settle()
        made = self.hats[step.direction].gram[step.left, step.right]
        self._moments(step, made * self._factors(step))

    def products(self, step: Products) -> None:
        self.waiting.append((step, self.samples[step.dim].dots(step.left, step.right)))

    def settle(self) -> None:
        """See that the scalars so far are known."""
        waiting, self.waiting = self.waiting, []
        for step, sums in waiting:
            self._moments(step, sums.value() * self._factors(step))

    def _moments(self, step: Recall | Products, made: np.ndarray) -> None:
        """Of products; the square of a Gaussian varies by 2 of its mean in the last stratum."""
        square = step.left == step.right
        largest = 2.0 * np.abs(made[square])
        self.largest.update(zip(step.out[square].tolist(), largest.tolist(), strict=True))
        self._put(step.names, step.out, made)

    def average(self, step: Average) -> None:
        x = self.samples[step.dim]
        scalars = self._scalars(step.scalars)
        made = [x.average(step.fn, args, s) for args, s in zip(step.args.T, scalars, strict=True)]
        values, largest = zip(*made, strict=True)
        self.largest.update(zip(step.out.tolist(), largest, strict=True))
        self._put(step.names, step.out, np.array(values))

    def compute(self, step: Compute) -> None:
        self.settle()
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


def _fused(fn: Function) -> int | None:
    plain = fn.user is None and fn.split is None and not fn.params
    return FUSED.get((fn.name, fn.order)) if plain else None


def _add_at(out: np.ndarray, i: np.ndarray, j: np.ndarray, values: np.ndarray) -> None:
    """Add to entries of a table, of which some may come twice."""
    np.add.at(out.reshape(-1), (i * out.shape[1] + j).ravel(), values.ravel())


RULES: dict[type, Callable[[Replicate, Any], None]] = {
    Gaussians: Replicate.gaussians,
    Apply: Replicate.apply,
    Measure: Replicate.measure,
    Multiply: Replicate.multiply,
    Add: Replicate.add,
    AddData: Replicate.add_data,
    Store: Replicate.store,
    Recall: Replicate.recall,
    Products: Replicate.products,
    Average: Replicate.average,
    Compute: Replicate.compute,
}
