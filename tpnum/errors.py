"""The errors of tpnum: one sentence each, naming the argument, layer or line at fault and what to do."""

from __future__ import annotations

import math
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class TpnumError(Exception):
    """Base of every error that tpnum raises on purpose.

    What is wrong with an argument is a sentence that begins with its name: "x1: ..", "tile is ..".  Advice
    names others: "resume=True continues it", "choose another out".
    """

    def rename(self, names: Mapping[str, str]) -> None:
        """Call arguments as those know them who gave them: by what ``names`` has for them, if anything."""
        text = _ARGUMENT.sub(lambda found: names.get(found[found.lastindex or 0], found[0]), str(self))
        if text != str(self):
            self.args = (text,)


_ARGUMENT = re.compile(r"\A(\w+)(?=(?:\[[^]]*\])?(?::| is | must | has ))|\b(\w+)=True|(?<=another )(\w+)")


class ProgramError(TpnumError, ValueError):
    """A tensor program that cannot be: the message quotes the offending line."""


class SpecError(TpnumError, ValueError):
    """A network description (JSON or layers) that cannot be: the message names the layer."""


class InputError(TpnumError, ValueError):
    """An argument or an array that cannot be used: the message names it."""


class LimitError(TpnumError, ValueError):
    """A limit that does not exist or cannot be computed: the message names the line."""


class FunctionError(InputError, LimitError):
    """A user's function that cannot be used: it is no elementwise function of real numbers, or not finite."""


class StoreError(TpnumError, OSError):
    """A file that cannot be read or written: the message names the path."""


class AccuracyWarning(UserWarning):
    """A requested tolerance was not met; the estimate says what was reached."""


def memory() -> float:
    """Bytes that this machine has, infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) or math.inf
    except (AttributeError, ValueError, OSError):
        return math.inf


def require_memory(needed: float, what: str, remedy: str = "give fewer") -> None:
    """Refuse what needs more bytes than the machine has, before any work."""
    if needed > memory():
        raise InputError(
            f"{what} would take {needed / 2**30:.3g} GiB of memory, and this machine has "
            f"{memory() / 2**30:.3g}: {remedy}"
        )


def outside() -> int:
    """The stack level, as the function that warns sees it, of the caller of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "tpnum":
        level, frame = level + 1, frame.f_back
    return level
