"""A user's function of d Gaussians as what quadrature and sampling call: arrays in, checked arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError, ProgramError
from tpnum.functions import Function, get


class NotFinite(LimitError):
    """f is infinite or NaN at a sampled point."""


class Integrand:
    """f(u_1, .., u_d) elementwise on blocks of points; ``components`` is k where it returns (k, length).

    ``f`` is a name, a `Function`, a NumPy-style function, or a Numba-jitted one of arrays or of numbers
    (which becomes a ufunc, compiled once per process).
    """

    def __init__(self, f: Any, d: int) -> None:
        own = isinstance(f, (str, Function, np.ufunc)) or not callable(f)
        self.f: Callable[..., Any] = get(f) if own else f
        self.d = d
        self.components: int | None = None
        self._known = False
        if isinstance(self.f, Function) and (self.f.n_scalars or self.f.arity != d):
            raise InputError(
                f"{self.f} takes {self.f.arity} vector(s), mean and cov have dimension {d}"
                + (f"; it also takes {self.f.n_scalars} scalar(s)" if self.f.n_scalars else "")
            )
        if hasattr(f, "py_func") and hasattr(f, "signatures"):
            self.f = self._compiled(f)

    @property
    def function(self) -> Function | None:
        """The `Function`, where it is one."""
        return self.f if isinstance(self.f, Function) else None

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
        length = count * points
        try:
            with np.errstate(all="ignore"):
                made = np.asarray(self.f(*(c.reshape(-1) for c in columns)))
        except ProgramError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:100]
            raise InputError(f"f failed on {self.d} array(s) of length {length}: {said}") from error
        if made.dtype != np.float64:
            made = self._real(made)
        if made.ndim == 0 or made.shape == (1,):
            made = np.broadcast_to(made, (length,))
        if made.ndim not in (1, 2) or made.shape[-1] != length:
            raise InputError(
                f"f returned shape {made.shape} for {self.d} array(s) of length {length}: "
                f"it must be ({length},) or (k, {length})"
            )
        components = made.shape[0] if made.ndim == 2 else None
        if self._known and components != self.components:
            raise InputError(
                f"f returned {components} components, after {self.components}: their number must stay"
            )
        self.components, self._known = components, True
        if made.ndim == 1:
            return made.reshape(count, 1, points)
        return np.ascontiguousarray(made.reshape(-1, count, points).transpose(1, 0, 2))

    @staticmethod
    def _real(made: np.ndarray) -> np.ndarray:
        if made.dtype.kind not in "fiub":
            raise InputError(f"f must return real numbers, not {made.dtype}")
        return made.astype(np.float64)

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
