"""What the profile pass knows of a kernel matrix before any tile is computed: its diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues


def fill_diagonals(plan: Plan, profile: ProfileValues, outs: dict[str, np.ndarray], side: int = 0) -> None:
    """K(x, x) at every position of the output, (N, *axes): from the profile pass, no pair is looked at."""
    check_range(plan, (profile,), next(iter(outs.values())).dtype)
    program = plan.programs[side]
    own = program.vars[program.outputs[0][1]].axes
    for kind, out in outs.items():
        total = np.zeros(out.shape)
        for weight, node, at in plan.diagonals[side][kind]:
            place: tuple[Any, ...] = (slice(None), *(slice(None) if i is None else i for i in at))
            total[place] += weight * labels.lift(profile(node), profile.axes(node), own)
        out[...] = total


def exact_diagonals(plan: Plan, profile: ProfileValues) -> dict[str, np.ndarray]:
    """The diagonals (N,) of a symmetric matrix from the profile pass: no rounding of pairs."""
    made = {kind: np.zeros(profile.size) for kind in plan.entries}
    for kind, total in made.items():
        for weight, node, _ in plan.diagonals[0][kind]:
            total += weight * profile(node)
    return made


def check_range(plan: Plan, profiles: tuple[ProfileValues, ...], dtype: np.dtype) -> None:
    """Kernels that do not fit the dtype of the result are refused before any tile is computed."""
    limit = np.finfo(dtype).max
    for side, profile in enumerate(profiles):
        for kind, nodes in plan.diagonals[side].items():
            for _, node, _ in nodes:
                largest = float(np.max(profile(node)))
                if largest > float(limit):
                    raise LimitError(
                        f"x{side + 1}: the {kind} reaches {largest:.3g}, which overflows {dtype}; "
                        "scale the data down or ask for float64"
                    )
