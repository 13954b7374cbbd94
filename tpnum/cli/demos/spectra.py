"""``tpnum demo semicircle | jacobian | phases | amp | kernel-spectrum``: theory over simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpnum import nn
from tpnum.pictures import draw_evolution, draw_phases, draw_spectrum, panels, save
from tpnum.program import Program

if TYPE_CHECKING:
    from tpnum.spectra.base import Measure


def semicircle(out: Path, size: int | None) -> None:
    """W + W^T by Lanczos in the limit, and a Wigner matrix plus a matrix of two levels by free
    convolution.
    """
    from tpnum.spectra.closed import atoms
    from tpnum.spectra.convolve import wigner_plus
    from tpnum.spectra.lanczos import spectrum

    n = size or 1500
    p = Program()
    w = p.matrix("W", var=0.5)
    wigner = spectrum(lambda v: w @ v + w.T @ v, w)
    a = np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(2 * n)
    matrix = a + a.T
    levels = np.where(np.arange(n) < n // 3, -2.0, 1.5)
    shifted = wigner_plus(atoms([-2.0, 1.5], [1 / 3, 2 / 3]))
    first, second = panels(2)
    draw_spectrum(wigner, first, np.linalg.eigvalsh(matrix))
    first.set_title(f"W + W$^T$: {wigner.coefficients.method}, 20 steps")
    draw_spectrum(shifted, second, np.linalg.eigvalsh(matrix + np.diag(levels)))
    second.set_title("plus a diagonal of two levels")
    print(
        f"W + W^T: {_intervals(wigner)}; even moments {', '.join(f'{m:g}' for m in wigner.moments(6)[2::2])}"
    )
    print(f"plus two levels: {_intervals(shifted)}")
    save(first, out)


def _intervals(law: Measure) -> str:
    """The intervals that a law fills, as text."""
    return " and ".join(f"from {low:.6g} to {high:.6g}" for low, high in law.edges)


def jacobian(out: Path, size: int | None) -> None:
    """J J^T of relu and of critical tanh nets, Gaussian and orthogonal weights."""
    from tpnum.propagation.critical import critical
    from tpnum.spectra.networks import jacobian as law_of

    n, depth = size or 800, 5
    tanh = critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=0.1)
    relu = nn.serial(nn.Relu(), nn.Dense(64, W_std=2**0.5))
    draws = np.random.default_rng(0)
    axes = panels(4)
    cases = [("relu", relu, 2**0.5, 1.0), ("tanh, critical at q = 0.1", tanh.block, tanh.W_std, 0.1)]
    for k, (name, block, deviation, q) in enumerate(cases):
        for j, weights in enumerate(("gaussian", "orthogonal")):
            law = law_of(block, depth, q=np.full(depth, q), weights=weights)
            product = np.eye(n)
            for _ in range(depth):
                g = np.sqrt(q) * draws.standard_normal(n)
                slope = (g > 0).astype(float) if name == "relu" else 1.0 / np.cosh(g) ** 2
                w = draws.standard_normal((n, n)) / np.sqrt(n)
                w = np.linalg.qr(w)[0] if weights == "orthogonal" else w
                product = deviation * w @ (slope[:, None] * product)
            found = np.linalg.svd(product, compute_uv=False) ** 2
            ax = axes[2 * k + j]
            draw_spectrum(law, ax, found)
            ax.set_title(f"{name}, {weights}, depth {depth}")
            print(f"{name:<26}{weights:<12} largest {law.hull[1]:10.6g}, of width {n}: {found[0]:.6g}")
    save(axes[0], out)


def phases(out: Path, size: int | None) -> None:
    """The phase diagram of tanh with its critical line."""
    from tpnum.propagation.phases import phases as diagram

    count = size or 200
    found = diagram(
        nn.serial(nn.Tanh(), nn.Dense(64)), np.linspace(0.5, 3.0, count), np.linspace(0.0, 1.0, count)
    )
    print(found)
    save(draw_phases(found, None), out)


def amp(out: Path, size: int | None) -> None:
    """l1 and Bayes-optimal message passing for a sparse signal: state evolution over a few runs; and where l1
    tips over, over runs on either side.
    """
    from tpnum.messages import amp as message_passing
    from tpnum.messages import bayes, l1_transition, recovery, soft, state_evolution

    n, delta, rounds = size or 4000, 0.5, 12
    values, masses = [-1.0, 0.0, 1.0], [0.06, 0.88, 0.06]
    draws = []
    for name, eta in (
        ("l1, soft thresholding at 1.4 tau", soft(1.4)),
        ("Bayes-optimal", bayes(values, masses)),
    ):
        p = Program()
        p.dim("m", ratio=delta)
        a = p.matrix("A", var=1.0 / delta, rows="m", cols="n")
        u = p.vector("u")
        x = p.apply(_sparse, u, kinks=(-_THRESHOLD, _THRESHOLD), derivative=_flat, name="x")
        written = message_passing(a, eta, rounds, signal=x, noise=0.1)
        theory = state_evolution(eta, values, masses, delta=delta, noise=0.1, steps=rounds)
        runs = np.array([written.simulate({"n": n, "m": int(delta * n)}, seed=seed)[1] for seed in range(4)])
        draws.append((name, theory.mse, runs))
        print(f"{name:<34} mean squared error after {rounds} rounds: {theory.mse[-1]:.6f}, of n = {n}: "
              f"{runs[:, -1].mean():.6f} +- {runs[:, -1].std(ddof=1) / 2:.6f}")  # fmt: skip
    first, second = panels(2)
    draw_evolution(draws, first)
    first.set_title(f"n = {n}, delta = {delta:g}, noise 0.1")
    deltas = np.array([0.2, 0.4, 0.6, 0.8])
    found = recovery(deltas, np.linspace(0.12, 0.72, 6), width=max(100, n // 8), runs=1)
    found.plot(second)
    second.set_title(f"l1 without noise, n = {max(100, n // 8)}, 60 rounds")
    for ratio, rho in zip(deltas, l1_transition(deltas), strict=True):
        print(f"l1 at delta = {ratio:g} tips over at rho = {rho:.6f}")
    save(first, out)


_THRESHOLD = 1.5547735945968535
"""P(|u| > it) = 0.12."""


def _sparse(u: np.ndarray) -> np.ndarray:
    return np.where(u > _THRESHOLD, 1.0, 0.0) - np.where(u < -_THRESHOLD, 1.0, 0.0)


def _flat(u: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


def kernel_spectrum(out: Path, size: int | None) -> None:
    """The conjugate kernel and the NTK of n inputs in nets of depth 2 and width n."""
    from tpnum.spectra.kernels import kernel_spectrum as law_of
    from tpnum.spectra.kernels import simulated

    n = size or 1000
    axes = panels(4)
    for k, phi in enumerate(("tanh", "relu")):
        for j, kind in enumerate(("conjugate", "ntk")):
            law = law_of(phi, [1.0, 1.0], kind=kind)
            found = simulated(phi, n, [n, n, n], kind=kind)
            ax = axes[2 * k + j]
            draw_spectrum(law, ax, found)
            name = "NTK" if kind == "ntk" else "conjugate kernel"
            ax.set_title(f"{name} of {phi}, depth 2, n = width = {n}")
            print(f"{phi:<6}{name:<18} largest {law.hull[1]:10.6g}, of size {n}: {found[-1]:.6g}")
    save(axes[0], out)


DRAWN: dict[str, Callable[[Path, int | None], None]] = {
    "semicircle": semicircle,
    "jacobian": jacobian,
    "phases": phases,
    "amp": amp,
    "kernel-spectrum": kernel_spectrum,
}
"""The demos by name."""
