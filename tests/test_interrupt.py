"""Ctrl-C ends a long calculation soon, with KeyboardInterrupt alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tpnum.kernels._interrupts import postponed, within_llvm

HEAD = """
import numpy as np, tpnum as tp
from tpnum import nn
rng = np.random.default_rng(0)
"""
NET = "nn.serial(nn.Dense(1), {0}, nn.Dense(1), {0}, nn.Dense(1))"
CONV = (
    "nn.serial(nn.Conv(1, (3,), padding='SAME'), nn.Relu(), nn.Conv(1, (3,), padding='SAME'), nn.Relu(), "
    "nn.GlobalAvgPool(), nn.Dense(1))"
)
DEEP = "nn.program(nn.serial(*[nn.Dense(1), nn.Tanh()] * 9, nn.Dense(1)), (3,))"
# name -> (what is compiled and made first, what takes minutes)
CASES = {
    "dense": (
        f"n = {NET.format('nn.Relu()')}; x = rng.standard_normal((8000, 50)); tp.kernel(n, x[:9], get='ntk')",
        "while True: tp.kernel(n, x, get='ntk')",
    ),
    "conv": (
        f"n = {CONV}; x = rng.standard_normal((300, 24, 3)); tp.kernel(n, x[:3])",
        "while True: tp.kernel(n, x)",
    ),
    "tanh": (
        f"n = {NET.format('nn.Tanh()')}; x = rng.standard_normal((5000, 50)); tp.kernel(n, x[:99])",
        "while True: tp.kernel(n, x)",
    ),
    "expect": (
        "f = lambda *z: np.abs(sum(z) - .3) * np.sign(z[0] * z[1] - .1); c = np.eye(8) + .3\n"
        "tp.expect(f, np.zeros(8), c, rtol=1e-1)",
        "while True: tp.expect(f, np.zeros(8), c, rtol=1e-9)",
    ),
    "ensemble": (
        f"p = {DEEP}; y = p.outputs[0][1]; data = {{'u': np.ones(3)}}\n"
        "law = lambda k: tp.limit(p, data=data, method='ensemble', samples=k).moment(y, y)\n"
        "law(4096)",
        "while True: law(2**22)",
    ),
    "long ensemble": (
        "p = tp.Program(); v = p.vector('v'); a = p.matrix('A', var=0.5); w = v\n"
        "for _ in range(60): w = tp.tanh(a @ w + a.T @ w)\n"
        "m = p.mean(w * v)\n"
        "tp.limit(p, method='ensemble', samples=256).scalar(m)",
        "while True: tp.limit(p, method='ensemble', samples=2**23).scalar(m)",
    ),
    "simulations": (
        f"p = {DEEP}; y = p.outputs[0][1]",
        "while True: tp.simulations(p, 5000, 64, data={'u': np.ones(3)}).moment(y, y)",
    ),
    "simulate": (f"p = {DEEP}", "while True: tp.simulate(p, 5000, data={'u': np.ones(3)})"),
    "deep": (
        "n = nn.serial(*[nn.Dense(1), nn.Erf()] * 9000, nn.Dense(1)); x = rng.standard_normal((3, 4))",
        "while True: tp.kernel(n, x, get='ntk')",
    ),
}
SOON = 1.5
"""Seconds of processor time between the signal and the end."""


def burnt(pid: int) -> float:
    """Seconds of processor time of a process, all threads together; wall-clock time where nobody tells."""
    if not os.path.exists("/proc/self/stat"):
        return time.monotonic()
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c(case: str) -> None:
    setup, work = CASES[case]
    code = f"{HEAD}\n{setup}\nprint('go', flush=True)\n{work}\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n", process.stderr and process.stderr.read()
            time.sleep(0.4)
            before = burnt(process.pid)
            process.send_signal(signal.SIGINT)
            last, end = before, time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                try:
                    last = max(last, burnt(process.pid))
                except (OSError, IndexError):
                    break
                time.sleep(0.02)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()  # the end of the block waits for it: nothing of it may outlive this test
    assert last - before < 2 * SOON, f"{last - before:.2f} s of processor time (two threads) after Ctrl-C"
    assert process.returncode in (-signal.SIGINT, 130, 1)
    assert err.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception ignored" not in err and "Exception in thread" not in err


# what is replaced: code that is called where an exception is ignored -> a call that gets there
SWALLOWERS = {
    "a callback from LLVM": (
        "from numba.core.codegen import JITCPUCodegen as C; L = C._library_class\n"
        "L._object_compiled_hook = classmethod(pressed(L._object_compiled_hook.__func__))\n"
        "from tpnum.kernels.gram import mirror",
        "mirror(np.ones((2, 2)), np.zeros((4, 4)), 0, 2)",
    ),
    "numbers of Sobol's sequence": (
        "np.load = pressed(np.load)",
        "tp.expect(lambda *z: np.abs(sum(z) - 0.3) * np.sign(z[0]), np.zeros(8), np.eye(8) + 0.3, rtol=0.1)",
    ),
}
PRESS = """
import signal
def pressed(function):
    def call(*arguments, **keywords):
        global press
        if press:
            press = False
            print('pressed', flush=True)
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **keywords)
    return call
press = True
"""


@pytest.mark.parametrize("case", SWALLOWERS)
def test_ctrl_c_in_code_that_ignores_exceptions(
    case: str, python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """It ends the call, and what was begun is finished: the same call works afterwards."""
    replaced, call = SWALLOWERS[case]
    code = (
        f"{HEAD}\n{PRESS}\n{replaced}\ntry:\n    {call}\nexcept KeyboardInterrupt:\n    print('ended')\n"
        f"print({call})"
    )
    done = python("-W", "error", "-c", code, env={"NUMBA_CACHE_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["pressed", "ended"]
    assert len(done.stdout.splitlines()) > 2
    assert "ignored" not in done.stderr


FAILING = """
import numpy as np
real, left = np.load, [2]
def load(*arguments, **keywords):
    if left[0]:
        left[0] -= 1
        raise SystemError("AST constructor recursion depth mismatch")
    return real(*arguments, **keywords)
np.load = load
from tpnum.gauss.points import sobol_sequence
print(left[0], sobol_sequence(3).random(4).tolist(), left[0])
"""


def test_errors_that_scipy_ignores_do_not_leave_its_sequence_without_numbers(python) -> None:
    """Two threads that parse at a time raise in CPython 3.11, and the file's header is parsed."""
    done = python("-c", FAILING)
    points = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.75, 0.25, 0.25], [0.25, 0.75, 0.75]]
    assert done.stdout.strip() == f"2 {points} 0", done.stderr


def test_a_block_that_postpones_interrupts() -> None:
    after = []
    with pytest.raises(KeyboardInterrupt), postponed():
        signal.raise_signal(signal.SIGINT)
        after.append("whole")
    with pytest.raises(KeyboardInterrupt), postponed(within_llvm):
        signal.raise_signal(signal.SIGINT)
        after.append("not reached")
    with postponed():
        pass
    assert after == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_in_callbacks_take_effect_behind_the_innermost_block() -> None:
    after = []
    binding = {"__name__": "llvmlite.binding", "press": lambda: signal.raise_signal(signal.SIGINT)}
    exec("def called():\n    press()\n    return 1", binding)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(binding["called"])
    with pytest.raises(KeyboardInterrupt), postponed(within_llvm):
        with postponed(within_llvm):
            after.append(call())
        after.append(2)
    assert after == [1]
    with pytest.raises(KeyboardInterrupt), postponed(within_llvm):
        call()
        raise ValueError("an interrupt comes first")
