"""Examples with fewer positions than the array: `mask_constant`, and the known scalars that it stands on.

A padded example has the kernels of the example without its padding, where nothing reads across its end; what
windows do there is read aloud by plain loops.
"""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tests.oracle.roads import CELLS, GENERAL, kernels
from tpnum import nn
from tpnum.errors import InputError, ProgramError, SpecError
from tpnum.nn.spec import from_spec

BOTH = ("nngp", "ntk")
PAD = 100.0
RNG = np.random.default_rng(11)
LENGTHS = (6, 1, 4, 3)
X = RNG.standard_normal((4, 6, 3))
for example, length in zip(X, LENGTHS, strict=True):
    example[length:, 1] = PAD
Y = RNG.standard_normal((3, 6, 3))
Y[0, 2:] = Y[1, 5:] = PAD


def lengths(x):
    return [int((~(one == PAD).any(axis=-1)).sum()) for one in x]


UNPADDED = {
    "convolutions": nn.serial(
        nn.Conv(8, (3,), padding="SAME", W_std=1.3, b_std=0.2),
        nn.Relu(),
        nn.Conv(8, (3,), padding="SAME", b_std=0.1, dilation=(2,)),
        nn.Erf(),
        nn.GlobalAvgPool(),
        nn.Dense(1, b_std=0.3),
    ),
    "a function that is not 0 at 0": nn.serial(
        nn.Dense(8, b_std=0.4),
        nn.Cos(),
        nn.Conv(8, (3,), padding="SAME"),
        nn.Exp(0.5, 0.5),
        nn.GlobalSumPool(),
        nn.Dense(1),
    ),
    "branches and norms": nn.serial(
        nn.Conv(8, (3,), padding="SAME"),
        nn.Residual(nn.serial(nn.Relu(), nn.LayerNorm(), nn.Dense(8, b_std=0.2))),
        nn.LayerNorm((1, -1)),
        nn.Relu(),
        nn.FanOut(2),
        nn.parallel(nn.Identity(), nn.Dense(4, b_std=0.1)),
        nn.FanInConcat(),
        nn.GlobalAvgPool(),
        nn.Dense(1),
    ),
    "noise": nn.serial(nn.Dense(8, b_std=0.1), nn.Relu(), nn.Dropout(0.7), nn.Dense(8), nn.GlobalAvgPool()),
    "local weights": nn.serial(
        nn.ConvLocal(8, (3,), padding="SAME", b_std=0.2), nn.Relu(), nn.GlobalSumPool(), nn.Dense(1)
    ),
    "standard parameterization": nn.serial(
        nn.Conv(8, (3,), padding="SAME", b_std=0.2, parameterization="standard"),
        nn.Relu(),
        nn.GlobalAvgPool(),
        nn.Dense(1, b_std=0.1, parameterization="standard"),
    ),
    "last state": nn.serial(
        nn.SimpleRnn(8, nn.Erf(), W_std=1.2, b_std=0.2, return_sequences=False), nn.Dense(1)
    ),
    "states averaged": nn.serial(
        nn.SimpleRnn(8, nn.Relu(), W_std=1.2, b_std=0.2),
        nn.Dense(8, b_std=0.1),
        nn.Relu(),
        nn.GlobalAvgPool(),
    ),
}


SAME_SHAPE = ("noise", "local weights")
"""Nets whose weights or noise are those of one shape: examples of equal lengths alone have a kernel."""


@pytest.mark.parametrize("name", UNPADDED)
def test_kernels_are_those_of_the_examples_without_their_padding(name):
    net, sizes = UNPADDED[name], lengths(X)
    made, own, diagonal = (
        tp.kernel(net, X, *more, get=BOTH, mask_constant=PAD, diag=not more) for more in ((Y,), (None,), ())
    )
    for get, kernel, matrix, entries in zip(BOTH, made, own, diagonal, strict=True):
        np.testing.assert_allclose(np.diagonal(matrix), entries, rtol=1e-12)
        for found, others in ((kernel, Y), (matrix, X)):
            for i, j in np.ndindex(found.shape):
                n, m = sizes[i], lengths(others)[j]
                if others is X and j <= i or name in SAME_SHAPE and (n != m or others is X):
                    continue
                truth = tp.kernel(net, X[i, None, :n], others[j, None, :m], get=get)[0, 0]
                np.testing.assert_allclose(found[i, j], truth, rtol=1e-12, err_msg=f"{get} {i} {j}")


