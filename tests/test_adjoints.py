"""Gradients of kernels of nets with index axes, by inputs and deviations: plain loops and differences."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tests.oracle.differences import slope
from tpnum import nn
from tpnum.errors import LimitError
from tpnum.evaluate import same
from tpnum.interop.function import KernelFunction
from tpnum.law import graph
from tpnum.lower.unsupported import Unsupported
from tpnum.nn.deviations import changed, deviations, paths_of
from tpnum.nn.spec import from_spec

RNG = np.random.default_rng(11)
X, X2 = RNG.standard_normal((3, 4, 4, 2)), RNG.standard_normal((2, 4, 4, 2))
T, T2 = RNG.standard_normal((3, 4, 3)), RNG.standard_normal((2, 4, 3))

CONV = {"op": "Conv", "out_chan": 4, "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.2, "b_std": 0.2}
SMALL = CONV | {"filter_shape": [2, 2], "strides": [2, 2]}
DENSE = {"op": "Dense", "out_dim": 1, "W_std": 1.1}
SPECS = {
    "flat": [CONV, {"op": "Relu"}, CONV, {"op": "Erf"}, {"op": "Flatten"}, DENSE],
    "strided and pooled": [
        CONV, {"op": "Relu"}, {"op": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}, SMALL,
        {"op": "Erf"}, {"op": "GlobalAvgPool"}, DENSE,
    ],
    "positions left": [CONV | {"padding": "VALID"}, {"op": "Relu"}, SMALL],
}  # fmt: skip


def close(made, expected, tolerance=1e-10):
    np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-3))


@pytest.mark.parametrize(("case", "get"), [(next(iter(SPECS)), "nngp"), *((case, "ntk") for case in SPECS)])
def test_convolutions_against_plain_loops(case, get):
    """By x1 and x2 along a direction in both, and by every deviation."""
    spec = {"op": "serial", "layers": SPECS[case]}
    net = from_spec(spec)
    wrt = tuple(deviations(net))

    def sums(layers, x, x2):
        k = loops.kernels({"op": "serial", "layers": layers}, np.concatenate([x, x2]))[get == "ntk"]
        return np.sum(weights * k[: len(x), len(x) :].reshape(weights.shape))

    kernel = tp.kernel(net, X, X2, get=get)
    weights = RNG.standard_normal(kernel.shape)
    value, made = tp.kernel(net, X, X2, get=get, wrt=("x1", *wrt, "x2"), against=weights)
    close(value, sums(SPECS[case], X, X2))
    d, d2 = (RNG.standard_normal(x.shape).astype(np.longdouble) for x in (X, X2))
    expected = slope(lambda t: sums(SPECS[case], X + t * d, X2 + t * d2))
    close(np.sum(made[0] * d) + np.sum(made[-1] * d2), expected)
    for path, found in zip(wrt, made[1:-1], strict=True):
        at, name = int(path.partition("[")[2].partition("]")[0]), path.rpartition(".")[2]

        def moved(t, at=at, name=name):
            layers = [dict(layer) for layer in SPECS[case]]
            layers[at][name] += t
            return sums(layers, X, X2)

        close(found, slope(moved))


NETS = {
    "pooled": (
        nn.serial(nn.Conv(4, (3, 3), b_std=0.2), nn.Gelu(), nn.GlobalAvgPool(), nn.Dense(8), nn.Erf()), X),
    "flat": (nn.serial(nn.Conv(4, (2, 2), b_std=0.2), nn.Relu(), nn.Flatten(), nn.Dense(1)), X),
    "layer norm": (
        nn.serial(nn.Conv(4, (2, 2)), nn.Relu(), nn.LayerNorm((-1, 1, 2)), nn.Flatten(), nn.Dense(1)), X),
    "recurrent": (
        nn.serial(
            nn.SimpleRnn(8, nn.Relu(), W_std=1.1, U_std=0.9, b_std=0.2, return_sequences=False), nn.Dense(1)),
        T),
    "attention": (
        nn.serial(
            nn.Dense(8, b_std=0.3), nn.Relu(),
            nn.GlobalSelfAttention(8, 8, 8, 2, W_key_std=0.8, W_query_std=1.1, b_std=0.1),
            nn.GlobalAvgPool(), nn.Dense(1)),
        T),
    "residual": (
        nn.serial(
            nn.Conv(4, (2, 2)), nn.FanOut(2),
            nn.parallel(nn.serial(nn.Relu(), nn.Conv(4, (3, 3), padding="SAME")), nn.Identity()),
            nn.FanInSum(), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1)),
        X),
}  # fmt: skip


@pytest.mark.parametrize(("case", "get"), [(next(iter(NETS)), "nngp"), *((case, "ntk") for case in NETS)])
def test_an_array_with_itself(case, get):
    """Both arguments move, and the diagonal with them; an example comes twice; weights are not symmetric."""
    net, x = NETS[case]
    x = np.concatenate([x, x[:1]])
    names = tuple(dict.fromkeys(path.rpartition(".")[2] for path in deviations(net)))
    kernel = tp.kernel(net, x, get=get)
    weights = RNG.standard_normal(kernel.shape)
    value, (gradient, *made) = tp.kernel(net, x, get=get, wrt=("x1", *names), against=weights)
    close(value, np.sum(weights * kernel), 1e-12)
    direction = RNG.standard_normal(x.shape)
    direction[3] = direction[0]  # what meets stays together, where the NTK of a kinked function has an angle
    expected = slope(lambda t: np.sum(weights * tp.kernel(net, x + t * direction, get=get)), 5e-4)
    close(np.sum(gradient * direction), expected, 1e-9)
    for name, found in zip(names, made, strict=True):
        paths = paths_of(net, name)

        def moved(t, paths=paths):
            other = changed(net, lambda path, value: value + t if path in paths else value)
            return np.sum(weights * tp.kernel(other, x, get=get))

        close(found, slope(moved), 2e-10)
    whole = tp.kernel(net, x, get=get, wrt=names).derivatives
    close(made, np.sum(weights * whole, axis=tuple(range(1, whole.ndim))), 1e-12)


@pytest.mark.parametrize("case", ["pooled", "flat", "recurrent"])
def test_a_vector(case):
    net, x = NETS[case]
    other, v = (X2 if x is X else T2), RNG.standard_normal(2)
    value, (gradient, by_weights) = tp.kernel(net, x, other, get="ntk", wrt=("x1", "W_std"), against=v)
    kernel, slopes = tp.kernel(net, x, other, get="ntk", wrt="W_std")
    close(value, kernel @ v, 1e-12)
    close(by_weights, slopes @ v, 1e-12)
    for i in range(len(x)):
        alone = tp.kernel(net, x[i : i + 1], other, get="ntk", wrt="x1", against=v[None]).derivatives
        close(gradient[i], alone[0], 1e-12)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_near_duplicates_in_many_digits(get):
    """Two positions under a window, by arc-cosines; relative distances down to 1e-6."""
    net = nn.serial(nn.Conv(4, (2, 2), W_std=1.2, b_std=0.3), nn.Relu(), nn.Flatten(), nn.Dense(1, W_std=0.9))
    x, d = X[0, :3, :2], RNG.standard_normal((3, 2, 2))

    def kernel(t, y):
        total = mpmath.mpf(0)
        for top in (0, 1):
            u = [
                mpmath.mpf(a) + t * b
                for a, b in zip(x[top : top + 2].flat, d[top : top + 2].flat, strict=True)
            ]
            v = [mpmath.mpf(a) for a in y[top : top + 2].flat]
            q, r, c = (
                mpmath.mpf(1.2) ** 2 * sum(a * b for a, b in zip(*both, strict=True)) / 8
                + mpmath.mpf(0.3) ** 2
                for both in ((u, u), (v, v), (u, v))
            )
            angle = mpmath.acos(c / mpmath.sqrt(q * r))
            k = mpmath.sqrt(q * r) * (mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle))
            total += k + (mpmath.pi - angle) * c * (get == "ntk")
        return mpmath.mpf(0.9) ** 2 * total / (4 * mpmath.pi)

    for size in (1e-2, 1e-4, 1e-6):
        y = x + size * RNG.standard_normal(x.shape)
        made = tp.kernel(net, x[None], y[None], get=get, wrt="x1", against=np.ones((1, 1))).derivatives
        with mpmath.workdps(60):
            expected = mpmath.diff(lambda t, y=y: kernel(t, y), 0, h=mpmath.mpf(10) ** -25)
        assert np.sum(made * d) == pytest.approx(float(expected), rel=1e-14 / size)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_zero_patches(get):
    """A black corner: a convolution without bias sees nothing there, and smooth functions have a slope."""
    net = nn.serial(nn.Conv(4, (2, 2)), nn.Erf(), nn.GlobalAvgPool(), nn.Dense(4), nn.Gelu(), nn.Dense(1))
    x = X.copy()
    x[0, :3, :3] = 0.0
    x[1] = 0.0
    weights, direction = RNG.standard_normal((3, 2)), RNG.standard_normal(x.shape)
    made = tp.kernel(net, x, X2, get=get, wrt="x1", against=weights).derivatives
    expected = slope(lambda t: np.sum(weights * tp.kernel(net, x + t * direction, X2, get=get)))
    close(np.sum(made * direction), expected, 1e-8)


def test_masked_sequences():
    """Padding has no gradient, and what is differentiated is the masked net."""
    net = nn.serial(nn.Conv(4, (2,), b_std=0.3, padding="SAME"), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    x = T.copy()
    x[0, 2:] = 50.0
    weights = RNG.standard_normal((3, 3))
    options = {"get": "ntk", "mask_constant": 50.0}
    value, (made, by_bias) = tp.kernel(net, x, wrt=("x1", "b_std"), against=weights, **options)
    close(value, np.sum(weights * tp.kernel(net, x, **options)), 1e-12)
    direction = RNG.standard_normal(x.shape)
    direction[0, 2:] = 0.0
    assert not made[0, 2:].any()
    expected = slope(lambda t: np.sum(weights * tp.kernel(net, x + t * direction, **options)))
    close(np.sum(made * direction), expected)
    close(by_bias, np.sum(weights * tp.kernel(net, x, wrt="b_std", **options).derivatives), 1e-12)


def test_tiles_and_threads(monkeypatch):
    from tpnum.tiles.gradients import contracted

    net, x = NETS["pooled"]
    weights = RNG.standard_normal((3, 3))
    whole = tp.kernel(net, x, get="ntk", wrt=("x1", "b_std"), against=weights).derivatives
    monkeypatch.setattr(contracted, "adjoint_side", lambda plan: 2)
    parts = [
        tp.kernel(net, x, get="ntk", wrt=("x1", "b_std"), against=weights, n_jobs=n).derivatives
        for n in (1, 2)
    ]
    for one, two, all_ in zip(*parts, whole, strict=True):
        np.testing.assert_array_equal(one, two)
        close(one, all_, 1e-13)


BLACK = np.concatenate([X, np.zeros_like(X[:1]), X[:1]])
BLACK[1, :3, :3] = 0.0
CELLS = {
    "erf": (nn.serial(nn.Conv(4, (2, 2), padding="SAME"), nn.Erf(), nn.Flatten(), nn.Dense(1)), BLACK),
    "averaged": (
        nn.serial(
            nn.Conv(4, (3, 3), b_std=0.2, padding="SAME"), nn.Relu(), nn.AvgPool((2, 2), (2, 2)),
            nn.Conv(4, (2, 2), b_std=0.1), nn.Sin(), nn.GlobalAvgPool(), nn.Dense(8, b_std=0.1), nn.Abs(),
            nn.Dense(1)),
        np.concatenate([X, X[:1]])),
    "residual": NETS["residual"],
    "series": (
        nn.serial(
            nn.Conv(4, (2, 2), b_std=0.3), nn.Relu(), nn.Conv(4, (2, 2), b_std=0.2), nn.Tanh(),
            nn.AvgPool((1, 2)), nn.Dense(4), nn.Gelu(), nn.Flatten(), nn.Dense(1)),
        X),
    "positions": (nn.serial(nn.Conv(4, (2,), b_std=0.1, padding="SAME"), nn.Relu(), nn.Conv(1, (3,))), T),
    "gelu": (
        nn.serial(
            nn.Conv(4, (2, 2), W_std=3.0, padding="SAME"), nn.Gelu(), nn.Conv(4, (2, 2), b_std=0.1),
            nn.Gelu(), nn.GlobalAvgPool(), nn.Dense(1)),
        BLACK),
}  # fmt: skip


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("case", CELLS)
def test_cells_and_the_general_way_back(case, get, monkeypatch):
    """Compiled and by NumPy, of an array with itself and of two."""
    from tpnum.tiles.gradients import cells, contracted

    net, x = CELLS[case]
    for other in (None, T2 if x is T else X2):
        names = ("x1", *deviations(net), *(("x2",) if other is not None else ()))
        weights = RNG.standard_normal(tp.kernel(net, x, other, get=get).shape)
        value, made = tp.kernel(net, x, other, get=get, wrt=names, against=weights)
        with monkeypatch.context() as patch:
            patch.setattr(cells.CellAdjoints, "__init__", refused)
            by_graph, expected = tp.kernel(net, x, other, get=get, wrt=names, against=weights)
        close(value, by_graph, 1e-12)
        for one, right in zip(made, expected, strict=True):
            close(np.asarray(one), np.asarray(right), 1e-12)
        with monkeypatch.context() as patch:  # it was no other that was compiled
            patch.setattr(contracted, "PairAdjoints", None)
            tp.kernel(net, x, other, get=get, wrt=names, against=weights)


def test_pairs_that_series_do_not_reach(monkeypatch):
    """Those of near inputs go by the general rules, all others by series."""
    from tpnum.tiles.gradients import cells, contracted

    net = nn.serial(nn.Conv(4, (2,), W_std=4.0, b_std=0.1), nn.Tanh(), nn.Flatten(), nn.Dense(1))
    x = np.concatenate([T, T[:1] + 1e-3 * T[1:2]])
    weights, names = RNG.standard_normal((4, 4)), ("x1", "W_std", "b_std")
    by_graph, taken = contracted._Sums._by_graph, []

    def counted(sums, tile):
        taken.append(tile.rows.stop - tile.rows.start)
        return by_graph(sums, tile)

    monkeypatch.setattr(contracted._Sums, "_by_graph", counted)
    value, made = tp.kernel(net, x, get="ntk", wrt=names, against=weights)
    assert 0 < sum(taken) < 4
    monkeypatch.setattr(cells.CellAdjoints, "__init__", refused)
    right, expected = tp.kernel(net, x, get="ntk", wrt=names, against=weights)
    close(value, right, 1e-10)
    for one, two in zip(made, expected, strict=True):
        close(np.asarray(one), np.asarray(two), 1e-9)


@pytest.mark.parametrize(("size", "apart"), [(1.0, False), (30.0, True)])
def test_an_example_and_itself_where_series_reach(size, apart, monkeypatch):
    """It is a pair like others if they do for the largest variances, and comes from elsewhere if not."""
    from tpnum.tiles.gradients import cells, contracted

    net = nn.serial(nn.Conv(4, (2,), b_std=0.1), nn.Tanh(), nn.GlobalAvgPool(), nn.Dense(1))
    x = np.concatenate([T, size * T[:1]])
    weights, names, made = RNG.standard_normal((4, 4)), ("x1", "W_std", "b_std"), []
    compiled = cells.CellAdjoints

    def noted(*given, **more):
        made.append(compiled(*given, **more))
        return made[-1]

    monkeypatch.setattr(contracted, "CellAdjoints", noted)
    value, found = tp.kernel(net, x, get="ntk", wrt=names, against=weights)
    assert [one.apart for one in made] == [apart]
    monkeypatch.setattr(contracted, "CellAdjoints", refused)
    right, expected = tp.kernel(net, x, get="ntk", wrt=names, against=weights)
    close(value, right, 1e-11)
    for one, two in zip(found, expected, strict=True):
        close(np.asarray(one), np.asarray(two), 1e-9)


def near_and_alike():
    """A deep tanh net whose derivatives have no end of terms, and images with equal and opposite patches."""
    conv = [
        nn.Conv(4, (2, 2), W_std=std, b_std=bias, padding="SAME") for std, bias in ((1.6, None), (1.3, 0.2))
    ]
    net = nn.serial(conv[0], nn.Tanh(), conv[1], nn.Tanh(), nn.GlobalAvgPool(), nn.Dense(1))
    x = np.concatenate([X, X[:1], -X[1:2]])
    x[1, :2] = x[1, 2:]
    x[2] = x[2, 0, 0]
    return net, x


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_positions_and_examples_that_coincide_need_no_series(get, monkeypatch):
    """The adjoints at |rho| = 1 are known: nothing is left to NumPy, by whose rules it is the same."""
    from tpnum.evaluate import profile_adjoints
    from tpnum.tiles.gradients import cells, contracted

    net, x = near_and_alike()
    weights, names = RNG.standard_normal((len(x), len(x))), ("x1", *deviations(net))
    with monkeypatch.context() as patch:
        for module in (contracted, profile_adjoints):
            patch.setattr(module, "PairAdjoints", None)
        value, made = tp.kernel(net, x, get=get, wrt=names, against=weights)
    monkeypatch.setattr(cells.CellAdjoints, "__init__", refused)
    right, expected = tp.kernel(net, x, get=get, wrt=names, against=weights)
    close(value, right, 1e-12)
    for one, two in zip(made, expected, strict=True):
        close(np.asarray(one), np.asarray(two), 1e-10)


def test_variances_that_series_do_not_reach_are_those_of_some_examples(monkeypatch):
    """Of K(x, x) only examples with positions too close together go by NumPy."""
    from tpnum.evaluate import profile_adjoints
    from tpnum.tiles.gradients import cells

    net = nn.serial(nn.Conv(4, (1,), W_std=9.0, b_std=0.1), nn.HardTanh(), nn.GlobalAvgPool(), nn.Dense(1))
    x = RNG.standard_normal((12, 3, 40))
    x[5, 1] = x[5, 2] * (1.0 + 1e-4)
    alone, taken = profile_adjoints.PairAdjoints, []

    def counted(tile, *more):
        taken.append(tile.counts[0])
        return alone(tile, *more)

    monkeypatch.setattr(profile_adjoints, "PairAdjoints", counted)
    monkeypatch.setattr(same, "ENTRIES", 1)  # one at a time
    weights, names = np.diag(RNG.standard_normal(12)), ("x1", "W_std", "b_std")
    _, made = tp.kernel(net, x, wrt=names, against=weights)
    assert 0 < sum(taken) < 12
    monkeypatch.setattr(cells.CellAdjoints, "__init__", refused)
    _, expected = tp.kernel(net, x, wrt=names, against=weights)
    for one, two in zip(made, expected, strict=True):
        close(np.asarray(one), np.asarray(two), 1e-9)


def refused(*given):
    raise Unsupported("for comparison")


def test_cells_in_tiles_and_threads():
    """Several strips and rows of tiles; parts of the matrix add up."""
    net = nn.serial(nn.Conv(4, (2,), b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    x, names = RNG.standard_normal((150, 4, 2)), ("W_std", "b_std")
    weights = RNG.standard_normal((150, 150))
    one, two = (
        tp.kernel(net, x, get="ntk", wrt=names, against=weights, n_jobs=n).derivatives for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    total = np.zeros(2)
    for low in (0, 70):
        rows = slice(low, 70 if low == 0 else 150)
        total += tp.kernel(net, x[rows], x, get="ntk", wrt=names, against=weights[rows]).derivatives
    close(one, total, 1e-12)


def test_random_logits_have_no_derivative():
    net = nn.serial(nn.GlobalSelfAttention(8, 8, 8, 2, linear_scaling=False), nn.GlobalAvgPool(), nn.Dense(1))
    with pytest.raises(LimitError, match="derivative"):
        tp.kernel(net, T, wrt="x1", against=np.ones((3, 3)))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_products_of_images_as_rows(get):
    """What other libraries ask for: images as flat rows, with others, with themselves, and the diagonal."""
    net = nn.serial(nn.Conv(4, (2, 2), b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    k = KernelFunction.of(net, get, input_shape=(3, 3, 2))
    x, x2 = X[:, :3, :3].reshape(3, -1), X2[:, :3, :3].reshape(2, -1)
    d, d2, e = (RNG.standard_normal(a.shape) for a in (x, x2, k.values))
    w, own, alone = RNG.standard_normal((3, 2)), RNG.standard_normal((3, 3)), RNG.standard_normal(3)
    made = k.pull(w, k.values, x, x2)
    expected = slope(lambda t: np.sum(w * k(k.values + t * e, x + t * d, x2 + t * d2)), 1e-3)
    close(sum(np.sum(a * b) for a, b in zip(made, (e, d, d2), strict=True)), expected)
    made = k.pull(own, k.values, x, x)
    expected = slope(lambda t: np.sum(own * k(k.values + t * e, x + t * d, x + t * d)), 1e-3)
    close(sum(np.sum(a * b) for a, b in zip(made, (e, d, d), strict=True)), expected)
    made = k.pull_diagonal(alone, k.values, x)
    expected = slope(lambda t: np.sum(alone * k.diagonal(k.values + t * e, x + t * d)), 1e-3)
    close(sum(np.sum(a * b) for a, b in zip(made, (e, d), strict=True)), expected)


def test_examples_together_are_as_those_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variances of sums over positions, and the way back through them, do not see other examples."""
    net = nn.serial(
        nn.Dense(4, W_std=1.3, b_std=0.2), nn.GlobalSelfAttention(4, 4, 4, 2), nn.Relu(), nn.GlobalAvgPool(),
        nn.Dense(1, W_std=0.9),
    )  # fmt: skip
    rng = np.random.default_rng(5)
    x, weights = rng.standard_normal((5, 3, 2)), rng.standard_normal((5, 5))
    names = ("W_std", "b_std", "x1")
    found = []
    for entries in (1, same.ENTRIES):
        monkeypatch.setattr(same, "ENTRIES", entries)
        made = tp.kernel(net, x, get="ntk", wrt=names, against=weights)
        spread = tp.kernel(net, x, get="ntk", wrt=names[:2])
        found.append((np.array(made.kernel), *made.derivatives, *spread))
    for alone, together in zip(*found, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-11, atol=1e-12)


