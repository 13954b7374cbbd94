"""Runs in new processes that start at once: forked from one in which all is imported and compiled."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import nn

NET = nn.serial(nn.Dense(8, W_std=1.3, b_std=0.2), nn.Relu(), nn.Dense(8), nn.Relu(), nn.Dense(1))
BOTH = ("nngp", "ntk")
TILE = 32

if os.environ.get("TPNUM_TESTS_FORK") == str(os.getppid()):  # in the server, which has no threads
    import zarr  # noqa: F401

    import tpnum.tiles.stores.runs

    tp.kernel(NET, np.eye(3), get=BOTH, n_jobs=1)


def _context() -> Any:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__])
    return made


def _run(folder: str, log: str, options: dict[str, Any]) -> None:
    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    os.chdir(folder)
    given = {"tile": TILE, "resume": True, "n_jobs": 2, **options}
    tp.kernel(NET, np.load("x.npy"), get=BOTH, **given)


class Run:
    """`tpnum.kernel` of x.npy in this folder, in a process (and group of processes) of its own."""

    def __init__(self, log: Path, options: dict[str, Any]):
        self._log = log
        before = os.environ.get("TPNUM_TESTS_FORK")
        os.environ["TPNUM_TESTS_FORK"] = str(os.getpid())
        try:
            self._process = _context().Process(target=_run, args=(os.getcwd(), str(log), options))
            self._process.start()
        finally:
            os.environ.pop("TPNUM_TESTS_FORK")
            if before is not None:
                os.environ["TPNUM_TESTS_FORK"] = before
        self.pid: int = self._process.pid
        while self.runs():
            try:
                if os.getpgid(self.pid) == self.pid:
                    break
            except ProcessLookupError:
                break
            time.sleep(0.001)

    def runs(self) -> bool:
        return self._process.exitcode is None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """All processes of the group."""
        if self.runs():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.join(60)

    def end(self, timeout: float = 120.0) -> None:
        """Wait for the end, which must be a good one."""
        self._process.join(timeout)
        said = self._log.read_text() if self._log.exists() else ""
        assert self._process.exitcode == 0, said
