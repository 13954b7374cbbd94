"""``tpnum demo depth``: gradients of deep nets with and without normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tpnum import nn
from tpnum.pictures import draw_growth, save
from tpnum.propagation.batchnorm import batchnorm_growth
from tpnum.propagation.signals import signals

DEPTH, BATCH, RUNS, W_STD = 16, 32, 6, 1.5


def demonstrate(out: Path, size: int | None) -> None:
    """Squared gradients by layer of plain, layernorm and batchnorm relu nets over nets of finite width."""
    width = size or 500
    drawn = []
    print(f"{'relu net':<12}{'growth of the squared gradient per layer':>42}{f'of width {width}':>24}")
    for kind in ("plain", "layernorm", "batchnorm"):
        rate = growth(kind)
        runs = np.array([simulated(kind, width, seed) for seed in range(RUNS)])
        found = (runs[:, 0] / runs[:, -1]) ** (1.0 / (runs.shape[1] - 1))
        error = found.std(ddof=1) / RUNS**0.5
        print(f"{kind:<12}{rate:>42.4f}{f'{found.mean():.4f} +- {error:.4f}':>24}")
        drawn.append((f"{kind}: {rate:.3f} a layer", rate, runs / runs[:, -1:]))
    ax = draw_growth(drawn)
    ax.set_title(f"gradients of relu nets, $\\sigma_w = {W_STD:g}$, batches of {BATCH}")
    save(ax, out)


def growth(kind: str) -> float:
    """The factor from one layer to the one below, at infinite width."""
    if kind == "batchnorm":
        return batchnorm_growth("relu", BATCH)
    between = [nn.LayerNorm()] if kind == "layernorm" else []
    block = [*between, nn.Relu(), nn.Dense(256, W_std=W_STD)]
    gradient = signals(nn.serial(nn.Dense(256), *block, *block)).gradient
    return float(gradient[-1 - len(block)] / gradient[-1])


def simulated(kind: str, width: int, seed: int) -> np.ndarray:
    """Mean squared gradients at the layers' Gaussians, of a random direction of the outputs.

    The first layer is left out, where the inputs are not yet what the layers make of them.
    """
    rng = np.random.default_rng(seed)
    inputs = np.linalg.qr(rng.standard_normal((width, BATCH)))[0] * width**0.5  # equally far apart
    axis = {"batchnorm": 1, "layernorm": 0}.get(kind)
    h, passed = W_STD / width**0.5 * rng.standard_normal((width, width)) @ inputs, []
    for _ in range(DEPTH + 1):
        w = W_STD / width**0.5 * rng.standard_normal((width, width))
        scale = np.ones((1, 1)) if axis is None else h.std(axis=axis, keepdims=True)
        y = h if axis is None else (h - h.mean(axis=axis, keepdims=True)) / scale
        passed.append((w, y, scale))
        h = w @ np.maximum(y, 0.0)
    moved = rng.standard_normal(h.shape)
    found = []
    for w, y, scale in passed[::-1]:
        moved = (w.T @ moved) * (y > 0.0)
        if axis is not None:  # through (h - mean) / deviation
            along = (moved * y).mean(axis=axis, keepdims=True)
            moved = (moved - moved.mean(axis=axis, keepdims=True) - y * along) / scale
        found.append(np.mean(moved**2))
    return np.array(found[-2::-1])
