"""`TPKernel`: the kernels of a net for GPyTorch and BoTorch, differentiable by deviations and by inputs.

    gp = SingleTaskGP(x, y, covar_module=TPKernel(net))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(gp.likelihood, gp))
"""

from __future__ import annotations

from typing import Any

try:
    import gpytorch
    import torch
except ImportError as missing:
    raise ImportError("tpnum.interop.gpytorch needs GPyTorch: pip install 'tpnum[gpytorch]'") from missing

from tpnum.interop.function import KernelFunction


class _Apply(torch.autograd.Function):
    """A `KernelFunction` with its gradient; NumPy on the processor, in the dtype of the examples."""

    @staticmethod
    def forward(ctx: Any, function: KernelFunction, *given: torch.Tensor) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(*given)
        arrays = [tensor.detach().cpu().numpy() for tensor in given]
        made = function(*arrays) if len(given) == 3 else function.diagonal(*arrays)
        return torch.from_numpy(made).to(given[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> Any:
        given = ctx.saved_tensors
        arrays = [tensor.detach().cpu().numpy() for tensor in given]
        pull = ctx.function.pull if len(given) == 3 else ctx.function.pull_diagonal
        made = pull(weights.detach().cpu().numpy(), *arrays, ctx.needs_input_grad[1:])
        return None, *(None if m is None else torch.from_numpy(m).to(t) for m, t in zip(made, given, strict=True))


class TPKernel(gpytorch.kernels.Kernel):
    """The NNGP or NTK of a net.

    ``deviations`` (*batch_shape, P) are hyper-parameters, one for every name or path of ``wrt`` in its order.

    Parameters
    ----------
    net, get, wrt, input_shape, n_jobs : as in `tpnum.interop.function.KernelFunction.of`.
    deviation_prior, deviation_constraint : of the deviations, positive by default.
    keywords : of every kernel of GPyTorch, as ``batch_shape`` and ``active_dims``.
    """

    def __init__(
        self,
        net: Any,
        *,
        get: str = "nngp",
        wrt: Any = None,
        input_shape: Any = None,
        n_jobs: int | None = None,
        deviation_prior: Any = None,
        deviation_constraint: Any = None,
        **keywords: Any,
    ):
        super().__init__(**keywords)
        self.function = KernelFunction.of(net, get, wrt, input_shape, n_jobs)
        start = torch.as_tensor(self.function.values, dtype=torch.get_default_dtype())
        start = start.expand(*self.batch_shape, -1).clone()
        self.register_parameter("raw_deviations", torch.nn.Parameter(start))
        self.register_constraint("raw_deviations", deviation_constraint or gpytorch.constraints.Positive())
        self.deviations = start
        if deviation_prior is not None:
            self.register_prior("deviation_prior", deviation_prior, lambda m: m.deviations, _set)

    @property
    def deviations(self) -> torch.Tensor:
        """The deviations of weights and biases."""
        return self.raw_deviations_constraint.transform(self.raw_deviations)

    @deviations.setter
    def deviations(self, value: Any) -> None:
        made = torch.as_tensor(value).to(self.raw_deviations)
        self.initialize(raw_deviations=self.raw_deviations_constraint.inverse_transform(made))

    def forward(self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **params: Any) -> torch.Tensor:
        """K(x1, x2), or its diagonal."""
        if not diag:
            return _Apply.apply(self.function, self.deviations, x1, x2)
        if torch.equal(x1, x2):
            return _Apply.apply(self.function, self.deviations, x1)
        pairs = (tensor.unsqueeze(-2) for tensor in (self.deviations, x1, x2))
        return _Apply.apply(self.function, *pairs)[..., 0, 0]


def _set(kernel: TPKernel, value: Any) -> None:
    kernel.deviations = value
