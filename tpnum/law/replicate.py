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
from tpnum.law.unseen import GAUSSIAN, ONE, Unseen, factors, moved, of_product

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

    ``part`` is the probability that all samples of the ensemble may miss (`tpnum.law.unseen`).  Afterwards
    ``values`` are the scalars, ``missed`` what is not seen of them, ``kept`` the vectors, ``sizes`` theirs.
    """

    def __init__(
        self,
        plan: Schedule,
        arenas: dict[str, np.ndarray],
        size: int,
        first: int,
        draws: Draws,
        data: Mapping[str, np.ndarray],
        part: float,
        stop: Callable[[], None],
    ) -> None:
        self.plan, self.size, self.draws = plan, size, draws
        self.samples = {dim: Samples(blocks, size, first, stop) for dim, blocks in arenas.items()}
        self.data = dict(data)
        self.values = np.full(len(plan.scalars) + 1, np.nan)
        self.values[-1] = 1.0
        self.missed = np.zeros(len(self.values))
        self.unseen = Unseen(part, {dim: x.height for dim, x in self.samples.items()})
        self.operands = {way: np.zeros((3, len(c.operands))) for way, c in plan.channels.items()}
        self.sizes: dict[str, np.ndarray] = {}
        self.kept: dict[str, np.ndarray] = {}
        self.hats = {direction: Hats(channel) for direction, channel in plan.channels.items()}
        self.measured: dict[tuple[Direction, int], Sums] = {}
        self.waiting: list[tuple[Products, Sums, np.ndarray]] = []
        self.combinations: dict[str, np.ndarray] = {}

    def run(self) -> Replicate:
        """All steps, in order; the arenas are free for others afterwards."""
        with np.errstate(all="ignore"):
            for step in self.plan.steps:
                RULES[type(step)](self, step)
            self.settle()
            self.kept = {name: self.samples[dim].row(row) for name, (dim, row) in self.plan.kept.items()}
        self.sizes = {name: self.unseen.rows[dim][:, row] for name, (dim, row) in self.plan.kept.items()}
        self.samples, self.combinations, self.hats = {}, {}, {}
        return self

    # --- rows

    def gaussians(self, step: Gaussians) -> None:
        x = self.samples[step.dim]
        if step.one.size:
            x.constant(step.one, 1.0)
            self.unseen.become(step.dim, step.one, ONE)
        if step.names:
            self.unseen.become(step.dim, step.rows, GAUSSIAN)
            self.draws.fill(step.dim, x, step.rows, step.names, step.places)

    def apply(self, step: Apply) -> None:
        x = self.samples[step.dim]
        self.unseen.become(step.dim, step.out, self.unseen.applied(step.dim, step.fn, step.args))
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

    def _sizes(self, coefs: Any, scalars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sizes of factors, seen and unseen."""
        return factors(coefs, self.values[scalars], self.missed[scalars])

    def add(self, step: Add) -> None:
        self.settle()
        made = np.zeros((len(step.names), self.samples[step.dim].height))
        _add_at(made, step.at, step.row, self._factors(step))
        for at, other, coef, scalar in step.others:
            made[at] += (coef * self.values[scalar]) * self.combinations[other]
        self.combinations.update(zip(step.names, made, strict=True))
        self._combine(step)

    def _combine(self, step: Add) -> None:
        """`add` for what is not seen: the same terms."""
        rows = self.unseen.rows[step.dim][:, step.row]
        seen, hidden = self._sizes(step.coefs, step.scalars)
        if step.others:
            at, others, coefs, scalars = map(list, zip(*step.others, strict=True))
            named = np.array([self.unseen.named[other] for other in others]).T
            more = self._sizes(np.array(coefs), np.array([scalars]))
            place = np.concatenate([step.at, at])
            rows = np.concatenate([rows, named], axis=1)
            seen, hidden = (np.concatenate(both) for both in zip((seen, hidden), more, strict=True))
        else:
            place = step.at
        self.unseen.combine(step.names, place, rows, seen, hidden)

    def add_data(self, step: AddData) -> None:
        self.settle()
        self.data[step.name] = np.sum([c * self.values[s] * self.data[v] for c, v, s in step.terms], axis=0)

    def store(self, step: Store) -> None:
        self.unseen.store(step.dim, step.names, step.rows)
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
        self.operands[step.direction][:, step.begin : step.end] = self.unseen.rows[channel.source][:, left]
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
        operands = self.operands[step.direction][:, step.begin : step.end]
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
            self.unseen.become(channel.target, channel.hat_rows[pivots], GAUSSIAN)
        made = np.zeros((len(step.names), x.height))
        made[:, hats.innovations] = hats.factor[step.begin : step.end, : hats.rank]
        if step.upto.any():
            other = self.hats[opposite(step.direction)]
            slopes = channel.variance * other.slopes(moments[:, step.end :], step)
            _add_at(made, np.arange(len(made))[:, None], other.channel.operand_rows, slopes)
        made *= self._factors(step)[:, None]
        parts = self.unseen.hats(operands, second, channel.variance)
        self.unseen.combine(step.names, np.arange(len(made)), parts, *self._sizes(step.coefs, step.scalars))
        self.combinations.update(zip(step.names, made, strict=True))

    # --- scalars

    def recall(self, step: Recall) -> None:
        self.settle()
        made = self.hats[step.direction].gram[step.left, step.right]
        operands = self.operands[step.direction]
        self._moments(step, made, of_product(operands[:, step.left], operands[:, step.right]))

    def products(self, step: Products) -> None:
        rows = self.unseen.rows[step.dim]
        known = of_product(rows[:, step.left], rows[:, step.right])
        self.waiting.append((step, self.samples[step.dim].dots(step.left, step.right), known))

    def settle(self) -> None:
        """See that the scalars so far are known."""
        waiting, self.waiting = self.waiting, []
        for step, sums, known in waiting:
            self._moments(step, sums.value(), known)

    def _moments(self, step: Recall | Products, made: np.ndarray, known: np.ndarray) -> None:
        """Of products; the square of a Gaussian varies by 2 of its mean in the last stratum."""
        largest = np.where(step.left == step.right, 2.0, 1.0) * np.abs(made)
        lost = self.unseen.mean(known, largest)
        seen, hidden = self._sizes(step.coefs, step.scalars)
        missed = (seen + hidden) * lost + hidden * np.abs(made)
        self._put(step.names, step.out, made * self._factors(step), missed)

    def average(self, step: Average) -> None:
        x = self.samples[step.dim]
        scalars = self._scalars(step.scalars)
        made = [x.average(step.fn, args, s) for args, s in zip(step.args.T, scalars, strict=True)]
        values, largest = zip(*made, strict=True)
        missed = self.unseen.mean(self.unseen.applied(step.dim, step.fn, step.args), largest)
        self._put(step.names, step.out, np.array(values), missed)

    def compute(self, step: Compute) -> None:
        self.settle()
        made = np.asarray(step.fn(*(self.values[a] for a in step.args)), dtype=np.float64)
        self._put(step.names, step.out, made, moved(step.fn, self.values[step.args], self.missed[step.args]))

    def _put(self, names: list[str], places: np.ndarray, made: np.ndarray, missed: np.ndarray) -> None:
        self.values[places], self.missed[places] = made, missed
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