def _compiled(net, x, monkeypatch):
    """The programs that a way back compiles, in order."""
    from tpnum.lower.program import Program

    made, init = [], Program.__init__

    def noted(program, *given):
        init(program, *given)
        made.append(program)

    weights = RNG.standard_normal((len(x), 2))
    with monkeypatch.context() as patch:
        patch.setattr(Program, "__init__", noted)
        tp.kernel(net, x, x[:2], get="ntk", wrt=("x1", "W_std"), against=weights)
    return made


RECURRENT = nn.serial(nn.SimpleRnn(4, nn.Tanh(), b_std=0.2, return_sequences=False), nn.Dense(1))


@pytest.mark.parametrize(("net", "x"), [NETS["flat"], (RECURRENT, T)])
def test_one_region_is_compiled_once_both_ways(net, x, monkeypatch):
    """No program runs forwards alone where no other region reads what it makes."""
    from tpnum.lower.turned import BackwardsProgram

    assert [type(program) for program in _compiled(net, x, monkeypatch)] == [BackwardsProgram]


def test_second_derivatives_are_made_of_the_coefficients_that_are_there(monkeypatch):
    """Those of f'' are coefficients of f two degrees on: nothing is laid out for them."""
    from tpnum.lower.tables import SeriesTables

    tables, lean = [], SeriesTables.lean
    monkeypatch.setattr(SeriesTables, "lean", lambda self, *given: tables.append(self) or lean(self, *given))
    _compiled(RECURRENT, T, monkeypatch)
    series = {id(one): one for one in tables}.values()
    assert sum(len(one.leaning) for one in series) == len(tables) > 0
    for one in series:
        assert all(one.width(number, side) == 0 for number in one.leaning for side in (0, 1))
        assert all(one.width(on, 0) >= one.entries[curve][1] for curve, on in one.leaning.items())


