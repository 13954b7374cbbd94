"""A kernel of a net as a function of JAX, by callback: under jit and vmap, with reverse-mode derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import jax
    import jax.numpy as jnp
except ImportError as missing:
    raise ImportError("tpnum.interop.jax needs JAX: pip install 'tpnum[jax]'") from missing

import numpy as np

from tpnum.interop.function import KernelFunction

Call = Callable[..., Any]


def kernel_function(function: KernelFunction) -> tuple[Call, Call]:
    """Two functions of JAX: k(values, x1, x2) (*batch, N1, N2) and its diagonal k(values, x) (*batch, N).

    They are differentiable once, in reverse mode (`jax.grad`), by each argument.
    """

    def diagonal_shape(values: Any, x: Any) -> tuple[int, ...]:
        return function.shape(values, x, x)[:-1]

    whole = _differentiable(function, function.pull, function.shape)
    return whole, _differentiable(function.diagonal, function.pull_diagonal, diagonal_shape)


def _differentiable(host: Call, pull: Call, shape: Call) -> Call:
    @jax.custom_vjp
    def call(*given: Any) -> Any:
        made = jax.ShapeDtypeStruct(shape(*given), jnp.result_type(*given))
        return jax.pure_callback(
            lambda *arrays: np.asarray(host(*arrays), made.dtype), made, *given, vmap_method="expand_dims"
        )

    def forward(*given: Any) -> Any:
        values = [one.value for one in given]
        # None, no array, marks what is not varied: the structure is known while tracing
        return call(*values), (values, [() if one.perturbed else None for one in given])

    def backward(kept: Any, weights: Any) -> Any:
        given, marks = kept
        needs = tuple(mark is not None for mark in marks)
        made = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a, need in zip(given, needs, strict=True) if need]

        def pulled(weights: Any, *arrays: Any) -> Any:
            found = (one for one in pull(weights, *arrays, needs=needs) if one is not None)
            return [np.asarray(one, goal.dtype) for one, goal in zip(found, made, strict=True)]

        found = iter(jax.pure_callback(pulled, made, weights, *given, vmap_method="broadcast_all"))
        return tuple(next(found) if need else None for need in needs)

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call
