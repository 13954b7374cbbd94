"""Every public function with every argument replaced by values of wrong kinds: one sentence that names it.

What comes out is an answer or a `TpnumError` that names the argument; never an exception of another class,
whatever is handed in, and nothing takes long.
"""

from __future__ import annotations

import inspect
import re
import tempfile
import time
import warnings
from functools import cache

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import hostile
from tpnum import functions, nn, predict
from tpnum.errors import TpnumError
from tpnum.gauss import special
from tpnum.program.lines import Transpose

X = np.array([[1.0, 0.0], [0.6, 0.8], [-0.5, 0.3]])
EYE, EYE3 = np.eye(2), np.eye(3)
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


class Late:
    """What is computed when one of its methods is first called: collecting tests compiles no kernels."""

    def __init__(self, make):
        self._make = cache(make)

    def __getattr__(self, method):
        return lambda *arguments, **given: getattr(self._make(), method)(*arguments, **given)


P = small()
LAW, SAMPLE, SIMULATIONS = tp.limit(P), tp.simulate(P, 5), tp.simulations(P, 5, 2, n_jobs=1)
COMPARED = Late(lambda: tp.compare(P, [4, 8], ["m"], seeds=2, n_jobs=1))
DUAL, TANH = tp.dual("tanh"), functions.get("tanh")
FULL = {"mean": np.zeros(2), "cov": EYE}
ONE = object()
"""Stands for a valid argument that has to be made with the program."""


def _written_and_read(path):
    """A model that is read; only "a.npz" is ever written."""
    if isinstance(path, str) and path == "a.npz":
        with tempfile.TemporaryDirectory() as folder:
            GP.save(f"{folder}/a.npz")
            return predict.load(f"{folder}/a.npz")
    return predict.load(path)


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


BLOCK = nn.serial(nn.Tanh(), nn.Dense(4, b_std=0.2))


def on_matrix(call, **arguments):
    """A function of a matrix of a fresh program, in which vectors are given by their names."""

    def made(**given):
        p = small()
        named = {k: p[v] if isinstance(v, str) and v in p else v for k, v in given.items()}
        return call(**named)

    return made, arguments


