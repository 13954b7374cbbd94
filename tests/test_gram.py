"""Co-correlations of data rows to the last digit, and mirrored blocks."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tpnum.kernels import gram

THRESHOLD = {np.float64: 1e-3, np.float32: 1e-2}


def correlate(panel, x1, x2, frame1, frame2, row0, col0, threshold):
    """`gram.correlate_strip` over a panel of cosines: rows row0.. of x1 against rows col0.. of x2."""
    for r, cosines in enumerate(panel):
        for start in range(0, cosines.size, 1024):
            strip = cosines[start : start + 1024]
            gram.correlate_strip(strip, strip, x1, x2, frame1, frame2, row0 + r, col0 + start, threshold)


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(80):
        yield


def pairs(x, work):
    """Co-correlations of all rows of x with all rows, computed in ``work``."""
    n = len(x)
    unit, q, root, frame = np.empty(x.shape, work), np.empty(n), np.empty(n), np.empty((2, n))
    assert gram.normalise_rows(x, unit, q, root, frame) == -1
    panel = unit @ unit.T.copy()
    correlate(panel, x, x, frame, frame, 0, 0, THRESHOLD[work])
    return panel


def cosine(a, b):
    a, b = ([mp.mpf(float(v)) for v in r] for r in (a, b))
    return mp.fdot(a, b) / mp.sqrt(mp.fdot(a, a) * mp.fdot(b, b))


@pytest.mark.parametrize(
    "data, work", [(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.float32)]
)
@pytest.mark.parametrize("d", [2, 65])
def test_near_pairs(data, work, d):
    """Directions 1e-15 to 1 apart, parallel and antiparallel, lengths from 1e-8 to 1e8."""
    rng = np.random.default_rng(d)
    distance = 10.0 ** -np.arange(0.0, 16.0)[:, None]
    x = rng.standard_normal(d) + distance * rng.standard_normal((16, d))
    lengths = 10.0 ** rng.uniform(-8, 8, (16, 1)) * rng.choice([-1, 1], (16, 1))
    x = np.concatenate([x[::2], x * lengths]).astype(data)
    e = pairs(x, work)
    close, eps = 0, float(np.finfo(work).eps)
    for i in range(len(x)):
        for j in range(len(x)):
            rho = cosine(x[i], x[j])
            gap = 1 - abs(rho)
            assert np.signbit(e[i, j]) == (rho < 0)
            off = abs(abs(mp.mpf(float(e[i, j]))) - gap)
            if gap < 0.9 * THRESHOLD[work]:
                close += i != j
                assert off <= 10 * eps * gap + mp.mpf(10) ** -44
            else:
                assert off <= 6 * eps
    assert close > 100


@pytest.mark.parametrize("work", [np.float32, np.float64])
def test_equal_and_opposite_rows(work):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 33)).astype(work)
    e = pairs(np.concatenate([x, x, -x, 4 * x, -x / 2]), work)
    for block, sign in ((0, False), (1, False), (2, True), (3, False), (4, True)):
        diagonal = np.diagonal(e[:5, 5 * block : 5 * block + 5])
        assert not diagonal.any() and (np.signbit(diagonal) == sign).all()


def test_norms_out_of_range_and_zero_rows():
    x = [[3e-200, 4e-200], [3e200, 4e200], [0, 0], [5e-324, 0], [1.5e308, 1.5e308], [3, 4], [-3e-310, 1e-310]]
    x = np.array(x)
    n = len(x)
    unit, q, root, frame = np.empty(x.shape), np.empty(n), np.empty(n), np.empty((2, n))
    with np.errstate(over="raise"):
        assert gram.normalise_rows(x, unit, q, root, frame) == -1
    assert np.allclose(unit[[0, 1, 5]], [0.6, 0.8], rtol=1e-15)
    assert np.allclose(unit[4], np.sqrt(0.5), rtol=1e-15)
    assert np.array_equal(unit[2:4], [[0, 0], [1, 0]])
    assert np.allclose(root, np.hypot(*(x / 2).T) * np.sqrt(2), rtol=1e-15) and q[5] == 12.5 and q[2] == 0
    e = pairs(x, np.float64)
    assert np.isfinite(e).all() and np.array_equal(e[2], np.ones(n))
    for i, j in ((0, 1), (0, 5), (1, 4), (3, 4), (6, 0)):
        assert abs(abs(e[i, j]) - float(1 - abs(cosine(x[i], x[j])))) < 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms(dtype):
    x = np.random.default_rng(1).standard_normal((4, 1000)).astype(dtype)
    unit, q, root, frame = np.empty((4, 1000)), np.empty(4), np.empty(4), np.empty((2, 4))
    gram.normalise_rows(x, unit, q, root, frame)
    for k in range(4):
        true = float(mp.fsum(mp.mpf(float(v)) ** 2 for v in x[k]) / 1000)
        assert q[k] == pytest.approx(true, rel=1e-15) and root[k] == pytest.approx(np.sqrt(true), rel=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_reported(bad):
    for work in (np.float32, np.float64):
        x = np.ones((6, 40), work)
        x[3, 17] = bad
        unit = np.empty_like(x)
        assert gram.normalise_rows(x, unit, np.empty(6), np.empty(6), np.empty((2, 6))) == 3


def test_strips_are_where_they_say():
    """Rows and columns of a block are counted from the start of the data."""
    rng = np.random.default_rng(3)
    x = np.repeat(rng.standard_normal((1, 7)), 3000, 0) * (1 + 1e-9 * rng.standard_normal((3000, 7)))
    x[::3] = rng.standard_normal((1000, 7))
    whole = pairs(x, np.float64)
    unit, frame = np.empty(x.shape), np.empty((2, 3000))
    gram.normalise_rows(x, unit, np.empty(3000), np.empty(3000), frame)
    part = unit[100:103] @ unit[1500:2900].T
    correlate(part, x, x, frame, frame, 100, 1500, 1e-3)
    assert np.allclose(part, whole[100:103, 1500:2900], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "n, rows, start", [(300, 128, 0), (300, 100, 37), (65, 65, 0), (1, 1, 0), (257, 64, 128)]
)
def test_mirror(n, rows, start, dtype):
    """Panels of the upper triangle, from any column at or before the diagonal on."""
    full = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    out = full.copy()
    for r in range(0, n, rows):
        left = max(0, r - start)
        gram.mirror(full[r : r + rows, left:], out, r, left)
    assert np.array_equal(out, np.triu(full) + np.triu(full, 1).T)


def test_mirror_in_place():
    """The block may be a part of the matrix itself."""
    a = np.random.default_rng(0).standard_normal((200, 200))
    want = np.triu(a) + np.triu(a, 1).T
    for r in range(0, 200, 70):
        gram.mirror(a[r : r + 70, r:], a, r, r)
    assert np.array_equal(a, want)
