"""Calls of a user's function: what it raises and returns, read once, so that a bad one is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpnum.errors import FunctionError, TpnumError

Value = Callable[..., Any]

SAME = 1e-6
"""The difference of two calls that is allowed, relative to the largest |f|."""
_RULE = "it must work elementwise on NumPy arrays and return real numbers"
_WORDS = 100  # letters quoted of a foreign error
_TESTED = 1 << 12  # points of which at most a part is called again


def checked(f: Value, name: object, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """f(*arrays), real numbers one for each point (the last axis), or a `FunctionError` that says why not.

    A constant function may return a number; leading axes of the result are components.
    """
    length = np.broadcast_shapes(*(np.shape(a) for a in arrays))[-1:] if arrays else ()
    try:
        made = f(*arrays)
    except TpnumError:
        raise
    except Exception as error:
        raise FunctionError(
            f"the function {name} raised {type(error).__name__}{quoted(error)} "
            f"for {_arguments(len(arrays), length)}: {_RULE}"
        ) from error
    if made is None:
        raise FunctionError(f"the function {name} returned None: {_RULE}")
    try:
        made = np.asarray(made)
    except Exception as error:
        raise FunctionError(f"the function {name} returned no array{quoted(error)}: {_RULE}") from error
    if made.dtype.kind not in "fiub":
        raise FunctionError(f"the function {name} must return real numbers, not {made.dtype}")
    if made.ndim and made.shape[-1:] != length and made.shape != (1,):
        raise _shape(made, name, length)
    return made


def evaluate(f: Value, *columns: np.ndarray, name: object = "f", rows: bool = False) -> np.ndarray:
    """f(*columns) of flat arrays as real float64, (length,) or (k, length); values may be infinite or NaN.

    Of one array only (length,) is taken unless ``rows`` says that f may have components.
    """
    length = columns[0].shape
    with np.errstate(all="ignore"):
        made = checked(f, name, columns)
    if made.ndim == 0 or made.shape == (1,):
        made = np.broadcast_to(made, length)
    if made.ndim > 2 or (made.ndim == 2 and len(columns) == 1 and not rows):
        raise _shape(made, name, length)
    return made if made.dtype == np.float64 else made.astype(np.float64)


def check_elementwise(
    f: Value, *columns: np.ndarray, name: object = "f", made: np.ndarray | None = None
) -> None:
    """Raise unless f of a shuffled part of the points is that part of f of the points (``made``, if known).

    The points should be distinct; the part leaves out the largest and the smallest ones, so that sums, means,
    extremes, sorting and random numbers all tell.
    """
    size = columns[0].size
    with np.errstate(all="ignore"):
        every = _for_each(checked(f, name, columns) if made is None else made, size)
        random = np.random.default_rng(1)
        some = np.arange(size) if size <= _TESTED else random.choice(size, _TESTED, replace=False)
        order = some[np.argsort(columns[0][some], kind="stable")]
        part = random.permutation(order[some.size // 3 : some.size - some.size // 8])
        again = _for_each(checked(f, name, [np.ascontiguousarray(c[part]) for c in columns]), part.size)
        was = every[..., part]
        if was.shape == again.shape:
            scale = np.abs(every).max(initial=0.0, where=np.isfinite(every))
            same = (was == again) | (np.isnan(was) & np.isnan(again))
            same |= np.isfinite(was) & np.isfinite(again) & (np.abs(was - again) <= SAME * scale)
            if np.all(same):
                return
    raise FunctionError(
        f"the function {name} must work elementwise: on a part of the points it gives other values"
    )


def quoted(error: Exception) -> str:
    """The first words of an error that is not ours in brackets, without the arrays in it."""
    words = " ".join(str(error).split())
    for at in (words.find("array("), words.find("[")):
        if at >= 0 and len(words) > _WORDS:
            words = words[:at].rstrip(" :=(")
    words = words if len(words) <= _WORDS else words[:_WORDS].rstrip() + " ..."
    return f" ({words})" if words else ""


def _for_each(made: np.ndarray, size: int) -> np.ndarray:
    """A value for each of the points, whether they are numbers, truth values or one for all."""
    return np.broadcast_to(made.astype(np.float64, copy=False), (*made.shape[:-1], size))


def _arguments(count: int, length: tuple[int, ...]) -> str:
    if not length:
        return "numbers" if count else "no arguments"
    many = f"{count} arrays of" if count > 1 else "an array of"
    return f"{many} {length[0]} points"


def _shape(made: np.ndarray, name: object, length: tuple[int, ...]) -> FunctionError:
    points = f"{length[0]} points" if length else "numbers"
    return FunctionError(f"the function {name} returned shape {made.shape} for {points}: {_RULE}")
