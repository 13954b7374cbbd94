"""``tpnum fit``: learn a column of a table from the others, with the kernel of a net."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tpnum import nn
from tpnum.arguments import counted
from tpnum.cli.files import read_net
from tpnum.cli.outputs import refuse_existing
from tpnum.cli.tables import read_table
from tpnum.errors import InputError
from tpnum.predict import posterior
from tpnum.predict.calibration import temperature
from tpnum.predict.columns import Column, Table, encode, numbers
from tpnum.predict.files import content, write
from tpnum.predict.models import Regression


def run(args: argparse.Namespace) -> None:
    """Fit, write the model and print how well it predicts what is left out."""
    out = Path(args.out)
    refuse_existing([out], args.force, [args.data, args.net])
    net = nn.from_spec(read_net(args.net))
    table = read_table(args.data)
    if args.target not in table.names:
        raise InputError(
            f"--target {args.target!r} is no column of {args.data}; its columns are {', '.join(table.names)}"
        )
    features = [name for name in table.names if name != args.target]
    if not features:
        raise InputError(
            f"{args.data} has no column besides the target {args.target!r}; nothing to learn from"
        )
    columns = tuple(Column.fit(table, name) for name in features)
    x = encode(columns, table)
    if len(x) > 1 and not np.ptp(x, axis=0).any():
        raise InputError(
            f"{args.data}: no column but {args.target!r} changes from row to row; nothing to learn from"
        )
    target, y = _target(table, args)
    model = posterior(net, x, y, get=args.get, noise=args.noise, n_jobs=args.n_jobs)
    about, arrays = content(model)
    about["table"] = {"columns": [column.to_json() for column in columns], "target": target.to_json()}
    lines = _regression(model, target, y)
    if target.categories is not None:
        about["table"]["temperature"], lines = _classification(model, y)
    write(out, about, arrays)
    size = f"{counted(len(x), 'row')}, {counted(len(columns), 'column')} ({counted(x.shape[1], 'feature')})"
    print(f"{args.data}: {size} to tell {args.target!r}")
    print(f"the {args.get} of {args.net}, noise {float(np.mean(model.noise)):.4g}")
    for line in lines:
        print(line)
    print(out)


def _target(table: Table, args: argparse.Namespace) -> tuple[Column, np.ndarray]:
    """The column to predict, and its values as a model learns them."""
    cells = table.column(args.target)
    if args.task == "classification":
        column = Column(args.target, categories=tuple(sorted(set(cells), key=_order)))
    else:
        if args.task == "regression":
            Column(args.target).encode(table)  # refuses the first text
        column = Column.fit(table, args.target)
    made = column.encode(table)
    if column.categories is None:
        return column, made[:, 0]
    if len(column.categories) < 2:
        raise InputError(
            f"--target {args.target!r} is {column.categories[0]!r} in every row: nothing to tell apart"
        )
    if len(column.categories) == len(made):
        raise InputError(f"--target {args.target!r} is another text in every row; give a column of classes")
    return column, made - 1.0 / len(column.categories)


def _order(label: str) -> tuple[float, str]:
    """Labels that are numbers in their order."""
    values = numbers(Table("", ("",), [[label]], [0]), "", [label])
    return (float(values[0]) if values is not None else np.inf, label)


def _regression(model: Regression, target: Column, y: np.ndarray) -> list[str]:
    if target.categories is not None:
        return []
    if len(y) < 2:
        return ["learned from one row: none is left to tell how well it predicts; give more rows"]
    if np.ptp(y) == 0.0:
        return [
            f"{target.name!r} is {target.mean:.6g} in every row: nothing else was learned, and intervals say "
            "little; give rows that differ in it"
        ]
    found = model.leave_one_out()
    error = np.sqrt(np.mean((found.mean - y) ** 2))
    inside = np.mean(np.abs(found.mean - y) <= 1.959964 * np.sqrt(found.variance))
    return [
        f"left out one by one: root mean square error {target.scale * error:.4g} "
        f"(the target's deviation {target.scale * np.std(y):.4g}), {inside:.1%} within 95 % intervals"
    ]


def _classification(model: Regression, y: np.ndarray) -> tuple[float, list[str]]:
    labels = y.argmax(axis=1)
    scores = model.leave_one_out().mean
    right = np.mean(scores.argmax(axis=1) == labels)
    most = np.bincount(labels).max() / len(labels)
    line = f"left out one by one: {right:.2%} right (the commonest class is {most:.2%} of the rows)"
    return temperature(scores, labels), [line]
