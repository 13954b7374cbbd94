"""Gradient descent on real weight matrices of a finite net, in plain NumPy: what `nn.sgd` must reproduce.

f = v.h/n in mu, v.h/sqrt(n) otherwise, with effective weights of entries of order 1/sqrt(n) (the first
layer multiplies x/sqrt(d)); the tables say what a step of the parameterization's parameters does to them
(TP4).
"""

from __future__ import annotations

import numpy as np

# the step of an effective matrix is eta err times this times dg h^T, dg the gradient of n f or sqrt(n) f
MATRIX = {
    "mu": lambda n, first, std: 1.0 if first else 1.0 / n,
    "ntk": lambda n, first, std: std**2 * n**-0.5 * (1.0 if first else 1.0 / n),
    "standard": lambda n, first, std: n**-1.5,
}
BIAS = {
    "mu": lambda n, std: 1.0,
    "ntk": lambda n, std: std**2 * n**-0.5,
    "standard": lambda n, std: n**-1.5,
}
READOUT = {
    "mu": lambda n, std: 1.0,
    "ntk": lambda n, std: std**2 * n**-0.5,
    "standard": lambda n, std: n**-0.5,
}


def train(weights, biases, v, x, y, phis, slopes, rates, batches, parameterization, stds):
    """(outputs (T + 1, N), features after the last nonlinearity by step).

    ``stds`` is (W_std of every layer, the readout's last; b_std of every bias); biases may be None.
    """
    weights, biases, v = [w.copy() for w in weights], list(biases), v.copy()
    n, d = len(v), x.shape[1]
    power = 1.0 if parameterization == "mu" else 0.5
    outputs, features = [], []
    for t in range(len(rates) + 1):
        hs, gs = [x.T / np.sqrt(d)], []
        for w, b, phi in zip(weights, biases, phis, strict=True):
            gs.append(w @ hs[-1] + (0.0 if b is None else b[:, None]))
            hs.append(phi(gs[-1]))
        outputs.append(v @ hs[-1] / n**power)
        features.append(hs[-1])
        if t == len(rates):
            break
        err = np.zeros(len(x))
        for i in batches[t]:
            err[i] = rates[t] * (outputs[-1][i] - y[i])
        above = np.tile(v[:, None], len(x))
        for k in range(len(weights) - 1, -1, -1):
            pull = slopes[k](gs[k]) * above
            above = weights[k].T @ pull
            weights[k] = weights[k] - MATRIX[parameterization](n, k == 0, stds[0][k]) * (pull * err) @ hs[k].T
            if biases[k] is not None:
                biases[k] = biases[k] - BIAS[parameterization](n, stds[1][k]) * (pull @ err)
        v = v - READOUT[parameterization](n, stds[0][-1]) * (hs[-1] @ err)
    return np.array(outputs), features
