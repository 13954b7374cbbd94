"""Architectures as programs: layers with the names, arguments and defaults that users already type.

>>> net = nn.serial(nn.Dense(512, W_std=1.5, b_std=0.05), nn.Relu(), nn.Dense(1))
>>> p = nn.program(net, shape=(784,))

Features are arrays (examples, *positions, channels).  ``W_std`` and ``b_std`` are standard deviations, of
weights W_ij ~ N(0, W_std^2 / fan_in) and of biases (None: there are none).  Laws in docstrings are those of
one channel, K[p, p'] = E h[p] h'[p'] of two examples at two positions, and Theta of the NTK likewise (SL Thm
4.3).  An argument that cannot be used, and features that a layer cannot take, raise `SpecError`, which names
the layer.

A layer is a frozen dataclass that emits lines of a tensor program; nothing here knows of kernels.  How to
write one of your own is told by help("tpnum.nn.writing").
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
from tpnum.nn.attention import CrossAttention, GlobalSelfAttention
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.batchnorm import BatchNorm
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
from tpnum.nn.embedding import Embedding
from tpnum.nn.emitter import Emitter, program
from tpnum.nn.gated import Glu, SqueezeExcite, SwiGlu
from tpnum.nn.graphs import Aggregate, GraphAttention
from tpnum.nn.normalization import Dropout, GroupNorm, LayerNorm, RMSNorm
from tpnum.nn.pooling import AvgPool, GlobalAvgPool, GlobalMaxPool, GlobalSumPool, MaxPool, SumPool
from tpnum.nn.recurrent import Gru, Lstm, SimpleRnn
from tpnum.nn.spatial import Conv, ConvLocal, ConvTranspose, ImageResize, Index
from tpnum.nn.spec import from_spec, ops
from tpnum.nn.tied import Tied
from tpnum.nn.training import Training, sgd
from tpnum.nn.transformers import TransformerBlock

__all__ = [
    "ABRelu",
    "Abs",
    "Activation",
    "Aggregate",
    "AvgPool",
    "BatchNorm",
    "Block",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Cos",
    "CrossAttention",
    "Dense",
    "Dropout",
    "Elementwise",
    "ElementwiseNumerical",
    "Elu",
    "Embedding",
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
    "GlobalMaxPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "Glu",
    "GraphAttention",
    "GroupNorm",
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
    "MaxPool",
    "Mish",
    "Monomial",
    "Polynomial",
    "RMSNorm",
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
    "SqueezeExcite",
    "Step",
    "SumPool",
    "SwiGlu",
    "Swish",
    "Tanh",
    "Tied",
    "Training",
    "TransformerBlock",
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
