"""Kernels by one ensemble over a tile of inputs, against the exact rules and against closed forms."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.ensemble import tile
from tpnum.ensemble.atoms import GramMatrices
from tpnum.ensemble.draws import Draws
from tpnum.ensemble.expansion import DEGREES
from tpnum.ensemble.given import Given
from tpnum.ensemble.mixed import Mixed, Operand, moments
from tpnum.ensemble.normals import Component, Group, Normal, Part, Products
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.evaluate.plan import make_plan
from tpnum.kernels.hermite_sums import hermite_sums
from tpnum.law.price import TooWide

BOTH = ("nngp", "ntk")
EXACT = {
    "dense": (
        (5,),
        nn.serial(
            nn.Dense(8, b_std=0.3), nn.Relu(), nn.Dense(8, W_std=1.5, b_std=0.2), nn.Tanh(), nn.Dense(1)
        ),
    ),
    "ends in a function": ((5,), nn.serial(nn.Dense(8, b_std=0.3), nn.Relu(), nn.Dense(8), nn.Erf())),
    "convolution, mean": (
        (6, 3),
        nn.serial(nn.Conv(8, (3,), padding="SAME", b_std=0.1), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1)),
    ),
    "convolution, flat": (
        (6, 3),
        nn.serial(nn.Conv(8, (3,), strides=(2,), b_std=0.1), nn.Relu(), nn.Flatten(), nn.Dense(1)),
    ),
    "positions": (
        (4, 3),
        nn.serial(nn.Conv(8, (3,), padding="SAME"), nn.LayerNorm(), nn.Relu(), nn.Dense(1)),
    ),
    "recurrent": (
        (5, 3),
        nn.serial(nn.SimpleRnn(8, nn.Erf(), b_std=0.2, return_sequences=False), nn.Dense(1)),
    ),
    "noise": ((5,), nn.serial(nn.Dense(8), nn.Relu(), nn.Dropout(0.5), nn.Dense(8), nn.Relu(), nn.Dense(1))),
}
GATED = nn.serial(nn.Gru(8, W_std=1.3, b_std=0.3, return_sequences=False), nn.Dense(1))


def inputs(shape: tuple[int, ...], *counts: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal((n, *shape)) for n in counts]


@pytest.mark.parametrize("case", EXACT)
def test_what_is_sampled_agrees_with_the_rules(case: str) -> None:
    shape, net = EXACT[case]
    x, y = inputs(shape, 4, 3)
    program = nn.program(net, shape)
    ensemble = SampledPlan((program, program), BOTH, "it is tested", factored=False)
    for cols, data in ((None, None), (y, {"u": y})):
        found = ensemble.sample({"u": x}, data, 1 << 13)
        for kind, exact in zip(BOTH, tp.kernel(net, x, cols, get=BOTH), strict=True):
            one = found[kind]
            assert one.value.shape == exact.shape
            assert one.relative < 0.05
            far = np.abs(one.value - exact) / (one.error + 1e-10 * np.abs(exact).max())
            assert far.max() < 4.5
            assert np.sqrt(np.mean(far**2)) < 2.0


def test_a_net_without_rules_is_sampled_with_its_error() -> None:
    (x,) = inputs((4, 3), 3)
    with pytest.warns(AccuracyWarning, match=r"the kernel, sampled since .* is known to .* not to"):
        made = tp.kernel(GATED, x, get=BOTH, error=True)
    for value, error in zip(made.kernel, made.error, strict=True):
        assert value.shape == error.shape == (3, 3)
        assert np.array_equal(value, value.T)
        assert np.linalg.eigvalsh(value).min() > -1e-12
        assert 0.0 < error.max() < 0.03 * value.max()
    with pytest.warns(AccuracyWarning):
        again = tp.kernel(GATED, x, get=BOTH, n_jobs=1)
        other = tp.kernel(GATED, x, get="nngp", seed=1)
    assert np.array_equal(again.ntk, made.kernel.ntk)
    assert not np.array_equal(other, again.nngp)
    assert np.abs(other - again.nngp).max() < 8 * made.error.nngp.max()


def test_an_accuracy_that_is_reached_needs_no_warning() -> None:
    (x,) = inputs((4, 3), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = tp.kernel(GATED, x, rtol=2e-2, error=True)
    assert 2.2 * made.error.max() < 2e-2 * made.kernel.max()


def covered(seed: int, points: int) -> np.ndarray:
    """Which entries of a random net's kernels, all sampled, are within three standard errors."""
    rng = np.random.default_rng(seed)
    layers: list[nn.Layer] = []
    for _ in range(rng.integers(1, 5)):
        layers.append(nn.Dense(8, W_std=rng.uniform(0.6, 2.2), b_std=rng.choice([0.0, 0.4])))
        layers.append(rng.choice([nn.Relu(), nn.Tanh(), nn.Erf(), nn.Abs(), nn.Gelu(), nn.Sin()]))
        if rng.random() < 0.2:
            layers.append(nn.LayerNorm())
    net = nn.serial(*layers, nn.Dense(1))
    x = rng.standard_normal((3, 4))
    program = nn.program(net, (4,))
    found = SampledPlan((program, program), BOTH, "it is tested", factored=False).sample(
        {"u": x}, None, points, seed
    )
    exact = tp.kernel(net, x, get=BOTH)
    upper = np.triu_indices(3)
    far = [np.abs(found[kind].value - getattr(exact, kind))[upper] for kind in BOTH]
    errors = [found[kind].error[upper] for kind in BOTH]
    return np.concatenate(far) <= 3 * np.concatenate(errors) + 1e-10


