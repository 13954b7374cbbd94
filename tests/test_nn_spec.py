"""The JSON form of nets, and every refusal of a layer once."""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tpnum.functions
from tpnum import nn
from tpnum.errors import SpecError
from tpnum.nn.activations import Activation
from tpnum.nn.spec import layers_by_name

FILES = sorted((Path(__file__).parent / "data" / "reference").glob("*.npz"))


def through_json(net: nn.Layer) -> nn.Layer:
    return nn.from_spec(json.loads(json.dumps(net.to_spec())))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reference_round_trip(path):
    spec = json.loads(str(np.load(path)["spec"]))
    net = nn.from_spec(spec)
    assert net == nn.from_spec(spec["network"])
    assert through_json(net) == net
    p = nn.program(net, spec["input"]["shape"])
    assert str(p) == str(nn.program(through_json(net), spec["input"]["shape"]))
    assert all(p.vars[name].axes == () for _, name in p.outputs)


SAMPLES = {
    "abrelu": {"a": -0.3, "b": 1.2},
    "leaky_relu": {"alpha": 0.2},
    "hermite": {"degree": 2},
    "monomial": {"degree": 3},
    "rectified_monomial": {"degree": 2},
    "polynomial": {"coef": [1.0, 2.0]},
}
ACTIVATIONS = {
    name: layer
    for name, layer in layers_by_name().items()
    if issubclass(layer, Activation) and layer.function
}


def test_every_activation_is_there():
    assert len(ACTIVATIONS) == 29  # Swish is Silu by another name
    assert nn.Swish is nn.Silu
    assert set(ACTIVATIONS) <= set(nn.__all__)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(op):
    layer = nn.from_spec({"op": op, **SAMPLES.get(ACTIVATIONS[op].function, {})})
    assert through_json(layer) == layer
    assert eval(repr(layer), vars(nn)) == layer
    assert layer.as_function().name == layer.function
    assert dict(layer.as_function().params) == {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in {**_defaults(layer), **layer.arguments()}.items()
    }
    assert nn.program(nn.serial(nn.Dense(3), layer, nn.Dense(1)), (2,)).outputs


def _defaults(layer: nn.Layer) -> dict:
    return {name: getattr(layer, name) for name in layer.__dataclass_fields__}


NETS = [
    nn.serial(nn.Dense(3), nn.FanOut(2), nn.parallel(nn.Relu(), nn.Identity()), nn.FanInProd()),
    nn.serial(nn.FanOut(2), nn.parallel(nn.Dense(3), nn.Dense(3)), nn.FanInSum()),
    nn.serial(nn.FanOut(3), nn.parallel(nn.Dense(3), nn.Dense(4), nn.Dense(5)), nn.FanInConcat()),
    nn.repeat(nn.serial(nn.Dense(3), nn.Relu()), 4),
    nn.serial(
        nn.SimpleRnn(8, nn.Erf(), b_std=0.1, parameterization="raw"), nn.LayerNorm((-1, 1)), nn.Dropout(0.5)
    ),
    nn.serial(
        nn.ConvTranspose(8, (2,), (2,), "same"), nn.AvgPool((2,), normalize_edges=True), nn.SumPool((2,))
    ),
    nn.serial(
        nn.Conv(6, (3,), dilation=[2]), nn.Conv(6, (2,), groups=3), nn.ConvLocal(2, (2,), dilation=(3,))
    ),
    nn.serial(nn.Index([..., slice(0, 3), slice(None)]), nn.ImageResize((-1, 2, -1), "linear", False)),
    nn.serial(nn.Dense(3), nn.Elementwise("tanh"), nn.Elementwise(tpnum.functions.erf)),
    nn.Elementwise(tpnum.functions.get("abrelu", a=-1, b=0.5)),
]


@pytest.mark.parametrize("net", NETS, ids=repr)
def test_round_trip(net):
    assert through_json(net) == net
    assert eval(repr(net), {**vars(nn), "abrelu": partial(tpnum.functions.get, "abrelu")}) == net