# name of the call -> (function, valid arguments); every argument is replaced in its turn
CALLS = {
    "kernel": (
        tp.kernel,
        {
            "net": NET,
            "x1": X,
            "x2": X[:2],
            "get": "nngp",
            "dtype": "float64",
            "n_jobs": 1,
            "tile": 2,
            "out": None,
            "progress": False,
            "diag": False,
            "mask_constant": None,
            "error": False,
            "seed": 0,
        },
    ),
    "kernel.against": (
        lambda **given: tp.kernel(NET, X, wrt="x1", **given),
        {"against": np.ones((len(X), len(X)))},
    ),
    "kernel.batches": (
        lambda **given: tp.kernel(nn.serial(nn.Dense(8), nn.BatchNorm(), nn.Dense(1)), X[:2], **given),
        {"batch_size": 2},
    ),
    "random_features": (
        tp.random_features,
        {"net": NET, "x": X, "n_components": 8, "get": "nngp", "method": "directions", "seed": 0},
    ),
    "conditional": (
        lambda **given: tp.conditional(
            nn.serial(nn.GlobalSelfAttention(4, 4, 4, 2, scaling="1/sqrt(n)", heads=2), nn.GlobalAvgPool()),
            X[:2, None],
            **given,
        ),
        {"samples": 2, "seed": 0},
    ),
    "kernel.graphs": (
        tp.kernel,
        {
            "net": nn.serial(nn.Aggregate(), nn.Dense(1)),
            "x1": X[:2, None],
            "x2": X[:1, None],
            "pattern1": np.ones((2, 1, 1)),
            "pattern2": np.ones((1, 1, 1)),
        },
    ),
    "kernel.wrt": (tp.kernel, {"net": NET, "x1": X, "wrt": ("W_std",)}),
    "kernel.several": (tp.kernel, {"net": NET, "x1": X, "get": ("ntk", "nngp"), "out": None, "diag": True}),
    "kernel.program": (tp.kernel, {"net": with_data(), "x1": {"u": X}}),
    "kernel.elsewhere": (
        lambda **given: tp.kernel(NET, X, **given),
        {
            "resume": False,
            "verify": False,
            "symmetric": "full",
            "shard": None,
            "backend": "threads",
            "scheduler": None,
        },
    ),
    "operator": (
        tp.operator,
        {
            "net": NET,
            "x1": X,
            "x2": X[:2],
            "get": "nngp",
            "dtype": None,
            "n_jobs": 1,
            "tile": 2,
            "rtol": 1e-3,
            "budget": 1 << 12,
        },
    ),
    "factor": (
        tp.factor,
        {
            "net": NET,
            "x": X,
            "rank": 2,
            "get": "ntk",
            "pivots": [0, 1],
            "rtol": 0.1,
            "dtype": "float64",
            "n_jobs": 1,
        },
    ),
    "plan": (
        tp.plan,
        {"net": NET, "shape": X.shape[1:], "get": "nngp", "dtype": None, "n": 10, "cores": 1},
    ),
    "limit": (
        tp.limit,
        {
            "p": P,
            "method": "auto",
            "independence": "check",
            "samples": 256,
            "rtol": 1e-3,
            "seed": 0,
            "data": None,
        },
    ),
    "limit.data": (lambda u: tp.limit(with_data(), data={"u": u}).moment("g", "g"), {"u": X[0]}),
    "limit.shape": (lambda p, shape: tp.limit(p, shape=shape, data={"u": X[0]}), {"p": NET, "shape": (2,)}),
    "simulate": (tp.simulate, {"program": P, "width": 5, "seed": 0, "data": None, "given": None}),
    "simulate.data": (lambda u: tp.simulate(with_data(), 4, data={"u": u}), {"u": X}),
    "simulate.width": (lambda n: tp.simulate(P, {"n": n}), {"n": 4}),
    "simulate.given": (lambda x: tp.simulate(P, 4, given={"x": x}), {"x": np.ones(4)}),
    "simulations": (tp.simulations, {"p": P, "width": 4, "seeds": 2, "data": None, "n_jobs": 1}),
    "simulations.read": (
        lambda width, seeds: tp.simulations(P, width, seeds, n_jobs=1).scalar("m"),
        {"width": 4, "seeds": [1, 2]},
    ),
    "compare": (
        tp.compare,
        {"p": P, "widths": [4, 8], "quantities": ["m"], "seeds": 2, "data": None, "n_jobs": 1},
    ),
    "compare.one": (lambda q: tp.compare(P, [4, 8], [q], seeds=2, n_jobs=1), {"q": "m"}),
    "compare.options": (
        lambda rtol, method: tp.compare(P, [4, 8], ["m"], seeds=2, n_jobs=1, rtol=rtol, method=method),
        {"rtol": 0.1, "method": "auto"},
    ),
    "plot": (lambda ax: COMPARED.plot(ax), {"ax": None}),
    "ntk": (tp.ntk, {"p": P, "g": "g", "h": "g", "road": "tangent"}),
    "signals": (tp.signals, {"net": NET, "shape": (2,), "q": 1.0, "c": 0.5}),
    "critical": (
        tp.critical,
        {
            "block": BLOCK,
            "free": ("W_std", "b_std"),
            "kind": "edge",
            "q": 0.5,
            "xi": 50.0,
            "between": (1e-6, 1e6),
            "shape": (),
        },
    ),
    "phases": (tp.phases, {"block": BLOCK, "W_std": [1.0, 2.0], "b_std": [0.0, 0.1], "shape": ()}),
    "initialise": (tp.initialise, {"net": nn.serial(nn.Dense(4), nn.Tanh(), nn.Dense(4)), "shape": (2,)}),
    "spectrum": (
        lambda steps, samples, seed, method: (
            (p := small())
            and tp.spectrum(
                lambda v: p["W"] @ v + p["W"].T @ v,
                p["W"],
                steps=steps,
                samples=samples,
                seed=seed,
                method=method,
            )
        ),
        {"steps": 3, "samples": 512, "seed": 0, "method": "auto"},
    ),
    "spectrum.operator": (
        lambda operator, v: (
            (p := small())
            and tp.spectrum(
                p["W"] @ p["x"] + p["W"].T @ p["x"] if operator is ONE else operator,
                p["x"] if v is ONE else v,
                steps=3,
            )
        ),
        {"operator": ONE, "v": ONE},
    ),
    "spectrum.net": (
        lambda shape, data: tp.spectrum(
            nn.serial(nn.Dense(4), nn.Dense(4)), shape=shape, data={"u": data}, steps=2
        ),
        {"shape": (2,), "data": X[0]},
    ),
    "amp": on_matrix(
        tp.amp,
        matrix="W",
        denoiser="tanh",
        steps=2,
        signal="x",
        noise=0.0,
        snr=0.5,
        start="x",
        derivative=None,
    ),
    "expect": (tp.expect, {"f": "tanh", "mean": 0.0, "cov": 1.0, "rtol": 1e-3, "method": "auto"}),
    "expect.arrays": (tp.expect, {"f": np.maximum, "mean": np.zeros(2), "cov": EYE}),
    "dual": (tp.dual, {"phi": "tanh"}),
    "dual.call": (DUAL, {"q1": 1.0, "q2": 1.0, "c": 0.5, "mean1": 0.0, "mean2": 0.0}),
    "dual.derivative": (DUAL.derivative, {"q1": 1.0, "q2": 1.0, "c": 0.5, "mean1": 0.0, "mean2": 0.0}),
    "dual.estimate": (DUAL.estimate, {"q1": 1.0, "q2": 1.0, "c": 0.5, "derivative": False}),
    "apply": (
        spread(tp.apply, "f", "x"),
        {"f": "tanh", "x": small()["x"], "derivative": None, "kinks": (), "name": None},
    ),
    "mean": (tp.mean, {"vector": small()["x"], "name": None}),
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
    "p.scalars": on("scalars", name="c", axes=(), values=1.0),
    "p.matrix": on("matrix", name="V", var=1.0, rows="n", cols="n", axes=(), trained=True, tangent=None),
    "p.getitem": (lambda name: small()[name], {"name": "x"}),
    "p.matmul": on("matmul", matrix="W", vector="x", name=None),
    "p.lincomb": (
        lambda terms, name: (p := small()).lincomb([(1.0, p["x"])] if terms is ONE else terms, name),
        {"terms": ONE, "name": None},
    ),
    "p.lincomb.coef": (lambda c: (p := small()).lincomb([(c, p["x"])]), {"c": 2.0}),
    "p.apply": (
        lambda f, x, **given: (p := small()).apply(
            f, p["x"] if isinstance(x, str) and x == "x" else x, **given
        ),
        {"f": "tanh", "x": "x", "derivative": None, "kinks": (), "name": None},
    ),
    "p.apply.own": (
        lambda derivative, kinks: (p := small()).apply(
            lambda u: u, p["x"], derivative=derivative, kinks=kinks
        ),
        {"derivative": None, "kinks": ()},
    ),
    "p.moment": (
        lambda f, x, **given: (p := small()).moment(
            f, p["x"] if isinstance(x, str) and x == "x" else x, **given
        ),
        {"f": "tanh", "x": "x", "derivative": None, "kinks": (), "name": None},
    ),
    "p.mean": on("mean", vector="x", name=None),
    "p.attend": (
        lambda logits, vector, axes, weights, name: (p := small()).attend(
            p["f"] if logits is ONE else logits,
            p["f"] if vector is ONE else vector,
            axes,
            weights=weights,
            name=name,
        ),
        {"logits": ONE, "vector": ONE, "axes": "t", "weights": None, "name": None},
    ),
    "p.map": on("map", operand="f", axis="t", out=(), rows=[[(0, 1.0)]], name=None),
    "p.constant": on("constant", value=2.0, dim="n"),
    "p.scan": on("scan", axis="t", size=3),
    "p.output": on("output", vector="g", weight=1.0),
    "p.dim": on("dim", name="k", ratio=2.0),
    "p.append": on("append", line=Transpose("V", "W")),
    "p.expand": on("expand", axes=None),
    "p.backward": (
        lambda seeds, wrt, stop: (p := small()).backward({p["g"]: 1.0} if seeds is ONE else seeds, wrt, stop),
        {"seeds": ONE, "wrt": None, "stop": ()},
    ),
    "p.backward.seed": (lambda seed: (p := small()).backward({p["m"]: seed}), {"seed": 1.0}),
    "v.shift": of("f", "shift", t=1, boundary="zero"),
    "v.take": of("f", "take", t=1),
    "v.rename": of("f", "rename", t="r"),
    "v.windows": of("f", "windows", axis="t", size=2, stride=1, padding="VALID", offset=""),
    "v.pool": of("f", "pool", axis="t", size=2, stride=1, padding="VALID", scale=None),
    "v.map": of("f", "map", axis="t", out=(), rows=[[(0, 1.0)]], name=None),
    "v.sum": (lambda axis: small()["f"].sum(axis), {"axis": "t"}),
    "v.softmax": (
        lambda axis, weights: (p := small()).mean(p["f"]).softmax(axis, weights=weights),
        {"axis": "t", "weights": None},
    ),
    "v.mean": (lambda axis: small()["f"].mean(axis), {"axis": "t"}),
    "v.named": (lambda name: (small()["x"] + 1).named(name), {"name": "y"}),
    # functions
    "functions.get": (functions.get, {"f": "tanh"}),
    "functions.get.degree": (lambda degree: functions.get("monomial", degree=degree), {"degree": 2}),
    "functions.get.coef": (lambda coef: functions.get("polynomial", coef=coef), {"coef": [1.0, 2.0]}),
    "functions.get.a": (lambda a: functions.get("erf", a=a), {"a": 2.0}),
    "functions.get.approximate": (
        lambda approximate: functions.get("gelu", approximate=approximate),
        {"approximate": True},
    ),
    "functions.get.own": (
        lambda derivative, kinks: functions.get(lambda u: u, derivative=derivative, kinks=kinks),
        {"derivative": None, "kinks": ()},
    ),
    "functions.affine": (functions.affine, {"f": TANH, "scale": 2.0, "shift": 0.5}),
    "functions.linear": (functions.linear, {"coefs": [1.0], "parts": [TANH], "constant": 0.5}),
    "functions.compose": (spread(functions.compose, "f", "g"), {"f": TANH, "g": TANH}),
    "functions.product": (spread(functions.product, "parts"), {"parts": TANH}),
    "function.call": (spread(TANH, "u"), {"u": X}),
    "function.derivative": (TANH.derivative, {"i": 0}),
    "function.with_scalars": (TANH.with_scalars, {"n": 0}),
    # nets
    "nn.program": (nn.program, {"net": NET, "shape": (3,), "masked": False}),
    "nn.serial": (spread(nn.serial, "layer"), {"layer": nn.Relu()}),
    "nn.parallel": (spread(nn.parallel, "layer"), {"layer": nn.Relu()}),
    "nn.repeat": (nn.repeat, {"layer": nn.Relu(), "n": 2}),
    "nn.Residual": (nn.Residual, {"body": nn.Relu(), "shortcut": None}),
    "nn.from_spec": (nn.from_spec, {"spec": NET.to_spec()}),
    "nn.sgd": (
        nn.sgd,
        {
            "net": NET,
            "x": X,
            "y": np.ones(3),
            "steps": 1,
            "lr": 0.1,
            "parameterization": "mu",
            "batches": None,
            "x_test": None,
            "initial": None,
            "loss": None,
        },
    ),
    "nn.sgd.ntk": (
        nn.sgd,
        {"net": NET, "x": X, "y": np.ones(3), **TRAINED, "parameterization": "ntk", "initial": np.zeros(3)},
    ),
    # special integrals
    "normal_cdf": (lambda **given: special.normal_cdf(np.zeros(2), **given), {**FULL, "atol": 1e-2}),
    "orthant": (special.orthant, {"cov": EYE, "mean": 0.0, "atol": 1e-2}),
    "product_of_cdfs": (
        lambda **given: special.product_of_cdfs(np.ones(2), **given),
        {"cov": EYE, "mean": 0.0, "atol": 1e-2},
    ),
    "expected_max": (special.expected_max, {**FULL, "atol": 1e-2}),
    "max_square": (special.max_square, {**FULL, "atol": 1e-2}),
    "max_second": (special.max_second, {**FIRST, "atol": 1e-2}),
    "argmax_joint": (special.argmax_joint, {**FIRST, "atol": 1e-2}),
    "softmax_moments": (special.softmax_moments, {**FIRST, "atol": 1e-2}),
    "tail_moments": (lambda **given: special.tail_moments(m=1, **given), {**FULL, "atol": 1e-2}),
    "cdf_moments": (
        lambda **given: special.cdf_moments(np.ones(2), **given),
        {"cov": EYE, "mean": 0.0, "atol": 1e-2},
    ),
    "batchnorm": (special.batchnorm, {"cov": np.eye(3), "phi": "relu", "atol": 1e-2}),
    "batchnorm_tangent": (
        lambda cov, phi, atol: special.batchnorm_tangent(cov, np.eye(4), phi, atol),
        {"cov": np.eye(4), "phi": "relu", "atol": 1e-2},
    ),
    "batchnorm_gradient": (
        lambda cov, phi, atol: special.batchnorm_gradient(cov, np.eye(4), phi, atol),
        {"cov": np.eye(4), "phi": "relu", "atol": 1e-2},
    ),
    "batchnorm_pair": (special.batchnorm_pair, {"cov": np.eye(6), "first": 3, "phi": "relu", "atol": 1e-2}),
    "batchnorm_sampled": (special.batchnorm_sampled, {"cov": np.eye(4), "phi": "tanh", "atol": 1e-1}),
}

