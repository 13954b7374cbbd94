"""Maps of one index axis: what the records say against plain loops, and how they are kept."""

from __future__ import annotations

import json
import pickle
from itertools import product

import numpy as np
import pytest

from tpnum.errors import ProgramError
from tpnum.program import Program
from tpnum.program.lines import Map
from tpnum.program.maps import IndexMap, Mean, Rows, Shift, Sum, Take, selection
from tpnum.program.serial import MAPS
from tpnum.program.windows import Pool, Transposed, Window

SOME: list[IndexMap] = [
    Shift(5, 2),
    Shift(5, -1, "circular"),
    Shift(5),
    Take(5, (4, 0, 0)),
    Sum(5),
    Sum(1),
    Mean(5),
    Window(7, 3, 2, 2, "SAME"),
    Window(7, 2, dilation=3),
    Window(5, 4, padding="circular"),
    Pool(5, 2, 2, "SAME"),
    Pool(5, 3, 1, "CIRCULAR", 0.25),
    Pool(5, 1),
    Pool(2, 3, 1, "CIRCULAR", 1.0),
    Transposed(3, 4, 2),
    Transposed(3, 2, 3, "SAME"),
    Rows((((0, 1.0), (1, -2.0)), ())),
]


def matrix(index: IndexMap, size: int) -> np.ndarray:
    made = np.zeros((index.count, size))
    for row, pairs in zip(made, index.rows, strict=True):
        for i, w in pairs:
            row[i] += w
    return made


@pytest.mark.parametrize("index", SOME, ids=repr)
def test_what_a_record_says_is_true_of_its_rows(index):
    assert index.count == len(index.rows)
    assert isinstance(index, Rows) or index.entries >= sum(map(len, index.rows))
    assert index.gathers == all(len(row) <= 1 for row in index.rows)
    assert index.uniform == (len({w for row in index.rows for _, w in row}) <= 1)
    assert all(type(i) is int and 0 <= i < (index.reads or 2) for row in index.rows for i, _ in row)
    again = pickle.loads(pickle.dumps(index))
    bare = Rows(index.rows)
    assert type(again) is type(index) and again == index == bare and hash(again) == hash(index) == hash(bare)
    assert index != Rows((*index.rows, ())) and index != 3
    assert eval(repr(index), MAPS | {"Rows": Rows}) == index


def test_the_matrices_of_maps():
    x = np.random.default_rng(0).standard_normal(5)
    for by in range(-6, 7):
        np.testing.assert_array_equal(matrix(Shift(5, by, "circular"), 5) @ x, np.roll(x, by))
        shifted = [x[i - by] if 0 <= i - by < 5 else 0.0 for i in range(5)]
        np.testing.assert_array_equal(matrix(Shift(5, by), 5) @ x, shifted)
    np.testing.assert_array_equal(matrix(Take(5, (3, 1)), 5) @ x, x[[3, 1]])
    np.testing.assert_allclose(matrix(Sum(5), 5) @ x, x.sum())
    np.testing.assert_allclose(matrix(Mean(5), 5) @ x, x.mean())
    for size, stride in product(range(1, 6), range(1, 4)):
        kept = [x[s : s + size].mean() for s in range(0, 6 - size, stride)]
        np.testing.assert_allclose(matrix(Pool(5, size, stride), 5) @ x, kept)


def test_windows_are_blind_where_no_row_has_an_entry():
    for length, size, stride, dilation in product([1, 2, 5], [1, 2, 3, 4], [1, 2, 4, 9], [1, 2, 4, 7]):
        made = Window(length, size, stride, dilation, "SAME")
        assert made.blind == (not any(made.rows)), made


def test_selections_are_read_as_numpy_reads_them():
    x = np.arange(6)
    for index in (2, -1, slice(None, None, -2), slice(1, 4), [0, -1, 3], np.array([2, 2])):
        length, made = selection(6, index)
        picked = x[index]
        assert length == (None if picked.ndim == 0 else len(picked))
        assert list(made.indices) == np.atleast_1d(picked).tolist()