@pytest.mark.parametrize(("ufunc", "name"), [(np.tanh, "tanh"), (np.abs, "abs"), (np.positive, "identity")])
def test_ufuncs_are_the_functions_of_their_names(ufunc, name):
    """One net however it is written: equal, of one hash, and its own round trip."""
    net = nn.serial(nn.Dense(3), nn.Elementwise(ufunc), nn.Dense(1))
    named = nn.serial(nn.Dense(3), nn.Elementwise(name), nn.Dense(1))
    assert through_json(net) == net == named
    assert hash(through_json(net)) == hash(net) == hash(named)
    assert repr(net) == repr(named)


def test_branches_have_their_names_in_json():
    assert NETS[1].to_spec()["op"] == "residual"
    assert NETS[2].to_spec()["join"] == "concat"


def test_fixed_rule_keeps_its_degree():
    layer = nn.from_spec({"op": "ElementwiseNumerical", "fn": "tanh", "deg": 25})
    assert through_json(layer) == layer
    function = layer.as_function()
    assert dict(function.params)["deg"] == 25
    np.testing.assert_array_equal(function(np.array([0.3])), np.tanh([0.3]))


def softplus_of_mine(u):
    return np.log1p(np.exp(u))


def test_own_function():
    layer = nn.Elementwise(softplus_of_mine, kinks=(0.5,))
    assert layer.as_function().kinks == (0.5,)
    with pytest.raises(SpecError, match="JSON"):
        layer.to_spec()


SPEC_ERRORS = {
    "misspelt op": (
        {"op": "serial", "layers": [{"op": "Relu"}, {"op": "Dence"}]},
        r"layers\[1\]: .*'Dence'.*mean Dense",
    ),
    "argument of a graph layer": ({"op": "Aggregate", "edges": 3}, "Aggregate: it has no argument 'edges'"),
    "no op": ({"layers": []}, "op"),
    "not an object": ("Dense", "network"),
    "misspelt argument": (
        {"op": "Dense", "out_dim": 3, "W_sdt": 1.0},
        "Dense: .*'W_sdt'; did you mean W_std",
    ),
    "missing argument": (
        {"op": "serial", "layers": [{"op": "Dense"}]},
        r"layers\[0\] \(Dense\): .*'out_dim' is missing",
    ),
    "wrong type": (
        {"op": "serial", "layers": [{"op": "Dense", "out_dim": "3"}]},
        r"layers\[0\] \(Dense\): out_dim is '3'",
    ),
    "nested path": (
        {
            "op": "serial",
            "layers": [
                {"op": "residual", "body": {"op": "serial", "layers": [{"op": "Dropout", "rate": 2}]}}
            ],
        },
        r"layers\[0\]\.body\.layers\[0\] \(Dropout\): rate",
    ),
    "unknown join": ({"op": "branches", "join": "add", "branches": [{"op": "Relu"}]}, "join is 'add'"),
    "no branches": ({"op": "branches", "join": "sum", "branches": []}, "branches is empty"),
    "layers is no list": ({"op": "serial", "layers": 3}, "layers is 3"),
    "repeat": ({"op": "repeat", "layer": {"op": "Relu"}, "n": -1}, "repeat: n is -1"),
    "nested layer": (
        {"op": "SimpleRnn", "out_dim": 3, "activation": {"op": "Dense", "out_dim": 3}},
        "activation",
    ),
    "function": ({"op": "Elementwise", "fn": "tanhh"}, "Elementwise: fn: .*tanh"),
    "fn is no function": ({"op": "Elementwise", "fn": 3}, "fn is 3"),
    "fn is code": (
        {"op": "Elementwise", "fn": {"name": "os.system", "user": {"call": ["os", "system"]}}},
        "fn is",
    ),
}


@pytest.mark.parametrize("case", SPEC_ERRORS)
def test_spec_refusal(case):
    spec, message = SPEC_ERRORS[case]
    with pytest.raises(SpecError, match=message) as caught:
        nn.from_spec(spec)
    assert "\n" not in str(caught.value)


