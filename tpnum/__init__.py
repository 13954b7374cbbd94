"""tpnum: tensor programs at infinite width.

A neural computation is a straight-line tensor program (`Program`, or a net of `tpnum.nn`); everything
else is a reading of it: `limit` gives its law at infinite width, `kernel` the same for every pair of inputs
of a data set, `simulate` a sample at finite width. Names are loaded on first use: importing tpnum imports
neither numba nor scipy.

Sources are named briefly: SL is G. Yang, Scaling limits of wide neural networks with weight sharing
(arXiv:1902.04760), TP2 and TP3 are his Tensor programs II (arXiv:2006.14548) and III (arXiv:2009.10685).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = ("errors", "functions", "nn", "predict", "spectra")

# fmt: off
_FUNCTIONS = (
    "abs", "arctan", "cbrt", "cos", "elu", "erf", "exp", "gabor", "gaussian",
    "gelu", "hard_tanh", "identity", "log", "maximum", "minimum", "mish", "normal_cdf", "rbf",
    "reciprocal", "relu", "selu", "sigmoid", "sigmoid_like", "sign", "silu", "sin", "softplus",
    "softsign", "sqrt", "square", "step", "tanh",
)
# fmt: on

# public name -> the module that defines it
_HOMES = {
    "Program": "tpnum.program",
    "apply": "tpnum.program",
    "mean": "tpnum.program",
    "simulate": "tpnum.program",
    "simulations": "tpnum.finite.simulations",
    "compare": "tpnum.finite.compare",
    "limit": "tpnum.limits.limit",
    "ntk": "tpnum.limits.ntk",
    "expect": "tpnum.gauss.expect",
    "dual": "tpnum.gauss.dual",
    "kernel": "tpnum.tiles.driver",
    "plan": "tpnum.tiles.costs.planning",
    "conditional": "tpnum.tiles.conditional",
    "signals": "tpnum.propagation.signals",
    "critical": "tpnum.propagation.critical",
    "phases": "tpnum.propagation.phases",
    "initialise": "tpnum.propagation.initialise",
    "spectrum": "tpnum.spectra.lanczos",
    "amp": "tpnum.messages.amp",
    "open": "tpnum.tiles.stores.stored",
    "operator": "tpnum.tiles.products",
    "factor": "tpnum.tiles.factor",
    "random_features": "tpnum.tiles.features",
}
_HOMES |= dict.fromkeys(_FUNCTIONS, "tpnum.functions")

# a star import must not shadow builtins
__all__ = sorted((set(_HOMES) | set(_MODULES)) - {"abs", "open"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tpnum.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'tpnum' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "abs", "open", "__version__", "__doc__"})