def states(activation, **more):
    return nn.SimpleRnn(8, activation, 1.2, 0.9, 0.2, **more)


def both_ways(**more):
    branches = states(nn.Relu(), **more), states(nn.Relu(), reverse=True, **more)
    return nn.serial(nn.FanOut(2), nn.parallel(*branches), nn.FanInConcat())


RECURRENT = {
    "last": nn.serial(nn.Dense(8, b_std=0.3), nn.Relu(), states(nn.Relu(), return_sequences=False)),
    "first": nn.serial(states(nn.Erf(), return_sequences=False, reverse=True), nn.Dense(1)),
    "stacked": nn.serial(
        states(nn.Relu()), nn.LayerNorm(), states(nn.Relu()), nn.GlobalAvgPool(), nn.Dense(1)
    ),
    "both ends": nn.serial(both_ways(), both_ways(return_sequences=False), nn.Dense(1)),
    "behind windows": nn.serial(
        nn.Conv(8, (3,), padding="SAME"), nn.Relu(), states(nn.Tanh(), return_sequences=False), nn.Dense(1)
    ),
    "every": nn.serial(states(nn.Relu()), nn.Dense(1, b_std=0.1)),
}
ANYWHERE = ("last", "stacked")
"""Nets that know of positions their order alone: padding may be anywhere, and they stay compiled."""


@pytest.mark.parametrize(
    "name, where",
    [*((name, "end") for name in RECURRENT), ("first", "start"), *((name, "anywhere") for name in ANYWHERE)],
)
def test_recurrences_over_sequences_of_unequal_lengths_are_compiled(name, where, tmp_path):
    """NNGP and NTK of the sequences themselves, in float32 too, and by tiles of a store."""
    net, rng = RECURRENT[name], np.random.default_rng(12)
    x, y = (rng.standard_normal((n, 5, 3)) for n in (2, 1))
    for one, n in zip((*x, *y), (5, 2, 3), strict=True):
        gone = {"start": slice(0, 5 - n), "end": slice(n, 5), "anywhere": rng.permutation(5)[n:]}[where]
        one[gone] = PAD
    made, road = kernels(net, x, y, get=BOTH, mask_constant=PAD)
    own, _ = kernels(net, x, get=BOTH, mask_constant=PAD)
    assert road == CELLS
    kept = [[(one != PAD).all(axis=-1) for one in z] for z in (x, y)]
    for get, kernel, matrix in zip(BOTH, made, own, strict=True):
        for found, others, there in ((kernel, y, kept[1]), (matrix, x, kept[0])):
            for i, j in np.ndindex(found.shape[:2]):
                if others is x and j < i:
                    continue
                a, b = x[i, kept[0][i]], others[j, there[j]]
                truth = tp.kernel(net, a[None], None if others is x and i == j else b[None], get=get)[0, 0]
                block = found[i, j]
                if block.ndim:
                    assert not block[~kept[0][i]].any()
                    assert not block[:, ~there[j]].any()
                    block = block[np.ix_(kept[0][i], there[j])]
                np.testing.assert_allclose(block, truth, rtol=1e-11, err_msg=f"{get} {i} {j}")
    if name == "every":
        for found, kernel in zip(
            tp.kernel(net, x, y, get=BOTH, mask_constant=PAD, dtype="f4"), made, strict=True
        ):
            np.testing.assert_allclose(found, kernel, rtol=1e-5, atol=1e-6 * kernel.max())
    if name == "first":  # whose first example is whole and says nothing of the others
        stored = tp.kernel(net, x, y, get=BOTH, mask_constant=PAD, out=str(tmp_path / "K.npy"), n_jobs=1)
        for found, kernel in zip(stored, made, strict=True):
            np.testing.assert_allclose(found, kernel, rtol=1e-12)


