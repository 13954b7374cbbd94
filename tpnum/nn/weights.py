"""Weights and biases: the lines of W h + b for every layer that has parameters, in each parameterization.

A matrix that multiplies h has entries N(0, W_std^2 / fan_in).  What differs is the law of its direction
in the tangent program (`tpnum.program.lines.Matrix.tangent`), i.e. how the NTK weighs it:

========  =====================================  ======================
ntk       W_std^2                                b_std^2
standard  fan_in / s[0] (the width is finite)    1
raw       1: the parameters carry W_std          1
========  =====================================  ======================

*raw* is W h / sqrt(fan_in) with W ~ N(0, W_std^2), b ~ N(0, b_std^2): the NTK over these parameters.
In *standard* a layer of width n makes s[1] n channels, the fan_in of the next, whose s[0] takes it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.nn.base import Features

if TYPE_CHECKING:
    from tpnum.nn.base import Block
    from tpnum.nn.emitter import Emitter
    from tpnum.program import MatrixVar, Scalar, Vector
    from tpnum.program.lines import Axes


def channels_made(width: int, parameterization: str, s: tuple[float, float]) -> int:
    """The channels that a layer of a width makes."""
    return max(1, round(width * s[1])) if parameterization == "standard" else width


@dataclass(frozen=True, slots=True)
class Weights:
    """The law of the parameters of one layer."""

    W_std: float
    b_std: float | None
    parameterization: str = "ntk"
    scale: float = 1.0

    def product(
        self,
        to: Emitter,
        x: Features,
        dim: str,
        window: Axes = (),
        local: Axes = (),
    ) -> list[Vector]:
        """The vectors W_i h_i over the blocks of ``x``, to be summed.

        ``window`` are the axes over which the weights differ and which are summed (filter offsets);
        over ``local`` the weights differ too, but the positions stay.
        """
        made = self.drawn(to, x, dim, window, local)
        return [
            (next(made) @ block.vector).sum(*(name for name, _ in block.flat + window)) for block in x.blocks
        ]

    def drawn(
        self,
        to: Emitter,
        x: Features,
        dim: str,
        window: Axes = (),
        local: Axes = (),
    ) -> Iterator[MatrixVar]:
        """The matrices W_i of `product`, one after another, for whatever has the blocks of ``x``."""
        fan_in = x.channels * math.prod(size for _, size in window)
        for block, share in zip(x.blocks, x.shares, strict=True):
            contracted = block.flat + window
            part = share / math.prod(size for _, size in contracted)
            var = self.W_std**2 * part
            tangent = {"ntk": var, "standard": fan_in / self.scale * part, "raw": part}[self.parameterization]
            yield to.matrix(dim, block.vector.dim, var, tangent, contracted + local)

    def bias(self, to: Emitter, dim: str, local: Axes = ()) -> list[Vector]:
        """The bias to add: none or one vector, the same for every example; independent over ``local``.

        Where an input with a scaled direction cannot say it (a variance of 0 that is trained, a bias per
        position), the bias is a matrix times the vector of ones.
        """
        if self.b_std is None:
            return []
        var = self.b_std**2
        tangent = var if self.parameterization == "ntk" else 1.0
        if var == tangent == 0.0:
            return []
        if var > 0.0 and not local:
            return [to.bias(dim, var, tangent / var)]
        return [to.matrix(dim, ONE, var, tangent, local, "B") @ to.ones(ONE, local)]

    def affine(
        self,
        to: Emitter,
        x: Features,
        dim: str,
        window: Axes = (),
        local: Axes = (),
        mask: Scalar | None = None,
    ) -> Vector:
        """W h + b, zero where masked."""
        products = self.product(to, x, dim, window, local)
        return to.total(products + self.bias(to, dim, local), mask)


def gained(to: Emitter, x: Features, gain_std: float | None, bias_std: float | None) -> Features:
    """h * (1 + s) + b per channel, s ~ N(0, gain_std^2), b ~ N(0, bias_std^2), both trained; None: without.

    Their directions have variance 1: the NTK is that over s and b themselves, whatever they start at.
    """
    vectors = [block.vector for block in x.blocks]
    if gain_std is not None:
        gains = [_per_channel(to, block, gain_std, "s") for block in x.blocks]
        parts = [to.product([vector, gain]) for vector, gain in zip(vectors, gains, strict=True)]
        vectors = [to.total(pair) for pair in zip(vectors, parts, strict=True)]
    if bias_std is not None:
        biases = [_per_channel(to, block, bias_std, "b") for block in x.blocks]
        vectors = [to.total(pair, x.mask) for pair in zip(vectors, biases, strict=True)]
    return x.replace(vectors)


def _per_channel(to: Emitter, block: Block, std: float, name: str) -> Vector:
    """A trained vector of independent N(0, std^2), one for all positions but those that are flattened."""
    matrix = to.matrix(block.vector.dim, ONE, std**2, 1.0, block.flat, name.upper())
    return matrix @ to.ones(ONE, block.flat)


ONE = "one"
"""The CDC of the constant vector that carries biases which are matrices."""
