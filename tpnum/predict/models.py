"""Regression with the kernels of a net: states that hold the data, are made once and asked often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpnum.arguments import choice, flag, real_array
from tpnum.arguments import jobs as jobs_of
from tpnum.errors import InputError
from tpnum.predict import arguments
from tpnum.predict.dynamics import Dynamics, Loss, loss_of
from tpnum.predict.filters import Descent, Filter, Flow, momentum_of, rate_of
from tpnum.predict.folds import Folds, Gradient
from tpnum.predict.gaussian import Posterior, Prediction
from tpnum.predict.savable import Savable
from tpnum.predict.source import Source, blocks, examples
from tpnum.tiles.arguments import KINDS


@dataclass(frozen=True, eq=False)
class Regression(Savable):
    """A Gaussian process whose covariance is a kernel of a net, given data.  Made by `posterior`."""

    source: Source
    get: str
    x: np.ndarray
    state: Posterior

    def __repr__(self) -> str:
        shown = f"noise={self.noise:.4g}" if np.ndim(self.noise) == 0 else "a noise per example"
        return f"<Regression on {len(self.x)} examples with the {self.get} of {self.source.of!r}, {shown}>"

    @property
    def noise(self) -> float | np.ndarray:
        """The variance of the noise, given or fitted."""
        return self.state.noise

    @property
    def jitter(self) -> float:
        """What had to be added to the diagonal of a singular kernel."""
        return self.state.jitter

    def predict(self, x: Any, *, cov: bool = False, noise: Any = 0.0) -> Prediction:
        """Mean and variance of f at new examples, and their covariance with ``cov``.

        ``noise`` is added to the variance: that of observations there, a number or one per example.
        """
        new = examples(x, "x", self.x)
        added = arguments.variance(noise, len(new))
        if flag(cov, "cov"):
            across = self.source(new, self.x, self.get)
            found = self.state.compute(across, self.source(new, None, self.get), cov=True)
            assert found.covariance is not None
            joint = found.covariance + np.diag(np.broadcast_to(added, len(new)))
            return Prediction(found.mean, found.variance + added, joint)
        own = self.source(new, None, self.get, diag=True)
        parts = [
            self.state.compute(self.source(new[at], self.x, self.get), own[at])
            for at in blocks(len(new), self.source.rows(len(self.x)))
        ]
        mean, variance = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return Prediction(mean, variance + added)

    def sample(self, x: Any, draws: int = 1, seed: Any = None) -> np.ndarray:
        """Draws of f at new examples, jointly: (draws, M) or (draws, M, outputs)."""
        return self.predict(x, cov=True).sample(draws, seed)

    def add(self, x: Any, y: Any, noise: Any = None) -> Regression:
        """The regression given further examples, without starting again."""
        new = examples(x, "x", self.x)
        across = self.source(new, self.x, self.get)
        state = self.state.add(across, self.source(new, None, self.get), y, noise)
        return replace(self, x=np.concatenate([self.x, new]), state=state)

    def log_marginal(self) -> float:
        """log p(y), summed over outputs."""
        return self.state.log_marginal()

    def log_marginal_gradient(self, dk: Any = (), *, wrt: Any = None) -> Gradient:
        """Its derivatives along kernel matrices (P, N, N), or by deviations ``wrt``, and by the noise.

        ``wrt``: names and paths as in `tpnum.kernel`; nothing larger than one N x N matrix is then held.
        """
        return self._gradient(self.state.log_marginal(), self.state.log_marginal_slope(), dk, wrt)

    def leave_one_out(self) -> Folds:
        """Every target predicted from all others, in closed form."""
        return self.state.leave_one_out()

    def leave_one_out_gradient(self, dk: Any = (), *, wrt: Any = None) -> Gradient:
        """Its log density and derivatives, as in `log_marginal_gradient`."""
        return self._gradient(self.leave_one_out().log_density, self.state.leave_one_out_slope(), dk, wrt)

    def k_fold(self, folds: Any) -> Folds:
        """Every fold predicted from all others, in closed form."""
        return self.state.k_fold(folds)

    def k_fold_gradient(self, folds: Any, dk: Any = (), *, wrt: Any = None) -> Gradient:
        """Its log density and derivatives, as in `log_marginal_gradient`."""
        return self._gradient(self.k_fold(folds).log_density, self.state.k_fold_slope(folds), dk, wrt)

    def _gradient(self, value: float, slope: np.ndarray, dk: Any, wrt: Any) -> Gradient:
        if wrt is None:
            return Gradient.along(value, slope, dk)
        if not isinstance(dk, tuple) or dk:
            raise InputError("dk, wrt: give matrices, or names of deviations, not both")
        return Gradient(
            value, self.source.slopes(self.x, None, self.get, wrt, slope), slope.diagonal().copy()
        )


@dataclass(frozen=True, eq=False)
class Ensemble(Savable):
    """Nets of infinite width, each trained from its own initialisation.

    Made by `gradient_flow` and `gradient_descent`.
    """

    source: Source
    x: np.ndarray
    state: Dynamics

    def __repr__(self) -> str:
        return f"<Ensemble of {self.source.of!r} on {len(self.x)} examples by {self.state.filter!r}>"

    @property
    def largest_rate(self) -> float:
        """The learning rate from which on training diverges."""
        return self.state.largest_rate

    @property
    def rank(self) -> int:
        """Directions of the targets that are ever learned."""
        return self.state.rank

    def predict(self, x: Any = None, t: Any = np.inf, *, cov: bool = False) -> Prediction:
        """Mean and variance over the ensemble at new examples (those trained on by default) and a time.

        ``t`` is a time of a flow, a number of steps of descent; numpy.inf, the default, the end of training.
        """
        flag(cov, "cov")
        self.state.filter.time(t)
        if x is None:
            return self.state.train(t, cov)
        new = examples(x, "x", self.x)
        if cov:
            return self._new(new, t, self.source(new, None, "nngp"), True)
        own = self.source(new, None, "nngp", diag=True)
        parts = [
            self._new(new[at], t, own[at], False)
            for at in blocks(len(new), self.source.rows(2 * len(self.x)))
        ]
        return Prediction(*(np.concatenate([part[i] for part in parts]) for i in (0, 1)))

    def _new(self, new: np.ndarray, t: Any, own: np.ndarray, cov: bool) -> Prediction:
        ntk, nngp = self.source.several(new, self.x, ("ntk", "nngp"))
        return self.state.compute(t, ntk, nngp, own, cov)

    def sample(self, x: Any = None, t: Any = np.inf, draws: int = 1, seed: Any = None) -> np.ndarray:
        """Outputs of trained nets, jointly over the examples."""
        return self.predict(x, t, cov=True).sample(draws, seed)

    def add(self, x: Any, y: Any) -> Ensemble:
        """The ensemble trained on further examples too: only their kernels are computed anew.

        The NTK of all is decomposed again; with a rate that all of them make unstable it is refused.
        """
        new = examples(x, "x", self.x)
        state = self.state
        target = arguments.continued(state.y, y, len(new), "x")
        across = self.source.several(new, self.x, ("ntk", "nngp"))
        own = self.source.several(new, None, ("ntk", "nngp"))
        ntk, nngp = (
            np.block([[there, side.T], [side, corner]])
            for there, side, corner in zip(state.kernels(), across, own, strict=True)
        )
        stable = state.filter.rate if isinstance(state.filter, Descent) else None
        both = np.concatenate([state.y, target])
        made = Dynamics.init(ntk, both, nngp, state.filter, stable=stable)
        return replace(self, x=np.concatenate([self.x, new]), state=made)

    def loss(self, t: Any = np.inf, x: Any = None, y: Any = None) -> Loss:
        """1/2 sum |f - y|^2 at a time, of the ensemble's mean and expected; in training, or on x, y."""
        if x is None and y is None:
            return self.state.loss(t)
        if x is None or y is None:
            raise InputError("x, y: a loss on new examples needs both")
        found = self.predict(x, t)
        target = arguments.targets(y, len(found.mean), of="x")
        if target.shape != found.mean.shape:
            raise InputError(f"y: shape {target.shape} is not that of the predictions, {found.mean.shape}")
        return loss_of(found, target)

    def leave_one_out(self, t: Any = np.inf) -> np.ndarray:
        """The mean at every example, at a time of flow, of an ensemble trained on all others: exact.

        The time at which it is closest to the targets is one to stop at.
        """
        return self.state.leave_one_out(t)

    def losses(self, times: Any, x: Any = None, y: Any = None) -> list[Loss]:
        """`loss` at each of several times."""
        asked = real_array(times, "times").ravel().tolist()
        for t in asked:
            self.state.filter.time(t, "times")
        return [self.loss(t, x, y) for t in asked]


