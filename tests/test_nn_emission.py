"""The lines that nets emit, compared as they print."""

from __future__ import annotations

import pickle
from textwrap import dedent

import numpy as np
import pytest

from tpnum import nn
from tpnum.errors import InputError, SpecError
from tpnum.nn.resample import resize_rows
from tpnum.program.lines import Input, Map, Matrix, Scan
from tpnum.program.windows import Transposed


def text(net: nn.Layer, *shape: int) -> str:
    return str(nn.program(net, shape))


def squeeze(block: str) -> str:
    return "\n".join(" ".join(line.split()) for line in dedent(block).strip().splitlines())


def prints(net: nn.Layer, shape: tuple[int, ...], expected: str) -> None:
    assert squeeze(text(net, *shape)) == squeeze(expected)


def matrices(net: nn.Layer, *shape: int) -> list[Matrix]:
    return [line for line in nn.program(net, shape).lines if isinstance(line, Matrix)]


def inputs(net: nn.Layer, *shape: int) -> list[Input]:
    return [line for line in nn.program(net, shape).lines if isinstance(line, Input)]


def test_fully_connected():
    net = nn.serial(nn.Dense(512, W_std=1.5, b_std=0.1), nn.Relu(), nn.Dense(256))
    prints(
        net,
        (7,),
        """
        CDC n512 = 1, n256 = 0.5
        1 D u = data with d channels
        2 A W1 ~ N(0, 2.25/d), n512 x d, tangent 2.25
        3 G g1 = W1 @ u
        4 G b1 ~ N(0, 0.01) in n512, tangent 1
        5 G g2 = g1 + b1
        6 H h1 = relu(g2)
        7 A W2 ~ N(0, 1/n512), n256 x n512, tangent 1
        8 G g3 = W2 @ h1
        outputs: g3
    """,
    )


def test_same_names_for_every_input_shape():
    net = nn.serial(nn.Conv(4, (3,), b_std=0.1), nn.Relu(), nn.Flatten(), nn.Dense(1))
    first, second = nn.program(net, (9, 3)), nn.program(net, (5, 3))
    assert list(first.vars) == list(second.vars)
    assert first.outputs == second.outputs


def test_residual_joins_with_the_branch_itself():
    block = nn.serial(
        nn.FanOut(2), nn.parallel(nn.serial(nn.Relu(), nn.Dense(8)), nn.Identity()), nn.FanInSum()
    )
    prints(
        nn.serial(nn.Dense(8), block),
        (3,),
        """
        1 D u = data with d channels
        2 A W1 ~ N(0, 1/d), n8 x d, tangent 1
        3 G g1 = W1 @ u
        4 H h1 = relu(g1)
        5 A W2 ~ N(0, 1/n8), n8 x n8, tangent 1
        6 G g2 = W2 @ h1
        7 G g3 = g2 + g1
        outputs: g3
    """,
    )


def test_concat_splits_variance_by_width_and_stays_in_blocks():
    concat = nn.serial(
        nn.FanOut(2), nn.parallel(nn.Dense(1), nn.serial(nn.Dense(3), nn.Erf())), nn.FanInConcat()
    )
    prints(
        nn.serial(concat, nn.Abs()),
        (3,),
        """
        CDC n1 = 0.333333, n3 = 1
        1 D u = data with d channels
        2 A W1 ~ N(0, 1/d), n1 x d, tangent 1
        3 G g1 = W1 @ u
        4 A W2 ~ N(0, 1/d), n3 x d, tangent 1
        5 G g2 = W2 @ u
        6 H h1 = erf[a=1, b=1, c=0](g2)
        7 H h2 = abs(g1)
        8 H h3 = abs(h1)
        outputs: h2 (weight 0.25), h3 (weight 0.75)
    """,
    )
    last = matrices(nn.serial(concat, nn.Dense(2, W_std=2.0, parameterization="standard")), 3)[2:]
    assert [m.var for m in last] == [1.0, 3.0]
    assert [m.tangent for m in last] == [1.0, 3.0]  # in_width 4, shared 1 : 3


def test_product_join():
    net = nn.serial(nn.Dense(4), nn.FanOut(2), nn.parallel(nn.Relu(), nn.Erf()), nn.FanInProd())
    assert "= h1*h2" in text(net, 3)


