"""Layers whose kernels have no closed form, milliseconds a pair: for asv, and for report.py."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning

from .common import interleaved

BOTH = ("nngp", "ntk")
SEED = 0


def _attention(scaling: str) -> nn.Layer:
    return nn.serial(nn.GlobalSelfAttention(8, 8, 8, 4, scaling=scaling), nn.GlobalAvgPool(), nn.Dense(1))


def _pooled(*before: nn.Layer) -> nn.Layer:
    pool = nn.MaxPool((2, 2), (2, 2))
    return nn.serial(nn.Conv(8, (2, 2)), *before, pool, nn.GlobalAvgPool(), nn.Dense(1))


def _forced(depth: int = 20) -> nn.Layer:
    """A program of about 100 lines that no rule reaches: a pooling of a pooling, and residual blocks."""
    layers: list[nn.Layer] = [nn.Conv(8, (2,)), nn.Relu(), nn.MaxPool((2,), (2,)), nn.MaxPool((2,), (2,))]
    layers += [nn.Flatten(), nn.Dense(8)]
    for act in (nn.Tanh(), nn.Gelu()) * (depth // 2):
        layers += [nn.FanOut(2), nn.parallel(nn.Identity(), nn.serial(nn.Dense(8), act)), nn.FanInSum()]
    return nn.serial(*layers, nn.Dense(1))


@dataclass(frozen=True)
class Case:
    """A net, the shape of an input, how many there are, and what is asked of `tpnum.kernel`.

    Pairs are those of inputs, of the ``windows`` of each, or of batches of ``batch`` inputs, and should take
    at most ``target`` milliseconds (20 s of two threads for the ensemble).
    """

    net: nn.Layer
    shape: tuple[int, ...]
    inputs: int
    target: float
    get: tuple[str, ...] = ("nngp",)
    options: dict[str, Any] = field(default_factory=dict)
    windows: int = 1
    batch: int = 1

    @property
    def pairs(self) -> float:
        units = self.inputs // self.batch
        return units * (units + 1) / 2 * self.windows**2


def _batchnorm(layers: int) -> nn.Layer:
    blocks = [(nn.Dense(8), nn.BatchNorm(), nn.Relu()) for _ in range(layers)]
    return nn.serial(*(layer for block in blocks for layer in block), nn.Dense(1))


CASES = {
    "GRU, 16 steps": Case(nn.Gru(8, b_std=0.1, return_sequences=False), (16, 3), 8, 100.0),
    "LSTM, 16 steps": Case(nn.Lstm(8, b_std=0.1, return_sequences=False), (16, 3), 8, 200.0),
    "max pooling 2 x 2, 1e-4": Case(_pooled(), (9, 9, 3), 8, 0.03, options={"rtol": 1e-4}, windows=16),
    "relu and max pooling 2 x 2, 1e-4": Case(
        _pooled(nn.Relu()), (9, 9, 3), 8, 0.03, options={"rtol": 1e-4}, windows=16
    ),
    "attention by 1/n, 64 tokens, and NTK": Case(_attention("1/n"), (64, 12), 24, 1.0, BOTH),
    "attention by 1/sqrt(n), 16 tokens, 1e-3": Case(
        _attention("1/sqrt(n)"), (16, 12), 8, 20.0, options={"rtol": 1e-3}
    ),
    "batchnorm and relu, batches of 32, 1e-9": Case(
        _batchnorm(1), (10,), 256, 5.0, options={"rtol": 1e-9, "batch_size": 32}, batch=32
    ),
    "ensemble of 100 lines and 64 inputs, NTK": Case(
        _forced(), (9, 3), 64, 19.2, ("ntk",), {"budget": 1 << 14}
    ),
}


def milliseconds(name: str, repeats: int = 3) -> float:
    """Return one thread's processor time for a pair."""
    case = CASES[name]
    x = np.random.default_rng(SEED).standard_normal((case.inputs, *case.shape))

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)
            tp.kernel(case.net, x, get=case.get, n_jobs=1, **case.options)

    (found,) = interleaved(run, repeats=repeats)
    return 1e3 * found.cpu / case.pairs


class Architectures:
    """One thread's processor time for a pair."""

    params = (tuple(CASES),)
    param_names = ("case",)
    unit = "ms"
    timeout = 900

    def track_milliseconds(self, case: str) -> float:
        return milliseconds(case)
