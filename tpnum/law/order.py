"""The order of work for an ensemble: lines of one kind that do not wait for each other, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tpnum.law.rows import Roles, is_product, scalars_of, vectors_of
from tpnum.program.lines import Arith, Input, LinComb, MatMul, Moment, Nonlin

if TYPE_CHECKING:
    from tpnum.law.steps import Direction
    from tpnum.program.lines import Line, Var

INPUTS, FUNCTIONS, PRODUCTS, SUMS, ROWS, OPERANDS, MOMENTS, SCALARS = range(8)
"""What comes first among the things that could be done at the same time.

ROWS is when sums become rows, OPERANDS when the operands of products meet each other: as soon as they are
rows, which may be long before the products.
"""

KINDS: dict[type, int] = {
    Input: INPUTS,
    Nonlin: FUNCTIONS,
    MatMul: PRODUCTS,
    LinComb: SUMS,
    Moment: MOMENTS,
    Arith: SCALARS,
}


def order(
    lines: Sequence[Line],
    variables: Mapping[str, Var],
    directions: Mapping[str, Direction],
    roles: Roles,
) -> Iterator[tuple[int, int, list[Line]]]:
    """(level, kind, lines): groups in the order of work, of lines that one step can do."""
    level: dict[str, int] = {}
    groups: dict[tuple[int, int, object], list[Line]] = {}
    for line in lines:
        if type(line) not in KINDS:
            level[line.name] = 0  # type: ignore[union-attr]
            continue
        names = line.names if isinstance(line, Input) else (line.name,)  # type: ignore[union-attr]
        before = (level[n] for n in (*vectors_of(line), *scalars_of(line)))
        at = 0 if isinstance(line, Input) else 1 + max(before, default=0)
        level.update(dict.fromkeys(names, at))
        groups.setdefault((at, KINDS[type(line)], _alike(line, variables, directions)), []).append(line)
    met: dict[object, int] = {}
    ordered = sorted(groups, key=lambda key: key[:2])
    for key in ordered:
        at, kind, direction = key
        if kind == PRODUCTS:
            rows = [roles.part(line.vector)[0] for line in groups[key] if isinstance(line, MatMul)]
            met[direction] = max(met.get(direction, 0), *(level[r] for r in rows))
            groups[met[direction], OPERANDS, (direction, at)] = groups[key]
    for at, kind, alike in sorted(groups, key=lambda key: key[:2]):
        yield at, kind, groups[at, kind, alike]


def _alike(line: Line, variables: Mapping[str, Var], directions: Mapping[str, Direction]) -> object:
    """What the lines that one step can do have in common."""
    match line:
        case Input():
            return line.dim
        case MatMul():
            return directions[line.matrix]
        case LinComb():
            var = variables[line.name]
            return line.name if var.kind == "D" else var.dim
        case Nonlin():
            return variables[line.name].dim, line.fn
        case Moment():
            dim = variables[line.args[0]].dim
            return (dim, None) if is_product(line.fn) else (dim, line.fn)
        case Arith():
            return line.fn
    raise AssertionError(line)
