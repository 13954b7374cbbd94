"""`TPKernel`: the kernels of a net for GPyTorch and BoTorch, differentiable by deviations and by inputs.

gp = SingleTaskGP(x, y, covar_module=TPKernel(net))
"""

from __future__ import annotations

from typing import Any

try:
    import gpytorch
    import torch
except ImportError as missing:
    raise ImportError("tpnum.interop.gpytorch needs GPyTorch: pip install 'tpnum[gpytorch]'") from missing

from tpnum.interop.function import KernelFunction


class TPKernel(gpytorch.kernels.Kernel):
    """The NNGP or NTK of a net.

    ``deviations`` (*batch_shape, P) are hyper-parameters, one for every name or path of ``wrt`` in its order.

    Arguments are those of `tpnum.interop.function.KernelFunction.of`, a prior and a constraint (positive by
    default) of the deviations, and those of every kernel of GPyTorch, as ``batch_shape`` and ``active_dims``.
    """

    def __init__(
        self, net: Any, *, get: str = "nngp", wrt: Any = None, input_shape: Any = None, n_jobs: Any = None,
        deviation_prior: Any = None, deviation_constraint: Any = None, **keywords: Any,
    ):  # fmt: skip
        super().__init__(**keywords)
        self.function = KernelFunction.of(net, get, wrt, input_shape, n_jobs)
        start = torch.tensor(self.function.values, dtype=torch.get_default_dtype())
        self.register_parameter("raw_deviations", torch.nn.Parameter(start.repeat(*self.batch_shape, 1)))
        self.register_constraint("raw_deviations", deviation_constraint or gpytorch.constraints.Positive())
        self.deviations = self.raw_deviations.detach()
        if deviation_prior is not None:
            self.register_prior("deviation_prior", deviation_prior, "deviations")

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
        if not diag or torch.equal(x1, x2):
            return _Apply.apply(self.function, self.deviations, *((x1,) if diag else (x1, x2)))
        pairs = (tensor.unsqueeze(-2) for tensor in (self.deviations, x1, x2))
        return _Apply.apply(self.function, *pairs)[..., 0, 0]


class _Apply(torch.autograd.Function):
    """A `KernelFunction` and its gradient, by NumPy."""

    @staticmethod
    def forward(ctx: Any, function: KernelFunction, *given: torch.Tensor) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(*given)
        made = (function if len(given) == 3 else function.diagonal)(*map(_array, given))
        return torch.as_tensor(made).to(given[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> Any:
        given = ctx.saved_tensors
        pull = ctx.function.pull if len(given) == 3 else ctx.function.pull_diagonal
        made = pull(_array(weights), *map(_array, given), needs=ctx.needs_input_grad[1:])
        pairs = zip(made, given, strict=True)
        return None, *(None if one is None else torch.as_tensor(one).to(like) for one, like in pairs)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()
