"""Files of the command line: arrays and nets in, matrices out, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tpnum.errors import StoreError

_NO_RESERVATION = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that cannot reserve space


def read_array(name: str) -> np.ndarray:
    """Return the array of a .npy file, mapped from disk rather than read where that can be."""
    path = Path(name)
    if path.is_dir():
        raise StoreError(f"{name} is a directory; give a .npy file")
    try:
        with path.open("rb") as stream:
            whole = stream.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        array = np.load(path, mmap_mode="r", allow_pickle=False) if whole else None
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        why = str(error).rstrip(".")
        raise StoreError(
            f"{name} cannot be used ({why}); write float64 or float32 with numpy.save"
        ) from error
    if array is None:
        raise StoreError(f"{name} is not a .npy file; write one with numpy.save")
    if array.dtype.kind not in "fiub":
        raise StoreError(f"{name} holds {array.dtype}; convert it to float64 or float32")
    return np.asarray(array)


def read_net(name: str) -> dict[str, Any]:
    """Return the "network" of a JSON spec, or the whole if it has none."""
    try:
        spec = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{name} is not text in UTF-8; NET.json comes first, then X.npy") from error
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise StoreError(f"{name} is nested too deeply to be a net") from error
    if not isinstance(spec, dict):
        raise StoreError(f'{name} is not a net: expected an object like {{"op": "serial", "layers": [...]}}')
    network = spec.get("network", spec)
    if not isinstance(network, dict):
        raise StoreError(f'{name}: "network" is not an object like {{"op": "serial", "layers": [...]}}')
    return network


def targets(out: str, gets: Sequence[str]) -> dict[str, Path]:
    """Return where each kernel goes: K.npy for one, K.nngp.npy and K.ntk.npy for two."""
    path = Path(out)
    if not path.name:
        raise StoreError("--out names no file; give one that ends in .npy")
    if path.suffix not in ("", ".npy"):
        raise StoreError(f"--out {out} does not end in .npy; the matrices are written in numpy's format")
    stem = path.with_suffix("")
    if len(gets) == 1:
        return {gets[0]: stem.with_name(f"{stem.name}.npy")}
    return {get: stem.with_name(f"{stem.name}.{get}.npy") for get in gets}


def refuse_existing(paths: Sequence[Path], force: bool) -> None:
    """Raise for an output that exists (unless forced) or lies where nothing can be written."""
    for path in paths:
        if path.is_dir():
            raise StoreError(f"{path} is a directory; choose another --out")
        if path.exists() and not force:
            raise StoreError(f"{path} exists; choose another --out or give --force")
        if not path.parent.is_dir():
            raise StoreError(f"the directory {path.parent} does not exist; make it or choose another --out")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise StoreError(f"the directory {path.parent} cannot be written; choose another --out")


@contextmanager
def new_arrays(
    paths: dict[str, Path], shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[dict[str, np.ndarray]]:
    """Give writable arrays on disk that take their names when the block ends well, and vanish otherwise."""
    drafts = {key: path.with_name(f".{path.name}.{os.getpid()}.part") for key, path in paths.items()}
    try:
        arrays = {}
        for key, draft in drafts.items():
            try:
                arrays[key] = _mapped(draft, shape, dtype)
            except OSError as error:
                raise StoreError(f"{paths[key]} cannot be written: {error.strerror or error}") from error
        yield {key: np.asarray(array) for key, array in arrays.items()}
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        for key, draft in drafts.items():
            draft.replace(paths[key])
    finally:
        for draft in drafts.values():
            with suppress(FileNotFoundError):
                draft.unlink()


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
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
