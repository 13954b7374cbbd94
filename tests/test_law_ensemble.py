"""The ensemble: known sequences, state evolution, nets in training, honest errors, one seed one law."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

import tpnum as tp
from tests.oracle.training import program, task, train, train_lazily
from tpnum import functions
from tpnum.errors import AccuracyWarning, InputError, LimitError, ProgramError
from tpnum.kernels.conditional import back_substitute, condition
from tpnum.kernels.ensemble import BLOCK
from tpnum.law import ensemble
from tpnum.law.ensemble import Ensemble
from tpnum.law.replicate import FUSED
from tpnum.law.samples import Samples
from tpnum.law.sobol import scrambled
from tpnum.program.lines import MatMul

BOTH = pytest.mark.parametrize("points", ["sobol", "random"])


def within(estimate, truth, widths=2.5):
    return abs(estimate.value - truth) <= widths * estimate.error


def squares():
    """phi(z) = z^2 and its backpropagation from the vector of ones."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    h = x * x
    back = w.T @ (2.0 * (w @ h))
    return p, back.name, h.name


def powers(p, v, times):
    """E v.M^k v / n for a linear map M given by its product."""
    w, found = v, []
    for _ in range(times[0]):
        w = times[1](w)
        found.append(p.mean(v * w).name)
    return found


def catalan():
    p = tp.Program()
    v, a = p.vector("v"), p.matrix("A", var=0.5)
    return p, powers(p, v, (8, lambda w: a @ w + a.T @ w)), [0, 1, 0, 2, 0, 5, 0, 14]


def narayana(ratio):
    p = tp.Program()
    p.dim("m", ratio)
    v, a = p.vector("v"), p.matrix("A", rows="m", cols="n")
    truth = [ratio, ratio + ratio**2, ratio + 3 * ratio**2 + ratio**3]
    return p, powers(p, v, (3, lambda w: a.T @ (a @ w))), truth


def jacobian():
    """J = D2 W2 D1 W1 of a relu net at s_w^2 = 2: moments of J'J (P17)."""
    p = tp.Program()
    x, w1, w2 = p.vector("x"), p.matrix("W1", var=2.0), p.matrix("W2", var=2.0)
    g1 = w1 @ x
    g2 = w2 @ tp.relu(g1)
    d1, d2 = functions.step(g1), functions.step(g2)
    v = p.vector("v")
    return p, powers(p, v, (3, lambda w: w1.T @ (d1 * (w2.T @ (d2 * (w2 @ (d1 * (w1 @ w)))))))), [1, 5, 33]


def wide_jacobian(ratio):
    """J = D W, W of (ratio n) x n: half of the rows live, 2 x Marchenko-Pastur of half the ratio."""
    p = tp.Program()
    p.dim("m", ratio)
    w = p.matrix("W", var=2.0, rows="m", cols="n")
    d = functions.step(w @ p.vector("x"))
    c = ratio / 2
    truth = [2 * c, 4 * (c + c**2), 8 * (c + 3 * c**2 + c**3)]
    return p, powers(p, p.vector("v"), (3, lambda u: w.T @ (d * (w @ u)))), truth


