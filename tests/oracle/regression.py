"""Regression with kernel matrices by the formulas as they stand in the books: dense, with inverses."""

from __future__ import annotations

import numpy as np
import scipy.linalg


def posterior(k, y, noise, k_new, prior):
    """Mean and covariance (Rasmussen & Williams 2.25, 2.26)."""
    inverse = np.linalg.inv(k + np.diag(np.broadcast_to(noise, len(k))))
    return k_new @ inverse @ y, prior - k_new @ inverse @ k_new.T


def log_marginal(k, y, noise):
    a = k + np.diag(np.broadcast_to(noise, len(k)))
    wide = y.reshape(len(y), -1)
    sign, logdet = np.linalg.slogdet(a)
    assert sign > 0
    each = [-0.5 * v @ np.linalg.inv(a) @ v - 0.5 * logdet - 0.5 * len(a) * np.log(2 * np.pi) for v in wide.T]
    return sum(each)


def k_fold(k, y, noise, folds):
    """By doing it: every fold left out in its turn."""
    a = k + np.diag(np.broadcast_to(noise, len(k)))
    mean, variance, density = np.full(y.shape, np.nan), np.full(len(y), np.nan), 0.0
    for part in folds:
        rest = np.setdiff1d(np.arange(len(y)), part)
        inverse = np.linalg.inv(a[np.ix_(rest, rest)])
        across = a[np.ix_(part, rest)]
        mean[part] = across @ inverse @ y[rest]
        cov = a[np.ix_(part, part)] - across @ inverse @ across.T
        variance[part] = np.diag(cov)
        residual = (y[part] - mean[part]).reshape(len(part), -1)
        for r in residual.T:
            density -= 0.5 * r @ np.linalg.solve(cov, r) + 0.5 * np.linalg.slogdet(cov)[1]
            density -= 0.5 * len(part) * np.log(2 * np.pi)
    return mean, variance, density


def flow(ntk, y, nngp, ntk_new, nngp_new, prior, time):
    """Equations 14 to 16 of Lee et al. (2019), by matrix exponentials."""
    decay = scipy.linalg.expm(-ntk * time)
    pull = ntk_new @ np.linalg.solve(ntk, np.eye(len(ntk)) - decay)
    cross = pull @ nngp_new.T
    return pull @ y, prior + pull @ nngp @ pull.T - cross - cross.T


def descent(ntk, y, nngp, ntk_new, nngp_new, prior, lr, momentum, steps):
    """Step by step: f_t = A_t f_0 + B_t y, on training and new examples."""
    n, m = len(ntk), len(ntk_new)
    every = np.vstack([ntk, ntk_new])
    # rows: training, new; columns: f_0 in training, f_0 new, y
    now = np.hstack([np.eye(n + m), np.zeros((n + m, n))])
    label = np.hstack([np.zeros((n, n + m)), np.eye(n)])
    speed = np.zeros_like(now)
    for _ in range(steps):
        speed = momentum * speed + every @ (now[:n] - label)
        now = now - lr * speed
    joint = np.block([[nngp, nngp_new.T], [nngp_new, prior]])
    start, to = now[:, : n + m], now[:, n + m :]
    return to @ y, start @ joint @ start.T
