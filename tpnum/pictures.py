"""Pictures: a kernel matrix sorted by class, convergence to the limit, spectra, signals and phases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tpnum.errors import InputError


def draw_by_class(matrix: np.ndarray, labels: np.ndarray, images: np.ndarray, title: str, out: Path) -> None:
    """Write K_ij / sqrt(K_ii K_jj) to a PNG: one labelled block per class, its mean image at its side."""
    figure = blank(figsize=(8.6, 7.6), layout="constrained")
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    order = _by_class(matrix, labels)
    scale = np.sqrt(np.diag(matrix))
    shown = (matrix / np.outer(scale, scale))[np.ix_(order, order)]
    classes, counts = np.unique(labels, return_counts=True)
    ends = np.cumsum(counts)
    centres = ends - counts / 2

    axes = figure.add_subplot()
    low, high = np.quantile(shown, (0.01, 0.995))
    size = len(shown)
    limits: dict[str, Any] = {"vmin": low, "vmax": high, "extent": (0, size, size, 0)}
    picture = axes.imshow(shown, cmap="magma", interpolation="antialiased", **limits)
    for end in ends[:-1]:
        axes.axhline(end, color="white", linewidth=0.5, alpha=0.6)
        axes.axvline(end, color="white", linewidth=0.5, alpha=0.6)
    axes.set_xticks(centres, [str(label) for label in classes], fontsize=11)
    axes.set_yticks(centres, [str(label) for label in classes], fontsize=11)
    axes.tick_params(length=0, pad=4)
    axes.set_xlabel("class of x'")
    axes.set_ylabel("class of x", labelpad=36)
    side = round(images.shape[1] ** 0.5)
    for label, centre in zip(classes, centres, strict=True):
        mean = images[labels == label].mean(axis=0).reshape(side, side)
        thumb = OffsetImage(mean, zoom=28 / side, cmap="gray_r")
        place: dict[str, Any] = {"xy": (0, centre), "xybox": (-34, 0), "boxcoords": "offset points"}
        axes.add_artist(AnnotationBbox(thumb, frameon=False, annotation_clip=False, **place))
    axes.set_title(title, fontsize=12, pad=10)
    bar = figure.colorbar(picture, ax=axes, shrink=0.85, extend="both", pad=0.02)
    bar.set_label(r"$\Theta(x, x')\,/\,\sqrt{\Theta(x, x)\,\Theta(x', x')}$")
    bar.outline.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(out, dpi=150, format="png")


def _by_class(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the order of rows: by class, and within a class from the most typical to the least."""
    order: list[int] = []
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        typical = matrix[np.ix_(members, members)].mean(axis=1) / np.sqrt(np.diag(matrix)[members])
        order.extend(members[np.argsort(-typical, kind="stable")])
    return np.array(order)


def _axes() -> Any:
    """Pyplot's current axes, of a new figure where they are in use; without pyplot a bare figure's."""
    size: dict[str, Any] = {"figsize": (8.0, 4.6), "layout": "constrained"}
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        if pyplot.get_fignums() and not pyplot.gca().has_data():
            return pyplot.gca()
        return pyplot.figure(**size).add_subplot()
    return blank(**size).add_subplot()


