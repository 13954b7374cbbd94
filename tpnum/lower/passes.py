"""Passes over code: a sum begins with its first term instead of zero, instructions without effect go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tpnum.lower.loops import GATHERING

if TYPE_CHECKING:
    from collections.abc import Collection

    from tpnum.lower.builder import Instruction

WRITTEN = {"add": "times", "add_rho": "plain", "add_product": "product"}
"""Operations that add something, and those that write it; none of them touches the padding."""
EFFECTS = ("store", "give", "keep", *GATHERING)
"""Operations that are there for what they leave behind."""
GIVING = ("give",)
KEEPING = tuple(op for op in EFFECTS if op not in GIVING)
"""Those that hand adjoints on, and all others."""


def written(code: list[Instruction]) -> list[Instruction]:
    """The code in which a sum is written by its first term, where it began with a zero of its own."""
    zeros = {one.makes[0] for one in code if one.op == "zero"}
    readers = Counter(v for one in code for v in one.reads)
    first = {v for one in code if one.op in WRITTEN for v in one.reads[:1] if v in zeros and readers[v] == 1}
    made = []
    for one in code:
        if one.op == "zero" and one.makes[0] in first:
            continue
        if one.op in WRITTEN and one.reads[0] in first:
            one = replace(one, op=WRITTEN[one.op], reads=(-1, *one.reads[1:]))
        made.append(one)
    return made


def live(code: list[Instruction], effects: Collection[str] = EFFECTS) -> list[Instruction]:
    """The instructions that have one of the ``effects``, and those that they read, directly or not."""
    made: list[Instruction] = []
    read: set[int] = set()
    for one in reversed(code):
        if one.op in effects or read & {v for v in one.makes if v >= 0}:
            made.append(one)
            read |= {v for v in one.reads if v >= 0}
    return made[::-1]
