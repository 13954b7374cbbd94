"""Places that stored matrices lie at, and which one ``out`` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tpnum.arguments import shown
from tpnum.errors import InputError
from tpnum.tiles.stores.npy_files import files_of
from tpnum.tiles.stores.zarr_group import group_of, is_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.layout import Layout
    from tpnum.tiles.stores.receipts import Receipts


class Target(Protocol):
    """Where a stored matrix lies, as any process names it."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path | None: ...

    @property
    def sent(self) -> bool: ...

    @property
    def read_only(self) -> bool: ...

    def space(self, layout: Layout) -> int: ...

    def records(self, layout: Layout) -> Receipts: ...

    def guard(self, layout: Layout) -> Path | None: ...

    def document(self) -> dict[str, Any] | None: ...

    def finished(self, shape: tuple[int, ...], dtype: np.dtype) -> bool: ...

    def create(self, layout: Layout, document: dict[str, Any]) -> None: ...

    def put(self, layout: Layout, tile: Tile, blocks: Mapping[str, np.ndarray]) -> dict[str, int]: ...

    def sums(self, layout: Layout, tile: Tile) -> dict[str, int]: ...

    def get(self, kind: str, rows: slice, cols: slice) -> np.ndarray: ...

    def short(self, layout: Layout, tile: Tile) -> bool: ...

    def tidy(self, layout: Layout) -> None: ...

    def finish(self, layout: Layout) -> None: ...


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
