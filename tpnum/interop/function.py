"""A kernel of a net as a function of deviations and examples, with the products of its derivatives.

What automatic differentiation of another library needs of a function it cannot look into: values, and for a
weight on every value the gradient of their sum.  All arrays may have batch axes in front, which broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.arguments import choice, shown
from tpnum.errors import InputError
from tpnum.nn.deviations import shared, with_deviations
from tpnum.tiles.arguments import KINDS
from tpnum.tiles.driver import kernel
from tpnum.tiles.products import operator

ENTRIES = 1 << 24
"""Of a block of weights."""
ROWS = 1 << 6
"""Of a block of a diagonal."""
SIDES = ("x1", "x2")


@dataclass(frozen=True)
class KernelFunction:
    """k(values, x1, x2): the deviations ``names`` (*batch, P), and examples (*batch, N, features)."""

    net: nn.Layer
    names: tuple[str, ...]
    get: str
    input_shape: tuple[int, ...] | None
    n_jobs: int | None

    @classmethod
    def of(
        cls, net: Any, get: Any = "nngp", wrt: Any = None, input_shape: Any = None, n_jobs: Any = None
    ) -> KernelFunction:
        """Read what a user hands to the kernel of a library.

        Parameters
        ----------
        net : a net of `tpnum.nn`, which ends without index axes.
        get : "nngp" or "ntk".
        wrt : names and paths of the deviations that are hyper-parameters; None for all that are not zero.
        input_shape : the shape of an example, for images and sequences given as flat rows.
        n_jobs : threads.
        """
        if not isinstance(net, nn.Layer):
            raise InputError(f"net is {shown(net)}: it must be a net of tpnum.nn")
        shape = None if input_shape is None else tuple(int(size) for size in input_shape)
        return cls(net, tuple(shared(net, wrt)), choice(get, "get", KINDS), shape, n_jobs)

    @property
    def values(self) -> np.ndarray:
        """The deviations of the net (P,)."""
        return np.array(list(shared(self.net, self.names).values()), dtype=np.float64)

    @staticmethod
    def shape(values: Any, x1: Any, x2: Any) -> tuple[int, ...]:
        """That of k(values, x1, x2)."""
        batch = np.broadcast_shapes(values.shape[:-1], x1.shape[:-2], x2.shape[:-2])
        return (*batch, x1.shape[-2], x2.shape[-2])

    def __call__(self, values: Any, x1: Any, x2: Any) -> np.ndarray:
        """k (*batch, N1, N2)."""
        values, x1, x2 = (np.asarray(a, dtype=np.float64) for a in (values, x1, x2))
        batch = _batch(values, x1, x2)
        shape = (*batch, x1.shape[-2], x2.shape[-2])
        v = _alone(values, 1)
        if batch and v is not None:  # one call where one call does
            if shape[-2:] == (1, 1) and np.array_equal(x1, x2):
                return np.broadcast_to(self.diagonal(v, x1)[..., None], shape)
            alone = _alone(x2, 2)
            if alone is not None:
                tall = np.broadcast_to(x1, (*batch, *x1.shape[-2:])).reshape(-1, x1.shape[-1])
                return self._kernel(v, tall, alone).reshape(shape)
        made = np.empty(shape)
        for at in np.ndindex(batch):
            one, first, second = _entry(at, batch, values, x1, x2)
            made[at] = self._kernel(one, first, second)
        return made

    def diagonal(self, values: Any, x: Any) -> np.ndarray:
        """k(x, x) (*batch, N)."""
        values, x = np.asarray(values, dtype=np.float64), np.asarray(x, dtype=np.float64)
        batch = _batch(values, x)
        made = np.empty((*batch, x.shape[-2]))
        v = _alone(values, 1)
        if v is not None:
            made[...] = self._kernel(v, x.reshape(-1, x.shape[-1]), diag=True).reshape(x.shape[:-1])
            return made
        for at in np.ndindex(batch):
            one, alone = _entry(at, batch, values, x)
            made[at] = self._kernel(one, alone, diag=True)
        return made

    def _kernel(self, values: np.ndarray, x1: np.ndarray, x2: Any = None, diag: bool = False) -> np.ndarray:
        same = x2 is None or np.array_equal(x1, x2)
        other = None if same else self._shaped(x2)
        return kernel(self._at(values), self._shaped(x1), other, get=self.get, diag=diag, n_jobs=self.n_jobs)

    def pull(
        self, weights: Any, values: Any, x1: Any, x2: Any, *, needs: tuple[bool, ...] = (True, True, True)
    ) -> list[np.ndarray | None]:
        """The gradient of sum(weights * k) by values, x1 and x2, each in its shape; None where not needed.

        Examples that are the same on both sides are two arguments all the same: each gradient is by one side,
        half of that of k(x, x) where they meet.
        """
        given = [np.asarray(a, dtype=np.float64) for a in (values, x1, x2)]
        batch = _batch(*given)
        w = np.broadcast_to(
            np.asarray(weights, dtype=np.float64), (*batch, given[1].shape[-2], given[2].shape[-2])
        )

        def entry(at: tuple[int, ...]) -> list[Any]:
            v, a, b = _entry(at, batch, *given)
            net, asked = self._at(v), tuple(n for n, need in zip(SIDES, needs[1:], strict=True) if need)
            if not np.array_equal(a, b):
                return self._slopes(net, asked, needs[0], w[at], a, b)
            if not asked or np.array_equal(w[at], w[at].T):
                made = self._slopes(net, asked[:1] and SIDES[:1], needs[0], w[at], a)
                return [made[0], *(0.5 * one for one in made[1:] for _ in asked)]
            meeting = np.diag(w[at].diagonal())
            made = self._slopes(net, SIDES[:1], needs[0], meeting, a)
            apart = self._slopes(net, asked, needs[0], w[at] - meeting, a, b)
            return [made[0] + apart[0], *(one + 0.5 * made[1] for one in apart[1:])]

        return _gathered(entry, batch, given, needs)

    def pull_diagonal(
        self, weights: Any, values: Any, x: Any, *, needs: tuple[bool, ...] = (True, True)
    ) -> list[np.ndarray | None]:
        """The gradient of sum(weights * diagonal) by values and x."""
        given = [np.asarray(a, dtype=np.float64) for a in (values, x)]
        batch = _batch(*given)
        w = np.broadcast_to(np.asarray(weights, dtype=np.float64), (*batch, given[1].shape[-2]))

        def entry(at: tuple[int, ...]) -> list[Any]:
            v, a = _entry(at, batch, *given)
            net = self._at(v)
            parts = [
                self._slopes(net, SIDES[:1] if needs[1] else (), needs[0], np.diag(w[at][some]), a[some])
                for some in (slice(start, start + ROWS) for start in range(0, len(a), ROWS))
            ]
            sides = zip(*(part[1:] for part in parts), strict=True)
            return [sum(part[0] for part in parts), *(np.concatenate(side) for side in sides)]

        return _gathered(entry, batch, given, needs)

    def _slopes(
        self,
        net: nn.Layer,
        sides: tuple[str, ...],
        own: bool,
        weights: np.ndarray,
        x1: np.ndarray,
        x2: Any = None,
    ) -> list[Any]:
        """The gradients by the values, zero if they are not to be ``own``ed, and by inputs, flat."""
        names = self.names if own else ()
        made = [np.zeros(len(self.names)), *(np.zeros_like(x1 if n == "x1" else x2) for n in sides)]
        if names or sides:
            other = None if x2 is None else self._shaped(x2)
            found = kernel(
                net, self._shaped(x1), other, get=self.get, wrt=(*names, *sides), against=weights,
                n_jobs=self.n_jobs,
            ).derivatives  # fmt: skip
            made[0][: len(names)] = found[: len(names)]
            made[1:] = [one.reshape(len(one), -1) for one in found[len(names) :]]
        return made

    def times(self, values: Any, x1: Any, x2: Any, *, vectors: Any) -> np.ndarray:
        """K @ vectors, tile by tile; without batch axes."""
        second = None if np.array_equal(x1, x2) else self._shaped(x2)
        made = operator(self._at(values), self._shaped(x1), second, get=self.get, n_jobs=self.n_jobs)
        return made @ np.asarray(vectors, dtype=np.float64)

    def pull_products(
        self, left: Any, right: Any, values: Any, x1: Any, x2: Any, *, needs: tuple[bool, ...]
    ) -> list[np.ndarray | None]:
        """`pull` with weights left @ right', formed by blocks of rows; without batch axes."""
        made = [np.zeros(np.shape(a)) if n else None for a, n in zip((values, x1, x2), needs, strict=True)]
        step, every = max(1, ENTRIES // len(x2)), slice(None)
        for start in range(0, len(x1), step):
            rows = slice(start, start + step)
            found = self.pull(left[rows] @ right.T, values, x1[rows], x2, needs=needs)
            for total, part, at in zip(made, found, (every, rows, every), strict=True):
                if total is not None:
                    total[at] += part
        return made

    def _at(self, values: np.ndarray) -> nn.Layer:
        return with_deviations(self.net, dict(zip(self.names, values.tolist(), strict=True)))

    def _shaped(self, x: np.ndarray) -> np.ndarray:
        return x if self.input_shape is None else x.reshape(len(x), *self.input_shape)


def _gathered(
    entry: Callable[[tuple[int, ...]], list[Any]],
    batch: tuple[int, ...],
    given: list[np.ndarray],
    needs: tuple[bool, ...],
) -> list[np.ndarray | None]:
    """Gradients of every entry of a batch, summed over what an argument was repeated along."""
    asked = [at for at, need in enumerate(needs) if need]
    made = [np.zeros((*batch, *given[at].shape[given[at].ndim - (2 if at else 1) :])) for at in asked]
    for index in np.ndindex(batch):
        found = entry(index)
        for one, part in zip(made, found if needs[0] else found[1:], strict=True):
            one[index] = part
    sums = iter(_summed(one, given[at].shape) for one, at in zip(made, asked, strict=True))
    return [next(sums) if need else None for need in needs]


def _batch(values: np.ndarray, *examples: np.ndarray) -> tuple[int, ...]:
    return np.broadcast_shapes(values.shape[:-1], *(x.shape[:-2] for x in examples))


def _entry(
    at: tuple[int, ...], batch: tuple[int, ...], values: np.ndarray, *examples: np.ndarray
) -> list[np.ndarray]:
    """The arrays of one index of the batch."""
    made = [np.broadcast_to(values, (*batch, values.shape[-1]))[at]]
    return made + [np.broadcast_to(x, (*batch, *x.shape[-2:]))[at] for x in examples]


def _alone(array: np.ndarray, axes: int) -> np.ndarray | None:
    """What every entry of the batch has, None where they differ."""
    wide = array.reshape(math.prod(array.shape[: array.ndim - axes]), *array.shape[array.ndim - axes :])
    return wide[0] if (wide == wide[:1]).all() else None


def _summed(made: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient by an array that was broadcast: summed over what it was repeated along."""
    extra = made.ndim - len(shape)
    made = made.sum(axis=tuple(range(extra)))
    return made.sum(
        axis=tuple(i for i, n in enumerate(shape) if n == 1 and made.shape[i] != 1), keepdims=True
    )
