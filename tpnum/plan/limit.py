"""`tpnum.limit`: the law of a program's vectors and scalars at infinite width (SL Thm 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.law.pairs import Pairs
from tpnum.law.site import Lines, Site
from tpnum.plan.blocks import dims, shape
from tpnum.plan.data import bind
from tpnum.plan.general import PairValues
from tpnum.plan.profile import ProfileValues
from tpnum.plan.recursion import deeply
from tpnum.program.lines import Data

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.law import graph
    from tpnum.program import Program, Scalar, Vector

ROUNDING = 1e-12
"""What a recursion without sampling loses, relative to its result."""


def limit(p: Program, *, data: dict[str, Any] | None = None) -> Law:
    """The law of ``p`` as all widths go to infinity together, for programs without transposes.

    (1/n) sum_a psi(x1_a, .., xk_a) -> E psi(Z^1, .., Z^k) almost surely, Z^g Gaussian for G-vars
    (SL Thm 4.3; scalars as in TP2).

    Parameters
    ----------
    p
        The program; it may have data lines, whose arrays (*axes, channels) then come in ``data`` by name.

    Raises
    ------
    LimitError
        A line without a limit here (a transpose), or whose moments do not exist; the message names it.
    """
    return Law(p, data)


class Law:
    """Means, covariances, moments and scalars of a program in the limit, computed when asked for."""

    def __init__(self, p: Program, data: dict[str, Any] | None = None):
        self.program = p
        self._data = {name: np.asarray(x, dtype=np.float64)[None] for name, x in (data or {}).items()}
        needed = [line.name for line in p.lines if isinstance(line, Data)]
        if set(needed) != set(self._data):
            listed = ", ".join(needed) or "none"
            raise InputError(
                f"data: one example for each data line is needed; the program's data lines: {listed}"
            )
        self._read(p.unrolled())

    def _read(self, program: Program) -> None:
        self._pairs = Pairs(Lines(program))
        self._profiles = ProfileValues(self._pairs, 0, bind(program, self._data))

    @property
    def _site(self) -> Site:
        return self._pairs.sites[0]

    def mean(self, v: Vector | str) -> Estimate:
        """E Z^v, per index of the family."""
        name = self._name(v)
        return self._estimate(self._site.mean, name)

    def moment(self, a: Vector | str, b: Vector | str) -> Estimate:
        """E Z^a Z^b, shape (*axes of a, *axes of b)."""
        first, second = self._name(a), self._name(b)
        lines = self._pairs.lines[0]
        sizes = tuple(size for name in (first, second) for _, size in lines.axes(name))

        def work() -> np.ndarray | None:
            node = self._pairs.second(first, second)
            return None if node is None else self._pair(node)

        return self._known(work, sizes)

    def cov(self, a: Vector | str, b: Vector | str) -> Estimate:
        """Cov(Z^a, Z^b), shape (*axes of a, *axes of b)."""
        second = self.moment(a, b)
        first, last = self.mean(a), self.mean(b)
        value = np.asarray(second.value) - np.multiply.outer(first.value, last.value)
        return Estimate(value[()], second.error, second.method, second.cost)

    def expect(
        self, f: Callable[..., Any], *vectors: Vector | str, kinks: tuple[float, ...] = ()
    ) -> Estimate:
        """E f(Z^1, .., Z^k); f takes one array per vector, ``kinks`` are its break points where k = 1."""
        extended = self.program.copy()
        handles = [extended[v if isinstance(v, str) else v.name] for v in vectors]
        name = extended.moment(f, *handles, kinks=kinks).name
        return Law(extended, {k: x[0] for k, x in self._data.items()}).scalar(name)

    def scalar(self, s: Scalar | str) -> Estimate:
        """The limit of a scalar, per index of its family."""
        name = self._name(s)
        return self._estimate(self._site.scalar, name)

    # ------------------------------------------------------------------------------------------

    def _name(self, v: Vector | Scalar | str) -> str:
        name = v if isinstance(v, str) else v.name
        if name not in self._pairs.lines[0].by_name:
            raise InputError(
                f"{name!r} is not a variable of the unrolled program; inside a scan ask for its steps"
            )
        return name

    def _estimate(self, rule: Callable[[str], graph.Profile | None], name: str) -> Estimate:
        axes = self._pairs.lines[0].axes(name)

        def work() -> np.ndarray | None:
            node = rule(name)
            return None if node is None else self._profiles.along(node, axes)[0]

        return self._known(work, tuple(size for _, size in axes))

    def _known(self, work: Callable[[], np.ndarray | None], sizes: tuple[int, ...]) -> Estimate:
        """What ``work`` finds: up to rounding, or to the error of a joint expectation."""
        found = deeply(len(self._pairs.lines[0].program.lines), work)
        if found is None:
            return Estimate(np.zeros(sizes)[()], 0.0, "structural zero", 0)
        account = self._profiles.account
        account.warn()
        value = np.broadcast_to(found, sizes).copy()[()]
        return Estimate(value, max(account.error, ROUNDING) * np.abs(value), "recursion", 1)

    def _pair(self, node: graph.Pair) -> np.ndarray:
        one = slice(0, 1)
        values = PairValues(self._profiles, self._profiles, one, one, same=True)
        block = np.broadcast_to(values(node).k, shape(node, 1, 1))
        names = dims(node)
        return np.squeeze(block, axis=(names.index(("", 0)), names.index(("", 1))))