Y3, K3 = np.ones(3), X @ X.T + EYE3
GP = Late(lambda: predict.posterior(NET, X, Y3, noise=0.1))
NETS_TRAINED = Late(lambda: predict.gradient_flow(NET, X, Y3))
ITERATIVE = Late(lambda: predict.iterative_posterior(NET, X, Y3, noise=0.1))
POSTERIOR = predict.Posterior.init(K3, Y3)
CALLS |= {
    "predict.posterior": (
        predict.posterior,
        {"net": NET, "x": X, "y": Y3, "get": "ntk", "noise": 0.1, "n_jobs": 1},
    ),
    "predict.gradient_flow": (predict.gradient_flow, {"net": NET, "x": X, "y": Y3, "lr": 0.1, "n_jobs": 1}),
    "predict.gradient_descent": (
        predict.gradient_descent,
        {"net": NET, "x": X, "y": Y3, "lr": 0.1, "momentum": 0.5, "n_jobs": 1},
    ),
    "predict.largest_learning_rate": (
        predict.largest_learning_rate,
        {"net": NET, "x": X, "momentum": 0.5, "n_jobs": 1},
    ),
    "predict.load": (_written_and_read, {"path": "a.npz"}),
    "predict.calibration_curve": (
        predict.calibration_curve,
        {"chances": np.full((3, 2), 0.5), "labels": np.zeros(3), "bins": 5},
    ),
    "predict.coverage_curve": (
        predict.coverage_curve,
        {
            "found": POSTERIOR.compute(K3, K3.diagonal()),
            "y": Y3,
            "levels": [0.5, 0.9],
        },
    ),
    "predict.side_by_side": (
        predict.side_by_side,
        {"net": NET, "x": X, "y": Y3, "x_new": X, "noise": 0.1, "cov": False, "n_jobs": 1},
    ),
    "predict.tune": (
        predict.tune,
        {
            "net": NET,
            "x": X,
            "y": Y3,
            "wrt": "W_std",
            "get": "nngp",
            "by": "log_marginal",
            "noise": 0.1,
            "steps": 1,
            "n_jobs": 1,
        },
    ),
    "predict.iterative_posterior": (
        predict.iterative_posterior,
        {
            "net": NET,
            "x": X,
            "y": Y3,
            "noise": 0.1,
            "get": "ntk",
            "rank": 2,
            "rtol": 1e-6,
            "dtype": None,
            "n_jobs": 1,
        },
    ),
    "predict.preconditioner": (predict.preconditioner, {"low": K3[:, :2], "noise": 0.1}),
    "predict.conjugate_gradients": (
        predict.conjugate_gradients,
        {"a": K3, "b": Y3, "near": None, "start": Y3, "rtol": 1e-6, "steps": 10},
    ),
    "predict.lanczos_logdet": (
        predict.lanczos_logdet,
        {"a": K3, "near": None, "probes": 2, "steps": 3, "seed": 0},
    ),
    "predict.pivoted_cholesky": (
        lambda diagonal, noise, rank: predict.pivoted_cholesky(diagonal, lambda i: K3[i], noise, rank),
        {"diagonal": K3.diagonal(), "noise": 0.1, "rank": 2},
    ),
    "posterior.predict": (GP.predict, {"x": X, "cov": False, "noise": 0.0}),
    "posterior.sample": (GP.sample, {"x": X, "draws": 1, "seed": 0}),
    "posterior.add": (GP.add, {"x": X, "y": Y3, "noise": 0.1}),
    "posterior.interval": (Late(lambda: GP.predict(X)).interval, {"level": 0.9}),
    "iterative.predict": (ITERATIVE.predict, {"x": X, "variance": True, "cov": False, "noise": 0.0}),
    "iterative.add": (ITERATIVE.add, {"x": X, "y": Y3, "noise": 0.1}),
    "iterative.log_marginal": (ITERATIVE.log_marginal, {"probes": 2, "steps": 2, "seed": 0}),
    "iterative.log_marginal_gradient": (
        ITERATIVE.log_marginal_gradient,
        {"wrt": "W_std", "probes": 2, "steps": 2, "seed": 0},
    ),
    "ensemble.add": (NETS_TRAINED.add, {"x": X, "y": Y3}),
    "posterior.log_marginal_gradient": (GP.log_marginal_gradient, {"dk": (), "wrt": "W_std"}),
    "posterior.k_fold_gradient": (GP.k_fold_gradient, {"folds": 2, "dk": (), "wrt": "W_std"}),
    "ensemble.predict": (NETS_TRAINED.predict, {"x": X, "t": 1.0, "cov": False}),
    "ensemble.loss": (NETS_TRAINED.loss, {"t": 1.0, "x": X, "y": Y3}),
    "ensemble.losses": (NETS_TRAINED.losses, {"times": [1.0]}),
    "Posterior.init": (predict.Posterior.init, {"k": K3, "y": Y3, "noise": 0.1}),
    "Posterior.compute": (POSTERIOR.compute, {"k_new": K3, "prior": K3, "cov": True}),
    "Posterior.add": (POSTERIOR.add, {"across": K3, "k": K3, "y": Y3, "noise": 0.1}),
    "Posterior.k_fold": (POSTERIOR.k_fold, {"folds": 2}),
    "Posterior.k_fold_gradient": (POSTERIOR.k_fold_gradient, {"folds": 2, "dk": [K3]}),
    "Dynamics.init": (
        lambda ntk, y, nngp: predict.Dynamics.init(ntk, y, nngp, predict.Flow()),
        {"ntk": K3, "y": Y3, "nngp": K3},
    ),
}

