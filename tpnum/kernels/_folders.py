"""Where machine code is kept: the folders that may hold it, and the one that takes what is new.

In this order: NUMBA_CACHE_DIR if it is set, else this installation and the user's cache folder, so that what
was compiled while an image was built serves everybody who runs it; last, a private temporary folder.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba

DAY = 86400
OLD = 30 * DAY
"""Age at which folders of other versions are removed."""


@cache
def candidates(name: str) -> tuple[Path, ...]:
    """The folders called ``name`` that may be read, those that last first."""
    return tuple(base / name for base in (*_lasting(), *_temporary()))


@cache
def home(name: str) -> Path | None:
    """The first of the folders that can be written, made if need be; None where there is none."""
    for folder in candidates(name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        _sweep(folder)
        return folder
    return None


def lasts(folder: Path) -> bool:
    """Whether a folder is made to outlive this session."""
    return folder.parent not in _temporary()


_complained = False


def complain(what: str) -> None:
    """Warn, once in a process, that compiled kernels are not kept as they should be."""
    global _complained
    if not _complained:
        _complained = True
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        warnings.warn(f"compiled kernels {what}; {advice}", RuntimeWarning, stacklevel=2)


def _lasting() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
        return
    yield Path(__file__).parent / "__pycache__"
    with suppress(RuntimeError):  # no home
        yield from _user()


def _user() -> Iterator[Path]:
    """The user's cache folder as the system has it, unless there is no home to hold it."""
    if chosen := os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"):
        yield Path(chosen) / "tpnum"
    elif Path.home().is_dir():
        yield Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tpnum"


@cache
def _temporary() -> tuple[Path, ...]:
    """A temporary folder of this user that nobody else may write to: what lies there is run."""
    if not hasattr(os, "getuid"):
        return (Path(tempfile.gettempdir()) / "tpnum",)
    try:
        folder = Path(tempfile.gettempdir()) / f"tpnum-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return ()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return (folder,) if private else ()


def _sweep(folder: Path) -> None:
    """Remove what killed processes and versions that nobody has used for a month have left."""
    now = time.time()
    with suppress(OSError):
        os.utime(folder)
        for draft in folder.glob("*.tmp"):
            if now - draft.stat().st_mtime > DAY:
                draft.unlink()
    stem = folder.name.partition("-")[0]
    for other in folder.parent.glob(f"{stem}-*"):
        with suppress(OSError):
            if now - other.stat().st_mtime > OLD:
                for file in other.iterdir():
                    file.unlink()
                other.rmdir()
