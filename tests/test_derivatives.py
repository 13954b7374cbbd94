"""Derivatives of kernels by deviations: against differences, closed forms in many digits, and themselves."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, LimitError
from tpnum.nn.deviations import changed, deviations, paths_of, with_deviations

RNG = np.random.default_rng(0)
X, X2 = RNG.standard_normal((5, 4)), RNG.standard_normal((3, 4))
X[4] = X[3]
IMAGES = RNG.standard_normal((2, 5, 5, 2))


def dense(activation):
    return nn.serial(
        nn.Dense(8, W_std=1.4, b_std=0.3),
        activation,
        nn.Dense(8, W_std=1.2, b_std=0.3),
        activation,
        nn.Dense(1, W_std=1.1),
    )


def _branches(join, *branches):
    return nn.serial(
        nn.Dense(8, W_std=1.4, b_std=0.3), nn.FanOut(2), nn.parallel(*branches), join, nn.Dense(1)
    )


ACTIVATIONS = [
    nn.Relu(), nn.Erf(), nn.Tanh(), nn.LeakyRelu(0.3), nn.Abs(), nn.HardTanh(), nn.Sign(), nn.Sin(),
    nn.RectifiedMonomial(2), nn.Polynomial([0.5, 1.0, 0.3]), nn.Selu(), nn.Gelu(),
]  # fmt: skip
NETS = {a.op: (dense(a), X if a.op in ("Relu", "Erf", "Tanh") else X[2:]) for a in ACTIVATIONS} | {
    "standard": (
        nn.serial(
            nn.Dense(8, W_std=1.4, b_std=0.3, parameterization="standard"),
            nn.Erf(),
            nn.Dense(1, W_std=1.2, b_std=0.1, parameterization="standard"),
        ),
        X,
    ),
    "residual": (_branches(nn.FanInSum(), nn.serial(nn.Relu(), nn.Dense(8, b_std=0.2)), nn.Identity()), X),
    "different": (_branches(nn.FanInSum(), nn.Relu(), nn.Erf()), X[2:]),
    "product": (
        _branches(nn.FanInProd(), nn.serial(nn.Relu(), nn.Dense(4)), nn.serial(nn.Erf(), nn.Dense(4))),
        X,
    ),
    "concatenated": (_branches(nn.FanInConcat(), nn.Dense(4), nn.serial(nn.Dense(8), nn.Erf())), X),
    "layer norm": (nn.serial(nn.Dense(8, b_std=0.3), nn.Relu(), nn.LayerNorm(), nn.Dense(1, b_std=0.4)), X),
    "repeated": (
        nn.serial(nn.repeat(nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf()), 3), nn.Dense(1)),
        X,
    ),
    "dropout": (nn.serial(nn.Dense(8, b_std=0.3), nn.Relu(), nn.Dropout(0.7), nn.Dense(1)), X),
    "convolution": (
        nn.serial(nn.Conv(4, (3, 3), padding="SAME", W_std=1.2, b_std=0.2), nn.Relu(), nn.Conv(4, (2, 2))),
        IMAGES,
    ),
    "pooled": (
        nn.serial(
            nn.Conv(4, (3, 3), W_std=1.2, b_std=0.2), nn.Relu(), nn.AvgPool((2, 2)), nn.Conv(4, (2, 2)),
            nn.Erf(), nn.GlobalAvgPool(), nn.Dense(1),
        ),
        IMAGES,
    ),
    "averaged": (
        nn.serial(
            nn.Conv(4, (2,), b_std=0.2), nn.Relu(), nn.AvgPool((2,)), nn.Flatten(), nn.Dense(1),
        ),
        IMAGES[:, 0],
    ),
    "recurrent": (nn.serial(nn.SimpleRnn(8, W_std=1.1, U_std=0.9, b_std=0.2)), IMAGES[:, 0]),
}  # fmt: skip


def difference(net, paths, x, x2, get, h=2e-3):
    """Central differences of sixth order along the common shift of some deviations."""

    def at(t):
        moved = changed(net, lambda path, value: value + t if path in paths else value)
        return np.array(tp.kernel(moved, x, x2, get=get))

    return (45 * (at(h) - at(-h)) - 9 * (at(2 * h) - at(-2 * h)) + (at(3 * h) - at(-3 * h))) / (60 * h)


@pytest.mark.parametrize("case", NETS)
def test_against_differences(case):
    """By path and by name, with itself (an example twice) or with others, and the diagonal alone."""
    net, x = NETS[case]
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in deviations(net)))
    wrt, get = (next(iter(deviations(net))), *names), ("nngp", "ntk")
    for second in (None, X2) if x is X else (None,):
        made = tp.kernel(net, x, second, get=get, wrt=wrt)
        for name, *found in zip(wrt, *made.derivatives, strict=True):
            for one, expected in zip(
                found, difference(net, paths_of(net, name), x, second, get), strict=True
            ):
                scale = max(np.abs(expected).max(), 0.1)
                np.testing.assert_allclose(one, expected, atol=2e-10 * scale, rtol=1e-9)
    both = tp.kernel(net, x, get=get, wrt=wrt)
    alone = tp.kernel(net, x, get=get, wrt=wrt, diag=True)
    letters = "abc"[: (both.kernel.ntk.ndim - 2) // 2]
    for k, slopes, own, own_slopes in zip(*both, *alone, strict=True):
        expected = np.einsum(f"pii{letters}{letters}->pi{letters}", slopes)
        np.testing.assert_allclose(own_slopes, expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(own, np.einsum(f"ii{letters}{letters}->i{letters}", k), rtol=1e-12)


def test_a_relu_net_in_many_digits():
    """K, Theta and their derivatives by arc-cosines, differentiated by mpmath."""
    x, y = X[0], X[1]

    def kernels(w, b, v):
        q, r, c = (w**2 * mpmath.mpf(float(s)) + b**2 for s in (x @ x / 4, y @ y / 4, x @ y / 4))
        root = mpmath.sqrt(q * r)
        angle = mpmath.acos(c / root)
        k = root * (mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle)) / (2 * mpmath.pi)
        steep = (mpmath.pi - angle) / (2 * mpmath.pi)
        return v**2 * k, v**2 * k + v**2 * steep * c

    net = nn.serial(nn.Dense(8, W_std=1.3, b_std=0.4), nn.Relu(), nn.Dense(1, W_std=0.9))
    at = (1.3, 0.4, 0.9)
    wrt = ("layers[0].W_std", "layers[0].b_std", "layers[2].W_std")
    made = tp.kernel(net, X[:1], X[1:2], get=("nngp", "ntk"), wrt=wrt)
    with mpmath.workdps(40):
        for i in range(3):
            order = tuple(int(i == j) for j in range(3))
            for kind in (0, 1):
                exact = mpmath.diff(lambda w, b, v, kind=kind: kernels(w, b, v)[kind], at, order)
                found = made.derivatives[kind][i, 0, 0]
                assert found == pytest.approx(float(exact), rel=1e-13)


def test_homogeneity():
    """Without biases a relu net's kernel has degree 2 in every deviation (the NTK too), and they add up."""
    net = nn.serial(nn.Dense(8, W_std=1.4), nn.Relu(), nn.Dense(8, W_std=0.7), nn.Relu(), nn.Dense(1))
    both = tp.kernel(net, X, get=("nngp", "ntk"), wrt=(*deviations(net), "W_std"))
    for k, made in zip(both.kernel, both.derivatives, strict=True):
        for value, slope in zip(deviations(net).values(), made, strict=False):
            np.testing.assert_allclose(slope, 2 * k / value, rtol=1e-12)
        np.testing.assert_allclose(made[3], made[:3].sum(axis=0), rtol=1e-13)


