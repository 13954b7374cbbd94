"""Files of the command line that are written: whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import importlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tpnum.errors import InputError, StoreError
from tpnum.pictures import blank

_LOCKS: Any = importlib.import_module("fcntl") if os.name == "posix" else None
"""Elsewhere an open file cannot be removed, which tells as much."""

_NO_RESERVATION = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that cannot reserve space
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
_NO_LOCKS = (errno.ENOLCK, *_NO_RESERVATION)
_LONGEST = 255
"""Bytes of a file's name."""


def targets(out: str, gets: Sequence[str]) -> dict[str, Path]:
    """Return where each kernel goes: K.npy for one, K.nngp.npy and K.ntk.npy for two."""
    path = Path(out)
    if out and (out.endswith(("/", os.sep)) or os.path.isdir(out)):
        raise StoreError(f"{out} is a directory; choose another --out, a file that ends in .npy")
    if not path.name or out == "-":
        raise StoreError(f"--out {out!r} names no file; give one that ends in .npy")
    if os.path.exists(out) and not os.path.isfile(out):
        raise _no_file(path)
    if path.name == ".npy" or path.name.endswith(".") or path.suffix not in ("", ".npy"):
        raise StoreError(f"--out {out} does not end in .npy or .zarr; choose one of these formats")
    stem = path.name.removesuffix(".npy")
    if len(gets) == 1:
        return {gets[0]: path.with_name(f"{stem}.npy")}
    return {get: path.with_name(f"{stem}.{get}.npy") for get in gets}


def refuse_existing(paths: Sequence[Path], force: bool, inputs: Sequence[str] = ()) -> None:
    """Raise for an output that exists (unless forced), is an input, or lies where nothing can be written."""
    for path in paths:
        with _named(path):
            if path.is_dir():
                raise StoreError(f"{path} is a directory; choose another --out")
            for name in inputs:
                if path.exists() and os.path.exists(name) and os.path.samefile(path, name):
                    raise StoreError(f"{path} exists and is the input {name}; choose another --out")
            if path.exists() and not path.is_file():
                raise _no_file(path)
            if path.exists() and not force:
                raise StoreError(f"{path} exists; choose another --out or give --force")
            parent = real(path).parent
            if not parent.is_dir():
                reason = "is a file, not a directory" if parent.exists() else "does not exist"
                raise StoreError(f"{parent} {reason}; make a directory or choose another --out")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise StoreError(f"the directory {parent} cannot be written; choose another --out")


def picture(out: str) -> Path:
    """The file of a picture, which may be there already; InputError before any work if it cannot be drawn."""
    path = Path(out)
    if path.suffix != ".png":
        raise InputError(f"--out {out} does not end in .png")
    refuse_existing([path], force=True)
    blank()
    return path


def real(path: Path) -> Path:
    """The path, or what it points to where it is a link, which may be yet to be made."""
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise StoreError(f"{path} is a link that leads to itself; choose another --out") from None


@contextmanager
def new_arrays(
    paths: dict[str, Path], shape: tuple[int, ...], dtype: np.dtype, force: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Give writable arrays on disk that take their names when the block ends well, and vanish otherwise."""
    goals = {key: real(path).resolve() for key, path in paths.items()}
    if len(set(goals.values())) < len(goals):
        raise StoreError(f"{' and '.join(map(str, paths.values()))} are one file; choose another --out")
    _room(goals, paths, float(math.prod(shape) * dtype.itemsize))
    with ExitStack() as held:
        drafts: dict[str, Path] = {}
        arrays = {}
        for key, goal in goals.items():
            with _named(paths[key]):
                drafts[key] = held.enter_context(_draft(goal, paths[key]))
                arrays[key] = _mapped(drafts[key], shape, dtype)
        yield {key: np.asarray(array) for key, array in arrays.items()}
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        for key in drafts:
            if not force and goals[key].exists():
                raise _taken(paths[key])
        for key, draft in drafts.items():
            with _named(paths[key]):
                _publish(draft, goals[key], paths[key], force)


def _room(goals: dict[str, Path], paths: dict[str, Path], size: float) -> None:
    """Refuse what the disk does not hold, before it is begun."""
    for key, goal in goals.items():
        with _named(paths[key]):
            free = shutil.disk_usage(goal.parent).free
        beside = sum(other.parent == goal.parent for other in goals.values())
        if size * beside > free:
            others = ", as others beside it" if beside > 1 else ""
            raise StoreError(
                f"{paths[key]} would take {size / 2**30:.3g} GiB{others}, and {goal.parent} has "
                f"{free / 2**30:.3g} GiB left; choose another --out or give fewer examples"
            )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the system name the output."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error


def draft_name(name: str) -> str:
    """The name of a matrix under way: the same for all who write it, and never too long."""
    draft = f".{name}.part"
    if len(os.fsencode(draft)) <= _LONGEST:
        return draft
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.part"


@contextmanager
def _draft(goal: Path, path: Path) -> Iterator[Path]:
    """The draft of a file, held by this process; what a killed one has left of it is overwritten.

    A lock on the draft, which ends with its owner however that ends, keeps other writers out.
    """
    draft = goal.with_name(draft_name(goal.name))
    handle = None
    try:
        while handle is None:
            handle = _opened(draft)
            if handle is None or not _locked(handle):
                raise StoreError(
                    f"{path} is being written by another process; wait for it or choose another --out"
                )
            if not _is(handle, draft):  # another writer has just finished: this is no draft any more
                os.close(handle)
                handle = None
        yield draft
    finally:
        if handle is None and _LOCKS is not None and draft.exists():
            handle = _opened(draft)  # a signal came when it was there, and its handle not yet known
        if handle is not None:
            if _LOCKS is None:
                os.close(handle)
                draft.unlink(missing_ok=True)
            else:
                with suppress(OSError):
                    if _locked(handle) and _is(handle, draft):
                        draft.unlink()
                os.close(handle)


def _opened(draft: Path) -> int | None:
    """The draft, open; None if another process has it open and that is how this system tells."""
    if _LOCKS is not None:
        return os.open(draft, os.O_RDWR | os.O_CREAT, 0o666)
    with suppress(FileNotFoundError, PermissionError):
        draft.unlink()
    with suppress(FileExistsError):
        return os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    return None


def _locked(handle: int) -> bool:
    """Take the lock of an open file; True also where it is held already, or there are no locks."""
    if _LOCKS is None:
        return True
    try:
        _LOCKS.flock(handle, _LOCKS.LOCK_EX | _LOCKS.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False


def _publish(draft: Path, goal: Path, path: Path, force: bool) -> None:
    """Give a finished draft its name: over what is there if forced, else only if nothing is there by now."""
    if not force:
        try:
            os.link(draft, goal)
            return
        except FileExistsError:
            raise _taken(path) from None
        except (AttributeError, NotImplementedError):
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        if goal.exists():
            raise _taken(path)
    draft.replace(goal)


def _no_file(path: Path) -> StoreError:
    return StoreError(f"{path} is a pipe or a device, not a file; choose another --out")


def _taken(path: Path) -> StoreError:
    return StoreError(f"{path} exists by now, another process has written it; choose another --out")


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # a sparse file on a full disk would end in a bus error: ask for the space now
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            size = os.fstat(stream.fileno()).st_size
            try:
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError as error:
                if error.errno not in _NO_RESERVATION:
                    raise
    return array
