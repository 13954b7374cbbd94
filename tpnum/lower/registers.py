"""Registers for values by linear scan; values of one kind share registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


class Operation(Protocol):
    """What reads values, and makes some of them afresh or in place of what it reads."""

    @property
    def reads(self) -> tuple[int, ...]: ...

    @property
    def makes(self) -> tuple[int, ...]: ...


Op = TypeVar("Op", bound=Operation)
Kind = TypeVar("Kind")

Placed = tuple[int, ...]
"""Registers, three at least, -1 where there is none."""


def made_by(
    slots: str, operands: Sequence[int], makes: int, fresh: Callable[[], int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int]]:
    """What an operation reads and makes, slot by slot, and the two values that it makes; -1 is nothing.

    Slots (w)rite, (r)ead or change what was (m)ade before; of what would be written afresh the first
    ``makes`` are.
    """
    given = iter(operands)
    reads = [-1 if slot == "w" else next(given) for slot in slots]
    assert next(given, None) is None
    made: list[int] = []
    for slot, read in zip(slots, reads, strict=True):
        wanted = read >= 0 if slot == "m" else slot == "w" and len(made) - made.count(-1) < makes
        made.append(fresh() if wanted else -1)
    first, second, *_ = (*(v for v, slot in zip(made, slots, strict=True) if slot != "r"), -1, -1)
    return tuple(reads), tuple(made), (first, second)


def allocate(
    operations: Sequence[Op],
    kind: Callable[[int], Kind],
    until: Callable[[int, int], int] = lambda value, k: k,
    pinned: Collection[int] = (),
) -> tuple[list[tuple[Op | None, Op, Placed]], list[Kind]]:
    """The registers of every operation, and the kind of each register.

    A value keeps its register until its last reader.  A result that is made in place takes the register of
    its operand if nobody reads the operand again, else the register of a copy: an entry whose first is None,
    beside the operation that it is for.  The register of a value that operation k reads last is used again
    behind operation ``until(value, k)``.  What is ``pinned`` is not changed in place.
    """
    last: dict[int, int] = {}
    for k, one in enumerate(operations):
        last |= dict.fromkeys((v for v in (*one.makes, *one.reads) if v >= 0), k)
    free: dict[Kind, list[int]] = {}
    kinds: list[Kind] = []
    where: dict[int, int] = {}
    rows: list[tuple[Op | None, Op, Placed]] = []
    waiting: dict[int, list[int]] = {}

    def fresh(value: int) -> int:
        idle = free.setdefault(kind(value), [])
        if idle:
            return idle.pop()
        kinds.append(kind(value))
        return len(kinds) - 1

    for k, one in enumerate(operations):
        places = []
        for read, made in zip(one.reads, one.makes, strict=True):
            if read >= 0 and made >= 0:
                kept = last[read] > k or one.reads.count(read) > 1 or read in pinned
                if kept or kind(read) != kind(made):
                    where[made] = fresh(made)
                    rows.append((None, one, (where[made], where[read], -1)))
                else:
                    where[made] = where[read]
            elif made >= 0:
                where[made] = fresh(made)
            places.append(where.get(made, where.get(read, -1)))
        rows.append((one, one, (*places, -1, -1, -1)[: max(3, len(places))]))
        mentioned = {v for v in (*one.reads, *one.makes) if v >= 0}
        kept_registers = {where[v] for v in mentioned if last[v] > k}
        done = {where[v]: until(v, k) for v in sorted(mentioned)}
        for register in sorted(done.keys() - kept_registers):
            waiting.setdefault(done[register], []).append(register)
        for register in waiting.pop(k, ()):
            free.setdefault(kinds[register], []).append(register)
    return rows, kinds
