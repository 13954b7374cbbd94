"""The derivatives of the expectations of a call: by the covariance and the variances of its Gaussians."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate.chain import CLOSE, ratio
from tpnum.evaluate.partials import Gaussians, Partials, partials, stretch
from tpnum.gauss.moments import profile as moments
from tpnum.gauss.prepared import SCALING, alone, has_family
from tpnum.gauss.rules import check_growth
from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.evaluate.general import PairValues
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.functions import Function
    from tpnum.law.moving import Moving


HEATED = ("sin", "exp")
"""Families whose integrals grow with the variance as they do around zero, whatever the mean."""


class Slopes(NamedTuple):
    """By the covariance, and where that stays by log q / 2 and by log q' / 2."""

    cov: np.ndarray
    first: np.ndarray
    second: np.ndarray


class DualPartials:
    """The partial derivatives of duals on the tile of ``values``, by expectations of other functions."""

    def __init__(self, values: PairValues, moving: Moving):
        self.values, self.moving = values, moving
        self._duals: dict[tuple[int, Function, Function], graph.DualCall] = {}
        self._nodes: list[graph.Pair] = []  # ids stay theirs while these live
        self._at: dict[int, Gaussians] = {}

    def slopes(self, node: graph.Dual) -> Slopes:
        """Of a node on its tile."""
        made, at = self.partials(node)
        rho = at.rho
        moves = np.abs(at.e) >= CLOSE  # where rho is 1 to rounding it stays there, however steep it is
        by_rho = np.where(moves, made.rho, 0.0)
        by_cov = ratio(by_rho, at.scale)
        silent = at.scale == 0.0
        if silent.any():
            by_cov = np.where(silent, self._silent(node), by_cov)
        return Slopes(by_cov, made.first - rho * by_rho, made.second - rho * by_rho)

    def _silent(self, node: graph.Dual) -> np.ndarray | float:
        """By the covariance where one variance is 0, and u and v thus independent: E f' E g' by Price."""
        call = node.call
        if call.f_scalars or call.g_scalars:
            return 0.0
        total: np.ndarray | float = 1.0
        for side, (fn, var) in enumerate(zip((call.f, call.g), call.vars, strict=True)):
            h = fn if node.what == "value" else fn.derivative()
            if not h.continuous:
                return 0.0
            key = ("tangent", h, "slope", *var.key)
            mean = graph.Expect1(key, var.axes, fn=h, what="slope", mean=None, var=var, scalars=())
            total = total * self.values.profile(mean, side, node)
        return total

    def partials(self, node: graph.Dual) -> tuple[Partials, Gaussians]:
        """By rho and by the logarithms of deviations where rho stays, and where."""
        call = node.call
        profiles = self.values.profiles
        check(profiles, call, self.moving)
        if id(call) not in self._at:
            q, q2 = (self.values.profile(var, side, node) for side, var in enumerate(call.vars))
            self._at[id(call)] = Gaussians(self.values._correlation(call, node), q, q2)
        at = self._at[id(call)]

        def of(f: Function, g: Function, what: str) -> np.ndarray:
            return self.values(self._dual(node, f, g, what)).k

        if call.f_scalars or call.g_scalars:
            where = profiles[0]._where(call.vars[0])
            degrees = scaling(call.f, call.f_scalars, where), scaling(call.g, call.g_scalars, where)
            if node.what == "slope":
                raise unavailable(where)
            own = self.values(node).k
            return Partials(at.scale * of(call.f, call.g, "slope"), degrees[0] * own, degrees[1] * own), at
        return partials(call.f, call.g, node.what, of, at), at

    def _dual(self, node: graph.Dual, f: Function, g: Function, what: str) -> graph.Dual:
        """The same expectation of other functions."""
        call = node.call
        key = (id(call), f, g)
        if key not in self._duals:
            if (f, g) == (call.f, call.g):
                # one that knows both, whatever the plan asked for
                both = {"value", "slope"}
                made = call if both <= call.wanted else replace(call, wanted=both)
            else:
                moments = tuple(
                    graph.Expect1(
                        ("tangent", h, "second", *var.key), var.axes, fn=h, what="second", mean=None, var=var,
                        scalars=(),
                    )
                    for h, var in zip((f, g), call.vars, strict=True)
                )  # fmt: skip
                made = replace(call, f=f, g=g, moments=(moments[0], moments[1]), wanted={"value", "slope"})
            self._duals[key] = made
        other = replace(node, call=self._duals[key], what=what, increments=False, norms=None)
        self._nodes += [node, other]
        return other


