"""What users of tables, of functions with large parameters and of the command line meet first."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

import tpnum as tp
from tpnum import nn, predict, spectra
from tpnum.cli.parser import build
from tpnum.errors import InputError, LimitError, ProgramError, SpecError

NET = nn.serial(nn.Dense(4, W_std=1.5, b_std=0.1), nn.Relu(), nn.Dense(1))
X = np.random.default_rng(0).standard_normal((4, 3))


def test_a_frame_of_columns_of_several_kinds_is_numbers() -> None:
    frame = pd.DataFrame(
        {
            "real": X[:, 0],
            "true": X[:, 1] > 0,
            "whole": pd.array([1, 2, 3, 4], dtype="Int64"),
            "nullable": pd.array(X[:, 2], dtype="Float64"),
        }
    )
    assert np.asarray(frame).dtype == object
    plain = np.stack([X[:, 0], X[:, 1] > 0, [1, 2, 3, 4], X[:, 2]], axis=1)
    np.testing.assert_array_equal(tp.kernel(NET, frame), tp.kernel(NET, plain))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (pd.NA, r"x1: entry \(1, 1\) is <NA>, not a real number; encode, fill or drop it"),
        ("red", r"x1: entry \(1, 1\) is 'red', not a real number"),
        (None, r"x1: entry \(1, 1\) is None, not a real number"),
        (1j, r"x1: entry \(1, 1\) is 1j, not a real number"),
        (np.nan, "x1: example 1 holds NaN"),
        (10**400, r"x1: entry \(1, 1\) is 1000"),
    ],
)
def test_an_entry_that_is_no_number_is_named(entry: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tp.kernel(NET, np.array([[1.0, True], [2.0, entry]], dtype=object))


@pytest.mark.parametrize("shape", [(5,), (5, 2)])
@pytest.mark.parametrize("b_std", [None, 0.1])
@pytest.mark.parametrize(
    "layer", [nn.Sin(a=1e300), nn.Sin(b=1e200), nn.Exp(b=1e200), nn.Gaussian(a=1e300), nn.ABRelu(1e300, 1.0)]
)
def test_parameters_whose_squares_overflow_are_refused_at_their_layer(
    layer: nn.Layer, b_std: float | None, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(1).standard_normal((3, *shape))
    net = nn.serial(nn.Dense(4, b_std=b_std), layer, nn.Dense(1))
    with pytest.raises(LimitError, match=rf"^layers\[1\] \({layer.op}\), .* overflows at variance"):
        tp.kernel(net, x, get="ntk")


def test_what_stands_in_the_place_of_a_net_is_named_with_what_makes_one() -> None:
    for value, said in (
        ([nn.Relu()], r"must be a layer or a Program; nn.serial\(\*layers\) makes a layer of a sequence$"),
        (NET.to_spec(), "must be a layer or a Program; nn.from_spec reads a layer from its JSON form$"),
        ("relu", r"must be a layer or a Program; nn.Elementwise\(f\) makes a layer of a function$"),
        (None, "net is None; it must be a layer or a Program$"),
    ):
        with pytest.raises(InputError, match=said):
            tp.kernel(value, X)  # type: ignore[arg-type]
    for spec in ([{"op": "Relu"}], {"layers": [{"op": "Relu"}]}):
        with pytest.raises(SpecError, match=r'one after the other are \{"op": "serial", "layers": \[..\]\}'):
            nn.from_spec(spec)  # type: ignore[arg-type]


def test_results_that_hold_arrays_can_be_compared_and_kept_in_sets() -> None:
    block = nn.serial(nn.Dense(4, W_std=1.2), nn.Tanh())
    for made in (
        tp.factor(NET, X, rank=2),
        tp.phases(block, W_std=[1.0, 2.0], b_std=[0.0, 0.1]),
        spectra.kernel_eigenvalues(NET, X / np.sqrt(np.mean(X**2, axis=1, keepdims=True))),
    ):
        again = pickle.loads(pickle.dumps(made))
        assert made == made and made != again and made != copy.copy(made)
        assert len({made, made, again}) == 2


def test_the_command_line_reads_whole_numbers_as_the_library_does() -> None:
    plan = ["plan", "net.json", "--shape", "6", "--n"]
    typed = {"100000": 100_000, "1e5": 100_000, "9007199254740993": 2**53 + 1}
    assert [build().parse_args([*plan, n]).n for n in typed] == list(typed.values())
    for wrong in ("0", "1.5", "nan", "inf", "many"):
        with pytest.raises(SystemExit):
            build().parse_args([*plan, wrong])


def test_huge_targets_are_refused_and_large_ones_are_in_their_unit() -> None:
    y, unit = np.sin(X[:, 0]), 1e120
    made = predict.posterior(NET, X, y, noise="fit"), predict.posterior(NET, X, unit * y, noise=0.1)
    assert np.isfinite(made[0].log_marginal())
    one = predict.posterior(NET, X, y, noise=0.1)
    np.testing.assert_allclose(made[1].predict(X).mean, unit * one.predict(X).mean, rtol=1e-12)
    fits = [m.log_marginal() for m in (made[1], predict.posterior(NET, X, 2 * unit * y, noise=0.1))]
    np.testing.assert_allclose(fits[1] / fits[0], 4.0, rtol=1e-12)
    for noise in (0.1, "fit"):
        with pytest.raises(
            InputError, match=r"^y holds .*, which is more than 1e\+140; give it in another unit"
        ):
            predict.posterior(NET, X, 1e200 * y, noise=noise)
    with pytest.raises(InputError, match=r"^y holds .*, which is more than 1e\+140"):
        predict.gradient_flow(NET, X, 1e200 * y)


def test_a_matrix_times_a_vector_is_written_with_at() -> None:
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    for made in (lambda: w * x, lambda: x * w, lambda: 2.0 * w):
        with pytest.raises(ProgramError, match=r"a matrix has no products with \*: write W @ h"):
            made()
    for made in (lambda: w + w, lambda: x - w):
        with pytest.raises(ProgramError, match="matrices are not added: write W @ h"):
            made()
    assert len(p.lines) == 2


@pytest.mark.parametrize(("layer", "slope"), [(nn.Sigmoid(), 0.25), (nn.Softplus(), 0.5)])
def test_inputs_of_tiny_scales_have_the_ntk_of_the_slope_at_zero(layer: nn.Layer, slope: float) -> None:
    """sigma(u) = sigma(0) + sigma'(0) u to rounding: the NTK is sigma'(0)^2 times that of the layer below."""
    x = np.random.default_rng(5).standard_normal((60, 5))
    for scales in (np.full(60, 1e-10), np.geomspace(1e-12, 1e-8, 60), np.geomspace(1e-140, 1e-120, 60)):
        data = scales[:, None] * x
        for rows in (data, data[:7], data[::20]):
            below = tp.kernel(nn.Dense(8), rows)
            size = np.sqrt(np.diag(below))
            made, wanted = tp.kernel(nn.serial(nn.Dense(8), layer), rows, get="ntk"), slope**2 * below
            np.testing.assert_allclose(
                made / size / size[:, None], wanted / size / size[:, None], rtol=0, atol=1e-13
            )
