"""Which vectors of an ensemble are rows of samples, and which rows of an arena they get.

A vector is a row where a function, a matrix or a moment needs its samples, or where several sums would have
to work it out again.  Inputs, hats and sums are combinations of rows until then.  A sum of one term is that
term, scaled: moments, products and other sums take its factor along.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.program.lines import Arith, Input, LinComb, MatMul, Moment, Nonlin

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.functions import Function
    from tpnum.law.steps import Step
    from tpnum.program.lines import Line, Var

RANK = 1e-12
"""Part of the largest eigenvalue of the inputs' covariance that counts as none."""

Scaled: TypeAlias = tuple[str, float, str]
"""A vector as (row, coefficient, scalar); "" where there is no scalar."""


def vectors_of(line: Line) -> tuple[str, ...]:
    """The vectors that a line is computed from."""
    match line:
        case MatMul():
            return (line.vector,)
        case LinComb():
            return tuple(t.vector for t in line.terms)
        case Nonlin() | Moment():
            return line.args
    return ()


def scalars_of(line: Line) -> tuple[str, ...]:
    """The scalars that a line is computed from."""
    match line:
        case LinComb():
            return tuple(t.scalar for t in line.terms if t.scalar)
        case Nonlin() | Moment() | Arith():
            return line.scalars
    return ()


def is_product(fn: Function) -> bool:
    """Whether fn is the product of two vectors, or the square of one."""
    return fn.product or (fn.user is None and fn.name == "square" and not fn.order and fn.split is None)


def ones(dim: str) -> str:
    """The row of ones of a sample space."""
    return f"{dim} ones"


@dataclass(eq=False)
class Roles:
    """What becomes of the vectors of a program.

    ``latent`` has the inputs in terms of standard normals and ones; ``stored`` are rows, those in ``alias``
    under the name of an equal one; ``scaled`` are rows with a factor.
    """

    stored: set[str] = field(default_factory=set)
    scaled: dict[str, Scaled] = field(default_factory=dict)
    latent: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> str:
        """The row that a stored vector is."""
        return self.alias.get(name, name)

    def part(self, name: str) -> Scaled:
        """A vector as a row with a factor."""
        return self.scaled.get(name, (name, 1.0, ""))


def roles(lines: Sequence[Line], variables: Mapping[str, Var], keep: Iterable[str]) -> Roles:
    """Decide for every vector; those to ``keep`` are rows."""
    made = Roles()
    known: dict[object, str] = {}  # sums, by their terms
    uses: dict[str, int] = {}
    taken = set(keep)
    paired: set[str] = set()
    for line in lines:
        if isinstance(line, LinComb):
            for t in line.terms:
                uses[t.vector] = uses.get(t.vector, 0) + 1
        elif isinstance(line, MatMul) or (isinstance(line, Moment) and is_product(line.fn)):
            paired.update(vectors_of(line))
        else:
            taken.update(vectors_of(line))
    for line in lines:
        if isinstance(line, Nonlin):
            made.stored.add(line.name)
        elif isinstance(line, Input):
            _inputs(line, made)
            made.stored.update(n for n in line.names if n in taken or n in paired or n in made.alias)
        elif isinstance(line, LinComb | MatMul) and variables[line.name].kind != "D":
            scaled = _scaled(line, made) if line.name not in taken else None
            same = known.setdefault(line.terms, line.name) if isinstance(line, LinComb) else line.name
            if scaled is not None:
                made.scaled[line.name] = scaled
            elif same != line.name and same in made.stored:
                made.alias[line.name] = same
                made.stored.add(line.name)
            elif line.name in taken or line.name in paired or uses.get(line.name, 0) > 1:
                made.stored.add(line.name)
    return made


def _scaled(line: LinComb | MatMul, made: Roles) -> Scaled | None:
    """A sum of one term as a row with a factor, unless it has two scalars."""
    if not isinstance(line, LinComb) or len(line.terms) != 1:
        return None
    (term,) = line.terms
    row, coef, scalar = made.part(term.vector)
    if row not in made.stored or (scalar and term.scalar):
        return None
    return row, coef * term.coef, scalar or term.scalar


def _inputs(line: Input, made: Roles) -> None:
    """Inputs as combinations of standard normals, by a root of their covariance, and of ones."""
    cov = np.asarray(line.cov, dtype=float)
    values, vectors = np.linalg.eigh(cov)
    if np.array_equal(cov, np.diag(np.diag(cov))):
        values, vectors = np.diag(cov), np.eye(len(cov))
    live = np.flatnonzero(values > RANK * max(float(values.max()), 0.0))
    root = vectors[:, live] * np.sqrt(values[live])
    for i, name in enumerate(line.names):
        parts = [(f"{line.names[0]} latent {k}", float(c)) for k, c in zip(live, root[i], strict=True) if c]
        if line.mean[i]:
            parts.append((ones(line.dim), line.mean[i]))
        made.latent[name] = parts
        if len(parts) == 1 and parts[0][1] == 1.0:
            made.alias[name] = parts[0][0]


@dataclass(eq=False)
class Stage:
    """A step before its rows are known: the rows that it reads and makes, by name and sample space."""

    build: Callable[[], Step]
    reads: set[str] = field(default_factory=set)
    makes: list[tuple[str, str]] = field(default_factory=list)


def allocate(
    stages: Sequence[Stage], ends_with: Iterable[str], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, int], dict[str, int]]:
    """(row numbers by name, numbers of rows by sample space).

    A row is free again after the last stage that reads it, or one of the ``groups`` that it belongs to;
    those in ``ends_with`` never.
    """
    last: dict[str, int] = {}
    for at, stage in enumerate(stages):
        last.update(dict.fromkeys(stage.reads, at))
    last.update(dict.fromkeys(ends_with, len(stages)))
    rows: dict[str, int] = {}
    heights: dict[str, int] = {}
    free: dict[str, list[int]] = {}
    ends: list[list[tuple[str, int]]] = [[] for _ in range(len(stages) + 1)]
    for at, stage in enumerate(stages):
        for dim, name in stage.makes:
            spare = free.setdefault(dim, [])
            if not spare:
                spare.append(heights.get(dim, 0))
                heights[dim] = spare[0] + 1
            rows[name] = row = heapq.heappop(spare)
            ends[max([at, *(last.get(n, at) for n in (name, *groups.get(name, ())))])].append((dim, row))
        for dim, row in ends[at]:
            heapq.heappush(free[dim], row)
    return rows, heights
