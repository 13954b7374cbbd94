"""Normal points for sampling, made once and shared: scrambled Sobol sequences and pseudo-random numbers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.kernels._interrupts import postponed

KEPT_BYTES = 1 << 28
"""Points are kept up to this size, the least recently used are forgotten first."""

_kept: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
_lock = threading.Lock()
_reading = threading.Lock()
ATTEMPTS = 100


def shared(key: tuple[object, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``make`` gives, read-only, made once for a key as long as it is kept."""
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = np.ascontiguousarray(make())
    made.setflags(write=False)
    with _lock:
        _kept[key] = made
        size = sum(array.nbytes for array in _kept.values())
        while size > KEPT_BYTES and len(_kept) > 1:
            size -= _kept.popitem(last=False)[1].nbytes
    return made


def normal_points(d: int, log2: int, scramble: int) -> np.ndarray:
    """2^log2 scrambled Sobol points as standard normals, (d, points), shared and read-only.

    The points of a smaller ``log2`` are the first ones of a larger.
    """
    return shared(("sobol", d, log2, scramble), lambda: _sobol(d, log2, scramble, 1 << log2))


def point_sets(d: int, log2: int, last: int, scrambles: range) -> np.ndarray:
    """The ``last`` points of some `normal_points` sets, (d, sets, last), shared and read-only."""
    return shared(
        ("sets", d, log2, last, scrambles),
        lambda: np.stack([_sobol(d, log2, scramble, last) for scramble in scrambles], axis=1),
    )


def in_pieces(d: int, log2: int, last: int, scramble: int, size: int) -> Iterator[np.ndarray]:
    """The ``last`` points of `normal_points`, (d, size) at a time and not kept."""
    sequence = _sequence(d, scramble, (1 << log2) - last)
    for _ in range(0, last, size):
        yield _normal(sequence.random(size))


def _sobol(d: int, log2: int, scramble: int, last: int) -> np.ndarray:
    return _normal(_sequence(d, scramble, (1 << log2) - last).random(last))


def _sequence(d: int, scramble: int, before: int) -> Any:
    """Scrambled Sobol points after the first ones."""
    sequence = sobol_sequence(d, np.random.default_rng(scramble))
    if before:
        sequence.fast_forward(before)
    return sequence


def sobol_sequence(d: int, rng: np.random.Generator | None = None) -> Any:
    """SciPy's `scipy.stats.qmc.Sobol` in d dimensions, scrambled if there is an ``rng``."""
    from scipy.stats import qmc

    _read_numbers()
    return qmc.Sobol(d, scramble=rng is not None, rng=rng)


@cache
def _read_numbers() -> None:
    """Have SciPy read its direction numbers, and see that they are there.

    The first sequence of a process reads them where exceptions are ignored: Ctrl-C, or that of CPython 3.11
    where two threads parse at a time.  All coordinates but the first would be zeros then.
    """
    from scipy.stats import qmc

    with _reading, postponed():
        for _ in range(ATTEMPTS):
            if qmc.Sobol(2, scramble=False).random(2)[1, 1] == 0.5:
                return
    raise LimitError(
        "SciPy cannot read the direction numbers of Sobol's sequence; see that it is installed whole"
    )


def _normal(uniform: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return np.ascontiguousarray(ndtri(np.clip(uniform, 1e-16, 1.0 - 1e-16)).T)


def normal_sample(d: int, size: int, *seed: int) -> np.ndarray:
    """Independent standard normals (d, size), shared and read-only."""
    return shared(("sample", d, size, *seed), lambda: np.random.default_rng(seed).standard_normal((d, size)))
