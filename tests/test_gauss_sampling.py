"""Sampling: controls of known mean, unbiased values, errors that cover, variances as promised, odd input."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from tests.oracle.integrands import INTEGRANDS, Array, Integrand
from tpnum.gauss import dictionary, points
from tpnum.gauss.controls import control_variates
from tpnum.gauss.dictionary import Dictionary, polynomials
from tpnum.gauss.directions import turned
from tpnum.gauss.sampling import SCRAMBLES, sobol

SAMPLERS = {"sobol": sobol, "mc": control_variates}
NAMED = {row.name: row for row in INTEGRANDS}
NEVER = 1e-13


def factor_of(cov: Array) -> Array:
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.maximum(values, 0.0)))[..., ::-1]


class Evaluated:
    """f as the samplers call it, with a count of the evaluations."""

    def __init__(self, f) -> None:
        self.f, self.cost = f, 0

    def __call__(self, u: Array) -> Array:
        count, d, n = u.shape
        self.cost += count * n
        made = np.asarray(self.f(*(u[:, k].reshape(-1) for k in range(d))), dtype=np.float64)
        return np.broadcast_to(made, (*made.shape[:-1], count * n)).reshape(-1, count, n).transpose(1, 0, 2)


def run(name: str, row: Integrand, budget: int, seed: int):
    made = SAMPLERS[name](Evaluated(row.f), row.mean[None], factor_of(row.cov)[None], NEVER, budget, seed)
    return made[0][0, 0], made[1][0, 0]


@lru_cache
def truth(name: str) -> tuple[float, float, float]:
    """Expectation and its error from many plain Sobol points, and the variance of f."""
    row = NAMED[name]
    factor = np.linalg.cholesky(row.cov)
    means, squares = [], []
    for scramble in range(1000, 1016):
        f = row.f(*(row.mean[:, None] + factor @ points.normal_points(row.d, 14, scramble)))
        means.append(f.mean())
        squares.append(np.mean(f**2))
    value = float(np.mean(means))
    return value, float(np.std(means, ddof=1) / 4), float(np.mean(squares) - value**2)


# controls -----------------------------------------------------------------------------------------------

LAWS = {
    "two coordinates": ([0.4, -0.7], [[1.1, 0.0], [-0.5, 0.3]]),
    "twins": ([0.4, 0.4], [[1.1, 0.2], [1.1, 0.2]]),
    "mirrored": ([0.1, -0.3], [[0.8, 0.0], [-0.4, 0.0]]),
    "one line": ([0.3, -1.0, 0.2], [[1.0], [-2.0], [1e-3]]),
    "one is constant": ([0.3, -1.0], [[1.0, 0.4], [0.0, 0.0]]),
}


@pytest.mark.parametrize("name", LAWS)
def test_means_of_controls(name: str) -> None:
    """Against the trapezoid rule, which is off by h^2/12 times the jump of a kink."""
    mean, factor = (np.array(a) for a in LAWS[name])
    step = 0.025
    x = np.arange(-8.0, 8.0, step) + 0.1 * step
    axes = np.meshgrid(*[x] * factor.shape[1])
    z = np.stack([a.ravel() for a in axes])
    w = np.exp(-0.5 * np.sum(z**2, axis=0))
    z, w = z[:, w > 1e-13], w[w > 1e-13]
    law = Dictionary(mean, factor)
    controls = law.controls(z, polynomials(z))
    want = law.correlate(controls, w[None] / w.sum())[0]
    np.testing.assert_allclose(law.means(), want, rtol=0, atol=1e-4)


def test_polynomials_are_orthonormal() -> None:
    x = np.arange(-9.0, 9.1, 0.3)  # exact to e^(-2 pi 3.9/0.3), 3.9 i the pole of tanh(z/2.5)
    z = np.stack([a.ravel() for a in np.meshgrid(x, x, x)])
    weight = np.exp(-0.5 * np.sum(z**2, axis=0))
    z, weight = z[:, weight > 1e-16], weight[weight > 1e-16]
    made = polynomials(z)
    gram = (made * weight / weight.sum()) @ made.T
    np.testing.assert_allclose(gram, np.eye(len(made)), atol=1e-10)
    np.testing.assert_allclose(made @ weight / weight.sum(), 0.0, atol=1e-10)
    np.testing.assert_allclose(made[:3], z, atol=1e-12)


def test_columns_deviations_and_combinations_agree() -> None:
    rng = np.random.default_rng(0)
    law = Dictionary(rng.standard_normal(5), rng.standard_normal((5, 4)))
    z = rng.standard_normal((4, 50))
    controls = law.controls(z, polynomials(z))
    columns = np.empty((law.starts[-1], 50))
    law.columns(controls, np.arange(law.starts[-1]), columns)
    np.testing.assert_allclose(law.deviations(controls)[law.sizes[0] :], columns[law.sizes[0] :].std(axis=1))
    values, coefs = rng.standard_normal((2, 50)), rng.standard_normal((3, law.starts[-1]))
    np.testing.assert_allclose(law.correlate(controls, values), values @ columns.T)
    np.testing.assert_allclose(law.combine(controls, coefs), coefs @ columns)


def test_dictionaries_stay_small() -> None:
    rng = np.random.default_rng(0)
    law = Dictionary(np.zeros(200), rng.standard_normal((200, 200)))
    assert law.starts[-1] < 7000
    assert law.coordinates.size == dictionary.COORDINATES
    f = Evaluated(lambda *u: sum(u) / 200 + np.maximum(u[3], u[150]))
    value, error, size, _ = control_variates(f, law.mean[None], law.factor[None], NEVER, 2048)
    gap = np.sum((law.factor[3] - law.factor[150]) ** 2)
    assert abs(value[0, 0] - np.sqrt(gap / (2 * np.pi))) < 2 * error[0, 0] < 0.8 * size[0, 0]


# directions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [np.tanh, np.abs, np.cos])
def test_the_first_axis_is_the_active_one(g) -> None:
    rng = np.random.default_rng(1)
    factor, w = rng.standard_normal((2, 6, 6)), rng.standard_normal(6)
    made, cost, spread = turned(
        Evaluated(lambda *u: g(w @ np.stack(u))), np.zeros((2, 6)), factor, 10_000, seed=0
    )
    assert spread and cost == 2 * 64 * 7
    np.testing.assert_allclose(made @ made.transpose(0, 2, 1), factor @ factor.transpose(0, 2, 1), atol=1e-12)
    along = np.einsum("i,nij->nj", w, made)
    assert np.all(along[:, 0] ** 2 > 0.98 * np.sum(along**2, axis=1))


def test_too_few_evaluations_leave_the_axes() -> None:
    factor = np.eye(5)[None]
    made, cost, spread = turned(Evaluated(np.maximum), np.zeros((1, 5)), factor, 30, seed=0)
    assert made is factor and (cost, spread) == (0, False)


# values and errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "integrand", "budget"),
    [
        ("mc", "GRU gates", 512),
        ("mc", "relu of max", 1024),
        ("mc", "two maxima of 2", 40),
        ("sobol", "GRU gates", 512),
        ("sobol", "four relus", 1024),
        ("sobol", "softmax entry", 4096),
    ],
)
def test_unbiased_and_covered(name: str, integrand: str, budget: int, seeds: int) -> None:
    value, deviation, _ = truth(integrand)
    made = np.array([run(name, NAMED[integrand], budget, seed) for seed in range(seeds)])
    z = (made[:, 0].mean() - value) / np.hypot(made[:, 0].std(ddof=1) / np.sqrt(seeds), deviation)
    assert abs(z) < 4
    assert np.mean(np.abs(made[:, 0] - value) < made[:, 1] + 2 * deviation) >= 0.88
    assert made[:, 0].std() > 0.2 * np.median(made[:, 1])  # and not by errors that are too large


REDUCED = [("mc", 12, name, 5) for name in ("GRU gates", "two maxima of 4", "softmax entry", "four relus")]
REDUCED += [("mc", 12, "LSTM states", 4)]
REDUCED += [("sobol", 15, name, 25) for name in ("GRU gates", "normal gates", "tanh net", "four relus")]
REDUCED += [("sobol", 15, "softmax entry", 40)]


@pytest.mark.parametrize("seeds", [6, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "log2", "integrand", "least"), REDUCED)
def test_variance_is_reduced(name: str, log2: int, integrand: str, least: float, seeds: int) -> None:
    """Against plain Monte Carlo at as many evaluations; measured ratios are three times as large at least."""
    made = np.array([run(name, NAMED[integrand], 1 << log2, seed)[0] for seed in range(seeds)])
    assert truth(integrand)[2] / (1 << log2) > least * made.var(ddof=1)


def test_controls_that_do_not_help_do_no_harm() -> None:
    row = Integrand("noise", "none", 8, lambda *u: np.sign(np.sin(40 * sum(u))), np.zeros(8), np.eye(8))
    for budget in (200, 4096):
        errors = [run("mc", row, budget, seed)[1] for seed in range(8)]
        assert np.median(errors) < 1.05 * 1.96 / np.sqrt(budget)


# mechanics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds_fix_results(name: str) -> None:
    row = NAMED["GRU gates"]
    assert run(name, row, 1024, 5) == run(name, row, 1024, 5) != run(name, row, 1024, 6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_constants_are_exact(name: str) -> None:
    sampler, factor = SAMPLERS[name], np.eye(4)[None]
    for constant in (0.0, -3.0):
        f = Evaluated(lambda *u, c=constant: np.float64(c) + 0 * u[0])
        value, error, size, _ = sampler(f, np.zeros((1, 4)), factor, 1e-10)
        np.testing.assert_allclose(value, constant, rtol=1e-14)
        np.testing.assert_allclose(size, abs(constant), rtol=1e-14)
        assert error[0, 0] <= 1e-13


@pytest.mark.parametrize("name", SAMPLERS)
def test_singular_factors(name: str) -> None:
    """Coordinates that are copies, combinations or constants."""
    factor = np.array([[1.0, 0.2], [1.0, 0.2], [-2.0, -0.4], [0.0, 0.0], [1.5, -1.0]])[None]
    mean = np.array([[0.0, 0.0, 0.0, 2.0, 0.5]])

    def f(*u: Array) -> Array:
        return np.maximum(u[0], 0) * u[3] + u[1] - 0.5 * u[2] + np.cos(u[4])

    value, error, _, _ = SAMPLERS[name](Evaluated(f), mean, factor, NEVER, 8192)
    want = 2 * np.sqrt(1.04 / (2 * np.pi)) + np.cos(0.5) * np.exp(-0.5 * 3.25)
    assert abs(value[0, 0] - want) < 2 * error[0, 0] < 0.1
    one = SAMPLERS[name](
        Evaluated(lambda u: np.exp(u / 2)), np.zeros((1, 1)), np.ones((1, 1, 1)), NEVER, 4096
    )
    assert abs(one[0][0, 0] - np.exp(0.125)) < 2 * one[1][0, 0] < 0.05


@pytest.mark.parametrize("name", SAMPLERS)
def test_batches_and_components(name: str) -> None:
    """An entry of a batch and a component of many are what they are alone, within their errors."""
    rng = np.random.default_rng(2)
    mean, factor = 0.2 * rng.standard_normal((5, 4)), rng.standard_normal((5, 4, 4)) / 2

    def f(*u: Array) -> Array:
        return np.stack([np.tanh(u[0]) * u[1], np.maximum(u[2], u[3]), np.ones_like(u[0])])

    evaluated = Evaluated(f)
    value, error, size, cost = SAMPLERS[name](evaluated, mean, factor, NEVER, 2048)
    assert value.shape == error.shape == size.shape == (5, 3)
    assert cost == evaluated.cost
    np.testing.assert_allclose(value[:, 2], 1.0, rtol=1e-13)
    for i in (0, 4):
        alone = SAMPLERS[name](Evaluated(f), mean[i : i + 1], factor[i : i + 1], NEVER, 2048)
        np.testing.assert_allclose(alone[0][0], value[i], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(alone[1][0], error[i], rtol=1e-5, atol=1e-14)
    gap = np.sqrt(np.sum((factor[:, 2] - factor[:, 3]) ** 2, axis=1))
    shift = mean[:, 2] - mean[:, 3]
    grid = np.linspace(-8, 8, 20_001)
    weight = np.exp(-0.5 * grid**2)
    above = np.maximum(shift[:, None] + gap[:, None] * grid, 0) @ weight / weight.sum()
    assert np.all(np.abs(value[:, 1] - mean[:, 3] - above) < 2.5 * error[:, 1] + 1e-7)


@pytest.mark.parametrize("name", SAMPLERS)
def test_rtol_and_budgets_stop(name: str) -> None:
    row = NAMED["LSTM states"]
    factor = factor_of(row.cov)
    both = np.stack([0.1 * factor, factor]), np.stack([row.mean, row.mean])
    evaluated = Evaluated(row.f)
    value, error, size, cost = SAMPLERS[name](evaluated, both[1], both[0], 5e-3)
    assert np.all(error <= 5e-3 * size) and cost == evaluated.cost
    for budget in (1 << 10, 1 << 13):
        cost = SAMPLERS[name](Evaluated(row.f), row.mean[None], factor[None], NEVER, budget)[3]
        assert budget <= cost <= budget * 1.125
    # the second entry of the batch alone takes more points
    less = SAMPLERS[name](Evaluated(row.f), both[1][:1], both[0][:1], 2e-4)[3]
    more = SAMPLERS[name](Evaluated(row.f), both[1][1:], both[0][1:], 2e-4)[3]
    assert less < more


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_f_returns_is_left_alone(name: str) -> None:
    kept = {}

    def f(*u: Array) -> Array:
        return kept.setdefault(u[0].size, np.linspace(-1, 1, u[0].size))

    for _ in range(2):
        SAMPLERS[name](Evaluated(f), np.zeros((1, 3)), np.eye(3)[None], NEVER, 1024)
    assert all(a[0] == -1 for a in kept.values())


def test_points_are_shared_nested_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = points.normal_points(5, 6, 3), points.normal_points(5, 8, 3)
    assert points.normal_points(5, 6, 3) is few and not few.flags.writeable
    np.testing.assert_array_equal(many[:, :64], few)
    assert not np.array_equal(points.normal_points(5, 6, 4), few)
    np.testing.assert_array_equal(points.point_sets(5, 8, 128, range(3, 5))[:, 0], many[:, 128:])
    monkeypatch.setattr(points, "_kept", type(points._kept)())
    monkeypatch.setattr(points, "KEPT_BYTES", 3 * few.nbytes)
    for scramble in range(6):
        points.normal_points(5, 6, scramble)
    assert len(points._kept) == 3
    assert points.normal_sample(5, 64, 1).shape == (5, 64)
    assert SCRAMBLES == 16
