"""The jobs that are timed: inputs, nets, and the matrix product that is their floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import nn

SIZE = 4096
GET = ("nngp", "ntk")
Job = Callable[[], object]


def inputs(features: int, dtype: str, size: int = SIZE) -> np.ndarray:
    """Return Gaussian examples, one a row."""
    return np.random.default_rng(0).standard_normal((size, features)).astype(dtype)


def net(depth: int, layer: str = "Relu", weight: float = 2**0.5, bias: float = 0.1) -> Any:
    """Return Dense and a nonlinearity, `depth` times, and a Dense readout; every Dense has a bias."""
    dense = {"op": "Dense", "out_dim": 512, "W_std": weight, "b_std": bias}
    return nn.from_spec({"op": "serial", "layers": [dense, {"op": layer}] * depth + [dense]})


def gram(net: Any, x: np.ndarray, n_jobs: int | None = None) -> Job:
    """Return the job of NNGP and NTK of x against itself, into arrays that exist already."""
    out = {get: np.zeros((len(x), len(x)), x.dtype) for get in GET}
    return lambda: tp.kernel(net, x, get=GET, dtype=x.dtype, n_jobs=n_jobs, out=out)


def product(x: np.ndarray) -> Job:
    """Return the job of one plain X @ Y.T; Y is a copy, or NumPy would take the slower symmetric path."""
    y = x.copy()
    return lambda: x @ y.T


def pairs(size: int) -> int:
    """Return how many entries of a symmetric matrix have to be computed."""
    return size * (size + 1) // 2
