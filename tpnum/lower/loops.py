"""Recurrences in code: what lies between recalling a state and keeping the next one is done step by step."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from tpnum.law.worklist import postorder
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tpnum.lower.builder import Instruction

BUFFERED = ("load", "store", "seed", "give")
"""Operations that number cells in their own way."""
SUMS = {"rows": "rows", "cols": "cols", "data_rows": "rows", "data_cols": "cols"}
"""Operations whose results no value holds, and whether these are of rows or of columns."""
GATHERED = {"bent": ("rows", "cols", "rows"), "curved": ("rows", "cols")}
"""Ways back through functions, and the sums that they gather beside their values, one after the other."""
GATHERING = (*SUMS, *GATHERED)
"""Operations that gather sums, for which every cell counts."""
APART = ("mix", *BUFFERED)
"""Operations beside which values are kept for all cells."""
ENDS = (*APART, "keep")
MANY = 1 << 11
"""Cells whose values leave the caches before they are read again."""
STEPS = ("recall", "keep")
"""Operations that make a stretch one of a recurrence, whose cells are done one after the other.

What is kept stays in its register, where the next step finds it: `keep` is no instruction.
"""


def steps_together(code: list[Instruction]) -> list[Instruction]:
    """The code in an order in which every loop's instructions follow one another.

    A loop is all that its recalled states lead to and that leads to the states kept for the next step, and
    all that others wait for in turn.
    """
    if all(one.op != "recall" for one in code):
        return code
    code = _readers_first(code)
    recalls = {one.extra: k for k, one in enumerate(code) if one.op == "recall"}
    makers = {v: k for k, one in enumerate(code) for v in one.makes if v >= 0}
    below = [{makers[v] for v in one.reads if v >= 0} for one in code]
    above: list[set[int]] = [set() for _ in code]
    for k, found in enumerate(below):
        for source in found:
            above[source].add(k)
    back, forth = [set(found) for found in below], [set(found) for found in above]
    keeps = [k for k, one in enumerate(code) if one.op == "keep"]
    for k in keeps:  # a step waits for the one before, and what is kept for it to be recalled
        for edges in (back, forth):
            edges[k].add(recalls[code[k].extra])
            edges[recalls[code[k].extra]].add(k)
    loops: list[set[int]] = []
    for k in keeps:
        if not any(k in loop for loop in loops):
            loops.append(_reached(k, back) & _reached(k, forth))
    for loop in loops:
        if any(code[k].op in APART for k in loop):
            raise Unsupported("a recurrence whose steps mix positions")
    return [code[k] for k in _ordered(len(code), loops, below)]


def in_loops(code: list[Instruction], keys: list[Hashable], cells: Callable[[Hashable], int]) -> list[bool]:
    """Which instructions are run step by step: what lies between recalling a state and keeping the next one.

    Of `MANY` cells all around it on the same ones is, so that what it makes lives for a step; but for what
    leads to a map, which is left for the cells that the map reads.  ``keys`` are the spaces that the
    instructions are on, and ``cells`` says how many these have.
    """
    found: list[bool] = []
    open_states: set[tuple | None] = set()
    begin = 0
    for k, one in enumerate(code):
        if k == 0 or keys[k] != keys[k - 1] or one.op in APART or code[k - 1].op in APART:
            begin = k
        if one.op == "recall":
            open_states.add(one.extra)
        found.append(bool(open_states))
        if one.op == "keep":
            open_states.discard(one.extra)
        last = k + 1 == len(code) or keys[k + 1] != keys[k] or code[k + 1].op in APART or one.op in APART
        if last and any(found[begin:]) and cells(keys[k]) >= MANY:
            mapped = k + 1 < len(code) and code[k + 1].op == "mix"
            end = begin + max(
                j for j, at in enumerate(code[begin : k + 1], 1) if at.op in STEPS or not mapped
            )
            found[begin:end] = [True] * (end - begin)
    return found


def _readers_first(code: list[Instruction]) -> list[Instruction]:
    """The code with what else reads a value before what changes it in place, which then needs no copy."""
    makers = {v: k for k, one in enumerate(code) for v in one.makes if v >= 0}
    readers: dict[int, list[int]] = {}
    for k, one in enumerate(code):
        for v in one.reads:
            readers.setdefault(v, []).append(k)
    order: list[int] = []
    done: set[int] = set()
    for k, one in enumerate(code):
        for read, made in zip(one.reads, one.makes, strict=True):
            for j in readers[read] if read >= 0 and made >= 0 else ():
                ready = all(makers[v] in done for v in code[j].reads if v >= 0)
                if j > k and j not in done and ready and code[j].grid == one.grid and code[j].op not in ENDS:
                    order.append(j)
                    done.add(j)
        if k not in done:
            order.append(k)
            done.add(k)
    return [code[k] for k in order]


def _reached(start: int, edges: list[set[int]]) -> set[int]:
    return set(postorder([start], edges.__getitem__, int, ()))


def _ordered(count: int, loops: list[set[int]], below: list[set[int]]) -> list[int]:
    """The numbers in order, every loop as if it were one of them, late and beside others."""
    home = {k: min(loop) for loop in loops for k in loop}
    parts: dict[int, list[int]] = {}
    for k in range(count):
        parts.setdefault(home.get(k, k), []).append(k)
    waits = {name: {home.get(s, s) for k in part for s in below[k]} - {name} for name, part in parts.items()}
    readers: dict[int, list[int]] = {}
    for name, sources in waits.items():
        for source in sources:
            readers.setdefault(source, []).append(name)
    loose: list[int] = []
    looped: list[int] = []  # one after the other where they may be
    for name, sources in waits.items():
        if not sources:
            heappush(looped if len(parts[name]) > 1 else loose, name)
    order: list[int] = []
    again = False
    while loose or looped:
        again = bool(looped) and (again or not loose)
        name = heappop(looped if again else loose)
        order += parts[name]
        for reader in readers.get(name, ()):
            waits[reader].discard(name)
            if not waits[reader]:
                heappush(looped if len(parts[reader]) > 1 else loose, reader)
    assert len(order) == count
    return order
