"""Every public function with every argument replaced by values of wrong kinds: one sentence that names it.

What comes out is an answer or a `TpnumError` that names the argument; never an exception of another class,
whatever is handed in, and nothing takes long.
"""

from __future__ import annotations

import inspect
import re
import time
import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import hostile
from tpnum import functions, nn
from tpnum.errors import TpnumError
from tpnum.gauss import special

X = np.array([[1.0, 0.0], [0.6, 0.8], [-0.5, 0.3]])
EYE = np.eye(2)
NET = nn.serial(nn.Dense(4), nn.Relu(), nn.Dense(1))
TRAINED = {"steps": 1, "lr": 0.1}


def small():
    """A program of few lines: x, W, g, h, a scalar m, data u, a family f."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    g = p.matmul(w, x, name="g")
    h = p.apply("tanh", g, name="h")
    p.mean(h * x, name="m")
    p.vector("f", axes={"t": 3}, fresh=True)
    return p


def with_data():
    p = tp.Program()
    u, w = p.data("u"), p.matrix("W", cols="d")
    p.output(p.matmul(w, u, name="g"))
    return p


P = small()
LAW, SAMPLE, SIMULATIONS = tp.limit(P), tp.simulate(P, 5), tp.simulations(P, 5, 2, n_jobs=1)
COMPARED = tp.compare(P, [4, 8], ["m"], seeds=2, n_jobs=1)
DUAL, TANH = tp.dual("tanh"), functions.get("tanh")
FULL = {"mean": np.zeros(2), "cov": EYE}
FIRST = {"mean": np.zeros(4), "cov": np.eye(4), "first": 2}


def on(method, **arguments):
    """A method of a fresh program, whose variables are given by their names."""

    def call(**given):
        p = small()
        named = {k: p[v] if isinstance(v, str) and v in p else v for k, v in given.items()}
        return getattr(p, method)(**named)

    return call, arguments


def of(which, method, **arguments):
    """A method of a variable of a fresh program."""

    def call(**given):
        return getattr(small()[which], method)(**given)

    return call, arguments


def spread(call, *names):
    """Keywords as the positional arguments that they are."""
    return lambda **given: call(*[given.pop(n) for n in names], **given)


# name of the call -> (function, valid arguments); every argument is replaced in its turn
CALLS = {
    "kernel": (
        tp.kernel,
        {"net": NET, "x1": X, "x2": X[:2], "get": "nngp", "dtype": "float64", "n_jobs": 1, "tile": 2, "out": None,
         "progress": False, "diag": False},
    ),
    "kernel.several": (tp.kernel, {"net": NET, "x1": X, "get": ("ntk", "nngp"), "out": None, "diag": True}),
    "kernel.program": (tp.kernel, {"net": with_data(), "x1": {"u": X}}),
    "limit": (
        tp.limit,
        {"p": P, "method": "auto", "independence": "check", "samples": 256, "rtol": 1e-3, "seed": 0, "data": None},
    ),
    "limit.data": (lambda u: tp.limit(with_data(), data={"u": u}).moment("g", "g"), {"u": X[0]}),
    "limit.shape": (lambda p, shape: tp.limit(p, shape=shape, data={"u": X[0]}), {"p": NET, "shape": (2,)}),
    "simulate": (tp.simulate, {"program": P, "width": 5, "seed": 0, "data": None, "given": None}),
    "simulate.data": (lambda u: tp.simulate(with_data(), 4, data={"u": u}), {"u": X}),
    "simulate.width": (lambda n: tp.simulate(P, {"n": n}), {"n": 4}),
    "simulate.given": (lambda x: tp.simulate(P, 4, given={"x": x}), {"x": np.ones(4)}),
    "simulations": (tp.simulations, {"p": P, "width": 4, "seeds": 2, "data": None, "n_jobs": 1}),
    "simulations.read": (
        lambda width, seeds: tp.simulations(P, width, seeds, n_jobs=1).scalar("m"), {"width": 4, "seeds": [1, 2]},
    ),
    "compare": (
        tp.compare, {"p": P, "widths": [4, 8], "quantities": ["m"], "seeds": 2, "data": None, "n_jobs": 1},
    ),
    "compare.one": (lambda q: tp.compare(P, [4, 8], [q], seeds=2, n_jobs=1), {"q": "m"}),
    "compare.options": (
        lambda rtol, method: tp.compare(P, [4, 8], ["m"], seeds=2, n_jobs=1, rtol=rtol, method=method),
        {"rtol": 0.1, "method": "auto"},
    ),
    "plot": (lambda ax: COMPARED.plot(ax), {"ax": None}),
    "ntk": (tp.ntk, {"p": P, "g": "g", "h": "g", "road": "tangent"}),
    "expect": (tp.expect, {"f": "tanh", "mean": 0.0, "cov": 1.0, "rtol": 1e-3, "method": "auto"}),
    "expect.arrays": (tp.expect, {"f": np.maximum, "mean": np.zeros(2), "cov": EYE}),
    "dual": (tp.dual, {"phi": "tanh"}),
    "dual.call": (DUAL, {"q1": 1.0, "q2": 1.0, "c": 0.5, "mean1": 0.0, "mean2": 0.0}),
    "dual.derivative": (DUAL.derivative, {"q1": 1.0, "q2": 1.0, "c": 0.5, "mean1": 0.0, "mean2": 0.0}),
    "dual.estimate": (DUAL.estimate, {"q1": 1.0, "q2": 1.0, "c": 0.5, "derivative": False}),
    "apply": (spread(tp.apply, "f", "x"), {"f": "tanh", "x": P["x"], "derivative": None, "kinks": (), "name": None}),
    "mean": (tp.mean, {"vector": P["x"], "name": None}),
    # the law and the samples
    "law.mean": (LAW.mean, {"v": "x"}),
    "law.moment": (LAW.moment, {"a": "x", "b": "g"}),
    "law.cov": (LAW.cov, {"a": "x", "b": "g"}),
    "law.scalar": (LAW.scalar, {"s": "m"}),
    "law.expect": (spread(LAW.expect, "f", "v"), {"f": np.cos, "v": "g", "kinks": ()}),
    "law.compare": (spread(LAW.independence.compare, "name"), {"name": "g"}),
    "sample.vector": (SAMPLE.vector, {"which": "x"}),
    "sample.getitem": (SAMPLE.__getitem__, {"which": "x"}),
    "sample.matrix": (SAMPLE.matrix, {"which": "W"}),
    "sample.scalar": (SAMPLE.scalar, {"which": "m"}),
    "sample.mean": (SAMPLE.mean, {"which": "x"}),
    "sample.moment": (spread(SAMPLE.moment, "a", "b"), {"a": "x", "b": "g"}),
    "sample.expect": (spread(SAMPLE.expect, "f", "v"), {"f": np.cos, "v": "g"}),
    "simulations.scalar": (SIMULATIONS.scalar, {"s": "m"}),
    "simulations.mean": (SIMULATIONS.mean, {"v": "x"}),
    "simulations.moment": (SIMULATIONS.moment, {"a": "x", "b": "g"}),
    "simulations.expect": (spread(SIMULATIONS.expect, "f", "v"), {"f": np.cos, "v": "g"}),
    "simulations.table": (lambda asked: SIMULATIONS.table(asked), {"asked": ["m"]}),
    # programs
    "p.vector": on("vector", name="y", mean=0.0, var=1.0, dim="n", axes=(), fresh=False, trained=False),
    "p.vectors": (
        lambda name, **given: small().vectors(name, "z", **given),
        {"name": "y", "mean": [0, 0], "cov": EYE, "dim": "n", "axes": (), "fresh": False, "trained": 0.5},
    ),
    "p.ones": on("ones", dim="n"),
    "p.zeros": on("zeros", dim="n", axes=()),
    "p.data": on("data", name="u", axes=(), channels="d"),
    "p.matrix": on("matrix", name="V", var=1.0, rows="n", cols="n", axes=(), trained=True, tangent=None),
    "p.getitem": (lambda name: small()[name], {"name": "x"}),
    "p.matmul": on("matmul", matrix="W", vector="x", name=None),
    "p.lincomb": on("lincomb", terms=[], name=None),
    "p.lincomb.term": (lambda a: small().lincomb([a]), {"a": (1.0, 2.0)}),
    "p.lincomb.coef": (lambda c: (p := small()).lincomb([(c, p["x"])]), {"c": 2.0}),
    "p.apply": (
        lambda f, x, **given: (p := small()).apply(f, p[x] if x == "x" else x, **given),
        {"f": "tanh", "x": "x", "derivative": None, "kinks": (), "name": None},
    ),
    "p.apply.own": (
        lambda derivative, kinks: (p := small()).apply(lambda u: u, p["x"], derivative=derivative, kinks=kinks),
        {"derivative": None, "kinks": ()},
    ),
    "p.moment": (
        lambda f, x, **given: (p := small()).moment(f, p[x] if x == "x" else x, **given),
        {"f": "tanh", "x": "x", "derivative": None, "kinks": (), "name": None},
    ),
    "p.mean": on("mean", vector="x", name=None),
    "p.map": on("map", operand="f", axis="t", out=(), rows=[[(0, 1.0)]], name=None),
    "p.constant": on("constant", value=2.0, dim="n"),
    "p.scan": on("scan", axis="t", size=3),
    "p.output": on("output", vector="g", weight=1.0),
    "p.dim": on("dim", name="m", ratio=2.0),
    "p.append": on("append", line=None),
    "p.expand": on("expand", axes=None),
    "p.backward": (
        lambda seeds, wrt, stop: (p := small()).backward({p["g"]: 1.0} if seeds == 1 else seeds, wrt, stop),
        {"seeds": 1, "wrt": None, "stop": ()},
    ),
    "p.backward.seed": (lambda seed: (p := small()).backward({p["m"]: seed}), {"seed": 1.0}),
    "v.shift": of("f", "shift", t=1, boundary="zero"),
    "v.take": of("f", "take", t=1),
    "v.rename": of("f", "rename", t="r"),
    "v.windows": of("f", "windows", axis="t", size=2, stride=1, padding="VALID", offset=""),
    "v.pool": of("f", "pool", axis="t", size=2, stride=1, padding="VALID", scale=None),
    "v.map": of("f", "map", axis="t", out=(), rows=[[(0, 1.0)]], name=None),
    "v.sum": (lambda axis: small()["f"].sum(axis), {"axis": "t"}),
    "v.mean": (lambda axis: small()["f"].mean(axis), {"axis": "t"}),
    "v.named": (lambda name: (small()["x"] + 1).named(name), {"name": "y"}),
    # functions
    "functions.get": (functions.get, {"f": "tanh"}),
    "functions.get.degree": (lambda degree: functions.get("monomial", degree=degree), {"degree": 2}),
    "functions.get.coef": (lambda coef: functions.get("polynomial", coef=coef), {"coef": [1.0, 2.0]}),
    "functions.get.a": (lambda a: functions.get("erf", a=a), {"a": 2.0}),
    "functions.get.approximate": (lambda v: functions.get("gelu", approximate=v), {"v": True}),
    "functions.get.own": (
        lambda derivative, kinks: functions.get(lambda u: u, derivative=derivative, kinks=kinks),
        {"derivative": None, "kinks": ()},
    ),
    "functions.affine": (functions.affine, {}),
    "function.call": (spread(TANH, "u"), {"u": X}),
    "function.derivative": (TANH.derivative, {"i": 0}),
    "function.with_scalars": (TANH.with_scalars, {"n": 0}),
    # nets
    "nn.program": (nn.program, {"net": NET, "shape": (3,)}),
    "nn.serial": (spread(nn.serial, "layer"), {"layer": nn.Relu()}),
    "nn.parallel": (spread(nn.parallel, "layer"), {"layer": nn.Relu()}),
    "nn.repeat": (nn.repeat, {"layer": nn.Relu(), "n": 2}),
    "nn.Residual": (nn.Residual, {"body": nn.Relu(), "shortcut": None}),
    "nn.from_spec": (nn.from_spec, {"spec": NET.to_spec()}),
    "nn.sgd": (
        nn.sgd,
        {"net": NET, "x": X, "y": np.ones(3), "steps": 1, "lr": 0.1, "parameterization": "mu", "batches": None,
         "x_test": None, "initial": None, "loss": None},
    ),
    "nn.sgd.ntk": (
        nn.sgd,
        {"net": NET, "x": X, "y": np.ones(3), **TRAINED, "parameterization": "ntk", "initial": np.zeros(3)},
    ),
    # special integrals
    "normal_cdf": (special.normal_cdf, {"upper": np.zeros(2), **FULL, "atol": 1e-2}),
    "orthant": (special.orthant, {"cov": EYE, "mean": 0.0, "atol": 1e-2}),
    "product_of_cdfs": (special.product_of_cdfs, {"a": np.ones(2), "cov": EYE, "mean": 0.0, "atol": 1e-2}),
    "expected_max": (special.expected_max, {**FULL, "atol": 1e-2}),
    "max_square": (special.max_square, {**FULL, "atol": 1e-2}),
    "max_second": (special.max_second, {**FIRST, "atol": 1e-2}),
    "argmax_joint": (special.argmax_joint, {**FIRST, "atol": 1e-2}),
    "softmax_moments": (special.softmax_moments, {**FIRST, "atol": 1e-2}),
    "tail_moments": (special.tail_moments, {**FULL, "m": 1, "atol": 1e-2}),
    "cdf_moments": (special.cdf_moments, {"a": np.ones(2), "cov": EYE, "mean": 0.0, "atol": 1e-2}),
    "batchnorm": (special.batchnorm, {"cov": np.eye(3), "phi": "relu", "atol": 1e-2}),
    "batchnorm_tangent": (
        special.batchnorm_tangent, {"cov": np.eye(3), "theta": np.eye(3), "phi": "relu", "atol": 1e-2},
    ),
    "batchnorm_gradient": (
        special.batchnorm_gradient, {"cov": np.eye(3), "delta": np.eye(3), "phi": "relu", "atol": 1e-2},
    ),
    "batchnorm_pair": (special.batchnorm_pair, {"cov": np.eye(6), "first": 3, "phi": "relu", "atol": 1e-2}),
    "batchnorm_sampled": (special.batchnorm_sampled, {"cov": np.eye(4), "phi": "tanh", "atol": 1e-1}),
}  # fmt: skip

# layers: each argument of each class, from an instance that is right
LAYERS = [
    nn.Dense(3), nn.Flatten(), nn.Conv(3, (2,)), nn.ConvLocal(3, (2,)), nn.ConvTranspose(3, (2,)),
    nn.AvgPool((2,)), nn.SumPool((2,)), nn.GlobalAvgPool(), nn.GlobalSumPool(), nn.Index(0),
    nn.ImageResize((-1, 2, -1), "linear"), nn.LayerNorm(), nn.Dropout(0.5), nn.SimpleRnn(3), nn.FanOut(2),
    nn.FanInSum(), nn.FanInProd(), nn.FanInConcat(), nn.Identity(), nn.ABRelu(1.0, 2.0), nn.LeakyRelu(0.1),
    nn.Erf(), nn.Gelu(), nn.Sin(), nn.Cos(), nn.Rbf(), nn.Exp(), nn.Gaussian(), nn.ExpNormalized(), nn.Hermite(2),
    nn.Monomial(2), nn.RectifiedMonomial(2), nn.Polynomial([1.0, 2.0]), nn.Elu(), nn.Elementwise("tanh"),
    nn.ElementwiseNumerical("tanh", 5),
]  # fmt: skip
CALLS |= {
    f"nn.{type(layer).__name__}": (type(layer), {f: getattr(layer, f) for f in inspect.signature(type(layer)).parameters})
    for layer in LAYERS
}

SECONDS = 5.0