def test_data_can_be_added_and_concatenated():
    twice = nn.serial(nn.FanOut(2), nn.parallel(nn.Identity(), nn.Identity()), nn.FanInConcat(), nn.Dense(1))
    assert [m.var for m in matrices(twice, 3)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("parameterization", "weights", "bias"),
    [("ntk", 4.0, 0.25), ("standard", 7 / 2, 1.0), ("raw", 1.0, 1.0)],
)
def test_parameterizations(parameterization, weights, bias):
    """The variances of the tangent directions; in_width is 7 and s[0] = 2."""
    dense = nn.Dense(5, 2.0, 0.5, parameterization, s=(2, 1))
    (matrix,), (b,) = matrices(dense, 7), inputs(dense, 7)
    assert (matrix.var, matrix.tangent) == (4.0, weights)
    assert b.cov[0][0] == 0.25
    assert b.tangent * b.cov[0][0] == bias


def test_a_trained_bias_of_variance_zero_is_a_matrix_times_one():
    zero = nn.Dense(5, b_std=0.0, parameterization="standard")
    bias = matrices(zero, 7)[1]
    assert (bias.cols, bias.var, bias.tangent) == ("one", 0.0, 1.0)
    (one,) = inputs(zero, 7)
    assert (one.mean, one.cov) == ((1.0,), ((0.0,),))
    assert not inputs(nn.Dense(5, b_std=0.0), 7)  # nothing to add, nothing to train


def test_standard_width_is_what_enters():
    net = nn.serial(
        nn.Conv(6, (2, 2), parameterization="standard"),
        nn.Relu(),
        nn.Flatten(),
        nn.Dense(1, parameterization="standard"),
    )
    conv, dense = matrices(net, 3, 4, 5)
    assert conv.tangent == pytest.approx(5.0)  # (5 channels x 4 offsets) / 4 offsets
    assert dense.tangent == pytest.approx(6.0)  # (6 channels x 6 positions) / 6 positions


def test_layernorm_is_moments_and_sums():
    prints(
        nn.serial(nn.Dense(8), nn.LayerNorm(eps=0.5)),
        (3,),
        """
        1 D u = data with d channels
        2 A W1 ~ N(0, 1/d), n8 x d, tangent 1
        3 G g1 = W1 @ u
        4 S m1 = mean(g1)
        5 G ones_n8 ~ N(1, 0) in n8
        6 G g2 = g1 - m1*ones_n8
        7 S m2 = mean(square(g2))
        8 S s1 = 0.5 + m2
        9 S s2 = sqrt(s1)
        10 S s3 = reciprocal(s2)
        11 G g3 = s3*g2
        outputs: g3
    """,
    )


@pytest.mark.parametrize(("axis", "averaged"), [(-1, []), ((-1, 1), ["y"]), ((1, 2, 3), ["y", "x"])])
def test_layernorm_averages_the_listed_axes(axis, averaged):
    p = nn.program(nn.serial(nn.Conv(4, (1, 1)), nn.LayerNorm(axis)), (2, 3, 5))
    means = [line.axis for line in p.lines if isinstance(line, Map) and p.vars[line.name].kind == "S"]
    assert means == 2 * averaged


def test_layernorm_after_flatten_averages_positions():
    p = nn.program(nn.serial(nn.Conv(4, (1,)), nn.Flatten(), nn.LayerNorm(), nn.Dense(1)), (3, 2))
    assert p.vars["m1"].axes == (("t", 3),)
    assert p.vars["m2"].axes == (("t", 3),)
    assert [n for n, v in p.vars.items() if v.kind == "S" and not v.axes]


def test_layernorm_of_a_concatenation_is_one_mixture():
    branches = nn.parallel(nn.Dense(1), nn.Dense(3))
    net = nn.serial(nn.FanOut(2), branches, nn.FanInConcat(), nn.LayerNorm())
    lines = text(net, 3)
    assert "= 0.25*m1\n" in lines
    assert "= 0.75*m2\n" in lines
    assert lines.count("reciprocal") == 1


def test_dropout_is_a_fresh_mask():
    p = nn.program(nn.serial(nn.Conv(4, (1,)), nn.Relu(), nn.Dropout(0.8)), (3, 2))
    (noise,) = (line for line in p.lines if isinstance(line, Input))
    assert noise.fresh
    assert noise.axes == (("t", 3),)
    assert noise.mean[0] == pytest.approx(0.8416212335729143, rel=1e-14)  # Phi^-1(0.8)
    assert squeeze(str(p)).splitlines()[-4:-1] == [
        "8 H h2[t] = step(z1)",
        "9 H h3[t] = h1*h2",
        "10 H h4[t] = 1.25*h3",
    ]


