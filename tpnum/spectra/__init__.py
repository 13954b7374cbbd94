"""Spectral laws: measures with densities and atoms, free convolutions, spectra of networks and kernels.

>>> mu = free_sum(semicircle(), atoms([-1, 1]))
>>> mu.edges, mu.density(0.5), mu.quantile(0.9)
"""

from __future__ import annotations

from tpnum.spectra.closed import arcsine, atoms, empirical, free_poisson, marchenko_pastur, semicircle
from tpnum.spectra.convolve import (
    compression,
    free_multiplicative_power,
    free_power,
    free_product,
    free_sum,
    fuss_catalan,
    marchenko_pastur_map,
    wigner_plus,
)
from tpnum.spectra.measure import Atom, Measure
from tpnum.spectra.table import measure

__all__ = [
    "Atom",
    "Measure",
    "arcsine",
    "atoms",
    "compression",
    "empirical",
    "free_multiplicative_power",
    "free_poisson",
    "free_power",
    "free_product",
    "free_sum",
    "fuss_catalan",
    "marchenko_pastur",
    "marchenko_pastur_map",
    "measure",
    "semicircle",
    "wigner_plus",
]


def __dir__() -> list[str]:
    return __all__
