"""Spectral laws: measures with densities and atoms, free convolutions, spectra of networks and kernels.

>>> mu = spectra.free_sum(spectra.semicircle(), spectra.atoms([-1, 1]))
>>> edges, density, quantile = mu.edges, mu.density(0.5), mu.quantile(0.9)
"""

from __future__ import annotations

import importlib
from typing import Any

# name -> the module that defines it
_HOMES = (
    dict.fromkeys(
        ("arcsine", "atoms", "empirical", "free_poisson", "marchenko_pastur", "semicircle"), "closed"
    )
    | dict.fromkeys(
        (
            "compression",
            "free_multiplicative_power",
            "free_power",
            "free_product",
            "free_sum",
            "fuss_catalan",
            "marchenko_pastur_map",
            "wigner_plus",
        ),
        "convolve",
    )
    | dict.fromkeys(("Atom", "Measure"), "base")
    | dict.fromkeys(("isometry", "jacobian", "weight_law"), "networks")
    | dict.fromkeys(("Roads", "roads"), "freeness")
    | dict.fromkeys(("Beside", "kernel_eigenvalues"), "gram")
    | dict.fromkeys(("constants", "kernel_spectrum"), "kernels")
    | {"Spectrum": "jacobi", "measure": "piecewise", "slope_law": "slopes"}
)

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tpnum.spectra' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tpnum.spectra.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
