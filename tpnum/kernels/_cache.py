"""Machine code on disk: a file per function and types, written whole, checked when read, never stale.

The name of a file is a digest of everything that its code depends on: the sources of this package (a kernel
holds the code of helpers from other files), the versions of what compiles them, the processor, the types of
the arguments.  So an upgrade finds nothing, processes never write different things under one name, and there
is no index to keep in step.  A file that is damaged is taken away, and made again.

Numba's own cache, which this replaces, knows a function's own file only, and keeps an index that processes
which start together can spoil.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from tpnum.kernels._building import frugal, notice, turn
from tpnum.kernels._folders import candidates, complain, home, lasts
from tpnum.kernels._interrupts import postponed, within_llvm

_HEADER = b"tpnum machine code 1\n"
_SETTINGS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT", "ENABLE_AVX")


@cache
def folder_name() -> str:
    """The name of the folder of this version, by all sources that compiled code comes from."""
    found = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, np.__version__)).encode())
    here = Path(__file__).parent
    for source in sorted(here.rglob("*.py")):
        found.update(source.relative_to(here).as_posix().encode() + b"\0" + source.read_bytes())
    return f"tpnum-{found.hexdigest()[:16]}"


class Cache:
    """The machine code of one function of a kind, as a dispatcher of Numba asks for it."""

    def __init__(self, function: Callable[..., Any], kind: str):
        module = function.__module__.rpartition(".")[2]
        code = function.__code__
        self._name = f"{module}.{function.__name__}-{code.co_firstlineno}-{kind}"
        self._settings = tuple(str(getattr(numba.config, name, None)) for name in _SETTINGS)
        self._scope = ExitStack()

    @property
    def cache_path(self) -> str | None:
        """The first of the folders that are read."""
        return str(candidates(folder_name())[0])

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None: ...

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """A block in which `load_overload` may begin what ends with the block."""
        with postponed(within_llvm), global_compiler_lock, frugal(), ExitStack() as scope:
            before, self._scope = self._scope, scope
            try:
                yield
            finally:
                self._scope = before

    def load_overload(self, sig: Any, target: Any) -> Any:
        """The compiled code for these types; None tells the caller, whose turn it is then, to compile it."""
        target.refresh()
        key = self._key(sig, target.codegen())
        found = self._read(key, target)
        if found is None:
            self._scope.enter_context(notice.timed())
            folder = home(folder_name())
            self._scope.enter_context(turn(folder and folder / f"{self._name}.lock"))
            found = self._read(key, target)  # another process may have been first
        return found

    def save_overload(self, sig: Any, compiled: Any) -> None:
        """Keep compiled code, if there is a folder for it."""
        folder = home(folder_name())
        if folder is None:
            complain("cannot be kept: every process compiles anew")
            return
        if not lasts(folder):
            complain(f"are kept in {folder} only")
        if compiled.library.has_dynamic_globals:  # addresses of this process
            return
        key = self._key(sig, compiled.codegen)
        try:
            body = dumps((key, compiled._reduce()))
            _write(folder / self._file(key), _HEADER + hashlib.sha256(body).digest() + body)
        except (
            Exception
        ) as error:  # a disk that is full, a Numba that is not known yet: the code itself is good
            complain(f"cannot be kept in {folder} ({error})")

    def _key(self, sig: Any, codegen: Any) -> str:
        return repr(
            (self._name, sys.version, self._settings, codegen.magic_tuple(), normalize_signature(sig)[0])
        )

    def _file(self, key: str) -> str:
        return f"{self._name}.{hashlib.sha256(key.encode()).hexdigest()[:20]}.nbc"

    def _read(self, key: str, target: Any) -> Any:
        for folder in candidates(folder_name()):
            path = folder / self._file(key)
            try:
                content = path.read_bytes()
            except OSError:
                continue
            start = len(_HEADER) + hashlib.sha256().digest_size
            body = memoryview(content)[start:]
            if content[:start] == _HEADER + hashlib.sha256(body).digest():
                with suppress(Exception):
                    written, reduced = pickle.loads(body)
                    if written == key:
                        return CompileResult._rebuild(target, *reduced)
            with suppress(OSError):
                path.unlink()
        return None


def _write(path: Path, content: bytes) -> None:
    """Put a file into place whole, or not at all."""
    handle, draft = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        if os.name == "posix":
            os.chmod(draft, 0o644)  # others may read what an administrator has compiled
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
