"""Many draws of a small program at finite width at once, and their extrapolation in 1/n.

A reading of its own: float32 arrays (draws, n), matrices (draws, n, m), plain NumPy.  Programs of scalar
lines only (no axes, no scans, no data).
"""

from __future__ import annotations

import numpy as np

from tpnum.program.lines import (
    Arith,
    Input,
    LinComb,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Transpose,
)

BLOCK = 1 << 22


def draw(program, width, draws, rng):
    """Every variable of ``draws`` independent runs of a program."""
    size = {d: max(1, round(width * r)) for d, r in program.dims.items()}
    v = {}
    for line in program.lines:
        match line:
            case Input():
                cov = np.array(line.cov)
                values, vectors = np.linalg.eigh(cov)
                root = vectors * np.sqrt(np.maximum(values, 0.0))
                z = rng.standard_normal((draws, len(line.names), size[line.dim]), dtype=np.float32)
                x = np.array(line.mean)[:, None] + root @ z
                v |= {name: x[:, k] for k, name in enumerate(line.names)}
            case Matrix():
                shape = (draws, size[line.rows], size[line.cols])
                scale = np.float32(np.sqrt(line.var / size[line.cols]))
                v[line.name] = rng.standard_normal(shape, dtype=np.float32) * scale
            case Transpose():
                v[line.name] = v[line.matrix].transpose(0, 2, 1)
            case MatMul():
                x = v[line.vector].astype(np.float32)
                v[line.name] = np.matmul(v[line.matrix], x[:, :, None])[:, :, 0].astype(np.float64)
            case LinComb():
                v[line.name] = sum(
                    t.coef * (v[t.scalar][:, None] if t.scalar else 1.0) * v[t.vector] for t in line.terms
                )
            case Nonlin() | Moment():
                made = line.fn(*(v[a] for a in line.args), *(v[s][:, None] for s in line.scalars))
                v[line.name] = made if isinstance(line, Nonlin) else made.mean(axis=1)
            case Arith():
                v[line.name] = line.fn(*(v[s] for s in line.scalars))
    return v


def statistics(program, names, width, draws, seed):
    """Means over draws of scalars and their standard errors."""
    rng = np.random.default_rng([seed, width])
    step = max(1, BLOCK // (width * width))
    parts = []
    for begin in range(0, draws, step):
        v = draw(program, width, min(step, draws - begin), rng)
        parts.append(np.stack([v[n] for n in names]))
    values = np.concatenate(parts, axis=1)
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(draws)


def extrapolated(program, names, widths=(64, 128, 256), draws=800, seed=0):
    """(limits, standard errors, misfits) of scalars by a weighted fit of limit + c/n.

    ``draws`` are made at the first width, fewer where a draw costs more.  The misfit is the root of the
    weighted squared residuals: with three widths one standard normal where the values lie on a line.
    """
    means, errors = [], []
    for n in widths:
        m, e = statistics(program, names, n, max(40, draws * widths[0] ** 2 // n**2), seed)
        means.append(m)
        errors.append(np.maximum(e, 1e-9))
    means, weights = np.array(means), 1.0 / np.array(errors) ** 2
    x = 1.0 / np.array(widths)[:, None]
    total, first, second = weights.sum(0), (weights * x).sum(0), (weights * x * x).sum(0)
    det = total * second - first**2
    limit = (second * (weights * means).sum(0) - first * (weights * x * means).sum(0)) / det
    slope = (total * (weights * x * means).sum(0) - first * (weights * means).sum(0)) / det
    misfit = np.sqrt((weights * (means - limit - slope * x) ** 2).sum(0))
    return limit, np.sqrt(second / det), misfit
