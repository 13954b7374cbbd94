"""`tpnum.phases`: the phase diagram of a block over its weights' and biases' deviations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import finite_array
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.propagation.activation import LEAST, chain
from tpnum.propagation.blocks import BlockMap, read_free, with_parameters
from tpnum.propagation.reading import positions

ROUNDS, SETTLED = 40, 1e-11
"""Of the fixed-point iteration, which Aitken's rule shortens, and the relative change that is none."""

LARGEST = 1e5
"""A variance that has grown so far is on its way to infinity."""

START = 1.0

AHEAD, HALVINGS = 129, 48
"""Variances among which one that is not found by then is looked for, and how closely."""


@dataclass(frozen=True, eq=False)
class Phases:
    """q*, chi_1 and the depth scale of correlations on a grid: rows are b_std, columns W_std.

    chi_1 below 1 is the ordered phase, above 1 the chaotic one; q is infinite where variances grow for ever.
    """

    W_std: np.ndarray
    b_std: np.ndarray
    q: np.ndarray
    chi_1: np.ndarray
    title: str = ""

    @property
    def xi(self) -> np.ndarray:
        """-1 / log chi_1: the depth over which a gradient falls by e; negative in chaos."""
        with np.errstate(divide="ignore"):
            return -1.0 / np.log(self.chi_1)

    def plot(self, ax: Any = None) -> Any:
        """The diagram, with the critical line."""
        from tpnum.pictures import draw_phases

        return draw_phases(self, ax)

    def __repr__(self) -> str:
        chaos = float(np.mean(self.chi_1 > 1.0))
        return f"<Phases on {self.b_std.size} x {self.W_std.size} points, {chaos:.0%} of them chaotic>"


def phases(block: Layer, W_std: Any = None, b_std: Any = None, *, shape: Any = ()) -> Phases:
    """Where a block orders and where it is chaotic: q* and chi_1 for every pair of deviations.

    q* is what the variance 1 in front of the block comes to.  Weights and activations in series, in any
    order and number: all points at once, from tables of one-dimensional integrals.  Any other block of
    `tpnum.nn` layers: point by point, some milliseconds each.

    Parameters
    ----------
    block
        Layers of `tpnum.nn` that take what they give, as nn.serial(nn.Tanh(), nn.Dense(64)).
    W_std, b_std
        The deviations of all its weights and biases: numbers, 101 from 0.5 to 3 and from 0 to 1 by default.
    shape
        Positions of the features, for blocks that act on them.

    Raises
    ------
    SpecError
        A block whose input and output differ, or without weights and biases to vary; the message names it.
    InputError
        Deviations that are none.
    """
    if not isinstance(block, Layer):
        raise SpecError(f"block is {no_layer(block)}, e.g. nn.serial(nn.Tanh(), nn.Dense(64))")
    weights = _axis(np.linspace(0.5, 3.0, 101) if W_std is None else W_std, "W_std")
    biases = _axis(np.linspace(0.0, 1.0, 101) if b_std is None else b_std, "b_std")
    spatial = positions(shape)
    BlockMap(block, spatial)
    read_free(("W_std", "b_std"), block)
    known, title = chain(block), repr(block)
    if known is not None:
        weight, bias = (x.reshape(-1) for x in np.meshgrid(weights**2, biases**2))

        def forward(q: np.ndarray, at: np.ndarray) -> np.ndarray:
            return known.forward(q, weight[at], bias[at])

        q = _settled(forward, weight.size)
        chi = known.slope(np.clip(q, LEAST, LARGEST), weight, bias)
    else:
        q, chi = np.empty((2, biases.size * weights.size))
        for k, (b, w) in enumerate((b, w) for b in biases for w in weights):
            q[k], chi[k] = _one(BlockMap(with_parameters(block, {"W_std": w, "b_std": b}), spatial))
    q = np.where(q >= LARGEST, np.inf, np.where(q <= LEAST, 0.0, q))
    size = biases.size, weights.size
    return Phases(weights, biases, q.reshape(size), chi.reshape(size), title)


def _axis(values: Any, name: str) -> np.ndarray:
    made = finite_array(values, name, 1)
    if not made.size or np.any(made < 0.0):
        raise InputError(f"{name}: an array of deviations >= 0 is needed")
    return made


def _one(block: BlockMap) -> tuple[float, float]:
    def forward(q: np.ndarray, at: np.ndarray) -> np.ndarray:
        try:
            return block.forward(q)
        except LimitError:
            if q.size == 1:
                return np.array([np.inf])
            return np.concatenate([forward(part, at) for part in np.array_split(q, 2)])

    (q,) = _settled(forward, 1)
    try:
        return float(q), block.slopes(float(np.clip(q, LEAST, LARGEST))).chi_1
    except LimitError:
        return float(q), float("nan")


def _settled(forward: Callable[[np.ndarray, np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """What `START` comes to by a map of so many points' variances, between `LEAST` and `LARGEST`."""

    def step(q: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.clip(forward(q, at), LEAST, LARGEST)

    q, live = np.full(count, START), np.arange(count)
    for _ in range(ROUNDS):
        here = q[live]
        one = step(here, live)
        two = step(one, live)
        first, second = one - here, two - one
        with np.errstate(divide="ignore", invalid="ignore"):
            jump = here - first**2 / (second - first)
        # only towards what attracts, and not far
        good = (np.abs(second) < np.abs(first)) & (np.abs(jump - two) < 0.5 * two)
        q[live] = np.where(good, jump, two)
        live = live[np.abs(q[live] - here) >= SETTLED * q[live]]
        if not live.size:
            return q
    q[live] = _ahead(forward, q[live], live)
    return q


def _ahead(
    forward: Callable[[np.ndarray, np.ndarray], np.ndarray], q: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """The first fixed point in the direction in which variances move, else the end of the range there."""
    upwards = forward(q, at) > q
    end = np.where(upwards, LARGEST, LEAST)
    low, high = np.log(q), np.log(end)
    found = np.zeros(q.size, dtype=bool)
    before = low
    for part in np.linspace(0.0, 1.0, AHEAD)[1:]:
        here = (1.0 - part) * np.log(q) + part * np.log(end)
        passed = ~found & ((forward(np.exp(here), at) > np.exp(here)) != upwards)
        low, high = np.where(passed, before, low), np.where(passed, here, high)
        found |= passed
        before = here
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        same = (forward(np.exp(middle), at) > np.exp(middle)) == upwards
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.where(found, np.exp(high), end)