def test_dropout_that_does_nothing():
    for layer in (nn.Dropout(0.5, "test"), nn.Dropout(1.0)):
        assert text(nn.serial(nn.Dense(3), layer), 2) == text(nn.Dense(3), 2)


def test_functions_of_the_second_moment():
    lines = text(nn.serial(nn.Dense(4), nn.Hermite(3)), 2)
    assert "m1 = mean(square(g1))" in lines
    assert "hermite[degree=3](g1; m1)" in lines


def test_convolution_is_a_map_weights_and_a_sum():
    prints(
        nn.Conv(4, (3,), (2,), "SAME", W_std=3.0, b_std=0.1),
        (5, 2),
        """
        1 D u[t:5] = data with d channels
        2 D d1[t,t_f] = u mapped t -> [t:3,t_f:3]: (0, t0, t1, t1, ..., t4, 0)
        3 A W1[t_f:3] ~ N(0, 3/d), n4 x d, tangent 3
        4 G g1[t,t_f] = W1 @ d1
        5 G g2[t] = sum over t_f of g1
        6 G b1 ~ N(0, 0.01) in n4, tangent 1
        7 G g3[t] = g2 + b1
        outputs: g3
    """,
    )


def test_local_convolution_has_weights_and_biases_per_position():
    prints(
        nn.ConvLocal(4, (2,), b_std=0.1),
        (3, 2),
        """
        1 D u[t:3] = data with d channels
        2 D d1[t,t_f] = u mapped t -> [t:2,t_f:2]: (t0, t1, t1, t2)
        3 A W1[t_f:2,t:2] ~ N(0, 0.5/d), n4 x d, tangent 0.5
        4 G g1[t,t_f] = W1 @ d1
        5 G g2[t] = sum over t_f of g1
        6 A B1[t:2] ~ N(0, 0.01/one), n4 x one, tangent 0.01
        7 G one1[t:2] ~ N(1, 0) in one
        8 G g3[t] = B1 @ one1
        9 G g4[t] = g2 + g3
        outputs: g4
    """,
    )


def test_flatten_gives_weights_per_position():
    prints(
        nn.serial(nn.Flatten(), nn.Dense(4)),
        (2, 3, 5),
        """
        1 D u[y:2,x:3] = data with d channels
        2 A W1[y:2,x:3] ~ N(0, 0.166667/d), n4 x d, tangent 0.166667
        3 G g1[y,x] = W1 @ u
        4 G g2[x] = sum over y of g1
        5 G g3 = sum over x of g2
        outputs: g3
    """,
    )


@pytest.mark.parametrize(
    "net", [nn.Flatten(), nn.serial(nn.Conv(4, (1,)), nn.Flatten()), nn.Identity()], ids=repr
)
def test_what_is_no_vector_is_read_by_an_untrained_matrix(net):
    p = nn.program(net, (4, 2))
    readout = [line for line in p.lines if isinstance(line, Matrix)][-1]
    copies = 1 if net == nn.Identity() else 4
    assert (readout.name, readout.var, readout.tangent) == ("R1", 1 / copies, 0.0)
    assert p.outputs[0][0] == 1.0


def rows_of(net: nn.Layer, *shape: int) -> list[tuple]:
    return [line.rows for line in nn.program(net, shape).lines if isinstance(line, Map)]


def test_pooling_rows():
    assert rows_of(nn.AvgPool((2,)), 3, 1)[0] == (((0, 0.5), (1, 0.5)), ((1, 0.5), (2, 0.5)))
    same = ((0, 0.5), (1, 0.5)), ((2, 0.5),)
    assert rows_of(nn.AvgPool((2,), (2,), "SAME"), 3, 1)[0] == same
    assert rows_of(nn.AvgPool((2,), (2,), "SAME", normalize_edges=True), 3, 1)[0] == (same[0], ((2, 1.0),))
    assert rows_of(nn.SumPool((2,), (2,)), 4, 1)[0] == (((0, 1.0), (1, 1.0)), ((2, 1.0), (3, 1.0)))
    assert rows_of(nn.GlobalAvgPool(), 2, 1)[0] == (((0, 0.5), (1, 0.5)),)
    assert rows_of(nn.GlobalSumPool(), 2, 1)[0] == (((0, 1.0), (1, 1.0)),)


