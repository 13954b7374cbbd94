"""Architectures as programs: layers with the names, arguments and defaults that users already type.

>>> net = serial(Dense(512, W_std=1.5, b_std=0.05), Relu(), Dense(1))
>>> p = program(net, shape=(784,))

A layer is a frozen dataclass that emits lines of a tensor program; nothing here knows of kernels.
"""

from __future__ import annotations

from tpnum.nn.activations import (
    ABRelu,
    Abs,
    Activation,
    Cos,
    Elu,
    Erf,
    Exp,
    ExpNormalized,
    Gabor,
    Gaussian,
    Gelu,
    HardTanh,
    Hermite,
    LeakyRelu,
    Mish,
    Monomial,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    Relu,
    Selu,
    Sigmoid,
    Sigmoid_like,
    Sign,
    Silu,
    Sin,
    Softplus,
    Step,
    Swish,
    Tanh,
)
from tpnum.nn.attention import GlobalSelfAttention
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.combinators import (
    FanInConcat,
    FanInProd,
    FanInSum,
    FanOut,
    Identity,
    Residual,
    parallel,
    repeat,
    serial,
)
from tpnum.nn.dense import Dense, Flatten
from tpnum.nn.elementwise import Elementwise, ElementwiseNumerical
from tpnum.nn.emitter import Emitter, program
from tpnum.nn.graphs import Aggregate
from tpnum.nn.normalization import Dropout, LayerNorm
from tpnum.nn.recurrent import Gru, Lstm, SimpleRnn
from tpnum.nn.spatial import (
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    GlobalAvgPool,
    GlobalSumPool,
    ImageResize,
    Index,
    SumPool,
)
from tpnum.nn.spec import from_spec, ops
from tpnum.nn.training import Training, sgd

__all__ = [
    "ABRelu",
    "Abs",
    "Activation",
    "Aggregate",
    "AvgPool",
    "Block",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Cos",
    "Dense",
    "Dropout",
    "Elementwise",
    "ElementwiseNumerical",
    "Elu",
    "Emitter",
    "Erf",
    "Exp",
    "ExpNormalized",
    "FanInConcat",
    "FanInProd",
    "FanInSum",
    "FanOut",
    "Features",
    "Flatten",
    "Gabor",
    "Gaussian",
    "Gelu",
    "GlobalAvgPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "Gru",
    "HardTanh",
    "Hermite",
    "Identity",
    "ImageResize",
    "Index",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "Lstm",
    "Mish",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Residual",
    "Selu",
    "Sigmoid",
    "Sigmoid_like",
    "Sign",
    "Silu",
    "SimpleRnn",
    "Sin",
    "Softplus",
    "Step",
    "SumPool",
    "Swish",
    "Tanh",
    "Training",
    "from_spec",
    "ops",
    "parallel",
    "program",
    "repeat",
    "serial",
    "sgd",
]


def __dir__() -> list[str]:
    return __all__
