"""Closed-form dual activations: the table of families."""

from __future__ import annotations

import numpy as np

from tpnum.functions import Function
from tpnum.gauss.closed.form import ClosedForm
from tpnum.gauss.closed.piecewise import FAMILIES as _PIECEWISE
from tpnum.gauss.closed.smooth import FAMILIES as _SMOOTH

__all__ = ["FAMILIES", "ClosedForm", "known"]

FAMILIES: dict[str, ClosedForm] = _PIECEWISE | _SMOOTH


def known(f: Function, what: str, q: np.ndarray) -> np.ndarray:
    """What the family of f has as ``what`` at variances q, in float64; infinite where it is beyond that."""
    assert f.closed is not None
    family, params = f.closed
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(getattr(FAMILIES[family], what)(q, params), dtype=np.float64)
    except OverflowError:  # as Python's floats have it, of the parameters alone
        return np.full(q.shape, np.inf)