def test_index_slices_spatial_axes():
    p = nn.program(nn.serial(nn.Conv(2, (1, 1)), nn.Index([[None, None, None], [0, 4, 2], 1])), (5, 3, 2))
    name = p.outputs[0][1]
    assert p.vars[name].axes == (("y", 2),)
    assert text(nn.serial(nn.Dense(2), nn.Index(...)), 5, 2) == text(nn.Dense(2), 5, 2)


def test_resize_weights():
    assert resize_rows(4, 2, "nearest", True) == (((1, 1.0),), ((3, 1.0),))
    up = resize_rows(2, 4, "linear", True)
    assert up == (((0, 1.0),), ((0, 0.75), (1, 0.25)), ((0, 0.25), (1, 0.75)), ((1, 1.0),))
    down = np.zeros((2, 4))
    for position, row in enumerate(resize_rows(4, 2, "linear", True)):
        for index, weight in row:
            down[position, index] = weight
    np.testing.assert_allclose(down, np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7)
    p = nn.program(nn.ImageResize((-1, 3, -1, -1), "bilinear"), (5, 2, 4))
    assert p.vars[p.outputs[0][1]].axes == (("y", 3), ("x", 2))


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 2), (2, 3), (4, 2)])
def test_transposed_convolution_is_the_transpose_of_the_convolution(window, stride):
    """VALID: scattering x[i] w[o] to i stride + o, the filter reversed."""
    size = 4
    made = Transposed(size, window, stride, "VALID")
    rows = made.rows
    assert made.positions == size * stride + max(window - stride, 0)
    scattered = {(i * stride + o, window - 1 - o, i) for i in range(size) for o in range(window)}
    read = {(k // window, k % window, i) for k, row in enumerate(rows) for i, _ in row}
    assert read == scattered
    assert Transposed(size, window, stride, "SAME").positions == size * stride
    assert nn.program(nn.ConvTranspose(3, (window,), (stride,)), (size, 2)).outputs


def test_recurrence_is_one_scan():
    prints(
        nn.serial(nn.SimpleRnn(16, nn.Erf(), 1.0, 2.0, 0.5), nn.Dense(1)),
        (3, 2),
        """
        CDC n16 = 1, n1 = 0.0625
        1 D u[t:3] = data with d channels
        2 A W1 ~ N(0, 4/d), n16 x d, tangent 4
        3 G g1[t] = W1 @ u
        4 G b1 ~ N(0, 0.25) in n16, tangent 1
        5 G g2[t] = g1 + b1
        6 G zeros_n16 ~ N(0, 0) in n16
        7 A W2 ~ N(0, 1/n16), n16 x n16, tangent 1
        8 H h1s[t] = scan t:3 of state1 = zeros_n16, then h1; g2_t = g2[t]; h1s[t] = h1
        8.1 G g3 = W2 @ state1
        8.2 G g4 = g3 + g2_t
        8.3 H h1 = erf[a=1, b=1, c=0](g4)
        9 A W3 ~ N(0, 1/n16), n1 x n16, tangent 1
        10 G g5[t] = W3 @ h1s
        outputs: g5
    """,
    )


def test_recurrence_read_at_the_last_step():
    p = nn.program(nn.SimpleRnn(16, parameterization="raw", return_sequences=False, b_std=0.0), (3, 2))
    assert [type(line) for line in p.lines[-2:]] == [Scan, Map]
    assert p.vars[p.outputs[0][1]].axes == ()
    assert [line.tangent for line in p.lines if isinstance(line, Matrix)] == [1.0, 1.0, 1.0]  # U, b, W


def test_repeat_draws_new_weights():
    assert text(nn.repeat(nn.Dense(4), 3), 2) == text(nn.serial(nn.Dense(4), nn.Dense(4), nn.Dense(4)), 2)


def test_layers_are_values():
    net = nn.serial(nn.Dense(4, b_std=1), nn.LeakyRelu(0.1), nn.Polynomial([1, 2]))
    assert repr(net) == "serial(Dense(4, b_std=1.0), LeakyRelu(0.1), Polynomial((1.0, 2.0)))"
    assert pickle.loads(pickle.dumps(net)) == net
    assert hash(net) == hash(nn.serial(*net.layers))
    assert nn.Dense(4) != nn.Dense(5)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1), (2.5,), (True,)])
def test_shape_is_checked(shape):
    with pytest.raises(InputError, match="shape"):
        nn.program(nn.Dense(2), shape)


def test_net_is_checked():
    with pytest.raises(SpecError, match="net is"):
        nn.program(nn.Dense, (3,))
