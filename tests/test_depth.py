"""Deep programs: nothing recurses over the lines, whatever the stack allows, in any thread."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time

import numpy as np
import pytest

import tpnum as tp
from tpnum import functions, nn
from tpnum.errors import InputError, LimitError, ProgramError, SpecError
from tpnum.evaluate.plan import make_plan
from tpnum.law.worklist import once

X = np.random.default_rng(0).standard_normal((3, 4))


def mlp(depth: int, layer: type = nn.Tanh) -> nn.Layer:
    return nn.serial(*([nn.Dense(1, 1.2, 0.1), layer()] * depth), nn.Dense(1))


def residual(depth: int) -> nn.Layer:
    block = nn.serial(
        nn.FanOut(2),
        nn.parallel(nn.Identity(), nn.serial(nn.Relu(), nn.Dense(1, 0.3, 0.1))),
        nn.FanInSum(),
    )
    return nn.serial(nn.Dense(1), *([block] * depth), nn.Dense(1))


def recurrent(b: float | None = 0.2, every: bool = False) -> nn.Layer:
    return nn.serial(nn.SimpleRnn(8, activation=nn.Erf(), b_std=b, return_sequences=every), nn.Dense(1))


# --- right values


def relu_kernels(x: np.ndarray, layers: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """(nngp, ntk) of a relu net with weight and bias variances by layer: the recursion written out."""
    k = x @ x.T / x.shape[1]
    theta = np.zeros_like(k)
    for number, (w, b) in enumerate(layers):
        if number:
            root = np.sqrt(np.diag(k))
            angle = np.arccos(np.clip(k / np.outer(root, root), -1, 1))
            np.fill_diagonal(angle, 0.0)
            slope = (np.pi - angle) / (2 * np.pi)
            k = np.outer(root, root) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
            theta = theta * slope
        theta = w * theta + w * k + b
        k = w * k + b
    return k, theta


def residual_kernels(x: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    k = x @ x.T / x.shape[1]
    theta = k.copy()
    for _ in range(depth):
        root = np.sqrt(np.diag(k))
        angle = np.arccos(np.clip(k / np.outer(root, root), -1, 1))
        np.fill_diagonal(angle, 0.0)
        slope = (np.pi - angle) / (2 * np.pi)
        dual = np.outer(root, root) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        theta = theta + 0.09 * (slope * theta + dual) + 0.01
        k = k + 0.09 * dual + 0.01
    return k, theta + k


@pytest.mark.parametrize("depth", [2, 50, 400])
def test_deep_nets_have_the_kernels_of_the_recursion(depth: int) -> None:
    layers = [(1.44, 0.01)] * depth + [(1.0, 0.0)]
    nngp, ntk = relu_kernels(X, layers)
    found = tp.kernel(mlp(depth, nn.Relu), X, get=("nngp", "ntk"))
    np.testing.assert_allclose(found[0], nngp, rtol=1e-6)
    np.testing.assert_allclose(found[1], ntk, rtol=1e-6)
    nngp, ntk = residual_kernels(X, depth)
    found = tp.kernel(residual(depth), X, get=("nngp", "ntk"))
    np.testing.assert_allclose(found[0], nngp, rtol=1e-9)
    np.testing.assert_allclose(found[1], ntk, rtol=1e-9)


def erf_recurrence(x: np.ndarray, b: float) -> tuple[float, float]:
    """(nngp, ntk) of the last state of one sequence: E erf^2 and E erf'^2 in closed form."""
    k = theta = 0.0
    for t, row in enumerate(x):
        fed = float(row @ row) / len(row)
        if t:
            slope = 4 / np.pi / np.sqrt(1 + 4 * k)
            moment = 2 / np.pi * np.arcsin(2 * k / (1 + 2 * k))
            k, theta = moment + fed + b, slope * theta + moment + fed + b
        else:
            k = theta = fed + b
    slope = 4 / np.pi / np.sqrt(1 + 4 * k)
    moment = 2 / np.pi * np.arcsin(2 * k / (1 + 2 * k))
    return moment, slope * theta + moment


