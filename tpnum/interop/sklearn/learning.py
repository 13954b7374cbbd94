"""What regressor and classifier have in common: parameters read, and the state that is learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum import predict
from tpnum.arguments import choice
from tpnum.errors import InputError
from tpnum.interop.sklearn.networks import network

KERNELS = ("nngp", "ntk", "precomputed")

State = predict.Regression | predict.Posterior | predict.Ensemble


def learn(estimator: Any, x: np.ndarray, y: np.ndarray) -> State:
    """The state of `tpnum.predict` that an estimator's parameters ask for, and ``time_`` as it is now."""
    kernel = choice(estimator.kernel, "kernel", KERNELS)
    estimator.time_ = None
    if kernel == "precomputed":
        if estimator.time is not None:
            raise InputError("time: training needs a net, not a precomputed kernel; leave it out")
        return predict.Posterior.init(x, y, estimator.noise)
    net, jobs = network(estimator.net), estimator.n_jobs
    shaped = estimator._shaped(x)
    if estimator.time is None:
        return predict.posterior(net, shaped, y, get=kernel, noise=estimator.noise, n_jobs=jobs)
    flow = predict.Flow(1.0 / len(x))
    estimator.time_ = flow.time(estimator.time, "time")
    return predict.gradient_flow(net, shaped, y, lr=flow.rate, n_jobs=jobs)


def square_of(x: np.ndarray) -> None:
    """Refuse what cannot be a kernel of rows with themselves."""
    if x.shape[0] != x.shape[1]:
        raise InputError(
            f"X: a precomputed kernel must be square, of rows with themselves; its shape is {x.shape}"
        )
