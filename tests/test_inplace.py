"""Products by the BLAS into parts of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from tpnum.kernels.inplace import add_product, take_squares, triangle_times

CLOSE = {"float64": 1e-13, "float32": 1e-5}


def inside(rng: np.random.Generator, rows: int, cols: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """An array, and a part of it whose rows lie apart."""
    whole = rng.standard_normal((rows + 3, cols + 5)).astype(dtype)
    return whole, whole[1 : 1 + rows, 2 : 2 + cols]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (70, 130, 33), (2, 0, 3), (0, 2, 3), (3, 2, 0)])
def test_products_go_into_parts_and_nowhere_else(dtype: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    m, k, n = shape
    (_, a), (_, b), (whole, out) = (inside(rng, *size, dtype) for size in ((m, k), (k, n), (m, n)))
    want = whole.copy()
    want[1 : 1 + m, 2 : 2 + n] += a @ b
    add_product(a, b, out)
    np.testing.assert_allclose(whole, want, atol=CLOSE[dtype] * 30)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 200), (3, 0)])
def test_a_triangle_is_read_below_its_diagonal_alone(dtype: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    (_, low), (whole, out) = inside(rng, shape[0], shape[0], dtype), inside(rng, *shape, dtype)
    low[np.triu_indices(shape[0], 1)] = np.nan
    want = whole.copy()
    want[1 : 1 + shape[0], 2 : 2 + shape[1]] = np.tril(np.nan_to_num(low)) @ out
    triangle_times(low, out)
    np.testing.assert_allclose(whole, want, atol=CLOSE[dtype] * 30)


@pytest.mark.parametrize("dtype", CLOSE)
def test_squares_are_taken_in_double_precision(dtype: str) -> None:
    rows = np.random.default_rng(2).standard_normal((40, 7)).astype(dtype)
    total = (rows.astype(np.float64) ** 2).sum(0)
    left = total + np.array([1.0, 0.0, 1e-3, -1.0, 2.0, 3.0, -5.0])
    take_squares(rows, left)
    np.testing.assert_allclose(left, [1.0, 0.0, 1e-3, 0.0, 2.0, 3.0, 0.0], atol=1e-13)
    assert left.min() >= 0.0