# layers: each argument of each class, from an instance that is right
LAYERS = [
    nn.Dense(3),
    nn.Flatten(),
    nn.Conv(3, (2,)),
    nn.ConvLocal(3, (2,)),
    nn.ConvTranspose(3, (2,)),
    nn.AvgPool((2,)),
    nn.SumPool((2,)),
    nn.GlobalAvgPool(),
    nn.GlobalSumPool(),
    nn.Index(0),
    nn.ImageResize((-1, 2, -1), "linear"),
    nn.LayerNorm(),
    nn.Dropout(0.5),
    nn.SimpleRnn(3),
    nn.GlobalSelfAttention(3, 3, 3, 1),
    nn.CrossAttention(3, 3, 3, 1),
    nn.TransformerBlock(4, 2),
    nn.Gru(3),
    nn.Lstm(3),
    nn.BatchNorm(),
    nn.RMSNorm(),
    nn.GroupNorm(1),
    nn.MaxPool((2,)),
    nn.GlobalMaxPool(),
    nn.Glu(3),
    nn.SwiGlu(3),
    nn.SqueezeExcite(3),
    nn.Embedding(3, 4),
    nn.Tied(nn.Dense(3), "tied"),
    nn.GraphAttention(3, 3),
    nn.Aggregate(),
    nn.FanOut(2),
    nn.FanInSum(),
    nn.FanInProd(),
    nn.FanInConcat(),
    nn.Identity(),
    nn.ABRelu(1.0, 2.0),
    nn.LeakyRelu(0.1),
    nn.Erf(),
    nn.Gelu(),
    nn.Sin(),
    nn.Cos(),
    nn.Rbf(),
    nn.Exp(),
    nn.Gaussian(),
    nn.ExpNormalized(),
    nn.Hermite(2),
    nn.Monomial(2),
    nn.RectifiedMonomial(2),
    nn.Polynomial([1.0, 2.0]),
    nn.Elu(),
    nn.Elementwise("tanh"),
    nn.ElementwiseNumerical("tanh", 5),
]
CALLS |= {
    f"nn.{type(layer).__name__}": (
        type(layer),
        {f: getattr(layer, f) for f in inspect.signature(type(layer)).parameters},
    )
    for layer in LAYERS
}

