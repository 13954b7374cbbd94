"""From arguments to exit status: one place where errors become one line."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tpnum.cli.parser import build
from tpnum.errors import TpnumError

_INTERRUPTED = 130
_TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    args = build().parse_args(argv)
    with _terminable(), _short_warnings():
        try:
            # the module of a command bears its name, and is imported only when it runs
            importlib.import_module(f"tpnum.cli.{args.command}").run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _say("interrupted; nothing was written")
            return _INTERRUPTED
        except BrokenPipeError:
            # the reader has left (tpnum doctor | head): nothing more to say, not even at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            if args.debug:
                raise
            _say(f"error: {_one_line(error, args)}")
            return 1
    return 0


def _one_line(error: Exception, args: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, TpnumError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error})" if str(error) else "not enough memory"
    else:
        text = f"unexpected {type(error).__name__}: {error} (tpnum {args.command} --debug shows where)"
    return " ".join(text.split())


def _say(text: str) -> None:
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
    """Let SIGTERM unwind the stack, so that temporary files go."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread: signals are someone else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
