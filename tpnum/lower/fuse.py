"""Instructions for functions that are taken from increments to increments, and for their other readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.lower.builder import both, sides
from tpnum.lower.fusions import Fusions
from tpnum.lower.network import grid_of
from tpnum.lower.numbers import Number
from tpnum.lower.unsupported import blamed
from tpnum.lower.values import Values, roots

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.forms import Atoms
    from tpnum.lower.fusions import Fused, Key
    from tpnum.lower.network import Root
    from tpnum.lower.numbers import Pair
    from tpnum.lower.schedule import Level


class FusedValues(Values):
    """Values of a level, functions among them done in one instruction (`tpnum.lower.fusions`)."""

    def __init__(self, level: Level, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype):
        super().__init__(level.roots, level.loaded, profiles, dtype)
        self.level = level
        self.fusions = self._fusions()
        self._parts: dict[Key, int] = {}

    def _fusions(self) -> Fusions:
        """The functions that are done in one instruction."""
        return Fusions(self.level, self._roots, self._prepared)

    def _source(self, root: Root, k: int, out: int) -> int:
        if (id(root), k) not in self.fusions.steps:
            return super()._source(root, k, out)
        made = self._part((id(root), k))
        if out < 0:
            return made
        grid = grid_of(root.node)
        return self.value_of("add", out, made, p=self.numbers.place(grid, both(1.0)), grid=grid)

    def _added(self, root: Root, k: int) -> Atoms:
        """The atoms of a group but for constants that functions add."""
        atoms = super()._added(root, k)
        if root.groups[k].chain or id(root) not in self.fusions.bare:
            return atoms
        return tuple((coef, atom) for coef, atom in atoms if self.level.on_cells(atom))

    def _part(self, key: Key) -> int:
        """The source of a group that functions make."""
        step = self.fusions.steps[key]
        if step.value not in self._parts:
            self._fuse(step)
        if key not in self._parts:
            self._parts[key] = self._other(step, *step.others[key])
        return self._parts[key]

    def _goal(self, step: Fused) -> Pair:
        """The scales of the increments that a function makes, one of covariances."""
        if step.held != "inc":
            return both(1.0)
        norms = next(root for root in self.level.roots if id(root) == step.value[0]).node.norms
        assert norms is not None
        return sides(lambda k: Number(1.0, (), ((norms[k], 1.0),)))

    def _other(self, step: Fused, of_tangent: float, of_value: float) -> int:
        """A covariance that is made of the two sources of a function."""
        grid = grid_of(step.call.cov)
        made = -1
        if of_value:
            source, up, s = self._parts[step.value], Number(of_value), self._goal(step)
            if step.held == "inc":
                moments = step.call.moments
                size = Number(float(np.sqrt(step.coef)))
                r = sides(lambda k: size.times(Number(1.0, ((moments[k], 0.5),))).times(s[k].inverse))
                p = self.numbers.place(grid, r, (up.times(s[0]), s[1]))
                made = self.value_of("covariance", source, p=p, grid=grid)
            else:
                p = self.numbers.place(grid, (up, Number(1.0)))
                made = self.value_of("times", source, p=p, grid=grid)
        if of_tangent:
            assert step.tangent is not None
            source, p = self._parts[step.tangent], self.numbers.place(grid, (Number(of_tangent), Number(1.0)))
            if made >= 0:
                made = self.value_of("add", made, source, p=p, grid=grid)
            elif of_tangent != 1.0:
                made = self.value_of("times", source, p=p, grid=grid)
            else:
                made = source
        return made if made >= 0 else self.value_of("zero", grid=grid)

    def _fuse(self, step: Fused) -> None:
        """Both sources that a function makes."""
        call = step.call
        source = self._roots[id(call.cov)]
        grid = grid_of(call.cov)
        norms = source.node.norms
        assert norms is not None
        here = sides(lambda k: Number(1.0, (), ((norms[k], 1.0),)))
        goal = self._goal(step)
        self._flush(source)
        value, lift = self._registers[id(source)], self.fusions.bare.get(id(source), 0.0)
        first, t, shift = self._inner(step)
        size = 1.0 if step.scale is None else step.scale
        alpha, up, slope = (float(np.sqrt(c * size)) for c in (step.coef, *step.coefs))
        n = self.numbers.constant(
            sides(lambda k: Number(alpha).times(here[k]).times(goal[k].inverse)),
            sides(lambda k: Number(float(np.sqrt(lift)), (), ((norms[k], -1.0),))),
            shift,
            both(slope),
            sides(lambda k: Number(up).times(here[k])),
        )
        flag = 2 * (step.held != "inc") + 4 * first
        operands, makes = (value,) if first else (value, t), 2 if step.tangent is not None else 1
        if step.scale is not None:
            op, p, m = "first" if first else "relu", self._roots_of(norms, grid), 0
            flag += not self.fusions.positive(source)
        else:
            op = "function_first" if first else "function"
            with blamed(call=call):
                prepared = self._prepared(call, 0), self._prepared(call, 1)
                kind, m, own = self.function(prepared, self._placed(call, grid), makes == 2)
            moments = sides(lambda k: Number(1.0, ((call.moments[k], 0.5),)).times(here[k].inverse))
            p = self.numbers.block(grid, own, *roots(norms), moments)
            flag += kind == "series"
        one, two = self.emit(op, *operands, p=p, n=n, m=m, grid=grid, flag=flag, makes=makes)
        self._parts[step.value] = one
        if step.tangent is not None:
            self._parts[step.tangent] = two

    def _inner(self, step: Fused) -> tuple[bool, int, Pair]:
        """Whether the tangent kernel read is the covariance, else its register, and what is added to that."""
        source = self._roots[id(step.call.cov)]
        inner = self._root(step.inner) if step.tangent is not None else None
        if inner is None:
            return False, -1, both(0.0)
        if inner is source:
            norms = source.node.norms
            assert norms is not None
            return True, -1, sides(lambda k: Number(1.0, (), ((norms[k], 1.0),)))
        if inner.held == "inc":
            return False, self._covariance(inner.node, grid_of(step.call.cov)), both(0.0)
        self._flush(inner)
        lift = self.fusions.bare.get(id(inner), 0.0)
        return False, self._registers[id(inner)], both(float(np.sqrt(lift)))