def test_a_recurrence_over_sequences_of_unequal_lengths_of_many_steps():
    """No code is made per step: as long as it takes without padding."""
    rng = np.random.default_rng(13)
    x = rng.standard_normal((3, 300, 2))
    x[1, 40:] = x[2, 299:] = PAD
    net = nn.serial(states(nn.Relu(), return_sequences=False), nn.Dense(1))
    made, road = kernels(net, x, get=BOTH, mask_constant=PAD)
    assert road == CELLS
    for get, found in zip(BOTH, made, strict=True):
        truth = tp.kernel(net, x[:1], x[1:2, :40], get=get)[0, 0]
        np.testing.assert_allclose(found[0, 1], truth, rtol=1e-12)


SEEN = {
    "strides": [
        {"op": "Conv", "out_chan": 8, "filter_shape": [3], "strides": [2], "b_std": 0.2},
        {"op": "Relu"},
        {"op": "Conv", "out_chan": 8, "filter_shape": [2], "padding": "SAME", "b_std": 0.2},
        {"op": "Abs"},
    ],
    "dilation and circles": [
        {"op": "Conv", "out_chan": 8, "filter_shape": [3], "dilation": [2], "b_std": 0.2},
        {"op": "Cos"},
        {
            "op": "Conv",
            "out_chan": 8,
            "filter_shape": [4],
            "strides": [2],
            "padding": "CIRCULAR",
            "b_std": 0.1,
        },
        {"op": "Relu"},
    ],
    "windows": [
        {"op": "Dense", "out_dim": 8, "b_std": 0.2},
        {"op": "Relu"},
        {"op": "AvgPool", "window_shape": [2], "strides": [2]},
        {"op": "Dense", "out_dim": 8, "b_std": 0.2},
        {"op": "Erf"},
        {"op": "SumPool", "window_shape": [3], "padding": "SAME"},
        {"op": "Dense", "out_dim": 8, "b_std": 0.2},
    ],
    "edges": [
        {"op": "Dense", "out_dim": 8},
        {"op": "Relu"},
        {"op": "AvgPool", "window_shape": [3], "strides": [2], "padding": "SAME", "normalize_edges": True},
        {"op": "Dense", "out_dim": 8, "b_std": 0.2},
        {"op": "Relu"},
    ],
}
ENDS = {
    "averaged": [{"op": "GlobalAvgPool"}, {"op": "Dense", "out_dim": 1, "b_std": 0.1}],
    "flattened": [{"op": "Flatten"}, {"op": "Dense", "out_dim": 1, "b_std": 0.1}],
    "every position": [{"op": "Dense", "out_dim": 1, "b_std": 0.1}],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", SEEN)
def test_windows_keep_the_mask_of_their_middle(name, end):
    """Padding anywhere, against plain loops over positions; the compiled road against the general path."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5, 9, 2))
    x[rng.random((5, 9)) < 0.3] = np.nan
    spec = {"op": "serial", "layers": SEEN[name] + ENDS[end]}
    truth = loops.kernels(spec, x, np.nan)
    net = from_spec(spec)
    made, road = kernels(net, x, get=BOTH, mask_constant=np.nan)
    assert road == CELLS
    general, road = kernels(net, x, road=GENERAL, get=BOTH, mask_constant=np.nan)
    assert road == GENERAL
    cut = tp.kernel(net, x[:2], x[2:], get=BOTH, mask_constant=np.nan)
    for found, other, part, right in zip(made, general, cut, truth, strict=True):
        size = np.abs(right).max()
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13 * size)
        np.testing.assert_allclose(other, right, rtol=0, atol=1e-13 * size)
        np.testing.assert_allclose(part, right[:2, 2:], rtol=0, atol=1e-13 * size)


def test_images_of_any_shape_within_the_array():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, 5, 4, 2))
    x[0, 3:], x[1, :, 2:], x[2, 0, 0, 1] = PAD, PAD, PAD
    layers = [
        {"op": "Conv", "out_chan": 8, "filter_shape": [3, 2], "padding": "SAME", "b_std": 0.3},
        {"op": "LayerNorm", "axis": [1, -1]},
        {"op": "Relu"},
        {"op": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]},
        {"op": "Conv", "out_chan": 8, "filter_shape": [2, 1], "b_std": 0.1},
        {"op": "Relu"},
        *ENDS["averaged"],
    ]
    spec = {"op": "serial", "layers": layers}
    made = tp.kernel(from_spec(spec), x, get=BOTH, mask_constant=PAD)
    for found, right in zip(made, loops.kernels(spec, x, PAD), strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13 * right.max())


def test_positions_that_are_taken_and_resized_take_their_mask_along():
    """A slice leaves the net on the slice; a resized position is masked where all that it reads is."""
    tail = nn.serial(nn.Conv(8, (3,), padding="SAME", b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    sliced = nn.serial(nn.Index((slice(None), slice(0, 6, 2))), tail)
    for get in BOTH:
        made = tp.kernel(sliced, X, Y, get=get, mask_constant=PAD)
        np.testing.assert_allclose(
            made, tp.kernel(tail, X[:, ::2], Y[:, ::2], get=get, mask_constant=PAD), rtol=1e-13
        )
    wide = nn.serial(
        nn.ImageResize((-1, 12, -1), "nearest"), nn.Dense(8, b_std=0.2), nn.Relu(), nn.GlobalAvgPool()
    )
    made = tp.kernel(wide, X, Y, mask_constant=PAD)
    truth = tp.kernel(nn.serial(*wide.layers[1:]), X, Y, mask_constant=PAD)
    np.testing.assert_allclose(made, truth, rtol=1e-13)  # each position twice
    narrow = nn.serial(nn.ImageResize((-1, 3, -1), "linear", antialias=False), nn.Dense(1, b_std=1.0))
    entries = tp.kernel(narrow, X, mask_constant=PAD, diag=True)
    np.testing.assert_array_equal(entries != 0, [[n > 0, n > 2, n > 4] for n in LENGTHS])  # pairs (0, 1), ..


def test_an_array_without_padding_is_an_array_without_mask():
    net = UNPADDED["convolutions"]
    full = np.random.default_rng(3).standard_normal((3, 6, 3))
    np.testing.assert_array_equal(tp.kernel(net, full, mask_constant=PAD), tp.kernel(net, full))
    made = tp.kernel(net, full, Y, get=BOTH, mask_constant=PAD)  # padding in x2 alone
    for get, kernel in zip(BOTH, made, strict=True):
        truth = tp.kernel(net, full, Y[None, 0, :2], get=get)[:, 0]
        np.testing.assert_allclose(kernel[:, 0], truth, rtol=1e-12)
    flat = nn.serial(nn.Dense(8), nn.Relu(), nn.Dense(1))
    with pytest.raises(InputError, match="no index axis whose positions could be masked"):
        tp.kernel(flat, full[:, 0], mask_constant=PAD)


@pytest.mark.parametrize("constant", [PAD, np.nan, np.inf, 0])
def test_any_number_can_mark_padding(constant):
    net = UNPADDED["convolutions"]
    x = np.where(X == PAD, constant, X).astype(np.float32)
    made = tp.kernel(net, x, get="ntk", mask_constant=constant, dtype=np.float32)
    np.testing.assert_allclose(made, tp.kernel(net, X, get="ntk", mask_constant=PAD), rtol=2e-6)
    assert made.dtype == np.float32
    assert np.isnan(x).any() == np.isnan(constant)  # the caller's array is as it was


@pytest.mark.parametrize("constant", ["a", True, 1j, [1.0, 2.0]])
def test_what_is_no_number_marks_nothing(constant):
    net = nn.serial(nn.Conv(1, (3,)), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    with pytest.raises(InputError, match=r"mask_constant is .*: it must be a real number \(NaN and infinity"):
        tp.kernel(net, X, mask_constant=constant)


def test_nearly_equal_examples_keep_their_digits():
    net = nn.serial(nn.Conv(8, (3,), padding="SAME", b_std=0.2), nn.Relu(), nn.Flatten(), nn.Dense(1))
    x = np.stack([X[2], X[2]])
    near = x + 1e-9 * np.where(x == PAD, 0, np.random.default_rng(1).standard_normal(x.shape))
    made = tp.kernel(net, np.concatenate([x[:1], near]), get=BOTH, mask_constant=PAD)
    alone = tp.kernel(net, np.concatenate([x[:1], near])[:, :4], get=BOTH)
    for found, truth in zip(made, alone, strict=True):  # Flatten divides by all six positions
        np.testing.assert_allclose(found, truth * 4 / 6, rtol=1e-14)


# the program and its other readings -----------------------------------------------------------------------


def masked_program(net, x):
    mask = 1.0 - (x == PAD).any(axis=-1)
    given = {"u": np.where(mask[..., None] == 0, 0.0, x), "mask": mask}
    return nn.program(net, x.shape[1:], masked=True), given


@pytest.mark.parametrize("name", ["convolutions", "branches and norms", "last state"])
def test_the_program_says_the_same_to_every_reading(name):
    program, given = masked_program(UNPADDED[name], X)
    assert program == tp.Program.from_json(program.to_json())
    kernel = tp.kernel(UNPADDED[name], X, get=BOTH, mask_constant=PAD)
    by_name = tp.kernel(program, given, get=BOTH)
    lines = program.expand()
    split = {}
    for family, array in given.items():
        for place, one in zip(lines.parts[family].indices(), lines.parts[family].names, strict=True):
            split[one] = array[(slice(None), *place)]
    scalar = tp.kernel(lines, split, get=BOTH)
    for truth, found, other in zip(kernel, by_name, scalar, strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-14)
        np.testing.assert_allclose(other, truth, rtol=1e-12)
    law = tp.limit(program, data={key: x[3] for key, x in given.items()})
    value = sum(w * law.moment(v, v).value for w, v in program.outputs)
    np.testing.assert_allclose(value, kernel.nngp[3, 3], rtol=1e-12)


@pytest.mark.parametrize("name", ["convolutions", "states averaged"])
def test_wide_nets_approach_the_kernels(name):
    program, given = masked_program(UNPADDED[name], X[1:])
    tangents = program.tangent()
    right = tp.kernel(UNPADDED[name], X[1:], get=BOTH, mask_constant=PAD)
    means = {}
    for width, draws in ((32, 256), (64, 256)):
        found = []
        for seed in range(draws):
            sample = tp.simulate(tangents, width, seed + 10_000 * width, given)
            vectors = [sample.vector(v) for _, v in program.outputs]
            vectors += [sample.vector(tangents.tangents[v]) for _, v in program.outputs]
            found.append([v @ v.T / v.shape[-1] for v in vectors])
        means[width] = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / draws**0.5
    (small, low), (big, high) = means[32], means[64]
    z = (2 * big - small - np.stack(right)) / np.sqrt(4 * high**2 + low**2)
    assert np.abs(z).max() < 4.5


def test_known_scalars_in_a_program_of_ones_own():
    """Weights that are numbers of each example: x -> c x has c c' times the kernel; constants are for all."""
    p = tp.Program()
    u, c = p.data("u", channels="d"), p.scalars("c")
    p.output(((p.matrix("W", cols="d") @ u) * c).named("y"))
    x, a, b = RNG.standard_normal((3, 4)), np.array([1.0, -2.0, 0.0]), np.array([3.0, 1.0])
    made = tp.kernel(p, {"u": x, "c": a}, {"u": x[:2], "c": b}, get=BOTH)
    for found in made:
        np.testing.assert_allclose(found, np.outer(a, b) * (x @ x[:2].T) / 4, rtol=1e-14, atol=1e-15)
    q = tp.Program()
    g = q.vector("g")
    table = q.scalars("table", {"i": 2, "j": 3}, values=[[1, 0, 2], [0, -1, 0]])
    h = (g * table).named("h")
    assert "known" not in str(q)
    np.testing.assert_allclose(tp.limit(q).moment(h, g).value, [[1, 0, 2], [0, -1, 0]])
    np.testing.assert_array_equal(tp.simulate(q, 5).scalar(table), [[1, 0, 2], [0, -1, 0]])


# refusals -------------------------------------------------------------------------------------------------

NET = nn.serial(nn.Conv(4, (3,), padding="SAME"), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))


