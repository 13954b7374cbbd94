"""Wide nets trained by full-batch gradient descent, one after another: plain NumPy, ntk parameterization."""

from __future__ import annotations

import numpy as np
from scipy.special import erf


def trained(x, y, x_new, width, depth, w_std, b_std, lr, momentum, steps, seed):
    """Outputs on x and x_new of a net Dense, erf, .., Dense(1) after some steps on 1/2 sum |f - y|^2."""
    rng = np.random.default_rng(seed)
    sizes = [x.shape[1], *[width] * depth, 1]
    weights = [rng.standard_normal((m, n)) for n, m in zip(sizes, sizes[1:], strict=False)]
    biases = [rng.standard_normal(m) for m in sizes[1:]]
    params = [*weights, *biases]
    speeds = [np.zeros_like(p) for p in params]

    def forward(rows):
        h, states = rows.T, []
        for k in range(depth + 1):
            g = w_std / np.sqrt(sizes[k]) * weights[k] @ h + b_std * biases[k][:, None]
            states.append((h, g))
            h = erf(g) if k < depth else g
        return h[0], states

    for _ in range(steps):
        f, states = forward(x)
        pull = (f - y)[None, :]
        grads_w, grads_b = [], []
        for k in range(depth, -1, -1):
            h, g = states[k]
            if k < depth:
                pull = pull * 2.0 / np.sqrt(np.pi) * np.exp(-(g**2))
            grads_w.insert(0, w_std / np.sqrt(sizes[k]) * pull @ h.T)
            grads_b.insert(0, b_std * pull.sum(axis=1))
            pull = w_std / np.sqrt(sizes[k]) * weights[k].T @ pull
        for p, v, grad in zip(params, speeds, [*grads_w, *grads_b], strict=True):
            v *= momentum
            v += grad
            p -= lr * v
    return np.concatenate([forward(x)[0], forward(x_new)[0]])
