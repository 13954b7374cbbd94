"""Kernel matrices as a Zarr v3 group: one array a kind, one chunk a tile; the only file that imports zarr.

Chunks have a checksum and nothing else (no compressor: numbers of kernels do not compress; no shards:
two writers of one shard lose data).  The receipts lie in a folder of the first array, where no reader of
Zarr looks.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import InputError, StoreError
from tpnum.tiles.sinks import turned
from tpnum.tiles.stores.layout import FULL, Layout, on_disk
from tpnum.tiles.stores.receipts import Files, Folder, Receipts, mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.tiles.grid import Tile

ATTRIBUTE = "tpnum"
CHECKSUM = 4
"""Bytes that a chunk has beyond its numbers."""


@dataclass(frozen=True)
class ZarrGroup:
    """A group at ``place``: a path, or a `zarr.abc.store.Store` of the user's."""

    place: Any
    name: str

    ending = ".zarr"
    reserved = False
    halves = True

    @property
    def path(self) -> Path | None:
        """The folder, where there is one."""
        return Path(self.place) if isinstance(self.place, str) else None

    @property
    def sent(self) -> bool:
        """Whether other processes can open it."""
        return self.path is not None or type(self.place).__name__ != "MemoryStore"

    @property
    def read_only(self) -> bool:
        """Whether it is a store that was opened for reading alone."""
        return self.path is None and bool(self.place.read_only)

    @property
    def _looking(self) -> str:
        """The mode to read in: not every store that is open for writing has a read-only view."""
        return "r" if self.path is not None or self.read_only else "r+"

    def space(self, layout: Layout) -> int:
        """Bytes on disk: a file a chunk, which takes whole blocks, and the receipts."""
        return layout.bytes() // layout.chunk_bytes * on_disk(layout.chunk_bytes) + layout.receipts

    def extent(self, layout: Layout) -> tuple[int, int]:
        """A file a chunk and a receipt a tile, the descriptions, and the lock."""
        chunks = layout.bytes() // layout.chunk_bytes
        return chunks * (layout.chunk_bytes + CHECKSUM), chunks + layout.count + len(layout.kinds) + 2

    def records(self, layout: Layout) -> Receipts:
        """The receipts of a layout in this group."""
        part = f"{layout.kinds[0]}/receipts"
        files: Files = Folder(self.path / part) if self.path else _Stored(self.place, part)
        return Receipts(files, layout)

    def guard(self, layout: Layout) -> Path | None:
        """The folder of the lock."""
        return self.path / layout.kinds[0] / "receipts" if self.path else None

    # -- making and reading ------------------------------------------------------------------------

    def document(self) -> dict[str, Any] | None:
        """The provenance, None where there is nothing yet."""
        zarr = _zarr()
        if self.path is not None and not self.path.exists():
            return None
        if self.path is not None and not self.path.is_dir():
            raise StoreError(f"{self.name} is a file, not a Zarr group; give another path")
        if self.path is not None and not any(self.path.iterdir()):
            return None
        try:
            group = zarr.open_group(self.place, mode=self._looking, zarr_format=3)
        except (FileNotFoundError, KeyError):
            if self.path is None:
                return None
            raise StoreError(f"{self.name} is a folder, but no Zarr group; give another path") from None
        except Exception as error:
            raise StoreError(f"{self.name} cannot be read as a Zarr group: {error}") from error
        document = group.attrs.get(ATTRIBUTE)
        if not isinstance(document, dict):
            raise StoreError(f"{self.name} is a Zarr group that tpnum did not make; give another path")
        return document

    def finished(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """A group keeps its receipts: they tell."""
        return False

    def complete(self) -> None:
        """A group is read by its receipts, whatever is there."""

    def create(self, layout: Layout, document: dict[str, Any]) -> None:
        """Make the group under another name and rename it; if another process was faster, its group stays."""
        if self.path is None:
            self._fill(self.place, layout, document)
            return
        draft = mark(self.path, "part")
        try:
            self._fill(str(draft), layout, document)
            (draft / layout.kinds[0] / "receipts").mkdir()
            with suppress(OSError):
                self.path.rmdir()  # an empty folder of the user's
            try:
                os.rename(draft, self.path)
            except OSError:
                if not self.path.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fill(self, place: Any, layout: Layout, document: dict[str, Any]) -> None:
        zarr = _zarr()
        from zarr.codecs import Crc32cCodec

        group = zarr.create_group(place, zarr_format=3, attributes={ATTRIBUTE: document})
        for kind in layout.kinds:
            group.create_array(
                kind,
                shape=layout.shape,
                chunks=layout.chunks,
                dtype=layout.dtype,
                compressors=(Crc32cCodec(),),
                fill_value=float("nan"),
                config={"write_empty_chunks": True},
                dimension_names=_dimensions(len(layout.shape)),
            )

    # -- tiles -------------------------------------------------------------------------------------

    def array(self, kind: str, mode: str | None = None) -> Any:
        """The Zarr array of a kind; opened once per process."""
        mode = mode or self._looking
        if self.path is None:
            return _zarr().open_group(self.place, mode=mode, zarr_format=3)[kind]
        stamp = (self.path / "zarr.json").stat()
        return _opened(str(self.path), kind, mode, (stamp.st_ino, stamp.st_mtime_ns))

    def put(self, layout: Layout, tile: Tile, blocks: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Write a tile of all kinds, and its mirror image; the checksums of what was written."""
        for kind, block in blocks.items():
            array = self.array(kind, "r+")
            array[tile.rows, tile.cols] = block
            if tile.mirror:
                array[tile.cols, tile.rows] = turned(block)
        return self.sums(layout, tile)

    def sums(self, layout: Layout, tile: Tile) -> dict[str, int]:
        """The checksums that stand at the end of a tile's chunks, its mirror image left out."""
        rest = ["0"] * (len(layout.shape) - 2)
        made = {}
        for kind in layout.kinds:
            key = "/".join([kind, "c", *map(str, layout.place(tile)), *rest])
            if self.path is not None:
                with (self.path / key).open("rb") as stream:
                    stream.seek(-CHECKSUM, os.SEEK_END)
                    content = stream.read()
            else:
                content = _end(self.place, key)
            made[kind] = int.from_bytes(content, "little")
        return made

    def get(self, kind: str, rows: slice, cols: slice) -> np.ndarray:
        """A part of a matrix as it is stored, its checksums verified."""
        try:
            return np.asarray(self.array(kind)[rows, cols])
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{self.name}: the {kind} of rows {rows.start} to {rows.stop} and columns {cols.start} to "
                f"{cols.stop} is damaged ({error}); resume=True with verify=True computes it again"
            ) from error

    def short(self, layout: Layout, tile: Tile) -> bool:
        """Whether a chunk of a finished tile is not there, or not whole; nothing is read."""
        if self.path is None:
            return False
        wanted = layout.chunk_bytes + CHECKSUM
        places = [layout.place(tile)]
        if layout.symmetric == FULL:
            places.append(places[0][::-1])
        rest = ["0"] * (len(layout.shape) - 2)
        for kind in layout.kinds:
            for i, j in places:
                chunk = self.path.joinpath(kind, "c", str(i), str(j), *rest)
                try:
                    if chunk.stat().st_size != wanted:
                        return True
                except OSError:
                    return True
        return False

    def tidy(self, layout: Layout) -> None:
        """Remove what killed writers have left among the chunks; nobody else may be writing."""
        if self.path is not None:
            for kind in layout.kinds:
                for orphan in (self.path / kind).rglob("*.partial"):
                    orphan.unlink(missing_ok=True)

    def finish(self, layout: Layout) -> None:
        """Nothing is left to do: a group is in its place from the beginning."""


class _Stored:
    """`Files` of a user's store."""

    def __init__(self, store: Any, prefix: str):
        self.store, self.prefix = store, prefix

    def read(self, name: str) -> bytes | None:
        from zarr.core.buffer import default_buffer_prototype

        found = _wait(self.store.get(f"{self.prefix}/{name}", prototype=default_buffer_prototype()))
        return None if found is None else bytes(found.to_bytes())

    def write(self, name: str, content: bytes) -> None:
        from zarr.core.buffer import default_buffer_prototype

        buffer = default_buffer_prototype().buffer.from_bytes(content)
        _wait(self.store.set(f"{self.prefix}/{name}", buffer))

    def remove(self, name: str) -> None:
        _wait(self.store.delete(f"{self.prefix}/{name}"))

    def names(self) -> list[str]:
        async def listed() -> list[str]:
            return [name async for name in self.store.list_dir(self.prefix)]

        return list(_wait(listed()))


def _end(store: Any, key: str) -> bytes:
    """The checksum of a chunk in a user's store."""
    from zarr.abc.store import SuffixByteRequest
    from zarr.core.buffer import default_buffer_prototype

    found = _wait(store.get(key, default_buffer_prototype(), SuffixByteRequest(CHECKSUM)))
    return b"" if found is None else bytes(found.to_bytes())


def _wait(call: Any) -> Any:
    from zarr.core.sync import sync

    return sync(call)


_lock = threading.Lock()
_arrays: OrderedDict[tuple[str, str, str, tuple[int, int]], Any] = OrderedDict()


def _opened(path: str, kind: str, mode: str, stamp: tuple[int, int]) -> Any:
    """An array of a group in a folder; ``stamp`` tells the group from another that was there before."""
    key = path, kind, mode, stamp
    with _lock:
        if key not in _arrays:
            _arrays[key] = _zarr().open_group(path, mode=mode, zarr_format=3)[kind]
        _arrays.move_to_end(key)
        while len(_arrays) > 8:
            _arrays.popitem(last=False)
        return _arrays[key]


def _dimensions(count: int) -> tuple[str, ...]:
    """Names by which xarray tells rows from columns."""
    half = range(1, count // 2)
    return ("row", "column", *(f"row_axis_{k}" for k in half), *(f"column_axis_{k}" for k in half))


def is_store(place: Any) -> bool:
    """Whether it is a store of the zarr package, which needs not be imported to tell."""
    bases = type(place).__mro__
    return any(base.__name__ == "Store" and base.__module__.startswith("zarr.") for base in bases)


def group_of(place: Any) -> ZarrGroup:
    """The group at a path or in a store; a store of local files is its path."""
    _zarr()
    root = getattr(place, "root", None)
    if type(place).__name__ == "LocalStore" and root is not None:
        place = root
    if isinstance(place, (str, os.PathLike)):
        return ZarrGroup(os.path.abspath(place), os.fspath(place))
    return ZarrGroup(place, str(place))


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise InputError(
            "out: a Zarr store needs the package zarr: pip install 'tpnum[zarr]' (K.npy needs nothing)"
        ) from None
    return zarr