VARIABLE = "variable|program|vector|scalar|matrix|data|moment|args|float"
# what a message may say in the place of an argument's name: what the argument is
SAYS = {
    **dict.fromkeys(["f", "phi", "fn", "parts"], "[Ff]unction"),
    "g": "[Ff]unction|" + VARIABLE,
    **dict.fromkeys(["a", "b", "h", "q", "s", "v", "x", "p", "name", "which", "vector", "logits"], VARIABLE),
    **dict.fromkeys(
        ["matrix", "operand", "terms", "asked", "quantities", "wrt", "stop", "seeds"], VARIABLE + "|seed"
    ),
    "weights": "weights|another program",
    **dict.fromkeys(["c", "coef"], "coefficient|another program"),
    **dict.fromkeys(["size", "stride"], "window"),
    **dict.fromkeys(["var", "trained", "cov", "tangent"], "varian|tangent|batch|first"),
    **dict.fromkeys(["layer", "net"], "argument 0|layer|output|data line"),
    **dict.fromkeys(["u", "x1", "x2", "x_test", "x_new"], r"\bx\b|arguments"),
    **dict.fromkeys(["q1", "q2", "mean1", "mean2"], "integral"),
    "t": "selection|index|shift|name of t",
    "seed": "variable|value|program|float",
    "offset": "axes",
    "i": "argument",
    "spec": "network",
    "widths": "width",
    "loss": "function",
    "n": "width|layer",
    "axis": "axes",
    "dim": "CDC|used",
    "path": "cannot be read",
}
SECONDS = 5.0
"""Of processor time: anything that takes longer hangs as far as its user can tell."""


