"""What users hand in, read once: numbers, whole numbers, choices, real arrays; a refusal names the argument.

Every public function reads its arguments with these, so one mistake has one sentence everywhere.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

from tpnum import jets
from tpnum.errors import InputError, TpnumError

Refusal = type[TpnumError]

JOBS = 1 << 16
"""More threads than any machine has."""


def shown(value: Any) -> str:
    """``value`` as a sentence quotes it: short, on one line, whatever its class does."""
    try:
        if isinstance(value, np.ndarray):
            return f"an array of shape {value.shape} and dtype {value.dtype}" if value.ndim else repr(value)
        text = " ".join(_SHORT.repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def counted(number: int, what: str) -> str:
    """So many of what is named in the singular."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def number(
    value: Any,
    name: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    error: Refusal = InputError,
) -> float:
    """A finite real number, at least ``low``, more than ``above``, less than ``below``."""
    made = _float(value)
    if made is None or not math.isfinite(made):
        raise error(f"{name} is {shown(value)}: it must be a finite real number")
    bounds = (
        ("at least", low, low is not None and made < low),
        ("more than", above, above is not None and made <= above),
        ("less than", below, below is not None and made >= below),
    )
    if any(broken for *_, broken in bounds):
        wanted = " and ".join(f"{words} {bound:g}" for words, bound, _ in bounds if bound is not None)
        raise error(f"{name} is {shown(value)}: it must be {wanted}")
    return made


def _float(value: Any) -> float | None:
    """A number as a float; None for text, booleans, arrays of more than one axis and what is no number."""
    if isinstance(value, (str, bytes, bytearray, bool, np.bool_, np.complexfloating)):
        return None
    try:
        plain = getattr(value, "shape", ()) == () and np.asarray(value).dtype.kind not in "cSUmM"
        return jets.plain(value) if plain and value is not np.ma.masked else None
    except Exception:
        return None


def whole(
    value: Any, name: str, low: int | None = None, high: int | None = None, error: Refusal = InputError
) -> int:
    """A whole number (1e5 is one) between ``low`` and ``high``."""
    made: int | None
    try:
        made = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except Exception:
        real = _float(value)
        made = int(real) if real is not None and real.is_integer() else None
    if made is None or (low is not None and made < low) or (high is not None and made > high):
        least = "" if low is None else f" of at least {low}"
        most = "" if high is None else f" and at most {high}" if least else f" of at most {high}"
        raise error(f"{name} is {shown(value)}: it must be a whole number{least}{most}")
    return made


def choice(value: Any, name: str, known: Collection[str], error: Refusal = InputError) -> str:
    """One of the words ``known``."""
    if not isinstance(value, str) or value not in known:
        raise error(f"{name} must be one of {', '.join(known)}, not {shown(value)}")
    return value


def text(value: Any, name: str, error: Refusal = InputError) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise error(f"{name} is {shown(value)}: it must be a text")
    return value


def flag(value: Any, name: str, error: Refusal = InputError) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{name} is {shown(value)}: it must be True or False")
    return bool(value)


def jobs(n_jobs: Any) -> int | None:
    """A number of threads as joblib counts them: None and -1 are all processors."""
    if n_jobs is None:
        return None
    try:
        made = whole(n_jobs, "n_jobs", -64, JOBS)
    except InputError:
        made = 0
    if made == 0:
        raise InputError(
            f"n_jobs: {shown(n_jobs)} is not a number of threads; use 1, 2, .. or -1 for all processors"
        )
    return made


def real_array(x: Any, name: str, error: Refusal = InputError) -> np.ndarray:
    """An array of real numbers: float32 kept, the rest as float64; nothing masked, sparse or ragged."""
    if _masked(x):
        raise error(
            f"{name}: its masked entries have no value; fill them (x.filled(value)) or leave them out"
        )
    if callable(getattr(x, "toarray", None)) and hasattr(x, "nnz"):
        raise error(f"{name}: a sparse matrix is not read; give {name}.toarray()")
    try:
        if isinstance(x, (str, bytes)) or x is None:
            raise TypeError
        array = np.asarray(x)
    except Exception as problem:
        if hasattr(x, "detach"):
            raise error(
                f"{name}: a {type(x).__name__} that NumPy cannot read; give x.detach().cpu().float().numpy()"
            ) from problem
        if isinstance(problem, ValueError) and isinstance(x, (list, tuple)):
            raise error(f"{name}: its rows have different lengths; an array of one shape is needed") from None
        raise error(f"{name}: {shown(x)} is no array of real numbers") from problem
    if array.dtype == object and array.ndim:
        array = _of_objects(array, name, error)
    if array.dtype.kind not in "fiub":
        hint = "; give numbers, not objects or text" if array.dtype.kind in "OUS" else ""
        raise error(f"{name}: an array of real numbers is needed, not one of dtype {array.dtype}{hint}")
    with np.errstate(over="ignore"):  # of longer numbers what overflows is infinite, and said to be
        return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def _of_objects(array: np.ndarray, name: str, error: Refusal) -> np.ndarray:
    """The real numbers in an array of objects, as of a data frame whose columns are of several kinds."""
    made = np.empty(array.shape)
    for place, entry in np.ndenumerate(array):
        value = _float(int(entry)) if isinstance(entry, (bool, np.bool_)) else _float(entry)
        if value is None:
            where = place[0] if len(place) == 1 else place
            raise error(
                f"{name}: entry {where} is {shown(entry)}, not a real number; encode, fill or drop it"
            )
        made[place] = value
    return made


def _masked(x: Any) -> bool:
    """Whether an array, or one in a list, hides entries under a mask."""
    if isinstance(x, (list, tuple)) and x and not isinstance(x[0], (int, float)):
        return any(_masked(entry) for entry in x)
    return isinstance(x, np.ma.MaskedArray) and bool(np.ma.getmaskarray(x).any())


def finite_array(x: Any, name: str, ndim: int | None = None, error: Refusal = InputError) -> np.ndarray:
    """A `real_array` in float64 without NaN and infinity, of ``ndim`` axes if that is given."""
    array = real_array(x, name, error).astype(np.float64, copy=False)
    if ndim is not None and array.ndim != ndim:
        raise error(f"{name}: an array of {ndim} axes is needed, not one of shape {array.shape}")
    if not np.isfinite(array).all():
        raise error(f"{name} must be finite; it holds NaN or infinity")
    return array
