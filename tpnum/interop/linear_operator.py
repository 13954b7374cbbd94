"""A kernel matrix of a net that is never stored, as a `linear_operator.LinearOperator`: K @ V tile by tile.

    k = kernel_operator(net, x)
    k.add_jitter(0.1).inv_quad_logdet(y[:, None], logdet=True)

It is differentiable by deviations and examples; derivatives too are formed by blocks of rows.
"""

from __future__ import annotations

from typing import Any

try:
    import torch
    from linear_operator import LinearOperator
except ImportError as missing:
    raise ImportError(
        "tpnum.interop.linear_operator needs linear_operator: pip install 'tpnum[gpytorch]'"
    ) from missing

from tpnum.interop.function import KernelFunction


def kernel_operator(net: Any, x1: Any, x2: Any = None, *, deviations: Any = None, **options: Any) -> Any:
    """The matrix of a net between the rows of x1 and of x2 (N, features).

    ``options`` as in `tpnum.interop.function.KernelFunction.of`; ``deviations`` those of the net by default.
    """
    function = KernelFunction.of(net, **options)
    first = torch.as_tensor(x1)
    values = torch.as_tensor(function.values if deviations is None else deviations).to(first.device)
    return KernelOperator(values, first, first if x2 is None else torch.as_tensor(x2), function=function)


class KernelOperator(LinearOperator):
    """K(x1, x2) of a `KernelFunction` at its deviations."""

    def __init__(self, values: Any, x1: Any, x2: Any, *, function: KernelFunction):
        super().__init__(values, x1, x2, function=function)
        self.function = function

    @property
    def dtype(self) -> Any:
        """That of the examples."""
        return self._args[1].dtype

    def _matmul(self, rhs: Any) -> Any:
        made = self.function.times(*map(_array, self._args), vectors=_array(rhs))
        return torch.from_numpy(made).to(rhs)

    def _size(self) -> Any:
        return torch.Size((len(self._args[1]), len(self._args[2])))

    def _transpose_nonbatch(self) -> KernelOperator:
        values, x1, x2 = self._args
        return self.__class__(values, x2, x1, function=self.function)

    def _diagonal(self) -> Any:
        values, x1, _ = self._args
        return torch.from_numpy(self.function.diagonal(_array(values), _array(x1))).to(x1)

    def _get_indices(self, row_index: Any, col_index: Any, *batch_indices: Any) -> Any:
        values, x1, x2 = self._args
        (rows, i), (cols, j) = (torch.unique(one, return_inverse=True) for one in (row_index, col_index))
        made = self.function(*map(_array, (values, x1[rows], x2[cols])))
        return torch.from_numpy(made).to(x1)[i, j]

    def _bilinear_derivative(self, left_vecs: Any, right_vecs: Any) -> Any:
        needs = tuple(tensor.requires_grad for tensor in self._args)
        left, right = (_array(v).reshape(len(v), -1) for v in (left_vecs, right_vecs))
        made = self.function.pull_products(left, right, *map(_array, self._args), needs=needs)
        pairs = zip(made, self._args, strict=True)
        return tuple(None if one is None else torch.from_numpy(one).to(like) for one, like in pairs)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().double().numpy()
