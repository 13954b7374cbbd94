"""Every digit: nets against mpmath tables, activations without closed forms against panel quadrature."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import expit, ndtr

import tpnum as tp
from tests.oracle import mp_net, quadrature
from tests.oracle.designs import some_by_day
from tests.oracle.make_tables import ACTIVATIONS, DEPTHS
from tests.oracle.mp_duals import activation
from tpnum import nn

DATA = Path(__file__).parent / "data"
STACKS = list(ACTIVATIONS)


def names(folder: str) -> list[tuple[str, str]]:
    found = []
    for path in sorted((DATA / folder).glob("*.npz")):
        with np.load(path) as z:
            found += [(path.stem, key.removesuffix(".spec")) for key in z.files if key.endswith(".spec")]
    return found


@cache
def table(folder: str, file: str) -> dict[str, np.ndarray]:
    with np.load(DATA / folder / f"{file}.npz") as z:
        return {key: z[key] for key in z.files}


def relative_error(mine: np.ndarray, truth: np.ndarray) -> float:
    """The largest error in units of sqrt(K_ii K_jj)."""
    root = np.sqrt(truth.diagonal())
    return float(np.max(np.abs(mine.astype(float) - truth) / root[:, None] / root[None, :]))


def check(folder: str, file: str, name: str, bound: float, dtype: type) -> None:
    rows = table(folder, file)
    net, x = nn.from_spec(json.loads(str(rows[f"{name}.spec"]))), rows[f"{name}.x"]
    whole = tp.kernel(net, x, get=("nngp", "ntk"), dtype=dtype)
    block = tp.kernel(net, x[:5], x, get=("nngp", "ntk"), dtype=dtype)
    for which in ("nngp", "ntk"):
        truth, mine = rows[f"{name}.{which}"], getattr(whole, which)
        assert mine.dtype == dtype
        assert relative_error(mine, truth) <= bound, which
        patched = truth.copy()
        patched[:5] = getattr(block, which)
        assert relative_error(patched, truth) <= bound, f"{which} of two arrays"


def turn(first: int) -> Callable[[tuple[str, str]], bool]:
    """Of the stacks every depth of a function comes by day, in turn with biases and without."""

    def chosen(cell: tuple[str, str]) -> bool:
        file, (bias, _, depth) = cell[0], cell[1].partition("_d")
        if file not in STACKS:
            return True
        return (first + STACKS.index(file) + DEPTHS.index(int(depth)) + (bias == "bias")) % 2 == 0

    return chosen


@pytest.mark.parametrize(("file", "name"), some_by_day(names("nets"), turn(0)))
def test_net_float64(file, name):
    # sign after sign feels the fourth root of 1 - rho
    check("nets", file, name, 1e-11 if name == "sign_d2" else 1e-13, np.float64)


@pytest.mark.parametrize(("file", "name"), some_by_day(names("nets32"), turn(1)))
def test_net_float32(file, name):
    check("nets32", file, name, 1e-6, np.float32)


# tanh, sigmoid, .. ---------------------------------------------------------------------------------------


@cache
def dual_rows(name: str) -> tuple[np.ndarray, dict[float, tuple[float, float]]]:
    """(q1, q2, c, E f f', E f' f') and the two diagonals by variance."""
    with np.load(DATA / "duals.npz") as z:
        rows = z[name]
    return rows, {q1: (e, d) for q1, q2, c, e, d in rows if q1 == q2 == c}


@pytest.mark.parametrize("name", sorted(quadrature.FUNCTIONS))
def test_dual(name):
    rows, own = dual_rows(name)
    q1, q2, c, e, d = rows.T
    dual = tp.dual(name)
    scale = np.array([np.sqrt(own[a][0] * own[b][0]) for a, b in zip(q1, q2, strict=True)])
    assert np.max(np.abs(dual(q1, q2, c) - e) / scale) < 1e-10
    scale = np.array([np.sqrt(own[a][1] * own[b][1]) for a, b in zip(q1, q2, strict=True)])
    bound = np.full_like(scale, 1e-10)
    if name in ("selu", "hard_tanh"):  # f' jumps: E f'f' moves like sqrt(1 - rho), and c is itself rounded
        gap = 1 - np.abs(c) / np.sqrt(q1 * q2)
        bound += 4e-16 / np.sqrt(np.maximum(gap, 4e-16)) * (q1 != q2)
        bound += 4e-16 / np.sqrt(np.maximum(gap, 4e-16)) * (gap > 1e-15)
    assert np.max(np.abs(dual.derivative(q1, q2, c) - d) / scale / bound) < 1


@cache
def one_layer() -> dict[str, np.ndarray]:
    with np.load(DATA / "one_layer.npz") as z:
        return dict(z)


@pytest.mark.parametrize("case", quadrature.INPUTS)
@pytest.mark.parametrize("name", sorted(quadrature.FUNCTIONS))
def test_net_without_closed_form(name, case):
    """One hidden layer through tp.kernel: unequal variances, exactly collinear and nearly equal inputs."""
    x = quadrature.inputs(*quadrature.INPUTS[case])
    k = tp.kernel(nn.serial(nn.Dense(8), nn.Elementwise(name), nn.Dense(1)), x, get=("nngp", "ntk"))
    q = x @ x.T / 12
    nngp, ntk = k.nngp.copy(), k.ntk.copy()
    for row, column, c, e, d in one_layer()[f"{name} {case}"]:
        i, j = int(row), int(column)
        nngp[i, j] = nngp[j, i] = e
        ntk[i, j] = ntk[j, i] = e + c * d
    assert relative_error(k.nngp, nngp) < 1e-10
    # where f' jumps the oracle's own c, a rounded product, moves E f'f' by sqrt(eps) at |rho| = 1
    jumps = name in ("selu", "hard_tanh")
    sure = np.abs(q) < (1 - 1e-9 if jumps else 2) * np.sqrt(np.outer(q.diagonal(), q.diagonal()))
    assert relative_error(np.where(sure, k.ntk, ntk), ntk) < 1e-10
    assert relative_error(k.ntk, ntk) < (1e-7 if jumps else 1e-10)


def plain_relu(u):
    return np.maximum(u, 0.0)


def test_relu_through_the_general_path():
    """A user's function with its kink declared needs no closed form: 1e-10."""
    q1, q2, rho = np.meshgrid(
        [1e-4, 1.0, 9.0], [1.0, 4.0], [-1.0, -0.9, 0.0, 0.5, 0.999, 1 - 1e-9, 1.0], indexing="ij"
    )
    for a, b, r in zip(q1.flat, q2.flat, rho.flat, strict=True):
        c = r * np.sqrt(a * b)
        p = tp.Program()
        x, y = p.vectors("x", "y", mean=[0, 0], cov=[[a, c], [c, b]])
        hx, hy = (tp.apply(plain_relu, v, kinks=(0.0,)) for v in (x, y))
        mine = tp.limit(p).moment(hx, hy).value
        theta = np.arccos(r)
        truth = np.sqrt(a * b) * (np.sin(theta) + (np.pi - theta) * r) / (2 * np.pi)
        assert abs(mine - truth) < 1e-10 * np.sqrt(a * b) / 2, (a, b, r)


def test_relu_through_the_general_path_of_nets():
    """The same through tp.kernel: values and, without a derivative given, the NTK by Price's theorem."""
    x = np.random.default_rng(5).standard_normal((6, 4))
    x = np.vstack([x, 2 * x[:1], -x[1:2]])

    def net(layer):
        return nn.serial(nn.Dense(4, W_std=1.4, b_std=0.1), layer, nn.Dense(4, W_std=1.2), layer, nn.Dense(1))

    mine = tp.kernel(net(nn.Elementwise(plain_relu, kinks=(0.0,))), x, get=("nngp", "ntk"))
    for k, truth in zip(mine, tp.kernel(net(nn.Relu()), x, get=("nngp", "ntk")), strict=True):
        assert relative_error(k, truth) < 1e-10


# the oracles themselves ------------------------------------------------------------------------------------


def test_panel_quadrature_against_sums():
    """The table's rule against closed forms and against the trapezoidal rule, which knows no panels."""
    q1, q2, c = 2.0, 3.0, -1.7
    z, step = np.linspace(-10, 10, 801, retstep=True)
    w = np.exp(-z * z / 2) * step / np.sqrt(2 * np.pi)
    u = np.sqrt(q1) * z[:, None] + 0 * z
    v = c / np.sqrt(q1) * z[:, None] + np.sqrt(q2 - c * c / q1) * z
    weight = w[:, None] * w
    for name, f in (
        ("tanh", np.tanh),
        ("softplus", lambda t: np.logaddexp(0, t)),
        ("silu", lambda t: t * expit(t)),
    ):
        assert quadrature.pair(name, q1, q2, c)[0] == pytest.approx(np.sum(weight * f(u) * f(v)), rel=1e-12)
    # E |clip| parts in one dimension: E hard_tanh^2 = E min(u^2, 1)
    s = np.sqrt(q1)
    inside = 2 * ndtr(1 / s) - 1
    square = q1 * (inside - 2 / s * np.exp(-1 / (2 * q1)) / np.sqrt(2 * np.pi)) + 1 - inside
    assert quadrature.pair("hard_tanh", q1, q1, q1) == (
        pytest.approx(square, rel=1e-13),
        pytest.approx(inside, rel=1e-13),
    )


CLOSED = [
    ({"op": "Erf", "a": 1.2, "b": 0.8, "c": 0.1}, lambda u: 1.2 * mp.erf(0.8 * u) + 0.1),
    ({"op": "Sigmoid_like"}, lambda u: mp.erf(u / mpf("2.4020563531719796")) / 2 + 0.5),
    ({"op": "Gelu"}, lambda u: u * mp.ncdf(u)),
    ({"op": "Sin", "a": 1.1, "b": 0.9, "c": 0.2}, lambda u: 1.1 * mp.sin(0.9 * u + 0.2)),
    ({"op": "Cos", "a": 1.1, "b": 0.9, "c": 0.2}, lambda u: 1.1 * mp.cos(0.9 * u + 0.2)),
    ({"op": "Rbf", "gamma": 0.5}, lambda u: mp.sqrt(2) * mp.sin(u + mp.pi / 4)),
    ({"op": "Exp", "a": 0.7, "b": 0.6}, lambda u: 0.7 * mp.exp(0.6 * u)),
    ({"op": "Gaussian", "a": 1.2, "b": -0.7}, lambda u: 1.2 * mp.exp(-0.7 * u * u)),
    ({"op": "Gabor"}, lambda u: mp.exp(-u * u) * mp.sin(u)),
    ({"op": "Polynomial", "coef": [0.1, 0.5, 0.3, 0.2]}, lambda u: 0.1 + u * (0.5 + u * (0.3 + u * 0.2))),
    ({"op": "Monomial", "degree": 4}, lambda u: u**4),
    ({"op": "Relu"}, lambda u: max(u, 0)),
    ({"op": "ABRelu", "a": -0.3, "b": 1.2}, lambda u: 1.2 * max(u, 0) - 0.3 * min(u, 0)),
    ({"op": "RectifiedMonomial", "degree": 2}, lambda u: max(u, 0) ** 2),
    ({"op": "RectifiedMonomial", "degree": 3}, lambda u: max(u, 0) ** 3),
    ({"op": "Hermite", "degree": 3}, lambda u: (u**3 - 3 * u) / mp.sqrt(6)),
]


@pytest.mark.parametrize(("layer", "f"), CLOSED, ids=lambda v: v.get("op", "") if isinstance(v, dict) else "")
def test_closed_forms(layer, f):
    """mpmath's side: mean and second moment by quadrature, the derivative kernel by Price's theorem."""
    with mp.workdps(25):
        form = activation(layer)
        q = mpf(1 if layer["op"] == "Hermite" else 1.7)

        def law(g):
            z = [-14, -3, 0, 3, 14]
            return mp.quad(lambda t: g(mp.sqrt(q) * t) * mp.npdf(t), z)

        tol = mpf(10) ** -13  # the functions' decimal constants are floats
        assert abs(form.mean(q) - law(f)) < tol
        assert abs(form.pair(q, q, q) - law(lambda u: f(u) ** 2)) < tol
        for c in (mpf("-0.9"), mpf("0.2"), mpf("1.3")):
            slope = mp.diff(lambda t: form.pair(mpf("1.3"), q + 1, t), c)
            assert abs(slope - form.slope(mpf("1.3"), q + 1, c)) < tol


def test_oracle_refuses_what_it_cannot_know():
    dense, relu = {"op": "Dense", "out_dim": 4, "W_std": 1.0}, {"op": "Relu"}
    twice = {"op": "residual", "body": {"op": "Identity"}, "shortcut": {"op": "Identity"}}
    for layers in ([relu], [dense, relu, relu], [dense, twice]):
        with pytest.raises(ValueError, match="oracle"):
            mp_net.kernels({"op": "serial", "layers": layers}, np.eye(2))
