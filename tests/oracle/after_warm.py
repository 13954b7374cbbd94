"""Nets and calls that `tpnum warm` does not contain: after it none of them may compile anything."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from numba.core import event

import tpnum as tp
from tpnum import nn
from tpnum.cli import main
from tpnum.gauss import special

warnings.simplefilter("ignore")
rng = np.random.default_rng(5)
x = rng.standard_normal((12, 6))
pixels = rng.standard_normal((3, 5, 5, 2))
steps = rng.standard_normal((4, 5, 3))
np.save("x.npy", x)
mapped = np.load("x.npy", mmap_mode="r")
frozen = x.copy()
frozen.flags.writeable = False
single = x.astype(np.float32)
D = nn.Dense
both = ("nngp", "ntk")


def mlp(*layers):
    return nn.serial(D(3, 1.1, 0.2), *layers, D(2))


def kernels():
    for f in (
        nn.Softplus(),
        nn.Elu(),
        nn.Cos(),
        nn.Monomial(3),
        nn.ABRelu(0.3, -1.2),
        nn.Rbf(),
        nn.Silu(),
        nn.Mish(),
        nn.Selu(),
        nn.HardTanh(),
        nn.Hermite(2),
        nn.Polynomial([0.0, 1.0, 0.5]),
        nn.ExpNormalized(),
        nn.Abs(),
        nn.Sigmoid_like(),
        nn.Gelu(approximate=True),
        nn.ElementwiseNumerical("tanh", 12),
        nn.LeakyRelu(0.3),
        nn.Elementwise(lambda u: np.arctan(u) + 0.1 * u),
        nn.Elementwise(lambda u: np.maximum(u, 0.3)),
    ):
        tp.kernel(mlp(f), x, get=both)
        tp.kernel(mlp(f, D(2), f), x, single[:5], get="ntk", dtype="float32")
    net = mlp(nn.Tanh(), D(4, 1.3), nn.Tanh())
    for dtype in ("float64", "float32"):
        for a in (
            x,
            mapped,
            frozen,
            single,
            np.asfortranarray(x),
            x[::2],
            x.astype(">f8"),
            x.astype(np.int32),
        ):
            tp.kernel(net, a, get=both, dtype=dtype, n_jobs=2)
            tp.kernel(net, a, mapped[:3], dtype=dtype, tile=2)
        out = np.asfortranarray(np.empty((12, 12), dtype))
        tp.kernel(net, single, dtype=dtype, out=out)
        tp.kernel(nn.serial(*[D(1, 1.4), nn.Erf()] * 25, D(1)), x, dtype=dtype, get=both)
        tp.kernel(
            nn.serial(
                D(1),
                nn.Relu(),
                nn.FanOut(2),
                nn.parallel(D(1), nn.serial(D(1), nn.Erf(), D(1))),
                nn.FanInSum(),
                nn.Sin(),
                D(1),
            ),
            x,
            dtype=dtype,
            get=both,
        )
    big = rng.standard_normal((300, 9))
    tp.kernel(mlp(nn.Tanh(), D(4, 1.3), nn.Tanh()), big, get="ntk")


def leaky(leak):
    p = tp.Program()
    u = p.data("u", axes=(("t", 5),), channels="d")
    drive, w = p.matrix("U", cols="d") @ u, p.matrix("W", trained=True)
    with p.scan("t") as loop:
        state = loop.carry("n")
        after = (1 - leak) * state + leak * tp.erf(w @ state + loop.slice(drive))
        loop.next(state, after)
        every = loop.stack(after)
    p.output(w @ every)
    return p


def families():
    for f in (nn.Tanh(), nn.Erf()):
        conv = nn.serial(nn.Conv(1, (3, 3), padding="SAME"), f, nn.Conv(1, (2, 2)), f)
        tp.kernel(nn.serial(conv, nn.GlobalAvgPool(), D(1)), pixels, get=both)
        tp.kernel(nn.serial(conv, nn.Flatten(), D(1)), pixels.astype(np.float32), dtype="float32")
    for dtype in ("float64", "float32"):
        for f in (nn.Relu(), nn.Abs(), nn.Gelu(), nn.Sin(), nn.Sigmoid_like()):
            between = nn.serial(nn.Conv(1, (3, 3), b_std=0.1, padding="SAME"), f, nn.AvgPool((2, 2), (2, 2)))
            for head in (nn.GlobalAvgPool(), nn.Flatten()):
                net = nn.serial(between, nn.Conv(1, (2, 2), (2, 2), padding="CIRCULAR"), f, head, D(1))
                tp.kernel(net, pixels, get=both, dtype=dtype)
                tp.kernel(net, pixels, pixels[:2] + 1, dtype=dtype)
        residual = nn.serial(nn.FanOut(2), nn.parallel(nn.Identity(), nn.Conv(1, (3, 3), padding="SAME")))
        residual = nn.serial(nn.Conv(1, (1, 1)), residual, nn.FanInSum(), nn.LayerNorm(), nn.Relu())
        tp.kernel(nn.serial(residual, nn.Conv(1, (1, 1))), pixels, get=both, dtype=dtype)
    tp.kernel(nn.serial(D(1), nn.LayerNorm(), nn.Relu(), D(1)), x, get=both)
    tp.kernel(nn.SimpleRnn(4), steps)
    for leak in (0.3, 0.7):
        tp.kernel(leaky(leak), steps, get=both)


def duals():
    q = np.linspace(0.2, 2.0, 60)
    for f in (
        "softplus",
        "mish",
        lambda u: np.abs(u - 0.3),
        lambda u: np.sin(u) ** 3,
        "elu",
        "sign",
        "square",
        "exp",
    ):
        d = tp.dual(f)
        for each in (d, d.derivative):
            each(q[:, None], q.astype(np.float32), 0.1)
            each(q, 1.5, 0.1, 0.2, 0.1)
            each(1.0, 1.0, 0.5)
        d.estimate(q, q, 0.1)
    tp.dual("mish")(np.linspace(0.2, 2, 30000), 1.0, 0.1)


def expectations():
    for d in (1, 2, 3, 5):
        a = rng.standard_normal((d, d + 2))
        for f in (
            lambda *u: np.exp(-sum(v * v for v in u)),
            lambda *u: np.abs(sum(u)),
            lambda *u: sum(np.sin(v) for v in u),
        ):
            tp.expect(f, np.zeros(d), a @ a.T / d, rtol=1e-2)
            tp.expect(f, np.ones((3, d)), np.eye(d, dtype=np.float32), rtol=1e-2)
    tp.expect(np.maximum, np.zeros(2), np.eye(2) + 0.2 * rng.random((300, 1, 1)), rtol=1e-2)


def integrals():
    for d in (1, 2, 3, 4, 5, 7):
        a = rng.standard_normal((d, d + 2))
        cov = np.broadcast_to(a @ a.T / d, (2, d, d))
        special.normal_cdf(np.zeros(d, np.float32), 0.1, cov, atol=1e-2)
        special.orthant(cov, atol=1e-2)
        special.product_of_cdfs(np.ones(d), cov, atol=1e-2)
        if d > 1:
            special.expected_max(0.0, cov, atol=1e-2)
            special.max_square(0.0, cov, atol=1e-2)
            special.softmax_moments(np.zeros(d), cov, d // 2, atol=1e-1)
    a = rng.standard_normal((6, 8))
    cov = a @ a.T
    for first in (None, 2):
        special.max_second(0.0, cov, first, atol=1e-1)
        special.argmax_joint(0.0, cov, first, atol=1e-1)
        special.softmax_moments(np.zeros(6), cov, first, atol=1e-1)
    special.cdf_moments(np.ones(6), cov, 0.2, atol=1e-1)
    special.tail_moments(np.zeros(6), cov, 3, atol=1e-1)
    special.batchnorm(cov, "abs", atol=1e-3)
    special.batchnorm_pair(cov, 3, atol=1e-3)
    special.batchnorm_sampled("gelu", cov, 3, atol=1e-1)


def laws():
    p = tp.Program()
    v = p.vector("v", var=0.5)
    W = p.matrix("W", var=0.7)
    g = W @ v
    h = tp.sigmoid(g)
    b = W.T @ (h * g)
    out = tp.relu(W @ tp.cos(b)) * h
    tp.limit(p, samples=1 << 12).moment(out, h)
    tp.limit(p, method="ensemble", samples=1 << 12).expect(lambda u, w: np.abs(u * w), b, g)
    tp.simulate(p, width=50, seed=0).moment(out, h)
    t = nn.sgd(nn.serial(D(8), nn.Softplus(), D(1)), x[:2, :3], np.ones(2), steps=1, lr=0.1)
    tp.limit(t.program, method="ensemble", samples=1 << 12).scalar(t.losses[0])


def commands():
    with open("net.json", "w") as stream:
        json.dump(mlp(nn.Softplus()).to_spec(), stream)
    assert main(["kernel", "net.json", "x.npy", "--get", "nngp,ntk", "--out", "K"]) == 0
    assert main(["kernel", "net.json", "x.npy", "x.npy", "--dtype", "float32", "--out", "L"]) == 0


made = []
for part in (kernels, families, duals, expectations, integrals, laws, commands):
    with event.install_recorder("numba:compile") as recorder:
        part()
    happened = [happening.data for _, happening in recorder.buffer if happening.is_start]
    made += [f"{part.__name__}: {data['dispatcher'].py_func.__name__}{data['args']}" for data in happened]
print(json.dumps(made), file=sys.stderr)
