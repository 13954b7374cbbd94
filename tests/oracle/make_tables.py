"""Write the tables of tests/data: `python -m tests.oracle.make_tables [group ...]` from the top folder.

Groups: `nets` (float64 inputs), `nets32` (float32 inputs), `reference` (the peer's fully connected nets,
decided by mpmath), `duals` (activations without closed forms), `one_layer` (nets of one layer of these).
All of it is deterministic.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from . import mp_net, quadrature

DATA = Path(__file__).resolve().parent.parent / "data"

ACTIVATIONS = {
    "relu": ({"op": "Relu"}, 2.0**0.5),
    "leaky": ({"op": "LeakyRelu", "alpha": 0.2}, 1.3),
    "abs": ({"op": "Abs"}, 1.0),
    "erf": ({"op": "Erf"}, 1.5),
    "gelu": ({"op": "Gelu"}, 1.5),
    "sin": ({"op": "Sin", "a": 1.1, "b": 0.9, "c": 0.2}, 1.3),
    "cos": ({"op": "Cos", "a": 1.2, "b": 0.7, "c": 0.3}, 1.3),
    "rbf": ({"op": "Rbf", "gamma": 0.4}, 1.1),
}
DEPTHS = (1, 3, 10, 30, 100)


def dense(width: int, w: float, b: float | None) -> dict:
    return {"op": "Dense", "out_dim": width, "W_std": w, "b_std": b, "parameterization": "ntk"}


def stack(layer: dict, w: float, b: float | None, depth: int, norm: bool = False) -> dict:
    """depth times (Dense, [LayerNorm,] layer), then Dense(1)."""
    middle = [{"op": "LayerNorm", "axis": [-1]}] if norm else []
    layers = [part for _ in range(depth) for part in (dense(64, w, b), *middle, layer)]
    return {"op": "serial", "layers": [*layers, dense(1, 1.0, b)]}


def residual_relu(blocks: int, b: float | None) -> dict:
    """Dense, then blocks of x + 0.5 Dense(relu(x)), relu, Dense."""
    body = {"op": "serial", "layers": [{"op": "Relu"}, dense(64, 0.5, b)]}
    block = {"op": "residual", "body": body, "shortcut": {"op": "Identity"}}
    return {
        "op": "serial",
        "layers": [dense(64, 2.0**0.5, b), *[block] * blocks, {"op": "Relu"}, dense(1, 1.0, b)],
    }


def inputs(dtype: type, homogeneous: bool) -> np.ndarray:
    """Eight vectors with all kinds of degeneracy, then the neighbours of the second one."""
    rng = np.random.default_rng(20)
    a, b, noise = rng.standard_normal((3, 10)).astype(dtype)
    axis = np.eye(10, dtype=dtype)
    distances = (
        (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2) if dtype is np.float64 else (1e-6, 1e-5, 1e-4, 1e-2)
    )
    rows = [a, b, a, 4 * a, 3 * b, -a, 2 * axis[0], axis[1]]
    rows += [b + d * np.linalg.norm(b) / np.linalg.norm(noise) * noise for d in distances]
    if homogeneous:
        rows += [1e-6 * a, 1e6 * b, -1e6 * axis[0]]
    return np.array(rows, dtype=dtype)


def nets() -> dict[str, dict[str, dict]]:
    """file -> {name: network}."""
    files: dict[str, dict[str, dict]] = {}
    for name, (layer, w) in ACTIVATIONS.items():
        for bias, b in (("nobias", None), ("bias", 0.1)):
            files.setdefault(name, {}).update({f"{bias}_d{n}": stack(layer, w, b, n) for n in DEPTHS})
    square, cubic = (
        {"op": "Polynomial", "coef": [0.1, 0.5, 0.3]},
        {"op": "Polynomial", "coef": [0.0, 0.6, 0.1, 0.05]},
    )
    files["poly"] = {f"square_d{n}": stack(square, 0.8, 0.1, n) for n in (1, 3, 5)}
    files["poly"] |= {f"cubic_d{n}": stack(cubic, 0.4, b, n) for n, b in ((1, None), (3, 0.1), (5, 0.1))}
    files["poly"] |= {"monomial3_d2": stack({"op": "Monomial", "degree": 3}, 0.6, None, 2)}
    files["other"] = {
        "exp_d2": stack({"op": "Exp", "a": 0.8, "b": 0.5}, 0.7, 0.1, 2),
        "gaussian_d3": stack({"op": "Gaussian", "a": 1.2, "b": -0.7}, 1.2, 0.1, 3),
        "gabor_d3": stack({"op": "Gabor"}, 1.5, 0.1, 3),
        "sigmoid_like_d3": stack({"op": "Sigmoid_like"}, 1.5, 0.2, 3),
        "expnormalized_d3": stack({"op": "ExpNormalized", "gamma": 1.2, "shift": -0.9}, 1.1, 0.1, 3),
        "rectmonomial2_d2": stack({"op": "RectifiedMonomial", "degree": 2}, 0.8, 0.1, 2),
        "rectmonomial3_d1": stack({"op": "RectifiedMonomial", "degree": 3}, 0.8, 0.1, 1),
        "sign_d2": stack({"op": "Sign"}, 1.0, 0.1, 2),
        "residual_relu_d30": residual_relu(30, None),
        "residual_relu_bias_d30": residual_relu(30, 0.1),
        "layernorm_relu_d3": stack({"op": "Relu"}, 1.5, 0.2, 3, norm=True),
        "layernorm_erf_d10": stack({"op": "Erf"}, 1.2, 0.1, 10, norm=True),
        "prod": {
            "op": "serial",
            "layers": [
                {
                    "op": "branches",
                    "join": "prod",
                    "branches": [stack({"op": "Erf"}, 1.2, 0.1, 1), stack({"op": "Relu"}, 1.2, 0.1, 1)],
                },
                dense(1, 1.1, 0.1),
            ],
        },
    }
    relu_after = [
        dense(64, 1.4, 0.1),
        {"op": "Relu"},
        {"op": "LayerNorm", "axis": [-1]},
        dense(64, 1.4, None),
    ]
    files["other"]["layernorm_after_relu"] = {
        "op": "serial",
        "layers": [*relu_after, {"op": "Relu"}, {"op": "LayerNorm", "axis": [-1]}, dense(1, 1.0, 0.1)],
    }
    wide = {"parameterization": "standard", "s": [1, 1]}
    files["other"]["standard_relu_d2"] = {
        "op": "serial",
        "layers": [
            dense(32, 1.3, 0.1) | wide,
            {"op": "Relu"},
            dense(16, 1.2, None) | wide,
            {"op": "Relu"},
            dense(1, 1.0, 0.2) | wide,
        ],
    }
    return files


def _write_nets(folder: str, dtype: type, keep) -> None:
    (DATA / folder).mkdir(parents=True, exist_ok=True)
    for file, group in nets().items():
        arrays: dict[str, np.ndarray] = {}
        for name, network in group.items():
            if not keep(file, name):
                continue
            homogeneous = (
                file in ("relu", "leaky", "abs") and name.startswith("nobias") or name == "residual_relu_d30"
            )
            x = inputs(dtype, homogeneous)
            k, t = mp_net.kernels(network, x, digits=80)
            arrays |= {
                f"{name}.x": x,
                f"{name}.nngp": np.array(k, dtype=float),
                f"{name}.ntk": np.array(t, dtype=float),
            }
            arrays[f"{name}.spec"] = np.array(json.dumps(network))
            print(folder, file, name, flush=True)
        if arrays:
            np.savez_compressed(DATA / folder / f"{file}.npz", **arrays)


def _write_reference() -> None:
    arrays = {}
    for path in sorted((DATA / "reference").glob("fcn_*.npz")):
        with np.load(path) as z:
            network, x = json.loads(str(z["spec"]))["network"], np.concatenate([z["x1"], z["x2"]])
        if "ElementwiseNumerical" in json.dumps(network):
            continue
        k, t = mp_net.kernels(network, x)
        arrays |= {
            f"{path.stem}.nngp": np.array(k, dtype=float),
            f"{path.stem}.ntk": np.array(t, dtype=float),
        }
    np.savez_compressed(DATA / "reference_mp.npz", **arrays)


VARIANCES = (
    (1e-6, 1e-6), (1e-6, 1.0), (1e-6, 100.0), (1e-3, 1e-3), (1e-3, 0.1), (1e-3, 25.0),
    (0.1, 0.1), (0.1, 1.0), (1.0, 1.0), (1.0, 4.0), (1.0, 100.0), (4.0, 4.0), (4.0, 25.0),
    (25.0, 25.0), (25.0, 100.0), (100.0, 100.0),
)  # fmt: skip
CORRELATIONS = (-1.0, -1 + 1e-6, -0.9, -0.3, 0.0, 0.3, 0.9, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0)


def _write_duals() -> None:
    arrays = {}
    for name in quadrature.FUNCTIONS:
        rows = []
        for n, (q1, q2) in enumerate(VARIANCES):
            root = q1 if q1 == q2 else float(np.sqrt(q1 * q2))
            for m, rho in enumerate(CORRELATIONS):
                value = quadrature.pair(name, q1, q2, rho * root)
                if (n + m) % 5 == 0:
                    finer = quadrature.pair(name, q1, q2, rho * root, order=24)
                    scale = [
                        quadrature.pair(name, q1, q1, q1)[k] * quadrature.pair(name, q2, q2, q2)[k]
                        for k in (0, 1)
                    ]
                    error = [abs(value[k] - finer[k]) / scale[k] ** 0.5 for k in (0, 1)]
                    if max(error) > 1e-14:
                        raise ArithmeticError(f"{name} at {q1, q2, rho} has not converged: {error}")
                rows.append((q1, q2, rho * root, *value))
        arrays[name] = np.array(rows)
        print(name, flush=True)
    np.savez_compressed(DATA / "duals.npz", **arrays)


def _write_one_layer() -> None:
    """(i, j, q_ij, E f f', E f' f') of some pairs of inputs behind a dense layer."""
    arrays = {}
    for case, how in quadrature.INPUTS.items():
        exact = [[Fraction(value) for value in row] for row in quadrature.inputs(*how).tolist()]
        n = len(exact)
        pairs = [(i, i) for i in range(n)] + [(0, j) for j in range(1, n)] + [(1, 3), (2, 4)]
        q = {
            (i, j): float(sum(a * b for a, b in zip(exact[i], exact[j], strict=True)) / 12) for i, j in pairs
        }
        for name in quadrature.FUNCTIONS:
            rows = []
            for i, j in pairs:
                root = float(np.sqrt(q[i, i] * q[j, j]))
                made = quadrature.pair(name, q[i, i], q[j, j], min(max(q[i, j], -root), root), order=12)
                rows.append((i, j, q[i, j], *made))
            arrays[f"{name} {case}"] = np.array(rows)
        print(case, flush=True)
    np.savez_compressed(DATA / "one_layer.npz", **arrays)


GROUPS = {
    "nets": lambda: _write_nets("nets", np.float64, lambda file, name: True),
    "nets32": lambda: _write_nets("nets32", np.float32, lambda file, name: "_d30" not in name),
    "reference": _write_reference,
    "duals": _write_duals,
    "one_layer": _write_one_layer,
}

if __name__ == "__main__":
    for group in sys.argv[1:] or GROUPS:
        GROUPS[group]()
