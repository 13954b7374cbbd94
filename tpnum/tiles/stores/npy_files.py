"""Kernel matrices as .npy files: under way in a folder of their own, renamed when all tiles are there."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import StoreError
from tpnum.tiles.arguments import KINDS
from tpnum.tiles.sinks import put
from tpnum.tiles.stores.layout import on_disk
from tpnum.tiles.stores.receipts import Folder, Receipts, mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.layout import Layout

DOCUMENT = "tpnum.json"
_NO_RESERVATION = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that cannot reserve space


@dataclass(frozen=True)
class NpyFiles:
    """K.npy, or K.nngp.npy and K.ntk.npy, by their finished ``paths``; ``folder`` holds them until then.

    Finished files are refused, or with ``force`` replaced when all tiles are there.
    """

    folder: str
    paths: tuple[tuple[str, str], ...]
    name: str
    force: bool = False

    ending = ".npy"
    reserved = True
    halves = False
    sent = True
    read_only = False

    @property
    def path(self) -> Path:
        return Path(self.paths[0][1])

    def space(self, layout: Layout) -> int:
        """Bytes on disk: the matrices, and the receipts."""
        each = math.prod(layout.shape) * np.dtype(layout.dtype).itemsize
        return len(layout.kinds) * on_disk(each) + layout.receipts

    def extent(self, layout: Layout) -> tuple[int, int]:
        """The matrices; receipts go at the end."""
        each = math.prod(layout.shape) * np.dtype(layout.dtype).itemsize
        return len(layout.kinds) * each, len(layout.kinds)

    def records(self, layout: Layout) -> Receipts:
        return Receipts(Folder(Path(self.folder, "receipts")), layout)

    def guard(self, layout: Layout) -> Path | None:
        return Path(self.folder)

    def document(self) -> dict[str, Any] | None:
        """The provenance of what is under way; finished files have none and are not touched."""
        content = Folder(Path(self.folder)).read(DOCUMENT)
        for kind, path in self.paths:
            begun = content is None or os.path.exists(self._file(kind))
            if begun and os.path.exists(path) and not self.force:
                raise StoreError(
                    f"{path} exists and is finished, and does not tell what it was made of; "
                    "choose another out or remove it first"
                )
        try:
            return None if content is None else dict(json.loads(content))
        except ValueError:
            raise StoreError(f"{Path(self.folder, DOCUMENT)} is damaged; remove its folder") from None

    def finished(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Whether the files have their names, the right shape, and nothing is under way any more."""
        folder = Path(self.folder)
        if Folder(folder).read(DOCUMENT) is not None or not all(os.path.exists(p) for _, p in self.paths):
            return False
        made = [np.load(path, mmap_mode="r") for _, path in self.paths]
        if any(array.shape != shape or array.dtype != dtype for array in made):
            return False
        shutil.rmtree(folder, ignore_errors=True)  # a lock that came too late
        return True

    def complete(self) -> dict[str, np.ndarray] | None:
        """The files that have their names."""
        if not all(os.path.exists(path) for _, path in self.paths):
            return None
        return {kind: np.load(path, mmap_mode="r") for kind, path in self.paths}

    def create(self, layout: Layout, document: dict[str, Any]) -> None:
        draft = mark(Path(self.folder), "part")
        try:
            draft.mkdir()
            for kind in layout.kinds:
                _reserve(draft / f"{kind}.npy", layout)
            Folder(draft).write(DOCUMENT, json.dumps(document).encode())
            try:
                os.rename(draft, self.folder)
            except OSError:
                if not os.path.isdir(self.folder):
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _file(self, kind: str) -> str:
        return str(Path(self.folder, f"{kind}.npy"))

    def put(self, layout: Layout, tile: Tile, blocks: Mapping[str, np.ndarray]) -> dict[str, int]:
        for kind, block in blocks.items():
            put(_mapped(self._file(kind), os.stat(self._file(kind)).st_ino), tile, block)
        return {kind: zlib.crc32(np.ascontiguousarray(block).data) for kind, block in blocks.items()}

    def sums(self, layout: Layout, tile: Tile) -> dict[str, int]:
        return {kind: zlib.crc32(self.get(kind, tile.rows, tile.cols).data) for kind in layout.kinds}

    def get(self, kind: str, rows: slice, cols: slice) -> np.ndarray:
        found = self._file(kind)
        return np.array(np.load(found if os.path.exists(found) else dict(self.paths)[kind], "r")[rows, cols])

    def short(self, layout: Layout, tile: Tile) -> bool:
        """The whole file is made at once."""
        return not all(os.path.exists(self._file(kind)) or os.path.exists(p) for kind, p in self.paths)

    def tidy(self, layout: Layout) -> None:
        for orphan in Path(self.folder).rglob("*.partial"):
            orphan.unlink(missing_ok=True)

    def finish(self, layout: Layout) -> None:
        """Give the files their names; another run that finishes at the same moment may have done it."""
        for kind, goal in self.paths:
            with suppress(FileNotFoundError):
                os.replace(self._file(kind), goal)
        shutil.rmtree(self.folder, ignore_errors=True)


@lru_cache(maxsize=4)
def _mapped(path: str, inode: int) -> np.ndarray:
    """A file under way, mapped once per process; ``inode`` tells it from another of the same name."""
    return np.load(path, mmap_mode="r+")


def _reserve(path: Path, layout: Layout) -> None:
    """Make a file of the right size; a sparse one on a full disk would end in a bus error."""
    array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=layout.dtype, shape=layout.shape)
    del array
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
            except OSError as error:
                if error.errno not in _NO_RESERVATION:
                    raise


def files_of(out: str, kinds: tuple[str, ...], force: bool = False) -> NpyFiles:
    """K.npy for one kind, K.nngp.npy and K.ntk.npy for two."""
    path = Path(os.path.abspath(out))
    stem = path.name.removesuffix(".npy")
    names = {kind: f"{stem}.npy" if len(kinds) == 1 else f"{stem}.{kind}.npy" for kind in kinds}
    paths = tuple((kind, str(path.with_name(name))) for kind, name in names.items())
    return NpyFiles(str(path.with_name(f".{stem}.npy.tiles")), paths, out, force)


def files_at(name: str) -> NpyFiles | np.ndarray | dict[str, np.ndarray]:
    """What there is of matrices: the finished file, or those by kind, mapped, or the folder they grow in."""
    if os.path.exists(name):
        return _read(name)
    path = Path(os.path.abspath(name))
    content = Folder(path.with_name(f".{path.name}.tiles")).read(DOCUMENT)
    if content is not None:
        return files_of(name, tuple(json.loads(content)["get"]))
    stem = path.name.removesuffix(".npy")
    several = sorted(path.parent.glob(f"{glob.escape(stem)}.*.npy"))
    named = ((file.name[len(stem) + 1 : -len(".npy")], file) for file in several)
    made = {kind: _read(str(file)) for kind, file in named if kind.startswith(KINDS)}
    if not made:
        raise StoreError(f"{name} does not exist")
    return made


def _read(name: str) -> np.ndarray:
    try:
        made = np.asarray(np.load(name, mmap_mode="r"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{name} cannot be read as a .npy file: {error}") from error
    if made.ndim < 2 or made.dtype not in (np.float64, np.float32):
        raise StoreError(f"{name} holds {made.dtype} of shape {made.shape}, which no kernel matrix is")
    return made
