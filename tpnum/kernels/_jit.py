"""The one home of Numba's flags: every jitted function of tpnum is decorated here.

``error_model="numpy"`` because a zero check stops SIMD; no ``parallel=True`` because tiles are the
parallelism; ``nnan``/``ninf`` only where the caller has validated its input, since isnan dies under them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic, overload

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_FAST = {"contract", "nsz", "arcp", "nnan", "ninf"}


def kernel(function: Callable[..., Any]) -> Any:
    """An array kernel in IEEE arithmetic, contraction to fused multiply-adds apart."""
    return numba.njit(fastmath={"contract"}, **_OPTIONS)(function)


def fast_kernel(function: Callable[..., Any]) -> Any:
    """An array kernel on validated (finite) input: signed zeros, NaN and infinity are not looked after."""
    return numba.njit(fastmath=_FAST, **_OPTIONS)(function)


def helper(function: Callable[..., Any]) -> Any:
    """A scalar function inlined into kernels; it takes the flags of its own, none."""
    return numba.njit(inline="never", **_OPTIONS)(function)


def fused(function: Callable[..., Any]) -> Any:
    """A scalar function inlined into kernels whose products and sums may contract to fused multiply-adds."""
    return numba.njit(fastmath={"contract"}, forceinline=True, **_OPTIONS)(function)


def by_dtype(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """A scalar function of one argument, contracted as `fused` is, with a body of its own for float32.

    The body is chosen when the caller is compiled; called from Python it is the float64 one.
    """
    bodies = fused(single), fused(double)

    def scalar(x: Any) -> Any:
        return double(x)

    @overload(scalar, jit_options={"nogil": True, "error_model": "numpy", "forceinline": True})
    def choose(x: Any) -> Callable[..., Any]:
        body = bodies[x != numba.float32]

        def call(x: Any) -> Any:
            return body(x)

        return call

    return scalar


def reduction(function: Callable[..., Any]) -> Any:
    """An array kernel whose sums may be regrouped: without that they do not become SIMD."""
    return numba.njit(fastmath={"contract", "reassoc", "nsz"}, **_OPTIONS)(function)


def elementwise(function: Callable[..., Any], d: int) -> Any:
    """A ufunc of d float64 arrays from a jitted function of d numbers; compiled here, not cached."""
    return numba.vectorize([numba.float64(*[numba.float64] * d)])(getattr(function, "py_func", function))


def machine_code(plain: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """The decorator of an intrinsic; ``plain`` stands for it where Numba is told to compile nothing."""

    def choose(emitter: Callable[..., Any]) -> Any:
        return plain if numba.config.DISABLE_JIT else intrinsic(emitter)

    return choose
