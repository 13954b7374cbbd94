"""How times are compared: interleaved repeats, medians, processor time and wall time side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

SETTLE = 0.12
"""Seconds for which the BLAS's threads may spin after a product, on the account of what comes next."""

REPEATS = 5


@dataclass(frozen=True)
class Seconds:
    """Processor time of all threads of the process, and wall time."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Ratio:
    """Two jobs, each as the median of its repeats."""

    candidate: Seconds
    floor: Seconds

    @property
    def cpu(self) -> float:
        return self.candidate.cpu / self.floor.cpu

    @property
    def wall(self) -> float:
        return self.candidate.wall / self.floor.wall

    def by(self, clock: str) -> float:
        """Return the ratio by the clock "cpu" or "wall"."""
        return self.cpu if clock == "cpu" else self.wall


def timed(action: Callable[[], object]) -> Seconds:
    """Return what one call takes, once the threads of whatever ran before have gone to sleep."""
    time.sleep(SETTLE)
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def median(times: list[Seconds]) -> Seconds:
    """Return the medians, clock by clock."""
    return Seconds(statistics.median(t.cpu for t in times), statistics.median(t.wall for t in times))


def interleaved(*actions: Callable[[], object], repeats: int = REPEATS) -> list[Seconds]:
    """Return the median time of each action: A B A B ..., so that a busy moment hits them alike."""
    for action in actions:
        action()  # caches, page faults, compiled code
    times: list[list[Seconds]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            taken.append(timed(action))
    return [median(taken) for taken in times]


def ratio(candidate: Callable[[], object], floor: Callable[[], object], repeats: int = REPEATS) -> Ratio:
    """Return what `candidate` takes in units of what `floor` takes."""
    return Ratio(*interleaved(candidate, floor, repeats=repeats))
