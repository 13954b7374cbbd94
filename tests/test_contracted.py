"""Sums of kernels over pairs and their gradients: against whole derivatives, differences and closed forms."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import tpnum as tp
from tests.oracle.differences import slope
from tpnum import nn
from tpnum.errors import InputError, LimitError
from tpnum.lower.unsupported import Unsupported
from tpnum.nn.deviations import deviations
from tpnum.tiles.gradients import derivatives

RNG = np.random.default_rng(5)
X, X2 = RNG.standard_normal((6, 4)), RNG.standard_normal((5, 4))


def dense(*activations):
    layers = [layer for f in activations for layer in (nn.Dense(8, W_std=1.4, b_std=0.3), f)]
    return nn.serial(*layers, nn.Dense(1, W_std=1.1, b_std=0.2))


def joined(join, *branches):
    return nn.serial(nn.Dense(8, b_std=0.3), nn.FanOut(2), nn.parallel(*branches), join, nn.Dense(1))


NETS = {
    "relu": dense(nn.Relu(), nn.Relu()),
    "leaky": dense(nn.LeakyRelu(0.3), nn.Abs()),
    "erf": dense(nn.Erf(), nn.Erf()),
    "sin": dense(nn.Sin(), nn.Exp()),
    "tanh": dense(nn.Tanh()),
    "kinked": dense(nn.HardTanh()),
    "gelu": dense(nn.Gelu()),
    "jumps": dense(nn.Sign()),
    "residual": joined(nn.FanInSum(), nn.serial(nn.Relu(), nn.Dense(8, b_std=0.2)), nn.Identity()),
    "product": joined(
        nn.FanInProd(), nn.serial(nn.Relu(), nn.Dense(4)), nn.serial(nn.Erf(), nn.Dense(4, b_std=0.4))
    ),
    "layer norm": nn.serial(nn.Dense(8, b_std=0.3), nn.Relu(), nn.LayerNorm(), nn.Dense(1, b_std=0.4)),
    "repeated": nn.serial(nn.repeat(nn.serial(nn.Dense(8, b_std=0.3), nn.Erf()), 3), nn.Dense(1)),
}


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("case", NETS)
def test_against_differences_and_whole_derivatives(case, get):
    net = NETS[case]
    wrt = tuple(deviations(net))
    weights = RNG.standard_normal((6, 5))
    kernel, slopes = tp.kernel(net, X, X2, get=get, wrt=wrt)
    value, made = tp.kernel(net, X, X2, get=get, wrt=("x1", *wrt, "x2"), against=weights)
    assert value == pytest.approx(np.sum(weights * kernel), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(made[1:-1], np.sum(weights * slopes, axis=(1, 2)), rtol=1e-11, atol=1e-12)
    assert (made[0].shape, made[-1].shape) == (X.shape, X2.shape)
    d1, d2 = RNG.standard_normal(X.shape), RNG.standard_normal(X2.shape)
    expected = slope(lambda t: np.sum(weights * tp.kernel(net, X + t * d1, X2 + t * d2, get=get)))
    assert np.sum(made[0] * d1) + np.sum(made[-1] * d2) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("case", ["relu", "erf", "tanh", "jumps", "product"])
def test_an_array_with_itself(case):
    """Both arguments move, and the diagonal with them; the weights need not be symmetric."""
    net, get = NETS[case], "ntk"
    weights = RNG.standard_normal((6, 6))
    value, (gradient, total) = tp.kernel(net, X, get=get, wrt=("x1", "W_std"), against=weights)
    kernel, slopes = tp.kernel(net, X, get=get, wrt="W_std")
    assert value == pytest.approx(np.sum(weights * kernel), rel=1e-12)
    assert total == pytest.approx(np.sum(weights * slopes), rel=1e-11)
    direction = RNG.standard_normal(X.shape)
    expected = slope(lambda t: np.sum(weights * tp.kernel(net, X + t * direction, get=get)))
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("case", ["relu", "tanh", "jumps"])
def test_a_vector(case):
    """K v, its derivatives by deviations, and by each example of its own entry."""
    net, v = NETS[case], RNG.standard_normal(5)
    value, (total, gradient) = tp.kernel(net, X, X2, get="ntk", wrt=("W_std", "x1"), against=v)
    kernel, slopes = tp.kernel(net, X, X2, get="ntk", wrt="W_std")
    np.testing.assert_allclose(value, kernel @ v, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(total, slopes @ v, rtol=1e-11, atol=1e-12)
    for i in range(len(X)):
        alone = tp.kernel(net, X[i : i + 1], X2, get="ntk", wrt="x1", against=v[None]).derivatives
        np.testing.assert_allclose(gradient[i], alone[0], rtol=1e-12, atol=1e-13)


def test_inputs_in_many_digits():
    """The arc-cosine kernel of one layer, and its tangent kernel, differentiated by mpmath."""
    net = nn.serial(nn.Dense(8, W_std=1.3, b_std=0.4), nn.Relu(), nn.Dense(1, W_std=0.9))

    def kernels(*x):
        q, r, c = (
            mpmath.mpf(1.3) ** 2 * sum(a * b for a, b in zip(u, v, strict=True)) / 4 + mpmath.mpf(0.4) ** 2
            for u, v in ((x, x), (y, y), (x, y))
        )
        root = mpmath.sqrt(q * r)
        angle = mpmath.acos(c / root)
        k = root * (mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle)) / (2 * mpmath.pi)
        steep = (mpmath.pi - angle) / (2 * mpmath.pi)
        return mpmath.mpf(0.9) ** 2 * k, mpmath.mpf(0.9) ** 2 * (k + steep * c)

    with mpmath.workdps(40):
        at = [mpmath.mpf(float(a)) for a in X[0]]
        y = [mpmath.mpf(float(a)) for a in X2[0]]
        for kind, get in enumerate(("nngp", "ntk")):
            made = tp.kernel(net, X[:1], X2[:1], get=get, wrt="x1", against=np.ones((1, 1)))
            for k in range(4):
                order = tuple(int(k == m) for m in range(4))
                exact = mpmath.diff(lambda *x, kind=kind: kernels(*x)[kind], at, order)
                assert made.derivatives[0, k] == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("case", NETS)
def test_two_roads(case, monkeypatch):
    """The compiled adjoints and the graph's rules: many tiles, an example twice and others close to it."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((72, 4))
    x[7] = x[3]
    x[8] = x[3] * (1 + 1e-5)
    x[9] = x[3] + 1e-4
    wrt = (*deviations(NETS[case]), "x1")
    weights = rng.standard_normal((72, 72))

    def made():
        whole = tp.kernel(NETS[case], x, get="ntk", wrt=wrt[:-1]).derivatives
        value, parts = tp.kernel(NETS[case], x, get="ntk", wrt=wrt, against=weights)
        return [whole, np.array([value, *parts[:-1]]), parts[-1]]

    first = made()

    def refused(*args, **kwargs):
        raise Unsupported("asked for the other road")

    monkeypatch.setattr(derivatives, "tape_of", refused)
    monkeypatch.setattr("tpnum.tiles.gradients.contracted.tape_of", refused)
    for one, other in zip(first, made(), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("activation", [nn.Erf(), nn.Gelu(), nn.Sin(1.0, 1.0, 0.3)], ids=lambda f: f.op)
def test_an_input_of_zeros(activation):
    """Without a bias its variance is 0; a smooth function has a slope there."""
    net = nn.serial(nn.Dense(8, 1.4), activation, nn.Dense(8, 1.2), activation, nn.Dense(1))
    x, weights = X.copy(), RNG.standard_normal((6, 5))
    x[1] = 0.0
    direction = RNG.standard_normal(x.shape)
    for get in ("nngp", "ntk"):
        made = tp.kernel(net, x, X2, get=get, wrt="x1", against=weights).derivatives

        def moved(t, get=get):
            return np.sum(weights * tp.kernel(net, x + t * direction, X2, get=get))

        assert np.sum(made * direction) == pytest.approx(slope(moved), rel=1e-8)


@pytest.mark.parametrize(("function", "layers"), [(tp.tanh, 1), (tp.sin, 2)])
def test_means_other_than_zero(function, layers):
    """A bias with a mean: series and closed forms know of it."""
    program = with_means(function, layers)
    weights, d = RNG.standard_normal((6, 5)), RNG.standard_normal(X.shape)
    made = tp.kernel(program, X, X2, wrt="x1", against=weights).derivatives
    expected = slope(lambda t: np.sum(weights * tp.kernel(program, X + t * d, X2)), 1e-3)
    assert np.sum(made * d) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("function", [tp.relu, tp.erf, tp.tanh])
def test_moments_with_means_other_than_zero_are_refused(function):
    """The rules of the variances behind are for variables around zero."""
    with pytest.raises(LimitError, match="means other than zero is not available; leave out wrt="):
        tp.kernel(with_means(function, 2), X, X2, wrt="x1", against=np.ones((6, 5)))


def with_means(function, layers):
    program = tp.Program()
    h, rows = program.data("x", channels="d"), "d"
    for k in range(layers):
        bias = program.vector(f"b{k}", mean=0.6, var=0.2)
        h, rows = function(program.matrix(f"W{k}", var=1.3, cols=rows) @ h + bias), "n"
    program.output(program.matrix("V") @ h)
    return program


def test_the_number_of_threads_changes_nothing():
    x, weights = RNG.standard_normal((700, 4)), RNG.standard_normal((700, 700))
    one, two = (
        tp.kernel(NETS["relu"], x, get="ntk", wrt=("W_std", "x1"), against=weights, n_jobs=n) for n in (1, 2)
    )
    assert one.kernel == two.kernel
    assert one.derivatives[0] == two.derivatives[0]
    np.testing.assert_array_equal(one.derivatives[1], two.derivatives[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"wrt": "x1"}, "contract it"),
        ({"against": np.ones((6, 6))}, "say by what with wrt"),
        ({"wrt": "W_std", "against": np.ones((6, 5))}, "shape is"),
        ({"wrt": "x2", "against": np.ones((6, 6))}, "no x2"),
        ({"wrt": "W_std", "against": np.ones(6)}, "give x2"),
        ({"wrt": ("x1", "nothing"), "against": np.ones((6, 6))}, "nothing"),
        ({"wrt": ("x1", "x1"), "against": np.ones((6, 6))}, "'x1' is named twice"),
        ({"wrt": "W_std", "against": np.ones((6, 6)), "get": ("nngp", "ntk")}, "one kind"),
        ({"wrt": "x2", "against": np.ones(5), "x2": X2}, "takes a matrix"),
        ({"wrt": "x1", "against": np.ones((6, 6)), "out": np.empty((6, 6))}, "no matrix is filled"),
        ({"wrt": "W_std", "against": np.ones((6, 6)), "out": "K.npy"}, "against: .* no pairs of examples"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(InputError, match=words):
        tp.kernel(NETS["relu"], X, **arguments)