def test_near_duplicates():
    """Relative distances down to rounding; the differences are taken along the layer that separates them."""
    x = np.concatenate([X[:1], X[:1] * (1 + np.logspace(-12, -1, 12)[:, None])])
    net = dense(nn.Relu())
    _, made = tp.kernel(net, x, get="ntk", wrt="W_std")
    expected = difference(net, paths_of(net, "W_std"), x, None, "ntk")
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_forms():
    net = dense(nn.Erf())
    k, one = tp.kernel(net, X, wrt="b_std")
    assert one.shape == k.shape
    pair = tp.kernel(net, X, X2, get=("ntk", "nngp"), wrt=["b_std"])
    assert pair.kernel._fields == pair.derivatives._fields == ("ntk", "nngp")
    assert pair.derivatives.nngp.shape == (1, 5, 3)
    np.testing.assert_allclose(tp.kernel(net, X, wrt="b_std", dtype="float32").derivatives, one, rtol=1e-5)
    with pytest.raises(LimitError, match="overflows float32"):
        tp.kernel(dense(nn.Relu()), 1e30 * X[:1], wrt="W_std", dtype="float32")
    silent = with_deviations(net, {"layers[0].b_std": 0.0})
    np.testing.assert_array_equal(tp.kernel(silent, X, wrt="layers[0].b_std").derivatives, 0.0)


def test_tiles(monkeypatch):
    from tpnum.tiles.gradients import derivatives

    net = dense(nn.Relu())
    _, whole = tp.kernel(net, X, get="ntk", wrt="W_std")
    monkeypatch.setattr(derivatives, "general_side", lambda plan: 2)
    np.testing.assert_allclose(tp.kernel(net, X, get="ntk", wrt="W_std").derivatives, whole, rtol=1e-12)
    np.testing.assert_array_equal(whole, whole.T)


def test_deviations_by_name_and_path():
    net = dense(nn.Relu())
    assert list(deviations(net)) == [
        "layers[0].W_std", "layers[0].b_std", "layers[2].W_std", "layers[2].b_std", "layers[4].W_std",
    ]  # fmt: skip
    assert deviations(nn.Dense(3, W_std=2.0)) == {"W_std": 2.0}
    assert set(deviations(with_deviations(net, {"W_std": 3.0, "b_std": 0.0})).values()) == {0.0, 3.0}
    assert with_deviations(net, {}) == net


@pytest.mark.parametrize(
    ("wrt", "words"),
    [
        ("W_sdt", "wrt: 'W_sdt' is no deviation .* did you mean W_std"),
        ("layers[1].W_std", "wrt: 'layers.1..W_std' is no deviation"),
        ((), r"wrt is \(\): it must be a name"),
        (3, "wrt is 3: it must be a name"),
        (("W_std", 3), "wrt: 3 is no deviation .* known are W_std"),
        (("W_std", "b_std", "W_std"), "wrt: 'W_std' is named twice; name it once"),
    ],
)
def test_refused_names(wrt, words):
    with pytest.raises(InputError, match=words):
        tp.kernel(dense(nn.Relu()), X, wrt=wrt)


def test_what_is_not_available():
    p = tp.Program()
    p.output(p.matrix("W", cols="d") @ p.data("u"))
    with pytest.raises(InputError, match="wrt: derivatives are by deviations of a net of layers"):
        tp.kernel(p, X, wrt="W_std")
    joint = _branches(nn.FanInProd(), nn.Relu(), nn.serial(nn.Residual(nn.Dense(8)), nn.Relu()))
    words = r"line \d+ \(.*: the derivative .* over more than two Gaussians is not available"
    with pytest.raises(LimitError, match=words):
        tp.kernel(joint, X, wrt="W_std", get="nngp", rtol=1e-2)