def test_three_standard_errors_cover_the_truth() -> None:
    assert np.mean([covered(seed, 1 << 11) for seed in range(20)]) >= 0.97


@pytest.mark.slow
def test_three_standard_errors_cover_the_truth_of_99_percent() -> None:
    assert np.mean([covered(seed, 1 << 14) for seed in range(300)]) >= 0.99


def residual(act: nn.Layer) -> list[nn.Layer]:
    return [nn.Residual(nn.serial(nn.Dense(8), act))]


@pytest.mark.parametrize("act", [nn.Tanh, nn.Gelu])
def test_errors_cover_rules_of_wide_gaussians(act: type[nn.Layer]) -> None:
    """Nothing of a residual net of smooth functions is drawn, and variances grow with its depth."""
    net = nn.serial(nn.Dense(8, W_std=2.0), *residual(act()) * 6, nn.Dense(1))
    (x,) = inputs((4,), 3)
    program = nn.program(net, (4,))
    found = SampledPlan((program, program), BOTH, "it is tested").sample({"u": x}, None, 1 << 9)
    for kind, exact in zip(BOTH, tp.kernel(net, x, get=BOTH), strict=True):
        assert np.all(np.abs(found[kind].value - exact) <= 3 * found[kind].error + 1e-13 * exact.max())
        assert np.all(found[kind].error < 0.02 * exact.max())


def test_what_every_pair_would_have_to_sample_is_sampled_for_all_of_them() -> None:
    """The largest of largest entries, of 16 Gaussians for a pair: an ensemble's points serve all pairs."""
    below = [nn.Conv(8, (2,)), nn.Relu(), *[nn.MaxPool((2,), (2,))] * 2, nn.Flatten(), nn.Dense(8)]
    net = nn.serial(*below, *residual(nn.Tanh()) * 20, nn.Dense(1))
    program = nn.program(net, (9, 3))
    with pytest.raises(TooWide, match="MaxPool"):
        make_plan((program, program), ("nngp",))


def test_a_plan_names_what_forced_the_ensemble() -> None:
    plan = tp.plan(GATED, (3, 2), get=BOTH, n=4, cores=1)
    assert plan.road == "ensemble"
    assert "line" in plan.reason and "costs more than samples" in plan.reason
    (region,) = plan.regions
    assert region.back_end == "sampled" and region.seconds_per_pair > 0.0
    assert "road: ensemble (an expectation of layers[0] (Gru), line " in str(plan)


