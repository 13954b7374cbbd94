"""``tpnum fit`` and ``tpnum predict``: a table in, predictions out; refusals name the place."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import regression
from tpnum import nn
from tpnum.cli import main
from tpnum.predict.columns import Column, Table

NET = nn.serial(nn.Dense(64, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1))
RNG = np.random.default_rng(0)
A, B = RNG.standard_normal(40) * 3 + 10, RNG.choice(["red", "green"], 40)
NOISE = 0.2 * RNG.standard_normal(40)
Y = np.sin(A) + (B == "red") * 2.0 + NOISE


def table(names: list[str], *columns: object) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))  # type: ignore[arg-type]
    return text.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(json.dumps(NET.to_spec()))
    Path("data.csv").write_text(table(["a", "b", "y"], A, B, Y))
    Path("new.csv").write_text(table(["b", "a"], ["green", "red"], [9.0, 11.5]))
    return tmp_path


FIT = ["fit", "data.csv", "--target", "y", "--net", "net.json", "--out", "model"]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def encoded(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([(a - A.mean()) / A.std(), b == "green", b == "red"], axis=1).astype(float)


def test_a_table_in_predictions_with_intervals_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--noise", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "data.csv: 40 rows, 2 columns (3 features) to tell 'y'" in said
    x, new = encoded(A, B), encoded(np.array([9.0, 11.5]), np.array(["green", "red"]))
    y = (Y - Y.mean()) / Y.std()
    k = tp.kernel(NET, x)
    left, _, _ = regression.k_fold(k, y, 0.05, [np.array([i]) for i in range(40)])
    assert f"root mean square error {Y.std() * np.sqrt(np.mean((left - y) ** 2)):.4g}" in said
    assert main(["predict", "model", "new.csv"]) == 0
    found = rows_of(capsys.readouterr().out)
    mean, cov = regression.posterior(k, y, 0.05, tp.kernel(NET, new, x), tp.kernel(NET, new))
    std = np.sqrt(np.diag(cov) + 0.05)
    for name, expected in [
        ("y", Y.mean() + Y.std() * mean),
        ("y_std", Y.std() * std),
        ("y_low", Y.mean() + Y.std() * (mean - 1.959963984540054 * std)),
        ("y_high", Y.mean() + Y.std() * (mean + 1.959963984540054 * std)),
    ]:
        np.testing.assert_allclose([float(row[name]) for row in found], expected, rtol=1e-8)


def test_intervals_hold_their_share(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = RNG.standard_normal(400) * 3 + 10, RNG.choice(["red", "green"], 400)
    y = np.sin(a) + (b == "red") * 2.0 + 0.2 * RNG.standard_normal(400)
    Path("data.csv").write_text(table(["a", "b", "y"], a[:200], b[:200], y[:200]))
    Path("new.csv").write_text(table(["a", "b", "y"], a[200:], b[200:], y[200:]))
    assert main(FIT) == 0
    assert main(["predict", "model", "new.csv", "--out", "p.csv", "--level", "0.8"]) == 0
    assert "p.csv: 200 rows" in capsys.readouterr().out
    found = rows_of(Path("p.csv").read_text())
    low, high = (np.array([float(row[name]) for row in found]) for name in ("y_low", "y_high"))
    inside = np.mean((low <= y[200:]) & (y[200:] <= high))
    assert abs(inside - 0.8) < 4 * np.sqrt(0.16 / 200)


def test_a_target_of_texts_is_classified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    Path("data.csv").write_text(table(["a", "b", "c", "d", "kind"], *x[::2].T, names[::2]))
    Path("new.csv").write_text(table(["a", "b", "c", "d"], *x[1::2].T))
    assert (
        main(["fit", "data.csv", "--target", "kind", "--net", "net.json", "--out", "m", "--get", "ntk"]) == 0
    )
    assert "right (the commonest class is 33.33% of the rows)" in capsys.readouterr().out
    assert main(["predict", "m", "new.csv"]) == 0
    found = rows_of(capsys.readouterr().out)
    assert np.mean([row["kind"] == name for row, name in zip(found, names[1::2], strict=True)]) > 0.93
    chances = np.array([[float(row[f"p({name})"]) for name in sorted(set(names))] for row in found])
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-8)
    assert list(found[0]) == ["kind", "p(setosa)", "p(versicolor)", "p(virginica)"]
    # numbers can be classes too
    Path("data.csv").write_text(table(["a", "b", "c", "d", "kind"], *x[::2].T, y[::2] * 5))
    given = ["fit", "data.csv", "--target", "kind", "--net", "net.json", "--out", "m", "--force"]
    assert main([*given, "--task", "classification"]) == 0
    assert main(["predict", "m", "new.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[-75 - 1] == "kind,p(0),p(5),p(10)"


def test_semicolons_blank_lines_and_marks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FIT) == 0
    plain = capsys.readouterr().out
    text = "\ufeff" + table(["a", "b", "y"], A, B, Y).replace(",", ";").replace("\n", "\r\n\r\n")
    Path("data.csv").write_text(text, newline="")
    assert main([*FIT, "--force"]) == 0
    assert capsys.readouterr().out == plain


def test_names_in_quotes_hold_other_marks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{a}; {b} ;{y}\n" for a, b, y in zip(A, B, Y, strict=True))
    Path("data.csv").write_text('"a, in m"; "b";"y"\n' + rows)
    assert main(FIT) == 0
    assert "40 rows, 2 columns (3 features) to tell 'y'" in capsys.readouterr().out
    Path("new.csv").write_text('b,"a, in m",y\nred,9.0,\n')  # a target that is not known yet
    assert main(["predict", "model", "new.csv"]) == 0
    assert len(rows_of(capsys.readouterr().out)) == 1


def test_numbers_of_source_code_are_texts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.csv").write_text(table(["a", "y"], ["1_0", "1_1"] * 20, Y))
    assert main(FIT) == 0
    assert "1 column (2 features)" in capsys.readouterr().out


def test_a_column_that_never_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.csv").write_text(table(["a", "b", "c", "y"], A, B, [0.1] * 40, Y))
    assert main(FIT) == 0
    Path("new.csv").write_text(table(["a", "b", "c"], [9.0], ["red"], [0.1]))
    assert main(["predict", "model", "new.csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_columns_of_tiny_numbers_are_standardised() -> None:
    values = np.array([1.0, 2.0, 4.0]) * 1e-200
    column = Column.fit(found := Table("", ("a",), [[f"{v}"] for v in values], [2, 3, 4]), "a")
    encoded = column.encode(found)[:, 0]
    np.testing.assert_allclose(encoded, np.array([-4, -1, 5]) / np.sqrt(14.0), rtol=1e-12)


def test_equal_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.csv").write_text(table(["a", "b", "y"], A, B, [3.5] * 40))
    assert main(FIT) == 0
    assert main(["predict", "model", "new.csv"]) == 0
    said = capsys.readouterr().out
    assert "'y' is 3.5 in every row: nothing else was learned" in said
    assert [float(row["y"]) for row in rows_of(said.split("model\n")[-1])] == [3.5, 3.5]


def test_one_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.csv").write_text("a,y\n1,2\n")
    assert main([*FIT, "--noise", "0.1"]) == 0
    assert "learned from one row: none is left to tell how well it predicts" in capsys.readouterr().out


DATA = {
    "missing": ("a,y\n1,2\n3,\n", "data.csv, line 3, column 'y': the value is missing (''); fill it in"),
    "na": ("a,y\n1,2\n NA ,4\n", "data.csv, line 3, column 'a': the value is missing ('NA')"),
    "infinite": ("a,y\n1,2\ninf,4\n", "data.csv, line 3, column 'a': 'inf' is not a finite number"),
    "ragged": ("a,y\n1,2\n3\n", "data.csv, line 3: 1 values for 2 columns"),
    "twice": ("a,a,y\n1,2,3\n", "data.csv: two columns are named 'a'"),
    "nameless": ("a,,y\n1,2,3\n", "data.csv: column 2 has no name"),
    "no rows": ("a,y\n", "data.csv has no rows"),
    "empty": ("", "data.csv has no rows"),
    "no target": ("a,z\n1,2\n", "--target 'y' is no column of data.csv; its columns are a, z"),
    "only target": ("y\n1\n", "data.csv has no column besides the target 'y'"),
    "nothing changes": ("a,b,y\n1,x,2\n1,x,3\n", "data.csv: no column but 'y' changes from row to row"),
    "one class": ("a,y\n1,x\n2,x\n", "--target 'y' is 'x' in every row"),
    "all classes": ("a,y\n1,x\n2,z\n", "--target 'y' is another text in every row"),
    "decimal commas": (
        "a;y\n1,5;2\n3;4\n",
        "data.csv, line 2, column 'a': '1,5' is no number with",
    ),
    "thousands": (
        'a,y\n"1,500",2\n3,4\n',
        "data.csv, line 2, column 'a': '1,500' is no number with",
    ),
    "spaces of thousands": (
        "a,y\n1 500,2\n3,4\n",
        "data.csv, line 2, column 'a': '1 500' is no number as it stands; write it without marks of",
    ),
    "millions": ('a,y\n"1,500,000",2\n3,4\n', "line 2, column 'a': '1,500,000' is no number as it stands"),
    "percent": ("a,y\n15.5 %,2\n3 %,4\n", "data.csv, line 2, column 'a': '15.5 %' is no number as it stands"),
    "target in euros": ("a,y\n1,€2\n3,€4.50\n", "line 2, column 'y': '€2' is no number as it stands"),
    "times": ("a,y\n12:30,2\n12:45,4\n", "data.csv, line 2, column 'a': '12:30' is a time of day; give"),
    "months": ("a,y\nJan 31 2024,2\n3 March 2024,4\n", "line 2, column 'a': 'Jan 31 2024' is a date; give"),
    "a spreadsheet's error": (
        "a,y\n1,2\n#DIV/0!,4\n",
        "line 3, column 'a': the value is missing ('#DIV/0!')",
    ),
    "huge": (
        "a,y\n1,2\n-1e300,4\n",
        "line 3, column 'a': '-1e300' is larger than 1e+150; give the column",
    ),
    "dates": (
        "a,y\n2024-01-31,2\n2024-02-01 12:30,4\n",
        "data.csv, line 2, column 'a': '2024-01-31' is a date; give numbers",
    ),
    "one text among numbers": (
        "a,y\n" + "".join(f"{i},{i}\n" for i in range(12)) + "-,3\n",
        "data.csv, line 14, column 'a': '-' is not a number, as others of the column are",
    ),
    "names": (
        "a,y\n" + "".join(f"row {i},{i}\n" for i in range(12)),
        "data.csv, line 2, column 'a': 12 different texts in 12 rows, as 'row 0', are too many",
    ),
    "another coding": ("a,y\n\xe9,2\n", "data.csv is not text in UTF-8"),
    "not a table": ("a\x00b,y\n1,2\n", "data.csv holds zero bytes: it is no text"),
    "quotes": ('a,y\n1,"2\n', "data.csv, line 2"),
}


@pytest.mark.parametrize("case", DATA)
def test_refused_data(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = DATA[case]
    Path("data.csv").write_bytes(text.encode("utf-8" if "€" in text else "latin-1"))
    assert main(FIT) == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not Path("model").exists()


NEW = {
    "category": (
        "a,b\n1,red\n2,blue\n",
        "new.csv, line 3, column 'b': 'blue' is no category that was learned",
    ),
    "text": ("a,b\n1,red\nx,red\n", "new.csv, line 3, column 'a': 'x' is not a number"),
    "missing": ("a,b\n1,red\n,red\n", "new.csv, line 3, column 'a': the value is missing"),
    "fewer": ("a\n1\n", "new.csv has no column 'b', which model learned from"),
    "more": ("a,b,c\n1,red,3\n", "new.csv: column 'c' is not one that model learned from; leave it out"),
}


@pytest.mark.parametrize("case", NEW)
def test_refused_rows(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FIT) == 0
    text, words = NEW[case]
    Path("new.csv").write_text(text)
    assert main(["predict", "model", "new.csv"]) == 1
    assert words in capsys.readouterr().err


def test_predictions_are_written_whole_or_not_at_all(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(FIT) == 0
    ask = ["predict", "model", "data.csv", "--out", "new.out"]
    assert main(ask) == 0
    first, there = Path("new.out").read_text(), sorted(folder.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for command in ([*ask, "--force", "--level", "0.5"], [*FIT, "--force", "--noise", "1"]):
        assert main(command) == 1
        assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == there
    assert Path("new.out").read_text() == first
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    Path("link.out").symlink_to("new.out")
    assert main(["predict", "model", "data.csv", "--out", "link.out", "--force", "--level", "0.5"]) == 0
    assert Path("link.out").is_symlink() and Path("new.out").read_text() != first


def test_refused_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.ones((3, 2)))
    for given, words in [
        (["predict", "nothing", "new.csv"], "nothing cannot be read: No such file"),
        (["predict", "net.json", "new.csv"], "net.json is not a model written by tpnum"),
        (["predict", "x.npy", "new.csv"], "x.npy is not a model written by tpnum"),
        (["predict", ".", "new.csv"], "path is '.': a folder, not a file"),
        ([*FIT[:1], "nothing.csv", *FIT[2:]], "nothing.csv cannot be read: No such file"),
        ([*FIT, "--task", "regression"], ""),
    ]:
        if words:
            assert main(given) == 1
            assert words in capsys.readouterr().err
    assert main(FIT) == 0
    assert main(FIT) == 1
    assert "model exists; choose another --out or give --force" in capsys.readouterr().err
    Path("data.csv").write_text("a,y\n1,2\n3,x\n")
    assert main([*FIT, "--force", "--task", "regression"]) == 1
    assert "data.csv, line 3, column 'y': 'x' is not a number" in capsys.readouterr().err
    tp.predict.posterior(NET, np.eye(3), np.arange(3.0), noise=0.1).save("bare")
    assert main(["predict", "bare", "new.csv"]) == 1
    assert "bare is a model without a table" in capsys.readouterr().err
    for option, value in [("--noise", "-1"), ("--noise", "loud"), ("--jobs", "0")]:
        with pytest.raises(SystemExit):
            main([*FIT, option, value])
    with pytest.raises(SystemExit):
        main(["predict", "model", "new.csv", "--level", "1.5"])
