"""Arrays for the data and known scalars of a program, those split along a scan's axis included; lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import InputError
from tpnum.program.lines import Data, Known
from tpnum.program.parts import origins

if TYPE_CHECKING:
    from tpnum.program import Program


def bind(program: Program, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(N, *axes, channels) by data line of an unrolled program, (N, *axes) by known scalars, views."""
    split = origins(program)
    bound = {}
    for line in program.lines:
        if not isinstance(line, Data | Known):
            continue
        if line.name not in arrays:
            family, axes, at = split[line.name]
            index = tuple(at.get(axis, slice(None)) for axis, _ in axes)
            bound[line.name] = arrays[family][(slice(None), *index)]
        else:
            bound[line.name] = arrays[line.name]
    return bound


def squared_norms(x: np.ndarray) -> np.ndarray:
    """|x|^2 / channels in float64."""
    norms = np.einsum("...c,...c->...", x, x, dtype=np.float64)
    if not np.isfinite(norms).all():
        example = int(np.argwhere(~np.isfinite(norms))[0][0])
        raise InputError(f"x: the squared norm of input {example} overflows; scale the data down")
    return norms / x.shape[-1]
