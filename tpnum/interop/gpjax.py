"""`TPKernel`: the kernels of a net for GPJax (1.0 or later)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import equinox as eqx
    import jax.numpy as jnp
    import lineax as lx
    from gpjax.kernels import AbstractKernel
    from gpjax.kernels.computations import AbstractKernelComputation
    from gpjax.parameters import PositiveReal, val
except ImportError as missing:
    raise ImportError("tpnum.interop.gpjax needs GPJax 1.0 or later: pip install 'tpnum[jax]'") from missing

from tpnum.interop.function import KernelFunction
from tpnum.interop.jax import kernel_function


class _Blocks(AbstractKernelComputation):
    """Whole matrices in one call."""

    def _cross_covariance(self, kernel: Any, x: Any, y: Any) -> Any:
        return kernel.k[0](val(kernel.deviations), kernel.slice_input(x), kernel.slice_input(y))

    def _diagonal(self, kernel: Any, inputs: Any) -> Any:
        found = kernel.k[1](val(kernel.deviations), kernel.slice_input(inputs))
        return lx.TaggedLinearOperator(lx.DiagonalLinearOperator(found), lx.positive_semidefinite_tag)


class TPKernel(AbstractKernel):
    """The NNGP or NTK of a net; ``deviations`` (P,) are one positive parameter.

    Parameters
    ----------
    net, get, wrt, input_shape, n_jobs : as in `tpnum.interop.function.KernelFunction.of`.
    deviations : in the order of ``wrt``, an array or a parameter of GPJax; those of the net by default.
    active_dims, n_dims : of every kernel of GPJax.
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
        active_dims: Any = None,
        n_dims: int | None = None,
    ):
        super().__init__(active_dims, n_dims, _Blocks())
        function = KernelFunction.of(net, get, wrt, input_shape, n_jobs)
        self.deviations = PositiveReal(jnp.asarray(function.values)) if deviations is None else deviations
        self.k = kernel_function(function)

    def __call__(self, x: Any, y: Any) -> Any:
        """k of two examples."""
        x, y = (self.slice_input(jnp.atleast_1d(one))[None] for one in (x, y))
        return self.k[0](val(self.deviations), x, y)[0, 0]
