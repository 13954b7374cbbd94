"""What training is of: a net, examples and labels, rates and batches, a loss; read and checked for `sgd`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum import functions
from tpnum.arguments import finite_array, shown, whole
from tpnum.errors import InputError, SpecError
from tpnum.functions import Function
from tpnum.nn.activations import Activation
from tpnum.nn.base import Layer
from tpnum.nn.combinators import Serial
from tpnum.nn.dense import Dense

LONGEST = 100_000
"""Steps of a program that anyone could wait for."""


def layers_of(net: Layer, parameterization: str) -> tuple[list[Dense], list[Function]]:
    """The Dense layers of a net that can be trained, and the nonlinearities between them."""
    if not isinstance(net, Layer):
        raise SpecError(
            f"sgd: net is {shown(net)}; it must be serial(Dense, nonlinearity, Dense, ..., Dense(1))"
        )
    layers = list(net.layers) if isinstance(net, Serial) else [net]
    dense = [d for d in layers[::2] if isinstance(d, Dense)]
    between = [a for a in layers[1::2] if isinstance(a, Activation)]
    if len(layers) % 2 == 0 or len(layers) < 3 or len(dense) <= len(layers) // 2:
        raise SpecError("sgd: the net must be serial(Dense, nonlinearity, Dense, ..., Dense(1))")
    if len(between) < len(layers) // 2:
        raise SpecError("sgd: between two Dense layers there must be one nonlinearity")
    if dense[-1].out_dim != 1:
        raise SpecError(
            f"sgd: the readout is Dense({dense[-1].out_dim}), and labels are numbers: it must be Dense(1)"
        )
    if dense[-1].b_std is not None and parameterization == "mu":
        raise SpecError("sgd: the readout of a net in mu has no bias: leave b_std of the last Dense out")
    return dense, [a.as_function() for a in between]


class Task:
    """Examples, labels, rates and batches, checked."""

    def __init__(self, x: Any, y: Any, x_test: Any, steps: int, lr: Any, batches: Any) -> None:
        x, y = finite_array(x, "x"), finite_array(y, "y")
        if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
            flat = "; x.reshape(len(x), -1) does what nn.Flatten does" if x.ndim > 2 else ""
            raise InputError(f"x must be (N, d) and y (N,), not {x.shape} and {y.shape}{flat}")
        extra = np.empty((0, x.shape[1])) if x_test is None else finite_array(x_test, "x_test")
        if extra.ndim != 2 or extra.shape[1] != x.shape[1]:
            raise InputError(f"x_test must be (M, {x.shape[1]}), not {extra.shape}")
        self.y, self.trained, self.steps = y, len(x), whole(steps, "steps", 0, LONGEST)
        rates = finite_array(lr, "lr")
        if rates.shape not in ((), (self.steps,)):
            raise InputError(f"lr must be a number or {self.steps} of them, not of shape {rates.shape}")
        self.rates: list[float] = np.broadcast_to(rates, (self.steps,)).tolist()
        every = np.concatenate([x, extra])
        with np.errstate(over="ignore", invalid="ignore"):
            self.gram = every @ every.T / x.shape[1]
        if not np.isfinite(self.gram).all():
            raise InputError("x: the products of its rows overflow; scale the data down")
        self.batches = [tuple(range(len(x)))] * self.steps if batches is None else self._read(batches)

    def _read(self, batches: Any) -> list[tuple[int, ...]]:
        """The examples of each step: as many batches as steps, no example twice in one."""
        try:
            made = [tuple(whole(i, "batches", 0, self.trained - 1) for i in b) for b in batches]
        except InputError:
            raise
        except Exception:  # no list of lists
            raise InputError(f"batches is {shown(batches)}: it must be a list of indices per step") from None
        if len(made) != self.steps:
            raise InputError(f"batches must be {self.steps} lists of indices below {self.trained}")
        for k, batch in enumerate(made):
            twice = next((i for i in batch if batch.count(i) > 1), None)
            if twice is not None:
                raise InputError(f"batches: example {twice} is twice in batch {k}; name it once")
        return made

    @property
    def examples(self) -> int:
        return len(self.gram)


def loss_of(given: tuple[Any, Any] | None) -> tuple[Function, Function]:
    """The loss and its slope in f, half the square unless given."""
    if given is None:
        return Function.from_callable(_square, arity=2), Function.from_callable(_difference, arity=2)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise InputError("loss must be two functions of (f, y): the loss and its slope in f")
    made = []
    for f in given:
        if not callable(f) and not isinstance(f, str):
            raise InputError(f"loss: {shown(f)} is no function of (f, y)")
        known = isinstance(f, (str, Function))
        made.append(functions.get(f) if known else Function.from_callable(f, arity=2))
    if any(f.arity + f.n_scalars != 2 for f in made):
        raise InputError("loss must be two functions of (f, y): the loss and its slope in f")
    return made[0], made[1]


def _square(f: Any, y: Any) -> Any:
    return 0.5 * (f - y) ** 2


def _difference(f: Any, y: Any) -> Any:
    return f - y
