"""Stretches of code: operations on the cells of one space that run together, some cells at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.lower.loops import BUFFERED, GATHERING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.builder import Instruction


def stretch_numbers(code: list[Instruction], keys: list[Hashable]) -> list[int]:
    """Per operation the number of its stretch: operations on the cells of one space, then maps from there.

    The maps read cells as soon as they are there, so that none of them reads what another makes.
    """
    found: list[int] = []
    made: set[int] = set()
    for k, one in enumerate(code):
        before = code[k - 1]
        alone = k == 0 or one.op in BUFFERED or before.op in BUFFERED or keys[k] != keys[k - 1]
        if alone or (before.op == "mix" and (one.op != "mix" or made & {*one.reads})):
            found.append(found[-1] + 1 if found else 0)
            made = set()
        else:
            found.append(found[-1])
        if one.op == "mix":
            made |= {*one.makes} - {-1}
    return found


def only_mapped(code: list[Instruction], groups: list[int]) -> set[int]:
    """The stretches whose values only maps behind them read: cells that these leave out are not needed."""
    found = {group for one, group in zip(code, groups, strict=True) if one.op == "mix"}
    home = {v: g for one, g in zip(code, groups, strict=True) if one.op != "mix" for v in one.makes if v >= 0}
    for one, group in zip(code, groups, strict=True):
        beyond = {home[v] for v in one.reads if v in home and (home[v] != group or one.op == "keep")}
        found -= beyond if one.op not in (*BUFFERED, *GATHERING) else beyond | {group}
    return found
