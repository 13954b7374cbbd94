"""Three answers of infinitely wide nets to one question: Bayes, deep ensembles, Bayesian deep ensembles.

All are Gaussian; with the NNGP K, the NTK Theta and A = Theta* (Theta + noise)^-1:

    nngp      exact inference of all weights: the posterior under K
    ensemble  nets trained to the end on |f - y|^2 + noise |theta - theta_0|^2, each from its own theta_0:
              mean A y, covariance K** + A K A' - A K*' - K* A'  (Lee et al. 2019)
    ntkgp     the same where a fixed random function makes the prior's covariance Theta, and targets carry
              noise: the posterior under Theta, never less careful than the ensemble  (He et al. 2020)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tpnum.arguments import flag
from tpnum.arguments import jobs as jobs_of
from tpnum.predict import arguments
from tpnum.predict.gaussian import Posterior, Prediction
from tpnum.predict.source import Source, examples


class SideBySide(NamedTuple):
    """Predictions of f at the same new examples."""

    nngp: Prediction
    ensemble: Prediction
    ntkgp: Prediction


def side_by_side(
    net: Any, x: Any, y: Any, x_new: Any, *, noise: Any = 0.0, cov: bool = False, n_jobs: int | None = None
) -> SideBySide:
    """NNGP posterior, deep ensemble and NTKGP of one net, from one pass over its kernels.

    Parameters
    ----------
    net, x, y, n_jobs : as in `tpnum.predict.posterior`.
    x_new : examples to predict at.
    noise : the variance of the noise, and the weight of the penalty: a number, or one per example.
    cov : whether covariances are wanted.

    Raises
    ------
    InputError : arguments that do not fit; a kernel with a negative eigenvalue.
    """
    source = Source.read(net, jobs_of(n_jobs))
    data = np.array(examples(x, "x"))
    target = arguments.targets(y, len(data), of="x")
    new = examples(x_new, "x_new", data)
    added = arguments.variance(noise, len(data))
    kinds = ("nngp", "ntk")
    k, theta = source.several(data, None, kinds)
    k_new, theta_new = source.several(new, data, kinds)
    own, theta_own = source.several(new, None, kinds, diag=not flag(cov, "cov"))
    under_k = Posterior.init(k, target, added)
    under_theta = Posterior.init(theta, target, added)
    pull = under_theta.factor.solve(np.ascontiguousarray(theta_new.T)).T
    if cov:
        crossed = pull @ k_new.T
        joint = own + pull @ k @ pull.T - crossed - crossed.T
        trained = Prediction(pull @ target, np.maximum(joint.diagonal(), 0.0), 0.5 * (joint + joint.T))
    else:
        spread = own + np.einsum("ij,ij->i", pull @ k - 2.0 * k_new, pull)
        trained = Prediction(pull @ target, np.maximum(spread, 0.0))
    return SideBySide(
        under_k.compute(k_new, own, cov), trained, under_theta.compute(theta_new, theta_own, cov)
    )
