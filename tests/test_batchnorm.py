"""Batch normalisation: reference kernels, finite nets, growth rates, batches of `kernel`, refusals."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import finite_kernels
from tpnum import nn
from tpnum.errors import AccuracyWarning, InputError, LimitError, SpecError
from tpnum.gauss import special
from tpnum.gauss.special import batch_pairs
from tpnum.gauss.special.batch_rules import gauss_rule

DATA = Path(__file__).parent / "data"
KINDS = ("nngp", "ntk")


def net(depth=1, act=nn.Relu, width=64, **norm):
    layers = [layer for _ in range(depth) for layer in (nn.Dense(width), nn.BatchNorm(**norm), act())]
    return nn.serial(*layers, nn.Dense(1))


def inputs(seed, n=12, d=5):
    return np.random.default_rng([seed, 4]).standard_normal((n, d))


@pytest.mark.parametrize(
    ("file", "name", "depth", "rtol"),
    [
        ("bn_gp", "small_depth1", 1, 1e-12),
        ("bn_gp", "small_depth3", 3, 1e-12),
        ("bn_ntk", "small86_depth1", 1, 1e-8),
        ("bn_ntk", "proj12_depth2", 2, 1e-8),
    ],
)
def test_reference(file, name, depth, rtol):
    known = np.load(DATA / f"{file}.npz")
    kind = "nngp" if file == "bn_gp" else "ntk"
    want = known[f"{name}__{'K' if kind == 'nngp' else 'ntk'}"]
    x0, x1 = known[f"{name}__x0"], known[f"{name}__x1"]
    b = len(x0)
    top = np.abs(want).max()
    within = tp.kernel(net(depth, axis=1), x0[None], get=kind)[0, 0]
    across = tp.kernel(net(depth, axis=1), x0[None], x1[None], get=kind)[0, 0]
    np.testing.assert_allclose(within, want[:b, :b], rtol=0, atol=rtol * top)
    np.testing.assert_allclose(across, want[:b, b:], rtol=0, atol=rtol * top)


def spectra(size):
    """Covariances of two batches: of many features, of few, with eigenvalues far apart and all equal."""
    rng = np.random.default_rng([size, 6])
    z = rng.standard_normal((2 * size, 2 * size))
    yield z @ z.T / size
    yield z[:, :8] @ z[:, :8].T + 1e-4 * np.eye(2 * size)
    turn = np.linalg.qr(z)[0]
    yield (turn * 10.0 ** np.linspace(-6.0, 0.0, 2 * size)) @ turn.T
    yield np.kron([[1.0, 0.6], [0.6, 1.0]], np.eye(size))


@pytest.mark.parametrize(("size", "eps"), [(4, 0.0), (5, 0.0), (20, 0.0), (20, 0.1)])
def test_pairs_by_two_quadratures(size, eps):
    """Gauss's rule of a batch's own weight and Legendre's over the angle; what is quoted covers both."""
    covs = np.stack(list(spectra(size)))
    pair, _, _ = batch_pairs._pair(covs, size, eps)
    slopes = batch_pairs.homogeneous("relu")
    fitted, angle = (
        batch_pairs._pair_moments(pair, slopes, rule)[0]
        for rule in (("fitted", 18 if size > 5 else 34), ("angle", 36 if size > 5 else 64))
    )
    top = np.abs(angle).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(fitted / top, angle / top, rtol=0, atol=1e-11)
    for cov, want in zip(covs, angle, strict=True):
        made = special.batchnorm_pair(cov, rtol=1e-9, eps=eps)
        wrong = np.abs(made.value - want)
        assert wrong.max() < 1e-9 * want.max()
        assert wrong.max() <= made.error.max() + 1e-13


