"""Underflow is zero here, whatever the user told NumPy to do about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def underflow_is_zero(function: Callable[P, T]) -> Callable[P, T]:
    """The function with tails and tiny coefficients that vanish, even after np.seterr(all="raise")."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with np.errstate(under="ignore"):
            return function(*args, **kwargs)

    return run
