"""Nonlinearities as layers: each class is a row of a table, the name and arguments of a `Function`.

They act channel by channel, on every block of concatenated features, and are refused on raw data, which
is not Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar, dataclass_transform

import numpy as np

from tpnum import functions
from tpnum.functions import Function
from tpnum.nn.arguments import Coefficients, Degree, Flag, Positive, Real
from tpnum.nn.base import Features, Layer

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def row(cls: type[T]) -> type[T]:
    """A layer class without methods: its arguments and the name of its function."""
    return dataclass(frozen=True, repr=False)(cls)


class Activation(Layer):
    """Base of the nonlinearities: h -> f(h), or f(h; E h^2) for functions that take a scalar."""

    function: ClassVar[str] = ""

    def as_function(self) -> Function:
        """The `Function` that the layer applies."""
        return functions.get(self.function, **{f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]

    def __tpnum_function__(self) -> Function:
        """The same, for whoever takes functions: `tpnum.dual(nn.Relu())`."""
        return self.as_function()

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data:
            raise to.error(
                "it acts on raw data, which is not Gaussian; apply it to the array before, or put a "
                "Dense or Conv first"
            )
        fn = self.as_function()
        made = [to.apply(fn, block.vector, x.mask) for block in x.blocks]
        return x.replace(made if _keeps_zero(fn) else to.masked(made, x.mask))


def _keeps_zero(fn: Function) -> bool:
    """Whether a function is known to be 0 at 0, as what is masked is."""
    return not fn.n_scalars and fn.user is None and not np.any(fn(np.zeros(1)))


@row
class Relu(Activation):
    """max(u, 0)."""

    function = "relu"


@row
class ABRelu(Activation):
    """a min(u, 0) + b max(u, 0)."""

    function = "abrelu"
    a: Real
    b: Real


@row
class LeakyRelu(Activation):
    """alpha min(u, 0) + max(u, 0)."""

    function = "leaky_relu"
    alpha: Real


@row
class Abs(Activation):
    """|u|."""

    function = "abs"


@row
class Sign(Activation):
    """-1, 0 or 1."""

    function = "sign"


@row
class Step(Activation):
    """1 where u > 0, else 0."""

    function = "step"


@row
class Erf(Activation):
    """a erf(b u) + c."""

    function = "erf"
    a: Real = 1.0
    b: Real = 1.0
    c: Real = 0.0


@row
class Sigmoid_like(Activation):
    """erf(u / 2.4020563531719796) / 2 + 1/2."""

    function = "sigmoid_like"


@row
class Gelu(Activation):
    """u Phi(u), Phi the normal distribution function; ``approximate`` is the usual form with tanh."""

    function = "gelu"
    approximate: Flag = False


@row
class Sin(Activation):
    """a sin(b u + c)."""

    function = "sin"
    a: Real = 1.0
    b: Real = 1.0
    c: Real = 0.0


@row
class Cos(Activation):
    """a cos(b u + c)."""

    function = "cos"
    a: Real = 1.0
    b: Real = 1.0
    c: Real = 0.0


@row
class Rbf(Activation):
    """sqrt(2) sin(sqrt(2 gamma) u + pi/4): the random feature of exp(-gamma |u - v|^2)."""

    function = "rbf"
    gamma: Positive = 1.0


@row
class Exp(Activation):
    """a exp(b u)."""

    function = "exp"
    a: Real = 1.0
    b: Real = 1.0


@row
class Gaussian(Activation):
    """a exp(b u^2)."""

    function = "gaussian"
    a: Real = 1.0
    b: Real = -1.0


@row
class ExpNormalized(Activation):
    """The activation, given E u^2, of K -> sqrt(q1 q2) exp(gamma (rho + shift))."""

    function = "exp_normalized"
    gamma: Positive = 1.0
    shift: Real = -1.0


@row
class Gabor(Activation):
    """exp(-u^2) sin(u)."""

    function = "gabor"


@row
class Hermite(Activation):
    """He_degree(u / sqrt(E u^2)) / sqrt(degree!): E f f' = rho^degree at any variance."""

    function = "hermite"
    degree: Degree


@row
class Monomial(Activation):
    """u^degree."""

    function = "monomial"
    degree: Degree


@row
class RectifiedMonomial(Activation):
    """u^degree where u > 0, else 0."""

    function = "rectified_monomial"
    degree: Degree


@row
class Polynomial(Activation):
    """sum of coef[i] u^i."""

    function = "polynomial"
    coef: Coefficients


@row
class Tanh(Activation):
    """tanh(u)."""

    function = "tanh"


@row
class Sigmoid(Activation):
    """1 / (1 + exp(-u))."""

    function = "sigmoid"


@row
class Silu(Activation):
    """u / (1 + exp(-u)), also called swish."""

    function = "silu"


@row
class Softplus(Activation):
    """log(1 + exp(u))."""

    function = "softplus"


@row
class Elu(Activation):
    """u where u > 0, else alpha (exp(u) - 1)."""

    function = "elu"
    alpha: Real = 1.0


@row
class Selu(Activation):
    """The scaled elu of self-normalising networks."""

    function = "selu"


@row
class Mish(Activation):
    """u tanh(softplus(u))."""

    function = "mish"


@row
class HardTanh(Activation):
    """u cut off at -1 and 1."""

    function = "hard_tanh"


Swish = Silu
