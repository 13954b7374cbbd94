"""CSV files of the command line: read whole, refused with their place."""

from __future__ import annotations

import csv
import re
import sys

from tpnum.cli.files import refuse_endless
from tpnum.errors import StoreError
from tpnum.predict.columns import Table

csv.field_size_limit(min(sys.maxsize, 1 << 24))
QUOTED = re.compile(r'"[^"]*"')
"""Of a line: what may hold other marks than those between columns."""


def read_table(name: str) -> Table:
    """The table of a CSV file with a line of names, which tells commas, semicolons and tabs apart."""
    try:
        refuse_endless(name, "give a CSV file")
        with open(name, encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            if "\0" in head:
                raise StoreError(f"{name} holds zero bytes: it is no text in UTF-8; write it as a CSV file")
            stream.seek(0)
            delimiter = max(",;\t", key=QUOTED.sub("", head).count)
            reader = csv.reader(stream, delimiter=delimiter, strict=True, skipinitialspace=True)
            return _table(name, reader)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{name} is not text in UTF-8; write it as a CSV file in UTF-8") from error
    except csv.Error as error:
        raise StoreError(f"{name}, line {reader.line_num}: {error}; write it as a CSV file") from error


def _table(name: str, reader: csv.reader) -> Table:  # type: ignore[valid-type]
    lines: list[int] = []
    rows: list[list[str]] = []
    names: tuple[str, ...] = ()
    for row in reader:  # type: ignore[attr-defined]
        number = reader.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in row) and len(row) <= 1:
            continue
        if not names:
            names = tuple(cell.strip() for cell in row)
            _check_names(name, names)
            continue
        if len(row) != len(names):
            raise StoreError(f"{name}, line {number}: {len(row)} values for {len(names)} columns")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise StoreError(f"{name} has no rows; a line of names and one line for each example are needed")
    return Table(name, names, rows, lines)


def _check_names(file: str, names: tuple[str, ...]) -> None:
    for at, name in enumerate(names):
        if not name:
            raise StoreError(f"{file}: column {at + 1} has no name; its first line must name every column")
        if name in names[:at]:
            raise StoreError(f"{file}: two columns are named {name!r}; give each a name of its own")
