"""Calls of a user's function: what it raises and returns, read once, so that a bad one is named everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import InputError, TpnumError


def checked(call: Callable[..., Any], name: str, arrays: list[np.ndarray], **params: Any) -> np.ndarray:
    """call(*arrays), real numbers one for each point (the last axis), or an `InputError` that says why not.

    A constant function may return a number; leading axes of the result are components.
    """
    length = np.broadcast_shapes(*(a.shape for a in arrays))[-1:] if arrays else ()
    where = f"for {len(arrays)} array(s) of {length[0]} points" if length else "for numbers"
    rule = f"it must work elementwise on NumPy arrays and return real numbers ({name})"
    try:
        made = call(*arrays, **params)
    except TpnumError:
        raise
    except Exception as problem:
        said = " ".join(str(problem).split())
        raise InputError(f"f raised {type(problem).__name__} ({_short(said)}) {where}: {rule}") from problem
    array = np.asarray(made)
    if made is None or array.dtype.kind not in "fiub":
        what = shown(made) if made is None or array.dtype == object else f"{array.dtype} numbers"
        raise InputError(f"f returned {what} {where}: {rule}")
    if array.ndim and array.shape[-1:] != length and array.shape != (1,):
        raise InputError(f"f returned shape {array.shape} {where}: {rule}")
    return array


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
