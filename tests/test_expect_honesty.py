"""Error estimates that cover: random windows, bumps, kinks, spikes and tails in one and two dimensions.

Every truth is a closed form.  No error may be more than five times its estimate, over all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from scipy.special import erfcx, ndtr
from scipy.stats import ncx2

from tpnum.errors import AccuracyWarning
from tpnum.gauss.expect import expect

Array = np.ndarray
Case = tuple[Callable[..., Array], float]
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# along one standard normal: g and E g ---------------------------------------------------------------------


def window(rng: Rng, least: float) -> Case:
    a, w = 1.5 * rng.standard_normal(), log_uniform(rng, least, 3.0)
    return lambda z: ((z > a) & (z < a + w)) * 1.0, between(a, a + w)


def bump(rng: Rng, least: float) -> Case:
    a, w = 1.5 * rng.standard_normal(), log_uniform(rng, least, 1.0)
    square = 1.0 + w * w
    return (
        lambda z: np.exp(-0.5 * ((z - a) / w) ** 2),
        w / math.sqrt(square) * math.exp(-0.5 * a * a / square),
    )


def spike(rng: Rng, least: float) -> Case:
    """e^{-|z - a|/w}."""
    a, w = 1.5 * rng.standard_normal(), log_uniform(rng, least, 1.0)
    sides = [0.5 * math.exp(-0.5 * a * a) * float(erfcx((1.0 / w + s * a) / math.sqrt(2.0))) for s in (1, -1)]
    return lambda z: np.exp(-np.abs(z - a) / w), sum(sides)


def kink(rng: Rng, least: float) -> Case:
    a = 1.5 * rng.standard_normal()
    density = math.exp(-0.5 * a * a) / math.sqrt(2.0 * math.pi)
    return lambda z: np.abs(z - a), 2.0 * density + a * (1.0 - 2.0 * float(ndtr(-a)))


def tail(rng: Rng, least: float) -> Case:
    t = rng.uniform(2.0, 6.0)
    if rng.random() < 0.5:
        return lambda z: (z > t) * 1.0, float(ndtr(-t))
    density = math.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)
    return lambda z: np.maximum(z - t, 0.0), density - t * float(ndtr(-t))


def growth(rng: Rng, least: float) -> Case:
    c = rng.uniform(0.5, 8.0)
    return lambda z: np.exp(c * z), math.exp(0.5 * c * c)


def between(a: float, b: float) -> float:
    return float(ndtr(b) - ndtr(a) if a < 0 else ndtr(-a) - ndtr(-b))


ALONG = (window, bump, spike, kink, tail, growth)
SMOOTH: tuple[Case, ...] = (
    (lambda z: 0.0 * z, 0.0), (np.tanh, 0.0), (lambda z: 0.3 * z * z, 0.3),
    (lambda z: np.cos(2.0 * z), math.exp(-2.0)),
)  # fmt: skip


def one(rng: Rng) -> tuple[Callable[..., Array], float, Array, Array]:
    """(f, E f, mean, cov) in one dimension: something rough, perhaps on something smooth, of any law."""
    g, truth = ALONG[rng.integers(len(ALONG))](rng, 1e-4)
    base, own = SMOOTH[rng.integers(len(SMOOTH))]
    m, s = rng.standard_normal(), log_uniform(rng, 0.1, 10.0)

    def f(u: Array) -> Array:
        z = (u - m) / s
        return g(z) + base(z)

    return f, truth + own, np.array([m]), np.array([[s * s]])


def two(rng: Rng) -> tuple[Callable[..., Array], float, Array, Array]:
    """The same in two: across the plane in any direction, in a rectangle, around a point, in a disc."""
    root = np.array([[1.0, 0.0], [rng.uniform(-2, 2), log_uniform(rng, 0.2, 2.0)]])
    mean, inverse = rng.standard_normal(2), np.linalg.inv(root)
    kind = rng.integers(4)
    if kind == 0:
        g, truth = ALONG[rng.integers(len(ALONG))](rng, 5e-3)
        angle = rng.uniform(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        h = lambda x, y: g(c * x + s * y)  # noqa: E731
    elif kind == 1:
        (g, p), (k, q) = window(rng, 0.2), window(rng, 0.2)
        truth, h = p * q, lambda x, y: g(x) * k(y)
    elif kind == 2:
        (g, p), (k, q) = bump(rng, 0.1), bump(rng, 0.1)
        truth, h = p * q, lambda x, y: g(x) * k(y)
    else:
        r = log_uniform(rng, 0.2, 3.0)
        truth, h = -math.expm1(-0.5 * r * r), lambda x, y: (x * x + y * y < r * r) * 1.0
    base, own = SMOOTH[rng.integers(len(SMOOTH))]

    def f(u: Array, v: Array) -> Array:
        x = inverse[0, 0] * (u - mean[0])
        y = inverse[1, 0] * (u - mean[0]) + inverse[1, 1] * (v - mean[1])
        return h(x, y) + base(x + 0 * y)

    return f, truth + own, mean, root @ root.T


def check(make: Callable[[Rng], tuple], numbers: Iterable[int]) -> None:
    wrong = []
    for number in numbers:
        f, truth, mean, cov = make(np.random.default_rng(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)
            made = expect(f, mean, cov)
        if not abs(made.value - truth) <= 5.0 * made.error + 1e-13 * abs(truth):
            wrong.append((number, float(made.value), float(made.error), truth, made.method))
    assert not wrong, wrong


def test_errors_cover_in_one_dimension() -> None:
    check(one, range(190))


def test_errors_cover_in_two_dimensions() -> None:
    check(two, range(40))


@pytest.mark.slow
def test_errors_cover_in_many_cases() -> None:
    check(one, range(190, 380))
    check(two, range(40, 120))


@pytest.mark.parametrize(("radius", "base"), [(0.01, 0), (0.05, 0), (0.2, 0), (0.05, 1), (0.2, 1)])
@pytest.mark.parametrize("centre", [(0.7, 0.3), (1.63, -1.21), (-0.4, 2.2)])
def test_small_discs(radius: float, centre: tuple[float, float], base: float) -> None:
    """A disc alone and one that a smooth function hides; its chords end as points."""
    a, b = centre

    def f(u: Array, v: Array) -> Array:
        return base * np.cos(2.0 * u) + ((u - a) ** 2 + (v - b) ** 2 < radius**2)

    truth = base * math.exp(-2.0) + float(ncx2.cdf(radius**2, 2, a * a + b * b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = expect(f, np.zeros(2), np.eye(2))
    assert abs(made.value - truth) <= 5.0 * made.error


@pytest.mark.slow
def test_a_disc_in_a_batch() -> None:
    """Laws of which some alone tell how the others are looked at."""
    rho = np.linspace(-0.9, 0.9, 20)
    cov = np.array([[[1.0, r], [r, 1.0]] for r in rho])
    r = 0.05

    def f(u: Array, v: Array) -> Array:
        return np.cos(2.0 * u) + ((u - 0.7) ** 2 + (v - 0.3) ** 2 < r * r)

    made = expect(f, np.zeros(2), cov)
    x = 0.7 + r * (np.arange(2001) / 1000.0 - 1.0)[1:-1]
    for value, error, c in zip(made.value, made.error, rho, strict=True):
        half, root = np.sqrt(r * r - (x - 0.7) ** 2), math.sqrt(1.0 - c * c)
        inner = ndtr((0.3 + half - c * x) / root) - ndtr((0.3 - half - c * x) / root)
        disc = float(np.sum(inner * np.exp(-0.5 * x * x))) * 1e-3 * r / math.sqrt(2.0 * math.pi)
        assert abs(value - math.exp(-2.0) - disc) <= 5.0 * error + 1e-7


def test_strips_that_are_nearly_parallel_to_an_axis() -> None:
    check(two, (3505, 4829))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("make", [one, two])
def test_errors_cover_everywhere(make: Callable[[Rng], tuple], block: int) -> None:
    check(make, range(1000 + 500 * block, 1500 + 500 * block))


@pytest.mark.parametrize("seed", [1, 2, 5, 10])
def test_one_number_at_all_points_is_no_certainty(seed: int) -> None:
    """An indicator that was 1 at every point is 0 on a ray: what the points may have missed is said."""
    draws = np.random.default_rng(seed)
    root, way, level = draws.standard_normal((4, 4)), draws.normal(size=4), draws.uniform(3.0, 4.2)
    size = np.sqrt(way @ root @ root.T @ way)

    def f(*x: np.ndarray) -> np.ndarray:
        return (sum(a * b for a, b in zip(way, x, strict=True)) > -level * size) * 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = expect(f, np.zeros(4), root @ root.T, rtol=1e-6, budget=1000)
    assert made.value == 1.0  # no point met the rest
    assert ndtr(-level) <= made.error <= 3.0 / 250  # of 256 Sobol points
