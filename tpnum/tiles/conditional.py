"""Attention of a fixed number of heads: kernels given its random logits, sampled.

With logits scaled by 1/sqrt(n) and H heads the limit is a mixture of Gaussians: given the logits of all heads
at all inputs the output is a Gaussian process, whose kernel is that of a net with known weights.  The logits
of a layer are F Z G', Z standard normals, F F' and G G' the covariances of its queries and keys over the
positions of all inputs, given the weights of the layers before.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.arguments import whole
from tpnum.errors import InputError
from tpnum.nn.base import no_layer
from tpnum.nn.emitter import Heads
from tpnum.program import Program
from tpnum.program.text import made_by
from tpnum.tiles import extras
from tpnum.tiles.arguments import array_of
from tpnum.tiles.driver import kernel

MOST = 1 << 20
"""Samples that somebody may ask for."""


def conditional(
    net: nn.Layer, x: Any, *, samples: int = 16, seed: int = 0, mask_constant: float | None = None, **how: Any
) -> np.ndarray:
    """NNGP kernels of a net given the random logits of its attention with a fixed number of heads.

    Given the logits the limit is Gaussian with such a kernel; its law is the mixture over samples.  The mean
    over samples is the second moment of the output, that of infinitely many heads behind one layer.

    Parameters
    ----------
    net
        Layers of `tpnum.nn`, with `nn.GlobalSelfAttention` (or `nn.CrossAttention`) that has ``heads``.
    x
        Inputs (examples, *index axes, features), all together: their logits are correlated.
    samples, seed
        How many kernels, independent of each other, and the seed of their logits.
    mask_constant, how
        As in `tpnum.kernel`: ``dtype``, ``n_jobs``, ``tile``, ``rtol``, ``budget``.

    Returns
    -------
    ndarray
        (samples, examples, examples, *axes, *axes).

    Raises
    ------
    InputError
        A net without such attention, an argument that cannot be used.
    """
    if not isinstance(net, nn.Layer):
        raise InputError(f"net is {no_layer(net)}")
    count, start = whole(samples, "samples", 1, MOST), whole(seed, "seed", 0, 1 << 62)
    masks: list[np.ndarray] = []
    if mask_constant is not None:
        x, _, masks = extras.unpadded(x, None, mask_constant)
    array = array_of(x, "x")
    data = {"u": array} | ({"mask": masks[0]} if masks else {})
    found: list[Heads] = []
    program = nn.program(net, array.shape[1:], masked=bool(masks), heads=found)
    if not found:
        raise InputError(
            'net: it has no attention of a fixed number of heads (scaling="1/sqrt(n)", heads=4), and its '
            "kernel is one, that of tpnum.kernel"
        )
    made = []
    roots: dict[str, np.ndarray] = {}
    for sample in range(count):
        rng = np.random.default_rng((start, sample))
        given = dict(data)
        for layer in found:
            given |= _weights(program, layer, given, roots, rng, how)
        made.append(kernel(program, given, **how))
    return np.stack(made)


def _weights(
    program: Program,
    layer: Heads,
    given: dict[str, np.ndarray],
    roots: dict[str, np.ndarray],
    rng: np.random.Generator,
    how: dict[str, Any],
) -> dict[str, np.ndarray]:
    """The weights of a layer's heads, given those of the layers before."""
    queries, keys = (_root(program, name, given, roots, how) for name in (layer.queries, layer.keys))
    count = len(given["u"])
    sizes = [prod(size for _, size in program.vars[name].axes) for name in (layer.queries, layer.keys)]
    allowed = None
    if "mask" in given and sizes[1] == prod(given["mask"].shape[1:]):
        allowed = given["mask"].reshape(count, 1, sizes[1])
    made = {}
    for name in layer.weights:
        z = rng.standard_normal((queries.shape[1], keys.shape[1]))
        half = (queries @ z).reshape(count, sizes[0], -1)
        logits = half @ keys.reshape(count, sizes[1], -1).transpose(0, 2, 1)
        shape = (count, *(size for _, size in program.vars[name].axes))
        made[name] = layer.layer.weigh(logits, allowed).reshape(shape)
    return made


def _root(
    program: Program,
    name: str,
    given: dict[str, np.ndarray],
    roots: dict[str, np.ndarray],
    how: dict[str, Any],
) -> np.ndarray:
    """A root of the covariance of a vector over all positions of all inputs, (inputs and positions, rank).

    ``roots`` keeps those behind no random weights.
    """
    if name in roots:
        return roots[name]
    end = next(k for k, line in enumerate(program.lines, 1) if name in made_by(line))
    before = Program.from_lines(program.lines[:end], program.dims)
    before.output(before[name])
    known = {key: value for key, value in given.items() if key in before.vars}
    made = np.asarray(kernel(before, known, **how), dtype=np.float64)
    axes = (made.ndim - 2) // 2
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, made.ndim))
    size = made.shape[0] * prod(made.shape[2 : 2 + axes])
    values, vectors = np.linalg.eigh(made.transpose(order).reshape(size, size))
    found = np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
    if known.keys() <= {"u", "mask"}:
        roots[name] = found
    return found