ARGUMENT_ERRORS = {
    "negative std": (lambda: nn.Dense(3, W_std=-1.0), "Dense: W_std is -1.0; it must be"),
    "nan bias": (lambda: nn.Dense(3, b_std=float("nan")), "b_std"),
    "width 0": (lambda: nn.Dense(0), "out_dim"),
    "width 2.5": (lambda: nn.Dense(2.5), "out_dim"),
    "width True": (lambda: nn.Dense(True), "out_dim"),
    "parameterization": (lambda: nn.Dense(3, parameterization="mup"), "'ntk', 'standard', 'raw'"),
    "s": (lambda: nn.Dense(3, s=(1, 0)), "s is"),
    "padding": (lambda: nn.Conv(3, (3,), padding="FULL"), "padding.*'CIRCULAR'"),
    "filter": (lambda: nn.Conv(3, (3, 0)), "filter_shape"),
    "filter as int": (lambda: nn.Conv(3, 3), "filter_shape"),
    "strides": (lambda: nn.Conv(3, (3,), (0,)), "strides"),
    "dilation": (lambda: nn.Conv(3, (3,), dilation=2), "dilation is 2; it must be a sequence of positive"),
    "no dilation": (lambda: nn.ConvLocal(3, (3,), dilation=(0,)), "dilation"),
    "groups": (lambda: nn.Conv(3, (3,), groups=0), "groups is 0; it must be a positive int"),
    "rate 0": (lambda: nn.Dropout(0.0), "rate"),
    "rate above 1": (lambda: nn.Dropout(1.5), "rate"),
    "mode": (lambda: nn.Dropout(0.5, "predict"), "mode"),
    "degree": (lambda: nn.Hermite(-1), "degree"),
    "coef": (lambda: nn.Polynomial([]), "coef"),
    "gamma": (lambda: nn.ExpNormalized(gamma=0.0), "gamma"),
    "flag": (lambda: nn.Gelu(approximate=1), "approximate"),
    "eps": (lambda: nn.LayerNorm(eps=-1.0), "eps"),
    "method": (lambda: nn.ImageResize((-1, 2, -1), "cubic"), "method"),
    "idx": (lambda: nn.Index([[0, 1, 0]]), "idx"),
    "fan out": (lambda: nn.FanOut(0), "num"),
    "class as layer": (
        lambda: nn.serial(nn.Dense(3), nn.Relu),
        r"serial: argument 1 is a class; write Relu\(\)",
    ),
    "no layer to repeat": (lambda: nn.repeat("Relu", 3), "repeat: layer"),
    "no activation": (lambda: nn.SimpleRnn(3, nn.Dense(3)), "SimpleRnn: activation"),
    "known derivative": (lambda: nn.Elementwise("tanh", kinks=(0.0,)), "Elementwise: fn 'tanh' knows"),
    "fn of two vectors": (lambda: nn.Elementwise("mul"), "function of one vector"),
}


@pytest.mark.parametrize("case", ARGUMENT_ERRORS)
def test_argument_refusal(case):
    make, message = ARGUMENT_ERRORS[case]
    with pytest.raises(SpecError, match=message):
        make()


def join(layer, *branches):
    return nn.serial(nn.FanOut(len(branches)), nn.parallel(*branches), layer)


