"""What lines do to arrays (examples, axes.., n): softmax, products, a user's functions, axes aligned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.functions.checked import check_elementwise, checked
from tpnum.program.lines import Axes, Var

WORK = 1 << 31
"""Multiplications in one call, which nobody can interrupt."""


def softmax(logits: np.ndarray, over: tuple[int, ...], weights: np.ndarray | None = None) -> np.ndarray:
    """weights exp(logits) / (their sum over some axes), zero where that is; nothing overflows."""
    if weights is not None:
        logits = np.where(weights > 0.0, logits, -np.inf)
    largest = logits.max(axis=over, keepdims=True)
    made = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    if weights is not None:
        made = made * weights
    total = made.sum(axis=over, keepdims=True)
    return np.asarray(made / np.where(total == 0.0, 1.0, total))


def product(h: np.ndarray, a: np.ndarray) -> np.ndarray:
    """h @ a^T, some rows of a at a time: nobody can interrupt a product."""
    work = a.shape[-1] * (h.size // max(1, h.shape[-1]))
    rows = max(1, WORK // max(1, work))
    if rows >= a.shape[-2]:
        return h @ a.swapaxes(-1, -2)
    parts = [h @ a[..., begin : begin + rows, :].swapaxes(-1, -2) for begin in range(0, a.shape[-2], rows)]
    return np.concatenate(parts, axis=-1)


def pointwise(f: Callable[..., Any], name: str, arrays: list[np.ndarray]) -> np.ndarray:
    """A user's function on arrays as flat ones of equal lengths, checked: (.., points)."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    points = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
    made = checked(f, name, points)
    check_elementwise(f, *points, name=name, made=made)
    return made


def root_of(cov: np.ndarray) -> np.ndarray:
    """A root of a positive semidefinite matrix, triangular where it is regular."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def union(variables: list[Var]) -> Axes:
    return tuple(dict.fromkeys(a for v in variables for a in v.axes))


def aligned(value: np.ndarray, var: Var, axes: Axes) -> np.ndarray:
    """(examples, axes..., n) with the given axes, size 1 where the variable lacks one; n = 1 for scalars."""
    tail = value.shape[-1:] if var.kind != "S" else (1,)
    own = [a for a, _ in var.axes]
    order = [own.index(a) for a, _ in axes if a in own]
    value = value.reshape(value.shape[0], *(n for _, n in var.axes), *tail)
    value = value.transpose(0, *(1 + k for k in order), value.ndim - 1)
    return value.reshape(value.shape[0], *(n if a in own else 1 for a, n in axes), *tail)
