"""A kernel as a function of deviations and examples: values, batches, and gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.differences import slope
from tpnum import nn
from tpnum.interop.function import KernelFunction

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(1, W_std=0.8))
RNG = np.random.default_rng(1)
X, X2 = RNG.standard_normal((6, 3)), RNG.standard_normal((4, 3))
X2[1] = X[2]
K = KernelFunction.of(NET, "ntk")


def test_values_are_those_of_the_net():
    assert K.names == ("layers[0].W_std", "layers[0].b_std", "layers[2].W_std")
    np.testing.assert_array_equal(K.values, [1.4, 0.3, 0.8])
    np.testing.assert_array_equal(K(K.values, X, X2), tp.kernel(NET, X, X2, get="ntk"))
    np.testing.assert_array_equal(K(K.values, X, X.copy()), tp.kernel(NET, X, get="ntk"))
    np.testing.assert_array_equal(K.diagonal(K.values, X), tp.kernel(NET, X, get="ntk", diag=True))
    other = nn.serial(nn.Dense(8, W_std=2.0, b_std=0.5), nn.Relu(), nn.Dense(1, W_std=1.1))
    np.testing.assert_array_equal(K([2.0, 0.5, 1.1], X, X2), tp.kernel(other, X, X2, get="ntk"))
    vectors = RNG.standard_normal((4, 2))
    np.testing.assert_allclose(
        K.times(K.values, X, X2, vectors=vectors), K(K.values, X, X2) @ vectors, rtol=1e-12
    )


SHAPES = [
    ((3,), (5, 2, 6, 3), (4, 3)),
    ((3,), (5, 1, 6, 3), (2, 4, 3)),
    ((2, 3), (6, 3), (4, 3)),
    ((5, 1, 3), (6, 3), (2, 4, 3)),
    ((1, 3), (5, 6, 3), (5, 4, 3)),
    ((3,), (5, 1, 3), None),
    ((3,), (2, 4, 3), None),
]


def arguments(shapes):
    first, second, third = shapes
    values = K.values * RNG.uniform(0.8, 1.2, first)
    x1 = RNG.standard_normal(second)
    return [values, x1, x1 if third is None else RNG.standard_normal(third)]


@pytest.mark.parametrize("shapes", SHAPES)
def test_batches_are_loops(shapes):
    given = arguments(shapes)
    made = K(*given)
    batch = np.broadcast_shapes(*(a.shape[:-k] for a, k in zip(given, (1, 2, 2), strict=True)))
    assert made.shape == K.shape(*given) == (*batch, given[1].shape[-2], given[2].shape[-2])
    wide = [np.broadcast_to(a, (*batch, *a.shape[-k:])) for a, k in zip(given, (1, 2, 2), strict=True)]
    for at in np.ndindex(batch):
        np.testing.assert_allclose(made[at], K(*(a[at] for a in wide)), rtol=1e-13)
    own = K.diagonal(*given[:2])
    np.testing.assert_allclose(own, K(*given[:2], given[1]).diagonal(axis1=-2, axis2=-1), rtol=1e-13)


@pytest.mark.parametrize("shapes", [((3,), (6, 3), (4, 3)), *SHAPES])
def test_gradients(shapes):
    """By every argument in its own shape, summed over what it was repeated along."""
    given = arguments(shapes)
    weights = RNG.standard_normal(K.shape(*given))
    for at, made in enumerate(K.pull(weights, *given)):
        towards = RNG.standard_normal(given[at].shape)

        def along(t, at=at, towards=towards):
            moved = [a + t * towards if at == k else a for k, a in enumerate(given)]
            return np.sum(weights * K(*moved))

        assert made.shape == given[at].shape
        if shapes[2] is not None or at == 0:  # else both sides are the same, and move together
            assert np.sum(made * towards) == pytest.approx(slope(along), rel=1e-7)
    own = RNG.standard_normal(K.diagonal(*given[:2]).shape)
    for at, made in enumerate(K.pull_diagonal(own, *given[:2])):
        towards = RNG.standard_normal(given[at].shape)

        def diagonal(t, at=at, towards=towards):
            moved = [a + t * towards if at == k else a for k, a in enumerate(given[:2])]
            return np.sum(own * K.diagonal(*moved))

        assert np.sum(made * towards) == pytest.approx(slope(diagonal), rel=1e-7)


@pytest.mark.parametrize("symmetric", [True, False])
def test_both_sides_of_examples_with_themselves(symmetric):
    weights = RNG.standard_normal((6, 6))
    weights = weights + weights.T if symmetric else weights
    towards = RNG.standard_normal(X.shape)
    values, first, second = K.pull(weights, K.values, X, X.copy())
    both = slope(lambda t: np.sum(weights * K(K.values, X + t * towards, X + t * towards)))
    assert np.sum((first + second) * towards) == pytest.approx(both, rel=1e-8)
    apart = K.pull(weights - np.diag(weights.diagonal()), K.values, X, X + 1e-9)
    own = K.pull_diagonal(weights.diagonal(), K.values, X)
    np.testing.assert_allclose(first, apart[1] + 0.5 * own[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(second, apart[2] + 0.5 * own[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values, apart[0] + own[0], rtol=1e-5)


def test_what_is_not_needed_is_none():
    weights = np.ones((6, 4))
    whole = K.pull(weights, K.values, X, X2)
    for needs in ((True, False, False), (False, True, False), (False, False, True), (False, True, True)):
        for made, one, need in zip(K.pull(weights, K.values, X, X2, needs=needs), whole, needs, strict=True):
            if need:
                np.testing.assert_allclose(made, one, rtol=1e-12)
            else:
                assert made is None
    own = K.pull_diagonal(np.ones(6), K.values, X)
    for needs in ((True, False), (False, True)):
        for made, one, need in zip(
            K.pull_diagonal(np.ones(6), K.values, X, needs=needs), own, needs, strict=True
        ):
            assert need or made is None
            if need:
                np.testing.assert_allclose(made, one, rtol=1e-12)


def test_products_by_blocks_of_rows(monkeypatch):
    left, right = RNG.standard_normal((6, 2)), RNG.standard_normal((4, 2))
    whole = K.pull(left @ right.T, K.values, X, X2)
    monkeypatch.setattr("tpnum.interop.function.ENTRIES", 9)
    for made, one in zip(
        K.pull_products(left, right, K.values, X, X2, needs=(True,) * 3), whole, strict=True
    ):
        np.testing.assert_allclose(made, one, rtol=1e-12)


def test_images_as_flat_rows():
    net = nn.serial(nn.Conv(4, (3, 3), b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    images = RNG.standard_normal((3, 4, 4, 2))
    k = KernelFunction.of(net, "nngp", ("layers[0].W_std", "b_std"), (4, 4, 2))
    flat = images.reshape(3, 32)
    np.testing.assert_allclose(k(k.values, flat, flat), tp.kernel(net, images), rtol=1e-13)
    weights = RNG.standard_normal((3, 3))
    slopes = tp.kernel(net, images, wrt=k.names).derivatives
    made = k.pull(weights, k.values, flat, flat, needs=(True, False, False))[0]
    np.testing.assert_allclose(made, np.einsum("pij,ij->p", slopes, weights), rtol=1e-10)


def test_refusals():
    with pytest.raises(ValueError, match="net is 'relu': it must be a net of tpnum.nn"):
        KernelFunction.of("relu")
    with pytest.raises(ValueError, match="wrt: the deviations 'W_std' differ"):
        KernelFunction.of(NET, wrt="W_std")
    with pytest.raises(ValueError, match="get must be one of"):
        KernelFunction.of(NET, "rbf")