@pytest.mark.parametrize(("size", "seed"), [(4, 194), (4, 238), (5, 56), (5, 84), (5, 246)])
def test_errors_cover_batches_that_are_nearly_one(size, seed):
    """Few axes, and another batch close by: rules converge slowly, and two of them are alike too soon."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2 * size, int(rng.integers(2, size + 2))))
    x[size:] = x[:size] + 10.0 ** rng.uniform(-3, 0) * x[size:]
    made = special.batchnorm_pair(x @ x.T, rtol=1e-9)
    pair, _, _ = batch_pairs._pair((x @ x.T)[None], size, 0.0)
    want, _ = batch_pairs._pair_moments(pair, batch_pairs.homogeneous("relu"), ("fitted", 40))
    wrong = np.abs(made.value - want[0]).max()
    assert wrong <= made.error.max()
    assert wrong < 1e-9 * want.max()


@pytest.mark.filterwarnings("error::tpnum.errors.AccuracyWarning")
@pytest.mark.parametrize(("size", "eps", "kind"), [(8, 0.0, "angle"), (4, 1e-5, "line")])
def test_tangents_of_batches_of_few_features(size, eps, kind, monkeypatch):
    """Three axes, by the rules that are chosen and by many nodes of one kind."""
    rng = np.random.default_rng(size)
    x, theta = rng.standard_normal((2 * size, 3)), rng.standard_normal((size, size))
    made = special.batchnorm_pair_tangent(x @ x.T, theta, rtol=1e-8, eps=eps)
    monkeypatch.setattr(batch_pairs, "rules_of_pairs", lambda one: ((kind, 81), (kind, 100)))
    want = special.batchnorm_pair_tangent(x @ x.T, theta, rtol=1e-8, eps=eps)
    assert np.abs(made.value - want.value).max() < 1e-8 * np.abs(want.value).max()


@pytest.mark.parametrize("order", [3, 6])
def test_fitted_rules_are_exact_for_polynomials(order):
    """Of degree 2 n - 1 in their variable, under the weight that they were made of."""
    rng = np.random.default_rng([order, 7])
    x, weight = np.sort(rng.uniform(0.0, 2.0, (3, 50))), rng.exponential(size=(3, 50))
    nodes, share = gauss_rule(x, weight, order)
    for degree in range(2 * order):
        np.testing.assert_allclose(
            np.sum(share * nodes**degree, 1), np.sum(weight * x**degree, 1), rtol=1e-12
        )


def test_axes_without_variance_are_left_out():
    """A batch of few features has as many axes; what covaries with the other batch stays."""
    x = np.random.default_rng(8).standard_normal((24, 5))
    pair, _, _ = batch_pairs._pair((x @ x.T)[None], 12, 0.0)
    assert pair.cross.shape == (1, 5, 5)
    across = np.linalg.qr(np.random.default_rng(9).standard_normal((6, 6)))[0][:3]
    axes = np.linalg.qr(np.c_[np.ones(4), np.eye(4)[:, :3]])[0][:, 1:]
    two = axes * [1.0, 1.0, 1e-7] @ across  # a part of variance 1e-14 that the other batch knows
    joint = np.concatenate([axes @ across, two])
    pair, _, _ = batch_pairs._pair((joint @ joint.T)[None], 4, 0.0)
    np.testing.assert_allclose(np.linalg.svd(pair.cross[0])[1], [1.0, 1.0, 1e-7], rtol=1e-6)


def test_batches_are_an_axis():
    """Batches of consecutive examples, of the array or by its own axis, tile by tile or at once."""
    x, y = inputs(1), inputs(2, 6)
    whole = tp.kernel(net(2), x, batch_size=6, get=KINDS)
    axis = tp.kernel(net(2, axis=1), x.reshape(2, 6, 5), get=KINDS)
    for a, b in zip(whole, axis, strict=True):
        assert a.shape == (12, 12)
        np.testing.assert_array_equal(a.reshape(2, 6, 2, 6).transpose(0, 2, 1, 3), b)
        assert np.linalg.eigvalsh(a).min() > -1e-9
    tiled = tp.kernel(net(2), x, batch_size=6, tile=6)
    np.testing.assert_allclose(tiled, whole.nngp, rtol=1e-12)
    across = tp.kernel(net(2), x, y, batch_size=6)
    both = tp.kernel(net(2), np.concatenate([x, y]), batch_size=6)
    np.testing.assert_allclose(across, both[:12, 12:], atol=1e-12)
    np.testing.assert_allclose(tp.kernel(net(2), x, batch_size=6, diag=True), np.diag(whole.nngp), atol=1e-12)
    out = np.empty((12, 12))
    assert tp.kernel(net(2), x, batch_size=6, out=out) is out
    np.testing.assert_array_equal(out, whole.nngp)


def z_scores(made, found, slack):
    return [
        np.max(np.abs(k - value) / np.hypot(se, slack * np.abs(k).max()))
        for k, (value, se) in zip(made, found, strict=True)
    ]


def against_finite_nets(layers, x, width=100, draws=20, slack=2e-3):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = tp.kernel(layers, x, get=KINDS, rtol=1e-3)
    return z_scores(made, finite_kernels(layers, x, width, draws), slack)


@pytest.mark.parametrize("act", [nn.Relu, nn.Tanh])
def test_against_finite_nets(act):
    x = np.random.default_rng(3).standard_normal((2, 8, 4))
    assert max(against_finite_nets(net(1, act, axis=1, eps=0.1), x)) < 4.5


@pytest.mark.parametrize("read", [{"return_sequences": False}, {"reverse": True}], ids=str)
def test_recurrences_take_batches(read):
    """Behind a recurrence a batch is normalised by the covariances that it has without one."""
    cell, x = nn.SimpleRnn(1, nn.Erf(), **read), np.random.default_rng(3).standard_normal((8, 3, 2))
    ends = [] if "return_sequences" in read else [nn.GlobalAvgPool()]
    body = [cell, *ends, nn.Dense(1)]
    plain, batched = (tp.kernel(nn.serial(*body), x, get=KINDS, batch_size=b) for b in (None, 4))
    for kind in KINDS:
        np.testing.assert_allclose(getattr(batched, kind), getattr(plain, kind), rtol=1e-12, atol=1e-13)
    as_data = np.sqrt(8) * np.linalg.cholesky(plain.nngp)
    normed = [nn.BatchNorm(), nn.Relu(), nn.Dense(1)]
    wanted = tp.kernel(nn.serial(nn.Dense(1), *normed), as_data, batch_size=4)
    np.testing.assert_allclose(tp.kernel(nn.serial(*body, *normed), x, batch_size=4), wanted, atol=1e-9)


def test_over_positions_and_after_a_nonlinearity():
    """Of a convolution the statistics are over examples and positions; they may be those of a relu."""
    x = np.random.default_rng(4).standard_normal((2, 3, 4, 2))
    conv = nn.serial(
        nn.Conv(32, (1, 2)), nn.BatchNorm(axis=(1, 2)), nn.Relu(), nn.Index((slice(None), 0)), nn.Flatten(),
        nn.Dense(1),
    )  # fmt: skip
    assert max(against_finite_nets(conv, x)) < 4.5
    flat = np.random.default_rng(5).standard_normal((2, 6, 3))
    after = nn.serial(nn.Dense(32), nn.Tanh(), nn.BatchNorm(axis=1, eps=1e-3), nn.Dense(1))
    assert max(against_finite_nets(after, flat)) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_settings_against_finite_nets(seed):
    rng = np.random.default_rng([seed, 6])
    act = (nn.Relu, nn.Tanh, nn.Erf, nn.Abs, nn.Gelu)[rng.integers(5)]
    x = rng.standard_normal((2, rng.integers(6, 12), 4))
    layers = net(int(rng.integers(1, 3)), act, axis=1, eps=float(rng.choice([1e-5, 0.1])))
    assert max(against_finite_nets(layers, x, 150, 60)) < 4.5


def test_sampled_and_exact_agree():
    """relu by its integrals and by points: the functions max(u, 0) and (u + |u|)/2."""
    x = np.random.default_rng(6).standard_normal((2, 7, 4))
    half = nn.Elementwise(lambda u: 0.5 * (u + np.abs(u)), derivative=lambda u: 1.0 * (u > 0), kinks=(0.0,))
    exact = tp.kernel(net(1, axis=1, eps=0.05), x, get=KINDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        points = tp.kernel(net(1, lambda: half, axis=1, eps=0.05), x, get=KINDS, rtol=1e-3)
    for a, b in zip(exact, points, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-3 * np.abs(a).max())


def test_eps_is_added_to_the_variance():
    rng = np.random.default_rng(7)
    z = rng.standard_normal((2, 8, 10))
    cov = z @ z.transpose(0, 2, 1) / 10
    made = special.batchnorm(cov, eps=0.3, rtol=1e-9)
    want = special.batchnorm_sampled("relu", cov, eps=0.3, rtol=1e-3)
    assert np.abs(made.value - want.value).max() < 2e-3
    joint = special.batchnorm_pair(cov, 4, eps=0.3, rtol=1e-9).value
    pair = special.batchnorm_sampled("relu", cov, 4, eps=0.3, rtol=1e-3).value[:, :4, 4:]
    assert np.abs(joint - pair).max() < 2e-3


def rate(b):
    """Growth of the squared gradient by a layer of relu after batch normalisation, at its fixed point."""
    p = (np.pi - np.arccos(-1 / (b - 1))) / (2 * np.pi)
    c = {8: 0.2501349329, 256: 0.3163515495}[b]
    mu = (1 - c) / 2
    inner = (b - 1) ** 2 / (2 * b) + (b - 1) * p / b - 0.5 + (1 + (b - 1) * c) / (2 * b)
    return b / (mu * (b - 3) * (b - 1)) * inner


def gradients(b, depth):
    """E of squared gradients by layer, from the law of a deep net's own backward program."""
    p = tp.Program()
    x = p.data("x", axes={"b": b}, channels="d")
    h, inner = x, []
    for k in range(depth):
        g = p.matrix(f"W{k}", cols="d" if k == 0 else "n", var=1.0) @ h
        inner.append(g)
        h = tp.relu(g.normalise("b"))
    seed = p.vector("v", axes={"b": b}, fresh=True)
    grads = p.backward({h: seed}, wrt=inner)
    return p, [grads[g] for g in inner]


