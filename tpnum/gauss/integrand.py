"""A user's function of d Gaussians as what quadrature and sampling call: arrays in, checked arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.functions import Function, get
from tpnum.functions.checked import check_elementwise, evaluate

_TESTED = 97  # points on which f is called again, shuffled
_SMALL, _UNIT = 1e-120, 1e-100  # squares of values below the first may underflow, of the second may not
SUBNORMAL = 2.0**-1074
"""The spacing of the smallest numbers, whose relative rounding is not small."""


class NotFinite(LimitError):
    """f is infinite or NaN at a sampled point."""


class Integrand:
    """f(u_1, .., u_d) elementwise on blocks of points; ``components`` is k where it returns (k, length).

    ``f`` is a name, a `Function`, a NumPy-style function, or a Numba-jitted one of arrays or of numbers
    (which becomes a ufunc, compiled once per process).
    """

    def __init__(self, f: Any, d: int) -> None:
        own = isinstance(f, (str, Function, np.ufunc, type)) or not callable(f)
        self.f: Callable[..., Any] = get(f) if own else f
        self.d = d
        self.components: int | None = None
        self.spent = 0
        """Evaluations of f so far, those that look whether it works apart."""
        self.unit = 1.0
        """What values are multiplied with, a power of two: squares and weighted ones must not underflow."""
        self._known = False
        if isinstance(self.f, Function) and (self.f.n_scalars or self.f.arity != d):
            raise InputError(
                f"{self.f} takes {self.f.arity} vector(s), mean and cov have dimension {d}"
                + (f"; it also takes {self.f.n_scalars} scalar(s)" if self.f.n_scalars else "")
            )
        if hasattr(f, "py_func") and hasattr(f, "signatures"):
            self.f = self._compiled(f)

    @property
    def breaks(self) -> np.ndarray:
        """Values of a coordinate at which f is known or likely to break."""
        kinks = self.f.kinks if isinstance(self.f, Function) and self.d == 1 else ()
        return np.unique([0.0, *kinks])

    @property
    def function(self) -> Function | None:
        """The `Function`, where it is one."""
        return self.f if isinstance(self.f, Function) else None

    @property
    def written(self) -> bool:
        """Whether a user wrote it, so that it may be anything between two points."""
        return self.function is None or self.function.user is not None

    def _compiled(self, f: Any) -> Callable[..., Any]:
        from tpnum.kernels._jit import elementwise

        try:
            return elementwise(f, self.d)
        except Exception:
            return f  # written for arrays: Numba compiles that at the first call

    def columns(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """f at points given coordinate by coordinate, each (batch, points): (batch, components, points).

        Values may be infinite or NaN.
        """
        count, points = columns[0].shape
        self.spent += count * points
        made = evaluate(self.f, *(c.reshape(-1) for c in columns), rows=True)
        components = made.shape[0] if made.ndim == 2 else None
        if self._known and components != self.components:
            raise InputError(
                f"f returned {components} components, after {self.components}: their number must stay"
            )
        self.components, self._known = components, True
        if self.unit != 1.0:
            made = made * self.unit
        if made.ndim == 1:
            return made.reshape(count, 1, points)
        return np.ascontiguousarray(made.reshape(-1, count, points).transpose(1, 0, 2))

    def check(self, mean: np.ndarray, factor: np.ndarray) -> None:
        """Raise FunctionError unless f works elementwise, on some points of the law; choose the unit."""
        z = np.random.default_rng(2).standard_normal((factor.shape[1], _TESTED))
        points = mean[:, None] + factor @ z
        if self.written:
            check_elementwise(self.f, *points)
        made = np.abs(evaluate(self.f, *points, rows=True))
        largest = float(np.max(made, initial=0.0, where=np.isfinite(made)))
        self.unit = 2.0 ** np.rint(np.log2(_UNIT / largest)) if 0.0 < largest < _SMALL else 1.0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """f on (batch, d, points) -> (batch, components, points), finite everywhere or `NotFinite`."""
        made = self.columns([np.ascontiguousarray(u[:, k]) for k in range(self.d)])
        if not np.all(np.isfinite(made)):
            i, _, j = np.argwhere(~np.isfinite(made))[0]
            raise NotFinite(self.lost(u[i, :, j]))
        return made

    def lost(self, at: np.ndarray, where: str = "") -> str:
        """What to say of a point at which f is not finite."""
        point = ", ".join(f"{x:.6g}" for x in at)
        return f"f is not finite at ({point}), which matters for its expectation{where}"
