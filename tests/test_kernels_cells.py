"""The operations of cells, each alone: strips of pairs in both precisions against formulas read aloud."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest

from tests.oracle import loops
from tests.oracle.random_images import spec
from tests.oracle.roads import CELLS, GENERAL, kernels
from tpnum import nn
from tpnum.kernels import cells, increments, machine, mixing
from tpnum.kernels._arrays import LINE, aligned
from tpnum.kernels._views import WIDTH
from tpnum.lower import program
from tpnum.lower.windows import runs, slides

DTYPES = [np.float64, np.float32]
EPS = {t: np.finfo(t).eps for t in DTYPES}
ROW = 1
"""The row example of three."""


def lanes(dtype):
    return WIDTH // np.dtype(dtype).itemsize


def strips(dtype, count, seed=0, low=0.5, high=2.0):
    """Row numbers (count, 3) and column numbers (count, lanes)."""
    rng = np.random.default_rng(seed)
    made = rng.uniform(low, high, (count, 3)), rng.uniform(low, high, (count, lanes(dtype)))
    return tuple(a.astype(dtype) for a in made)


def correlations(dtype, seed=1):
    """rho at the lanes, with both ends, and its co-correlation e = copysign(1 - |rho|, rho)."""
    rho = np.random.default_rng(seed).uniform(-1, 1, lanes(dtype)).astype(dtype)
    rho[:5] = (1, -1, 0, 0.5, -0.5)
    return rho.astype(np.float64), np.copysign(1 - np.abs(rho), rho).astype(dtype)


def close(made, want, dtype, ulps=16):
    want = np.asarray(want, np.float64)
    np.testing.assert_allclose(made, want, rtol=0, atol=ulps * EPS[dtype] * max(np.abs(want).max(), 1e-30))


@pytest.mark.parametrize("dtype", DTYPES)
def test_co(dtype):
    """1 - rho = (D - (r - r')^2) / (2 r r')."""
    rho, _ = correlations(dtype)
    rows, cols = strips(dtype, 2)
    rows[1], cols[1] = 1 / rows[0], 1 / cols[0]
    r, s = rows[0, ROW].astype(float), cols[0].astype(float)
    d = ((r - s) ** 2 + 2 * r * s * (1 - rho)).astype(dtype)
    made = np.empty_like(d)
    increments.correlations(made, d, rows, cols, 0, ROW)
    close(made, np.where(rho >= 0, 1 - rho, -(1 + rho)), dtype, ulps=64)
    # duplicates are told exactly, and so are the zeros of a padding
    cols[0], cols[1] = rows[0, ROW], rows[1, ROW]
    increments.correlations(made, np.zeros_like(d), rows, cols, 0, ROW)
    assert (made == 0).all() and not np.signbit(made).any()
    rows[:], cols[:] = 0, 0
    increments.correlations(made, np.zeros_like(d), rows, cols, 0, ROW)
    assert (made == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gain(dtype):
    """A term c s rho: E (Z - Z')^2 gains c s + c' s' - (c s' + c' s) rho."""
    rho, e = correlations(dtype)
    rows, cols = strips(dtype, 2)
    (c, s), (d, t) = rows[:, ROW].astype(float), cols.astype(float)
    made = np.full_like(e, 0.25)
    increments.gain(made, e, rows, cols, 0, 1, ROW)
    close(made, 0.25 + c * s + d * t - (c * t + d * s) * rho, dtype)
    made[:] = 0
    increments.gain(made, e[:0], rows, cols, 0, 1, ROW)
    close(made, (c - d) * (s - t), dtype)
    cols[:] = rows[:, ROW, None]
    made[:] = 0
    increments.gain(made, np.zeros_like(e), rows, cols, 0, 1, ROW)
    assert (made == 0).all()
    cols[:] = 0  # the padding: what is left is the row's second moment
    increments.gain(made, e, rows, cols, 0, 1, ROW)
    close(made, np.full(made.shape, c * s), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_terms_of_covariances(dtype):
    rho, e = correlations(dtype)
    rows, cols = strips(dtype, 2)
    r, s = rows[0, ROW].astype(float), cols[0].astype(float)
    b, c = (np.random.default_rng(k).standard_normal(e.size).astype(dtype) for k in (3, 4))
    for call, want in (
        (lambda a: machine.add_rho(a, e, rows, cols, 0, ROW, 0), r * s * rho),
        (lambda a: machine.add(a, b, rows, cols, 0, ROW, 0), r * s * b),
        (lambda a: machine.add_product(a, b, c, rows, cols, 0, ROW, 0), r * s * (b.astype(float) * c)),
        (lambda a: machine.add_outer(a, rows, cols, 0, ROW, 0), r * s),
    ):
        made = np.full_like(e, 2.0)
        call(made)
        close(made, 2.0 + want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_and_both(dtype):
    rho, e = correlations(dtype)
    rows, cols = strips(dtype, 1)
    made = np.empty_like(e)
    covariance = (rho / (rows[0, ROW].astype(float) * cols[0])).astype(dtype)
    machine.normal(made, covariance, rows, cols, 0, ROW, 0)
    close(made, np.copysign(1 - np.abs(rho), rho), dtype)
    other = np.roll(rho, 1)
    machine.both(made, e, np.roll(e, 1))
    close(np.copysign(1 - np.abs(made.astype(float)), made), rho * other, dtype)
    machine.both(made, np.zeros_like(e), np.zeros_like(e))
    assert (made == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_data(dtype, channels):
    """Increments and products of data at several cells, summed in float64 whatever the registers are."""
    rng = np.random.default_rng(channels)
    v = lanes(dtype)
    x, y = rng.standard_normal((3, channels)), rng.standard_normal((4, channels, 2 * v))
    work, total = np.full(8 * v, 7, dtype), np.empty(2 * v)
    cells = np.array([1, 0, 1]), np.array([3, 2, 0])
    place = (work, v, cells, x.ravel(), (channels, channels), y.ravel(), (0, 2 * channels * v), channels)
    left, right = x[cells[0] + 1, :, None], y[cells[1]]
    increments.differences(*place, total)
    close(work[v : 7 * v].reshape(3, 2 * v), ((left - right) ** 2).sum(1), dtype, 4)
    increments.products(*place, total)
    close(work[v : 7 * v].reshape(3, 2 * v), (left * right).sum(1), dtype, 4)
    x[2] = y[3, :, 5]
    increments.differences(*place, total)
    assert work[v + 5] == 0.0
    assert (work[:v] == 7).all() and (work[7 * v :] == 7).all()


def windows(rng, n, m, size):
    """A map of n cells to m as a matrix and as taps: windows that move on, the last cells being padding."""
    made = np.zeros((m, n))
    for row in range(m):
        for k in range(size):
            made[row, (row + k) % n] = rng.choice([0.5, 1.0]) if row % 4 == 3 else 0.25
    found = [np.flatnonzero(row) for row in made]
    return made, found, [row[at] for row, at in zip(made, found, strict=True)]


def taps_of(first, second, dtype):
    """What `mixing` reads of the maps along two axes, (index, weights) by cell each."""
    index, weights = (np.concatenate([*x, *y]) for x, y in zip(first, second, strict=True))
    pointer = np.cumsum([0, *map(len, first[0]), *map(len, second[0])])
    alike = runs(pointer, index, weights), slides(pointer, index, weights)
    return pointer, index.astype(np.int64), weights.astype(dtype), *alike


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5])
def test_maps_of_two_axes_line_by_line(dtype, size):
    rng = np.random.default_rng(size)
    v, (n1, n2), (m1, m2) = lanes(dtype), (6, 7), (5, 9)
    (a, *first), (b, *second) = windows(rng, n1, m1, size), windows(rng, n2, m2, size)
    taps = taps_of(first, second, dtype)
    x = rng.standard_normal((n1, n2, v)).astype(dtype)
    work = aligned((n1 * n2 + m1 * m2 + n2) * v, dtype)
    work[: x.size], work[x.size :] = x.ravel(), np.nan
    sizes = np.array([(n1, n2), (n1, n2), (m1, m2), (m1, m2)])
    goal, spare = x.size, x.size + m1 * m2 * v
    for lines in ((3, m1), (0, 2), (2, 2), (2, 3)):
        mixing.mix(work, goal, 0, spare, taps, np.array([0, m1]), sizes, 2, *lines, v)
    close(work[goal:spare].reshape(m1, m2, v), np.einsum("ap,bq,pqk->abk", a, b, x), dtype)
    for inner in (n1, 3):
        reached = [max([k for k in row if k < inner], default=-1) for row in first[0]]
        assert [mixing.reach(taps, m, inner) for m in range(m1)] == reached


def sliding(m, pads):
    """A map to m cells that sums each with those beside it, of m and as many of the padding as there are."""
    made = np.eye(m, m + 2) + np.eye(m, m + 2, 1) + np.eye(m, m + 2, -1)
    made[-1, m], ends = 0.0, [(0, m), (-1, m + 1)]
    for row, column in ends[:pads]:
        made[row, column] = 1.0
    found = [np.flatnonzero(row) for row in made]
    return 0.25 * made, found, [np.full(at.size, 0.25) for at in found]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "pads"), [((2, 3), 2), ((5, 2), 0), ((3, 4), 1), ((1, 6), 2), ((6, 5), 2)])
def test_windows_that_slide_in_two_axes(dtype, shape, pads):
    """Also where the lines are not all made at once, the last of them alone."""
    rng = np.random.default_rng(pads)
    v, (m1, m2) = lanes(dtype), shape
    (a, *first), (b, *second) = sliding(m1, pads), sliding(m2, 2 - pads)
    taps = taps_of(first, second, dtype)
    assert (taps[4][: m1 - 1, 1:3] >= 0).all() and (taps[4][m1:-1, 1:3] >= 0).all()
    x = rng.standard_normal((m1 + 2, m2 + 2, v)).astype(dtype)
    work = aligned(2 * x.size + (m2 + 2) * v, dtype)
    sizes = np.array([(m1 + 2, m2 + 2), (m1 + 2, m2 + 2), (m1, m2), (m1, m2)])
    for pieces in ([0, m1], [0, m1 - 1, m1], [0, 0, (m1 + 1) // 2, m1]):
        work[: x.size], work[x.size :] = x.ravel(), np.nan
        for lines in pairwise(pieces):
            mixing.mix(work, x.size, 0, 2 * x.size, taps, np.array([0, m1]), sizes, 2, *lines, v)
        made = work[x.size : x.size + m1 * m2 * v].reshape(m1, m2, v)
        close(made, np.einsum("ap,bq,pqk->abk", a, b, x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_begin_where_a_line_of_the_caches_does(dtype):
    for size in (1, 7, 1000):
        made = aligned(size, dtype)
        assert made.shape == (size,) and made.dtype == dtype and not made.any()
        assert made.ctypes.data % LINE == 0


# y = 1 - rho as a float, kappa_0 = (pi - theta) / pi, kappa_1 = (sin theta + (pi - theta) cos theta) / pi and
# 1 - kappa_1 at it, by mpmath with 60 digits
RECTIFIED = np.array(
    [
        (0.0, 1.0, 1.0, 0.0),
        (1e-12, 0.99999954984184192, 0.999999999999, 9.9999969989456126e-13),
        (0.5, 0.66666666666666667, 0.60899778104422936, 0.39100221895577064),
        (0.99999999, 0.50000000318309888, 0.31830989118379071, 0.68169010881620929),
        (1.0, 0.5, 0.31830988618379067, 0.68169011381620933),
        (1.00000001, 0.49999999681690116, 0.31830988118379072, 0.68169011881620928),
        (1.5, 0.33333333333333333, 0.10899778104422936, 0.89100221895577064),
        (1.999999999999, 4.5017816729509206e-7, 3.0014545893087119e-19, 1.0),
        (2.0, 0.0, 0.0, 1.0),
    ]
)


def rectify(dtype, d, t, rows, cols, constants, flag, padded=0):
    """`increments.relu` on one cell: (new increments, new tangent source)."""
    v = lanes(dtype)
    work = np.concatenate([d, np.zeros(0) if t is None else t]).astype(dtype)
    where = np.zeros(1, np.int64)
    here = (where, where.copy(), np.full(1, padded, np.int64))
    fixed = np.empty(5 * v, dtype)
    increments.constants(constants[0], constants[1].ravel(), 0, ROW, fixed)
    increments.relu(
        work, 0, -1 if t is None else v, here, (rows.ravel(), cols.ravel()), (ROW, 0, 3), (0, 0),
        constants[0][0, ROW], flag, fixed,
    )  # fmt: skip
    return work[:v], work[v:]


def ones(dtype):
    """Numbers of positions with r = r' = 1, constants alpha = d = x = 1 and l = b = 0."""
    v = lanes(dtype)
    constants = np.array([1, 0, 0, 1, 1], dtype)[:, None]
    numbers = np.ones((2, 3), dtype), np.ones((2, v), dtype)
    return *numbers, tuple(np.ascontiguousarray(np.broadcast_to(constants, (5, n))) for n in (3, v))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tangent", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_relu_at_all_correlations(dtype, tangent, signed):
    """Relative accuracy of 1 - kappa_1 and of 1 - kappa_0 ~ sqrt(1 - rho), next to duplicates."""
    table = RECTIFIED if dtype == np.float64 else RECTIFIED[[0, 1, 2, 4, 6, 8]]
    table = table if signed else table[table[:, 0] <= 1]
    y, k0, k1, gap = (np.resize(column, lanes(dtype)) for column in table.T)
    t = np.full(y.size, 3.0)
    d, source = rectify(dtype, 2 * y, t if tangent else None, *ones(dtype), int(signed))
    np.testing.assert_allclose(d, 2 * gap, rtol=20 * EPS[dtype])
    if tangent:
        np.testing.assert_allclose(source, 3 * k0 + k1, rtol=0, atol=20 * EPS[dtype])
    plain, _ = rectify(dtype, 2 * y, None, *ones(dtype), int(signed) + 2)
    np.testing.assert_allclose(plain, k1, rtol=0, atol=8 * EPS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_covariance(dtype):
    """s s' rho r r' from D = (r - r')^2 + 2 r r' (1 - rho)."""
    rho, _ = correlations(dtype)
    rows, cols = strips(dtype, 2)
    (r, s), (q, t) = rows[:, ROW].astype(float), cols.astype(float)
    d = ((r - q) ** 2 + 2 * r * q * (1 - rho)).astype(dtype)
    made = np.empty_like(d)
    increments.covariances(made, d, rows, cols, 0, ROW)
    close(made, s * t * r * q * rho, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("times", [1, 3])
def test_sums_over_channels(dtype, channels, times):
    """Strips of several pieces, channels four by four and what is left of them."""
    v = times * lanes(dtype)
    rng = np.random.default_rng(channels)
    x, y = rng.standard_normal(channels), rng.standard_normal((channels, v))
    work, total = np.zeros(v, dtype), np.empty(v)
    here = np.zeros(1, np.int64)
    given = (here, here), x, (0, channels), y.ravel(), (0, channels * v), channels, total
    increments.differences(work, 0, *given)
    np.testing.assert_allclose(work, ((x[:, None] - y) ** 2).sum(0), rtol=4 * EPS[dtype] + 1e-14)
    increments.products(work, 0, *given)
    close(work, x @ y, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flag", [0, 1, 2, 5])
def test_relu_of_wide_strips_is_that_of_their_pieces(dtype, flag):
    v = lanes(dtype)
    rng = np.random.default_rng(flag)

    def numbers(count):
        return rng.uniform(0.5, 2.0, (count, 2 * v)).astype(dtype)

    d, t, cols, constants = numbers(1)[0], numbers(1)[0], numbers(2), numbers(5)
    rows, own = numbers(2)[:, :3].copy(), numbers(5)[:, :3].copy()
    where = np.zeros(1, np.int64)

    def made(at):
        work = np.concatenate([d[at], t[at]])
        size = len(work) // 2
        fixed = np.empty(5 * size, dtype)
        increments.constants(own, constants[:, at].ravel(), 0, ROW, fixed)
        increments.relu(
            work, 0, size, (where, where, where), (rows.ravel(), cols[:, at].ravel()), (ROW, 0, 3), (0, 0),
            own[0, ROW], flag, fixed,
        )  # fmt: skip
        return work.reshape(2, size)

    pieces = [made(slice(k, k + v)) for k in (0, v)]
    np.testing.assert_array_equal(made(slice(0, 2 * v)), np.concatenate(pieces, axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plain", [0, 2])
def test_relu_between_unlike_positions(dtype, plain):
    """D' = (u - u')^2 + 2 u u' (1 - kappa_1), t' = d d' (t + b b') kappa_0 + x x' r r' kappa_1."""
    v = lanes(dtype)
    y, k0, k1, _ = (np.resize(column, v) for column in RECTIFIED[2:7].T)
    rows, cols = strips(dtype, 2, 5)
    rows[1], cols[1] = 1 / rows[0], 1 / cols[0]
    constants = strips(dtype, 5, 6)
    (r, q), (s, _) = rows[:, ROW].astype(float), cols.astype(float)
    (a, l, b, g, x), (a2, l2, b2, g2, x2) = constants[0][:, ROW].astype(float), constants[1].astype(float)
    t = np.random.default_rng(7).standard_normal(v)
    d = (r - s) ** 2 + 2 * r * s * y - (l - l2) ** 2
    made, source = rectify(dtype, d, t, rows, cols, constants, 1 + plain)
    u, w = a * r, a2 * s
    close(made, u * w * k1 if plain else (u - w) ** 2 + 2 * u * w * (1 - k1), dtype, 64)
    close(source, g * g2 * (t + b * b2) * k0 + x * x2 * r * s * k1, dtype, 64)
    assert q > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_of_duplicates_zeros_and_padding(dtype):
    rows, cols, constants = ones(dtype)
    zero = np.zeros(lanes(dtype))
    rows[0], rows[1], cols[0], cols[1] = 0.7, 1 / 0.7, 0.7, 1 / 0.7
    assert (rectify(dtype, zero, zero, rows, cols, constants, 0)[0] == 0).all()
    cols[:] = 0  # a zero vector, or the padding: the increment is the row's second moment
    for padded in (0, 1):
        made, _ = rectify(dtype, np.full(zero.size, 0.49), zero, rows, cols, constants, 0, padded)
        close(made, np.full(zero.size, 0.49), dtype, 4)
    rows[:] = 0
    made, source = rectify(dtype, zero, zero, rows, cols, constants, 0)
    assert (made == 0).all() and (source == 0).all()


# operations that only a level's program has ----------------------------------------------------------------

C = nn.Conv
RELU = nn.Relu()
END = (nn.GlobalAvgPool(), nn.Dense(1, 1.2, 0.3))
# what is read through two different maps of increments is not done in one operation
FORK = (
    nn.FanOut(2), nn.parallel(C(8, (3,), None, "SAME"), C(8, (2,), None, "SAME")), nn.FanInSum(),
)  # fmt: skip
NETS = {
    "data": (C(8, (3,), None, "SAME"), RELU),
    "cross": (C(8, (3,), None, "SAME"),),
    "co": (C(8, (3,), None, "SAME"), nn.Erf(), *FORK, nn.Abs(), *END),
    "normal": (C(8, (2,)), RELU, nn.AvgPool((2,)), C(8, (2,)), nn.Erf(), *END),
    "dual": (C(8, (2,)), nn.Abs(), *FORK, nn.Erf(), *END),
    "function": (C(8, (3,), None, "SAME", 1.3, 0.2), nn.Abs(), C(8, (2,), None, "SAME"), nn.Erf(), *END),
    "function_first": (C(8, (2,), b_std=0.3), nn.Erf(), nn.Flatten(), nn.Dense(4), nn.LeakyRelu(0.2)),
    "relu": (C(8, (3,), None, "SAME", 1.3, 0.2), RELU, C(8, (2,), None, "SAME", 1.1, 0.4), RELU, *END),
    "mix": (C(8, (3,), (2,), "SAME"), RELU, C(8, (2,), None, "CIRCULAR"), RELU),
    "load": (C(8, (2,)), RELU, nn.SumPool((2,), (2,), "SAME"), C(8, (1,)), RELU, nn.GlobalSumPool()),
    "store": (C(8, (3,)), RELU, nn.AvgPool((3,), (2,), "SAME", True), C(8, (1,))),
    "gain": (
        C(8, (3,), None, "SAME"), RELU, nn.FanOut(2),
        nn.parallel(nn.serial(C(8, (3,), None, "SAME"), RELU, C(8, (2,), None, "SAME")), nn.Identity()),
        nn.FanInSum(), C(8, (2,)), RELU, *END,
    ),
    "fresh": (C(8, (3,), None, "SAME"), RELU, nn.Dropout(0.8), C(8, (2,)), nn.Erf(), *END),
}  # fmt: skip


def operations(net, x, **options):
    """The kernels of a net by the cells, and the operations that made them."""
    seen = set()

    class Spy(program.Selection):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.update(one.op for one in self.code)

    with mock.patch.object(program, "Selection", Spy):
        made, road = kernels(net, x, **options)
    assert road == CELLS
    return made, seen


@pytest.mark.parametrize("op", NETS)
def test_operations_in_nets(op):
    assert op in program.CODE
    net = nn.serial(*NETS[op])
    x = np.random.default_rng(8).standard_normal((4, 6, 3))
    made, seen = operations(net, x, get=("nngp", "ntk"))
    assert op in seen
    single = kernels(net, x, get=("nngp", "ntk"), dtype="float32")[0]
    for k, k32, truth in zip(made, single, loops.kernels(spec(net), x), strict=True):
        top = np.abs(truth).max()
        np.testing.assert_allclose(k, truth.reshape(k.shape), rtol=0, atol=1e-13 * top)
        np.testing.assert_allclose(k32, truth.reshape(k.shape), rtol=0, atol=1e-5 * top)


@pytest.mark.parametrize(
    ("op", "layers"),
    [
        ("series", (C(8, (2,), None, "SAME"), nn.Tanh(), *FORK, RELU, *END)),
        ("function", (C(8, (3,), None, "SAME", 1.2, 0.2), nn.Tanh(), C(8, (2,), None, "SAME"), nn.Gelu(),
                      *END)),
        ("function_first", (C(8, (3,), None, "SAME"), nn.Sigmoid(), C(8, (2,), None, "SAME"), nn.Cos(),
                            *END)),
        ("both", (C(8, (2,)), RELU, nn.FanOut(2), nn.parallel(C(8, (1,)), nn.Identity()), nn.FanInProd(),
                  C(8, (2,)), RELU, *END)),
        ("add_product", (C(8, (2,)), RELU, nn.FanOut(2), nn.parallel(C(8, (1,)), nn.Identity()),
                         nn.FanInProd(), *END)),
        ("product", (C(8, (2,)), RELU, nn.FanOut(2), nn.parallel(C(8, (1,)), nn.Identity()),
                     nn.FanInProd(), *END)),
        ("plain", (C(8, (2,)), nn.Erf(), *FORK, nn.Erf(), *END)),
        ("add_rho", (C(8, (2,)), nn.Erf(), *FORK, nn.Erf(), *END)),
        ("add_outer", (C(8, (2,), b_std=0.3), nn.Erf(), nn.LayerNorm(), *END)),
    ],
)  # fmt: skip
def test_operations_against_the_general_path(op, layers):
    net = nn.serial(*layers)
    x = np.random.default_rng(9).standard_normal((4, 6, 3))
    made, seen = operations(net, x, get=("nngp", "ntk"))
    assert op in seen
    for k, truth in zip(made, kernels(net, x, get=("nngp", "ntk"), road=GENERAL)[0], strict=True):
        np.testing.assert_allclose(k, truth, rtol=0, atol=1e-12 * np.abs(truth).max())


def test_pieces_of_components_are_like_the_whole(monkeypatch):
    """Stretches of a single operation, and of several."""
    net = nn.serial(C(8, (3, 3), None, "SAME", 1.3, 0.2), RELU, C(8, (2, 3), None, "SAME"), nn.Erf(), *END)
    x = np.random.default_rng(10).standard_normal((3, 6, 5, 2))
    seen = set()

    def run(code, stretches, *rest, before=cells.run):
        seen.update(stretches[:, 3].tolist())
        return before(code, stretches, *rest)

    monkeypatch.setattr(cells, "run", run)
    whole = operations(net, x, get=("nngp", "ntk"))[0]
    assert {cells.ALONE, cells.CHUNK} <= seen
    monkeypatch.setattr(cells, "ALONE", 7)
    monkeypatch.setattr(cells, "CHUNK", 5)
    pieces = operations(net, x, get=("nngp", "ntk"))[0]
    assert {7, 5} <= seen
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)
