"""What all tests share: a compilation cache of their own, sane threads, new processes."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.find_spec("tpnum")
assert _spec is not None and _spec.origin is not None
PACKAGE = Path(_spec.origin).parent

# before anything imports numba or numpy
os.environ["NUMBA_CACHE_DIR"] = str((ROOT if os.access(ROOT, os.W_OK) else Path.home()) / ".numba_cache")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of interpreters are started: one compiles for all
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # workers share the processors: threads that wait spin

# thousands of tests are collected, and none of what they are made of is ever garbage
gc.disable()


def pytest_collection_finish() -> None:
    """From now on there is garbage."""
    gc.enable()
    gc.freeze()


settings.register_profile("tpnum", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("tpnum")


@pytest.fixture(scope="session", autouse=True)
def silent_compilation() -> None:
    """The one line about compiling would fall into whichever test is first."""
    from tpnum.kernels._building import notice

    notice.said = True


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment for subprocesses: this very tpnum, wherever they run."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python *arguments` in a new process."""

    def run(*arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
        extra = keywords.pop("env", {})
        assert isinstance(extra, dict)
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env={**environment, **extra},
            timeout=300,
            **keywords,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(scope="session")
def warmed(python: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """What `tpnum warm` has said: from now on nothing is left to compile."""
    done = python("-m", "tpnum", "warm")
    assert done.returncode == 0, done.stderr
    return done.stdout
