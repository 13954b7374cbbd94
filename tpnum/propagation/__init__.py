"""Signal propagation: variances, correlations and gradients from layer to layer, and where they are
critical.
"""

from __future__ import annotations

from tpnum.propagation.batchnorm import batchnorm_growth
from tpnum.propagation.critical import Critical, critical
from tpnum.propagation.fixed import FixedPoint, fixed_points
from tpnum.propagation.initialise import initialise
from tpnum.propagation.phases import Phases, phases
from tpnum.propagation.signals import Row, Signals, signals

__all__ = [
    "Critical",
    "FixedPoint",
    "Phases",
    "Row",
    "Signals",
    "batchnorm_growth",
    "critical",
    "fixed_points",
    "initialise",
    "phases",
    "signals",
]
