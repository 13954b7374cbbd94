"""`tpnum.open`: stored kernel matrices, read by slices, and what of them is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import InputError, StoreError
from tpnum.tiles.sinks import flipped
from tpnum.tiles.stores.layout import FULL, HALF
from tpnum.tiles.stores.provenance import layout_of
from tpnum.tiles.stores.targets import found_at, on_disk

if TYPE_CHECKING:
    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.layout import Layout
    from tpnum.tiles.stores.targets import Target


class Stored(Mapping[str, "StoredMatrix"]):
    """Kernel matrices by kind, as they lie on disk: ``stored["ntk"][:100]`` reads what it needs.

    Attributes
    ----------
    provenance
        What they were made of: net, digests of program and data, dtype, tile, version, parameters.
    missing
        The tiles that are not computed yet.
    """

    def __init__(self, target: Target, document: dict[str, Any]):
        self.target, self.provenance = target, document
        self._layout = layout_of(target, document)
        self._records = target.records(self._layout)

    def __getitem__(self, kind: str) -> StoredMatrix:
        if kind not in self._layout.kinds:
            raise KeyError(f"{self.target.name} holds {', '.join(self._layout.kinds)}, not {shown(kind)}")
        return StoredMatrix(self.target, self._layout, kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.kinds)

    def __len__(self) -> int:
        return len(self._layout.kinds)

    @property
    def missing(self) -> list[Tile]:
        return self._records.missing()

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._layout.shape))
        return (
            f"<Stored {self.target.name}: {', '.join(self)}, {shape} {self._layout.dtype}, "
            f"{len(self._layout.tiles) - len(self.missing)} of {len(self._layout.tiles)} tiles>"
        )


class StoredMatrix:
    """One kernel matrix on disk; indexing reads it, checksums verified, and gives NumPy arrays.

    Rows and columns take numbers, slices and, one of them at a time, arrays of numbers or of booleans.
    A tile that is not computed yet or is damaged raises a `StoreError` that names it.
    """

    def __init__(self, target: Target, layout: Layout, kind: str):
        self.kind, self.shape, self.dtype = kind, layout.shape, np.dtype(layout.dtype)
        self._target, self._layout = target, layout
        self._records = target.records(layout)
        self._done: set[tuple[int, int]] = set()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a matrix on disk cannot become an array without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<StoredMatrix {self.kind} of {self._target.name}: {self.shape} {self.dtype}>"

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = _keys(key, self.ndim)
        arrays = [k for k in keys[:2] if not isinstance(k, (int, np.integer, slice))]
        if len(arrays) > 1:
            raise InputError("index: give an array of numbers for rows or for columns, not for both")
        rows, cols = (_numbers(k, n, i) for i, (k, n) in enumerate(zip(keys[:2], self.shape, strict=False)))
        made = np.empty((len(rows), len(cols), *self.shape[2:]), self.dtype)
        for i, ours, theirs in _parts(rows, self._layout.height):
            for j, across, down in _parts(cols, self._layout.width):
                made[np.ix_(ours, across)] = self._read(i, j, theirs, down)
        whole = tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in keys[:2])
        return made[(*whole, *keys[2:])]

    def _read(self, i: int, j: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Entries of one tile, by their numbers in the matrix."""
        symmetric = self._layout.symmetric in (FULL, HALF)
        place = (min(i, j), max(i, j)) if symmetric else (i, j)
        if place not in self._done:
            self._done = self._records.done() or self._finished()
            if place not in self._done:
                tile = self._layout.tile(*place)
                raise StoreError(
                    f"{self._target.name}: the tile of rows {tile.rows.start} to {tile.rows.stop} and "
                    f"columns {tile.cols.start} to {tile.cols.stop} is not there yet; resume=True computes it"
                )
        first, second = (slice(int(n.min()), int(n.max()) + 1) for n in (rows, cols))
        if self._layout.symmetric == HALF and i > j:
            block = flipped(self._target.get(self.kind, second, first))
        else:
            block = self._target.get(self.kind, first, second)
        return block[np.ix_(rows - first.start, cols - second.start)]

    def _finished(self) -> set[tuple[int, int]]:
        """All places, of files that have got their names and have no receipts any more."""
        if isinstance(self._target.path, Path) and self._target.path.is_file():
            return {self._layout.place(tile) for tile in self._layout.tiles}
        return set()

    def linear_operator(self) -> Any:
        """A `scipy.sparse.linalg.LinearOperator` that reads the matrix once per product."""
        from tpnum.tiles.products import StoredOperator

        return StoredOperator(self)

    def tile_rows(self) -> Iterator[slice]:
        """Rows that are stored together."""
        for start in range(0, self.shape[0], self._layout.height):
            yield slice(start, min(start + self._layout.height, self.shape[0]))


def _keys(key: Any, ndim: int) -> list[Any]:
    """One key per axis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is None for k in keys):
        raise InputError("index: None makes no axis here; read first")
    dots = [k for k, part in enumerate(keys) if part is Ellipsis]
    if len(dots) > 1:
        raise InputError("index: ... stands once at most")
    at = dots[0] if dots else len(keys)
    after = keys[at + 1 :]
    keys = keys[:at]
    if len(keys) + len(after) > ndim:
        raise InputError(f"index: the matrix has {ndim} axes, and {len(keys) + len(after)} were given")
    return [*keys, *[slice(None)] * (ndim - len(keys) - len(after)), *after]


def _numbers(key: Any, count: int, axis: int) -> np.ndarray:
    """The numbers that a key picks of an axis."""
    try:
        return np.atleast_1d(np.arange(count)[key])
    except (IndexError, TypeError) as error:
        raise IndexError(f"index {shown(key)} does not fit axis {axis} of size {count}") from error


def _parts(numbers: np.ndarray, side: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number of a tile, places of the result, numbers that these take) of each tile that is touched."""
    tiles = numbers // side
    for k in np.unique(tiles):
        places = np.flatnonzero(tiles == k)
        yield int(k), places, numbers[places]


def missing_of(target: Target) -> int:
    """Tiles that are not there yet."""
    if target.complete() is not None:
        return 0
    return len(Stored(target, target.document() or {}).missing)


def open(path: Any) -> Any:
    """The kernel matrices that `tpnum.kernel` has written, or is writing, to ``path``.

    Parameters
    ----------
    path
        A Zarr group that tpnum made, as a path or as a store of the zarr package, or a .npy file.

    Returns
    -------
    Stored, dict or numpy.memmap
        Matrices by kind, each read by slices: ``tp.open("K.zarr")["ntk"][:100]``, and their errors and
        derivatives by names as "ntk_error" and "ntk_wrt_W_std"; of a finished K.npy, which holds one matrix
        and no record of its kind, the read-only memory map, and of K.nngp.npy and K.ntk.npy both by kind.

    Raises
    ------
    StoreError
        Nothing is there, or it is not what tpnum has made.
    """
    if not on_disk(path):
        raise InputError(f"path is {shown(path)}: it must be a path or a Zarr store")
    found = found_at(path)
    if isinstance(found, (np.ndarray, dict)):
        return found
    document = found.document()
    if document is None:
        raise StoreError(f"{found.name} is empty; tpnum.kernel(..., out=) writes matrices")
    return Stored(found, document)