REFUSED = {
    "complex", "rude", "ragged", "words", "date", "complex array", "object array", "text array", "dates",
    "records", "bfloat16", "tensor with gradients", "sparse", "masked", "odd dict", "module",
}  # fmt: skip
"""Kinds that are right nowhere,"""
TAKEN = {
    ("kernel", "dtype", "sparse"), ("operator", "dtype", "sparse"), ("factor", "dtype", "sparse"),
    ("plan", "dtype", "sparse"), ("function.call", "u", "masked"),
}  # fmt: skip
"""but here: what has a dtype names one, and arrays of any numbers have values."""


def outcome(case, name, kind):
    """None for an answer or a good refusal, else what is wrong with what came out."""
    call, arguments = CALLS[case]
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            call(**{**arguments, name: hostile.VALUES[kind]()})
        if kind in REFUSED and (case, name, kind) not in TAKEN:
            return "is taken"
    except TpnumError as refusal:
        message = str(refusal)
        if not re.search(rf"\b{re.escape(name)}\b|{SAYS.get(name, name)}", message):
            return f"does not name {name}: {message}"
        if max(map(len, message.splitlines())) > 400:
            return f"is too long: {message[:60]} ..."
    except Exception as foreign:
        return f"is {type(foreign).__name__}: {foreign}"[:200]
    spent = time.process_time() - started
    return f"takes {spent:.1f} s" if spent > SECONDS else None


