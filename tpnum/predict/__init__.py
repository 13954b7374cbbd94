r"""Predictions with the kernels of wide nets: posteriors, and training at any time.

    gp = predict.posterior(net, x, y, noise=0.01)          # NNGP; get="ntk"; noise="fit"
    gp.predict(x_new).mean, gp.predict(x_new).interval(0.95)
    gp.log_marginal(), gp.leave_one_out(), gp.k_fold(5), gp.add(x_more, y_more), gp.sample(x_new, 3)

    nets = predict.gradient_flow(net, x, y)                # or gradient_descent(net, x, y, lr=, momentum=)
    nets.predict(x_new, t=10.0), nets.loss(t=10.0), nets.leave_one_out(t=10.0), nets.largest_rate

    predict.side_by_side(net, x, y, x_new, noise=0.01)      # .nngp, .ensemble (deep ensembles), .ntkgp
    predict.coverage_curve(gp.predict(x_new, noise=0.01), y_new), predict.calibration_curve(chances, labels)

    predict.tune(net, x, y, wrt=("W_std", "b_std"))         # deviations and noise of largest likelihood
    gp.save("model.npz"); predict.load("model.npz")

Each is a state: made once, asked often.  `Posterior` and `Dynamics` are the same for kernel matrices that
are there already: ``init`` factors or decomposes, ``compute`` predicts.

    predict.iterative_posterior(net, x, y, noise=0.01)  # the matrix is never held: .predict, .log_marginal

`conjugate_gradients` and `lanczos_logdet` do the same for any operator, beside a `preconditioner`.
"""

from __future__ import annotations

from tpnum.predict.calibration import calibration_curve, coverage_curve
from tpnum.predict.cholesky import Cholesky
from tpnum.predict.dynamics import Dynamics, Loss
from tpnum.predict.ensembles import side_by_side
from tpnum.predict.files import load
from tpnum.predict.filters import Descent, Flow
from tpnum.predict.folds import Folds, Gradient
from tpnum.predict.gaussian import Posterior, Prediction
from tpnum.predict.iterative import Iterative, iterative_posterior
from tpnum.predict.krylov import conjugate_gradients, lanczos_logdet
from tpnum.predict.laplace import Laplace
from tpnum.predict.models import (
    Ensemble,
    Regression,
    gradient_descent,
    gradient_flow,
    largest_learning_rate,
    posterior,
)
from tpnum.predict.nearby import pivoted_cholesky, preconditioner
from tpnum.predict.tuning import tune

__all__ = [
    "Cholesky",
    "Descent",
    "Dynamics",
    "Ensemble",
    "Flow",
    "Folds",
    "Gradient",
    "Iterative",
    "Laplace",
    "Loss",
    "Posterior",
    "Prediction",
    "Regression",
    "calibration_curve",
    "conjugate_gradients",
    "coverage_curve",
    "gradient_descent",
    "gradient_flow",
    "iterative_posterior",
    "lanczos_logdet",
    "largest_learning_rate",
    "load",
    "pivoted_cholesky",
    "posterior",
    "preconditioner",
    "side_by_side",
    "tune",
]
