"""``tpnum warm``: compile every kernel that tpnum can reach, once, so that later processes only load them.

A kernel has one machine code per precision (`tpnum.kernels._jit`): one call that reaches it is enough for
all nets, functions and numbers that come later.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import tpnum as tp
from tpnum import nn
from tpnum.cli.doctor import cache_folder
from tpnum.ensemble.draws import LEADING, Draws
from tpnum.errors import AccuracyWarning
from tpnum.gauss import special
from tpnum.gauss.closed import FAMILIES
from tpnum.gauss.pair import evaluate, prepare
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells
from tpnum.kernels.duals import CHOSEN, NONE, pointer
from tpnum.kernels.gram import mirror
from tpnum.law.ensemble import Ensemble
from tpnum.spectra import sums

DEEP = 30
"""Layers of a net that is too deep for float32 between its panels."""


def run(args: argparse.Namespace) -> None:
    """Make small calls that reach every kernel, and tell what was compiled."""
    from numba.core import event

    start = time.perf_counter()
    with event.install_recorder("numba:compile") as recorder, warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # of these calls nothing is kept but the kernels
        for reach in (
            _nets,
            _stores,
            _slopes,
            _blocks,
            _duals,
            _expectations,
            _integrals,
            _ensembles,
            _spectra,
        ):
            for call in reach():
                call()
    compiled = sum(1 for _, happening in recorder.buffer if happening.is_start)
    did = f"compiled {compiled} functions" if compiled else "nothing to compile"
    kept = f"the cache is {folder}" if (folder := cache_folder()) else "it is lost with this process"
    print(f"{did} in {time.perf_counter() - start:.1f} s; {kept}")


Calls = Iterator[Callable[[], object]]


def _nets() -> Calls:
    x = np.random.default_rng(0).standard_normal((5, 3))
    nets = [_net(f) for f in (nn.Relu(), nn.Erf(), nn.Tanh())]
    nets.append(_net(*[nn.Relu(), nn.Dense(1, W_std=1.4)] * DEEP))
    for dtype in ("float64", "float32"):
        strips = {family.strip: None for family in FAMILIES.values()}
        for name in (*strips, NONE, *CHOSEN):
            yield partial(pointer, name, np.dtype(dtype))
        for net in nets:
            yield partial(tp.kernel, net, x, get=("nngp", "ntk"), dtype=dtype, n_jobs=1)
            yield partial(tp.kernel, net, x, x[:2] + 1, dtype=dtype, n_jobs=1)
        yield partial(tp.factor, nets[0], x, 2, dtype=dtype, n_jobs=1)
        # what a sink calls for a block that the general path made
        yield partial(mirror, np.ones((2, 2), dtype), np.ones((2, 2), dtype), 0, 0)
    pixels = np.random.default_rng(1).standard_normal((2, 4, 2))
    shallow = nn.serial(nn.Conv(1, (2,)), nn.Relu(), nn.Conv(1, (2,)))  # float32 within its pairs too
    conv = nn.serial(nn.Conv(1, (2,)), nn.Tanh(), shallow)
    whole = nn.serial(shallow, nn.Flatten())  # blocks of the matrix itself, where no positions are left
    for made, dtype in (
        (shallow, "float32"), (conv, "float32"), (conv, "float64"), (whole, "float32"), (whole, "float64"),
    ):  # fmt: skip
        yield partial(tp.kernel, made, pixels, get=("nngp", "ntk"), dtype=dtype, n_jobs=1)
    yield partial(tp.kernel, _leaky(4), pixels, n_jobs=1)


def _stores() -> Calls:
    """Matrices whose tiles are written, mirror images too, of numbers and of positions."""
    x = np.random.default_rng(4).standard_normal((3, 4, 2))
    conv = nn.serial(nn.Conv(1, (2,)), nn.Relu(), nn.Conv(1, (2,)))
    for dtype in ("float64", "float32"):
        for net, data in ((_net(nn.Relu()), x[:, 0]), (conv, x), (nn.serial(conv, nn.Flatten()), x)):
            yield partial(_stored, net, data, dtype)


def _stored(net: nn.Layer, x: np.ndarray, dtype: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tpnum-") as folder:
        tp.kernel(net, x, dtype=dtype, tile=1, n_jobs=1, out=f"{folder}/K.npy")


def _slopes() -> Calls:
    x = np.random.default_rng(5).standard_normal((2, 4, 2))
    conv = nn.serial(nn.Conv(1, (2,)), nn.Relu(), nn.Conv(1, (2,)), nn.Tanh(), nn.Flatten(), nn.Dense(1))
    for net, data in ((_net(nn.Relu()), x[:, 0]), (_net(nn.Tanh()), x[:, 0]), (conv, x)):
        yield partial(tp.kernel, net, data, get=("nngp", "ntk"), wrt="W_std", n_jobs=1)


def _leaky(steps: int) -> tp.Program:
    """A recurrence whose variances need second moments of all its steps (`tpnum.kernels.carry`)."""
    p = tp.Program()
    u = p.data("u", axes=(("t", steps),), channels="d")
    drive, w = p.matrix("U", cols="d") @ u, p.matrix("W")
    with p.scan("t") as loop:
        state = loop.carry("n")
        after = 0.5 * state + 0.5 * tp.relu(w @ state + loop.slice(drive))
        loop.next(state, after)
        every = loop.stack(after)
    p.output(w @ every)
    return p


def _net(*layers: nn.Layer) -> nn.Layer:
    return nn.serial(nn.Dense(1, W_std=1.2, b_std=0.1), *layers, nn.Dense(1, W_std=1.2, b_std=0.1))


def _blocks() -> Calls:
    q = np.linspace(0.5, 1.5, 3)
    rows = prepare(tp.tanh, q)
    yield partial(evaluate, rows, rows, np.full((3, 3), 0.5))


def _bent(u: np.ndarray) -> np.ndarray:
    return np.maximum(u, 0.1)


def _smooth(u: np.ndarray) -> np.ndarray:
    return np.tanh(u) * np.exp(-u * u / 8)


def _duals() -> Calls:
    q, rho = np.linspace(0.5, 1.5, 40), np.linspace(-1.0, 1.0, 1600).reshape(40, 40)
    for f in (_smooth, _bent, "gelu", "relu"):
        d = tp.dual(f)
        for each in (d, d.derivative):
            yield partial(each, q[:, None], q, rho * np.sqrt(q[:, None] * q))
            yield partial(each, q, q[::-1], 0.3 * rho)
            yield partial(each, 1.0, 1.3, 0.4, 0.1, -0.2)
        yield partial(d.estimate, 1.0, 1.3, 0.4)
    many = np.linspace(0.5, 1.5, 20000)  # too many variances for a row of a table each
    yield partial(tp.dual(_smooth), many, many[::-1], 0.3)


def _expectations() -> Calls:
    rng = np.random.default_rng(2)
    functions = (
        lambda *u: np.tanh(sum(u)),
        lambda *u: sum(u) ** 3,
        lambda *u: np.maximum(sum(u), 0.1),
        lambda *u: np.prod([np.tanh(v) for v in u], axis=0),
    )
    for d in (1, 2, 3, 4):
        root = rng.standard_normal((d, d))
        for f in functions:
            for cov in (root @ root.T, np.eye(d)):
                yield partial(tp.expect, f, np.zeros(d), cov, rtol=1e-2)
    yield partial(tp.expect, functions[0], np.zeros(2), np.eye(2) + 0.1 * rng.random((50, 1, 1)))
    for method in ("qmc", "mc"):
        yield partial(tp.expect, functions[0], np.zeros(2), np.eye(2), 1e-2, method)


def _integrals() -> Calls:
    rng = np.random.default_rng(3)
    for d in (2, 3, 4, 5, 6):
        root = rng.standard_normal((d, d + 1))
        cov = root @ root.T / d
        yield partial(special.normal_cdf, np.full(d, 0.3), 0.0, cov, atol=1e-3)
        yield partial(special.expected_max, np.zeros(d), cov, atol=1e-3)
    root = rng.standard_normal((4, 5))
    cov = root @ root.T / 4
    yield partial(special.cdf_moments, np.ones(4), cov, atol=1e-3)
    yield partial(special.tail_moments, np.zeros(4), cov, 2, atol=1e-3)
    yield partial(special.max_second, np.zeros(4), cov, atol=1e-3)
    yield partial(special.argmax_joint, np.zeros(4), cov, atol=1e-3)
    yield partial(special.max_second, np.zeros(8), np.tile(cov, (2, 2)) + np.eye(8), atol=1e-3)
    yield partial(special.softmax_moments, np.zeros(4), cov, atol=1e-2)
    yield partial(special.softmax_moments, np.zeros(8), np.eye(8), atol=1e-1)
    yield partial(special.batchnorm, cov, atol=1e-4)
    yield partial(special.batchnorm_tangent, cov, cov, atol=1e-4)
    yield partial(special.batchnorm_gradient, cov, cov, atol=1e-4)
    yield partial(special.batchnorm_pair, np.tile(cov, (2, 2)) + np.eye(8), atol=1e-4)
    yield partial(special.batchnorm_pair_tangent, np.tile(cov, (2, 2)) + np.eye(8), np.eye(4), atol=1e-4)
    yield partial(special.batchnorm_sampled, "tanh", cov, atol=1e-1)
    pairs = nn.serial(nn.Dense(1), nn.BatchNorm(), nn.Relu(), nn.Dense(1))
    yield partial(tp.kernel, pairs, root, batch_size=2, n_jobs=1)
    wide = np.eye(12)[None]  # windows that are not small
    sides, one = (Functional("max"),) * 2, np.zeros(1, dtype=np.int64)
    cells = Cells((Family(wide),) * 2, (one, one), 0.5 * wide, np.zeros(1, bool), wide)
    for what in ("value", "slope"):
        yield partial(expectation, what, sides, cells, 1e-1, None)


def _spectra() -> Calls:
    points = np.linspace(0.0, 1.0, 3)
    yield partial(sums.of_atoms, points + 1j, points, np.full(3, 1 / 3))
    yield partial(sums.power_series, 0.5 * points + 0.5j, points)
    panels = sums.tree(points[:2], points[1:], np.ones((2, 4)))
    yield partial(panels.transform, points + 0.01j)


def _ensembles() -> Calls:
    steps = np.random.default_rng(6).standard_normal((2, 2, 2))
    for net in (nn.Gru(1), nn.Lstm(1)):
        yield partial(tp.kernel, net, steps, get=("nngp", "ntk"), rtol=0.9, budget=1 << 8, n_jobs=1)
    yield partial(Draws(0, 0, 64).take, LEADING + 1)
    p = tp.Program()
    x = p.vector("x", var=1.0)
    W = p.matrix("W", var=1.5)
    h = tp.tanh(W @ x)
    g = W.T @ h
    m = tp.mean(h * h)
    k = tp.relu(W @ tp.tanh(g - m * x) + 0.1 * h)
    for points in ("sobol", "random"):
        yield partial(Ensemble(p, samples=1 << 12, points=points).moment, k.name, h.name)
