"""The kernels inside PyMC, by the library itself."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.differences import slope
from tpnum import nn, predict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library's own
    pm = pytest.importorskip("pymc")
    import pytensor
    import pytensor.tensor as pt

    from tpnum.interop.pymc import TPCovariance

pytestmark = pytest.mark.filterwarnings("ignore")
NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(1, W_std=0.8))
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((12, 3)), RNG.standard_normal((4, 3))
Y = np.sin(X[:, 0]) + 0.1 * RNG.standard_normal(12)


def test_values_and_gradients():
    w, x = pt.scalar("w", dtype="float64"), pt.matrix("x", dtype="float64")
    covariance = TPCovariance(3, NET, get="ntk", deviations={"layers[0].W_std": w})
    weights, towards = RNG.standard_normal((12, 4)), RNG.standard_normal((12, 3))
    total = (weights * covariance(x, X_NEW)).sum() + covariance(x, diag=True).sum()
    made = pytensor.function([w, x], [total, *pytensor.grad(total, [w, x])])(1.1, X)

    def at(w, x):
        net = nn.serial(nn.Dense(8, W_std=w, b_std=0.3), nn.Relu(), nn.Dense(1, W_std=0.8))
        whole = np.sum(weights * tp.kernel(net, x, X_NEW, get="ntk"))
        return whole + tp.kernel(net, x, get="ntk", diag=True).sum()

    assert made[0] == pytest.approx(at(1.1, X), rel=1e-12)
    assert made[1] == pytest.approx(slope(lambda t: at(1.1 + t, X)), rel=1e-9)
    assert np.sum(made[2] * towards) == pytest.approx(slope(lambda t: at(1.1, X + t * towards)), rel=1e-8)


def test_a_model():
    with pm.Model() as model:
        w = pm.HalfNormal("w", 1.0)
        covariance = TPCovariance(3, NET, deviations={"layers[0].W_std": w, "b_std": 0.4})
        gp = pm.gp.Marginal(cov_func=covariance + pm.gp.cov.Constant(0.1))
        gp.marginal_likelihood("y", X=X, y=Y, sigma=np.sqrt(0.1), jitter=0.0)
    point = {"w_log__": np.log(1.2)}
    net = nn.serial(nn.Dense(8, W_std=1.2, b_std=0.4), nn.Relu(), nn.Dense(1, W_std=0.8))
    k = tp.kernel(net, X) + 0.1
    found = predict.Posterior.init(k, Y, 0.1)
    logp = model.compile_logp(vars=model.observed_RVs)(point)
    assert logp == pytest.approx(found.log_marginal(), rel=1e-10)
    slopes = tp.kernel(net, X, wrt="layers[0].W_std").derivatives
    expected = 1.2 * found.log_marginal_gradient(slopes).kernel[0]
    assert model.compile_dlogp()(point)[0] == pytest.approx(expected + 1.0 - 1.2**2, rel=1e-8)
    with model:
        best = pm.find_MAP(progressbar=False)
        mean, variance = gp.predict(X_NEW, point=best, diag=True)
    assert mean.shape == variance.shape == (4,) and (variance > 0).all()


def test_a_net_as_it_is():
    np.testing.assert_allclose(TPCovariance(3, NET)(X).eval(), tp.kernel(NET, X), rtol=1e-12)
    some = TPCovariance(3, NET, active_dims=[0, 2])(X).eval()
    np.testing.assert_allclose(some, tp.kernel(NET, X[:, [0, 2]]), rtol=1e-12)
