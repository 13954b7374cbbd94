"""Expectations that do not reduce to two Gaussians: by `tpnum.gauss.expect`, their errors kept account of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import number, whole
from tpnum.errors import AccuracyWarning, LimitError, outside
from tpnum.evaluate.blocks import Block
from tpnum.law import graph
from tpnum.law.price import NoRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.general import PairValues

RTOL = 1e-6
"""Relative accuracy asked of these expectations; everything else is good to rounding."""

ROUNDING = 1e-15
"""What arithmetic loses, relative to the size of the terms of a sum."""

RATE = 4 / 3
"""Evaluations grow with this power of the accuracy: what Sobol points do where there are kinks."""

MARGIN = 8.0
"""Covariances are sums of a few expectations: so many times their error, for every row, may be in one."""

LOST = 1e-12
"""What a recursion without sampling loses, relative to the sizes of what it adds up."""

BUDGET = 1 << 20
"""Evaluations for one expectation of a kernel: there are as many as entries."""

LEAST, MOST = 1 << 8, 1 << 62
"""Evaluations of an expectation that may be asked for: fewer say nothing."""

SMALL = 1 << 12
"""Means of a batch whose answer is kept."""

NEGATIVE = 1e-10
"""A negative eigenvalue of a covariance, relative to the largest, that rounding explains."""


@dataclass(frozen=True)
class Accuracy:
    """What is asked of expectations: relative to E|f|, by how many evaluations each, with which points."""

    rtol: float | None = None
    budget: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, rtol: Any, budget: Any, seed: Any = 0) -> Accuracy:
        """As users give it; what cannot be used is refused by name."""
        return cls(
            None if rtol is None else number(rtol, "rtol", above=0, below=1),
            None if budget is None else whole(budget, "budget", LEAST, MOST),
            whole(seed, "seed", 0),
        )

    @property
    def most(self) -> int:
        """The evaluations that one expectation of a kernel may take."""
        return self.budget or BUDGET

    def account(self, replicate: int | None = None) -> Account:
        """A fresh account of a kernel's errors, of one replicate of points if its number is given."""
        return Account(self.rtol, self.most, replicate)


USUAL = Accuracy()
"""What is asked where the user asks for nothing."""


