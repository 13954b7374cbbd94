"""``tpnum predict``: the model of ``tpnum fit`` on new rows, with intervals or probabilities."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tpnum.cli.outputs import real, refuse_existing
from tpnum.cli.tables import read_table
from tpnum.errors import InputError, StoreError
from tpnum.predict.calibration import probabilities
from tpnum.predict.columns import Column, Table, encode
from tpnum.predict.files import read, restored, whole_file
from tpnum.predict.gaussian import Prediction
from tpnum.predict.models import Regression


def run(args: argparse.Namespace) -> None:
    """Print a CSV table, or write it to ``--out``."""
    if args.out:
        refuse_existing([Path(args.out)], args.force, [args.model, args.data])
    about, arrays = read(args.model)
    if "table" not in about:
        raise StoreError(f"{args.model} is a model without a table; tpnum fit writes those for tpnum predict")
    model = restored(args.model, about, arrays)
    assert isinstance(model, Regression)
    target = Column.from_json(about["table"]["target"])
    columns = tuple(Column.from_json(column) for column in about["table"]["columns"])
    table = read_table(args.data)
    _check(table, columns, target, args.model)
    x = encode(columns, table)
    if target.categories is None:
        names, rows = _intervals(model.predict(x, noise=model.noise), target, args.level)
    else:
        chances = probabilities(model.predict(x).mean, about["table"]["temperature"])
        labels = [target.categories[k] for k in chances.argmax(axis=1)]
        names = [target.name, *(f"p({category})" for category in target.categories)]
        rows = [[label, *map(_text, chance)] for label, chance in zip(labels, chances, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    if not args.out:
        sys.stdout.write(text.getvalue())
        return
    with whole_file(real(Path(args.out))) as stream:
        stream.write(text.getvalue().encode())
    print(f"{args.out}: {len(rows)} rows")


def _check(table: Table, columns: tuple[Column, ...], target: Column, model: str) -> None:
    wanted = [column.name for column in columns]
    for name in wanted:
        if name not in table.names:
            raise InputError(f"{table.name} has no column {name!r}, which {model} learned from")
    for name in table.names:
        if name not in wanted and name != target.name:
            raise InputError(
                f"{table.name}: column {name!r} is not one that {model} learned from; leave it out"
            )


def _intervals(found: Prediction, target: Column, level: float) -> tuple[list[str], list[list[str]]]:
    """Mean, standard deviation and interval of new observations, the noise included."""
    low, high = found.interval(level)
    made = [target.mean + target.scale * v for v in (found.mean, low, high)]
    made.insert(1, target.scale * found.std)
    names = [target.name, f"{target.name}_std", f"{target.name}_low", f"{target.name}_high"]
    return names, [[_text(v) for v in row] for row in np.stack(made, axis=1)]


def _text(value: Any) -> str:
    return f"{float(value):.10g}"
