"""The jobs that are timed: inputs, nets, and the matrix product that is their floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import nn

SIZE = 4096
GET = ("nngp", "ntk")
# W_std and b_std that lead tanh's variance to 1.19: W^2 E tanh(u)^2 + b^2 = 1.19 at u ~ N(0, 1.19)
HELD = (1.664, 0.1)
Job = Callable[[], object]


def inputs(features: int, dtype: str, size: int = SIZE) -> np.ndarray:
    """Return Gaussian examples, one a row."""
    return np.random.default_rng(0).standard_normal((size, features)).astype(dtype)


def variance_held(features: int, dtype: str, size: int = SIZE) -> np.ndarray:
    """Return inputs for which a net of `HELD` keeps every variance between 0.6 and 1.2."""
    x = np.random.default_rng(0).standard_normal((size, features))
    x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
    return (x * np.linspace(0.47, 0.65, size)[:, None]).astype(dtype)


def net(depth: int, layer: str = "Relu", weight: float = 2**0.5, bias: float | None = 0.1) -> Any:
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