def blank(**size: Any) -> Any:
    """A figure without a window, whatever backend the user has set.

    Raises
    ------
    InputError
        There is no matplotlib: long work that ends in a picture asks for one first.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("the picture needs matplotlib: pip install 'tpnum[demo]'") from None
    figure = Figure(**size)
    FigureCanvasAgg(figure)
    return figure


MOST = 8
"""Quantities in one picture of convergence."""


def draw_convergence(comparison: Any, ax: Any = None) -> Any:
    """(value - limit) / size against 1/n with standard errors, and the fitted lines down to 1/n = 0.

    ``size`` is the largest of the limit and the values.  Of many quantities those of largest |z| are drawn.
    """
    ax = _own(ax)
    steps = 1.0 / np.array(comparison.widths)
    shown = sorted(comparison.rows, key=lambda row: -abs(row.z))[:MOST]
    ax.axhline(0.0, color="black", linewidth=1)
    for k, row in enumerate(shown):
        size = max(abs(row.limit), *map(abs, row.values)) or 1.0
        aside = 0.012 * (k - (len(shown) - 1) / 2) * steps.max()  # so that the bars stand side by side
        away = (np.array(row.values) - row.limit) / size
        bars = ax.errorbar(
            steps + aside,
            away,
            yerr=np.array(row.errors) / size,
            fmt="o",
            markersize=4,
            capsize=2,
            linewidth=1,
            label=f"{row.label}   z = {row.z:+.1f}",
        )
        line = np.array([0.0, steps.max()])
        fitted = (row.extrapolated - row.limit + row.slope * line) / size
        color = bars[0].get_color()
        ax.plot(line + aside, fitted, color=color, linewidth=1, alpha=0.6)
        ax.errorbar(
            [aside], fitted[:1], yerr=[row.error / size], fmt="s", markersize=4, color=color, capsize=2
        )
    ax.set_xticks([0.0, *steps], ["\u221e", *(f"{w:g}" for w in comparison.widths)])
    ax.set_xlabel("width n, on the scale of 1/n")
    ax.set_ylabel("(average - limit) / size")
    if len(shown) < len(comparison.rows):
        ax.set_title(f"the {len(shown)} of {len(comparison.rows)} quantities farthest from their limits")
    return _legend(ax, 8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def panels(count: int) -> list[Any]:
    """Axes side by side, two in a row."""
    rows = (count + 1) // 2
    figure = blank(figsize=(11.0, 4.2 * rows), layout="constrained")
    return [figure.add_subplot(rows, 2, k + 1) for k in range(count)]


def save(ax: Any, out: Path) -> None:
    """Write the figure of axes to a PNG."""
    ax.figure.savefig(out, dpi=150, format="png")


def _own(ax: Any) -> Any:
    """The axes to draw on."""
    ax = _axes() if ax is None else ax
    if not hasattr(ax, "errorbar"):
        raise InputError(f"ax: axes of matplotlib are needed, not a {type(ax).__name__}")
    return ax


def _legend(ax: Any, size: float, **place: Any) -> Any:
    """The axes of a finished picture: a legend, and no frame."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=size, frameon=False, **place)
    return ax


def draw_spectrum(law: Any, ax: Any = None, eigenvalues: np.ndarray | None = None) -> Any:
    """The density of a measure, its atoms as lines, over a histogram of eigenvalues."""
    ax = _own(ax)
    low, high = law.hull
    margin = 0.03 * (high - low or 1.0)
    tallest = 0.0
    points = []
    for a, b in law.edges:
        angle = np.linspace(0.0, np.pi, 502)[1:-1]
        x = 0.5 * (a + b) - 0.5 * (b - a) * np.cos(angle)
        points.append((x, np.asarray(law.density(x))))
    inside = np.concatenate([y for _, y in points]) if points else np.array([1.0])
    cap = 4.0 * float(np.quantile(inside, 0.9)) or 1.0
    if eigenvalues is not None:
        kept = np.asarray(eigenvalues)
        for at, _ in law.atoms:
            kept = kept[np.abs(kept - at) > 1e-9 * max(1.0, high - low)]
        if kept.size > 1:
            share = 80.0 / (np.size(eigenvalues) * max(float(np.ptp(kept)), 1e-300))
            weights, label = np.full(kept.size, share), f"{np.size(eigenvalues)} eigenvalues"
            heights, _, _ = ax.hist(kept, bins=80, weights=weights, color="#b8c4d6", label=label)
            tallest = float(np.max(heights))
    for k, (x, y) in enumerate(points):
        ax.plot(
            x, np.minimum(y, 2.0 * cap), color="#b03030", linewidth=1.6, label="limit" if k == 0 else None
        )
    for at, mass in law.atoms[:20]:
        ax.axvline(at, color="#b03030", linewidth=1.2, linestyle="--")
        ax.annotate(f"{mass:.3g}", (at, 0.92), xycoords=("data", "axes fraction"), fontsize=8)
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(0.0, min(1.15 * max(float(np.max(inside)), 0.5 * tallest), cap))
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density")
    return _legend(ax, 8, loc="upper right")  # the best place takes long to find beside many bars


def draw_signals(found: Any, ax: Any = None) -> Any:
    """Variance, correlation and gradient by layer."""
    ax = _own(ax)
    at = np.arange(1, len(found) + 1)
    ax.plot(at, found.q, marker=".", label="variance q")
    ax.plot(at, found.gradient, marker=".", label="squared gradient")
    ax.set_yscale("log")
    ax.set_xlabel("layer")
    ax.set_ylabel("variance, squared gradient")
    other = ax.twinx()
    other.plot(at, found.c, color="#707070", linestyle="--", label="correlation c")
    other.set_ylabel("correlation")
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return ax


