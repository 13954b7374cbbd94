"""Functionals of a Gaussian vector: its largest entry, its normalisation, functions of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.functions import Function, get
from tpnum.kernels.jointly import largest

RELU = get("relu")
STEP = RELU.derivative(0)


@dataclass(frozen=True)
class Functional:
    """outer(F(inner(u))), F "max" or "normalise", functions None where there are none.

    Arrays are (vectors, d, points), values of "max" (vectors, 1, points).
    """

    kind: str
    eps: float = 0.0
    inner: Function | None = None
    outer: Function | None = None

    @property
    def keeps(self) -> bool:
        """Whether its value has an entry for each of the vector's."""
        return self.kind == "normalise"

    @property
    def floor(self) -> float | None:
        """The value is the largest of the entries and of this number; None where it is anything else."""
        return self._floor(RELU)

    @property
    def slope_floor(self) -> float | None:
        """``weights`` are 1 for the largest of the entries above this number; None where they differ."""
        return self._floor(STEP)

    def _floor(self, outer: Function) -> float | None:
        if self.kind != "max" or self.inner not in (None, RELU) or self.outer not in (None, outer):
            return None
        return -np.inf if self.inner is self.outer is None else 0.0

    def value(self, u: np.ndarray) -> np.ndarray:
        if self.floor is not None:
            made = np.empty((len(u), u.shape[2]))
            largest(u, self.floor, made, np.empty((0, 1, 1)))
            return made[:, None]
        made = self._inside(u)
        made = self._normalised(made)[0] if self.keeps else made.max(axis=-2, keepdims=True)
        return made if self.outer is None else _of(self.outer, made)

    def _inside(self, u: np.ndarray) -> np.ndarray:
        return u if self.inner is None else _of(self.inner, u)

    def _normalised(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The normalised vector and the root that it is over."""
        c = w - w.mean(axis=-2, keepdims=True)
        root = np.sqrt((c * c).mean(axis=-2, keepdims=True) + self.eps)
        return c / root, root

    def weights(self, u: np.ndarray) -> np.ndarray:
        """outer(F) dF/du, the derivative of "max" times ``outer`` of the value: (.., d, points)."""
        if self.slope_floor is not None:
            made, values = np.empty(u.shape), np.empty((len(u), u.shape[2]))
            largest(u, self.slope_floor, values, made)
            return made
        w = self._inside(u)
        at = w.argmax(axis=-2)[..., None, :]
        factor = np.ones(at.shape)
        if self.outer is not None:
            factor = factor * _of(self.outer, np.take_along_axis(w, at, axis=-2))
        if self.inner is not None:
            factor = factor * _of(self.inner.derivative(0), np.take_along_axis(u, at, axis=-2))
        made = np.zeros(u.shape)
        np.put_along_axis(made, at, factor, axis=-2)
        return made

    def jacobian(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n, o, i) of "normalise": dn/du = (G - n n'/d) i, rows times o = outer(n) over the root."""
        n, root = self._normalised(self._inside(u))
        out = 1.0 / root * (np.ones_like(n) if self.outer is None else _of(self.outer, n))
        inside = np.ones_like(n) if self.inner is None else _of(self.inner.derivative(0), u)
        return n, out, inside


def _of(fn: Function, x: np.ndarray) -> Any:
    return np.asarray(fn(x), dtype=np.float64)