def program() -> Program:
    p = Program()
    x = p.vector("x")
    h = (p.matrix("A", axes={"t": 6}) @ p.vector("y", axes={"t": 6})).named("h")
    h.windows("t", 2, 2, "SAME", dilation=3).sum("t_f")
    h.pool("t", 2, 2).shift(t=1).mean("t")
    h.take(t=[5, 0]).rename(t="r")
    h.map("t", {"s": 1}, [[(0, 0.5), (3, 2.0)]])
    p.output(x)
    return p


def kinds(p: Program) -> list[str]:
    return [type(line.index).__name__ for line in p.lines if isinstance(line, Map)]


def test_lines_keep_what_they_are():
    p = program()
    assert kinds(p) == ["Window", "Sum", "Pool", "Shift", "Mean", "Take", "Shift", "Rows"]
    for again in (Program.from_json(p.to_json()), pickle.loads(pickle.dumps(p)), p.copy()):
        assert again == p and hash(again) == hash(p) and again.digest() == p.digest()
        assert kinds(again) == kinds(p)
    assert "Window" in kinds(p.tangent()) or not p.tangent().tangents


def first_version(p: Program) -> str:
    document = json.loads(p.to_json())
    document["version"] = 1
    for entry, line in zip(document["lines"], p.lines, strict=True):
        if isinstance(line, Map):
            entry.pop("index", None)
            entry["rows"] = line.rows
    return json.dumps(document)


def test_files_of_the_first_version_are_the_same_program():
    p = program()
    old = Program.from_json(first_version(p))
    assert old == p and hash(old) == hash(p) and old.digest() == p.digest() and str(old) == str(p)
    assert set(kinds(old)) == {"Rows"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": "Guess"}, "line 4 of the JSON has the map 'Guess', which is not one of Shift, Take"),
        ({"stride": 0}, r"line 4 of the JSON \(Window\): stride is 0"),
        ({"size": 1.5}, r"\(Window\): size is 1.5"),
        ({"dilation": True}, r"\(Window\): dilation is True"),
        ({"padding": "FULL"}, "padding 'FULL' is not known"),
        ({"padding": ["SAME"]}, "padding .* is not known"),
        ({"length": 5}, "the map reads an axis of size 5, but 't' has size 6"),
        ({"size": 3}, "a map to 6 indices needs 6 rows, not 9"),
        ({"length": 10**15, "size": 10**9}, "entries; more than 4194304 are not written out"),
        ({"length": 10**40}, "length is 1000"),
        ({"colour": 3}, "not a program: TypeError"),
    ],
)
def test_records_in_files_are_checked(change, message):
    document = json.loads(program().to_json())
    (at,) = [k for k, entry in enumerate(document["lines"]) if entry.get("index", {}).get("map") == "Window"]
    document["lines"][at]["index"].update(change)
    message = message.replace("line 4", f"line {at + 1}")
    with pytest.raises(ProgramError, match=message):
        Program.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda h: h.windows("t", 3, dilation=3),
            "VALID window of 3 with dilation 3, 7 from end to end, does",
        ),
        (lambda h: h.windows("t", 3, dilation=0), "dilation is 0"),
        (lambda h: h.windows("t", 3, dilation=1.5), "dilation"),
        (lambda h: h.pool("t", 7), "VALID window of 7 does not fit an axis of size 6"),
        (lambda h: h.pool("t", 2, scale=float("nan")), "scale"),
        (lambda h: h.windows("t", 1 << 20, padding="SAME"), "entries; more than"),
        (lambda h: h.map("t", (), Sum(5)), "reads an axis of size 5"),
    ],
)
def test_maps_that_do_not_fit_are_refused(act, message):
    h = program()["h"]
    with pytest.raises(ProgramError, match=message):
        act(h)


def test_an_axis_too_long_to_be_written_out_is_refused_at_once():
    h = Program().vector("x", axes={"t": 10**12})
    for act in (
        lambda: h.sum("t"),
        lambda: h.mean("t"),
        lambda: h.shift(t=1),
        lambda: h.take(t=slice(2, None)),
    ):
        with pytest.raises(ProgramError, match="are not written out"):
            act()
