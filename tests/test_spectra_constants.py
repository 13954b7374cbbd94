"""The constants of the conjugate kernel of every named function, by SciPy's adaptive quadrature."""

from __future__ import annotations

import numpy as np
import pytest

from tpnum import functions
from tpnum.errors import LimitError
from tpnum.gauss.moments import bound
from tpnum.spectra import constants

UNBOUNDED = {
    "cbrt": "the second moment of the slope of cbrt overflows",
    "log": "log is not defined on all of the line",
    "reciprocal": "reciprocal has no second moment",
    "sqrt": "sqrt is not defined on all of the line",
}
PARAMETERS = (
    ("abrelu", {"a": -0.3, "b": 1.2}), ("leaky_relu", {"alpha": 0.2}), ("elu", {"alpha": 2.5}),
    ("gelu", {"approximate": True}), ("erf", {"a": 1.5, "b": 3.0, "c": 0.2}),
    ("sin", {"a": 2.0, "b": 7.0, "c": 0.5}), ("gaussian", {"a": 2.0, "b": 0.2}), ("rbf", {"gamma": 5.0}),
    ("exp", {"a": 1.0, "b": 4.0}), ("rectified_monomial", {"degree": 2}), ("monomial", {"degree": 5}),
    ("polynomial", {"coef": (1.0, -2.0, 0.5)}), ("hermite", {"degree": 3}),
)  # fmt: skip
NAMES = (
    "abs", "arctan", "cos", "elu", "erf", "exp", "gabor", "gaussian", "gelu", "hard_tanh", "identity", "mish",
    "normal_cdf", "rbf", "relu", "selu", "sigmoid", "sigmoid_like", "sign", "silu", "sin", "softplus",
    "softsign", "square", "step", "tanh",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_constants_of_named_functions(name):
    by_quadrature(functions.get(name))


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS)
def test_constants_of_functions_with_parameters(name, parameters):
    by_quadrature(functions.get(name, **parameters))


def by_quadrature(given):
    from scipy.integrate import quad

    f = bound(given, (1.0,) * given.n_scalars)  # hermite takes its variance
    slope, ends = f.derivative(), sorted({-30.0, -6.0, 0.0, 6.0, 30.0, *map(float, f.kinks)})

    def mean(h):
        def weighed(z):
            return float(np.asarray(h(np.array([z])))[0]) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)

        pieces = zip(ends[:-1], ends[1:], strict=True)
        return sum(quad(weighed, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in pieces)

    found, first = constants(given), mean(f)
    eta = mean(lambda z: (f(z) - first) ** 2)
    assert found.mean == pytest.approx(first, rel=1e-10, abs=1e-10)
    assert found.eta == pytest.approx(eta, rel=1e-10)
    assert found.zeta == pytest.approx(mean(lambda z: z * f(z)) ** 2, rel=1e-10, abs=1e-12 * eta)
    assert found.a == pytest.approx(mean(lambda z: slope(z) ** 2) / eta, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_functions_without_such_constants_are_refused(name):
    with pytest.raises(LimitError, match=UNBOUNDED[name]):
        constants(name)
