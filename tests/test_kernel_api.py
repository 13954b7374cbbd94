"""What tp.kernel takes, returns and refuses: one clear error that names the argument, layer or line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tpnum import functions, nn
from tpnum.errors import AccuracyWarning, InputError, TpnumError

X = np.random.default_rng(0).standard_normal((5, 4))
NET = nn.serial(nn.Dense(16, W_std=1.5, b_std=0.1), nn.Relu(), nn.Dense(1))


def bad(index, value):
    x = X.copy()
    x[index] = value
    return x


def deep_exp(depth):
    return nn.serial(
        *[part for _ in range(depth) for part in (nn.Dense(8, W_std=2.0), nn.Exp())], nn.Dense(1)
    )


CASES = {
    "nan in x1": (lambda: tp.kernel(NET, bad((1, 2), np.nan)), "x1"),
    "inf in x1": (lambda: tp.kernel(NET, bad((1, 2), np.inf)), "x1"),
    "nan in x2": (lambda: tp.kernel(NET, X, bad((0, 0), np.nan)), "x2"),
    "inf in x2": (lambda: tp.kernel(NET, X, bad((0, 0), -np.inf)), "x2"),
    "vector as x1": (lambda: tp.kernel(NET, X[0]), "x1"),
    "number as x1": (lambda: tp.kernel(NET, 3.0), "x1"),
    "vector as x2": (lambda: tp.kernel(NET, X, X[0]), "x2"),
    "text as x1": (lambda: tp.kernel(NET, "data"), "x1"),
    "objects in x1": (lambda: tp.kernel(NET, np.array([[1, "a"], [2, None]], dtype=object)), "x1"),
    "complex x1": (lambda: tp.kernel(NET, X + 1j), "x1"),
    "ragged x1": (lambda: tp.kernel(NET, [[1.0, 2.0], [3.0]]), "x1"),
    "None as x1": (lambda: tp.kernel(NET, None), "x1"),
    "fewer features in x2": (lambda: tp.kernel(NET, X, X[:, :3]), "x2"),
    "another number of axes in x2": (lambda: tp.kernel(NET, X, X[:, :, None]), "x2"),
    "no inputs": (lambda: tp.kernel(NET, X[:0]), "x1"),
    "no features": (lambda: tp.kernel(NET, X[:, :0]), "x1"),
    "no inputs in x2": (lambda: tp.kernel(NET, X, X[:0]), "x2"),
    "unknown get": (lambda: tp.kernel(NET, X, get="ntkk"), "get"),
    "unknown get in a tuple": (lambda: tp.kernel(NET, X, get=("nngp", "cov")), "get"),
    "get twice": (lambda: tp.kernel(NET, X, get=("nngp", "nngp")), "names a kernel twice"),
    "net second": (lambda: tp.kernel(X, NET), "comes first"),
    "empty get": (lambda: tp.kernel(NET, X, get=()), "get"),
    "number as get": (lambda: tp.kernel(NET, X, get=3), "get"),
    "integer dtype": (lambda: tp.kernel(NET, X, dtype="int32"), "dtype"),
    "half dtype": (lambda: tp.kernel(NET, X, dtype=np.float16), "dtype"),
    "unknown dtype": (lambda: tp.kernel(NET, X, dtype="float33"), "dtype"),
    "no jobs": (lambda: tp.kernel(NET, X, n_jobs=0), "n_jobs"),
    "half a job": (lambda: tp.kernel(NET, X, n_jobs=1.5), "n_jobs"),
    "no tile": (lambda: tp.kernel(NET, X, tile=0), "tile"),
    "negative tile": (lambda: tp.kernel(NET, X, tile=-3), "tile"),
    "text as tile": (lambda: tp.kernel(NET, X, tile="big"), "tile"),
    "dict as net": (lambda: tp.kernel({"op": "Dense"}, X), "net"),
    "None as net": (lambda: tp.kernel(None, X), "net"),
    "class as net": (lambda: tp.kernel(nn.Relu, X), "net"),
    "conv on vectors": (lambda: tp.kernel(nn.serial(nn.Conv(4, (3, 3)), nn.Relu(), nn.Flatten()), X), "Conv"),
    "2-d conv on sequences": (lambda: tp.kernel(nn.Conv(4, (3, 3)), X[:, :, None]), "Conv"),
    "pool on vectors": (lambda: tp.kernel(nn.serial(nn.Dense(4), nn.AvgPool((2,))), X), "AvgPool"),
    "global pool on vectors": (
        lambda: tp.kernel(nn.serial(nn.Dense(4), nn.GlobalAvgPool()), X),
        "GlobalAvgPool",
    ),
    "filter larger than the image": (lambda: tp.kernel(nn.Conv(4, (9,)), X[:, :, None]), "Conv"),
    "nonlinearity on data": (lambda: tp.kernel(nn.serial(nn.Relu(), nn.Dense(1)), X), "Relu"),
    "layernorm on data": (lambda: tp.kernel(nn.serial(nn.LayerNorm(), nn.Dense(1)), X), "LayerNorm"),
    "too few branches": (
        lambda: tp.kernel(nn.serial(nn.Dense(4), nn.FanOut(2), nn.parallel(nn.Relu())), X),
        "parallel",
    ),
    "open branches": (lambda: tp.kernel(nn.serial(nn.Dense(4), nn.FanOut(2)), X), "FanOut|branches"),
    "unequal widths": (
        lambda: tp.kernel(nn.serial(nn.FanOut(2), nn.parallel(nn.Dense(4), nn.Dense(5)), nn.FanInSum()), X),
        "FanInSum",
    ),
    "layernorm over an axis that is not there": (
        lambda: tp.kernel(nn.serial(nn.Dense(4), nn.LayerNorm((1, 2, 3))), X),
        "LayerNorm",
    ),
    "deep exp": (lambda: tp.kernel(deep_exp(8), 3 * X), "(?i)overflow|infinit|finite"),
    "deep exp, ntk": (lambda: tp.kernel(deep_exp(8), 3 * X, 2 * X, get="ntk"), "(?i)overflow|infinit|finite"),
    "exp in float32": (lambda: tp.kernel(deep_exp(3), 3 * X, dtype="float32"), "(?i)overflow|infinit|finite"),
    "gaussian of positive exponent": (
        lambda: tp.kernel(nn.serial(nn.Dense(4), nn.Gaussian(1.0, 1.0), nn.Dense(1)), X),
        "(?i)gaussian",
    ),
    "huge data": (lambda: tp.kernel(NET, 1e200 * X), "(?i)x1|overflow"),
    "huge data in float32": (lambda: tp.kernel(NET, 1e30 * X, dtype="float32"), "(?i)x1|overflow"),
    "huge x2": (lambda: tp.kernel(NET, X, 1e200 * X), "(?i)x2|overflow"),
    "unknown op": (
        lambda: nn.from_spec({"op": "serial", "layers": [{"op": "Densee", "out_dim": 3}]}),
        "Densee",
    ),
    "misspelt argument": (lambda: nn.from_spec({"op": "Dense", "out_dim": 3, "W_sdt": 1.0}), "W_sdt"),
    "missing argument": (lambda: nn.from_spec({"op": "Dense"}), "out_dim"),
    "spec without op": (lambda: nn.from_spec({"layers": []}), "op"),
    "text as spec": (lambda: nn.from_spec("Dense"), "(?i)spec|net"),
    "unknown activation": (lambda: nn.Elementwise("tanhh"), "tanhh"),
    "negative deviation": (lambda: nn.Dense(3, W_std=-1.0), "W_std"),
    "nan deviation": (lambda: nn.Dense(3, W_std=float("nan")), "W_std"),
    "width zero": (lambda: nn.Dense(0), "out_dim"),
    "unknown parameterization": (lambda: nn.Dense(3, parameterization="mup2"), "parameterization"),
    "unknown padding": (lambda: nn.Conv(3, (2,), padding="FULL"), "padding"),
    "dropout of nothing": (lambda: nn.Dropout(0.0), "rate"),
}


@pytest.mark.parametrize("case", CASES)
def test_refusal(case):
    """One error, of one line, that names what is at fault; and no warning instead of it."""
    call, names = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TpnumError, match=names) as caught:
            call()
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    assert "\n" not in message.strip()
    assert 15 < len(message) < 400


def test_wrong_out():
    with pytest.raises(TpnumError, match="out"):
        tp.kernel(NET, X, out=np.empty((5, 4)))
    with pytest.raises(TpnumError, match="out"):
        tp.kernel(NET, X, out=np.empty((5, 5), dtype=np.float32))
    frozen = np.empty((5, 5))
    frozen.setflags(write=False)
    with pytest.raises(TpnumError, match="out"):
        tp.kernel(NET, X, out=frozen)


def test_out_is_filled():
    out = np.full((5, 5), np.nan)
    result = tp.kernel(NET, X, out=out)
    np.testing.assert_array_equal(out, tp.kernel(NET, X))
    np.testing.assert_array_equal(result, out)


def test_shapes_and_types():
    assert isinstance(tp.kernel(NET, X), np.ndarray)
    assert tp.kernel(NET, X, X[:3]).shape == (5, 3)
    both = tp.kernel(NET, X, get=("nngp", "ntk"))
    assert both._fields == ("nngp", "ntk")
    assert both.nngp.dtype == both.ntk.dtype == np.float64
    assert tp.kernel(NET, X.astype(np.float32)).dtype == np.float64  # float64 unless asked for
    assert tp.kernel(NET, X, dtype=np.float32).dtype == np.float32
    one = tp.kernel(NET, X[:1], get="ntk")
    assert one.shape == (1, 1) and one[0, 0] > 0


def test_inputs_of_other_kinds():
    """Integers, lists, Fortran order, views and read-only arrays are data like any other."""
    truth = tp.kernel(NET, np.round(4 * X))
    whole = np.round(4 * X)
    frozen = whole.copy()
    frozen.setflags(write=False)
    for x in (
        whole.astype(int),
        whole.astype(int).tolist(),
        np.asfortranarray(whole),
        whole[::-1][::-1],
        frozen,
    ):
        np.testing.assert_allclose(tp.kernel(NET, x), truth, rtol=1e-15)
    np.testing.assert_array_equal(whole, np.round(4 * X))


def test_zero_inputs():
    """An input of zeros: its kernel is the biases', and nothing is nan."""
    x = bad(2, 0.0)
    for net in (
        NET,
        nn.serial(nn.Dense(4), nn.Relu(), nn.Dense(1)),
        nn.serial(nn.Dense(4), nn.Erf(), nn.Dense(1)),
    ):
        for k in tp.kernel(net, x, get=("nngp", "ntk")):
            assert np.isfinite(k).all()
    bare = tp.kernel(nn.serial(nn.Dense(4), nn.Relu(), nn.Dense(1)), x, get=("nngp", "ntk"))
    assert not bare.nngp[2].any() and not bare.ntk[2].any()