@pytest.mark.parametrize("steps", [3, 40, 1000])
def test_long_recurrences(steps: int) -> None:
    x = np.random.default_rng(steps).standard_normal((1, steps, 2))
    nngp, ntk = tp.kernel(recurrent(), x, get=("nngp", "ntk"))
    right = erf_recurrence(x[0], 0.04)
    np.testing.assert_allclose([nngp[0, 0], ntk[0, 0]], right, rtol=1e-9)
    if steps <= 40:
        p = nn.program(recurrent(), (steps, 2))
        (_, y), *_ = p.outputs
        for road in ("tangent", "backward"):
            assert tp.ntk(p, y, road=road, data={"u": x[0]}).value == pytest.approx(right[1], rel=1e-9)


# --- little stack, several threads

SMALL = """
import sys, pickle, copy
import numpy as np, tpnum as tp
from joblib import Parallel, delayed
from tpnum import nn
from tests.test_depth import X, mlp, recurrent, residual

def everything(depth):
    out = []
    for net in (mlp(depth), mlp(depth, nn.Relu), residual(depth)):
        out += [float(k[0, 1]) for k in tp.kernel(net, X, get=("nngp", "ntk"))]
    p = nn.program(mlp(depth), (4,))
    (_, y), *_ = p.outputs
    law = tp.limit(p, data={"u": X[0]})
    out += [float(law.moment(y, y)), float(tp.ntk(p, y, data={"u": X[0]}))]
    assert len(str(p)) > depth and tp.Program.from_json(p.to_json()) == pickle.loads(pickle.dumps(p)) == p
    assert copy.deepcopy(mlp(depth)) == nn.from_spec(mlp(depth).to_spec()) and len(p.tangent().lines) > depth
    q = p.copy()
    q.backward({q[y]: q.vector("seed", dim=q.vars[y].dim)})
    out.append(float(tp.limit(q, data={"u": X[0]}).moment(y, y)))
    x = np.ones((2, depth, 2)) / np.arange(1.0, depth + 1)[:, None]
    out += [float(k[0, 1]) for k in tp.kernel(recurrent(), x, get=("nngp", "ntk"))]
    tp.simulate(p, {d: 4 for d in p.dims}, data={"u": X[0]})
    return out

first = everything(3)  # everything is compiled and imported
deep = everything(90)
sys.setrecursionlimit(200)
again = Parallel(n_jobs=2, backend="threading")(delayed(everything)(d) for d in (90, 3))
assert sys.getrecursionlimit() == 200
assert again == [deep, first]
print("same")
"""


def test_little_stack_and_several_threads() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, timeout=280)
    assert done.stdout == "same\n", done.stderr[-2000:]


# --- the price of depth


def test_planning_is_linear_in_depth() -> None:
    def price(make, depth: int) -> float:
        p = nn.program(make(depth), (4,))
        best = np.inf
        for _ in range(2):
            begin = time.process_time()
            make_plan((p, p), ("nngp", "ntk"))
            best = min(best, time.process_time() - begin)
        return best

    for make in (mlp, residual):
        assert price(make, 200) < 4 * 4 * price(make, 50), make


# --- the list of what waits


def test_answers_that_wait_for_one_another() -> None:
    memo: dict[int, int] = {}
    asked = []

    def fib(n: int) -> int:
        asked.append(n)
        return n if n < 2 else once(memo, n - 1, fib, n - 1) + once(memo, n - 2, fib, n - 2)

    a, b = 0, 1
    for _ in range(5000):
        a, b = b, a + b
    assert once(memo, 5000, fib, 5000) == a
    assert len(asked) < 5 * 5000


def test_an_answer_that_needs_itself() -> None:
    memo: dict[int, int] = {}

    def round_and_round(n: int) -> int:
        return once(memo, (n + 1) % 50, round_and_round, (n + 1) % 50)

    with pytest.raises(LimitError, match="depends on itself"):
        once(memo, 0, round_and_round, 0)


# --- nesting