FLAT, SEQUENCE, IMAGE = (4,), (5, 4), (5, 6, 4)
NET_ERRORS = {
    "conv on vectors": (
        nn.serial(nn.Dense(3), nn.Conv(3, (3,))),
        FLAT,
        r"layers\[1\] \(Conv\): it needs a spatial axis",
    ),
    "pool on vectors": (nn.serial(nn.Dense(3), nn.AvgPool((2,))), FLAT, "AvgPool.*spatial axis"),
    "global pool after flatten": (
        nn.serial(nn.Flatten(), nn.GlobalAvgPool()),
        IMAGE,
        "GlobalAvgPool.*spatial axis",
    ),
    "filter rank": (nn.Conv(3, (3,)), IMAGE, "Conv: filter_shape"),
    "stride rank": (nn.Conv(3, (3, 3), (1,)), IMAGE, "Conv: strides"),
    "window rank": (nn.SumPool((2, 2)), SEQUENCE, "SumPool: window_shape"),
    "window too large": (nn.AvgPool((6,)), SEQUENCE, "AvgPool: window_shape .* larger than the input"),
    "dilated filter too large": (
        nn.serial(nn.Conv(3, (2,)), nn.Conv(3, (3,), dilation=(2,))),
        SEQUENCE,
        r"layers\[1\] \(Conv\): filter_shape \(3,\) with dilation \(2,\) reaches over 5 .* the input \(4,\)",
    ),
    "dilated filter sees nothing": (
        nn.ConvLocal(3, (2,), (2,), "SAME", dilation=(10,)),
        SEQUENCE,
        r"ConvLocal: filter_shape \(2,\) with dilation \(10,\) .* none of the 5 positions",
    ),
    "dilation rank": (nn.Conv(3, (3, 3), dilation=(2,)), IMAGE, "Conv: dilation is .* one number per axis"),
    "too many entries": (
        nn.Conv(3, (1 << 16,), padding="SAME"),
        (1 << 20, 2),
        r"Conv: filter_shape 65536, strides 1 along axis 't': .* entries",
    ),
    "too many positions": (
        nn.ConvTranspose(3, (2,), (2**50,)),
        SEQUENCE,
        "ConvTranspose: .* entries; more than",
    ),
    "filter too large": (nn.Conv(3, (6,)), SEQUENCE, "Conv: filter_shape .* larger than the input"),
    "nonlinearity on data": (nn.serial(nn.Relu(), nn.Dense(1)), FLAT, r"layers\[0\] \(Relu\): .*raw data"),
    "layernorm on data": (nn.LayerNorm(), FLAT, "LayerNorm: .*raw data"),
    "dropout on data": (nn.Dropout(0.5), FLAT, "Dropout: .*raw data"),
    "layernorm axis": (nn.serial(nn.Dense(3), nn.LayerNorm((-1, 2))), FLAT, "LayerNorm.*axis 2"),
    "layernorm over the batch": (nn.serial(nn.Dense(3), nn.LayerNorm((-1, 0))), FLAT, "LayerNorm.*axis 0"),
    "layernorm without channels": (
        nn.serial(nn.Dense(3), nn.LayerNorm(1)),
        SEQUENCE,
        "LayerNorm.*include the channels",
    ),
    "unequal widths": (
        join(nn.FanInSum(), nn.Dense(3), nn.Dense(4)),
        FLAT,
        r"join \(FanInSum\): .*3 and 4 channels",
    ),
    "unequal positions": (
        join(nn.FanInSum(), nn.Conv(3, (2,)), nn.Dense(3)),
        SEQUENCE,
        r"FanInSum.*\(4,\) and \(5,\)",
    ),
    "data in a sum": (join(nn.FanInSum(), nn.Identity(), nn.Dense(4)), FLAT, "FanInSum.*raw data"),
    "concat axis": (join(nn.FanInConcat(1), nn.Dense(3), nn.Dense(3)), SEQUENCE, "FanInConcat.*axis is 1"),
    "branches left": (
        nn.serial(nn.FanOut(2), nn.parallel(nn.Dense(3), nn.Dense(3))),
        FLAT,
        "ends in 2 branches",
    ),
    "too few branches": (
        nn.serial(nn.FanOut(3), nn.parallel(nn.Dense(3), nn.Dense(3))),
        FLAT,
        "parallel.*3 branches",
    ),
    "parallel alone": (nn.parallel(nn.Dense(3)), FLAT, "parallel: .*FanOut"),
    "layer on branches": (nn.serial(nn.FanOut(2), nn.Dense(3)), FLAT, r"layers\[1\] \(Dense\): .*2 branches"),
    "join of nothing": (nn.FanInSum(), FLAT, "FanInSum: it joins"),
    "resize rank": (nn.ImageResize((2, 2), "linear"), SEQUENCE, "ImageResize: shape"),
    "index of channels": (
        nn.Index([[None, None, None], [None, None, None], [0, 2, 1]]),
        SEQUENCE,
        "Index: .*spatial",
    ),
    "empty index": (nn.Index([..., [3, 3, 1], [None, None, None]]), SEQUENCE, "Index: idx selects nothing"),
    "index outside": (nn.Index([..., 5, [None, None, None]]), SEQUENCE, "Index: idx selects nothing"),
    "long index": (nn.Index([[None, None, None]] * 5), SEQUENCE, "Index: idx has 5 entries"),
    "recurrence on images": (nn.SimpleRnn(3), IMAGE, "SimpleRnn: .*2 spatial axes"),
    "residual path": (
        nn.serial(nn.Dense(3), join(nn.FanInSum(), nn.serial(nn.Relu(), nn.GlobalAvgPool()), nn.Identity())),
        FLAT,
        r"layers\[1\]\.body\.layers\[1\] \(GlobalAvgPool\)",
    ),
}


