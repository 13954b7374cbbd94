"""Places that stored matrices lie at, and which one ``out`` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tpnum.arguments import shown
from tpnum.errors import InputError, StoreError
from tpnum.tiles.stores.npy_files import files_at, files_of
from tpnum.tiles.stores.zarr_group import group_of, is_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.layout import Layout
    from tpnum.tiles.stores.receipts import Receipts


class Target(Protocol):
    """Where a stored matrix lies, as any process names it: picklable, and all that a kind of store is.

    A new kind is a class with these methods, and a line in `target_of` and `found_at`.  An OSError that it
    raises becomes a `StoreError` with its name.
    """

    ending: str  # of the names that mean it
    reserved: bool  # its space is taken when it is created
    halves: bool  # it can leave one triangle of a symmetric matrix out

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def path(self) -> Path | None:
        """Where it lies on disk, None for a store that is elsewhere."""

    @property
    def sent(self) -> bool:
        """Whether other processes can open it."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""

    def space(self, layout: Layout) -> int:
        """Bytes that it takes on the disk, whole blocks, with its receipts."""

    def extent(self, layout: Layout) -> tuple[int, int]:
        """Bytes of what is written, and the number of files."""

    def records(self, layout: Layout) -> Receipts:
        """The receipts of finished tiles."""

    def guard(self, layout: Layout) -> Path | None:
        """The folder whose lock a writer holds, None where there is none."""

    def document(self) -> dict[str, Any] | None:
        """What `create` was given, None where nothing is there yet; what is no store of ours is refused."""

    def finished(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Whether a matrix without receipts is complete, and has this shape and type."""

    def complete(self) -> dict[str, np.ndarray] | None:
        """Matrices by kind that can be read without receipts, mapped; None where these must be asked."""

    def create(self, layout: Layout, document: dict[str, Any]) -> None:
        """Make room for all tiles, at one stroke; if another process was faster, its store stays."""

    def put(self, layout: Layout, tile: Tile, blocks: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Write a tile of all kinds, and its mirror image if it has one; their checksums by kind."""

    def sums(self, layout: Layout, tile: Tile) -> dict[str, int]:
        """The checksums of what is there."""

    def get(self, kind: str, rows: slice, cols: slice) -> np.ndarray:
        """A part of a matrix as it is stored."""

    def short(self, layout: Layout, tile: Tile) -> bool:
        """Whether data of a finished tile is not there, as far as can be told without reading it."""

    def tidy(self, layout: Layout) -> None:
        """Remove what killed writers have left; nobody else is writing."""

    def finish(self, layout: Layout) -> None:
        """All tiles are there."""


def on_disk(out: Any) -> bool:
    """Whether ``out`` names a place on disk, or a store, rather than arrays."""
    return isinstance(out, (str, os.PathLike)) or is_store(out)


def target_of(out: Any, kinds: tuple[str, ...], force: bool = False) -> Target:
    """The place that ``out`` names, by its ending: K.zarr, K.npy, or a store of the zarr package.

    With ``force`` finished .npy files are replaced; a Zarr group never is.
    """
    if is_store(out):
        return group_of(out)
    name = os.fspath(out)
    if not isinstance(name, str) or not Path(name).name:
        raise InputError(f"out is {shown(out)}: it names no file; give one that ends in .zarr or .npy")
    if name.endswith(".npy"):
        return files_of(name, kinds, force)
    if name.rstrip(os.sep).endswith(".zarr"):
        return group_of(name)
    raise InputError(f"out: {name} ends neither in .zarr nor in .npy")


def found_at(path: Any) -> Target | np.ndarray | dict[str, np.ndarray]:
    """What is at a place: a store, or the matrices of finished files that say nothing of themselves."""
    if is_store(path):
        return group_of(path)
    name = os.fspath(path)
    if name.endswith(".npy"):
        return files_at(name)
    if not os.path.exists(name):
        raise StoreError(f"{name or 'a store without a name'} does not exist")
    return group_of(path)
