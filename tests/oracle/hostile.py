"""What a hostile or hurried user hands to a function: values of every wrong kind."""

from __future__ import annotations

import datetime
from fractions import Fraction

import numpy as np
import scipy.sparse

import tpnum as tp
from tpnum import nn


class Tensor:
    """A tensor that NumPy cannot read: it requires gradients, or its numbers are of a strange kind."""

    shape = (2, 2)
    ndim = 2

    def __init__(self, error):
        self.error = error

    def detach(self):
        return self

    def __array__(self, dtype=None, copy=None):
        raise self.error

    def __float__(self):
        raise self.error

    def __len__(self):
        return 2

    def __iter__(self):
        raise self.error


class Rude:
    """A thing that raises whatever is asked of it, its repr included."""

    def _refuse(self, *args):
        raise RuntimeError("no")

    __repr__ = __str__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __array__ = _refuse


def stranger():
    """A vector of another program."""
    return tp.Program().vector("x", var=9.0)


def scalar_of_another():
    p = tp.Program()
    return p.mean(p.vector("x"))


VALUES = {
    "None": lambda: None,
    "true": lambda: True,
    "text": lambda: "a",
    "empty text": lambda: "",
    "bytes": lambda: b"tanh",
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "minus one": lambda: -1,
    "minus": lambda: -2.5,
    "zero": lambda: 0,
    "half": lambda: 0.5,
    "huge int": lambda: 10**400,
    "large int": lambda: 10**13,
    "large": lambda: 1e308,
    "complex": lambda: 1j,
    "fraction": lambda: Fraction(1, 3),
    "object": object,
    "rude": Rude,
    "list": list,
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "words": lambda: ["a", "b"],
    "numbers": lambda: [1.0, 2.0, 3.0, 4.0, 5.0],
    "nested": lambda: [[[[1.0]]]],
    "dict": lambda: {"a": 1},
    "no dict": dict,
    "odd dict": lambda: {3: None},
    "set": lambda: {1, 2},
    "generator": lambda: (k for k in range(3)),
    "slice": lambda: slice(None),
    "date": lambda: datetime.date(2000, 1, 1),
    "function": lambda: lambda: None,
    "raising": lambda: _raise,
    "complex function": lambda: lambda *u: 1j * u[0],
    "class": lambda: nn.Relu,
    "module": lambda: np,
    "layer": lambda: nn.Dense(3),
    "program": tp.Program,
    "stranger": stranger,
    "scalar of another": scalar_of_another,
    "empty array": lambda: np.empty((0, 3)),
    "nan array": lambda: np.full((2, 2), np.nan),
    "complex array": lambda: np.ones((2, 2)) * 1j,
    "object array": lambda: np.array([[1, None], [object(), "a"]], dtype=object),
    "text array": lambda: np.array([["a", "b"]]),
    "dates": lambda: np.array(["2000-01-01"], dtype="datetime64[D]"),
    "records": lambda: np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
    "masked": lambda: np.ma.masked_array(np.ones((2, 2)), [[1, 0], [0, 0]]),
    "masked constant": lambda: np.ma.masked,
    "sparse": lambda: scipy.sparse.eye(2).tocsr(),
    "tensor with gradients": lambda: Tensor(RuntimeError("Can't call numpy() on Tensor that requires grad.")),
    "bfloat16": lambda: Tensor(TypeError("Got unsupported ScalarType BFloat16")),
    "five axes": lambda: np.zeros((1, 1, 1, 1, 1)),
    "huge array": lambda: np.full((2, 2), 1e308),
}
"""Each value is made anew: some are used up by looking at them."""


def _raise(*_):
    raise RuntimeError("no: " + "1.234 " * 300)