PROGRAM = nn.program(NET, (6, 3), masked=True)


def with_mask(shape):
    return {"u": X, "mask": np.ones(shape)}


def whole(x, example):
    x = x.copy()
    x[example] = PAD
    return x


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: tp.kernel(NET, whole(X, 2), mask_constant=PAD), InputError,
         "x1: all 6 positions of example 2 are masked, for each holds mask_constant = 100"),
        (lambda: tp.kernel(NET, X, whole(Y, 1), mask_constant=PAD), InputError,
         "x2: all 6 positions of example 1"),
        (lambda: tp.kernel(nn.Dense(1), X[:, 5], mask_constant=PAD), InputError,
         r"x1: example 1 holds mask_constant = 100, and shape \(4, 3\) has no index axis"),
        (lambda: tp.kernel(nn.Dense(1), X[:1, 0], mask_constant=-7.0), InputError,
         r"x1: shape \(1, 3\) has no index axis whose positions could be masked; leave mask_constant out"),
        (lambda: tp.kernel(NET, X[:, :0], mask_constant=PAD), InputError, r"x1: shape \(4, 0, 3\) is empty"),
        (lambda: tp.kernel(NET, X, mask_constant="pad"), InputError, "mask_constant is 'pad'"),
        (lambda: tp.kernel(NET, X, mask_constant=[1.0, 2.0]), InputError, "mask_constant is"),
        (lambda: tp.kernel(NET, np.where(X == PAD, np.nan, X), mask_constant=PAD), InputError,
         "x1: example 0 holds NaN|x1: example 1 holds NaN"),
        (lambda: tp.kernel(PROGRAM, with_mask((4, 6)), mask_constant=PAD),
         InputError, "mask_constant: it is for nets of layers"),
        (lambda: tp.kernel(PROGRAM, with_mask((4, 5))), InputError,
         r"x1: shape \(4, 5\) does not fit the scalars mask, which is \(examples, 6\)"),
        (lambda: tp.kernel(PROGRAM, with_mask(())), InputError,
         r"x1\['mask'\]: a number has no axis of examples"),
        (lambda: tp.kernel(PROGRAM, with_mask((3, 6))), InputError,
         "x1: its arrays must hold equally many examples"),
        (lambda: tp.kernel(PROGRAM, X), InputError, "scalars mask; give a dict"),
        (lambda: tp.limit(PROGRAM, data={"u": X[0], "mask": np.ones(5)}), InputError,
         r"data\['mask'\] has shape \(5,\); the scalars of one example are \(6,\)"),
        (lambda: tp.simulate(PROGRAM, 4, data=with_mask((4, 5))),
         InputError, r"data 'mask' has shape \(4, 5\), not \(examples,\) \+ \(6,\)"),
        (lambda: tp.kernel(nn.serial(nn.ConvTranspose(4, (3,)), nn.GlobalAvgPool()), X, mask_constant=PAD),
         SpecError, r"layers\[0\] \(ConvTranspose\): of what it makes no position"),
        (lambda: tp.kernel(nn.serial(nn.Conv(4, (3,)), nn.GlobalAvgPool()), X, mask_constant=PAD), InputError,
         r"x1: of example 1, which has 1 of 6 positions, none is left that layers\[1\] could average"),
        (lambda: tp.Program().scalars("c", {"t": 3}, values=[1.0, 2.0]), ProgramError,
         r"values of c have shape \(2,\); its axes have the sizes \(3,\)"),
        (lambda: tp.Program().scalars("c", values=np.nan), ProgramError, "values must be finite"),
    ],
)  # fmt: skip
def test_refusals(call, error, said):
    with pytest.raises(error, match=said) as found:
        call()
    assert str(found.value).count("\n") <= 1
