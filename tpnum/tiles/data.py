"""Inputs that are read by slices: arrays in memory, memory maps, and whatever else can be sliced on disk.

A source is sent to other processes as what it is: an array that is in a file as the file's path.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tpnum.arguments import real_array
from tpnum.errors import StoreError
from tpnum.tiles.arguments import CHUNK, shaped, without_nan

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH = 16
"""Views of views of a memory map that are followed."""


class Source(Protocol):
    """Examples along the first axis of ``shape``; ``name`` is the argument that they came by."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, rows: slice) -> np.ndarray:
        """Some examples in C order, float32 as they are and all else in float64."""


@dataclass(frozen=True, eq=False)
class Held:
    """An array in memory, or anything that has a shape and can be sliced, as a Zarr array."""

    array: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def read(self, rows: slice) -> np.ndarray:
        return _read(self.array[rows], self.name)


@dataclass(frozen=True)
class Mapped:
    """A part of a file, as `numpy.memmap` sees it."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    order: Any
    name: str

    def read(self, rows: slice) -> np.ndarray:
        return _read(_map(self)[rows], self.name)


def _read(part: Any, name: str) -> np.ndarray:
    """In one order: sums depend on it in their last bit, and equal data are to give equal results."""
    return np.ascontiguousarray(real_array(part, name))


@lru_cache(maxsize=8)
def _map(part: Mapped) -> np.ndarray:
    try:
        return np.memmap(part.path, part.dtype, "r", part.offset, part.shape, part.order)
    except (OSError, ValueError) as error:
        raise StoreError(f"{part.name}: {part.path} cannot be read by this process: {error}") from error


def source_of(x: Any, name: str, features: bool = True) -> Source:
    """The source of a user's array: nothing of it is read yet, unless it is no array.

    Known scalars and graphs have no axis of ``features``.
    """
    if isinstance(x, np.ndarray) and not isinstance(x, np.ma.MaskedArray):
        whole = _file_of(x)
        source: Source = Held(real_array(x, name), name) if whole is None else _mapped(x, whole, name)
    elif callable(getattr(x, "__getitem__", None)) and hasattr(x, "chunks") and hasattr(x, "shape"):
        real_array(x[:1], name)  # refuses what holds no real numbers
        source = Held(x, name)
    else:
        source = Held(real_array(x, name), name)
    shaped(source.shape, name, features)
    return source


def _file_of(x: np.ndarray) -> np.memmap | None:
    """The memory map that an array is all or a part of."""
    base: Any = x
    for _ in range(DEPTH):
        inner: Any = getattr(base, "base", None)
        if isinstance(inner, mmap.mmap):
            found: Any = base
            return found if isinstance(base, np.memmap) and found.filename else None
        base = inner
    return None


def _mapped(x: np.ndarray, whole: np.memmap, name: str) -> Source:
    order = "C" if x.flags.c_contiguous else "F" if x.flags.f_contiguous else None
    real_array(np.empty(0, x.dtype), name)  # refuses what holds no real numbers
    if order is None or not x.size:
        return Held(x, name)
    start = whole.offset + x.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return Mapped(os.path.abspath(str(whole.filename)), x.dtype.str, x.shape, int(start), order, name)


def saved(source: Source, path: str) -> Source:
    """The source as a file that other processes can read: what is in memory is written to ``path``."""
    within = getattr(source, "within", None)
    if within is not None:
        made: Source = within(saved(source.inner, path))  # type: ignore[attr-defined]
        return made
    if not (isinstance(source, Held) and isinstance(source.array, np.ndarray)):
        return source
    array = np.ascontiguousarray(source.array)
    with open(path, "wb") as stream:  # np.save loses the reason where the disk is full
        np.lib.format.write_array_header_2_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)
    opened = np.load(path, mmap_mode="r")
    return _mapped(opened, opened, source.name)


def checked(source: Source) -> Iterator[np.ndarray]:
    """All examples, block by block; one with NaN or infinity is refused."""
    count, *rest = source.shape
    rows = max(1, CHUNK // int(np.prod(rest, dtype=np.int64)))
    for start in range(0, count, rows):
        block = source.read(slice(start, min(start + rows, count)))
        without_nan(block, start, source.name)
        yield block


def digest(source: Source) -> str:
    """SHA-256 of type, shape and numbers as they are read; an example with NaN or infinity is refused."""
    made = None
    for block in checked(source):
        made = made or hashlib.sha256(f"{block.dtype.name} {source.shape}".encode())
        made.update(np.ascontiguousarray(block).astype(block.dtype.newbyteorder("<"), copy=False).data)
    return "" if made is None else made.hexdigest()