def test_series_inside_series_are_one() -> None:
    net: nn.Layer = nn.Dense(1, 1.2, 0.1)
    for _ in range(400):
        net = nn.serial(net, nn.Relu(), nn.Dense(1, 1.2, 0.1))
    assert (
        hash(net) == hash(copy.deepcopy(net)) and nn.from_spec(json.loads(json.dumps(net.to_spec()))) == net
    )
    nngp, _ = relu_kernels(X, [(1.44, 0.01)] * 401)
    np.testing.assert_allclose(tp.kernel(net, X), nngp, rtol=1e-6)


def nested(depth: int, op: str) -> dict:
    spec: dict = {"op": "Dense", "out_dim": 1}
    for _ in range(depth):
        spec = {
            "serial": {"op": "serial", "layers": [spec]},
            "repeat": {"op": "repeat", "layer": spec, "n": 1},
            "residual": {"op": "residual", "body": spec},
            "branches": {"op": "branches", "join": "sum", "branches": [spec]},
            "Elementwise": {"op": "Elementwise", "fn": spec},
        }[op]
    return spec


@pytest.mark.parametrize("op", ["serial", "repeat", "residual", "branches", "Elementwise"])
@pytest.mark.parametrize("depth", [500, 100_000])
def test_nested_specs_are_refused(op: str, depth: int) -> None:
    with pytest.raises(SpecError, match="deep"):
        nn.from_spec(nested(depth, op))


def test_nested_layers() -> None:
    assert nn.program(nn.serial(nn.Dense(1), nn.from_spec(nested(15, "residual"))), (3,)).outputs
    net: nn.Layer = nn.Relu()
    with pytest.raises(SpecError, match="repeat: .*deep"):
        for _ in range(100):
            net = nn.repeat(net, 1)


def test_nested_program_texts_are_refused() -> None:
    p = tp.Program()
    p.vector("x")
    doc = json.loads(p.to_json())
    for _ in range(300):
        doc["parts"] = {"x": doc["parts"]}
    for text in ("[" * 100_000, json.dumps(doc)):
        with pytest.raises(ProgramError, match="deep"):
            tp.Program.from_json(text)
    with pytest.raises(ProgramError, match="finite real number"):
        tp.Program.from_json(p.to_json().replace("1.0", str(10**400)))


def test_nets_without_end_are_refused() -> None:
    with pytest.raises(SpecError, match="at most"):
        tp.kernel(nn.repeat(nn.serial(nn.Dense(1), nn.Relu()), 10**9), X)


# --- numbers that ask for too much


@pytest.mark.parametrize("value", [1e308, 10**400, 1e200, float("inf"), -1.0])
@pytest.mark.parametrize("name", ["W_std", "b_std"])
def test_deviations_without_a_variance(name: str, value: float) -> None:
    for make in (nn.Dense, nn.Conv, nn.SimpleRnn):
        given = {"filter_shape": (3,)} if make is nn.Conv else {}
        with pytest.raises(SpecError, match=f"{make.__name__}: {name} is"):
            make(1, **given, **{name: value})
    with pytest.raises(SpecError, match=f"Dense\\): {name} is"):
        nn.from_spec({"op": "serial", "layers": [{"op": "Dense", "out_dim": 1, name: value}]})


def test_degrees() -> None:
    for make in (
        lambda: nn.Monomial(10**6),
        lambda: nn.Monomial(10**5000),
        lambda: nn.RectifiedMonomial(10**6),
        lambda: nn.ElementwiseNumerical("tanh", 10**6),
        lambda: nn.Polynomial([1.0] * 10**6),
    ):
        with pytest.raises(SpecError, match="1000|1001") as refused:
            make()
        assert len(str(refused.value)) < 200
    with pytest.raises(ProgramError, match="degree of monomial"):
        functions.get("monomial", degree=10**6)


def test_samples_beyond_the_memory() -> None:
    p = tp.Program()
    p.mean(tp.tanh(p.matrix("W") @ p.vector("x")) ** 2)
    for method in ("auto", "ensemble"):
        with pytest.raises(InputError, match="samples = 1000000000000 would take .* GiB"):
            tp.limit(p, method=method, samples=10**12)
