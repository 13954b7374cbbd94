"""The two roads of `tpnum.kernel` into arrays: the rules of two Gaussians, and an ensemble where they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.ensemble.tile import Ensemble
from tpnum.evaluate.joint import BUDGET, RTOL, Account
from tpnum.law.price import NoRule
from tpnum.lower.variances import Variances
from tpnum.tiles import extras
from tpnum.tiles.diagonal import fill_diagonals
from tpnum.tiles.pool import one_blas_thread, run, thread_count
from tpnum.tiles.sampled import SampledWorker, Sampling, sampled_diagonals
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import make_worker

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues


@dataclass(frozen=True)
class Call:
    """What is asked: of which inputs, into which arrays (diagonals with ``diag``), how, how exactly."""

    first: extras.Inputs
    second: extras.Inputs | None
    outs: dict[str, np.ndarray]
    diag: bool
    tile: int | None
    n_jobs: int | None
    report: bool | Callable[[int, int], None] | None
    rtol: float | None
    budget: int | None
    seed: int

    @property
    def account(self) -> Account:
        """A fresh account of errors."""
        return Account(self.rtol or RTOL, self.budget or BUDGET)


def filled(plan: Plan | Ensemble, call: Call, error: bool) -> dict[str, np.ndarray]:
    """Fill the arrays on the road of their plan; how far every entry may be off, if that is wanted."""
    if isinstance(plan, Ensemble):
        return _by_samples(plan, call)
    try:
        return _by_rules(plan, call, error)
    except NoRule as why:
        return _by_samples(Ensemble(plan.written, tuple(call.outs), str(why)), call)


def _by_rules(plan: Plan, call: Call, error: bool) -> dict[str, np.ndarray]:
    """Fill the arrays by the rules; how far every entry may be off, if that is wanted."""
    account, variances = call.account, Variances()
    profiles = plan.profiles(call.first, call.second, account, variances)
    for profile in profiles:
        extras.require_positions(profile)
    dtype = next(iter(call.outs.values())).dtype
    with one_blas_thread():
        if call.diag:
            fill_diagonals(plan, profiles[0], call.outs)
        else:
            worker = make_worker(plan, profiles, ArraySink(call.outs), dtype, call.tile, variances)
            run(worker, call.n_jobs, call.report)
        account.warn()
        return _lost(plan, profiles, call, account) if error else {}


def _lost(
    plan: Plan, profiles: tuple[ProfileValues, ProfileValues], call: Call, account: Account
) -> dict[str, np.ndarray]:
    """The largest relative error of anything that was computed, times (K(x, x) K(x', x'))^(1/2)."""
    part = max(account.inexact, float(np.finfo(next(iter(call.outs.values())).dtype).eps))
    if call.diag:
        return {kind: part * out for kind, out in call.outs.items()}
    roots = []
    for side, profile in enumerate(profiles):
        sizes = (profile.size, *plan.axes[side])
        found = {kind: np.zeros(sizes) for kind in call.outs}
        fill_diagonals(plan, profile, found, side)
        roots.append({kind: np.sqrt(one) for kind, one in found.items()})
    made = {}
    for kind, out in call.outs.items():
        both = np.multiply.outer(roots[0][kind], roots[1][kind])
        made[kind] = (part * np.moveaxis(both, 1 + len(plan.axes[0]), 1)).astype(out.dtype)
    return made


def _by_samples(plan: Ensemble, call: Call) -> dict[str, np.ndarray]:
    """Fill the arrays by ensembles; the standard error of every entry."""
    sampling = Sampling(plan, call.account, call.rtol, call.seed)
    errors = {kind: np.zeros_like(out) for kind, out in call.outs.items()}
    jobs = thread_count(call.n_jobs)
    with one_blas_thread():
        if call.diag:
            sampled_diagonals(sampling, call.first, call.outs, errors, jobs)
        else:
            sinks = ArraySink(call.outs), ArraySink(errors)
            worker = SampledWorker(sampling, (call.first, call.second), *sinks, call.tile, jobs)
            run(worker, call.n_jobs, call.report)
    sampling.account.warn()
    return errors
