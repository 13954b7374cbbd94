"""`TPKernel`: the kernels of a net for `sklearn.gaussian_process`, with exact gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from tpnum.arguments import choice
from tpnum.errors import InputError
from tpnum.interop.sklearn.networks import PREFIX, HasNet, network
from tpnum.nn.deviations import shared, with_deviations
from tpnum.tiles.arguments import KINDS
from tpnum.tiles.driver import kernel


class TPKernel(HasNet, Kernel):
    """The NNGP or NTK of a net as a kernel, whose deviations are hyper-parameters: composes with + and *.

    Parameters
    ----------
    net : a net of `tpnum.nn`, its JSON form, or an `MLP` (the default).
    get : "nngp" or "ntk".
    wrt : the hyper-parameters, names and paths of deviations ("W_std" for all that bear it, which must be
        equal and move together; "layers[0].b_std" for one); None for every one that is not zero.
    deviation_bounds : (low, high) of each of them, or "fixed".
    input_shape : the shape of an example, for images and sequences given as flat rows.
    n_jobs : threads.
    """

    def __init__(
        self,
        net: Any = None,
        *,
        get: str = "nngp",
        wrt: Any = None,
        deviation_bounds: Any = (1e-2, 1e1),
        input_shape: Any = None,
        n_jobs: int | None = None,
    ):
        self.net = net
        self.get = get
        self.wrt = wrt
        self.deviation_bounds = deviation_bounds
        self.input_shape = input_shape
        self.n_jobs = n_jobs

    def _values(self) -> dict[str, float]:
        """The deviations that are hyper-parameters."""
        return shared(network(self.net), self.wrt)

    @property
    def hyperparameters(self) -> list[Any]:
        """One for every deviation."""
        return [Hyperparameter(PREFIX + name, "numeric", self.deviation_bounds) for name in self._values()]

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of the hyper-parameters."""
        if self._fixed():
            return np.array([])
        found = list(self._values().values())
        if not all(found):
            raise InputError(
                "wrt: a deviation of 0 has no logarithm; leave it out, or start from a positive one"
            )
        return np.log(found)

    @theta.setter
    def theta(self, theta: Any) -> None:
        if not self._fixed():
            values = np.exp(np.asarray(theta, dtype=float)).tolist()
            self.net = with_deviations(network(self.net), dict(zip(self._values(), values, strict=True)))

    def _fixed(self) -> bool:
        return isinstance(self.deviation_bounds, str) and self.deviation_bounds == "fixed"

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """K(X, Y), and with ``eval_gradient`` its gradient by theta (N, N, len(theta))."""
        net, get = network(self.net), choice(self.get, "get", KINDS)
        x = self._rows(X)
        if not eval_gradient:
            return kernel(net, x, None if Y is None else self._rows(Y), get=get, n_jobs=self.n_jobs)
        if Y is not None:
            raise ValueError("Gradient can only be evaluated when Y is None.")
        values = {} if self._fixed() else self._values()
        if not values:
            made = kernel(net, x, get=get, n_jobs=self.n_jobs)
            return made, np.empty((*made.shape, 0))
        made, slopes = kernel(net, x, get=get, n_jobs=self.n_jobs, wrt=tuple(values))
        slopes *= np.array(list(values.values()))[:, None, None]  # by the logarithms: d log s = d s / s
        return made, np.moveaxis(slopes, 0, -1)

    def diag(self, X: Any) -> np.ndarray:
        """K(x, x) of every row."""
        return kernel(network(self.net), self._rows(X), get=choice(self.get, "get", KINDS), diag=True)

    def is_stationary(self) -> bool:
        """It is not: K(x, x) depends on x."""
        return False

    def _rows(self, x: Any) -> np.ndarray:
        return self._shaped(np.atleast_2d(np.asarray(x, dtype=np.float64)))

    def __repr__(self) -> str:
        return f"TPKernel({self.net!r}, get={self.get!r})"
