"""Products with matrices that are never held, and factors of low rank from few columns."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import cg, eigsh

import tpnum as tp
from tpnum import nn, predict
from tpnum.errors import InputError
from tpnum.tiles.factor import _Columns
from tpnum.tiles.pivoted import partial_cholesky
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.tasks import Job

NET = nn.serial(nn.Dense(8, W_std=1.3, b_std=0.2), nn.Relu(), nn.Dense(8), nn.Relu(), nn.Dense(1))
RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 6))
Y = RNG.standard_normal((41, 6))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("second", [None, Y])
def test_products_are_those_of_the_matrix(get: str, second: Any) -> None:
    k = tp.kernel(NET, X, second, get=get)
    op = tp.operator(NET, X, second, get=get, tile=16, n_jobs=2)
    assert (op.shape, op.dtype) == (k.shape, k.dtype)
    for given in (RNG.standard_normal(k.shape[1]), RNG.standard_normal((k.shape[1], 3))):
        np.testing.assert_allclose(op @ given, k @ given, rtol=1e-12, atol=1e-12)
    for given in (RNG.standard_normal(k.shape[0]), RNG.standard_normal((k.shape[0], 3))):
        np.testing.assert_allclose(op.T @ given, k.T @ given, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(op.H @ given, k.T @ given, rtol=1e-12, atol=1e-12)


def test_one_sweep_serves_all_vectors_and_one_triangle_both(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    compute = Job.compute
    monkeypatch.setattr(Job, "compute", lambda job, tile: seen.append(tile) or compute(job, tile))
    tp.operator(NET, X, tile=16, n_jobs=1) @ np.ones((70, 5))
    assert len(seen) == 15


def test_float32_and_complex_and_convolutions() -> None:
    op = tp.operator(NET, X, dtype="float32")
    made = op @ np.ones(70, np.float32)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, tp.kernel(NET, X).sum(1), rtol=1e-5)
    np.testing.assert_allclose(op @ (1j * np.ones(70)), 1j * made, rtol=1e-5)
    net = nn.serial(nn.Conv(8, (2,), b_std=0.1), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    u = RNG.standard_normal((9, 5, 2))
    np.testing.assert_allclose(tp.operator(net, u, tile=4) @ np.eye(9), tp.kernel(net, u), rtol=1e-12)


def test_solvers_take_it() -> None:
    k = tp.kernel(NET, X, get="ntk") + 0.1 * np.eye(70)
    op = tp.operator(NET, X, get="ntk", tile=32)
    values = eigsh(op, 3, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(k)[-3:] - 0.1, rtol=1e-9)
    from scipy.sparse.linalg import aslinearoperator

    solution, status = cg(op + 0.1 * aslinearoperator(np.eye(70)), Y[0, 0] * X[:, 0], rtol=1e-10)
    assert status == 0
    np.testing.assert_allclose(k @ solution, Y[0, 0] * X[:, 0], atol=1e-8)


def test_a_stored_matrix_is_an_operator(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    for second in (None, Y):
        out = tmp_path / f"{second is None}.zarr"
        k = tp.kernel(NET, X, second, get="ntk")
        op = tp.kernel(NET, X, second, get="ntk", out=out, tile=16).linear_operator()
        v = RNG.standard_normal((k.shape[1], 2))
        np.testing.assert_allclose(op @ v, k @ v, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(op.T @ k, k.T @ k, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(op @ v[:, 0], k @ v[:, 0], rtol=1e-12, atol=1e-12)


CONV = nn.serial(nn.Conv(8, (2,)), nn.Relu())
REFUSED: dict[str, tuple[Any, str]] = {
    "two kernels": (lambda: tp.operator(NET, X, get=("nngp", "ntk")), "get"),
    "axes": (lambda: tp.operator(CONV, np.ones((3, 5, 2))), "index axes"),
    "NaN": (lambda: tp.operator(NET, X / 0.0), "x1: example 0 holds NaN"),
    "tile": (lambda: tp.operator(NET, X, tile=0), "tile"),
    "no rank": (lambda: tp.factor(NET, X), "rank"),
    "rank": (lambda: tp.factor(NET, X, 0), "rank"),
    "axes of a factor": (lambda: tp.factor(CONV, np.ones((3, 5, 2)), 2), "index axes"),
    "pivots": (lambda: tp.factor(NET, X, pivots=[1, 70]), "pivots"),
    "pivots twice": (lambda: tp.factor(NET, X, pivots=[1, 1]), "twice"),
    "no pivots": (lambda: tp.factor(NET, X, pivots="all"), "pivots"),
    "rtol": (lambda: tp.factor(NET, X, 3, rtol=2), "rtol"),
}


@pytest.mark.filterwarnings("ignore:divide")
@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, message = REFUSED[case]
    with np.errstate(all="ignore"), pytest.raises(InputError, match=message):
        call()


# factors ------------------------------------------------------------------------------------------


def plain(k: np.ndarray, rank: int) -> float:
    """The trace that greedy pivoted Cholesky leaves, column by column."""
    rest = k.copy()
    for _ in range(rank):
        i = int(np.argmax(np.diag(rest)))
        rest = rest - np.outer(rest[:, i], rest[i]) / rest[i, i]
    return float(np.trace(rest))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_the_error_is_the_trace_of_what_is_left(get: str) -> None:
    x = np.random.default_rng(1).standard_normal((300, 3))
    k = tp.kernel(NET, x, get=get)
    for rank in (5, 40, 290):  # less than a block, and more
        f = tp.factor(NET, x, rank, get=get)
        rest = k - f.columns @ f.columns.T
        assert f.rank == rank == len(set(f.pivots.tolist()))
        np.testing.assert_allclose(f.error, np.trace(rest), rtol=1e-8)
        np.testing.assert_allclose(f.trace, np.trace(k), rtol=1e-12)
        assert np.linalg.eigvalsh(rest)[0] > -1e-10 * f.trace
        np.testing.assert_allclose(rest[f.pivots], 0.0, atol=1e-10 * f.trace)
        best = np.linalg.eigvalsh(k)[:-rank].sum()
        assert best <= f.error <= 1.5 * plain(k, rank)
        assert f.computed == rank


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_by_one_it_is_the_greedy_factor(dtype: str) -> None:
    k = tp.kernel(NET, X, get="ntk")
    between = lambda some: k[np.ix_(some, some)]  # noqa: E731

    def rows(some: np.ndarray, out: np.ndarray) -> None:
        out[...] = k[some]

    made = partial_cholesky(k.diagonal(), 12, between, rows, block=1, dtype=dtype)
    rest, pivots = k.copy(), []
    for _ in range(12):
        pivots.append(int(np.argmax(np.diag(rest))))
        rest = rest - np.outer(rest[:, pivots[-1]], rest[pivots[-1]]) / rest[pivots[-1], pivots[-1]]
    assert made.pivots == pivots
    close = 1e-9 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(made.left, np.maximum(np.diag(rest), 0.0), atol=close * np.trace(k) / 70)
    np.testing.assert_allclose(k - made.rows.T @ made.rows, rest, atol=close * np.trace(k) / 70)
    near = predict.pivoted_cholesky(k.diagonal(), lambda i: k[i], 0.1, rank=12)
    np.testing.assert_allclose(near.low @ near.low.T, k - rest, atol=1e-9)


def test_only_the_columns_of_the_pivots_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And K between the candidates of a block, which is a small part of it for many examples."""
    seen: list[int] = []
    fill, between = Job.fill, _Columns.between

    def noted(job: Job, tile: Any, *others: Any) -> None:
        seen.append(tile.entries)
        fill(job, tile, *others)

    def among(columns: _Columns, chosen: np.ndarray) -> np.ndarray:
        before = len(seen)
        made = between(columns, chosen)
        looked.append(sum(seen[before:]))
        del seen[before:]
        return made

    looked: list[int] = []
    monkeypatch.setattr(Job, "fill", noted)
    monkeypatch.setattr(_Columns, "between", among)
    x = np.random.default_rng(2).standard_normal((1500, 6))
    f = tp.factor(NET, x, 20)
    assert sum(seen) == f.computed * 1500 == 20 * 1500
    assert sum(looked) < sum(seen) / 4
    assert f.error <= 1.5 * plain(tp.kernel(NET, x), 20)