def posterior(
    net: Any, x: Any, y: Any, *, get: str = "nngp", noise: Any = 0.0, n_jobs: int | None = None
) -> Regression:
    """Regression with a Gaussian process whose covariance is a kernel of ``net``.

    With the NNGP this is exact Bayesian inference of an infinitely wide net.  With the NTK the mean is
    that of kernel regression, the end of training by gradient descent (with ``noise``: of a loss with a
    quadratic penalty), and the variance that of the NTKGP of He et al. (2020).

    Parameters
    ----------
    net : a net, a program with one data line, or a function f(x1, x2, get, diag) that gives the kernel
        (N1, N2) of two arrays of examples (x1 alone: x2 is None), and its diagonal with diag.
    x, y : examples (N, *axes, features), and targets (N,) or (N, outputs).
    get : "nngp" or "ntk".
    noise : the variance of the noise: a number, one per example, or "fit".
    n_jobs : threads of `tpnum.kernel`.

    Raises
    ------
    InputError : arguments that do not fit; a kernel with a negative eigenvalue.
    """
    choice(get, "get", KINDS)
    source = Source.read(net, jobs_of(n_jobs))
    data = np.array(examples(x, "x"))
    arguments.targets(y, len(data), of="x")
    return Regression(source, get, data, Posterior.init(source(data, None, get), y, noise, overwrite=True))