def test_growth_of_gradients():
    b, depth = 8, 4
    p, grads = gradients(b, depth)
    law = tp.limit(p, data={"x": np.eye(b)}, independence="assume")
    sizes = [np.trace(law.moment(g, g).value) for g in grads]
    for before, after in zip(
        sizes[1:-1], sizes[2:], strict=True
    ):  # from the second layer on at the fixed point
        assert before / after == pytest.approx(rate(b), rel=1e-7)


@pytest.mark.parametrize("batch", [8, 16])
def test_linear_nets_grow_by_a_known_rate(batch):
    """Without a nonlinearity gradients grow by (B - 2)/(B - 3) (Yang et al. 2019)."""
    centred = np.eye(batch) - 1 / batch
    fixed = special.batchnorm(np.eye(batch), nn.LeakyRelu(1.0)).value
    np.testing.assert_allclose(fixed, batch / (batch - 1) * centred, atol=1e-9)
    made = special.batchnorm_gradient(fixed, centred, nn.LeakyRelu(1.0), rtol=1e-9).value
    assert np.trace(made) / np.trace(centred) == pytest.approx((batch - 2) / (batch - 3), rel=1e-6)


def test_given_statistics_and_large_batches():
    x = inputs(8)
    given = tp.kernel(net(1, mode="test", mean=0.3, var=1.7, eps=0.1), x, get=KINDS)
    gram, mean = x @ x.T / 5 / 1.8, -0.3 / np.sqrt(1.8)
    q = np.diag(gram)
    by_hand = tp.dual("relu")(q[:, None], q[None], gram, mean, mean)
    np.testing.assert_allclose(given.nngp, by_hand, rtol=1e-8)

    large = tp.kernel(net(1, large_batch=True), x, batch_size=12)
    gram = x @ x.T / 5
    s = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    s /= np.trace(s) / 12
    dual = tp.dual("relu")
    want = dual(np.diag(s)[:, None], np.diag(s)[None], s)
    np.testing.assert_allclose(large, want, atol=1e-12)