def _padded() -> tuple[nn.Layer, np.ndarray, dict[str, Any]]:
    conv = nn.Conv(4, (3,), padding="SAME", b_std=0.3)
    x = np.random.default_rng(5).standard_normal((14, 5, 2))
    for k in range(0, 14, 3):
        x[k, 1 + k % 4 :] = 7.0
    return nn.serial(conv, nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1)), x, {"mask_constant": 7.0}


def _graphs() -> tuple[nn.Layer, np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(6)
    passed = nn.serial(nn.Dense(4, b_std=0.3), nn.Relu(), nn.Aggregate(), nn.GlobalAvgPool(), nn.Dense(1))
    graphs = rng.integers(0, 2, (14, 5, 5)).astype(float) + np.eye(5)
    return passed, rng.standard_normal((14, 5, 2)), {"pattern1": graphs}


@pytest.mark.parametrize("case", [_padded, _graphs])
@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_padding_and_graphs_go_along(case: Any, get: str) -> None:
    net, x, options = case()
    k = tp.kernel(net, x, get=get, **options)
    vectors = np.random.default_rng(7).standard_normal((14, 2))
    op = tp.operator(net, x, get=get, tile=4, **options)
    np.testing.assert_allclose(op @ vectors, k @ vectors, rtol=1e-11)
    other = {"pattern2": options["pattern1"][:6]} if "pattern1" in options else {}
    across = tp.operator(net, x, x[:6], get=get, tile=4, **options, **other)
    np.testing.assert_allclose(across.T @ vectors, k[:, :6].T @ vectors, rtol=1e-11)
    some = tp.factor(net, x, 5, get=get, **options)
    np.testing.assert_allclose((some.columns @ some.columns.T)[some.pivots], k[some.pivots], rtol=1e-9)
    np.testing.assert_allclose(some.trace, np.trace(k), rtol=1e-12)
    np.testing.assert_allclose(some.error, np.trace(k - some.columns @ some.columns.T), rtol=1e-7)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_noise_of_an_example_counts_where_it_meets_itself(get: str) -> None:
    net = nn.serial(nn.Dense(4), nn.Relu(), nn.Dropout(0.5), nn.Dense(4), nn.Relu(), nn.Dense(1))
    k = tp.kernel(net, X, get=get)
    for rank in (5, 70):
        f = tp.factor(net, X, rank, get=get)
        made = f.columns @ f.columns.T
        np.testing.assert_allclose(made[f.pivots], k[f.pivots], rtol=1e-8)
        np.testing.assert_allclose(f.error, np.trace(k - made), rtol=1e-7, atol=1e-9 * f.trace)
    np.testing.assert_allclose(tp.operator(net, X, get=get, tile=16) @ np.eye(70), k, rtol=1e-12)


def test_batches_go_along() -> None:
    net = nn.serial(nn.Dense(4), nn.BatchNorm(), nn.Relu(), nn.Dense(1))
    k = tp.kernel(net, X[:24], batch_size=4)
    op = tp.operator(net, X[:24], tile=8, batch_size=4)
    np.testing.assert_allclose(op @ np.eye(24), k, rtol=1e-6)
    with pytest.raises(InputError, match="batch_size"):
        tp.operator(net, X[:23], batch_size=4)


def test_nothing_is_left_of_nothing() -> None:
    empty = tp.factor(nn.Dense(1), np.zeros((4, 3)), 2)
    assert (empty.rank, empty.trace, empty.error) == (0, 0.0, 0.0)
    assert repr(empty) == "<Factor of rank 0: 0 of the trace is left>"


def test_nystrom_of_given_examples() -> None:
    k = tp.kernel(NET, X)
    some = [3, 60, 7, 22, 11]
    f = tp.factor(NET, X, pivots=some)
    want = k[:, some] @ np.linalg.solve(k[np.ix_(some, some)], k[some])
    np.testing.assert_allclose(f.columns @ f.columns.T, want, rtol=1e-9, atol=1e-11)
    assert sorted(f.pivots) == sorted(some)


def test_duplicates_and_the_whole_rank() -> None:
    x = np.concatenate([X[:20], X[:20], X[:20]])
    f = tp.factor(NET, x, 60)
    assert f.rank == 20
    assert f.error < 1e-10 * f.trace
    np.testing.assert_allclose(f.columns @ f.columns.T, tp.kernel(NET, x), atol=1e-9)
    assert tp.factor(NET, X, 50, rtol=0.05).rank < 50
    single = tp.factor(NET, X.astype(np.float32), 8, dtype="float32")
    assert single.columns.dtype == np.float32
    np.testing.assert_allclose(single.error, tp.factor(NET, X, 8).error, rtol=0.2)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpnum.tiles import tasks

    monkeypatch.chdir(tmp_path)
    tp.factor(NET, X, 5)
    before = len(tasks._desks)
    op = tp.operator(NET, X)
    op @ np.ones(70)
    del op
    assert len(tasks._desks) <= before
    assert not os.listdir()


def test_tiles_by_threads_find_the_blas_at_one_thread() -> None:
    """Also where the thread that asks is not the first that has ever asked."""
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(1):
        pass
    seen: list[int] = []

    def work() -> None:
        with one_blas_thread():
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(seen) == {1}
