"""What points may have missed: functions that are constant in pieces, far windows, the smallest numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import ndtr

from tests.test_expect_honesty import between
from tpnum.errors import AccuracyWarning
from tpnum.gauss.expect import certified, expect

Array = np.ndarray


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, 0.50001), (-1.25, -1.249999), (0.1234, 0.12341), (2.0, 2.0001), (0.3, 0.3 + 1e-9)]
)
@pytest.mark.parametrize("base", ["constant", "step"])
def test_windows_on_something_constant_in_pieces(low: float, high: float, base: str) -> None:
    def f(u: Array) -> Array:
        return (1.0 if base == "constant" else u > 0.7) + 1e3 * ((u > low) & (u < high))

    truth = (1.0 if base == "constant" else between(0.7, 40.0)) + 1e3 * between(low, high)
    made = expect(f, 0.0, 1.0)
    assert abs(made.value - truth) <= made.error <= 1e-6 * truth


@pytest.mark.parametrize("base", [lambda u: 1.0, np.cos, lambda u: np.maximum(u, 0.0), np.exp])
def test_windows_far_out(base) -> None:
    own = expect(lambda u: base(u) + 0 * u, 0.0, 1.0)
    for low, high, height in ((-7.0, -6.9, 1e9), (8.0, 8.2, 1e12), (6.0, 6.01, 1e6)):
        made = expect(lambda u, a=low, b=high, c=height: base(u) + c * ((u > a) & (u < b)), 0.0, 1.0)
        truth = own.value + height * between(low, high)
        assert abs(made.value - truth) <= made.error + own.error <= 3e-6 * truth


def test_what_a_constant_may_hide() -> None:
    one = expect(lambda u: 1.0 + 0 * u, 0.0, 1.0)
    assert one.value == 1.0 and 1e-9 < one.error <= 1e-6
    for d in (2, 3, 5):
        with pytest.warns(AccuracyWarning, match="the same number at every point"):
            made = expect(lambda *z: 3.0 + 0 * z[0], np.zeros(d), np.eye(d) + 0.1)
        assert abs(made.value - 3.0) <= 1e-12 and 1e-6 < made.error < 0.1
        relative = certified(lambda *z: 3.0 + 0 * z[0], np.zeros(d), np.eye(d) + 0.1)[1]
        assert relative == 0.0


@pytest.mark.parametrize("t", [-1.0, 0.0, 3.0, 5.0])
def test_steps_keep_their_accuracy(t: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (0.01, 1.0, 100.0):
            made = expect(lambda u, s=scale: (u > t * s) * 1.0, 0.0, scale**2)
            assert abs(made.value - ndtr(-t)) <= made.error <= 1e-6 * ndtr(-t)


def test_smooth_functions_keep_theirs() -> None:
    for f in (np.tanh, np.cos, lambda u: np.tanh(u) ** 2, lambda u: np.exp(-u * u)):
        assert expect(f, 0.0, 1.0).error <= 1e-10


@pytest.mark.parametrize("size", [5e-324, 1e-322, 1e-320, 1e-310, 1e-300])
@pytest.mark.parametrize("method", ["auto", "qmc", "mc"])
def test_the_smallest_numbers(size: float, method: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = expect(lambda u: size * u**2, 0.0, 1.0, method=method)
        pair = expect(lambda u, v: size * (u * v) ** 2, [0.0, 0.0], np.eye(2), method=method, budget=10**5)
    assert abs(made.value - size) <= 2.5 * made.error
    assert 0.0 < made.error < 0.2 * size + 5e-323
    assert abs(pair.value - size) <= 2.5 * pair.error


def test_what_rays_meet_farther_out_than_it_is() -> None:
    """A slab across a diagonal at 5.3 deviations that the rays enter beyond: no point meets it either."""
    way = np.array([0.44, 0.51, -0.33, 0.47, 0.36, -0.29])
    way /= np.linalg.norm(way)

    def slab(*z: Array) -> Array:
        along = sum(w * u for w, u in zip(way, z, strict=True))
        return ((along > 5.3) & (along < 5.6)) * 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = expect(slab, np.zeros(6), np.eye(6), 1e-3)
    assert abs(made.value - between(5.3, 5.6)) <= made.error <= 1e-4


def test_a_budget_holds_where_nothing_is_met() -> None:
    """Lines through what the first points did not meet are not followed without end."""
    asked = 0

    def far(u: Array, v: Array) -> Array:
        nonlocal asked
        asked += u.size
        return np.maximum(0.6 * u - 0.6 * v - 3.3, 0.0) * np.exp(0.3 * v)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = expect(far, np.zeros(2), np.eye(2), 1e-2, budget=3000)
    # E max(s Z - k, 0) after the shift of e^{0.3 v}
    spread, level = np.sqrt(0.72), 3.3 + 0.6 * 0.3
    truth = np.exp(0.045) * (
        spread * np.exp(-0.5 * (level / spread) ** 2) / np.sqrt(2.0 * np.pi) - level * ndtr(-level / spread)
    )
    assert asked < 12000
    assert abs(made.value - truth) <= made.error
