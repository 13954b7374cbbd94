"""`nn.Gru` and `nn.Lstm`: their programs, and their kernels against finite width and published values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning, SpecError

FOLDER = Path(__file__).parent / "data" / "reference" / "recurrent"
BOTH = ("nngp", "ntk")
WIDTHS = 48, 96

pytestmark = pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")


def settings(seed: int) -> tuple[nn.Layer, np.ndarray]:
    """A random gated layer, and sequences for it."""
    rng = np.random.default_rng(seed)
    W, U, b = rng.uniform(0.7, 1.6, 3)
    gate = ("sigmoid", "sigmoid_like", nn.Erf(0.5, 1.0, 0.5))[seed % 3]
    more: dict[str, Any] = {"gate": gate, "W_std": W, "U_std": U, "b_std": 0.3 * b, "reverse": seed % 4 == 1}
    more["activation"] = (nn.Tanh(), nn.Erf())[seed % 2]
    if seed % 3 == 1:
        more["b_means"] = tuple(rng.uniform(-1.0, 1.0, 4 if seed % 2 else 3).tolist())
    layer = nn.Lstm(8, **more) if seed % 2 else nn.Gru(8, reset_after=seed % 4 == 0, **more)
    return layer, rng.standard_normal((2, 3, 2))


def at_width(
    layer: nn.Layer, x: np.ndarray, width: int, seeds: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """E h.h'/n of states and tangents over draws, and its standard error."""
    program = nn.program(layer, x.shape[1:]).tangent()
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in BOTH}
    for seed in range(seeds):
        sample = tp.simulate(program, width, seed, data={"u": x})
        for kind in BOTH:
            # an output of every step is one variable per step in a program without scans
            names = [name for _, name in program.outputs]
            names = names if kind == "nngp" else [program.tangents[name] for name in names]
            h = np.stack([sample.vector(name) for name in names], axis=1).reshape(-1, width)
            found[kind].append(h @ h.T / width)
    return {
        kind: (np.mean(each, axis=0), np.std(each, axis=0, ddof=1) / np.sqrt(seeds))
        for kind, each in found.items()
    }


def swiglu(seed: int) -> tuple[nn.Layer, np.ndarray]:
    """A random feed-forward block with its gate, and inputs for it."""
    rng = np.random.default_rng(seed)
    W, b = rng.uniform(0.7, 1.6, (2, 3))
    inner = nn.serial(nn.Dense(8, W_std=W[0], b_std=0.3 * b[0]), (nn.Tanh(), nn.Relu())[seed % 2])
    gate = nn.SwiGlu(8, W_std=W[1], b_std=0.3 * b[1])
    return nn.serial(inner, gate, nn.Dense(8, W_std=W[2], b_std=0.3 * b[2])), rng.standard_normal((3, 4))


def deviations(layer: nn.Layer, x: np.ndarray, seeds: int) -> list[float]:
    """How many standard errors the limit is off what two widths extrapolate to."""
    exact = tp.kernel(layer, x, get=BOTH, error=True)
    few, many = (at_width(layer, x, width, seeds) for width in WIDTHS)
    found = []
    for kind in BOTH:
        (a, s), (b, t) = few[kind], many[kind]
        limit, spread = 2 * b - a, np.sqrt(4 * t**2 + s**2)
        value, error = getattr(exact.kernel, kind), getattr(exact.error, kind)
        if value.ndim == 4:
            value, error = (np.moveaxis(k, 2, 1).reshape(len(limit), -1) for k in (value, error))
        found.append(float(np.max(np.abs(value - limit) / np.sqrt(spread**2 + error**2))))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gated_layers_agree_with_finite_width(seed: int) -> None:
    assert max(deviations(*settings(seed), 60)) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_more_gated_layers_agree_with_finite_width(seed: int) -> None:
    assert max(deviations(*settings(seed), 400)) < 4.5


@pytest.mark.parametrize("seed", [0])
def test_swiglu_agrees_with_finite_width(seed: int) -> None:
    assert max(deviations(*swiglu(seed), 40)) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_more_swiglu_agree_with_finite_width(seed: int) -> None:
    assert max(deviations(*swiglu(seed), 400)) < 4.5


