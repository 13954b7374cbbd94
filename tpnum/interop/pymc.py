"""`TPCovariance`: the kernels of a net as a covariance function of PyMC.

    w = pm.HalfNormal("w", 1.0)
    gp = pm.gp.Marginal(cov_func=TPCovariance(3, net, deviations={"W_std": w}))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    import numpy as np
    import pytensor.tensor as pt
    from pymc.gp.cov import Covariance
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
except ImportError as missing:
    raise ImportError("tpnum.interop.pymc needs PyMC: pip install 'tpnum[pymc]'") from missing

from tpnum.interop.function import KernelFunction


class TPCovariance(Covariance):
    """The NNGP or NTK of a net.

    Parameters
    ----------
    input_dim, active_dims : of every covariance of PyMC.
    net, get, input_shape, n_jobs : as in `tpnum.interop.function.KernelFunction.of`.
    deviations : random variables or numbers by the name or path of a deviation; the others are the net's.
    """

    def __init__(
        self,
        input_dim: int,
        net: Any,
        *,
        deviations: Mapping[str, Any] | None = None,
        get: str = "nngp",
        input_shape: Any = None,
        n_jobs: int | None = None,
        active_dims: Any = None,
    ):
        super().__init__(input_dim, active_dims)
        given = dict(deviations or {})
        self.function = KernelFunction.of(net, get, tuple(given), input_shape, n_jobs)
        self.values = pt.stack([pt.as_tensor(v).astype("float64") for v in given.values()]) if given else []

    def full(self, X: Any, Xs: Any = None) -> Any:
        """K(X, Xs)."""
        x, other = self._slice(X, Xs)
        return _Value(self.function, False)(self.values, x, x if other is None else other)

    def diag(self, X: Any) -> Any:
        """The diagonal of K(X)."""
        return _Value(self.function, True)(self.values, self._slice(X)[0])


class _Value(Op):
    """A `KernelFunction`, or its diagonal."""

    __props__ = ("function", "diag")

    def __init__(self, function: KernelFunction, diag: bool):
        self.function, self.diag = function, diag

    def make_node(self, *given: Any) -> Any:
        inputs = [pt.as_tensor_variable(one, dtype="float64") for one in given]
        return Apply(self, inputs, [pt.vector(dtype="float64") if self.diag else pt.matrix(dtype="float64")])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        call = self.function.diagonal if self.diag else self.function
        output_storage[0][0] = np.ascontiguousarray(call(*inputs))

    def infer_shape(self, fgraph: Any, node: Any, input_shapes: Any) -> Any:
        return [[shape[0] for shape in input_shapes[1:]]]

    def L_op(self, inputs: Any, outputs: Any, output_gradients: Any) -> Any:  # noqa: N802
        """The gradient by each of values and examples, of which those that nobody asks for are not computed."""
        return [_Pull(self.function, self.diag, at)(output_gradients[0], *inputs) for at in range(len(inputs))]

    pullback = L_op


class _Pull(Op):
    """The gradient of a weighted `_Value` by one of its arguments."""

    __props__ = ("function", "diag", "at")

    def __init__(self, function: KernelFunction, diag: bool, at: int):
        self.function, self.diag, self.at = function, diag, at

    def make_node(self, *given: Any) -> Any:
        return Apply(self, list(given), [given[1 + self.at].type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        call = self.function.pull_diagonal if self.diag else self.function.pull
        needs = tuple(at == self.at for at in range(len(inputs) - 1))
        output_storage[0][0] = call(*inputs, needs)[self.at]
