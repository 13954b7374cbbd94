"""`TPKernel`: the kernels of a net for tinygp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import equinox as eqx
    import jax.numpy as jnp
    from tinygp.kernels import Kernel
except ImportError as missing:
    raise ImportError("tpnum.interop.tinygp needs tinygp: pip install 'tpnum[jax]'") from missing

from tpnum.interop.function import KernelFunction
from tpnum.interop.jax import kernel_function


class TPKernel(Kernel):
    """The NNGP or NTK of a net; ``deviations`` (P,) may be given, and varied, as any parameter of tinygp is.

    Parameters
    ----------
    net, get, wrt, input_shape, n_jobs : as in `tpnum.interop.function.KernelFunction.of`.
    deviations : in the order of ``wrt``; those of the net by default.
    """

    deviations: Any
    k: tuple[Callable[..., Any], ...] = eqx.field(static=True)

    def __init__(
        self,
        net: Any,
        *,
        get: str = "nngp",
        wrt: Any = None,
        input_shape: Any = None,
        n_jobs: int | None = None,
        deviations: Any = None,
    ):
        function = KernelFunction.of(net, get, wrt, input_shape, n_jobs)
        self.deviations = jnp.asarray(function.values if deviations is None else deviations)
        self.k = kernel_function(function)

    def evaluate(self, X1: Any, X2: Any) -> Any:
        """k of two examples."""
        return self.k[0](self.deviations, X1[None], X2[None])[0, 0]

    def __call__(self, X1: Any, X2: Any = None) -> Any:
        """K(X1, X2) in one call, or the diagonal of K(X1)."""
        return self.k[1](self.deviations, X1) if X2 is None else self.k[0](self.deviations, X1, X2)
