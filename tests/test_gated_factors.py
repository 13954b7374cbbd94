"""Gates that are never drawn: functions of several G-vars by their coefficients, states given the points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from tpnum import functions, nn
from tpnum.ensemble import given
from tpnum.ensemble.atoms import Atom, GramMatrices
from tpnum.ensemble.draws import Draws
from tpnum.ensemble.normals import Component, Group, Normal, Part, Products
from tpnum.ensemble.tile import SampledPlan
from tpnum.ensemble.walk import Laws
from tpnum.law.threads import Stop

BOTH = ("nngp", "ntk")
KEYS = ("a", "b", "r")
NODES = (40, 8)


def sigmoid_like(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.asarray(erf(x))


def families(rng: np.random.Generator, group: Group) -> tuple[dict[str, Normal], dict[str, np.ndarray]]:
    """Two G-vars of each of three independent components, with means, and their covariances."""
    made, covs = {}, {}
    for key in group.components:
        root = rng.standard_normal((2, 2))
        covs[key] = 0.1 * root @ root.T + 0.1 * np.eye(2)
        channel = Products(1.0)
        rows = channel.enter([covs[key]])
        component = Component(Draws(0, 0, 64), group, key, linear=True)
        part = Part(channel, rows, np.ones(2))
        made[key] = Normal((2,), (part,), rng.uniform(-0.5, 0.5, 2), component)
    return made, covs


def nodes(
    normals: dict[str, Normal], covs: dict[str, np.ndarray], other: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes (3, ..) of member 0 and of another, and weights: a rule in all three or six dimensions."""
    z, w = np.polynomial.hermite_e.hermegauss(NODES[other])
    dims = 6 if other else 3
    grids = [grid.ravel() for grid in np.meshgrid(*(z,) * dims, indexing="ij")]
    weights = np.prod(np.meshgrid(*(w / w.sum(),) * dims, indexing="ij"), axis=0).ravel()
    left, right = [], []
    for k, key in enumerate(KEYS):
        root, means = np.linalg.cholesky(covs[key]), normals[key].means()
        left.append(means[0] + root[0, 0] * grids[k])
        right.append(means[1] + root[1, 0] * grids[k] + root[1, 1] * grids[3 + k] if other else left[-1])
    return np.stack(left), np.stack(right), weights


def test_functions_of_three_independent_variables_by_their_coefficients() -> None:
    """New states of a gated unit and what their tangents are multiplied by, every one with every other."""
    group = Group(KEYS)
    normals, covs = families(np.random.default_rng(0), group)
    tanh, gate = functions.get("tanh"), functions.get("erf", a=0.5, c=0.5)
    a, b, r = (normals[key].atom for key in KEYS)
    one = np.ones((1, 1))
    opened = Atom((2,), ((gate, (normals["r"],)),))
    total = ((one, (a,)), (one, (opened.times(b),)))
    slope = Atom((2,), ((tanh.derivative(0), (total,)),))
    every: list[tuple[Atom, Callable[..., np.ndarray]]] = [
        (Atom((2,), ((tanh, (total,)),)), lambda a, b, r: np.tanh(a + sigmoid_like(r) * b)),
        (slope, lambda a, b, r: np.cosh(a + sigmoid_like(r) * b) ** -2),
        (
            slope.times(opened),
            lambda a, b, r: sigmoid_like(r) * np.cosh(a + sigmoid_like(r) * b) ** -2,
        ),
        (slope.times(b), lambda a, b, r: b * np.cosh(a + sigmoid_like(r) * b) ** -2),
        (slope.times(r), lambda a, b, r: r * np.cosh(a + sigmoid_like(r) * b) ** -2),
        (b, lambda a, b, r: b),
        (opened, lambda a, b, r: sigmoid_like(r)),
    ]
    gram = GramMatrices()[group]
    places = [gram.places(atom) for atom, _ in every]
    for other, far in ((0, 1e-5), (1, 5e-4)):  # what the rules are good for
        left, right, weights = nodes(normals, covs, other)
        first = np.stack([f(*left) for _, f in every])
        last = np.stack([f(*right) for _, f in every]) if other else first
        found = np.array([[gram.between(p[[0]], q[[other]])[0, 0] for q in places] for p in places])
        np.testing.assert_allclose(found, (first * weights) @ last.T, atol=far)
    assert gram.lost < 1e-4


