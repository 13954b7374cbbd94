"""What the profile pass knows of a kernel matrix before any tile is computed: its diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import LimitError

if TYPE_CHECKING:
    from tpnum.plan.plan import Plan
    from tpnum.plan.profile import ProfileValues


def write_diagonal(plan: Plan, profile: ProfileValues, outs: dict[str, np.ndarray]) -> None:
    """The diagonal of a symmetric matrix from the profile pass: exact, no rounding of pairs."""
    for kind, out in outs.items():
        total = np.zeros(profile.size)
        for weight, node in plan.diagonals[0][kind]:
            total += weight * profile(node)
        np.fill_diagonal(out, total)


def check_range(plan: Plan, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype) -> None:
    """Kernels that do not fit the dtype of the result are refused before any tile is computed."""
    limit = np.finfo(dtype).max
    for side, profile in enumerate(profiles):
        for kind, nodes in plan.diagonals[side].items():
            for _, node in nodes:
                largest = float(np.max(profile(node)))
                if largest > float(limit):
                    raise LimitError(
                        f"x{side + 1}: the {kind} reaches {largest:.3g}, which overflows {dtype}; "
                        "scale the data down or ask for float64"
                    )
