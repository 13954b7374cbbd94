"""Deviations of a net and the noise that explain the targets best, by exact gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize

from tpnum import nn
from tpnum.arguments import choice, number, whole
from tpnum.arguments import jobs as jobs_of
from tpnum.errors import InputError
from tpnum.nn.deviations import deviations, with_deviations
from tpnum.predict import arguments
from tpnum.predict.gaussian import Posterior
from tpnum.predict.models import Regression
from tpnum.predict.source import Source, examples
from tpnum.tiles.arguments import KINDS
from tpnum.tiles.driver import kernel
from tpnum.tiles.gradients.derivatives import names_of

OBJECTIVES = {
    "log_marginal": (Posterior.log_marginal, Posterior.log_marginal_slope),
    "leave_one_out": (lambda state: state.leave_one_out().log_density, Posterior.leave_one_out_slope),
}
"""What can be maximised, and its derivatives by the entries of the kernel."""
RANGE = 1e3
"""How far from where they start deviations may go, as a factor; the noise as far again downwards."""


def tune(
    net: Any,
    x: Any,
    y: Any,
    *,
    wrt: Any = ("W_std", "b_std"),
    get: str = "nngp",
    by: str = "log_marginal",
    noise: float = 0.1,
    steps: int = 50,
    n_jobs: int | None = None,
) -> Regression:
    """The regression of `posterior` with deviations and noise that are (locally) the likeliest.

    L-BFGS on their logarithms from where the net is, with exact derivatives of the kernel.

    Parameters
    ----------
    net, x, y, get, n_jobs : as in `posterior`; a net of layers.
    wrt : names and paths of deviations; those of one name move by one factor.
    by : "log_marginal", the likelihood of the targets, or "leave_one_out", the density of every target given
        the others, which is less sure that the model is right.
    noise : the variance to start from.
    steps : of the optimiser at most.

    Raises
    ------
    InputError : a name that no layer has; a deviation or a noise that is 0, which has no logarithm.
    """
    choice(get, "get", KINDS)
    value, slope_of = OBJECTIVES[choice(by, "by", tuple(OBJECTIVES))]
    groups = names_of(net, wrt)
    start = deviations(net)
    for path in (path for group in groups for path in group):
        if not start[path]:
            raise InputError(
                f"wrt: {path} is 0 and has no logarithm; start from a positive one or leave it out"
            )
    if len({path for group in groups for path in group}) < sum(map(len, groups)):
        raise InputError("wrt: a deviation is named twice")
    begin = number(noise, "noise", above=0.0)
    most, jobs = whole(steps, "steps", 1), jobs_of(n_jobs)
    data = np.array(examples(x, "x"))
    target = arguments.targets(y, len(data), of="x")
    paths = tuple(path for group in groups for path in group)

    def scaled(logs: np.ndarray) -> nn.Layer:
        factors = [f for group, f in zip(groups, np.exp(logs).tolist(), strict=False) for _ in group]
        return with_deviations(net, {p: start[p] * f for p, f in zip(paths, factors, strict=True)})

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        there = scaled(logs)
        variance = begin * float(np.exp(logs[-1]))
        state = Posterior.init(kernel(there, data, get=get, n_jobs=jobs), target, variance, overwrite=True)
        slope = slope_of(state)
        _, found = kernel(there, data, get=get, n_jobs=jobs, wrt=paths, against=slope)
        now = deviations(there)
        each = dict(zip(paths, found, strict=True))
        gradient = [sum(now[p] * each[p] for p in group) for group in groups]
        return -value(state), -np.array([*gradient, variance * np.trace(slope)])

    reach = float(np.log(RANGE))
    bounds = [(-reach, reach)] * len(groups) + [(-2.0 * reach, reach)]
    made = minimize(
        cost, np.zeros(len(groups) + 1), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": most}
    )
    best = scaled(made.x)
    variance = begin * float(np.exp(made.x[-1]))
    source = Source.read(best, jobs)
    state = Posterior.init(source(data, None, get), target, variance, overwrite=True)
    return Regression(source, get, data, state)