def test_every_form_of_a_call_gives_the_same_samples(tmp_path: Path) -> None:
    x, y = inputs((3, 2), 3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = tp.kernel(GATED, x, get=BOTH)
        stored = tp.kernel(GATED, x, get=BOTH, out=str(tmp_path / "K.npy"))
        own = tp.kernel(GATED, x, get=BOTH, diag=True, error=True)
        single = tp.kernel(GATED, x, dtype=np.float32)
        out = np.empty((3, 2))
        cross = tp.kernel(GATED, x, y, out=out, error=True)
        alone = tp.kernel(GATED, x[:1], error=True)
        cut = tp.kernel(GATED, x, tile=2, error=True)
        shorter = tp.kernel(GATED, x, y[:, :2], error=True)
    for kind in BOTH:
        np.testing.assert_array_equal(stored[BOTH.index(kind)], getattr(whole, kind))
        np.testing.assert_array_equal(getattr(own.kernel, kind), np.diagonal(getattr(whole, kind)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, whole.nngp, rtol=1e-6)
    assert cross.kernel is out and cross.error.shape == (3, 2)
    assert np.abs(alone.kernel[0, 0] - whole.nngp[0, 0]) < 6 * alone.error[0, 0]
    assert np.abs(cut.kernel - whole.nngp).max() < 8 * cut.error.max()
    assert shorter.kernel.shape == (3, 2)


def test_tangents_of_components_that_know_nothing_of_each_other_are_not_multiplied() -> None:
    """Products of points with tangents: the sum over all pairs of terms, most of which are 0, is the same."""
    draws = Draws(0, 0, 64)
    odd = [Component(draws, Group((key,), odd=True), key) for key in "ab"]
    channels = [Products(2.0), Products(3.0)]
    rng = np.random.default_rng(0)
    sides = []
    for side in range(2):
        parts = []
        for channel, component in zip(channels, odd, strict=True):
            rows = channel.enter([np.full((2, 2 * side), 0.5)][:side] + [np.eye(2) + 0.5])
            part = Part(channel, rows, np.ones(2))
            normal = Normal((2,), (part,), np.zeros(2), component)
            parts.append((rng.standard_normal((2, 64)), (normal.atom,)))
        sides.append(tuple(parts))
    grams = GramMatrices()
    found = moments(*(Operand(Mixed((2,), parts), 64, grams, Given(grams)) for parts in sides))
    expected = sum(
        variance * 0.5 * left[0] @ right[0].T / 64
        for variance, left, right in zip((2.0, 3.0), *sides, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_zero_inputs_and_equal_inputs() -> None:
    x = np.zeros((3, 3, 2))
    x[2] = 1.0
    net = nn.serial(nn.Gru(8, return_sequences=False), nn.Dense(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silent = tp.kernel(net, x, get=BOTH)
        biased = tp.kernel(GATED, np.ones((2, 3, 2)))
    for made in silent:
        np.testing.assert_allclose(made[:2], 0.0, atol=1e-12)
        assert made[2, 2] > 0.0
    np.testing.assert_allclose(biased, biased[0, 0], rtol=1e-9)


def test_what_is_exact_says_how_exact() -> None:
    (x,) = inputs((5,), 4)
    made = tp.kernel(EXACT["dense"][1], x, get=BOTH, error=True)
    for kind in BOTH:
        assert np.all(getattr(made.error, kind) < 1e-11 * getattr(made.kernel, kind).max())


def test_refusals() -> None:
    (x,) = inputs((3, 2), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(LimitError, match="wrt: the kernel is sampled, since .*; it has no derivatives"):
            tp.kernel(GATED, x, wrt="W_std")
        with pytest.raises(InputError, match="error: derivatives and sums have none"):
            tp.kernel(nn.Dense(1), x[:, 0], wrt="W_std", error=True)
        with pytest.raises(InputError, match="seed"):
            tp.kernel(GATED, x, seed=-1)
        p = tp.Program()
        W = p.matrix("W")
        h = p.matrix("U", cols="d") @ p.data("u", channels="d")
        p.output(W.T @ tp.tanh(W @ tp.relu(h)))
        with pytest.raises(LimitError, match="transposes a matrix: kernels are for programs without"):
            tp.kernel(p, x[:, 0])


def test_means_that_do_not_exist_name_the_line() -> None:
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("u", channels="d")
    h = tp.apply(lambda u, v: np.exp(np.exp(u * u + v)), tp.tanh(g), p.matrix("V", cols="d") @ p["u"])
    p.output(p.matrix("W") @ h)
    ensemble = SampledPlan((p, p), ("nngp",), "it is tested")
    with pytest.raises(LimitError, match=r"line \d+ .*: a second moment of it is not finite"):
        ensemble.sample({"u": 40.0 * np.ones((1, 2))}, None, 1 << 10)


def test_a_small_budget_does_not_make_rules_of_many_gaussians_worth_it():
    """What they lose adds up from step to step: an ensemble of as many points is far better."""
    x = np.random.default_rng(0).standard_normal((1, 10, 2))
    quick, full = (
        tp.kernel(nn.Lstm(8, b_std=0.1, return_sequences=False), x, budget=points, rtol=0.3, error=True)
        for points in (1 << 10, 1 << 13)
    )
    assert quick.error[0, 0] < 0.1 * full.kernel[0, 0]
    assert abs(quick.kernel - full.kernel)[0, 0] < 4.0 * np.hypot(quick.error, full.error)[0, 0]


def test_what_no_point_sees_is_a_part_of_what_an_entry_can_be():
    kernel = np.random.default_rng(0).standard_normal((6, 8))
    kernel = (kernel @ kernel.T).reshape(3, 2, 3, 2).transpose(0, 2, 1, 3)
    made = tile._estimate([kernel] * 4, 1e-3, True, (slice(1), slice(1, None)), 64)
    roots = np.sqrt(np.einsum("iikk->ik", kernel))
    np.testing.assert_allclose(made.error, 1e-3 * np.einsum("ik,jl->ijkl", roots[:1], roots[1:]))


def test_what_was_one_family_is_given_whole_or_by_its_lines() -> None:
    """An unrolled program's data line of every step, on the road of samples as on that of rules."""
    p = tp.Program()
    u = p.data("u", axes=(("t", 3),), channels="d")
    v, drive = p.matrix("V"), p.matrix("U", cols="d") @ u
    with p.scan("t") as loop:
        state = loop.carry("n")
        after = tp.erf(0.5 * state + tp.relu(v @ state + loop.slice(drive)))
        loop.next(state, after)
        states = loop.stack(after)
    p.output(v @ states.mean("t"))
    (x,) = inputs((3, 2), 2)
    plain, lines = p.unrolled(), {f"u[{t}]": x[:, t] for t in range(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made, want = (
            tp.kernel(one, given, get="nngp", error=True) for one, given in ((plain, lines), (p, x))
        )
    assert np.all(made.error > 0.0)
    np.testing.assert_array_less(np.abs(made.kernel - want.kernel), 5.0 * np.hypot(made.error, want.error))
    first, second = (tp.simulate(plain, 10, data=given) for given in ({"u": x}, lines))
    name = plain.outputs[0][1]
    np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("d", [1, 2, 3])
def test_sums_over_hermite_coefficients_are_those_of_all_degrees(d: int) -> None:
    rng = np.random.default_rng(d)
    layout, degree, n, m = DEGREES.layout(d), DEGREES.of(d), 3, 67
    a, b = rng.standard_normal((n, len(layout))), rng.standard_normal((len(layout), m))
    rho = rng.uniform(-1.0, 1.0, (d, n, m))
    terms = a[:, :, None] * b * np.prod(rho[:, :, None] ** layout.T[:, None, :, None], axis=0)
    total, top = np.empty((n, m)), np.empty((n, m))
    hermite_sums(a, b, rho, degree, total, top)
    np.testing.assert_allclose(total, terms.sum(axis=1), rtol=0, atol=1e-12)
    late = layout.sum(axis=1) >= degree - 2
    np.testing.assert_allclose(top, terms[:, late].sum(axis=1), rtol=0, atol=1e-12)
