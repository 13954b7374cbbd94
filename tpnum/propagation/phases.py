"""`tpnum.phases`: the phase diagram of a block over its weights' and biases' deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import finite_array
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.propagation.activation import Expectations, plain
from tpnum.propagation.blocks import BlockMap, read_free, with_parameters
from tpnum.propagation.reading import positions

ROUNDS = 400
"""Of the fixed-point iteration, which Aitken's rule shortens."""

LARGEST = 1e5
"""A variance that has grown so far is on its way to infinity."""

START = 1.0


@dataclass(frozen=True)
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

    Activation and Dense: all points at once, from tables of one-dimensional integrals.  Any other block of
    `tpnum.nn` layers: point by point, some milliseconds each.
    """
    if not isinstance(block, Layer):
        raise SpecError(f"block is {no_layer(block)}, e.g. nn.serial(nn.Tanh(), nn.Dense(64))")
    weights = _axis(np.linspace(0.5, 3.0, 101) if W_std is None else W_std, "W_std")
    biases = _axis(np.linspace(0.0, 1.0, 101) if b_std is None else b_std, "b_std")
    spatial = positions(shape)
    known = plain(block)
    title = repr(block)
    if known is not None:
        q, chi = _all(known[0], weights[None, :] ** 2, biases[:, None] ** 2)
        return Phases(weights, biases, q, chi, title)
    BlockMap(block, spatial)
    read_free(("W_std", "b_std"), block)
    q, chi = (np.empty((biases.size, weights.size)) for _ in range(2))
    for i, j in np.ndindex(q.shape):
        made = with_parameters(block, {"W_std": float(weights[j]), "b_std": float(biases[i])})
        q[i, j], chi[i, j] = _one(BlockMap(made, spatial))
    return Phases(weights, biases, q, chi, title)


def _axis(values: Any, name: str) -> np.ndarray:
    made = finite_array(values, name, 1)
    if not made.size or np.any(made < 0.0):
        raise InputError(f"{name}: an array of deviations >= 0 is needed")
    return made


def _all(f: Expectations, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q = np.broadcast_to(START + 0.0 * weight, np.broadcast_shapes(weight.shape, bias.shape)).copy()

    def forward(q: np.ndarray) -> np.ndarray:
        return np.clip(weight * f.tabulated(q)[0] + bias, 1e-9, LARGEST)

    for _ in range(ROUNDS // 2):
        one = forward(q)
        two = forward(one)
        bend = two - 2.0 * one + q
        with np.errstate(divide="ignore", invalid="ignore"):
            jump = q - (one - q) ** 2 / bend
        inside = np.isfinite(jump) & (jump > 1e-9) & (jump < LARGEST)
        fresh = np.where(inside & (np.abs(jump - two) < 0.5 * two), jump, two)
        done = np.max(np.abs(fresh - q) / fresh) < 1e-10
        q = fresh
        if done:
            break
    chi = weight * f.tabulated(q)[1]
    return np.where(q >= LARGEST, np.inf, np.where(q <= 1e-9, 0.0, q)), chi


def _one(block: BlockMap) -> tuple[float, float]:
    q = START
    try:
        for _ in range(ROUNDS):
            fresh = float(block.forward(np.array([q]))[0])
            if abs(fresh - q) < 1e-10 * fresh or not 1e-9 < fresh < LARGEST:
                q = fresh
                break
            q = fresh
        return q, block.slopes(min(max(q, 1e-9), LARGEST)).chi_1
    except LimitError:
        return float("inf"), float("nan")
