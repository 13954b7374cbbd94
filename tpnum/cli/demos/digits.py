"""``tpnum demo digits``: kernel regression with the NTK of a net, beside an RBF kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tpnum import nn
from tpnum.errors import InputError
from tpnum.pictures import draw_by_class
from tpnum.tiles.driver import kernel
from tpnum.tiles.units import duration

DEPTH, CONVOLUTIONS, W_STD, B_STD = 3, 5, 2**0.5, 0.1
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)  # relative to the mean of the diagonal
WIDTHS = (0.25, 0.5, 1.0, 2.0)  # of the RBF kernel, relative to the median distance
_CLASSES = 10


def demonstrate(out: Path, size: int | None, net: str | None = None, n_jobs: int | None = None) -> None:
    """Compute, choose, regress, print a table and draw the matrix."""
    images, labels = digits(size)
    train, valid, test = split(len(labels))
    rows = []
    for name in ("dense", "cnn") if net == "cnn" else ("dense",):
        made = NETS[name]
        x = images if name == "dense" else images.reshape(-1, 8, 8, 1)
        layers = made.net()
        kernel(layers, x[:2], get="ntk", n_jobs=1)  # load the compiled code outside the timed part
        start = time.perf_counter()
        ntk = kernel(layers, x, get="ntk", n_jobs=n_jobs, progress=True)
        seconds = time.perf_counter() - start
        score, ridge, accuracy = regress([ntk], labels, train, valid, test)
        rows.append((f"NTK, {made.name}", score, accuracy, f"ridge {ridge[1]:g}"))
    candidates, widths = rbf(images)
    score, choice, accuracy = regress(candidates, labels, train, valid, test)
    rows.append(("RBF", score, accuracy, f"ridge {choice[1]:g}, width {widths[choice[0]]:.3g}"))

    each = seconds / ntk.size
    print(
        f"{len(labels)} digits of 8 x 8 pixels: {len(train) + len(valid)} to learn from, {len(test)} held out"
    )
    told = f"float64: {duration(seconds)}, {duration(each)} an entry"
    print(f"NTK matrix {len(ntk)} x {len(ntk)} of the {made.name}, {told}\n")
    print(f"{'kernel regression with':<28}{'validation':>12}{'held out':>12}   chosen on the validation part")
    for name, valid_score, test_score, chosen in rows:
        print(f"{name:<28}{valid_score:>11.2%} {test_score:>11.2%}   {chosen}")

    title = f"NTK of a net: {made.name}, $\\sigma_w^2={W_STD**2:g}$, $\\sigma_b={B_STD:g}$"
    draw_by_class(ntk, labels, images, title, out)
    print(f"\nthe matrix, sorted by class: {out}")


def relu_net() -> Any:
    """Return the dense net of the demonstration: Dense and Relu, `DEPTH` times, and a linear readout."""
    layers: list[Any] = []
    for _ in range(DEPTH):
        layers += [nn.Dense(512, W_std=W_STD, b_std=B_STD), nn.Relu()]
    return nn.serial(*layers, nn.Dense(_CLASSES, W_std=1.0))


def convolutional_net() -> Any:
    """Return the other net: convolutions of 3 x 3 and Relu, `CONVOLUTIONS` times, and a global average."""
    layers: list[Any] = []
    for _ in range(CONVOLUTIONS):
        layers += [nn.Conv(512, (3, 3), padding="SAME", W_std=W_STD, b_std=B_STD), nn.Relu()]
    return nn.serial(*layers, nn.GlobalAvgPool(), nn.Dense(_CLASSES, W_std=1.0))


class Demonstrated(NamedTuple):
    """A net to demonstrate, and its name in the table."""

    name: str
    net: Callable[[], Any]


NETS = {
    "dense": Demonstrated(f"relu net of depth {DEPTH}", relu_net),
    "cnn": Demonstrated(f"{CONVOLUTIONS} convolutions", convolutional_net),
}


def digits(size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return `size` of the 8 x 8 digits as rows of mean zero and root mean square one, and their labels."""
    try:
        from tpnum.interop.sklearn.data import digits as load

        images, labels = load()
    except ImportError:
        raise InputError(
            "the demonstration needs scikit-learn and matplotlib: pip install 'tpnum[demo]'"
        ) from None
    images = images[:size] - images.mean()
    images /= np.sqrt(np.mean(images**2, axis=1, keepdims=True))
    return images, labels[:size]


def split(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices to train on (half), to choose on (a sixth), to test on (a third)."""
    order = np.random.default_rng(0).permutation(size)
    return order[: size // 2], order[size // 2 : size - size // 3], order[size - size // 3 :]


def rbf(images: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Return exp(-|x - x'|^2 / 2 w^2) for widths w around the median distance, and these widths."""
    norms = np.sum(images**2, axis=1)
    squares = np.maximum(norms[:, None] + norms - 2 * images @ images.T, 0)
    median = float(np.sqrt(np.median(squares)))
    widths = [factor * median for factor in WIDTHS]
    return [np.exp(-squares / (2 * width**2)) for width in widths], widths


def regress(
    kernels: list[np.ndarray], labels: np.ndarray, train: np.ndarray, valid: np.ndarray, test: np.ndarray
) -> tuple[float, tuple[int, float], float]:
    """Choose kernel and ridge on `valid`, then learn from both parts and test.

    Returns
    -------
    The accuracy on `valid`, (index of the kernel, ridge), the accuracy on `test`.
    """
    trials = [
        (accuracy(matrix, labels, train, valid, ridge), index, ridge)
        for index, matrix in enumerate(kernels)
        for ridge in RIDGES
    ]
    score, index, ridge = max(trials, key=lambda trial: trial[0])
    return (
        score,
        (index, ridge),
        accuracy(kernels[index], labels, np.concatenate([train, valid]), test, ridge),
    )


def accuracy(
    matrix: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, ridge: float
) -> float:
    """Return the share of `test` that K(test, train) (K + ridge I)^-1 (one-hot labels) classifies rightly."""
    from scipy.linalg import cho_factor, cho_solve

    inner = matrix[np.ix_(train, train)]
    inner[np.diag_indices_from(inner)] += ridge * np.trace(inner) / len(inner)
    targets = np.eye(_CLASSES)[labels[train]] - 1 / _CLASSES
    weights = cho_solve(cho_factor(inner, lower=True, overwrite_a=True), targets)
    guesses = np.argmax(matrix[np.ix_(test, train)] @ weights, axis=1)
    return float(np.mean(guesses == labels[test]))
