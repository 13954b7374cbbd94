"""``tpnum demo text``: what a recurrent net and attention make of sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.cli.demos.sentences import EXAMPLES, embedded, sentences
from tpnum.pictures import draw_learning, draw_similarity, panels, save
from tpnum.tiles.driver import kernel

LEARNT, DRAWS = (5, 10, 20, 40, 80, 120), 20
"""Sentences to learn from, and how often they are drawn."""

RIDGE = 1e-4
"""Relative to the mean of the diagonal."""


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


def demonstrate(out: Path, size: int | None) -> None:
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