@pytest.mark.parametrize("case", CALLS)
def test_whatever_is_handed_in(case):
    call, arguments = CALLS[case]
    call(**arguments)  # valid as it stands
    wrong = {}
    for name in arguments:
        for kind, make in hostile.VALUES.items():
            if (case, name) == ("kernel", "progress") and callable(make()):
                continue  # whatever the user's own function raises is the user's
            found = outcome(case, name, kind)
            if found:
                wrong[name, kind] = found
    assert not wrong, "\n".join(f"{name} = {kind}: {said}" for (name, kind), said in wrong.items())


def test_every_public_name_is_called():
    """A new function has its row in the table: the public names, the methods of programs, the layers."""
    called = " ".join(CALLS)
    rest = {"Program", "errors", "functions", "nn", "predict", "spectra"}
    for name in predict.__all__:
        if not isinstance(getattr(predict, name), type):
            assert f"predict.{name}" in CALLS, name
    for name in set(tp.__all__) - rest:
        if not isinstance(getattr(tp, name), functions.Function):
            assert re.search(rf"(^| ){name}\b", called), name
    layers = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    for name in layers - {"Activation", "Block", "Emitter", "Features", "Layer", "Swish", "Training"}:
        assert f"nn.{name} " in f"{called} " or not inspect.signature(getattr(nn, name)).parameters, name
    for name in vars(tp.Program):
        own = name.startswith("_") or name in {
            "output_index",
            "digest",
            "to_json",
            "unrolled",
            "tangent",
            "from_json",
        }
        assert own or f"p.{name}" in called, name
