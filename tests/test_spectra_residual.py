"""Jacobians of residual blocks by explicit equations, against the free sums that they solve and matrices."""

from __future__ import annotations

import math
import time

import mpmath as mp
import numpy as np
import pytest

from tpnum import nn
from tpnum.spectra import jacobian
from tpnum.spectra.closed import Discrete
from tpnum.spectra.convolve import product_of_powers, sum_of_powers
from tpnum.spectra.networks import _Task
from tpnum.spectra.shapes import SignedRoot, Square

TANH, RELU, DENSE = nn.Tanh(), nn.Relu(), nn.Dense(64, W_std=0.5)


def by_free_sum(body: nn.Layer, q: float, weights: str) -> Square:
    """The symmetric laws of -+1 and of X's singular values, added: Haagerup and Schultz 2007."""
    inner = product_of_powers([(f.law, f.times) for f in _Task(body, weights).factors(q)])
    return Square(sum_of_powers([(Discrete([-1.0, 1.0], [0.5, 0.5]), 1.0), (SignedRoot(inner.quick), 1.0)]))


@pytest.mark.parametrize(
    ("layers", "weights"),
    [
        ((TANH, DENSE), "orthogonal"),
        ((DENSE,), "gaussian"),
        ((DENSE,), "orthogonal"),
        ((RELU, DENSE), "gaussian"),
        ((RELU, DENSE), "orthogonal"),
        ((DENSE, nn.Abs()), "orthogonal"),
    ],
)
def test_explicit_equations_are_the_free_sum(layers, weights):
    found = jacobian(nn.Residual(nn.serial(*layers)), 1, q=0.7, weights=weights)
    law = by_free_sum(nn.serial(*layers), 0.7, weights)
    assert found.hull == pytest.approx(law.hull, rel=1e-9)
    assert (found.mean, found.second) == pytest.approx((law.mean, law.second), rel=1e-12)
    x = np.linspace(*found.hull, 22)[1:-1]
    assert found.density(x) == pytest.approx(law.density(x), rel=1e-9)
    assert found.cdf(x) == pytest.approx(law.cdf(x), abs=1e-9)
    assert len(found.edges) == (2 if RELU in layers else 1)


def by_quartic(x: float, square: float, gaussian: bool) -> float:
    """The density of (1 + X)(1 + X)^T, X = W D with D half on: g^2 = u (1 + u) S(u) without u + m and g."""
    with mp.workdps(40):
        x = mp.mpf(x)
        u = np.array([mp.mpf(0), mp.mpf(1)])
        one = np.array([mp.mpf(1)])
        a, b = (one if gaussian else np.array([mp.mpf(1), mp.mpf(1)])), np.array([mp.mpf(1), mp.mpf(2)])
        left = 2 * square * x * product_of(a, b, b, b)
        inner = square * b + np.pad(2 * (x - 1) * a, (0, b.size - a.size), constant_values=mp.mpf(0))
        right = product_of(u, np.array([mp.mpf(1), mp.mpf(1)]), inner, inner)
        size = max(left.size, right.size)
        equation = [
            (left[k] if k < left.size else 0) - (right[k] if k < right.size else 0) for k in range(size)
        ]
        made = []
        for r in mp.polyroots(equation, asc=True, maxsteps=200, extraprec=200):
            g_square = 2 * r * (1 + r) * (1 if gaussian else 1 + r) / ((1 + 2 * r) * square)
            made.append(abs(mp.im(((x - 1) * g_square + r * r + r) / (2 * r + 1))) / (mp.pi * x))
        return float(max(made))


def product_of(*factors: np.ndarray) -> np.ndarray:
    """Of polynomials, by their coefficients."""
    made = factors[0]
    for factor in factors[1:]:
        made = np.convolve(made, factor)
    return made


@pytest.mark.parametrize(("size", "weights"), [(0.5, "gaussian"), (1.0, "gaussian"), (1.5, "orthogonal")])
def test_half_of_the_singular_values_are_below_one(size, weights):
    """On the kernel of X 1 + X is 1: of half of all mass that is an edge, with a gap behind."""
    law = jacobian(nn.Residual(nn.serial(RELU, nn.Dense(64, W_std=size))), 1, q=0.7, weights=weights)
    (low, first), (second, high) = law.edges
    assert first == 1.0
    assert law.cdf([1.0, 1.0 + 1e-9, 0.5 * (1.0 + second)]) == pytest.approx(0.5, abs=1e-9)
    x = np.array([low + 0.1, 0.99, 1.0 - 1e-4, second + 0.02, 0.9 * high])
    right = [by_quartic(at, size**2, weights == "gaussian") for at in x]
    assert law.density(x) == pytest.approx(right, rel=1e-8)
    near = 1.0 - np.array([1e-8, 1e-10])
    assert law.density(near) * np.sqrt(1.0 - near) == pytest.approx(0.5 / np.pi, rel=1e-4)
    step = 1e-6 * second
    assert by_quartic(second - step, size**2, weights == "gaussian") < 1e-15
    assert by_quartic(second + step, size**2, weights == "gaussian") > 1e-4