def gradient_flow(net: Any, x: Any, y: Any, *, lr: float = 1.0, n_jobs: int | None = None) -> Ensemble:
    """The ensemble of wide nets trained by gradient flow, d theta/dt = -lr grad of 1/2 sum |f - y|^2.

    Parameters
    ----------
    net, x, y, n_jobs : as in `posterior`.
    lr : the rate; a mean over examples in the loss instead of a sum is lr / N.

    Raises
    ------
    InputError : arguments that do not fit.
    """
    return _ensemble(net, x, y, Flow(rate_of(lr)), None, n_jobs)


def gradient_descent(
    net: Any, x: Any, y: Any, *, lr: float, momentum: float = 0.0, n_jobs: int | None = None
) -> Ensemble:
    """The ensemble of wide nets trained by full-batch gradient descent on 1/2 sum |f - y|^2.

    Parameters
    ----------
    net, x, y, n_jobs : as in `posterior`.
    lr, momentum : a step is v <- momentum v + grad, theta <- theta - lr v.

    Raises
    ------
    InputError : arguments that do not fit; a rate with which training diverges (`largest_learning_rate`).
    """
    rate = rate_of(lr)
    return _ensemble(net, x, y, Descent(rate, momentum_of(momentum)), rate, n_jobs)


def largest_learning_rate(net: Any, x: Any, *, momentum: float = 0.0, n_jobs: int | None = None) -> float:
    """The learning rate from which on gradient descent on 1/2 sum |f - y|^2 diverges.

    2 (1 + momentum) / the largest eigenvalue of the NTK of the examples ``x``.

    Raises
    ------
    InputError : arguments that do not fit.
    """
    data = examples(x, "x")
    m = momentum_of(momentum)
    ntk = Source.read(net, jobs_of(n_jobs))(data, None, "ntk")
    size = len(ntk)
    from scipy.linalg import eigh

    top = float(eigh(ntk, eigvals_only=True, subset_by_index=(size - 1, size - 1))[0])
    return Descent(1.0, m).largest_rate(top)


def _ensemble(
    net: Any, x: Any, y: Any, filter_: Filter, stable: float | None, n_jobs: int | None
) -> Ensemble:
    source = Source.read(net, jobs_of(n_jobs))
    data = np.array(examples(x, "x"))
    arguments.targets(y, len(data), of="x")
    ntk, nngp = source.several(data, None, ("ntk", "nngp"))
    return Ensemble(source, data, Dynamics.init(ntk, y, nngp, filter_, stable=stable))
