"""How far a run is: a line on a terminal, a call of the user's, lines of a log."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tpnum.tiles.units import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger("tpnum")
LOG.addHandler(logging.NullHandler())
EVERY = 30.0
"""Seconds between two lines of the log."""

_parts = threading.local()


@contextmanager
def part() -> Iterator[None]:
    """A block in which this thread computes one tile of a run, whose own tiles are nobody's progress."""
    before = getattr(_parts, "depth", 0)
    _parts.depth = before + 1
    try:
        yield
    finally:
        _parts.depth = before


class Progress:
    """Counts tiles; ``entries`` and ``size`` in bytes are of all of them, ``show`` a flag or a function."""

    def __init__(
        self,
        show: bool | Callable[[int, int], None] | None,
        total: int,
        label: str = "",
        entries: float = 0.0,
        size: float = 0.0,
        done: int = 0,
    ):
        self.total, self.done, self.label = total, done, label
        self._entries, self._size = entries, size
        self._begun = self._drawn = self._logged = time.monotonic()
        self._before = done
        self._bar = show is True and sys.stderr is not None and sys.stderr.isatty()
        self._call = show if callable(show) else None
        self._logs = LOG.isEnabledFor(logging.INFO) and not getattr(_parts, "depth", 0)

    def step(self) -> None:
        """One tile more."""
        self.done += 1
        now = time.monotonic()
        if self._call is not None:
            self._call(self.done, self.total)
        if self._bar and (self.done == self.total or now - self._drawn >= 0.1):
            self._drawn = now
            end = "\n" if self.done == self.total else ""
            print(f"\r{self._line(now)}\x1b[K", end=end, file=sys.stderr, flush=True)
        if self._logs and (now - self._logged >= EVERY or self.done == self.total):
            self._logged = now
            LOG.info("%s", self._line(now), extra={"facts": self.facts(now)})

    def facts(self, now: float | None = None) -> dict[str, Any]:
        """What a line of the log says, by name."""
        now = time.monotonic() if now is None else now
        seconds = max(now - self._begun, 1e-9)
        made = self.done - self._before
        share = made / self.total if self.total else 0.0
        return {
            "run": self.label,
            "done": self.done,
            "total": self.total,
            "tiles_per_second": made / seconds,
            "entries_per_second": share * self._entries / seconds,
            "gigabytes": self.done / max(self.total, 1) * self._size / 1e9,
            "seconds_left": seconds * (self.total - self.done) / made if made else None,
            "rss_megabytes": resident() / 1e6,
        }

    def _line(self, now: float) -> str:
        facts = self.facts(now)
        text = f"{self.label + ': ' if self.label else ''}{self.done}/{self.total} tiles"
        if facts["entries_per_second"]:
            text += f", {facts['entries_per_second']:.3g} entries/s"
        else:
            text += f", {facts['tiles_per_second']:.3g} tiles/s"
        left = facts["seconds_left"]
        return text if left is None else f"{text}, {duration(left)} left"


class Json(logging.Formatter):
    """A line of the log as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", None) or {"message": record.getMessage()}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(record.created))
        return json.dumps({"time": stamp, "level": record.levelname, **facts})


def resident() -> int:
    """Bytes that this process has in memory now, 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