def test_gru_of_published_values() -> None:
    """The erf-GRU with means of its biases, its reset gate in front of the matrix; states of every step."""
    with np.load(FOLDER / "gru_gp.npz") as z:
        arrays = dict(z)
    h = json.loads(str(arrays["spec"]))["configs"]["small"]["hyperparameters"]
    sequences = [arrays[f"small__x{k}"] for k in range(3)]

    def gru(steps: int) -> tp.Program:
        p = tp.Program()
        x = p.data("x", axes={"t": steps}, channels="d")
        sig = tp.functions.get("erf", a=0.5, c=0.5)
        drive = {}
        for g in "zrh":
            bias = p.vector(f"b{g}", mean=h[f"mub{g}"], var=h[f"varb{g}"])
            drive[g] = p.matrix(f"U{g}", var=h[f"varU{g}"], cols="d") @ x + bias
        W = {g: p.matrix(f"W{g}", var=h[f"varW{g}"]) for g in "zrh"}
        with p.scan("t") as loop:
            state = loop.carry("n")
            z, r = (p.apply(sig, W[g] @ state + loop.slice(drive[g])) for g in "zr")
            new = tp.erf(W["h"] @ (r * state) + loop.slice(drive["h"]))
            after = state + z * (new - state)
            loop.next(state, after)
            every = loop.stack(after)
        p.output(every)
        return p

    truth, spread = arrays["small__K"], arrays["small__K_se"]
    x = np.zeros((3, 6, 5))
    for k, one in enumerate(sequences):
        x[k, : len(one)] = one  # what follows a sequence does not change the states before
    found = tp.kernel(gru(6), x, error=True)
    kept = np.concatenate([np.arange(len(one)) + 6 * k for k, one in enumerate(sequences)])
    value, error = (np.moveaxis(k, 2, 1).reshape(18, 18)[np.ix_(kept, kept)] for k in found)
    assert np.max(np.abs(value - truth) / np.sqrt(error**2 + spread**2)) < 4.5
    assert np.max(error) < 5e-3


def test_specs_say_what_the_layers_are() -> None:
    for layer in (
        nn.Gru(8, nn.Erf(), "sigmoid_like", W_std=1.2, b_std=0.1, reset_after=False, reverse=True),
        nn.Lstm(
            8, gate=nn.Erf(0.5, 1.0, 0.5), U_std=0.7, return_sequences=False, b_means=(0.0, 1.0, 0.0, 0.0)
        ),
        nn.Gru(4),
        nn.Lstm(4),
    ):
        assert nn.from_spec(layer.to_spec()) == layer
        assert nn.from_spec(json.loads(json.dumps(layer.to_spec()))) == layer
    assert nn.from_spec({"op": "Gru", "out_dim": 4, "gate": "sigmoid"}) == nn.Gru(4)
    with pytest.raises(SpecError, match=r"layers\[1\] \(Lstm\): gate is 'hard'.*sigmoid, sigmoid_like"):
        nn.from_spec(
            {
                "op": "serial",
                "layers": [{"op": "Gru", "out_dim": 2}, {"op": "Lstm", "out_dim": 2, "gate": "hard"}],
            }
        )
    with pytest.raises(
        SpecError, match=r"Lstm: b_means is .*; it must be 4 numbers, .* of i, f, o, g, or none"
    ):
        nn.Lstm(4, b_means=(1.0,))
    with pytest.raises(SpecError, match="Gru: activation is 'tanh'; it must be a nonlinear layer"):
        nn.Gru(4, "tanh")
    with pytest.raises(SpecError, match="Gru: it runs along one axis and gets 2 spatial axes"):
        nn.program(nn.Gru(4), (3, 3, 2))


def test_masked_steps_are_as_if_they_were_not_there() -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 2))
    short = x.copy()
    short[0, 2:] = 9.0
    for layer in (
        nn.Gru(4, b_std=0.2, return_sequences=False),
        nn.Lstm(4, b_std=0.2, return_sequences=False),
    ):
        net = nn.serial(layer, nn.Dense(1))
        whole = tp.kernel(net, short, mask_constant=9.0, error=True)
        alone = tp.kernel(net, x[:1, :2], x[1:], error=True)
        gap = np.abs(whole.kernel[0, 1:] - alone.kernel[0])
        assert np.all(gap < 4.5 * np.hypot(whole.error[0, 1:], alone.error[0]))


def test_both_directions_stacked_read_every_position() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 2))
    both = nn.serial(
        nn.FanOut(2), nn.parallel(nn.Gru(4), nn.Lstm(4, reverse=True)), nn.FanInConcat(), nn.Lstm(4)
    )
    turned = nn.serial(
        nn.FanOut(2),
        nn.parallel(nn.Gru(4, reverse=True), nn.Lstm(4)),
        nn.FanInConcat(),
        nn.Lstm(4, reverse=True),
    )
    for head in (nn.GlobalAvgPool(), nn.Flatten(), nn.Identity()):
        first = tp.kernel(nn.serial(both, head), x, error=True)
        other = tp.kernel(nn.serial(turned, head), x[:, ::-1], error=True)
        if isinstance(head, nn.Identity):
            other = [k[:, :, ::-1, ::-1] for k in other]
        assert np.all(np.abs(first[0] - other[0]) < 5 * np.hypot(first[1], other[1]))


def test_a_warning_says_what_was_reached() -> None:
    x = np.ones((1, 3, 2))
    with pytest.warns(
        AccuracyWarning, match=r"sampled since .*line \d+ .* of its tile's largest entry only, not to 1e-06"
    ):
        tp.kernel(nn.Gru(4), x)