def test_wide_gates_are_off_by_no_more_than_they_say() -> None:
    """New states of a gated unit whose G-vars are wide: given both gates these are of one variable each."""
    group = Group(KEYS)
    cov = 5.0 * np.array([[1.0, 0.8], [0.8, 0.7]])
    made = {}
    for key in KEYS:
        channel = Products(1.0)
        part = Part(channel, channel.enter([cov]), np.ones(2))
        component = Component(Draws(0, 0, 64), group, key, linear=True)
        made[key] = Normal((2,), (part,), np.zeros(2), component)
    tanh, gate = functions.get("tanh"), functions.get("erf", a=0.5, c=0.5)
    one = np.ones((1, 1))
    opened = Atom((2,), ((gate, (made["r"],)),))
    total = ((one, (made["a"].atom,)), (one, (opened.times(made["b"].atom),)))
    gram = GramMatrices()[group]
    places = gram.places(Atom((2,), ((tanh, (total,)),)))
    z, w = np.polynomial.hermite_e.hermegauss(64)
    w = w / w.sum()

    def pairs(c: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.sqrt(c[..., 0, 0])
        slope = c[..., 0, 1] / first
        return first * x, slope * x + np.sqrt(np.maximum(c[..., 1, 1] - slope**2, 0.0)) * y

    x, y = np.meshgrid(z, z, indexing="ij")
    for i, j in ((0, 1), (1, 1)):
        own = cov[np.ix_([i, j], [i, j])]
        r = np.stack([sigmoid_like(u) for u in pairs(own, x, y)], axis=-1).reshape(-1, 2)
        weights = np.multiply.outer(w, w)
        value = 0.0
        for (p, q), share in zip(r, weights.ravel(), strict=True):
            if share > 1e-12:
                given_both = own * (1.0 + np.array([[p * p, p * q], [p * q, q * q]]))
                u, v = pairs(given_both, x, y)
                value += share * np.sum(weights * np.tanh(u) * np.tanh(v))
        found = gram.between(places[[i]], places[[j]])[0, 0]
        assert abs(found - value) <= gram.lost < 1e-3


CELLS = {
    "gru": nn.Gru(8, W_std=1.3, b_std=0.3, return_sequences=False),
    "older gru": nn.Gru(8, nn.Erf(), "sigmoid_like", b_std=0.3, reset_after=False, return_sequences=False),
    "lstm": nn.Lstm(8, W_std=1.2, b_std=0.2, return_sequences=False),
}


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_never_drawn_agrees_with_what_is(cell: str) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 2))
    program = nn.program(CELLS[cell], (3, 2))
    factored, plain = (
        SampledPlan((program, program), BOTH, "it is tested", factored).sample({"u": x}, None, 1 << points)
        for factored, points in ((True, 12), (False, 14))
    )
    for kind in BOTH:
        one, other = factored[kind], plain[kind]
        assert np.all(np.abs(one.value - other.value) < 4.5 * np.hypot(one.error, other.error))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_states_given_the_points_are_as_if_written_out(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    x = np.random.default_rng(2).standard_normal((1, 4, 2))
    program = nn.program(CELLS[cell], (4, 2))
    ensemble = SampledPlan((program, program), BOTH, "it is tested")
    single = ensemble.sample({"u": x}, None, 1 << 8)
    monkeypatch.setattr(given, "SINGLE", given.DOUBLE)
    short = ensemble.sample({"u": x}, None, 1 << 8)
    monkeypatch.setattr(given, "WIDE", 0)
    long = ensemble.sample({"u": x}, None, 1 << 8)
    for kind in BOTH:
        np.testing.assert_allclose(short[kind].value, long[kind].value, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(single[kind].value, long[kind].value, rtol=given.ROUNDING)
        assert np.all(single[kind].error >= given.ROUNDING * long[kind].value)


@pytest.mark.parametrize("size", [1e-25, 1e22])
def test_states_beyond_the_range_of_single_precision_are_held_in_double(
    monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    x = size * np.random.default_rng(4).standard_normal((1, 4, 2))
    program = nn.program(nn.Gru(8, nn.Relu(), return_sequences=False), (4, 2))
    ensemble = SampledPlan((program, program), BOTH, "it is tested")
    made = ensemble.sample({"u": x}, None, 1 << 8)
    monkeypatch.setattr(given, "SINGLE", given.DOUBLE)
    want = ensemble.sample({"u": x}, None, 1 << 8)
    for kind in BOTH:
        assert np.all(want[kind].value > 0.0)
        np.testing.assert_allclose(made[kind].value, want[kind].value, rtol=given.ROUNDING)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_tangents_take_as_many_products_as_there_are_pairs_of_steps(
    monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    counted = []
    products = given.Given._products

    def counting(self: given.Given, *args: Any) -> given.Made:
        counted[-1] += 1
        return products(self, *args)

    monkeypatch.setattr(given.Given, "_products", counting)
    for steps in (6, 12):
        counted.append(0)
        program = nn.program(CELLS[cell], (steps, 2))
        x = np.random.default_rng(3).standard_normal((1, steps, 2))
        ensemble = SampledPlan((program, program), ("ntk",), "it is tested")
        ensemble.replicate({"u": x}, None, Laws(ensemble.text, 32, 0, 0), Stop())
    assert counted[1] < 5 * counted[0]


def test_sixteen_steps_to_a_thousandth() -> None:
    x = np.random.default_rng(0).standard_normal((2, 16, 8))
    program = nn.program(nn.Gru(4), (16, 8))
    ensemble = SampledPlan((program, program), ("nngp",), "it is tested")
    assert len(ensemble.text.linear) == 4  # reset gates, both parts of new states, the first state: 0
    made = ensemble.sample({"u": x}, None, 1 << 12)["nngp"]
    assert made.error.max() < 4e-3 * made.value.max()


def test_points_are_led_by_the_directions_that_vary_most() -> None:
    """With the frame of a pilot the principal direction gets the first coordinate of Sobol points."""
    rng = np.random.default_rng(3)
    root = rng.standard_normal((6, 6)) * np.array([3.0, 2.0, 1.0, 0.5, 0.3, 0.1])
    cov = root @ root.T
    made: list[np.ndarray] = []
    frame = None
    for replicate in (-1, 0):
        draws = Draws(0, replicate, 1 << 10, frame)
        channel = Products(1.0)
        component = Component(draws, Group(("a",)), "a")
        made = []
        for k in range(3):  # two at a time, as the steps of a recurrence
            rows = channel.enter([cov[2 * k : 2 * k + 2, : 2 * k], cov[2 * k : 2 * k + 2, 2 * k : 2 * k + 2]])
            part = Part(channel, rows, np.ones(2))
            made.append(component.draw(Normal((2,), (part,), np.zeros(2), component)))
        own, directions, deviations = component.directions()
        np.testing.assert_array_equal(own, np.arange(6))
        np.testing.assert_allclose(directions.T @ directions, np.eye(6), atol=1e-12)
        frame = directions
    values, vectors = np.linalg.eigh(cov)
    np.testing.assert_allclose(deviations**2, values[::-1], rtol=1e-9)
    points = np.concatenate(made)
    np.testing.assert_allclose(points @ points.T / 1024, cov, rtol=1e-9, atol=1e-9)
    along = vectors[:, -1] @ points / np.sqrt(values[-1])
    sobol = Draws(0, 0, 1 << 10)
    sobol.take(1)
    assert abs(np.mean(along * sobol.made[0])) > 0.99
