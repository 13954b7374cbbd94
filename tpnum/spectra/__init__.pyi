"""What `__init__.py` loads on first use, as type checkers and editors see it."""

from tpnum.spectra.base import Atom as Atom, Measure as Measure
from tpnum.spectra.closed import (
    arcsine as arcsine,
    atoms as atoms,
    empirical as empirical,
    free_poisson as free_poisson,
    marchenko_pastur as marchenko_pastur,
    semicircle as semicircle,
)
from tpnum.spectra.convolve import (
    compression as compression,
    free_multiplicative_power as free_multiplicative_power,
    free_power as free_power,
    free_product as free_product,
    free_sum as free_sum,
    fuss_catalan as fuss_catalan,
    marchenko_pastur_map as marchenko_pastur_map,
    wigner_plus as wigner_plus,
)
from tpnum.spectra.freeness import Roads as Roads, roads as roads
from tpnum.spectra.gram import Beside as Beside, kernel_eigenvalues as kernel_eigenvalues
from tpnum.spectra.jacobi import Spectrum as Spectrum
from tpnum.spectra.kernels import constants as constants, kernel_spectrum as kernel_spectrum
from tpnum.spectra.networks import isometry as isometry, jacobian as jacobian, weight_law as weight_law
from tpnum.spectra.slopes import slope_law as slope_law
from tpnum.spectra.piecewise import measure as measure

__all__: list[str]
