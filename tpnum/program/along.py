"""Functions along index axes, one instruction each: the largest entry, normalisation, and their derivatives.

==================  =========  =====================================================================
max                 x          the largest entry over the axes, which go
max_slope           x, dx      its derivative in the direction dx: the dx of the largest entry
max_back            x, t       the transpose: t at the largest entry, zero at the others
normalise           x          (x - m) / sqrt(v + eps), m and v the mean and variance over the axes
normalise_slope     x, dx      its derivative in the direction dx, which is its own transpose
==================  =========  =====================================================================

Of equal entries the first is the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum import functions
from tpnum.program.lines import Along, LinComb, Nonlin, Term

if TYPE_CHECKING:
    from tpnum.program.builder import Program

Places = tuple[int, ...]
"""The dimensions of an array that the axes are."""


@dataclass(frozen=True)
class AxisFunction:
    """One of the functions: ``values(arrays, dimensions, eps)``, and what it is to the rules of the language.

    ``keeps``: whether its value has the axes.  ``slope`` and ``back`` are its derivative and the transpose
    of that, of (x, direction); ``odd`` says whether it is odd in x.
    """

    arity: int
    keeps: bool
    values: Callable[[list[np.ndarray], Places, float], np.ndarray]
    odd: bool
    slope: str = ""
    back: str = ""


def _flat(x: np.ndarray, over: Places) -> np.ndarray:
    """The dimensions ``over`` as one, the last."""
    moved = np.moveaxis(x, over, range(-len(over), 0))
    return moved.reshape(*moved.shape[: -len(over)], -1)


def _back(x: np.ndarray, shape: tuple[int, ...], over: Places) -> np.ndarray:
    """What `_flat` has made of an array of this shape, undone."""
    kept = [n for k, n in enumerate(shape) if k not in over]
    return np.moveaxis(x.reshape(*kept, *(shape[k] for k in over)), range(-len(over), 0), over)


def _max(arrays: list[np.ndarray], over: Places, eps: float) -> np.ndarray:
    return _flat(arrays[0], over).max(axis=-1)


def _max_slope(arrays: list[np.ndarray], over: Places, eps: float) -> np.ndarray:
    x, dx = (_flat(a, over) for a in np.broadcast_arrays(*arrays))
    return np.take_along_axis(dx, x.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def _max_back(arrays: list[np.ndarray], over: Places, eps: float) -> np.ndarray:
    x, t = np.broadcast_arrays(*arrays)
    flat = _flat(x, over)
    largest = np.arange(flat.shape[-1]) == flat.argmax(axis=-1)[..., None]
    return np.asarray(np.where(_back(largest, x.shape, over), t, 0.0))


def _normalise(arrays: list[np.ndarray], over: Places, eps: float) -> np.ndarray:
    return normalised(arrays[0], over, eps)[0]


def _normalise_slope(arrays: list[np.ndarray], over: Places, eps: float) -> np.ndarray:
    x, dx = np.broadcast_arrays(*arrays)
    made, root = normalised(x, over, eps)
    moved = dx - dx.mean(axis=over, keepdims=True)
    return np.asarray((moved - made * (made * moved).mean(axis=over, keepdims=True)) / root)


def normalised(x: np.ndarray, over: Places, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(x - m) / sqrt(v + eps) and that root."""
    centred = x - x.mean(axis=over, keepdims=True)
    root = np.sqrt((centred**2).mean(axis=over, keepdims=True) + eps)
    return centred / root, root


ALONG = {
    "max": AxisFunction(1, False, _max, False, "max_slope", "max_back"),
    "max_slope": AxisFunction(2, False, _max_slope, False),
    "max_back": AxisFunction(2, True, _max_back, False),
    "normalise": AxisFunction(1, True, _normalise, True, "normalise_slope", "normalise_slope"),
    "normalise_slope": AxisFunction(2, True, _normalise_slope, False),
}
"""The functions by name."""


class ScalarLines:
    """A function along axes that are split, in the lines of the expanded program ``new``."""

    def __init__(self, new: Program, line: Along):
        self.new, self.line = new, line

    def __call__(self, args: list[list[str]], names: list[str]) -> None:
        """Append the lines that make ``names``, one or one per index, of the arguments at every index."""
        x, *more = args
        if self.line.kind.startswith("max"):
            self._max(x, more[0] if more else [], names)
        else:
            self._normalise(x, more[0] if more else [], names)

    def _apply(self, fn: str, *args: str, name: str = "") -> str:
        made = name or self.new._auto(f"{self.line.name}.h")
        self.new.append(Nonlin(made, functions.get(fn), args))
        return made

    def _sum(self, *terms: tuple[float, str], name: str = "") -> str:
        made = name or self.new._auto(f"{self.line.name}.g")
        self.new.append(LinComb(made, tuple(Term(coef, vector) for coef, vector in terms)))
        return made

    def _max(self, x: list[str], directions: list[str], names: list[str]) -> None:
        largest, at = x[0], directions[0] if directions else ""
        for k, entry in enumerate(x[1:], 1):
            if self.line.kind == "max_slope":
                larger = self._apply("step", self._sum((1.0, entry), (-1.0, largest)))
                change = self._apply("mul", larger, self._sum((1.0, directions[k]), (-1.0, at)))
                at = self._sum((1.0, at), (1.0, change))
            largest = self._apply("maximum", largest, entry)
        if self.line.kind == "max_back":
            ones = self.new.ones(self.new._var(x[0]).dim).name
            for entry, t, name in zip(x, directions, names, strict=True):
                below = self._apply("step", self._sum((1.0, largest), (-1.0, entry)))
                self._apply("mul", self._sum((1.0, ones), (-1.0, below)), t, name=name)
        else:
            self._sum((1.0, at or largest), name=names[0])

    def _normalise(self, x: list[str], directions: list[str], names: list[str]) -> None:
        share = 1.0 / len(x)

        def centred(vectors: list[str]) -> list[str]:
            mean = self._sum(*((share, v) for v in vectors))
            return [self._sum((1.0, v), (-1.0, mean)) for v in vectors]

        c = centred(x)
        ones = self.new.ones(self.new._var(x[0]).dim).name
        var = self._sum(*((share, self._apply("square", v)) for v in c), (self.line.eps, ones))
        inverse = self._apply("reciprocal", self._apply("sqrt", var))
        if not directions:
            for v, name in zip(c, names, strict=True):
                self._apply("mul", v, inverse, name=name)
            return
        made, moved = [self._apply("mul", v, inverse) for v in c], centred(directions)
        along = self._sum(*((share, self._apply("mul", *both)) for both in zip(made, moved, strict=True)))
        for n, d, name in zip(made, moved, names, strict=True):
            self._apply("mul", self._sum((1.0, d), (-1.0, self._apply("mul", n, along))), inverse, name=name)