def test_few_of_many_examples_have_the_series_of_all():
    """As where the last of many are prepared alone: series have as many terms there, or pairs are missed."""
    from tpnum.lower.variances import Variances
    from tpnum.tiles.inputs import plan_of

    net = nn.serial(nn.Dense(4, W_std=3.0), nn.Tanh(), nn.Dense(1))
    data = {"": RNG.standard_normal((60, 5))}
    variances = Variances()
    plan = plan_of(net, data, None, ("nngp",))
    whole, _ = plan.profiles(data, None, variances=variances)
    (dual,) = (n for n in graph.schedule([e.node for e in plan.entries["nngp"]]) if isinstance(n, graph.Dual))
    few = variances.part(variances.part(whole, slice(20, 50)), slice(0, 3))
    every, some = (p.prepared(dual.call.f, None, dual.call.vars[0], ()) for p in (whole, few))
    assert some.series.most == every.series.most
    np.testing.assert_allclose(some.second, every.second[20:23], rtol=1e-15)


def test_variances_lay_out_coefficients_once_for_both_sides(monkeypatch):
    """An example and itself read the same ones, by rows and by columns."""
    from tpnum.evaluate.same import same_input
    from tpnum.lower import program
    from tpnum.lower.variances import Variances
    from tpnum.tiles.inputs import plan_of

    net = nn.serial(nn.Conv(4, (3,), padding="SAME"), nn.Tanh(), nn.GlobalAvgPool(), nn.Dense(4), nn.Erf())
    data = {"": RNG.standard_normal((50, 6, 2))}
    plan = plan_of(net, data, None, ("nngp",))
    profile, _ = plan.profiles(data, None, variances=Variances())
    nodes = graph.schedule([entry.node for entry in plan.entries["nngp"]])
    pooled = [node.call.vars[0] for node in nodes if isinstance(node, graph.Dual)][-1]
    while not isinstance(pooled, graph.Reduced):
        (pooled,) = profile._sources(pooled)
    made, lay = [], program.lay_series
    monkeypatch.setattr(program, "lay_series", lambda *given: made.append(lay(*given)) or made[-1])
    found = profile(pooled)
    assert sum(one.places[0][1] > 0 for one in made if one.places) == 1
    np.testing.assert_allclose(found, same_input(profile, pooled.pair, pooled.axes), rtol=1e-12)
