"""What a joint expectation costs before it is computed, and the purse that pays for a law's.

The price is in evaluations of elementary functions: the points that an integrand takes, by the number of
independent Gaussians and by whether a function jumps or has a kink, times the functions that it is made of.
Smooth integrands of two variables converge on a lattice, kinks in two are found by panels; what has three or
more is mostly sampled.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tpnum.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tpnum.functions import Function

SMOOTH = {1: 1 << 12, 2: 1 << 13, 3: 1 << 21}
"""Points for smooth integrands, by dimension."""

ROUGH = {1: 1 << 14, 2: 1 << 17}

SAMPLED = 1 << 22
"""Points for all others."""

TERM = 1 << 13
"""Of one term of a sum of products that is multiplied out: planning it takes as long."""

PURSE, LINE = 1 << 26, 1 << 20
"""What a program may cost before its law is sampled instead (a second), and how much more for every line."""

PAIRS = 16
"""A kernel's expectations are paid for by every pair, and lines are sampled once for all pairs of a tile."""


class NoRule(LimitError):
    """What the rules of two Gaussians do not reach, and an ensemble does."""


class TooWide(NoRule):
    """An expectation has more correlated dimensions, or more terms, than the caller wants to pay for."""


class Purse:
    """What may still be spent; the joint expectations that it paid for are counted by dimension.

    No expectation takes more than ``budget`` points.  Lines are ``shared`` by so many laws.
    """

    def __init__(self, lines: int, budget: int = SAMPLED, shared: int = 1) -> None:
        self._left = PURSE + LINE * lines // shared
        self._budget = budget
        self._widths: dict[int, int] = {}
        self._paid: set[object] = set()

    def term(self, where: Callable[[], str]) -> None:
        """Pay for a term of a sum; ``where`` says of which lines."""
        if self._left < TERM:
            raise TooWide(f"a sum of products, {where()}, has too many terms when it is multiplied out")
        self._left -= TERM

    def joint(self, key: object, rank: int, functions: Iterable[Function], entries: int, where: str) -> None:
        """Pay for expectations over ``rank`` Gaussians, once for every ``key``."""
        if key in self._paid:
            return
        self._paid.add(key)
        self._widths[rank] = self._widths.get(rank, 0) + entries
        listed = ", ".join(f"{n} over {width}" for width, n in sorted(self._widths.items()))
        many = sum(self._widths.values()) > 1
        counted = f" (expectations so far: {listed} Gaussians)" if many else ""
        self._spend(
            entries * price(rank, functions, self._budget),
            f"an expectation {where}, of {rank} correlated Gaussians, costs more than samples{counted}",
        )

    def _spend(self, price: int, what: str) -> None:
        self._left -= price
        if self._left < 0:
            raise TooWide(what)


def price(rank: int, functions: Iterable[Function], budget: int = SAMPLED) -> int:
    """What the expectation of a product of functions of ``rank`` independent Gaussians takes."""
    functions = tuple(functions)
    table = SMOOTH if all(map(smooth, functions)) else ROUGH
    return (min(table.get(rank, SAMPLED), budget) if rank else 1) * sum(map(weight, functions))


def held(samples: int) -> float:
    """Bytes of the samples of one vector and as much beside them, the least that an ensemble holds."""
    return 16.0 * samples


@lru_cache(maxsize=4096)
def smooth(fn: Function) -> bool:
    """Whether a function is known to have neither kinks nor jumps, by its record and those of its parts."""
    rough = fn.user is not None or fn.kinks or fn.record.switch is not None
    return not rough and all(map(smooth, fn.parts))


@lru_cache(maxsize=4096)
def weight(fn: Function) -> int:
    """How many functions a function is made of."""
    return 1 + sum(map(weight, fn.parts))
