"""Checks of what a user hands to `tpnum.kernel`: one sentence per mistake, naming the argument."""

from __future__ import annotations

import math
import operator
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from tpnum.arguments import real_array, shown
from tpnum.errors import InputError, require_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

KINDS = ("nngp", "ntk")
CHUNK = 1 << 22
"""Entries checked for finiteness at a time."""


def kinds_of(get: Any) -> tuple[str, ...]:
    """The kinds asked for, in order."""
    kinds = (get,) if isinstance(get, str) else tuple(get) if isinstance(get, (tuple, list)) else ()
    if not kinds or any(not isinstance(kind, str) or kind not in KINDS for kind in kinds):
        raise InputError(
            f'get: {shown(get)} is not known; ask for "nngp", "ntk" or the tuple ("nngp", "ntk")'
        )
    if len(set(kinds)) < len(kinds):
        raise InputError(f"get: {shown(get)} names a kernel twice; ask for each once")
    return kinds


def dtype_of(dtype: Any) -> np.dtype:
    try:
        if not isinstance(dtype, (str, type, np.dtype, type(None))):
            raise TypeError  # an array, which bears one
        found = np.dtype(np.float64 if dtype is None else dtype)
    except Exception:
        raise InputError(f"dtype: {shown(dtype)} is not a dtype; use float64 or float32") from None
    if found not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise InputError(f"dtype: {found} is not supported; use float64 or float32")
    return found


def array_of(x: Any, name: str, features: bool = True) -> np.ndarray:
    """A real finite array of examples along its first axis, float32 kept, the rest as float64.

    The last one is that of ``features``, which known scalars lack.
    """
    array = real_array(x, name)
    shaped(array.shape, name, features)
    rows = max(1, CHUNK // max(1, array[0].size))
    for start in range(0, len(array), rows):
        without_nan(array[start : start + rows], start, name)
    return array


def shaped(shape: tuple[int, ...], name: str, features: bool = True) -> None:
    """Refuse a shape that is not (examples, *index axes, features), each at least one."""
    if len(shape) < 1 + features:
        raise InputError(
            f"{name}: shape {shape} has no feature axis; give (examples, features), "
            "x[:, None] for one feature"
            if features
            else f"{name}: a number has no axis of examples; give an array (examples, ..)"
        )
    if 0 in shape:
        needed = "at least one example and one feature are" if features else "at least one example is"
        if 0 in shape[1 : len(shape) - features]:
            needed = "at least one position (step, pixel) of an example is"
        raise InputError(f"{name}: shape {shape} is empty; {needed} needed")


def without_nan(block: np.ndarray, start: int, name: str) -> None:
    """Refuse examples, ``start`` the number of the first, that hold NaN or infinity."""
    if not np.isfinite(block).all():
        bad = start + int(np.argwhere(~np.isfinite(block))[0][0])
        raise InputError(f"{name}: example {bad} holds NaN or infinity; clean the data first")


def matching(x1: tuple[int, ...], x2: tuple[int, ...]) -> None:
    if len(x1) != len(x2) or x1[-1] != x2[-1]:
        raise InputError(
            f"x2: shape {x2} does not go with x1 of shape {x1}; both need the same number of "
            "axes and of features (the last axis)"
        )


class Shaped(Protocol):
    """Anything of a shape: an array, or a source that is read by slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...


S = TypeVar("S", bound=Shaped)


def by_line(
    x1: Any, x2: Any, make: Callable[[Any, str, bool], S], name: str = "x1", scalars: Collection[str] = ()
) -> tuple[dict[str, S], dict[str, S] | None]:
    """What ``make`` (x, name, features) makes of the arrays of each data line ("" for the one of a net).

    They are checked to go together; ``scalars`` are the names that are known scalars, which have no features.
    """

    def side(x: Any, name: str) -> dict[str, S]:
        if not isinstance(x, dict):
            return {"": make(x, name, True)}
        made = {key: make(value, f"{name}[{key!r}]", key not in scalars) for key, value in x.items()}
        if len({one.shape[0] for one in made.values()}) != 1:
            raise InputError(
                f"{name}: its arrays must hold equally many examples, and at least one is needed"
            )
        return made

    first = side(x1, name)
    if x2 is None:
        return first, None
    second = side(x2, "x2")
    if set(first) != set(second):
        raise InputError("x2: give the same data lines as in x1")
    for line in set(first) - set(scalars):
        matching(first[line].shape, second[line].shape)
    return first, second


def outputs_of(
    out: Any, kinds: Sequence[str], shape: tuple[int, ...], dtype: np.dtype, single: bool
) -> dict[str, np.ndarray]:
    """The arrays to fill: fresh ones, or the user's, checked."""
    if out is None:
        needed = float(math.prod(shape)) * dtype.itemsize * len(kinds)
        require_memory(needed, f"x1, x2: matrices of shape {shape}", "give fewer examples, or out= on disk")
        return {kind: np.empty(shape, dtype) for kind in kinds}
    if isinstance(out, dict):
        given = dict(out)
    elif single:
        given = {kinds[0]: out}
    elif isinstance(out, (tuple, list)) and len(out) == len(kinds):
        given = dict(zip(kinds, out, strict=True))
    else:
        raise InputError(f"out: give one array per kind asked for, {len(kinds)} of them, in the order of get")
    if set(given) != set(kinds):
        raise InputError(
            f"out: its keys are {shown(list(given))}; they must be the kinds asked for, {', '.join(kinds)}"
        )
    for kind in kinds:
        array = given[kind]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            raise InputError(f"out: the array for {kind!r} must be a {dtype} array of shape {shape}")
        if isinstance(array, np.ma.MaskedArray):
            raise InputError(f"out: the array for {kind!r} is masked; give a plain array")
        if not array.flags.writeable:
            raise InputError(f"out: the array for {kind!r} is read-only; open it for writing")
        if _repeats(array):
            raise InputError(f"out: entries of the array for {kind!r} share memory with each other")
    for a, b in combinations(kinds, 2):
        if np.may_share_memory(given[a], given[b]) and np.shares_memory(given[a], given[b]):
            raise InputError(f"out: the arrays for {a!r} and {b!r} share memory; give each its own")
    return {kind: given[kind] for kind in kinds}


def _repeats(array: np.ndarray) -> bool:
    """Whether two entries of a view lie in one place (a broadcast array, made writeable)."""
    return any(stride == 0 for size, stride in zip(array.shape, array.strides, strict=True) if size > 1)


def shard_of(shard: Any) -> tuple[int, int] | None:
    """(k, n), the k-th of n parts, of a pair or of "k/n"; counted from one."""
    if shard is None:
        return None
    try:
        parts = shard.split("/") if isinstance(shard, str) else shard
        k, n = (int(part) if isinstance(part, str) else operator.index(part) for part in parts)
    except Exception:  # whatever the iteration of a stranger raises
        raise InputError(f'shard is {shown(shard)}: it must be (k, n) or "k/n", as in "3/16"') from None
    if not 1 <= k <= n:
        raise InputError(f"shard: {k}/{n} is out of range; of n shards the first is 1/n, the last n/n")
    return k, n


def progress_of(progress: Any) -> bool | Callable[[int, int], None] | None:
    """None, True, False or a function of (tiles done, tiles in all)."""
    if progress is None or isinstance(progress, (bool, np.bool_)):
        return bool(progress)
    if not callable(progress):
        raise InputError(
            f"progress is {shown(progress)}: it must be True, False or a function of (done, total)"
        )
    return progress
