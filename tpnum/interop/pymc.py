"""`TPCovariance`: the kernels of a net as a covariance function of PyMC.

w = pm.HalfNormal("w", 1.0)
gp = pm.gp.Marginal(cov_func=TPCovariance(3, net, deviations={"W_std": w}))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

try:
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
        self, input_dim: int, net: Any, *, deviations: Mapping[str, Any] | None = None, get: str = "nngp",
        input_shape: Any = None, n_jobs: int | None = None, active_dims: Any = None,
    ):  # fmt: skip
        super().__init__(input_dim, active_dims)
        given = dict(deviations or {})
        self.function = KernelFunction.of(net, get, tuple(given), input_shape, n_jobs)
        self.values = pt.stack([pt.as_tensor(v).astype("float64") for v in given.values()]) if given else []

    def full(self, X: Any, Xs: Any = None) -> Any:
        """K(X, Xs)."""
        x, other = self._slice(X, Xs)
        return _Call(self.function, False)(self.values, x, x if other is None else other)

    def diag(self, X: Any) -> Any:
        """The diagonal of K(X)."""
        return _Call(self.function, True)(self.values, self._slice(X)[0])


@dataclass(frozen=True)
class _Call(Op):
    """A `KernelFunction` or its diagonal; with ``at``, its gradient by an argument, weights come first."""

    function: KernelFunction
    diag: bool
    at: int | None = None

    def make_node(self, *given: Any) -> Any:
        inputs = [pt.as_tensor_variable(one, dtype="float64") for one in given]
        whole = pt.vector(dtype="float64") if self.diag else pt.matrix(dtype="float64")
        return Apply(self, inputs, [whole if self.at is None else inputs[1 + self.at].type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        f, at = self.function, self.at
        if at is None:
            output_storage[0][0] = (f.diagonal if self.diag else f)(*inputs)
        else:
            needs = tuple(k == at for k in range(len(inputs) - 1))
            output_storage[0][0] = (f.pull_diagonal if self.diag else f.pull)(*inputs, needs=needs)[at]

    def L_op(self, inputs: Any, outputs: Any, output_gradients: Any) -> Any:
        """The gradients by values and examples; those that nobody asks for are not computed."""
        calls = (_Call(self.function, self.diag, at) for at in range(len(inputs)))
        return [call(output_gradients[0], *inputs) for call in calls]

    pullback = L_op