def stretched(values: ProfileValues, node: graph.Expect1, moving: Moving) -> np.ndarray:
    """The derivative of an integral over one Gaussian by log q."""
    moved = [s for s in node.scalars if moving.profile(s) and not equal(values, s, node.var)]
    if moving.profile(node.mean) or moved:
        raise unavailable(values._where(node))
    family = node.fn.closed[0] if node.fn.closed is not None else ""
    if family not in HEATED and moving.profile(node.var):
        centred(values, node.mean, values._where(node))
    q = values.along(node.var, node.axes)
    if node.scalars:
        power = 2 if node.what in ("second", "slope_second") else 1
        degree = scaling(node.fn, node.scalars, values._where(node)) - node.what.startswith("slope")
        return 0.5 * power * degree * values.along(node, node.axes)

    def of(h: Function) -> np.ndarray:
        if h.closed is None and not has_family(h):  # the moment alone: a series is for pairs
            flat = np.ascontiguousarray(q).ravel()
            check_growth(h, flat, 1)
            integral = alone(h, "first")
            made = None if integral is None else integral(flat)
            return (moments(h, flat).first if made is None else made).reshape(q.shape)
        return values.along(replace(node, key=("tangent", h, *node.key), fn=h, what="first"), node.axes)

    def known(what: str) -> np.ndarray:
        return values.along(replace(node, key=("tangent", what, *node.key), what=what), node.axes)

    return stretch(node.fn, node.what, of, known, q)


def own_partials(values: ProfileValues, node: graph.Expect2, moving: Moving) -> tuple[Partials, Gaussians]:
    """As `DualPartials.partials`, of two Gaussians at one input."""
    left, right = node.sides
    if any(moving.profile(p) for side in node.sides for p in (side.mean, *side.scalars)):
        raise unavailable(values._where(node))
    for side in node.sides:
        if moving.profile(side.var):
            centred(values, side.mean, values._where(node))
    q, q2, c = (values.along(p, node.axes) for p in (left.var, right.var, node.cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.where(q * q2 > 0, c / np.sqrt(q) / np.sqrt(q2), 1.0)
    at = Gaussians(np.copysign(np.clip(1.0 - np.abs(rho), 0.0, 1.0), rho), q, q2)

    def of(f: Function, g: Function, what: str) -> np.ndarray:
        sides = (replace(left, fn=f), replace(right, fn=g))
        key = ("tangent", f, g, what, *node.key)
        return values.along(replace(node, key=key, sides=sides, what=what), node.axes)

    return partials(left.fn, right.fn, node.what, of, at), at


def check(profiles: tuple[ProfileValues, ProfileValues], call: graph.DualCall, moving: Moving) -> None:
    """Refuse means behind which variances move, and scalars that do unless they are the variance itself."""
    sides = zip(profiles, call.means, (call.f_scalars, call.g_scalars), call.vars, strict=True)
    for values, mean, scalars, var in sides:
        if moving.profile(mean) or any(moving.profile(s) and not equal(values, s, var) for s in scalars):
            raise unavailable(profiles[0]._where(call.vars[0]))
        if moving.profile(var):
            centred(values, mean, profiles[0]._where(call.vars[0]))


def centred(values: ProfileValues, mean: graph.Profile | None, where: str) -> None:
    """Refuse the rules of integration by parts to Gaussians whose means are not zero."""
    if mean is not None and np.any(values(mean)):
        raise LimitError(
            f"{where}: the derivative of a function of variables with means other than zero is not "
            "available; leave out wrt="
        )


def equal(values: ProfileValues, a: graph.Profile, b: graph.Profile) -> bool:
    """Whether two quantities of one input are the same."""
    return np.array_equal(values(a), values(b))


def scaling(fn: Function, scalars: tuple[graph.Profile, ...], where: str) -> float:
    """d where f(u; s) of u ~ N(0, s) scales like s^(d / 2)."""
    if not scalars and fn.degree is not None:
        return fn.degree
    if scalars and fn.primitive is None and fn.name in SCALING:
        return 2.0 * SCALING[fn.name]
    raise unavailable(where)


def of_many(node: graph.Pair) -> LimitError:
    """What is said of a node over more than two Gaussians."""
    return beyond_two(f"{node.where}: " if isinstance(node, graph.PairExpect | graph.Jointly) else "")


def beyond_two(where: str) -> LimitError:
    """What is said of an expectation over more than two Gaussians; ``where`` begins the sentence."""
    return LimitError(
        f"{where}the derivative of an expectation over more than two Gaussians is not "
        "available; leave out wrt="
    )


def unavailable(where: str) -> LimitError:
    """What is said of a function whose parameters move."""
    return LimitError(
        f"{where}: the derivative of a function with parameters or means that depend on wrt is not "
        "available; leave out wrt="
    )
