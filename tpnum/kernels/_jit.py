"""The one home of Numba's flags: every jitted function of tpnum is decorated here.

``error_model="numpy"`` because a zero check stops SIMD; no ``parallel=True`` because tiles are the
parallelism; ``nnan``/``ninf`` only where the caller has validated its input, since isnan dies under them.
Arrays are counted (``_nrt``) by `maker` and `helper` alone: others own none, and counting all of a tuple
each time that it is handed on is most of what there is to compile.  Said of every function: else those called
take the caller's, whoever compiles them first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic, overload

from tpnum.kernels._arrays import plain
from tpnum.kernels._cache import Cache
from tpnum.kernels._library import OwnCompiler

_OPTIONS: dict[str, Any] = {
    "nopython": True, "boundscheck": None, "nogil": True, "error_model": "numpy", "_nrt": False,
    "no_cfunc_wrapper": True,
}  # fmt: skip
_FAST = {"contract", "nsz", "arcp", "nnan", "ninf"}


class Jitted(CPUDispatcher):
    """A jitted function with one machine code per precision, kept for all later processes.

    Machine code is looked for, made and kept by `_cache`.
    """

    def __init__(
        self, function: Callable[..., Any], locals: Any = None, targetoptions: Any = None, **more: Any
    ):
        super().__init__(function, locals or {}, targetoptions or {}, OwnCompiler, **more)
        self._cache = Cache(function, type(self).__name__.lower())

    def compile(self, sig: Any) -> Any:
        """The entry point for some types of arguments; one process at a time compiles it."""
        with self._cache.compiling():
            return super().compile(sig)


class Within(Jitted):
    """A jitted function as kernels and pointers (`tpnum.kernels.duals`) call it, who hold Numba's lock."""

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} has no entry here: Python calls the kernel itself")


class Entry(Jitted):
    """A jitted function as Python calls it; kernels and pointers call the same by itself.

    Arrays come in as plain ones (`_arrays`), so that neither a read-only file nor its layout asks for code
    of its own.
    """

    def __call__(self, *args: Any) -> Any:
        return super().__call__(*map(plain, args))

    @cached_property
    def within(self) -> Within:
        """Without what Numba makes for calls from Python: it takes longer to compile than short functions."""
        return Within(self.py_func, self.locals, {**self.targetoptions, "no_cpython_wrapper": True})

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What Numba asks for a call in a kernel."""
        return self.within.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        """Which code that call is of."""
        return self.within.get_overload(sig)


def _jitted(function: Callable[..., Any], **options: Any) -> Any:
    if numba.config.DISABLE_JIT:
        return np.errstate(all="ignore")(function)  # machine code says nothing of overflow either
    return Entry(function, targetoptions={**_OPTIONS, **options})


def kernel(function: Callable[..., Any]) -> Any:
    """An array kernel in IEEE arithmetic, contraction to fused multiply-adds apart."""
    return _jitted(function, fastmath={"contract"})


def maker(function: Callable[..., Any]) -> Any:
    """A `kernel` that makes arrays to work in."""
    return _jitted(function, fastmath={"contract"}, _nrt=True)


def fast_kernel(function: Callable[..., Any]) -> Any:
    """An array kernel on validated (finite) input: signed zeros, NaN and infinity are not looked after."""
    return _jitted(function, fastmath=_FAST)


def helper(function: Callable[..., Any]) -> Any:
    """A function that kernels call, in plain IEEE arithmetic; it may make arrays."""
    return _jitted(function, inline="never", _nrt=True)


def fused(function: Callable[..., Any]) -> Any:
    """A scalar function inlined into kernels whose products and sums may contract to fused multiply-adds."""
    return _jitted(function, fastmath={"contract"}, forceinline=True)


def template(function: Callable[..., Any]) -> Any:
    """A function whose body becomes a kernel's own before it is compiled, so that it may take functions."""
    return _jitted(function, inline="always")


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
    return _jitted(function, fastmath={"contract", "reassoc", "nsz"})


def elementwise(function: Callable[..., Any], d: int) -> Any:
    """A ufunc of d float64 arrays from a jitted function of d numbers; compiled here, not cached."""
    return numba.vectorize([numba.float64(*[numba.float64] * d)])(getattr(function, "py_func", function))


def machine_code(plain: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """The decorator of an intrinsic; ``plain`` stands for it where Numba is told to compile nothing."""

    def choose(emitter: Callable[..., Any]) -> Any:
        return plain if numba.config.DISABLE_JIT else intrinsic(emitter)

    return choose


@machine_code(lambda: None)
def full_width(typing: Any) -> Any:
    """A statement of a kernel's body: its loops take the widest vectors that the processor has.

    LLVM takes half of them on many processors, for programs that use vectors now and then.  The kernel is
    not inlined either: what it says of its registers (`_views`) holds for one call of it.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows words alone
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), emit