def draw_phases(found: Any, ax: Any = None) -> Any:
    """log chi_1 over the deviations, with the critical line."""
    ax = _own(ax)
    shown = np.log10(np.clip(found.chi_1, 1e-3, 1e3))
    limit = float(np.nanmax(np.abs(shown))) or 1.0
    extent = (found.W_std[0], found.W_std[-1], found.b_std[0], found.b_std[-1])
    picture = ax.imshow(
        shown, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    if min(shown.shape) > 1 and np.nanmin(shown) < 0.0 < np.nanmax(shown):
        ax.contour(found.W_std, found.b_std, shown, levels=[0.0], colors="black", linewidths=1.4)
    ax.set_xlabel(r"$\sigma_w$")
    ax.set_ylabel(r"$\sigma_b$")
    ax.set_title(f"{found.title}: ordered (blue), chaotic (red)", fontsize=10)
    ax.figure.colorbar(picture, ax=ax, label=r"$\log_{10}\chi_1$")
    return ax


def draw_evolution(draws: Any, ax: Any = None) -> Any:
    """Mean squared errors by round: lines of the theory over runs, per (name, theory, runs)."""
    ax = _own(ax)
    for name, theory, runs in draws:
        at = np.arange(1, len(theory) + 1)
        (line,) = ax.plot(at, theory, label=f"{name}: state evolution")
        for run in runs:
            ax.plot(at, run, ".", color=line.get_color(), alpha=0.5, markersize=5)
    ax.set_yscale("log")
    ax.set_xlabel("round")
    ax.set_ylabel("mean squared error (dots: single runs)")
    return _legend(ax, 9)


def draw_recovery(found: Any, delta: np.ndarray, rho: np.ndarray, ax: Any = None) -> Any:
    """The parts of runs that found their signal, as dots, under the curve of the transition."""
    ax = _own(ax)
    at, share = np.meshgrid(found.delta, found.rho, indexing="ij")
    dots = ax.scatter(at, share, c=found.part, cmap="RdYlGn", vmin=0.0, vmax=1.0, edgecolors="#404040")
    ax.plot(delta, rho, color="black", linewidth=1.6, label="where l1 tips over")
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(0.0, 1.0)
    ax.set_xlabel("measurements per unknown")
    ax.set_ylabel("non-zeros per measurement")
    ax.figure.colorbar(dots, ax=ax, label="part of runs that recover")
    return _legend(ax, 9, loc="upper left")


def draw_similarity(matrix: np.ndarray, names: list[str], ax: Any = None) -> Any:
    """K_ij / sqrt(K_ii K_jj) with a name to each row."""
    ax = _own(ax)
    scale = np.sqrt(np.diag(matrix))
    picture = ax.imshow(matrix / np.outer(scale, scale), cmap="magma", vmax=1.0)
    for turned, axis in ((90, ax.set_xticks), (0, ax.set_yticks)):
        axis(range(len(names)), names, rotation=turned, fontsize=8)
    ax.tick_params(length=0)
    ax.figure.colorbar(picture, ax=ax, shrink=0.85, label="correlation")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def draw_learning(scores: Any, counts: Any, ax: Any = None) -> Any:
    """The share that is told rightly, by how many examples are learnt from."""
    ax = _own(ax)
    for name, shares in scores.items():
        ax.plot(counts, shares, marker="o", label=name)
    ax.axhline(0.5, color="#707070", linestyle="--", linewidth=1, label="guessing")
    ax.set_xlabel("sentences learnt from")
    ax.set_ylabel("told rightly, of all others")
    return _legend(ax, 9)


def draw_growth(draws: Any, ax: Any = None) -> Any:
    """Squared gradients by layer, as parts of that at the last: lines of the rates over runs."""
    ax = _own(ax)
    for name, rate, runs in draws:
        at = np.arange(1, runs.shape[1] + 1)
        (line,) = ax.plot(at, rate ** (at[-1] - at.astype(float)), label=name)
        for run in runs:
            ax.plot(at, run, ".", color=line.get_color(), alpha=0.5, markersize=5)
    ax.set_yscale("log")
    ax.set_xlabel("layer")
    ax.set_ylabel("squared gradient (dots: single nets)")
    return _legend(ax, 9)
