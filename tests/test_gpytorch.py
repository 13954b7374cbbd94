"""The kernels inside GPyTorch, BoTorch and linear_operator, by the libraries themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.differences import slope
from tpnum import nn, predict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries' own
    torch = pytest.importorskip("torch")
    gpytorch = pytest.importorskip("gpytorch")
    from tpnum.interop.gpytorch import TPKernel
    from tpnum.interop.linear_operator import kernel_operator

pytestmark = pytest.mark.filterwarnings("ignore")
NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(1, W_std=0.8))
NAMES = ("layers[0].W_std", "layers[0].b_std", "layers[2].W_std")
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((12, 3)), RNG.standard_normal((4, 3))
Y = np.sin(X[:, 0]) + 0.1 * RNG.standard_normal(12)


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class GP(gpytorch.models.ExactGP):
    def __init__(self, kernel, noise=0.1):
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        likelihood.noise = noise
        super().__init__(torch.tensor(X), torch.tensor(Y), likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_marginal_likelihood_and_posterior(get):
    gp = GP(TPKernel(NET, get=get))
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(gp.likelihood, gp)
    value = len(X) * mll(gp(torch.tensor(X)), torch.tensor(Y))
    mine = predict.posterior(NET, X, Y, get=get, noise=0.1)
    assert value.item() == pytest.approx(mine.log_marginal(), rel=1e-10)
    value.backward()
    slopes = mine.log_marginal_gradient(tp.kernel(NET, X, get=get, wrt=NAMES).derivatives).kernel
    raw = gp.covar_module.raw_deviations
    np.testing.assert_allclose(raw.grad, slopes * torch.sigmoid(raw).detach().numpy(), rtol=1e-9)
    gp.eval()
    found, expected = gp(torch.tensor(X_NEW)), mine.predict(X_NEW, cov=True)
    np.testing.assert_allclose(found.mean.detach(), expected.mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance_matrix.detach(), expected.covariance, atol=1e-12)


def test_batches_of_examples_and_of_deviations():
    kernel = TPKernel(NET, batch_shape=torch.Size([2]))
    kernel.deviations = torch.tensor([[1.4, 0.3, 0.8], [1.0, 0.5, 1.2]])
    other = nn.serial(nn.Dense(8, W_std=1.0, b_std=0.5), nn.Relu(), nn.Dense(1, W_std=1.2))
    made = kernel(torch.tensor(X), torch.tensor(X_NEW)).to_dense().detach()
    for one, net in zip(made, (NET, other), strict=True):
        np.testing.assert_allclose(one, tp.kernel(net, X, X_NEW), rtol=1e-10)
    np.testing.assert_allclose(
        kernel(torch.tensor(X), diag=True).detach()[1], tp.kernel(other, X, diag=True), rtol=1e-10
    )
    pairs = kernel(torch.tensor(X[:4]), torch.tensor(X_NEW), diag=True).detach()
    np.testing.assert_allclose(pairs, made[:, :4].diagonal(dim1=1, dim2=2), rtol=1e-10)
    gp = GP(TPKernel(NET)).eval()
    wide = RNG.standard_normal((5, 2, 3))
    found, mine = gp(torch.tensor(wide)), predict.posterior(NET, X, Y, noise=0.1)
    for at in range(5):
        np.testing.assert_allclose(found.mean[at].detach(), mine.predict(wide[at]).mean, rtol=1e-8)
        np.testing.assert_allclose(
            found.covariance_matrix[at].detach(), mine.predict(wide[at], cov=True).covariance, atol=1e-10
        )


def test_kernels_compose_and_keep_their_dtype():
    kernel = gpytorch.kernels.ScaleKernel(TPKernel(NET, active_dims=(0, 2)) + gpytorch.kernels.RBFKernel())
    assert kernel(torch.tensor(X)).to_dense().shape == (12, 12)
    single = TPKernel(NET).float()
    made = single(torch.tensor(X, dtype=torch.float32)).to_dense()
    assert made.dtype == torch.float32
    made.sum().backward()
    np.testing.assert_allclose(made.detach(), tp.kernel(NET, X), rtol=1e-5)
    state = TPKernel(NET)
    state.load_state_dict(kernel.base_kernel.kernels[0].state_dict(), strict=False)
    prior = TPKernel(NET, deviation_prior=gpytorch.priors.GammaPrior(2.0, 1.0))
    assert [name for name, *_ in prior.named_priors()] == ["deviation_prior"]


def test_hyper_parameters_are_fitted():
    gp = GP(TPKernel(NET)).train()
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(gp.likelihood, gp)
    optimiser = torch.optim.LBFGS(gp.parameters(), max_iter=15, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -mll(gp(torch.tensor(X)), torch.tensor(Y))
        value.backward()
        return value

    before = loss().item()
    optimiser.step(loss)
    assert loss().item() < before - 0.1


@pytest.mark.parametrize("q", [1, 2])
def test_the_gradient_of_an_acquisition_function(q):
    pytest.importorskip("botorch")
    from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement, qUpperConfidenceBound
    from botorch.models import SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler

    gp = SingleTaskGP(torch.tensor(X), torch.tensor(Y)[:, None], covar_module=TPKernel(NET))
    gp.likelihood.noise = 0.05
    sampler = SobolQMCNormalSampler(torch.Size([32]), seed=0)
    made = [qUpperConfidenceBound(gp, 0.5, sampler), qLogExpectedImprovement(gp, 0.3, sampler)]
    if q == 1:
        made.append(LogExpectedImprovement(gp, 0.3))
    x = RNG.standard_normal((3, q, 3))
    towards = RNG.standard_normal(x.shape)
    for function in made:
        at = torch.tensor(x, requires_grad=True)
        (gradient,) = torch.autograd.grad(function(at).sum(), at)
        expected = slope(lambda t, f=function: f(torch.tensor(x + t * towards)).sum().item(), h=1e-4)
        assert (gradient * torch.tensor(towards)).sum().item() == pytest.approx(expected, rel=1e-5)


def test_the_next_point_of_bayesian_optimisation():
    pytest.importorskip("botorch")
    from botorch import fit_gpytorch_mll
    from botorch.acquisition import LogExpectedImprovement
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf

    gp = SingleTaskGP(torch.tensor(X), torch.tensor(Y)[:, None], covar_module=TPKernel(NET))
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(gp.likelihood, gp)
    fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": 10}})
    function = LogExpectedImprovement(gp, best_f=float(Y.max()))
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    torch.manual_seed(0)
    best, value = optimize_acqf(function, box, q=1, num_restarts=2, raw_samples=16, options={"maxiter": 20})
    anywhere = torch.rand(40, 1, 3) * 2 - 1
    assert value.item() >= function(anywhere).max().item()
    assert (best.abs() <= 1).all()


def test_an_operator_that_is_never_stored():
    k, mine = kernel_operator(NET, torch.tensor(X)), tp.kernel(NET, X)
    assert k.shape == (12, 12) and k.dtype == torch.float64
    np.testing.assert_allclose(k.to_dense(), mine, rtol=1e-12)
    np.testing.assert_allclose(
        k.add_jitter(0.1).solve(torch.tensor(Y)), np.linalg.solve(mine + 0.1 * np.eye(12), Y), rtol=1e-9
    )
    np.testing.assert_allclose(k.diagonal(), mine.diagonal(), rtol=1e-12)
    np.testing.assert_allclose(k[3, 4], mine[3, 4], rtol=1e-12)
    np.testing.assert_allclose(k[2:5, :3].to_dense(), mine[2:5, :3], rtol=1e-12)
    low = k.pivoted_cholesky(12, error_tol=1e-12)
    np.testing.assert_allclose(low @ low.mT, mine, atol=1e-10)
    cross = kernel_operator(NET, torch.tensor(X), torch.tensor(X_NEW), get="ntk")
    vector = RNG.standard_normal(4)
    np.testing.assert_allclose(
        cross @ torch.tensor(vector), tp.kernel(NET, X, X_NEW, get="ntk") @ vector, rtol=1e-11
    )
    np.testing.assert_allclose(cross.mT.to_dense(), tp.kernel(NET, X_NEW, X, get="ntk"), rtol=1e-11)


def test_an_operator_s_likelihood_is_differentiable():
    x = torch.tensor(X, requires_grad=True)
    deviations = torch.tensor([1.4, 0.3, 0.8], requires_grad=True)

    def likelihood(x, deviations):
        k = kernel_operator(NET, x, deviations=deviations).add_jitter(0.1)
        fit, logdet = k.inv_quad_logdet(torch.tensor(Y)[:, None], logdet=True)
        return -0.5 * (fit + logdet + 12 * np.log(2 * np.pi))

    value = likelihood(x, deviations)
    mine = predict.posterior(NET, X, Y, noise=0.1)
    assert value.item() == pytest.approx(mine.log_marginal(), rel=1e-8)
    value.backward()
    slopes = mine.log_marginal_gradient(tp.kernel(NET, X, wrt=NAMES).derivatives).kernel
    np.testing.assert_allclose(deviations.grad, slopes, rtol=1e-6)
    towards = RNG.standard_normal(X.shape)
    expected = slope(lambda t: predict.posterior(NET, X + t * towards, Y, noise=0.1).log_marginal())
    assert np.sum(x.grad.numpy() * towards) == pytest.approx(expected, rel=1e-6)
