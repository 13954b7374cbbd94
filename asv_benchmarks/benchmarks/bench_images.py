"""Convolutional nets: milliseconds a pair, and nanoseconds an entry and layer beside the bare relu strip."""

from __future__ import annotations

import numpy as np

import tpnum as tp
from tpnum import nn

from .bench_strips import nanoseconds as strip_nanoseconds
from .common import interleaved

DEPTH = 5


def net(head: str, layer: str = "Relu") -> nn.Layer:
    """Return five 3 x 3 convolutions with biases, and a global average or all positions."""
    layers: list[nn.Layer] = []
    for _ in range(DEPTH):
        layers += [nn.Conv(512, (3, 3), padding="SAME", W_std=1.4, b_std=0.1), getattr(nn, layer)()]
    ends = {"pooled": nn.GlobalAvgPool(), "flat": nn.Flatten()}
    return nn.serial(*layers, ends[head], nn.Dense(1))


def pairs(
    size: int, head: str, dtype: str, rows: int, cols: int, layer: str = "Relu", jobs: int = 2
) -> float:
    """Return wall seconds a pair of square images of three channels, NNGP and NTK."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, size, size, 3)) for n in (rows, cols))
    made = net(head, layer)

    def run() -> None:
        tp.kernel(made, x, y, get=("nngp", "ntk"), dtype=dtype, n_jobs=jobs)

    return interleaved(run, repeats=3)[0].wall / (rows * cols)


def entry(size: int, head: str, dtype: str, rows: int, cols: int, layer: str = "Relu") -> tuple[float, float]:
    """Return nanoseconds an entry and layer on one thread, and those of the relu strip with a bias in L1."""
    entries = size**4 if head == "pooled" else size**2
    each = pairs(size, head, dtype, rows, cols, layer, jobs=1) / entries / DEPTH
    return 1e9 * each, strip_nanoseconds("relu with bias", dtype)


class Images:
    """Milliseconds a pair of images."""

    params = (["pooled", "flat"], ["float64", "float32"])
    param_names = ("head", "dtype")

    def track_pair(self, head: str, dtype: str) -> float:
        """Return milliseconds a pair of 16 x 16 images."""
        rows, cols = (8, 64) if head == "pooled" else (128, 128)
        return 1e3 * pairs(16, head, dtype, rows, cols)