class Account:
    """The largest error, relative to E|f|, of a calculation's joint expectations, and where it arose.

    ``rtol`` is the accuracy that is ``asked`` of them, `RTOL` if none is; ``budget`` the evaluations that one
    of them may take.  With a ``replicate`` what averages over replicates of points takes that one alone: how
    results vary says what their error is.
    ``replicated`` is whether anything does, ``rest`` the largest error of what does not.
    """

    def __init__(
        self, rtol: float | None = None, budget: int | None = None, replicate: int | None = None
    ) -> None:
        self.asked, self.rtol = rtol is not None, RTOL if rtol is None else rtol
        self.budget, self.replicate = budget, replicate
        self.error = self.rest = 0.0
        self.replicated = False
        self._found = 0.0  # without what solving for corrections made of it
        self._what, self._cost, self._of = "", 0, ""
        self._warned = 0.0
        self._known: dict[tuple[object, ...], tuple[np.ndarray, ...]] = {}

    @property
    def inexact(self) -> float:
        """How far, relative to its size, anything that was computed so far may be off."""
        return max(self.error, LOST)

    def expectation(
        self,
        factors: Sequence[graph.Factor],
        scalars: Sequence[Sequence[np.ndarray]],
        means: np.ndarray,
        cov: np.ndarray,
        where: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors of `joint_expectation`; the largest relative one is noted.

        An error is at least what covariances that are known as badly as anything so far make of E|f|.
        Covariances that stand on earlier ones are known up to their error, and repaired within it.  What is
        asked twice, as of an input and of the pair of it with itself, gets one answer.
        """
        key = _key(factors, scalars, means, cov)
        if key not in self._known:
            made = self._expectation(factors, scalars, means, cov, f"the joint expectation {where}")
            if means.size > SMALL:
                return made
            self._known[key] = tuple(x.ravel() for x in made)
        value, spread = (x.reshape(means.shape[:-1]) for x in self._known[key])
        return value, spread

    def _expectation(
        self,
        factors: Sequence[graph.Factor],
        scalars: Sequence[Sequence[np.ndarray]],
        means: np.ndarray,
        cov: np.ndarray,
        what: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        cov = repaired(cov, MARGIN * cov.shape[-1] * self.error, what)
        try:
            value, spread, size, cost = joint_expectation(
                factors, scalars, means, cov, self.rtol, self.budget
            )
        except LimitError as failed:
            raise LimitError(f"{what} has no limit: {failed}") from None
        known = size > 0.0
        error = float(np.max(spread[known] / size[known], initial=0.0))
        self._found = max(self._found, error)
        self.note(error, what, cost)
        return value, np.maximum(spread, self.inexact * size)

    def note(
        self, error: float, what: str, cost: int = 0, of: str = "E|f|", replicated: bool = False
    ) -> None:
        """An error relative to the size of what it is in, which is ``of`` it; whether replicates show it."""
        if replicated:
            self.replicated = True
        else:
            self.rest = max(self.rest, error)
        if error > self.error:
            self.error, self._what, self._cost, self._of = error, what, cost, of

    @property
    def worst(self) -> tuple[float, str, int, str]:
        """What was noted last, to be noted by the account of another process."""
        return self.error, self._what, self._cost, self._of

    def amplified(self, factor: float, what: str) -> None:
        """A result so many times as inexact as what it was solved from."""
        self.note(factor * max(self._found, ROUNDING), what)

    def warn(self) -> None:
        """One warning if an expectation missed ``rtol``, none again unless a later one is worse."""
        if self.error > max(self.rtol * (1.0 + 1e-9), self._warned):
            self._warned = self.error
            needed = ""
            if self._cost:
                needed = (
                    f" after {self._cost} evaluations: about "
                    f"{self._cost * (self.error / self.rtol) ** RATE:.0e} would do"
                )
            warnings.warn(
                f"{self._what} is known to {self.error:.1e} of {self._of} only, not to {self.rtol:g}{needed}",
                AccuracyWarning,
                stacklevel=outside(),
            )


def _key(
    factors: Sequence[graph.Factor],
    scalars: Sequence[Sequence[np.ndarray]],
    means: np.ndarray,
    cov: np.ndarray,
) -> tuple[object, ...]:
    if means.size > SMALL:
        return ()
    full = means.shape[:-1]
    every = (s.reshape(()) if s.size == 1 else s for group in scalars for s in group)
    numbers = (np.broadcast_to(s, full).tobytes() for s in every)
    functions = ((f.fn, f.args) for f in factors)
    return (*functions, means.shape[-1], *numbers, means.tobytes(), cov.tobytes())


def repaired(cov: np.ndarray, error: float, what: str) -> np.ndarray:
    """Covariances without their negative eigenvalues, which ``error``, relative to the largest, explains."""
    if error <= NEGATIVE or not cov.size:
        return cov
    values, vectors = np.linalg.eigh(cov)
    bad = values[..., 0] < 0.0
    if not bad.any():
        return cov
    least = values[..., 0] / np.maximum(values[..., -1], np.finfo(float).tiny)
    if least.min() < -error:
        raise NoRule(
            f"{what}: the covariances that it stands on are known too badly, with an eigenvalue of "
            f"{least.min():.1e} of the largest: give a larger budget"
        )
    kept, axes = np.maximum(values[bad], 0.0), vectors[bad]
    made = cov.copy()
    made[bad] = (axes * kept[:, None, :]) @ axes.transpose(0, 2, 1)
    return made


def joint_expectation(
    factors: Sequence[graph.Factor],
    scalars: Sequence[Sequence[np.ndarray]],
    means: np.ndarray,
    cov: np.ndarray,
    rtol: float = RTOL,
    budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """E prod_k f_k(u[args_k]; scalars_k) for a batch of Gaussians, errors, E|f|, and the evaluations that
    one of the batch took.

    Scalars that differ within the batch are coordinates without variance.
    """
    from tpnum.gauss.expect import certified

    *shape, d = means.shape
    numbers: list[list[Any]] = []  # a scalar, or the place of the coordinate that it is
    moving: list[np.ndarray] = []
    for group in scalars:
        numbers.append([])
        for scalar in group:
            if scalar.size == 1:
                numbers[-1].append(("number", float(scalar.reshape(()))))
            else:
                numbers[-1].append(("coordinate", d + len(moving)))
                moving.append(np.broadcast_to(scalar, shape))
    if moving:
        means = np.concatenate([means, np.stack(moving, axis=-1)], axis=-1)
        wide = np.zeros((*shape, d + len(moving), d + len(moving)))
        wide[..., :d, :d] = cov
        cov = wide

    def product(*u: np.ndarray) -> np.ndarray:
        out = np.ones_like(u[0])
        for factor, group in zip(factors, numbers, strict=True):
            own = (u[value] if kind == "coordinate" else value for kind, value in group)
            out = out * factor.fn(*(u[i] for i in factor.args), *own)
        return out

    made, relative = certified(product, means, cov, rtol=rtol, budget=budget)
    cost = made.cost // max(1, relative.size)
    value, error = np.asarray(made.value), np.asarray(made.error)
    size = np.divide(error, relative, out=np.array(np.abs(value)), where=relative > 0.0)
    return value, error, size, cost


def expected(values: PairValues, node: graph.PairExpect) -> Block:
    """The block of such an expectation on a tile."""
    full = values.shape(node)
    d = len(node.sites)
    means, cov = np.zeros((*full, d)), np.zeros((*full, d, d))
    for i, site in enumerate(node.sites):
        mean = node.means[i]
        if mean is not None:
            means[..., i] = values.profile(mean, site, node)
        for j in range(d):
            entry = node.cov[i][j]
            if isinstance(entry, graph.Profile):
                cov[..., i, j] = values.profile(entry, site, node)
            elif entry is not None:
                cov[..., i, j] = values.inner(entry, node).k
    scalars = [
        [values.profile(s, node.sites[factor.args[0]], node) for s in factor.scalars]
        for factor in node.factors
    ]
    account, value = values.profiles[0].account, np.empty(full)
    same = np.broadcast_to(values.coincide(node) == 1.0, full)
    for entries, (kept, group) in ((same, _merged(node)), (~same, (np.arange(d), node.factors))):
        if entries.any():
            own = [[s if s.size == 1 else np.broadcast_to(s, full)[entries] for s in g] for g in scalars]
            some = cov[entries][:, kept[:, None], kept]
            value[entries], _ = account.expectation(group, own, means[entries][:, kept], some, node.where)
    return Block(value, None)


def _merged(node: graph.PairExpect) -> tuple[np.ndarray, tuple[graph.Factor, ...]]:
    """The Gaussians that are left where both inputs are one, and the factors as functions of them."""
    first = [node.names.index(name) for name in node.names]
    kept = sorted(set(first))
    place = [kept.index(i) for i in first]
    factors = (replace(f, args=tuple(place[i] for i in f.args)) for f in node.factors)
    return np.array(kept), tuple(factors)