def test_gains_are_those_of_layernorm():
    x = inputs(9, 8)
    plain = tp.kernel(net(1), x, batch_size=8, get=KINDS)
    gained = tp.kernel(net(1, gain_std=0.0, bias_std=0.0), x, batch_size=8, get=KINDS)
    np.testing.assert_allclose(gained.nngp, plain.nngp, atol=1e-12)
    assert (np.diag(gained.ntk) > np.diag(plain.ntk) + 0.1).all()


def test_spec():
    layer = nn.BatchNorm(axis=1, eps=1e-3, gain_std=0.0)
    assert nn.from_spec(layer.to_spec()) == layer


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (SpecError, "is given none", lambda x: tp.kernel(net(), x)),
        (SpecError, "batch of size 1", lambda x: tp.kernel(net(), x, batch_size=1)),
        (SpecError, "batch of size 1", lambda x: tp.kernel(net(axis=1), x[:, None])),
        (InputError, "does not divide the 12 examples of x1", lambda x: tp.kernel(net(), x, batch_size=5)),
        (InputError, "would cut batches of 6", lambda x: tp.kernel(net(), x, batch_size=6, tile=8)),
        (LimitError, "B >= 4 needed", lambda x: tp.kernel(net(), x, batch_size=3, get="ntk")),
        (LimitError, "coincide", lambda x: tp.kernel(net(), 0 * x + 1, batch_size=6)),
        (SpecError, "not the channels", lambda x: tp.kernel(net(axis=-1), x, batch_size=6)),
        (SpecError, "raw data", lambda x: tp.kernel(nn.serial(nn.BatchNorm(), nn.Dense(1)), x, batch_size=6)),
        (SpecError, 'for mode="test"', lambda x: nn.BatchNorm(mean=1.0)),
        (InputError, "axis of its data", lambda x: tp.kernel(tp.Program(), x, batch_size=6)),
    ],
)
def test_refusals(error, words, call):
    with pytest.raises(error, match=words):
        call(inputs(10))


def test_plans_of_batches():
    """Pairs are those of batches, n and the bytes of the matrix those of examples."""
    made = tp.plan(net(), (5,), get=KINDS, batch_size=8, n=32, cores=1)
    assert (made.batch_size, made.n, made.inputs) == (8, 32, 4)
    assert made.bytes_per_pair == 2 * 64 * 8
    assert made.bytes >= 2 * 32 * 32 * 8
    assert made.seconds > 0.0
    assert "pairs and tiles of batches of 8" in str(made)
    assert "32 x 32" in str(made)
    with pytest.raises(InputError, match="does not divide n = 30"):
        tp.plan(net(), (5,), batch_size=8, n=30)
    with pytest.raises(InputError, match="axis of its data"):
        tp.plan(tp.Program(), (5,), batch_size=4)
