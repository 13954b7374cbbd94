"""Message passing: state evolution is the limit of the program, transitions are where l1 tips over."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum.errors import InputError
from tpnum.messages import bayes, l1_transition, minimax_threshold, recovery, soft, state_evolution

THRESHOLD = 1.6448536269514722
VALUES, MASSES = [-1.0, 0.0, 1.0], [0.05, 0.9, 0.05]


def sparse(u):
    return np.where(u > THRESHOLD, 1.0, 0.0) - np.where(u < -THRESHOLD, 1.0, 0.0)


def flat(u):
    return np.zeros_like(u)


def measured(denoiser, steps, delta=0.5, noise=0.05):
    p = tp.Program()
    p.dim("m", ratio=delta)
    a = p.matrix("A", var=1 / delta, rows="m", cols="n")
    x = p.apply(sparse, p.vector("u"), kinks=(-THRESHOLD, THRESHOLD), derivative=flat, name="x")
    return tp.amp(a, denoiser, steps, signal=x, noise=noise)


def test_transitions():
    """Donoho, Maleki and Montanari 2009."""
    np.testing.assert_allclose(l1_transition([0.1, 0.5]), [0.18942936776, 0.385689666181], rtol=1e-10)
    np.testing.assert_allclose(l1_transition([0.1, 0.5], True), [0.240975896186, 0.558227691314], rtol=1e-10)


@pytest.mark.parametrize("positive", [False, True])
def test_evolution_tips_over_at_the_transition(positive):
    """Within 1e-3 on either side, for the least favourable signal: values far above the noise."""
    delta = 0.5
    rho, alpha = l1_transition(delta, positive), minimax_threshold(delta, positive)
    slopes = []
    for away in (-1e-3, 1e-3):
        part = (rho + away) * delta
        points = [0.0, 1e5] if positive else [-1e5, 0.0, 1e5]
        masses = [1 - part, part] if positive else [part / 2, 1 - part, part / 2]
        mse = state_evolution(soft(alpha, positive), points, masses, delta=delta, steps=200).mse
        slopes.append(mse[-1] / mse[-2])
    assert slopes[0] < 1 - 1e-4 and slopes[1] > slopes[0]
    part = (rho + 0.05) * delta
    masses = [1 - part, part] if positive else [part / 2, 1 - part, part / 2]
    stuck = state_evolution(soft(alpha, positive), points, masses, delta=delta, steps=200).mse
    assert stuck[-1] == pytest.approx(stuck[-2], rel=1e-3)


@pytest.mark.parametrize("steps", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_limit_of_the_program_is_state_evolution(steps):
    found = measured(soft(1.5), steps).state_evolution()
    want = state_evolution(soft(1.5), VALUES, MASSES, delta=0.5, noise=0.05, steps=steps)
    np.testing.assert_allclose(found.tau2, want.tau2, rtol=1e-6)
    np.testing.assert_allclose(found.mse, want.mse, rtol=1e-6)


@pytest.mark.parametrize("denoiser", [soft(1.5), bayes(VALUES, MASSES)], ids=["soft", "bayes"])
def test_simulations_follow_state_evolution(denoiser):
    made = measured(denoiser, 6)
    want = state_evolution(denoiser, VALUES, MASSES, delta=0.5, noise=0.05, steps=6).mse
    runs = np.array([made.simulate({"n": 2000, "m": 1000}, seed=seed)[1] for seed in range(6)])
    error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert np.all(np.abs(runs.mean(axis=0) - want) < 4 * error + 1e-3)


@pytest.mark.slow
def test_many_simulations_follow_state_evolution():
    made = measured(soft(1.5), 15)
    want = state_evolution(soft(1.5), VALUES, MASSES, delta=0.5, noise=0.05, steps=15).mse
    runs = np.array([made.simulate({"n": 4000, "m": 2000}, seed=seed)[1] for seed in range(20)])
    error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert np.all(np.abs(runs.mean(axis=0) - want) < 4 * error)


def test_denoisers_of_several_priors():
    """Posterior means by quadrature over the signal, slopes by differences, and Gaussian state evolution."""
    r, tau = np.linspace(-4, 4, 17), 0.7
    for points, masses, variances in [([-1, 1], None, 0.0), (0.3, None, 2.0), ([0, 0], [0.9, 0.1], [0, 1.5])]:
        eta = bayes(points, masses, variances)
        z, w = np.polynomial.hermite_e.hermegauss(80)
        a, p, v = np.broadcast_arrays(*map(np.atleast_1d, (points, masses or 1.0, variances)))
        x = (a[:, None] + np.sqrt(v)[:, None] * z).reshape(-1)
        law = (p[:, None] * w).reshape(-1)
        weight = law * np.exp(-0.5 * ((r[:, None] - x) / tau) ** 2)
        np.testing.assert_allclose(eta(r, tau), weight @ x / weight.sum(axis=1), rtol=1e-9, atol=1e-12)
        slope = (eta(r + 1e-5, tau) - eta(r - 1e-5, tau)) / 2e-5
        np.testing.assert_allclose(eta.slope(r, tau), slope, rtol=1e-6, atol=1e-9)
    tau2 = [0.05 + 2.0 / 0.5]
    for _ in range(9):
        tau2.append(0.05 + 2.0 * tau2[-1] / (2.0 + tau2[-1]) / 0.5)
    found = state_evolution(bayes(0, variances=2.0), 0, variances=2.0, delta=0.5, noise=0.05, steps=10)
    np.testing.assert_allclose(found.tau2, tau2, rtol=1e-12)
    sparse = state_evolution(
        bayes([0, 0], [0.9, 0.1], [0, 1]), [0, 0], [0.9, 0.1], [0, 1], delta=0.5, steps=40
    )
    assert sparse.mse[-1] < 1e-9  # without noise it is found, the sparsity 0.2 being far below the transition
    assert sparse.mse[0] < 0.1


def test_recovery_is_below_the_curve():
    """On either side of the transition at delta = 1/2, 0.3857."""
    found = recovery([0.5], [0.2, 0.6], width=300, rounds=25, runs=1)
    np.testing.assert_array_equal(found.part, [[1.0, 0.0]])
    assert len(found.plot().get_lines()[0].get_xdata()) == 99


def test_a_spiked_wigner_matrix():
    """tanh on a spike of signs: the overlap of the algorithm, of width 1500."""
    p = tp.Program()
    w, x = p.matrix("W", var=0.5), tp.sign(p.vector("u"))
    made = tp.amp(w, "tanh", 3, signal=x, snr=2.0, start=0.5 * x + p.vector("e"))
    law = made.state_evolution(method="ensemble", samples=1 << 15)
    runs = np.array([made.simulate(1500, seed=seed)[1] for seed in range(4)])
    np.testing.assert_allclose(runs.mean(axis=0), law.mse, atol=0.03)


def test_bayes_optimal_overlaps_of_a_spiked_wigner_matrix():
    """Signs: m_{t+1} = E tanh(g_t + sqrt(g_t) z), g_t = snr^2 m_t once f is a posterior mean."""
    snr, rounds = 1.5, 4
    z, w = np.polynomial.hermite_e.hermegauss(200)
    gain, want = (snr * 0.5) ** 2 / 1.25, []
    for _ in range(rounds):
        want.append(float(w @ np.tanh(gain + np.sqrt(gain) * z) / w.sum()))
        gain = snr**2 * want[-1]
    p = tp.Program()
    a, x = p.matrix("W", var=0.5), tp.sign(p.vector("u"))
    made = tp.amp(a, bayes([-1, 1], [0.5, 0.5]), rounds, signal=x, snr=snr, start=0.5 * x + p.vector("e"))
    law = made.state_evolution(method="ensemble", samples=1 << 15)
    assert np.all(np.abs(law.overlap - want) < 2 * law.overlap_error + 2e-3)


def test_refusals():
    p = tp.Program()
    p.dim("m", ratio=0.5)
    a, w = p.matrix("A", rows="m", cols="n"), p.matrix("W")
    x, v = p.vector("x"), p.vector("v", dim="m")
    for call, words in [
        (lambda: tp.amp(a, "tanh", 2, signal=x), "'A' must be a matrix of variance n/m = 2"),
        (lambda: tp.amp(a, "tanh", 2), "signal: the vector"),
        (lambda: tp.amp(a, "tanh", 2, signal=v), "signal: 'v' is in 'm'"),
        (lambda: tp.amp(w, "tanh", 2), "start: the vector"),
        (lambda: tp.amp(w, "tanh", 2, start=x, noise=1.0), "noise: symmetric"),
        (lambda: tp.amp(w, 3, 2, start=x), "denoiser is 3"),
        (lambda: tp.amp(x, "tanh", 2, start=x), "matrix is"),
        (lambda: l1_transition(1.5), "delta must be between 0 and 1"),
        (lambda: bayes([0, 1], variances=[1, 2, 3]), "variances: one number >= 0 for each of 2 points"),
        (lambda: bayes([0, 1], [0.5, 0.6]), "masses must add up to 1"),
        (lambda: recovery([0.5], [1.5]), r"rho must be in \(0, 1\]"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


def test_signals_and_grids_of_nothing_are_refused():
    with pytest.raises(InputError, match="points: at least one is needed"):
        bayes([])
    with pytest.raises(InputError, match="points: at least one is needed"):
        state_evolution(soft(1.0), [], delta=0.5)
    with pytest.raises(InputError, match="delta and rho: at least one number"):
        recovery([], [0.1])
