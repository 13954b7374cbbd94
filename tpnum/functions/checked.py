"""Calls of a user's function: what it raises and returns, read once, so that a bad one is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.errors import FunctionError, TpnumError

LONGEST = 100
"""Letters of another error's text that are worth quoting."""


def checked(call: Callable[..., Any], name: str, arrays: list[np.ndarray]) -> np.ndarray:
    """call(*arrays), real numbers one for each point (the last axis), or a `FunctionError` that says why not.

    A constant function may return a number; leading axes of the result are components.
    """
    length = np.broadcast_shapes(*(a.shape for a in arrays))[-1:] if arrays else ()
    rule = "it must work elementwise on NumPy arrays and return real numbers"
    try:
        made = call(*arrays)
    except TpnumError:
        raise
    except Exception as problem:
        said = " ".join(str(problem).split())
        said = said if len(said) <= LONGEST else said[:LONGEST].rstrip() + " ..."
        raise FunctionError(
            f"the function {name} raised {type(problem).__name__} ({said}): {rule}"
        ) from problem
    if made is None:
        raise FunctionError(f"the function {name} returned None: {rule}")
    array = np.asarray(made)
    if array.dtype.kind not in "fiub":
        raise FunctionError(f"the function {name} must return real numbers, not {array.dtype}")
    if array.ndim and array.shape[-1:] != length and array.shape != (1,):
        points = f"{length[0]} points" if length else "numbers"
        raise FunctionError(f"the function {name} returned shape {array.shape} for {points}: {rule}")
    return array


def on_half(call: Callable[..., Any], name: str, arrays: list[np.ndarray], made: np.ndarray) -> None:
    """Raise where a function of half of the points (the last axis) gives other values than of all of them."""
    size = max(a.shape[-1] for a in arrays)
    part = slice(size // 4, size - size // 4)
    if part.stop - part.start == size:
        return
    again = checked(call, name, [a[..., part] if a.shape[-1] == size else a for a in arrays])
    made = made[..., part] if made.shape[-1:] == (size,) else made
    with np.errstate(all="ignore"):
        near = np.isclose(again, made, rtol=1e-9, atol=1e-9, equal_nan=True)
    if not np.all(near):
        raise FunctionError(
            f"the function {name} must work elementwise: on half of the points it gives other values"
        )
