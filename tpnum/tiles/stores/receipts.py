"""What is finished: one small file per task, renamed into place last, and where the task's data went."""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
import shutil
import socket
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tpnum.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.tiles.grid import Tile
    from tpnum.tiles.stores.layout import Layout

_LOCKS: Any = importlib.import_module("fcntl") if os.name == "posix" else None
"""Elsewhere there are none: receipts alone keep runs apart."""

_NAME = re.compile(r"(\d+)\.(\d+)\.json")
_MARK = re.compile(r"\.(?P<host>[^.]+)-(?P<pid>\d+)-[0-9a-f]{8}\.(part|inputs)")
VERSION = str(sys.modules[__name__.partition(".")[0]].__version__)
LOCK = "lock"
OLD = 86400.0
"""Seconds after which what another machine has left is swept."""


class Files(Protocol):
    """Small files by name, each written as a whole or not at all."""

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def names(self) -> list[str]:
        """Of all files that are not empty."""


class Folder:
    """`Files` of a directory."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / f"{name}.{uuid.uuid4().hex}.partial"
        try:
            draft.write_bytes(content)
            draft.replace(self.path / name)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        try:
            with os.scandir(self.path) as found:
                return [entry.name for entry in found if entry.stat().st_size]
        except FileNotFoundError:
            return []


class Receipts:
    """The finished tasks of a layout."""

    def __init__(self, files: Files, layout: Layout):
        self.files, self.layout = files, layout

    def done(self) -> set[tuple[int, int]]:
        """Places of the grid that have a receipt."""
        found = (_NAME.fullmatch(name) for name in self.files.names())
        return {(int(m[1]), int(m[2])) for m in found if m}

    def missing(self) -> list[Tile]:
        """The tasks without a receipt, in order."""
        done = self.done()
        return [tile for tile in self.layout.tiles if self.layout.place(tile) not in done]

    def add(self, tile: Tile, facts: dict[str, Any]) -> None:
        """Say that a task is finished: all that it has written is there."""
        spans = {"rows": [tile.rows.start, tile.rows.stop], "cols": [tile.cols.start, tile.cols.stop]}
        text = json.dumps({**spans, "version": VERSION, **facts})
        self.files.write(f"{self.layout.name(tile)}.json", text.encode())

    def begin(self, tile: Tile, run: str) -> int:
        """Note that a run begins a task, and how often it has done so, for want of an end."""
        count = self.begun(tile, run) + 1
        self.files.write(f"{self.layout.name(tile)}.{run}.begun", b"." * count)
        return count

    def begun(self, tile: Tile, run: str) -> int:
        """How often a run has begun a task that has not ended."""
        return len(self.files.read(f"{self.layout.name(tile)}.{run}.begun") or b"")

    def end(self, tile: Tile, run: str) -> None:
        """The end that `begin` waits for."""
        self.files.remove(f"{self.layout.name(tile)}.{run}.begun")

    def tidy(self) -> None:
        """Forget what ended runs have begun."""
        for name in self.files.names():
            if name.endswith(".begun"):
                self.files.remove(name)

    def read(self, tile: Tile) -> dict[str, Any] | None:
        """What a receipt says; None without one, or with one that cannot be read."""
        content = self.files.read(f"{self.layout.name(tile)}.json")
        try:
            made = json.loads(content or b"")
        except ValueError:
            return None
        return made if isinstance(made, dict) else None

    def drop(self, tile: Tile) -> None:
        """Forget that a task is finished."""
        self.files.remove(f"{self.layout.name(tile)}.json")


@contextmanager
def held(folder: Path, name: str, shared: bool) -> Iterator[None]:
    """A lock on a store, of one run or shared by many; it ends with its owner, however that ends."""
    if _LOCKS is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, name, shared)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, name: str, shared: bool) -> None:
    kind = _LOCKS.LOCK_SH if shared else _LOCKS.LOCK_EX
    try:
        _LOCKS.flock(handle, kind | _LOCKS.LOCK_NB)
    except BlockingIOError:
        raise StoreError(
            f"{name} is being written by another run; wait for it or choose another out"
        ) from None
    except OSError:
        pass  # a file system without locks


def mark(path: Path, end: str) -> Path:
    """A name beside ``path`` for what is under way, which tells its owner: see `sweep`."""
    name = f".{path.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.{end}"
    return path.with_name(name)


def sweep(path: Path) -> None:
    """Remove what runs that have ended were making beside ``path``."""
    host = _host()
    for other in path.parent.glob(f".{glob.escape(path.name)}.*"):
        found = _MARK.fullmatch(other.name.removeprefix(f".{path.name}"))
        if not found:
            continue
        with suppress(OSError):
            gone = not alive(int(found["pid"])) if found["host"] == host else False
            if gone or time.time() - other.stat().st_mtime > OLD:
                shutil.rmtree(other)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname()) or "host"


def alive(process: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
