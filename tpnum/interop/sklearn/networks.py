"""Nets as parameters of estimators: `MLP`, and ``net__W_std`` of any net."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from tpnum import nn
from tpnum.arguments import shown, whole
from tpnum.errors import InputError, SpecError
from tpnum.nn.deviations import deviations, paths_of, with_deviations
from tpnum.tiles.inputs import kept

AXES = (32,), (32, 32), (8, 8, 8)
"""Shapes of sequences, images and volumes that say whether a net takes such."""
WIDTH = 512
"""Of layers whose width has no effect on the kernel."""
PREFIX = "net__"


class MLP(BaseEstimator):
    """A dense net: ``depth`` times Dense(W_std, b_std) and a nonlinearity, then a Dense(last_W_std).

    Parameters
    ----------
    depth : hidden layers.
    activation : the name of a layer of `tpnum.nn`, any case ("relu", "erf", "gelu", ..), or such a layer.
    W_std, b_std : deviations of weights and biases of the hidden layers; b_std=None for no biases.
    last_W_std : that of the readout.
    """

    def __init__(
        self,
        depth: int = 2,
        activation: Any = "relu",
        W_std: float = 2.0**0.5,
        b_std: float | None = 0.1,
        last_W_std: float = 1.0,
    ):
        self.depth = depth
        self.activation = activation
        self.W_std = W_std
        self.b_std = b_std
        self.last_W_std = last_W_std

    def build(self) -> nn.Layer:
        """The net."""
        layers: list[nn.Layer] = []
        for _ in range(whole(self.depth, "depth", 0, 10_000)):
            layers += [nn.Dense(WIDTH, W_std=self.W_std, b_std=self.b_std), self._nonlinearity()]
        return nn.serial(*layers, nn.Dense(1, W_std=self.last_W_std))

    def _nonlinearity(self) -> nn.Layer:
        if isinstance(self.activation, nn.Layer):
            return self.activation
        if isinstance(self.activation, str):
            named = {op.lower(): op for op in nn.ops()}
            op = named.get(self.activation.lower().replace("_", ""), named.get(self.activation.lower()))
            if op is not None:
                try:
                    return nn.from_spec({"op": op})
                except SpecError as error:
                    raise InputError(
                        f"activation is {shown(self.activation)}, and {error}; give a layer"
                    ) from None
        raise InputError(
            f"activation is {shown(self.activation)}: it must be the name of a layer of tpnum.nn or a layer"
        )


def network(net: Any) -> nn.Layer:
    """The net that a parameter stands for: a layer, an `MLP`, a spec, None for the default `MLP`."""
    made = MLP() if net is None else net
    if isinstance(made, MLP):
        return made.build()
    if isinstance(made, Mapping):
        return nn.from_spec(made)
    if not isinstance(made, nn.Layer):
        raise InputError(f"net is {shown(net)}: it must be a net of tpnum.nn, its JSON form or an MLP")
    return made


SHAPE = ("depth", "activation", "last_W_std")
"""Parameters that only an `MLP` has."""


class HasNet:
    """An estimator with a parameter ``net``: its deviations are parameters too, by name or by path."""

    net: Any
    n_jobs: Any
    input_shape: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, with ``deep`` those of the net as well."""
        made: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]
        if deep and (self.net is None or isinstance(self.net, nn.Layer)):
            inside = MLP().get_params() if self.net is None else shared_deviations(self.net)
            made |= {PREFIX + name: value for name, value in inside.items()}
        return made

    def set_params(self, **params: Any) -> Any:
        """Set parameters; ``net__W_std`` sets every W_std of a net, ``net__layers[0].W_std`` one."""
        inside = {k.removeprefix(PREFIX): v for k, v in params.items() if k.startswith(PREFIX)}
        rest = {k: v for k, v in params.items() if not k.startswith(PREFIX)}
        super().set_params(**rest)  # type: ignore[misc]
        if inside:
            self._set_net(inside)
        return self

    def _set_net(self, inside: dict[str, Any]) -> None:
        if self.net is None:
            self.net = MLP()
        if isinstance(self.net, MLP):
            self.net.set_params(**inside)
            return
        net = network(self.net)
        for name in inside:
            if name in SHAPE:
                raise InputError(
                    f"{PREFIX}{name}: {name} is of an MLP, and net is {shown(net)}; give net=MLP(..), or "
                    "choose among nets, as in the grid {'net': [net_1, net_2]}"
                )
        self.net = with_deviations(net, inside)

    def _shaped(self, x: np.ndarray) -> np.ndarray:
        """Flat rows in the shape of examples."""
        if self.input_shape is None:
            net = network(self.net)
            kept(_take_flat, net)(net, x.shape[1])
            return x
        try:
            shape = tuple(int(size) for size in self.input_shape)
            return x.reshape(len(x), *shape)
        except (TypeError, ValueError):
            raise InputError(
                f"input_shape is {shown(self.input_shape)}: rows of {x.shape[1]} features cannot take it"
            ) from None


@lru_cache(maxsize=8)
def _take_flat(net: nn.Layer, features: int) -> None:
    """Refuse flat rows of a net that takes no others than images or sequences."""
    try:
        nn.program(net, (features,))
    except SpecError as error:
        if not any(_takes(net, (*axes, features)) for axes in AXES):
            raise
        told = str(error).partition(";")[0]
        raise InputError(
            f"input_shape is missing: rows of {features} features are flat, and {told}; give the shape of an "
            "example, as input_shape=(8, 8, 1)"
        ) from None


def _takes(net: nn.Layer, shape: tuple[int, ...]) -> bool:
    try:
        nn.program(net, shape)
    except SpecError:
        return False
    return True


def shared_deviations(net: nn.Layer) -> dict[str, float]:
    """Deviations by path, and by name where all of that name are equal."""
    known = deviations(net)
    names = dict.fromkeys(path.rpartition(".")[2] for path in known)
    values = {name: {known[path] for path in paths_of(net, name)} for name in names if name not in known}
    return known | {name: found.pop() for name, found in values.items() if len(found) == 1}
