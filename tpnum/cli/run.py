"""From arguments to exit status: one place where errors become one line."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from tpnum.cli.endings import Ended
from tpnum.cli.parser import build
from tpnum.errors import TpnumError

_INTERRUPTED = 130
_ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")
"""Signals that end a command: a request, a terminal that is gone, Ctrl-\\."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0, 1 for an error, 2 for wrong usage, 75 for a run that a signal of the batch system ended and that is to
    be resumed, 130 for Ctrl-C; any other signal that ends it leaves by `SystemExit` with
    128 and its number.
    """
    try:
        args = build().parse_args(argv)
        with _terminable(), _short_warnings():
            return _run(args)
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        return _INTERRUPTED
    except Ended as end:
        _say(str(end))
        return end.status


def _run(args: argparse.Namespace) -> int:
    try:
        # the module of a command bears its name, and is imported only when it runs
        importlib.import_module(f"tpnum.cli.{args.command}").run(args)
        _flush()
        atexit.register(gc.freeze)  # after a good end no garbage needs to be looked for, in half a second
    except BrokenPipeError:
        _silence()  # the reader has left (tpnum doctor | head): nothing more to say, not even at exit
        return 1
    except Ended:
        raise
    except Exception as error:
        if args.debug:
            raise
        _say(f"error: {_one_line(error, args)}")
        try:
            _flush()
        except OSError:
            _silence()
        return 1
    return 0


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _silence() -> None:
    """Let what could not be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception, args: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.strerror:
        # files have names where they are written: what has none is what is printed
        text = f"{error.filename or 'the output'}: {error.strerror}"
    elif isinstance(error, TpnumError):
        error.rename(args.typed)
        text = str(error)
        if not getattr(args, "shard", None):  # shards are never forced
            text = text.replace("remove it first", "give --force")
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error})" if str(error) else "not enough memory"
    else:
        text = f"unexpected {type(error).__name__}: {error} (tpnum {args.command} --debug shows where)"
    return " ".join(text.split())


def _say(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"tpnum: {text}", file=sys.stderr)


@contextmanager
def _short_warnings() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        _say(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """Let the signals that end a process unwind the stack, so that temporary files go."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:  # nohup
            continue
        with suppress(ValueError):  # not the main thread: signals are someone else's
            before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