def product(layers, variances, weights: str, n: int = 500) -> np.ndarray:
    """Squared singular values of a product of 1 + .. D W .., from drawn matrices."""
    draws = np.random.default_rng(3)
    made = np.eye(n)
    for q in variances:
        x, at = np.eye(n), q
        for layer in layers:
            if isinstance(layer, nn.Dense):
                w = draws.standard_normal((n, n)) / np.sqrt(n)
                w = np.linalg.qr(w)[0] * np.sign(draws.standard_normal(n)) if weights == "orthogonal" else w
                x, at = layer.W_std * w @ x, layer.W_std**2 * at
            else:
                g = np.sqrt(at) * draws.standard_normal(n)
                slope = (g > 0) * 1.0 if layer == RELU else 1.0 / np.cosh(g) ** 2
                value = np.maximum(g, 0.0) if layer == RELU else np.tanh(g)
                x, at = slope[:, None] * x, float(np.mean(value**2))
        made = made + x @ made
    return np.sort(np.linalg.svd(made, compute_uv=False) ** 2)


@pytest.mark.parametrize(
    ("layers", "depth", "weights"),
    [
        ((TANH, DENSE), 3, "gaussian"),
        ((DENSE, TANH, DENSE, RELU), 1, "gaussian"),
        ((DENSE, TANH, DENSE, RELU), 1, "orthogonal"),
        ((RELU, DENSE), 3, "gaussian"),
    ],
)
def test_products_of_residual_blocks_are_those_of_matrices(layers, depth, weights):
    variances = [0.7, 1.1, 1.6][:depth]
    law = jacobian(nn.Residual(nn.serial(*layers)), depth, q=variances, weights=weights)
    found = product(layers, variances, weights)
    steps = (np.arange(found.size) + 0.5) / found.size
    assert len(law.edges) == (2 if depth == 1 else 1)  # of one with half a kernel
    assert np.max(np.abs(law.cdf(found) - steps)) < 0.025
    assert float(np.mean(found)) == pytest.approx(law.mean, rel=0.02)
    assert float(np.mean(found**2)) == pytest.approx(law.second, rel=0.06)


def test_blocks_with_a_variance_of_their_own_are_quick():
    """Beside six layers without shortcuts, each with its own variance too."""
    block = nn.serial(TANH, DENSE)
    x = np.linspace(0.1, 3.0, 200)

    def seconds(made, q):
        start = time.process_time()
        law = jacobian(made, 6, q=q)
        assert law.edges.shape == (1, 2) and np.all(np.isfinite(law.density(x)))
        return time.process_time() - start

    seconds(nn.Residual(block), [0.5] * 6)
    plain = min(seconds(block, np.linspace(1.0, 2.0, 6) + 0.01 * k) for k in range(2))
    assert min(seconds(nn.Residual(block), 1.0 + 0.01 * k) for k in range(2)) < 8.0 * plain


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_blocks_side_by_side_are_blocks_one_after_another(weights):
    """Two blocks that are solved for together, and their free product as that of two tabulated laws."""
    block = nn.Residual(nn.serial(TANH, DENSE))
    law = jacobian(block, 2, q=[0.7, 1.3], weights=weights)
    apart = product_of_powers(
        [(jacobian(block, 1, q=q, weights=weights).tabulated(), 1.0) for q in (0.7, 1.3)]
    )
    assert law.edges == pytest.approx(apart.edges, rel=1e-8)
    x = np.linspace(*law.hull, 12)[1:-1]
    assert law.density(x) == pytest.approx(apart.density(x), rel=1e-8)
    assert law.cdf(x) == pytest.approx(apart.cdf(x), abs=1e-8)


def test_variances_of_residual_blocks_by_integrals():
    """As the program of the block has them, of parts that are independent, and of others by the program."""
    for body in (nn.serial(RELU, DENSE), nn.serial(nn.Dense(64, b_std=0.3), TANH, DENSE)):
        task = _Task(nn.Residual(body), "gaussian")
        program = _Task(nn.serial(nn.Residual(body), nn.LayerNorm()), "gaussian")
        ((_, by_integral, _),) = task._stages((task.block,), 0.9)[1:]
        by_program = program._stages(program.block.layers, 0.9)[1][1]
        assert by_integral == pytest.approx(by_program, rel=1e-10)


def test_far_below_all_mass_there_is_none():
    """Of twenty blocks, whose way to small points is long: no solutions but the one with z G in the hull of
    z / (z - x).
    """
    dense = nn.Dense(64, W_std=0.7, b_std=0.1)
    pair = nn.serial(nn.Residual(nn.serial(TANH, dense)), nn.Residual(nn.serial(RELU, dense)))
    law = jacobian(pair, 10, q=np.linspace(0.5, 2.0, 10))
    ((low, high),) = law.edges
    assert (low, high) == pytest.approx((1.0830215630707e-4, 1425.61981414014), rel=1e-9)
    assert np.all(law.density(low * np.array([0.4, 0.45, 0.7, 0.9])) == 0.0)
    assert law.cdf(1.01 * low) < 1e-4


def test_distribution_beside_the_mass_on_a_kernel():
    """In the gaps is the mass of a side, half of what the kernel leaves; quantiles are beyond them."""
    body = nn.serial(nn.HardTanh(), nn.Dense(64, W_std=1.0))
    for depth in (1, 2):
        law = jacobian(nn.Residual(body), depth, q=[100.0] * depth)
        (_, left), (right, _) = law.edges
        rest = depth * math.erf(0.1 / math.sqrt(2.0))
        gaps = [0.5 * (1.0 + left), 0.5 * (1.0 + right), right, np.nextafter(right, 2.0)]
        assert law.atoms[0] == pytest.approx((1.0, 1.0 - 2.0 * rest), rel=1e-9)
        assert law.cdf(gaps) == pytest.approx([rest, *[1.0 - rest] * 3], rel=1e-9)
        x = law.quantile([0.03, 0.5, 0.97])
        assert x[1] == 1.0
        assert law.cdf(x) == pytest.approx([0.03, 1.0 - rest, 0.97], abs=1e-12)