def test_data_is_scaled_by_its_channels():
    np.testing.assert_allclose(tp.kernel(nn.Dense(3, W_std=2.0), X), 4 * X @ X.T / 4, rtol=1e-14)
    k = tp.kernel(nn.Dense(3, W_std=2.0, b_std=0.5), X[:, :, None], get=("nngp", "ntk"))
    truth = 4 * np.einsum("ip,jq->ijpq", X, X) + 0.25
    np.testing.assert_allclose(k.nngp, truth, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(k.ntk, truth, rtol=1e-13, atol=1e-14)


def test_ends_in_a_nonlinearity():
    """The second moment of the H-var and ThetaH."""
    k = tp.kernel(nn.serial(nn.Dense(4), nn.Relu()), X, get=("nngp", "ntk"))
    q = X @ X.T / 4
    norm = np.sqrt(np.outer(q.diagonal(), q.diagonal()))
    theta = np.arccos(np.clip(q / norm, -1, 1))
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(
        k.nngp[off], (norm * (np.sin(theta) + (np.pi - theta) * q / norm) / (2 * np.pi))[off], rtol=1e-12
    )
    np.testing.assert_allclose(k.ntk[off], (q * (np.pi - theta) / (2 * np.pi))[off], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(k.nngp.diagonal(), k.ntk.diagonal())


def test_user_functions():
    """A callable gives the same as its name; its NTK needs no derivative."""

    def layered(layer):
        return nn.serial(nn.Dense(4, W_std=1.2, b_std=0.1), layer, nn.Dense(1))

    named = tp.kernel(layered(nn.Tanh()), X, get=("nngp", "ntk"))
    own = tp.kernel(layered(nn.Elementwise(np.tanh)), X, get=("nngp", "ntk"))
    for a, b in zip(named, own, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_spec_round_trip():
    for net in (
        NET,
        nn.serial(
            nn.Dense(3, W_std=1.1),
            nn.FanOut(2),
            nn.parallel(nn.Relu(), nn.Erf()),
            nn.FanInConcat(),
            nn.Dense(1),
        ),
    ):
        np.testing.assert_array_equal(tp.kernel(nn.from_spec(net.to_spec()), X), tp.kernel(net, X))


def maxima(count: int) -> tuple[tuple[tp.Program, np.ndarray], np.ndarray]:
    """The greater of two Gaussians per channel, and its kernel: (E s s' + E|d||d'|) / 4, s and d their sum
    and difference."""
    x = np.random.default_rng(5).standard_normal((count, 4))
    p = tp.Program()
    u = p.data("u", channels="c")
    first, second = (p.matrix(name, rows="n", cols="c") @ u for name in ("A", "B"))
    p.output(p.matrix("V", rows="n", cols="n") @ functions.maximum(first, second))
    k = x @ x.T / 4
    root = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    angle = np.arcsin(np.clip(k / root, -1, 1))
    crossed = 2 / np.pi * (np.sqrt(np.maximum(root**2 - k**2, 0)) + k * angle)
    return (p, x), (k + crossed) / 2


def test_accuracy_of_sampled_entries_is_asked_for() -> None:
    (p, x), right = maxima(2)
    for rtol, budget in ((1e-2, None), (1e-3, 1 << 18)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = tp.kernel(p, x, rtol=rtol, budget=budget)
        np.testing.assert_allclose(made, right, rtol=rtol, atol=rtol * right.max())
    with pytest.warns(AccuracyWarning, match=r"not to 1e-07 after \d+ evaluations"):
        made = tp.kernel(p, x, rtol=1e-7, budget=1 << 14)
    np.testing.assert_allclose(made, right, atol=0.02)


def test_closed_kernels_are_the_same_at_any_accuracy() -> None:
    net, x = nn.serial(nn.Dense(1), nn.Relu(), nn.Dense(1)), np.eye(3)
    np.testing.assert_array_equal(tp.kernel(net, x, rtol=0.1, budget=256), tp.kernel(net, x))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rtol": 0}, "rtol"), ({"rtol": 2.0}, "rtol"), ({"budget": 3}, "budget"), ({"budget": 1.5}, "budget")],
)
def test_accuracies_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tp.kernel(nn.Dense(1), np.eye(3), **options)


def test_matrices_that_no_memory_holds_are_refused() -> None:
    many = np.broadcast_to(X[:1], (10**7, 4))
    with pytest.raises(InputError, match=r"x1, x2: matrices of shape .* GiB of memory.*fewer examples"):
        tp.kernel(NET, many)


@pytest.mark.parametrize("net", [nn.Identity(), nn.GlobalAvgPool(), nn.AvgPool((2,))], ids=repr)
def test_nets_without_numbers_in_single_precision(net: nn.Layer) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    gram = np.einsum("ipc,jqc->ijpq", x, x) / 5
    if net != nn.Identity():
        width = 4 if net == nn.GlobalAvgPool() else 2
        rows = np.array([[p <= q < p + width for q in range(4)] for p in range(5 - width)]) / width
        gram = np.einsum("ap,ijpq,bq->ijab", rows, gram, rows)
    made = tp.kernel(net, x, dtype="float32")
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, gram.reshape(made.shape), atol=1e-6)
