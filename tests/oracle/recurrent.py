"""NNGP and NTK of the simple recurrent net s_t = erf(W s_{t-1} + U x_t + b), forward in tangent form.

H, S over all pairs of tokens of all sequences, step by step:  H = varw S^- + varu G + varb and
Theta_H = [varw S^- + varu G + varb] + varw Theta_S^-  (weights N(0, 1) with multipliers).
"""

from __future__ import annotations

import numpy as np


def tokens(sequences, varw: float, varu: float, varb: float):
    """S and Theta_S over all tokens (sequence by sequence); the lists of token indices per sequence."""
    owner = [(a, t) for a, x in enumerate(sequences) for t in range(len(x))]
    at = {key: k for k, key in enumerate(owner)}
    n = len(owner)
    x = np.concatenate(sequences)
    gram = x @ x.T / x.shape[1]
    h, s, theta = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    order = sorted(range(n), key=lambda k: owner[k][1])
    for i in order:  # variances first
        (a, t) = owner[i]
        past = s[at[a, t - 1], at[a, t - 1]] if t else 0.0
        h[i, i] = varw * past + varu * gram[i, i] + varb
        s[i, i] = 2 / np.pi * np.arcsin(2 * h[i, i] / (1 + 2 * h[i, i]))
    for i in order:
        for j in order:
            (a, t), (c, u) = owner[i], owner[j]
            past = (at[a, t - 1], at[c, u - 1]) if t and u else None
            h[i, j] = (varw * s[past] if past else 0.0) + varu * gram[i, j] + varb
            root = (1 + 2 * h[i, i]) * (1 + 2 * h[j, j])
            s[i, j] = 2 / np.pi * np.arcsin(2 * h[i, j] / np.sqrt(root))
            tangent = h[i, j] + (varw * theta[past] if past else 0.0)
            theta[i, j] = tangent * 4 / np.pi / np.sqrt(root - 4 * h[i, j] ** 2)
    last = [at[a, len(seq) - 1] for a, seq in enumerate(sequences)]
    return s, theta, last
