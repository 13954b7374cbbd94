"""The kernels inside tinygp and GPJax, by the libraries themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.differences import slope
from tpnum import nn, predict
from tpnum.interop.function import KernelFunction

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries' own
    jax = pytest.importorskip("jax")
    tinygp = pytest.importorskip("tinygp")
    gpjax = pytest.importorskip("gpjax")
    import jax.numpy as jnp
    import optax

    import tpnum.interop.gpjax as for_gpjax
    import tpnum.interop.tinygp as for_tinygp
    from tpnum.interop.jax import kernel_function

pytestmark = pytest.mark.filterwarnings("ignore")
NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(1, W_std=0.8))
F = KernelFunction.of(NET, "ntk")
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((12, 3)), RNG.standard_normal((4, 3))
Y = np.sin(X[:, 0]) + 0.1 * RNG.standard_normal(12)


@pytest.fixture(autouse=True)
def double():
    jax.config.update("jax_enable_x64", True)  # everywhere: callbacks have threads of their own
    yield
    jax.config.update("jax_enable_x64", False)


def test_values_under_jit_and_vmap():
    k, diagonal = kernel_function(F)
    np.testing.assert_allclose(jax.jit(k)(F.values, X, X_NEW), tp.kernel(NET, X, X_NEW, get="ntk"))
    np.testing.assert_allclose(diagonal(F.values, X), tp.kernel(NET, X, get="ntk", diag=True))
    wide = RNG.standard_normal((3, 2, 5, 3))
    made = jax.vmap(jax.vmap(k, (None, 0, None)), (None, 0, None))(F.values, wide, X)
    np.testing.assert_allclose(made, F(F.values, wide, X), rtol=1e-12)
    single = k(jnp.float32(F.values), jnp.float32(X), jnp.float32(X))
    assert single.dtype == jnp.float32


@pytest.mark.parametrize("at", [0, 1, 2])
def test_gradients_by_every_argument(at):
    k, diagonal = kernel_function(F)
    given = [F.values, X, X_NEW]
    weights, towards = RNG.standard_normal((12, 4)), RNG.standard_normal(given[at].shape)

    def along(t):
        return np.sum(weights * F(*(a + t * towards if at == i else a for i, a in enumerate(given))))

    made = jax.jit(jax.grad(lambda *a: jnp.sum(weights * k(*a)), argnums=at))(*given)
    assert np.sum(made * towards) == pytest.approx(slope(along), rel=1e-8)
    if at < 2:
        made = jax.grad(lambda *a: jnp.sum(diagonal(*a)), argnums=at)(*given[:2])
        np.testing.assert_allclose(made, F.pull_diagonal(np.ones(12), *given[:2])[at], rtol=1e-12)


def test_gradients_one_example_at_a_time():
    """vmap of grad: no argument's gradient is summed over the batch."""
    k, _ = kernel_function(F)

    def value(x, values):
        return k(values, x[None], jnp.asarray(X_NEW))[0].sum()

    made = jax.vmap(jax.grad(value, argnums=(0, 1)), (0, None))(jnp.asarray(X), jnp.asarray(F.values))
    for i in range(3):
        parts = F.pull(np.ones((1, 4)), F.values, X[i : i + 1], X_NEW)
        np.testing.assert_allclose(made[0][i], parts[1][0], rtol=1e-12)
        np.testing.assert_allclose(made[1][i], parts[0], rtol=1e-12)


def test_tinygp():
    kernel = for_tinygp.TPKernel(NET, get="ntk")
    mine = predict.posterior(NET, X, Y, get="ntk", noise=0.1)

    @jax.jit
    def likelihood(deviations, x):
        gp = tinygp.GaussianProcess(for_tinygp.TPKernel(NET, get="ntk", deviations=deviations), x, diag=0.1)
        return gp.log_probability(Y)

    value, (by_deviations, by_x) = jax.value_and_grad(likelihood, argnums=(0, 1))(kernel.deviations, X)
    assert value == pytest.approx(mine.log_marginal(), rel=1e-11)
    slopes = mine.log_marginal_gradient(tp.kernel(NET, X, get="ntk", wrt=F.names).derivatives).kernel
    np.testing.assert_allclose(by_deviations, slopes, rtol=1e-9)
    towards = RNG.standard_normal(X.shape)
    expected = slope(
        lambda t: predict.posterior(NET, X + t * towards, Y, get="ntk", noise=0.1).log_marginal()
    )
    assert np.sum(by_x * towards) == pytest.approx(expected, rel=1e-7)
    found = tinygp.GaussianProcess(kernel, X, diag=0.1).condition(Y, X_NEW).gp
    np.testing.assert_allclose(found.loc, mine.predict(X_NEW).mean, rtol=1e-9)
    np.testing.assert_allclose(found.variance, mine.predict(X_NEW).variance, rtol=1e-6)
    both = (kernel + 2.0 * tinygp.kernels.ExpSquared())(X, X_NEW)
    expected = tp.kernel(NET, X, X_NEW, get="ntk") + 2.0 * tinygp.kernels.ExpSquared()(X, X_NEW)
    np.testing.assert_allclose(both, expected, rtol=1e-12)
    assert kernel.evaluate(X[0], X[1]) == pytest.approx(tp.kernel(NET, X[:2], get="ntk")[0, 1], rel=1e-12)


def test_gpjax():
    kernel = for_gpjax.TPKernel(NET)
    k = tp.kernel(NET, X)
    np.testing.assert_allclose(kernel.gram(X).as_matrix(), k, rtol=1e-10)
    np.testing.assert_allclose(kernel.cross_covariance(X, X_NEW), tp.kernel(NET, X, X_NEW), rtol=1e-10)
    np.testing.assert_allclose(kernel.diagonal(X).as_matrix(), np.diag(k.diagonal()), rtol=1e-10)
    assert kernel(X[0], X[1]) == pytest.approx(k[0, 1], rel=1e-10)
    some = for_gpjax.TPKernel(NET, active_dims=[0, 2])
    np.testing.assert_allclose(some.gram(X).as_matrix(), tp.kernel(NET, X[:, [0, 2]]), rtol=1e-10)
    data = gpjax.Dataset(X=jnp.asarray(X), y=jnp.asarray(Y)[:, None])
    prior = gpjax.gps.Prior(mean_function=gpjax.mean_functions.Zero(), kernel=kernel)
    posterior = prior * gpjax.likelihoods.Gaussian(obs_stddev=jnp.asarray(np.sqrt(0.1)))
    value = gpjax.objectives.conjugate_mll(posterior, data)
    mine = predict.posterior(NET, X, Y, noise=0.1)
    assert value == pytest.approx(mine.log_marginal(), rel=1e-4)  # with a jitter of its own
    fitted, history = gpjax.fit(
        model=posterior, objective=lambda p, d: -gpjax.objectives.conjugate_mll(p, d), train_data=data,
        optim=optax.adam(0.05), num_iters=15, key=jax.random.key(0), verbose=False,
    )  # fmt: skip
    assert history[-1] < history[0]
