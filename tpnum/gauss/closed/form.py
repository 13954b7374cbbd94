"""What a closed-form dual activation must provide: one record per family of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Profile = Callable[[np.ndarray, tuple[float, ...]], np.ndarray]


@dataclass(frozen=True)
class ClosedForm:
    """Closed forms for u ~ N(0, q), functions of (q, params), all float64 and elementwise in q.

    ``strip`` names the kernel of `tpnum.kernels`, "module.function", that maps the co-correlation of (u, v)
    to that of (f(u), f(v)) and to E f'(u) f'(v); ``profile`` gives the (k, N) row or column parameters it
    reads.
    """

    strip: str
    profile: Profile
    moment: Profile  # E f(u)^2
    mean: Profile  # E f(u)
    slope: Profile  # E f'(u) = E f(u) u / q
    slope_moment: Profile  # E f'(u)^2, the a.e. derivative
