"""Twelve Gaussian expectations that sampling is measured on: gates, pooling, softmax and small nets.

They are what the limit of a net asks for: each is E of a product over two inputs (or a layer's four
factors) of the quantity that the layer passes on.  Means and covariances come from the seed of the row:
the Gram matrix of random vectors, as the pre-activations of one layer have, neither well nor badly
conditioned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

Array = np.ndarray


@dataclass(frozen=True)
class Integrand:
    """E f(u_1, .., u_d) for u ~ N(mean, cov); f takes d arrays of one length."""

    name: str
    kind: str
    d: int
    f: Callable[..., Array]
    mean: Array
    cov: Array


def law(inputs: int, units: int, seed: int, common: float = 0.5, twin: float = 1.0) -> tuple[Array, Array]:
    """Mean and covariance of ``units`` pre-activations for each of ``inputs`` inputs, input by input.

    The Gram matrix of random vectors in inputs * units + 2 dimensions that share a part of relative size
    ``common`` among all and ``twin`` among the inputs of one unit; variances about one.
    """
    rng = np.random.default_rng(seed)
    space = inputs * units + 2
    x = rng.standard_normal((inputs, units, space)) + common * rng.standard_normal(space)
    if inputs > 1:
        x += twin * rng.standard_normal((units, space))
    x = x.reshape(inputs * units, space) / np.sqrt(space * (1 + common**2 + (inputs > 1) * twin**2))
    return 0.3 * rng.standard_normal(inputs * units), x @ x.T


def gru(*u: Array) -> Array:
    """One step from a zero state for two inputs: z h z' h'."""
    return expit(u[0]) * np.tanh(u[1]) * expit(u[2]) * np.tanh(u[3])


def lstm(*u: Array) -> Array:
    """The state o tanh(f c_0 + i g) of two inputs, c_0 = 1/2."""
    one = expit(u[0]) * np.tanh(0.5 * expit(u[1]) + expit(u[2]) * np.tanh(u[3]))
    return one * expit(u[4]) * np.tanh(0.5 * expit(u[5]) + expit(u[6]) * np.tanh(u[7]))


def gated_steps(*u: Array) -> Array:
    """Four steps h <- z h + (1 - z) tanh(a) from zero, for two inputs."""

    def state(v: tuple[Array, ...]) -> Array:
        h = 0.0 * v[0]
        for gate, new in zip(v[::2], v[1::2], strict=True):
            z = expit(gate)
            h = z * h + (1 - z) * np.tanh(new)
        return h

    return state(u[:8]) * state(u[8:])


def normal_gates(*u: Array) -> Array:
    """Product of normal distribution functions, an orthant probability in disguise."""
    return np.prod(ndtr(1.5 * np.stack(u)), axis=0)


def relu_of_max(*u: Array) -> Array:
    return np.maximum(np.max(u, axis=0), 0.0)


def two_maxima(*u: Array) -> Array:
    half = len(u) // 2
    return np.max(u[:half], axis=0) * np.max(u[half:], axis=0)


def softmax_entry(*u: Array) -> Array:
    """softmax(logits of one input)_0 softmax(logits of the other)_1."""
    half = len(u) // 2
    a, b = (np.exp(v - np.max(v, axis=0)) for v in (np.stack(u[:half]), np.stack(u[half:])))
    return a[0] / a.sum(axis=0) * b[1] / b.sum(axis=0)


def sharp_softmax_entry(*u: Array) -> Array:
    return softmax_entry(*(3.0 * v for v in u))


def four_relus(*u: Array) -> Array:
    return np.prod(np.maximum(np.stack(u), 0.0), axis=0)


def small_net(d: int, phi: Callable[[Array], Array], seed: int) -> Callable[..., Array]:
    """Square of the output of a net with d -> 16 -> 16 -> 1 units and fixed random weights."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((16, d)) * np.sqrt(1.5 / d)
    second = rng.standard_normal((16, 16)) * np.sqrt(1.5 / 16)
    last = rng.standard_normal(16) / 4

    def f(*u: Array) -> Array:
        return (last @ phi(second @ phi(first @ np.stack(u)))) ** 2

    return f


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


_ROWS: tuple[tuple[str, str, Callable[..., Array], int, int, float, int], ...] = (
    # name, kind, f, inputs, units, common part, seed
    ("GRU gates", "gated", gru, 2, 2, 0.5, 1),
    ("LSTM states", "gated", lstm, 2, 4, 0.5, 2),
    ("normal gates", "gated", normal_gates, 2, 4, 0.5, 3),
    ("four gated steps", "gated", gated_steps, 2, 8, 0.5, 4),
    ("relu of max", "pooled", relu_of_max, 1, 8, 1.0, 5),
    ("two maxima of 2", "pooled", two_maxima, 2, 2, 1.0, 6),
    ("two maxima of 4", "pooled", two_maxima, 2, 4, 1.0, 7),
    ("softmax entry", "softmax", softmax_entry, 2, 8, 0.5, 8),
    ("sharp softmax entry", "softmax", sharp_softmax_entry, 2, 8, 0.5, 9),
    ("four relus", "deep", four_relus, 2, 2, 1.0, 10),
    ("tanh net", "deep", small_net(8, np.tanh, 11), 1, 8, 0.5, 11),
    ("relu net", "deep", small_net(16, relu, 12), 1, 16, 0.5, 12),
)

INTEGRANDS = tuple(
    Integrand(name, kind, inputs * units, f, *law(inputs, units, seed, common))
    for name, kind, f, inputs, units, common, seed in _ROWS
)
"""Four gated, three pooled, two softmax and three of deep nets; d = 4, 8 and 16."""
