"""NNGP and NTK in one pass, N = 4096, X against X, as ratios: for asv, and for report.py."""

from __future__ import annotations

from .common import Ratio, interleaved, ratio
from .jobs import HELD, SIZE, gram, inputs, net, pairs, product, variance_held

DTYPES = ("float64", "float32")
CLOCKS = ("cpu", "wall")


def relu_to_product(features: int, dtype: str) -> Ratio:
    """Relu net of depth 3 to one plain matrix product of the same inputs."""
    x = inputs(features, dtype)
    return ratio(gram(net(3), x), product(x))


def deep_to_shallow(dtype: str) -> Ratio:
    """Depth 10 to depth 1 at 784 features."""
    x = inputs(784, dtype)
    return ratio(gram(net(10), x), gram(net(1), x))


def layer_to_relu(layer: str, dtype: str) -> Ratio:
    """Another closed form to relu, depth 3, at 64 features, where the recursion decides."""
    x = inputs(64, dtype)
    return ratio(gram(net(3, layer, weight=1.0), x), gram(net(3, weight=1.0), x))


def nanoseconds(layer: str, dtype: str, added: int = 5) -> float:
    """One thread's processor time for an entry and a layer: what `added` more layers cost."""
    held = layer == "Tanh"
    x = variance_held(64, dtype) if held else inputs(64, dtype)
    spread = HELD if held else (2**0.5, 0.1)
    jobs = [gram(net(depth, layer, *spread), x, n_jobs=1) for depth in (1 + added, 1)]
    deep, shallow = interleaved(*jobs)
    return 1e9 * (deep.cpu - shallow.cpu) / (added * pairs(SIZE))


class ReluToProduct:
    """Floor: one plain X @ Y.T."""

    params = ((784, 64), DTYPES, CLOCKS)
    param_names = ("features", "dtype", "clock")
    unit = "products"

    def track_ratio(self, features: int, dtype: str, clock: str) -> float:
        return relu_to_product(features, dtype).by(clock)


class Depth:
    """Floor: the same with one hidden layer."""

    params = (DTYPES, CLOCKS)
    param_names = ("dtype", "clock")
    unit = "depth 1"

    def track_ratio(self, dtype: str, clock: str) -> float:
        return deep_to_shallow(dtype).by(clock)


class Nonlinearities:
    """Floor: relu."""

    params = (("Erf", "Gelu", "Abs", "Sin", "Tanh"), DTYPES, CLOCKS)
    param_names = ("layer", "dtype", "clock")
    unit = "relu"

    def track_ratio(self, layer: str, dtype: str, clock: str) -> float:
        return layer_to_relu(layer, dtype).by(clock)


class Recursion:
    """One more layer, one thread."""

    params = (("Relu", "Tanh"), DTYPES)
    param_names = ("layer", "dtype")
    unit = "ns"

    def track_nanoseconds(self, layer: str, dtype: str) -> float:
        return nanoseconds(layer, dtype)