def tied():
    """s <- tanh(W' tanh(W s)) + x/2."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W", var=1.3)
    s, found = x, []
    for _ in range(3):
        s = tp.tanh(w.T @ tp.tanh(w @ s)) + 0.5 * x
        found.append(p.mean(s * s).name)
    return p, found, [tied_first(), 1.1806, 1.2016]


def tied_first():
    """The first round by quadrature: s = tanh(hat + 1.3 E[tanh'] x) + x/2."""
    z, w = hermegauss(200)
    w = w / w.sum()
    g = math.sqrt(1.3) * z
    x, hat = np.meshgrid(z, math.sqrt(1.3 * w @ np.tanh(g) ** 2) * z, indexing="ij")
    return (np.outer(w, w) * (np.tanh(hat + 1.3 * (w @ np.cosh(g) ** -2) * x) + 0.5 * x) ** 2).sum()


@BOTH
def test_gradients_that_are_not_independent(points):
    p, back, h = squares()
    law = Ensemble(p, points=points)
    assert within(law.moment(back, back), 24)
    assert within(law.moment(back, h), 6)
    assert within(law.cov(back, h), 6 - 2)
    assert within(law.mean(back), 2)
    gia = Ensemble(p, points=points, corrections=False)
    assert within(gia.moment(back, back), 12)
    assert within(gia.moment(back, h), 0)
    assert gia.moment(back, h).error < 0.06


PROGRAMS = {
    "Catalan": catalan,
    "Narayana 2": lambda: narayana(2.0),
    "Narayana 1/2": lambda: narayana(0.5),
    "Jacobian": jacobian,
    "wide Jacobian": lambda: wide_jacobian(3.0),
}


@BOTH
@pytest.mark.parametrize("name", PROGRAMS)
def test_known_moments(name, points):
    p, found, truth = PROGRAMS[name]()
    law = Ensemble(p, points=points, seed=1)
    for scalar, value in zip(found, truth, strict=True):
        estimate = law.scalar(scalar)
        assert within(estimate, value)
        assert estimate.error < (0.1 if points == "random" else 4e-3) * max(truth)


def test_the_tied_program_and_what_sobol_points_gain():
    p, found, truth = tied()
    sobol, random = Ensemble(p), Ensemble(p, points="random")
    assert sobol.scalar(found[0]).error < 2e-4
    assert within(sobol.scalar(found[0]), truth[0])
    for scalar, value in zip(found, truth, strict=True):
        assert sobol.scalar(scalar).value == pytest.approx(value, abs=1e-3)
        assert 20 * sobol.scalar(scalar).error < random.scalar(scalar).error
    assert sobol.scalar(found[0]).method == "ensemble, S = 131072, R = 16, sobol"
    assert sobol.scalar(found[0]).cost == 131072


def soft(r, ones):
    """Soft thresholds at 1/2 and the average of the derivative, as lines."""
    above, below = r - 0.5 * ones, -1.0 * r - 0.5 * ones
    return tp.relu(above) - tp.relu(below), functions.step(above) + functions.step(below)


DENOISERS = {
    "tanh": (np.tanh, lambda r, ones: (tp.tanh(r), functions.tanh.derivative()(r))),
    "soft thresholds": (lambda r: np.sign(r) * np.maximum(np.abs(r) - 0.5, 0.0), soft),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_message_passing_is_state_evolution(name):
    """The Onsager term of the program cancels the dot."""
    eta, lines = DENOISERS[name]
    delta, sigma = 0.6, 0.1
    p = tp.Program()
    p.dim("m", delta)
    signal = tp.tanh(2.0 * p.vector("u"))
    ones = p.ones()
    a = p.matrix("A", rows="m", cols="n", var=1 / delta)
    y = a @ signal + p.vector("noise", var=sigma**2, dim="m")
    x, z, found = None, y, []
    for _ in range(10):
        x, slope = lines(a.T @ z if x is None else a.T @ z + x, ones)
        found.append(p.mean((x - signal) * (x - signal)).name)
        z = y - a @ x + (1 / delta) * p.mean(slope) * z
    law = Ensemble(p)
    nodes, weights = hermegauss(160)
    g = np.linspace(-9, 9, 6001)
    density = np.exp(-0.5 * g * g)
    u, g = np.meshgrid(nodes, g, indexing="ij")
    weights = np.outer(weights / weights.sum(), density / density.sum())
    tau = sigma**2 + (weights * np.tanh(2 * u) ** 2).sum() / delta
    for scalar in found:
        error = (weights * (eta(np.tanh(2 * u) + np.sqrt(tau) * g) - np.tanh(2 * u)) ** 2).sum()
        assert within(law.scalar(scalar), error)
        assert law.scalar(scalar).error < 1e-2 * error
        tau = sigma**2 + error / delta


def test_the_two_ways_of_training_agree():
    job = task(4, 3)
    np.testing.assert_allclose(train(job, 64, 0), train_lazily(job, 64, 0), rtol=1e-12, atol=1e-14)


def test_training_of_finite_nets():
    """A three-layer net in maximal-update parameterization; widths 512 and 2048, extrapolated in 1/n."""
    job, seeds = task(4, 4), 16
    p, data, found = program(job)
    law = Ensemble(p, data=data, samples=1 << 16)
    limit = np.array([law.scalar(f).value for f in found])
    error = np.array([law.scalar(f).error for f in found])
    with threadpool_limits(1, "blas"):
        runs = {n: np.array([train(job, n, seed).ravel() for seed in range(seeds)]) for n in (512, 2048)}
    finite = (4 * runs[2048].mean(axis=0) - runs[512].mean(axis=0)) / 3
    spread = np.sqrt((16 * runs[2048].var(axis=0, ddof=1) + runs[512].var(axis=0, ddof=1)) / 9 / seeds)
    z = (limit - finite) / np.hypot(spread, error / 2)
    assert np.abs(z).max() < 4.5
    assert np.sqrt((z**2).mean()) < 1.6
    assert np.median(runs[2048].std(axis=0, ddof=1) / error) > 2


@BOTH
@pytest.mark.parametrize("name", ["squares", "Catalan", "tied", "Jacobian"])
def test_errors_are_honest(name, points):
    """Over 24 seeds the error is the half-width of a 95 % interval of deviations without a common part."""
    if name == "squares":
        p, back, h = squares()
        found = [p.mean(p[back] * p[h]).name]
        truth = [6.0]
    else:
        p, found, truth = {**PROGRAMS, "tied": tied}[name]()
        found, truth = ([found[0]], [truth[0]]) if name == "tied" else (found[1:3], truth[1:3])
    laws = [Ensemble(p, samples=1 << 13, seed=seed, points=points, n_jobs=1) for seed in range(24)]
    for scalar, value in zip(found, truth, strict=True):
        made = [law.scalar(scalar) for law in laws]
        deviation = np.array([e.value for e in made]) - value
        error = np.array([e.error for e in made])
        ratio = np.sqrt((deviation**2).mean() / (error**2).mean())
        assert 0.12 < ratio < 0.75
        assert np.mean(np.abs(deviation) < error) > 0.82
        assert abs(deviation.mean()) < 4 * deviation.std() / np.sqrt(24)


def one_coordinate():
    """What stratified points see worst: jumps and tails in one coordinate, with their limits."""
    p = tp.Program()
    x, y = p.vector("x", mean=-0.8, var=0.348), p.vector("y")
    lines = [p.mean(functions.step(x)), p.mean(x * x), p.mean(functions.step(x + y)), p.mean(tp.exp(x))]
    rare = p.mean(functions.step(x - 0.6 * p.ones()))
    down, far = -0.8 / math.sqrt(0.348), -1.4 / math.sqrt(0.348)
    truth = [ndtr(down), 0.64 + 0.348, ndtr(-0.8 / math.sqrt(1.348)), math.exp(-0.8 + 0.174), ndtr(far)]
    return p, [s.name for s in (*lines, rare)], truth


def coverage(points, samples, seeds):
    """How often the truth is within the error, and how far out it was at most, by quantity."""
    p, found, truth = one_coordinate()
    laws = [Ensemble(p, samples=samples, seed=seed, points=points, n_jobs=1) for seed in range(seeds)]
    made = [[law.scalar(name) for law in laws] for name in found]
    bars = np.array([[abs(e.value - t) / e.error for e in es] for es, t in zip(made, truth, strict=True)])
    return (bars <= 1).mean(axis=1), bars.max(axis=1)


@BOTH
def test_an_error_is_the_half_width_of_a_95_percent_interval(points):
    inside, most = coverage(points, 1 << 12, 40)
    assert inside.min() > 0.82
    assert most.max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1 << 12, 1 << 14, 1 << 16])
@BOTH
def test_coverage_over_many_seeds(points, samples):
    inside, most = coverage(points, samples, 400)
    assert inside.min() > 0.91
    assert most.max() < 3


@BOTH
@pytest.mark.parametrize("far", [3.0, 4.6, 7.0])
def test_what_no_sample_sees_is_no_certain_zero(points, far):
    """A step far out, and what becomes of it in sums, products, hats and functions of scalars."""
    p = tp.Program()
    g, w, zero = p.vector("g", mean=-far), p.matrix("W"), p.vector("zero", var=0.0)
    h = functions.step(g)
    y = w @ h
    m, tail = p.mean(h), float(ndtr(-far))
    truth = {
        m: tail,
        p.mean(h * h): tail,
        1000 * m: 1000 * tail,
        p.mean((1000 * h) * (1000 * h)): 1e6 * tail,
        p.mean(y * y): tail,
        p.mean(tp.relu(y)): math.sqrt(tail / (2 * math.pi)),
        p.mean(m * g): -far * tail,
        p.mean(tp.relu(m * g)): tail * (math.exp(-(far**2) / 2) / math.sqrt(2 * math.pi) - far * tail),
    }
    sure = [p.mean(zero), p.mean(zero * g), p.mean(tp.relu(w @ zero)), p.mean(tp.tanh(zero))]
    names = {s.name: value for s, value in truth.items()}
    certain = [s.name for s in sure]
    law = Ensemble(p.expand(), points=points, samples=1 << 14)
    for name, value in names.items():
        made = law.scalar(name)
        assert made.error > 0
        assert within(made, value, 2.0), (name, made, value)
    made = law.scalar(m.name)
    assert made.error < 3.1 / law.samples or made.value > 0
    for name in certain:
        assert (law.scalar(name).value, law.scalar(name).error) == (0, 0)
    for made, value in ((law.mean(h.name), tail), (law.moment(h.name, h.name), tail)):
        assert within(made, value, 2.0) and made.error > 0
    once = law.expect(lambda x: 1.0 * (np.abs(x - 1.0) < 1e-9), "g")
    assert 0 < once.error < 3.1 / law.samples
    assert law.mean("zero").error == 0


def test_growing_samples_say_when_nothing_is_seen():
    p = tp.Program()
    m = p.mean(functions.step(p.vector("g", mean=-8.0)))
    law = tp.limit(p, method="ensemble", samples=1 << 8, rtol=1e-2)
    with pytest.warns(AccuracyWarning, match="0 in all of 16384 samples; give more"):
        assert law.scalar(m).error == pytest.approx(3 / 16384, rel=1e-2)


def test_samples_that_no_memory_holds_are_refused():
    p, _, _ = tied()
    for refused in (
        lambda: Ensemble(p, samples=10**12),
        lambda: tp.limit(p, method="ensemble", samples=10**12),
    ):
        with pytest.raises(InputError, match=r"samples = 1(e\+12|0{12}) .*(GB|GiB)"):
            refused()


def test_a_budget_bounds_an_ensemble():
    p, found, _ = tied()
    law = tp.limit(p, method="ensemble", budget=1 << 12, rtol=1e-6)
    with pytest.warns(AccuracyWarning, match=r"4096 samples.* about \de\+\d\d would do"):
        assert law.scalar(found[0]).cost == 1 << 12


def test_as_many_samples_as_asked_for():
    p, _, _ = tied()
    for samples, size, replicates in ((100_000, 8192, 13), (1 << 17, 8192, 16), (3 << 14, 4096, 12)):
        law = Ensemble(p, samples=samples)
        assert (law.size, law.replicates, law.samples) == (size, replicates, size * replicates)
        assert law.samples >= samples


@BOTH
def test_one_seed_one_result(points):
    p, found, _ = jacobian()

    def values(**options):
        law = Ensemble(p, samples=1 << 12, points=points, **options)
        return [law.scalar(f).value for f in found]

    one = values(n_jobs=1)
    assert one == values(n_jobs=3) == values()
    assert one != values(seed=1)


def test_more_replicates_where_memory_is_short(monkeypatch):
    p, found, truth = tied()
    monkeypatch.setattr(ensemble, "ARENA", 1 << 18)
    law = Ensemble(p, samples=1 << 16)
    assert within(law.scalar(found[0]), truth[0])
    assert law.scalar(found[0]).method == "ensemble, S = 65536, R = 32, sobol"


def test_samples_grow_until_the_accuracy_is_met():
    p, found, truth = tied()
    law = tp.limit(p, method="ensemble", samples=1 << 10, rtol=4e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = law.scalar(found[0])
    assert made.error <= 4e-4 * made.value
    assert 1 << 10 < made.cost <= 1 << 16
    assert within(made, truth[0])
    law = tp.limit(p, method="ensemble", samples=1 << 8, rtol=1e-6)
    with pytest.warns(
        AccuracyWarning, match=rf"line \d+ \({found[1]}\) is known to .* 16384 samples"
    ) as caught:
        made = law.scalar(found[1])
    assert [w.filename for w in caught] == [__file__]
    assert made.cost == 1 << 14


def test_a_law_by_ensemble_says_what_it_did():
    p, back, h = squares()
    law = tp.limit(p, method="ensemble", samples=1 << 13, seed=3)
    assert str(law).startswith("ensemble: asked for\n")
    assert [c.name for c in law.choices] == [line.name for line in p.lines if isinstance(line, MatMul)]
    assert "its dot on 1" in law.choices[1].how
    assert str(law).count("\n") == len(law.choices)
    cov = law.cov(back, h)
    assert within(cov, 4)
    assert cov.value == Ensemble(p, samples=1 << 13, seed=3).cov(back, h).value


@BOTH
def test_answers_about_vectors_when_there_is_little_room(points, monkeypatch):
    p, back, h = squares()
    law = Ensemble(p, samples=1 << 12, points=points)
    before = [law.moment(back, h).value, law.mean(back).value, law.expect(np.maximum, back, h).value]
    monkeypatch.setattr(ensemble, "ROOM", 0)
    small = Ensemble(p, samples=1 << 12, points=points)
    after = [small.moment(back, h).value, small.mean(back).value, small.expect(np.maximum, back, h).value]
    assert before == pytest.approx(after, rel=1e-12)
    x = small.mean("x").value
    assert small.mean("x").value == x


def test_expectations_of_several_components():
    p, back, h = squares()
    law = Ensemble(p, samples=1 << 14)
    both = law.expect(lambda u, v: np.stack([u * v, u]), back, h)
    assert both.value.shape == both.error.shape == (2,)
    assert both.value[0] == pytest.approx(law.moment(back, h).value, rel=1e-12)
    assert both.value[1] == pytest.approx(law.mean(back).value, rel=1e-12)


def test_inputs_of_any_covariance():
    p = tp.Program()
    cov = np.array([[1.0, 0.6, 1.6], [0.6, 2.0, 2.6], [1.6, 2.6, 4.2]])  # the third is the sum of the others
    x, y, z = p.vectors("x", "y", "z", mean=[0.5, -1.0, -0.5], cov=cov)
    law = Ensemble(p)
    mean = np.array([0.5, -1.0, -0.5])
    for i, a in enumerate("xyz"):
        assert within(law.mean(a), mean[i])
        for j, b in enumerate("xyz"):
            assert within(law.cov(a, b), cov[i, j])
    zero = Ensemble((p, p.mean((x + y - z) * (x + y - z)))[0])
    assert zero.scalar(p.lines[-1].name).value == pytest.approx(0, abs=1e-12)


def test_collinear_hats_and_zeros():
    """W(2x) follows W x, W 0 is 0, a matrix of variance 0 gives 0; the exact recursion agrees."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W", var=0.8)
    none = p.matrix("N", var=0.0)
    g, twice, nothing = w @ x, w @ (2.0 * x), w @ (x - 1.0 * x)
    b = w.T @ (functions.step(g + 0.5) * twice + none @ x)
    found = [p.mean(twice * g), p.mean(nothing * nothing), p.mean(b * b), p.mean(b * x)]
    found.append(p.mean((w @ b) * g))
    law = Ensemble(p)
    exact = tp.limit(p, method="exact")
    for scalar in found:
        truth = float(exact.scalar(scalar).value)
        assert abs(law.scalar(scalar.name).value - truth) <= 5 * law.scalar(scalar.name).error + 1e-9
    assert law.scalar(found[1].name).value == 0


def test_a_batch_that_does_not_mix():
    """Many inputs, each with few hats of its own: the dots are regressed on these alone."""
    p = tp.Program()
    w = p.matrix("W", var=1.2)
    backs = [w.T @ tp.relu(w @ p.vector(f"x{i}")) for i in range(12)]
    found = [p.mean(b * p[f"x{i}"]).name for i, b in enumerate(backs)]
    q = tp.Program()
    one = q.vector("x")
    m = q.matrix("W", var=1.2)
    single = m.T @ tp.relu(m @ one)
    truth = float(tp.limit(q).moment(single, one).value)
    law = Ensemble(p)
    assert all(within(law.scalar(f), truth) for f in found)


def test_data_come_through_matrices():
    p = tp.Program()
    u0, u1 = p.data("u0"), p.data("u1")
    first = p.matrix("U", var=1.5, cols="d")
    w = p.matrix("W")
    s = p.vector("c")
    g0, g1 = first @ u0, first @ u1
    back = w.T @ tp.tanh(w @ tp.tanh(g0) + s)
    arrays = {"u0": np.array([1.0, 0.5, -1.0]), "u1": np.array([0.2, 1.0, 0.3])}
    exact = tp.limit(p, data=arrays, method="exact")
    g2 = first @ (u0 - 2.0 * u1)  # collinear with the others
    left = p.mean((g0 - 2.0 * g1 - g2) * (g0 - 2.0 * g1 - g2))
    law = Ensemble(p, data=arrays)
    assert law.scalar(left.name).value == pytest.approx(0, abs=1e-12)
    for a, b in [(g0, g1), (g1, g1), (back, g1), (back, back)]:
        assert within(law.moment(a.name, b.name), float(exact.moment(a, b).value))
    assert law.moment(g0.name, g1.name).value == pytest.approx(
        1.5 * arrays["u0"] @ arrays["u1"] / 3, abs=5e-3
    )
    with pytest.raises(ProgramError, match="channels of data"):
        first.T @ back


def samples_of(values):
    """Samples with given rows."""
    rows, size = values.shape
    blocks = np.full((-(-size // BLOCK), rows, BLOCK), np.nan)
    for begin in range(0, size, BLOCK):
        piece = values[:, begin : begin + BLOCK]
        blocks[begin // BLOCK, :, : piece.shape[1]] = piece
    return Samples(blocks, size, 0)


def rows_of(samples):
    return np.stack([samples.row(r) for r in range(samples.height)])


def test_functions_with_kernels_of_their_own():
    rng = np.random.default_rng(0)
    for (name, order), kind in FUSED.items():
        fn = functions.get(name)
        for i in order:
            fn = fn.derivative(i)
        x = np.concatenate([rng.standard_normal((4, 801)) * 3, np.zeros((2, 801))])
        x[0, :6] = [0.0, -0.0, 1e-9, -700.0, 800.0, 1e-300]
        args = np.array([[0, 1], [2, 3]])[: fn.arity]
        made, slow = samples_of(x), samples_of(x)
        made.apply(kind, args, np.array([4, 5]))
        with np.errstate(under="ignore"):
            for i in range(2):
                slow.map(fn, args[:, i], np.zeros(0), 4 + i)
        np.testing.assert_allclose(
            rows_of(made)[4:], rows_of(slow)[4:], rtol=3e-15, atol=1e-300, err_msg=name
        )


class TestSamples:
    """Odd sizes, shared rows, operations that wait, pieces of streams."""

    @pytest.fixture
    def x(self):
        return np.random.default_rng(1).standard_normal((16, 2500))

    @pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (4, 8), (6, 2)])
    def test_products_and_sums(self, x, n, m):
        left, right = np.arange(n), np.arange(7, 7 + m)
        coefs, own = np.random.default_rng(2).standard_normal((n, m)), np.linspace(0.0, 2.0, n)
        made = samples_of(x)
        before = made.inner(left, right)
        made.combine(left, right, coefs, own)
        after, pairs = made.inner(left, right), made.dots(left, left)
        np.testing.assert_allclose(before.value(), x[left] @ x[right].T / 2500, atol=1e-13)
        x[left] = own[:, None] * x[left] + coefs @ x[right]
        np.testing.assert_allclose(after.value(), x[left] @ x[right].T / 2500, atol=1e-13)
        np.testing.assert_allclose(pairs.value(), (x[left] ** 2).mean(axis=1), rtol=1e-13)
        made.combine(left, right, coefs)
        made.constant(np.array([15]), 3.0)
        x[left], x[15] = coefs @ x[right], 3.0
        np.testing.assert_allclose(rows_of(made), x, atol=1e-13)

    def test_users_functions(self, x):
        made = samples_of(x)
        made.map(lambda u, v, t: t * u + np.exp(v), np.array([1, 2]), np.array([0.5]), 3)
        made.map(lambda u: 2.0, np.array([1]), np.zeros(0), 4)
        np.testing.assert_allclose(made.row(3), 0.5 * x[1] + np.exp(x[2]), rtol=1e-15)
        assert (made.row(4) == 2.0).all()
        mean, largest = made.average(lambda u, v: u * v, np.array([1, 2]), np.zeros(0))
        assert mean == pytest.approx((x[1] * x[2]).mean(), rel=1e-12)
        assert largest == np.abs(x[1] * x[2]).max()

    def test_pseudo_random_normals(self):
        from scipy.stats import kstest

        keys = [3, 2**63 + 11, 2**64 - 1]
        whole = samples_of(np.empty((3, 200_001)))
        whole.normals(np.arange(3), keys)
        x = rows_of(whole)
        piece = samples_of(np.empty((3, 777)))
        piece.first = 5000
        piece.normals(np.arange(3), keys)
        np.testing.assert_array_equal(rows_of(piece), x[:, 5000:5777])
        for row in x:
            assert kstest(row, "norm").pvalue > 1e-3
            assert kstest(row[:-1:2] * row[1::2], (x[0, ::2] * x[1, ::2])).pvalue > 1e-3
            lags = [row[k:] @ row[: row.size - k] / row.size for k in (1, 2, 3, 1024)]
            assert np.abs(lags).max() < 4.5 / math.sqrt(row.size)
        assert np.abs(np.corrcoef(x) - np.eye(3)).max() < 4.5 / math.sqrt(x.shape[1])

    def test_sobol_normals(self):
        from scipy.special import ndtr
        from scipy.stats import qmc

        d, m = 6, 12
        whole = samples_of(np.empty((d, 1 << m)))
        whole.quasi(np.arange(d), scrambled(d, m, 7))
        u = ndtr(rows_of(whole))
        cells = np.sort(np.floor(u * (1 << m)), axis=1)
        np.testing.assert_array_equal(cells, np.tile(np.arange(1 << m), (d, 1)))
        assert qmc.discrepancy(u.T) < 2 * qmc.discrepancy(qmc.Sobol(d, rng=1).random_base2(m))
        piece = samples_of(np.empty((d, 700)))
        piece.first = 1100
        piece.quasi(np.arange(d), scrambled(d, m, 7))
        np.testing.assert_array_equal(ndtr(rows_of(piece)), u[:, 1100:1800])
        means = []
        for seed in range(200):
            few = samples_of(np.empty((1, 4)))
            few.quasi(np.arange(1), scrambled(1, 2, seed))
            means.append(ndtr(few.row(0)).mean())
        assert np.mean(means) == pytest.approx(0.5, abs=0.02)

    def test_gaussians_given_others(self, x):
        rows = np.concatenate([x[:4], [x[0] - 2 * x[3]], x[5:6], np.zeros((1, 2500)), x[6:7]])
        gram = rows @ rows.T / 2500
        factor, pivots = np.zeros((8, 8)), np.zeros(8, dtype=np.int64)
        rank = condition(gram, 1.7, factor, pivots, 0, 0, 3, 1e-10)
        rank = condition(gram, 1.7, factor, pivots, rank, 3, 8, 1e-10)
        assert pivots[:rank].tolist() == [0, 1, 2, 3, 5, 7]
        np.testing.assert_allclose(factor[:, :rank] @ factor[:, :rank].T, 1.7 * gram, atol=1e-12)
        right = np.random.default_rng(3).standard_normal((2, rank))
        solved = right.copy()
        back_substitute(factor, pivots[:rank], np.array([rank, 4]), solved)
        lower = factor[pivots[:rank], :rank]
        np.testing.assert_allclose(lower.T @ solved[0], right[0], atol=1e-12)
        np.testing.assert_allclose(lower[:4, :4].T @ solved[1, :4], right[1, :4], atol=1e-12)
        assert not solved[1, 4:].any()


class TestRefusals:
    def test_arguments(self):
        p, back, _ = squares()
        for options in (
            {"replicates": 1},
            {"samples": 1000.5},
            {"samples": 100},
            {"points": "best"},
            {"data": {"u": [1.0]}},
        ):
            with pytest.raises(InputError, match=next(iter(options))):
                Ensemble(p, **options)
        q = tp.Program()
        q.matrix("W") @ q.vector("x", axes={"t": 3}, fresh=True)
        with pytest.raises(InputError, match="expand"):
            Ensemble(q)

    def test_data(self):
        p = tp.Program()
        u = p.matrix("U", cols="d")
        u @ p.data("a")
        u @ p.data("b")
        with pytest.raises(InputError, match="a, b"):
            Ensemble(p)
        with pytest.raises(InputError, match="'b' has 2 channels"):
            Ensemble(p, data={"a": np.ones(3), "b": np.ones(2)})
        with pytest.raises(InputError, match="'a' must be a 1-d array"):
            Ensemble(p, data={"a": np.ones((2, 3)), "b": np.ones(2)})

    def test_questions(self):
        p = tp.Program()
        p.dim("m", 2.0)
        x, y = p.vector("x"), p.vector("y", dim="m")
        law = Ensemble(p)
        with pytest.raises(InputError, match="one common dimension class"):
            law.moment(x.name, y.name)
        with pytest.raises(InputError, match="'z' is not a vector"):
            law.mean("z")
        with pytest.raises(InputError, match="'x' is not a scalar"):
            law.scalar("x")

    def test_moments_that_do_not_exist(self):
        p = tp.Program()
        x, w = p.vector("x", var=4.0), p.matrix("W")
        h = p.apply(lambda u: np.exp(u**6), x, name="h")
        w @ h
        m = p.mean(x)
        with pytest.raises(LimitError, match=r"line 3 \(h\): E Z\^2 is inf"):
            Ensemble(p, samples=1 << 12).scalar(m.name)
        with pytest.raises(LimitError, match=r"line 3 \(h\): E Z\^2"):
            Ensemble(p, samples=1 << 12, written=lambda name: None).scalar(m.name)
        with pytest.raises(LimitError, match=r"the line of h: E Z\^2"):
            Ensemble(p, samples=1 << 12, written=lambda name: f"the line of {name}").scalar(m.name)
        q = tp.Program()
        x = q.vector("x")
        s = 1.0 / (q.mean(x * x) - q.mean(x * x))
        with pytest.raises(LimitError, match=rf"\({s.name}\): its value is"):
            Ensemble(q, samples=1 << 12).scalar(s.name)
        with pytest.raises(LimitError, match=rf"(?s)\({s.name}\): its value is.*\n *5  S  s2 = reciprocal"):
            tp.limit(q, method="ensemble", samples=1 << 12).scalar(s)

    def test_iterations_that_blow_up(self):
        p = tp.Program()
        x, w = p.vector("x"), p.matrix("W", var=4.0)
        for _ in range(9):
            x = (w.T @ (w @ x)) ** 3
        m = p.mean(x)
        with pytest.raises(
            LimitError, match=r"(?s)line \d+ \(h\d\): E Z\^2 is inf.*\n *\d+  H  h\d = monomial"
        ):
            tp.limit(p, method="ensemble", samples=1 << 10).scalar(m)

    def test_answers_that_are_not_finite(self):
        p = tp.Program()
        x = p.vector("x", var=9.0)
        law = tp.limit(p, method="ensemble", samples=1 << 12)
        with pytest.raises(LimitError, match=r"the expectation of line 1.* is not finite"):
            law.expect(lambda u: np.exp(u**8), x)


def test_sums_that_need_no_rows():
    """Multiples take their factor along, equal sums are one row; what is asked for does not change them."""
    p = tp.Program()
    x, y, w = p.vector("x"), p.vector("y"), p.matrix("W")
    h = tp.tanh(w @ x)
    s = p.mean(h * h)
    scaled = (2.0 * h).named("scaled")
    twice = (s * scaled).named("twice")
    thrice = (s * twice).named("thrice")  # two scalars
    found = {
        p.mean(twice * h): lambda m: 2 * m**2,
        p.mean(twice * twice): lambda m: 4 * m**3,
        p.mean(thrice * scaled): lambda m: 4 * m**3,
    }
    a, b = (h + s * y).named("a"), (h + s * y).named("b")
    found[p.mean(a * b)] = lambda m: m + m**2
    found[p.mean(p.apply(np.tanh, b) * (a - b))] = lambda m: 0
    c = w.T @ (twice + 1.0 * thrice)
    q = p.mean(c * x)
    law, other = Ensemble(p), Ensemble(p)
    assert other.moment(twice.name, thrice.name).value > 0  # keeps all vectors as rows
    m = law.scalar(s.name).value
    for scalar, value in found.items():
        assert law.scalar(scalar.name).value == pytest.approx(value(m), rel=1e-3, abs=1e-3)
        assert law.scalar(scalar.name).value == pytest.approx(other.scalar(scalar.name).value, rel=1e-10)
    truth = float(tp.limit(p, method="exact").scalar(q).value)
    assert within(law.scalar(q.name), truth)
    assert law.scalar(q.name).value == pytest.approx(other.scalar(q.name).value, rel=1e-10)
