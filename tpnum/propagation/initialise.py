"""`tpnum.initialise`: deviations of a net's weights and biases that keep both variances at one."""

from __future__ import annotations

from typing import Any

from tpnum.errors import LimitError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import Serial
from tpnum.propagation.blocks import arguments_of, changed, has_parameter, named_layers
from tpnum.propagation.reading import Moments, emitted, example, inputs

CLOSE = 1e-9


def initialise(net: Layer, shape: Any = None) -> Layer:
    """The same net with the W_std and b_std at which both variances are one behind every layer of weights.

    For inputs of mean square 1: E Z^2 = 1 behind each layer of weights, and a squared gradient that passes
    from one such layer to the one before keeps its size.  With what is between two of them giving E f^2 = A
    and growing a perturbation by B that is W_std^2 = 1 / B, b_std^2 = 1 - A / B.  ``shape``, the (..,
    channels) of one example, is needed where the net has positions.

    Raises
    ------
    LimitError
        A layer that cannot, which the message names: one whose A is above B, a sum with a shortcut.
    """
    import numpy as np

    if not isinstance(net, Layer):
        raise SpecError(f"net is {no_layer(net)}, e.g. nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(1))")
    spatial = example(shape)
    named = named_layers(net)
    made: list[Layer] = []
    kept: dict[tuple[str, bool], Layer] = {}
    begin = 0  # the first layer behind the last weights
    for place, layer in named:
        weighted = _weights(layer)
        if not weighted:
            if has_parameter(layer, "W_std"):
                _refuse(place, layer)
            made.append(layer)
            continue
        first = not any(_weights(x) for x in made)
        segment = [*made[begin:], changed(layer, W_std=1.0, b_std=None)]
        key = (repr(segment) + repr(layer), first)
        if key not in kept:
            kept[key] = _tuned(segment, layer, place, first, spatial, np.array([[1.0]]))
        made.append(kept[key])
        begin = len(made)
    return Serial(tuple(made)) if isinstance(net, Serial) or len(made) > 1 else made[0]


def _weights(layer: Layer) -> bool:
    return {"W_std", "b_std"} <= set(arguments_of(layer))


def _tuned(
    segment: list[Layer], layer: Layer, place: str, first: bool, spatial: tuple[int, ...], gram: Any
) -> Layer:
    """The layer with the deviations for what comes before it."""
    from tpnum.nn.dense import Dense

    before: list[tuple[str, Layer]] = [] if first else [("input", Dense(_taken(segment), W_std=1.0))]
    named = [*before, *((place, x) for x in segment)]
    program, stages = emitted(named, spatial)
    features = [stage.features for stage in stages]
    moments = Moments(program, inputs(gram, spatial), features)
    forward = float(moments.diagonal(features[-1])[0])
    if not forward > 0.0:
        raise LimitError(f"{place} ({layer.op}): no signal reaches it, so no deviation keeps its variance")
    if first:
        return changed(layer, W_std=forward**-0.5, b_std=0.0)
    start, end = (float(moments.second(f, True)[0, 0]) for f in (features[0], features[-1]))
    if not end > 0.0:
        raise LimitError(f"{place} ({layer.op}): no gradient passes what is before it")
    weight = start / end
    bias = 1.0 - weight * forward
    if bias < -CLOSE:
        raise LimitError(
            f"{place} ({layer.op}) cannot keep both variances at one: behind what is before it E f^2 = "
            f"{forward:.6g} is above E f'^2 = {end / start:.6g}, and a bias only adds"
        )
    return changed(layer, W_std=weight**0.5, b_std=bias**0.5 if bias > 1e-14 else 0.0)


def _taken(segment: list[Layer]) -> int:
    """A width for what a segment takes: any will do, but a sum inside may know its own."""
    widths = [getattr(x, "out_dim", getattr(x, "out_chan", None)) for x in segment]
    return next((w for w in widths if isinstance(w, int)), 64)


def _refuse(place: str, layer: Layer) -> None:
    """Say of a layer with weights inside why it cannot."""
    raise LimitError(
        f"{place} ({layer.op}) cannot keep both variances at one: it sums or joins branches with weights, "
        "and variances of branches add up; put the weights in series, or scale the branches"
    )
