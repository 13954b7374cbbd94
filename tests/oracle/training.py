"""Plain NumPy training of a finite three-layer net in maximal-update parameterization, by SGD.

    g1 = U x,  h1 = tanh g1,  g2 = W h1,  h2 = tanh g2,  f = v.h2/n

with entries of U N(0, 1/d), of W N(0, s^2/n), of v N(0, 1), loss sum_b (f_b - y_b)^2 / 2 per batch, and

    dg2 = err v tanh'(g2),  dg1 = (W' dg2) tanh'(g1),
    U -= eta sum dg1 x'/d,  W -= eta sum dg2 h1'/n,  v -= eta sum err h2.

Batches are columns of one matrix, so a step is two thin products with W and one update of it in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dgemm

import tpnum as tp
from tpnum import functions


@dataclass(frozen=True)
class Task:
    """Inputs (steps, batch, d), targets (steps, batch), and the numbers of the net and of SGD."""

    x: np.ndarray
    y: np.ndarray
    eta: float = 0.5
    weight: float = 1.2


def task(steps: int, batch: int, d: int = 3, pool: int = 16, seed: int = 0, eta: float = 0.5) -> Task:
    """Batches in turn from a pool of inputs, targets of a smooth function of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((pool, d))
    y = np.sin(x @ np.arange(1.0, d + 1.0) / 2.0)
    at = np.arange(steps * batch).reshape(steps, batch) % pool
    return Task(x[at], y[at], eta)


def train(task: Task, width: int, seed: int) -> np.ndarray:
    """The outputs f (steps, batch) of each step before its update."""
    steps, batch, d = task.x.shape
    n, eta = width, task.eta
    rng = np.random.default_rng([seed, width])
    u = rng.standard_normal((n, d)) / np.sqrt(d)
    w = rng.standard_normal((n, n))
    w *= task.weight / np.sqrt(n)
    v = rng.standard_normal(n)
    out = np.empty((steps, batch))
    for t in range(steps):
        x = task.x[t]
        h1 = np.tanh(u @ x.T)
        h2 = np.tanh((h1.T @ w.T).T)
        out[t] = v @ h2 / n
        if t == steps - 1:
            break
        err = out[t] - task.y[t]
        dg2 = (v[:, None] * (1.0 - h2 * h2)) * err
        dg1 = (dg2.T @ w).T * (1.0 - h1 * h1)
        u -= eta / d * dg1 @ x
        # w' is in Fortran's order: w' -= eta/n h1 dg2'
        dgemm(-eta / n, h1, dg2, beta=1.0, c=w.T, trans_b=True, overwrite_c=True)
        v -= eta * (h2 @ err)
    return out


def train_lazily(task: Task, width: int, seed: int) -> np.ndarray:
    """`train` with W left alone and its updates kept as factors: what is quickest while they are few.

    W_t h = W h - eta/n D (H' h), the columns of D and H the dg2 and h1 of all examples so far.
    """
    steps, batch, d = task.x.shape
    n, eta = width, task.eta
    rng = np.random.default_rng([seed, width])
    u = rng.standard_normal((n, d)) / np.sqrt(d)
    w = rng.standard_normal((n, n))
    scale = task.weight / np.sqrt(n)
    v = rng.standard_normal(n)
    pulls, states = np.empty((2, n, (steps - 1) * batch), order="F")
    out = np.empty((steps, batch))
    for t in range(steps):
        x, k = task.x[t], t * batch
        h1 = np.tanh(u @ x.T)
        g2 = scale * (h1.T @ w.T).T - eta / n * pulls[:, :k] @ (states[:, :k].T @ h1)
        h2 = np.tanh(g2)
        out[t] = v @ h2 / n
        if t == steps - 1:
            break
        err = out[t] - task.y[t]
        dg2 = (v[:, None] * (1.0 - h2 * h2)) * err
        dh1 = scale * (dg2.T @ w).T - eta / n * states[:, :k] @ (pulls[:, :k].T @ dg2)
        u -= eta / d * (dh1 * (1.0 - h1 * h1)) @ x
        v -= eta * (h2 @ err)
        pulls[:, k : k + batch], states[:, k : k + batch] = dg2, h1
    return out


def program(task: Task) -> tuple[tp.Program, dict[str, np.ndarray], list[str]]:
    """The same training, line by line: the program, its data and the names of the outputs.

    W_t h = W h - eta sum_s dg2_s (h_s.h/n) over earlier examples s, its transpose likewise.
    """
    steps, batch, d = task.x.shape
    eta = task.eta
    p = tp.Program()
    u, w = p.matrix("U", cols="d"), p.matrix("W", var=task.weight**2)
    v, slope = p.vector("v"), functions.tanh.derivative()
    data: dict[str, np.ndarray] = {}
    first: dict[bytes, tp.Vector] = {}
    past: list[tuple] = []  # x, h1, dg2, dg1
    found = []
    for t in range(steps):
        new, moves = [], []
        for x, y in zip(task.x[t], task.y[t], strict=True):
            if x.tobytes() not in first:
                name = f"x{len(first)}"
                data[name] = x
                first[x.tobytes()] = u @ p.data(name)
            g1 = p.lincomb([(1.0, first[x.tobytes()]), *((-eta * (x @ z) / d, dg) for z, _, _, dg in past)])
            h1 = tp.tanh(g1)
            g2 = p.lincomb([(1.0, w @ h1), *((-eta, dg, p.mean(h * h1)) for _, h, dg, _ in past)])
            h2 = tp.tanh(g2)
            f = p.mean(v * h2)
            found.append(f.name)
            if t == steps - 1:
                continue
            err = f - float(y)
            dg2 = err * (v * p.apply(slope, g2))
            dh1 = p.lincomb([(1.0, w.T @ dg2), *((-eta, h, p.mean(dg * dg2)) for _, h, dg, _ in past)])
            new.append((x, h1, dg2, dh1 * p.apply(slope, g1)))
            moves.append((-eta, h2, err))
        past += new
        v = p.lincomb([(1.0, v), *moves])
    return p, data, found
