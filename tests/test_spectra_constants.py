"""The constants of the conjugate kernel of every named function, by SciPy's adaptive quadrature."""

from __future__ import annotations

import numpy as np
import pytest

from tpnum import functions
from tpnum.errors import LimitError
from tpnum.spectra import constants

UNBOUNDED = ("cbrt", "log", "reciprocal", "sqrt")
NAMES = (
    "abs", "arctan", "cos", "elu", "erf", "exp", "gabor", "gaussian", "gelu", "hard_tanh", "identity", "mish",
    "normal_cdf", "rbf", "relu", "selu", "sigmoid", "sigmoid_like", "sign", "silu", "sin", "softplus",
    "softsign", "square", "step", "tanh",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_constants_of_named_functions(name):
    from scipy.integrate import quad

    f = functions.get(name)
    slope, ends = f.derivative(), sorted({-13.0, 0.0, 13.0, *map(float, f.kinks)})

    def mean(h):
        def weighed(z):
            return float(np.asarray(h(np.array([z])))[0]) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)

        pieces = zip(ends[:-1], ends[1:], strict=True)
        return sum(quad(weighed, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in pieces)

    found, first = constants(name), mean(f)
    eta = mean(lambda z: (f(z) - first) ** 2)
    assert found.mean == pytest.approx(first, abs=1e-10)
    assert found.eta == pytest.approx(eta, rel=1e-10)
    assert found.zeta == pytest.approx(mean(lambda z: z * f(z)) ** 2, rel=1e-10, abs=1e-12)
    assert found.a == pytest.approx(mean(lambda z: slope(z) ** 2) / eta, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_functions_without_such_constants_are_refused(name):
    with pytest.raises(LimitError):
        constants(name)
