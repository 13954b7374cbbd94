"""Averages over draws at finite width, and the limit held against them."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum.errors import InputError
from tpnum.finite.simulations import line_fit


def tied():
    p = tp.Program()
    p.dim("m", 2.0)
    x, a = p.vector("x"), p.matrix("A", var=1.3, rows="m", cols="n")
    h = tp.tanh(a @ x)
    b = a.T @ h
    return p, x, h, b, p.mean(b * x)


def test_averages_are_those_of_single_draws():
    p, x, h, b, m = tied()
    made = tp.simulations(p, {"n": 30, "m": 50}, seeds=[3, 5, 11], n_jobs=2)
    single = [tp.simulate(p, {"n": 30, "m": 50}, s) for s in (3, 5, 11)]
    for found, values in [
        (made.scalar(m), [s[m] for s in single]),
        (made.mean(h), [s[h].mean() for s in single]),
        (made.moment(b, x), [np.mean(s[b] * s[x]) for s in single]),
        (made.expect(lambda u, v: np.exp(u) * v, h, h), [np.mean(np.exp(s[h]) * s[h]) for s in single]),
    ]:
        assert found.value == pytest.approx(np.mean(values), rel=1e-13)
        assert found.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=1e-10)
        assert found.cost == 3
    again = tp.simulations(p, {"n": 30, "m": 50}, seeds=[3, 5, 11], n_jobs=1)
    assert again.moment(b, x).value == made.moment(b, x).value


def test_the_fit_is_a_weighted_line():
    """Values limit + c/n with noise of known size: unbiased, and z-scores of variance one."""
    rng = np.random.default_rng(0)
    widths, errors = np.array([50.0, 100.0, 400.0]), np.array([[0.1], [0.05], [0.08]]) * np.ones(4000)
    values = 2.0 + 30.0 / widths[:, None] + errors * rng.standard_normal((3, 4000))
    limit, error, slope = line_fit(widths, values, errors)
    z = (limit - 2.0) / error
    assert abs(z.mean()) < 4 / np.sqrt(4000)
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert slope.mean() == pytest.approx(30.0, abs=0.5)


def test_the_limit_is_compared():
    p, x, h, b, m = tied()
    made = tp.compare(p, widths=[60, 120, 240], seeds=60)
    labels = {row.label for row in made}
    assert labels >= {m.name, *(f"E {v.name} {v.name}" for v in (x, h, b))}
    assert abs(made.worst.z) < 4.5
    assert "n = 120" in str(made)
    right = next(row for row in made if row.label == m.name)
    wrong = tp.compare(p, [60, 120, 240], [m], seeds=60, independence="assume").rows[0]
    assert wrong.limit == 0
    assert wrong.z > 10
    assert (right.extrapolated, right.values) == (wrong.extrapolated, wrong.values)
    assert right.limit == pytest.approx(right.extrapolated, abs=5 * right.error)


def test_families_pairs_and_functions():
    p = tp.Program()
    x, w = p.vector("x", axes={"t": 2}, fresh=True), p.matrix("W")
    g = w @ x
    made = tp.compare(p, [40, 80], [g, (g, x), (lambda u: np.cos(u), g)], seeds=30)
    assert len(made.rows) == 4 + 4 + 2
    assert made.rows[1].label == f"E {g.name} {g.name}[0,1]"
    assert made.rows[-1].limit == pytest.approx(np.exp(-0.5))
    assert abs(made.worst.z) < 4.5


def test_what_vanishes_at_every_width_has_no_score():
    p = tp.Program()
    g = p.matrix("W") @ p.zeros()
    (row,) = tp.compare(p, [20, 40], [g], seeds=4).rows
    assert (row.limit, row.extrapolated, row.z) == (0, 0, 0)


def test_a_scan_and_its_gradients():
    """Gradients through Moments are not independent: the corrected limit, by the names of the families."""
    p = tp.Program()
    w, x = p.matrix("W", var=1.2), p.vector("x", axes={"t": 3}, fresh=True)
    with p.scan("t") as loop:
        s = loop.carry("n")
        new = tp.tanh(w @ s + loop.slice(x))
        overlap = tp.mean(new * s)
        loop.next(s, new)
        last, overlaps = loop.last(s), loop.stack(overlap)
    gradient = p.backward({last: p.vector("v"), overlaps: 1.0})[x]
    assert gradient.name == "grad.x"
    made = tp.compare(p, [50, 100, 200], [gradient, (gradient, x), last], seeds=40)
    assert made.law.corrections
    assert len(made.rows) == 19
    assert abs(made.worst.z) < 4.5
    assert len({len(line) for line in str(made).splitlines()}) == 1


def test_widths_by_dimension():
    p, *_, m = tied()
    made = tp.compare(p, [{"n": 40, "m": 80}, {"n": 80, "m": 160}], [m], seeds=20)
    assert made.widths == pytest.approx((40, 80))


def test_the_picture(tmp_path):
    p, *_, b, m = tied()
    made = tp.compare(p, [40, 80], [m, b], seeds=8)
    ax = made.plot()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["\u221e", "40", "80"]
    points, end = ax.containers[:2]  # of the quantity with the largest |z|
    size = max(abs(made.worst.limit), *map(abs, made.worst.values))
    expected = (np.array(made.worst.values) - made.worst.limit) / size
    np.testing.assert_allclose(points[0].get_ydata(), expected)
    assert end[0].get_ydata()[0] == pytest.approx((made.worst.extrapolated - made.worst.limit) / size)
    assert f"z = {made.worst.z:+.1f}" in ax.get_legend().get_texts()[0].get_text()
    ax.figure.savefig(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert made.plot(ax) is ax


def test_refusals():
    p, x, *_ = tied()
    for call, words in [
        (lambda: tp.compare(p, [100]), "widths"),
        (lambda: tp.compare(p, [100, 100]), "widths"),
        (lambda: tp.compare(p, [50, 100], ["nobody"]), "quantity"),
        (lambda: tp.compare(p, [50, 100], [(x, x, x)]), "quantity"),
        (lambda: tp.compare(tp.Program(), [50, 100]), "no scalar"),
        (lambda: tp.simulations(p, 50, seeds=1), "seeds"),
        (lambda: tp.simulations(p, 50, seeds=[2, 2]), "seeds"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