@pytest.mark.parametrize("case", NET_ERRORS)
def test_net_refusal(case):
    net, shape, message = NET_ERRORS[case]
    with pytest.raises(SpecError, match=message) as caught:
        nn.program(net, shape)
    assert "\n" not in str(caught.value)


CALLS = {
    "missing": (lambda: nn.Dense(), r"^Dense: the argument 'out_dim' is missing; its arguments are out_dim"),
    "misspelt": (lambda: nn.Dense(8, W_sdt=1), r"^Dense: it has no argument 'W_sdt'; did you mean W_std"),
    "second missing": (lambda: nn.Conv(8), r"^Conv: the argument 'filter_shape' is missing"),
    "twice": (lambda: nn.Dense(8, out_dim=3), r"^Dense: the argument 'out_dim' is given twice"),
    "too many": (lambda: nn.Dense(*range(1, 9)), r"^Dense: it got 8 arguments; it takes out_dim, W_std"),
    "none": (lambda: nn.Relu(1), r"^Relu: it got 1 argument; it takes none"),
    "none by name": (lambda: nn.Relu(slope=1), r"^Relu: it has no argument 'slope'; it takes none"),
    "a function": (lambda: nn.Residual(), r"^Residual: the argument 'body' is missing"),
    "another": (lambda: nn.repeat(nn.Relu(), times=3), r"^repeat: it has no argument 'times'; known are"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_calls_that_do_not_fit(case):
    call, said = CALLS[case]
    with pytest.raises(SpecError, match=said) as caught:
        call()
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("op", nn.ops())
def test_every_layer_refuses_unknown_arguments(op):
    make = getattr(nn, op, None)
    if isinstance(make, type):
        with pytest.raises(SpecError, match=rf"^{make.op}: it has no argument 'no_such'"):
            make(no_such=1)


def test_layers_of_users_are_called_as_they_are_written():
    class Plain(nn.Layer):
        def __init__(self, a, *rest, **named):
            self.made = (a, rest, named)

    class Wide(nn.Dense):
        pass

    assert Plain(1, 2, b=3).made == (1, (2,), {"b": 3})
    assert Wide(8).out_dim == 8
    with pytest.raises(SpecError, match=r"'out_dim' is missing"):
        Wide()
    assert copy.deepcopy(nn.Dense(3)) == pickle.loads(pickle.dumps(nn.Dense(3))) == nn.Dense(3)


def test_bases_of_layers_are_no_layers():
    assert {"Dense", "Swish", "serial", "branches"} <= set(nn.ops())
    assert not {"Layer", "Activation", "GatedCell", "Around", "Cell"} & set(nn.ops())
    with pytest.raises(SpecError, match="no op is named 'GatedCell'"):
        nn.from_spec({"op": "GatedCell", "out_dim": 3})
