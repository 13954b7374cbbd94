"""The two roads of `tpnum.kernel` into arrays: the rules of two Gaussians, and an ensemble where they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tpnum.ensemble.tile import SampledPlan
from tpnum.evaluate.joint import LOST
from tpnum.gauss.estimate import enlargement
from tpnum.gauss.special.families import REPLICATES
from tpnum.law.price import NoRule
from tpnum.lower.variances import Variances
from tpnum.tiles import extras
from tpnum.tiles.diagonal import fill_diagonals
from tpnum.tiles.pool import one_blas_thread, run, thread_count
from tpnum.tiles.sampled import SampledWorker, Sampling, sampled_diagonals
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import make_worker

if TYPE_CHECKING:
    from tpnum.evaluate.joint import Account, Accuracy
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues


@dataclass(frozen=True)
class Effort:
    """How a matrix is computed, in tiles of how many rows, by whom, and how exactly."""

    tile: int | None
    n_jobs: int | None
    report: bool | Callable[[int, int], None] | None
    accuracy: Accuracy


@dataclass(frozen=True)
class Call:
    """What is asked: of which inputs, into which arrays (diagonals with ``diag``), with what effort."""

    first: extras.Inputs
    second: extras.Inputs | None
    outs: dict[str, np.ndarray]
    diag: bool
    effort: Effort


Errors = dict[str, np.ndarray]


def filled(plan: Plan | SampledPlan, call: Call, error: bool) -> tuple[Errors, Account]:
    """Fill the arrays on the road of their plan; how far every entry may be off, if that is wanted.

    And the account of errors, which has warned nobody yet.
    """
    if isinstance(plan, SampledPlan):
        return _by_samples(plan, call)
    try:
        return _by_rules(plan, call, error)
    except NoRule as why:
        return _by_samples(SampledPlan(plan.written, tuple(call.outs), str(why)), call)


def _by_rules(plan: Plan, call: Call, error: bool) -> tuple[Errors, Account]:
    """Fill the arrays by the rules; how far every entry may be off, if that is wanted."""
    account = call.effort.accuracy.account()
    with one_blas_thread():
        profiles = _fill(plan, call, account)
        return _lost(plan, profiles, call, account) if error else {}, account


def _fill(plan: Plan, call: Call, account: Account) -> tuple[ProfileValues, ProfileValues]:
    """Fill the arrays; the profiles of both inputs."""
    variances = Variances()
    profiles = plan.profiles(call.first, call.second, account, variances)
    for profile in profiles:
        extras.require_positions(profile)
    if call.diag:
        fill_diagonals(plan, profiles[0], call.outs)
    else:
        dtype = next(iter(call.outs.values())).dtype
        worker = make_worker(plan, profiles, ArraySink(call.outs), dtype, call.effort.tile, variances)
        run(worker, call.effort.n_jobs, call.effort.report)
    return profiles


def _lost(plan: Plan, profiles: tuple[ProfileValues, ProfileValues], call: Call, account: Account) -> Errors:
    """Standard errors: of replicates, beside the largest relative error of what has none.

    The latter, of anything that was computed, times (K(x, x) K(x', x'))^(1/2).
    """
    rest = max(account.rest, LOST) if account.replicated else account.inexact
    part = max(rest, float(np.finfo(next(iter(call.outs.values())).dtype).eps))
    made = _relative(plan, profiles, call, part)
    if not account.replicated:
        return made
    spread = _replicated(plan, call)
    return {kind: np.hypot(spread[kind], made[kind]).astype(made[kind].dtype) for kind in made}


def _replicated(plan: Plan, call: Call) -> Errors:
    """Standard errors by kernels of one replicate of points each, about the one of all of them.

    What is not linear in an average is farther off for fewer points; so these are, and errors not too small.
    """
    total = {kind: np.zeros(out.shape) for kind, out in call.outs.items()}
    for replicate in range(REPLICATES):
        outs = {kind: np.empty_like(out) for kind, out in call.outs.items()}
        one = replace(call, outs=outs, effort=replace(call.effort, report=False))
        _fill(plan, one, call.effort.accuracy.account(replicate))
        for kind, out in outs.items():
            total[kind] += np.square(out - call.outs[kind], dtype=np.float64)
    wide = enlargement(REPLICATES) / np.sqrt(REPLICATES * (REPLICATES - 1))
    return {kind: wide * np.sqrt(x) for kind, x in total.items()}


def _relative(plan: Plan, profiles: tuple[ProfileValues, ProfileValues], call: Call, part: float) -> Errors:
    """A part of (K(x, x) K(x', x'))^(1/2)."""
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


def _by_samples(plan: SampledPlan, call: Call) -> tuple[Errors, Account]:
    """Fill the arrays by ensembles; the standard error of every entry."""
    sampling = Sampling(plan, call.effort.accuracy)
    errors = {kind: np.zeros_like(out) for kind, out in call.outs.items()}
    jobs = thread_count(call.effort.n_jobs)
    with one_blas_thread():
        if call.diag:
            sampled_diagonals(sampling, call.first, call.outs, errors, jobs)
        else:
            sinks = ArraySink(call.outs), ArraySink(errors)
            worker = SampledWorker(sampling, (call.first, call.second), *sinks, call.effort.tile, jobs)
            run(worker, call.effort.n_jobs, call.effort.report)
    return errors, sampling.account
