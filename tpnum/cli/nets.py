"""``tpnum demo text`` and ``tpnum demo depth``: kernels of sentences, gradients of deep nets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.cli.words import EXAMPLES, embedded, sentences
from tpnum.pictures import draw_growth, draw_learning, draw_similarity, panels, save
from tpnum.propagation.batchnorm import batchnorm_growth
from tpnum.propagation.signals import signals
from tpnum.tiles.driver import kernel

LEARNT, DRAWS = (5, 10, 20, 40, 80, 120), 20
"""Sentences to learn from, and how often they are drawn."""

RIDGE = 1e-4
"""Relative to the mean of the diagonal."""

DEPTH, BATCH, RUNS, W_STD = 16, 32, 6, 1.5


# sentences ------------------------------------------------------------------------------------------------


def reader() -> Any:
    """The recurrent net of the demonstration, which reads from left to right."""
    return nn.SimpleRnn(256, activation=nn.Erf(), W_std=1.2, b_std=0.3)


def text_nets() -> dict[str, Any]:
    """The nets by name: one that sees no order, one that reads, one that attends."""
    head = nn.Dense(256, b_std=0.3), nn.Relu()
    places: dict[str, Any] = {"pos_emb_type": "SUM", "pos_emb_decay_fn": "exp(-d)", "val_pos_emb": True}
    attention = nn.GlobalSelfAttention(256, 64, 64, 4, causal=True, **places)
    last = nn.SimpleRnn(256, activation=nn.Erf(), W_std=1.2, b_std=0.3, return_sequences=False)
    return {
        "average of the words": nn.serial(nn.Dense(256), nn.GlobalAvgPool(), *head, nn.Dense(1)),
        "recurrent, last state": nn.serial(last, nn.Dense(1)),
        "attention with positions": nn.serial(
            nn.Dense(256), attention, *head, nn.GlobalAvgPool(), nn.Dense(1)
        ),
    }


def text(out: Path, size: int | None) -> None:
    """What a recurrent net makes of words in two sentences; who jumps over whom, by kernel regression."""
    texts, fox = sentences()
    x = embedded(texts)
    axes = panels(2)
    states = kernel(reader(), embedded(EXAMPLES), mask_constant=np.nan)
    words = [sentence.split() for sentence in EXAMPLES]
    at = [(k, t) for k, sentence in enumerate(words) for t in range(len(sentence))]
    first, step = np.array(at).T
    draw_similarity(states[first[:, None], first, step[:, None], step], [words[k][t] for k, t in at], axes[0])
    axes[0].set_title("states of a recurrent net, word by word")
    print(f"{len(texts)} sentences like {texts[-3]!r}: who jumps?")
    print("Each has a mirror image of the same words, so that the average of the words tells nothing.\n")
    print(f"{'regression with the NTK, learnt from':<38}" + "".join(f"{count:>8}" for count in LEARNT))
    scores: dict[str, np.ndarray] = {}
    for name, net in text_nets().items():
        scores[name] = learning(kernel(net, x, get="ntk", mask_constant=np.nan), fox)
        print(f"{name:<38}" + "".join(f"{score:>8.1%}" for score in scores[name]))
    draw_learning(scores, LEARNT, axes[1])
    axes[1].set_title("who jumps, the fox or the dog?")
    save(axes[0], out)


def learning(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of the other sentences that is told rightly, by how many are learnt from."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(labels)) for _ in range(DRAWS)]
    return np.array([np.mean([_told(matrix, labels, o[:n], o[n:]) for o in orders]) for n in LEARNT])


def _told(matrix: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    inner = matrix[np.ix_(train, train)]
    inner[np.diag_indices_from(inner)] += RIDGE * np.trace(inner) / len(inner)
    weights = np.linalg.solve(inner, np.where(labels[train], 1.0, -1.0))
    return float(np.mean((matrix[np.ix_(test, train)] @ weights > 0.0) == labels[test]))


# depth ----------------------------------------------------------------------------------------------------


def depth(out: Path, size: int | None) -> None:
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


DRAWN: dict[str, Callable[[Path, int | None], None]] = {"text": text, "depth": depth}
"""The demos by name."""
