"""Tables of text as arrays: numbers standardised, categories one-hot; a refusal names the place."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import InputError

MISSING = frozenset(
    ["", "na", "n/a", "nan", "-nan", "nat", "null", "none", "?", "<na>", "#n/a", "#na", "#null!"]
    + ["#div/0!", "#value!", "#ref!", "#num!", "#name?", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"]
)
"""What stands for a value that is not there, whatever the case; spreadsheets write their errors so."""
LARGEST = 1e150
"""Of a number, whose square is computed."""
MOST_CATEGORIES = 1000
FEW = 10
"""So many different numbers, or rows, may be anything."""
COMMA = re.compile(r"[+-]?[\d.]*,\d+([eE][+-]?\d+)?")
MARKED = re.compile(
    r"[+-]?[$€£¥]? ?[+-]?(\d{1,3}([ '’.,\u00a0\u2009\u202f]\d{3})+|\d+)([.,]\d+)?[ \u00a0\u202f]?[%‰$€£¥]?"
)
DATE = re.compile(
    r"(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}\.?[- ][A-Za-z]{3,9}\.?[- ]\d{2,4}|"
    r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4})([ T].*)?"
)
TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?")
READABLE = (
    (COMMA, "is no number with a decimal point; write it without commas"),
    (DATE, "is a date; give numbers, as days since the first, or leave the column out"),
    (TIME, "is a time of day; give numbers, as minutes, or leave the column out"),
    (MARKED, "is no number as it stands; write it without marks of thousands, of currencies or of percent"),
)
"""Texts that are numbers or dates to their reader, and what to do about them."""


@dataclass(frozen=True)
class Table:
    """The cells of a table as text: ``rows[i][j]`` of ``names[j]``, from line ``lines[i]`` of a file."""

    name: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column, none of them missing."""
        at = self.names.index(name)
        cells = [row[at].strip() for row in self.rows]
        for cell, line in zip(cells, self.lines, strict=True):
            if cell.lower() in MISSING:
                raise InputError(
                    f"{self.name}, line {line}, column {name!r}: the value is missing "
                    f"({cell!r}); fill it in or leave the row out"
                )
        return cells

    def place(self, row: int, name: str) -> str:
        """How a refusal calls a cell."""
        return f"{self.name}, line {self.lines[row]}, column {name!r}"


@dataclass(frozen=True)
class Column:
    """A column of numbers, (value - mean) / scale, or of ``categories``, 1 for its own, else 0."""

    name: str
    mean: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] | None = None

    @classmethod
    def fit(cls, table: Table, name: str) -> Column:
        """Numbers where every cell is one, else categories."""
        cells = table.column(name)
        values = numbers(table, name, cells)
        if values is None:
            _refuse_no_categories(table, name, cells)
            return cls(name, categories=tuple(sorted(set(cells))))
        largest = float(np.abs(values).max())
        size = int(np.frexp(largest)[1])  # small numbers have squares too
        spread = float(np.ldexp(np.std(np.ldexp(values, -size)), size))
        # equal numbers, whose deviation is nothing but rounding, only lose their mean
        equal = spread <= 1e-14 * largest
        return cls(name, float(np.mean(values)), 1.0 if equal else spread)

    def encode(self, table: Table) -> np.ndarray:
        """(rows, 1) or (rows, categories)."""
        cells = table.column(self.name)
        if self.categories is not None:
            place = {category: k for k, category in enumerate(self.categories)}
            made = np.zeros((len(cells), len(place)))
            for i, cell in enumerate(cells):
                if cell not in place:
                    known = ", ".join(self.categories[:8]) + (", .." if len(place) > 8 else "")
                    said = f"{shown(cell)} is no category that was learned ({known})"
                    raise InputError(f"{table.place(i, self.name)}: {said}")
                made[i, place[cell]] = 1.0
            return made
        values = numbers(table, self.name, cells)
        if values is None:
            at = next(i for i, cell in enumerate(cells) if _number(cell) is None)
            raise InputError(f"{table.place(at, self.name)}: {shown(cells[at])} is not a number")
        return ((values - self.mean) / self.scale)[:, None]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, made: dict[str, Any]) -> Column:
        categories = made["categories"]
        return cls(**{**made, "categories": None if categories is None else tuple(categories)})


def encode(columns: tuple[Column, ...], table: Table) -> np.ndarray:
    """The features (rows, features) of a table that has these columns."""
    return np.concatenate([column.encode(table) for column in columns], axis=1)


def numbers(table: Table, name: str, cells: list[str]) -> np.ndarray | None:
    """Cells as finite numbers; None where one is text."""
    values = [_number(cell) for cell in cells]
    if any(value is None for value in values):
        return None
    made = np.array(values, dtype=np.float64)
    if not np.isfinite(made).all():
        at = int(np.argmin(np.isfinite(made)))
        raise InputError(f"{table.place(at, name)}: {shown(cells[at])} is not a finite number")
    if made.size and np.abs(made).max() > LARGEST:
        at = int(np.argmax(np.abs(made)))
        raise InputError(
            f"{table.place(at, name)}: {shown(cells[at])} is larger than {LARGEST:g}; give the column in "
            "another unit"
        )
    return made


def _refuse_no_categories(table: Table, name: str, cells: list[str]) -> None:
    """Raise for a column of texts that nobody would call categories, at its first such cell."""
    texts = [i for i, cell in enumerate(cells) if _number(cell) is None]
    place, first = table.place(texts[0], name), shown(cells[texts[0]])
    for kind, advice in READABLE:
        if all(kind.fullmatch(cells[i]) for i in texts):
            raise InputError(f"{place}: {first} {advice}")
    different = set(cells)
    if len({cell for cell in different if _number(cell) is not None}) > FEW:
        raise InputError(f"{place}: {first} is not a number, as others of the column are; mend it")
    if len(different) > MOST_CATEGORIES or len(different) == len(cells) > FEW:
        raise InputError(
            f"{place}: {len(different)} different texts in {len(cells)} rows, as {first}, are too many for "
            "categories; leave the column out"
        )


def _number(cell: str) -> float | None:
    if "_" in cell:  # 1_000 is a number in Python's source only
        return None
    try:
        return float(cell)
    except ValueError:
        return math.inf if cell.lstrip("+-").lower() in {"inf", "infinity"} else None
