"""Instructions for one level, in order: roots that others read, chains of maps, states, stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.law import graph
from tpnum.lower.builder import both
from tpnum.lower.fuse import FusedValues
from tpnum.lower.loops import steps_together
from tpnum.lower.network import Root, grid_of
from tpnum.lower.passes import written
from tpnum.lower.schedule import Level
from tpnum.lower.unsupported import Unsupported, blamed

if TYPE_CHECKING:
    import numpy as np

    from tpnum.evaluate.profile import ProfileValues


class Selection(FusedValues):
    """The code of a level for a pair of profile passes."""

    def __init__(self, level: Level, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype):
        super().__init__(level, profiles, dtype)
        self._pending: dict[int, list[tuple[int, int]]] = {}
        self._run()
        del self.fusions  # it refers to this: profile passes are not to wait for the garbage collector

    @property
    def wide(self) -> bool:
        """Whether relus take tangent kernels along or go back: all lanes of a cell (`_views.lanes`)."""
        return any(
            one.op in ("first", "bent") or (one.op == "relu" and one.reads[1] >= 0) for one in self.code
        )

    def _run(self) -> None:
        depth = self._depths()
        for d in sorted(set(depth.values())):
            batch = [root for root in self.level.roots if depth[id(root)] == d]
            for root in batch:
                for read in root.loads:
                    self._flush(self._root(read.node) or read)
            for root in batch:
                if self._root(root.node) is root or root in self.level.stored:
                    self._make(root)
            stored = [root for root in batch if root in self.level.stored]
            for root in stored:  # one stretch's maps, before the stores
                if not root.pooled:
                    self._flush(root)
            for root in stored:
                self._store(root)
        for root in self.level.roots:
            if id(root) in self._registers:
                self._carry(root)
        self.code = steps_together(written(self.code))

    def _carry(self, root: Root) -> None:
        """What the next step recalls: sources of chains that stand on the root itself."""
        for k, group in enumerate(root.groups):
            if group.carried:
                source = self._source(root, k, -1)
                self.emit("keep", source, grid=grid_of(root.node), extra=("map", id(root), k))

    def _depths(self) -> dict[int, int]:
        """How many roots deep each one stands; all that read a function wait for the tangent kernel it takes.

        The first of them has it made, whichever that is.
        """
        loads = {id(root): [id(r) for r in root.loads] for root in self.level.roots}
        for key, step in self.fusions.steps.items():
            if self._carried(*key):
                continue  # what the next step recalls waits for nothing: it comes last
            inner = self._root(step.inner)
            if inner is not None:
                loads[key[0]].append(id(inner))
        depth = dict.fromkeys(loads, 1)
        for _ in range(len(loads) + 1):
            deeper = {k: 1 + max((depth.get(r, 0) for r in below), default=0) for k, below in loads.items()}
            if deeper == depth:
                return depth
            depth = deeper
        raise Unsupported("a function and its tangent kernel wait for each other")

    def _carried(self, number: int, k: int) -> bool:
        root = next(root for root in self.level.roots if id(root) == number)
        return root.groups[k].carried

    def _make(self, root: Root) -> None:
        """The sources of a root's chains; the chains themselves are run when somebody reads the root."""
        with blamed(root.node):
            self._pending[id(root)] = [
                (self._source(root, k, -1), k)
                for k, group in enumerate(root.groups)
                if group.chain and not group.carried
            ]

    def _flush(self, root: Root) -> None:
        """The register of a root."""
        if id(root) in self._registers:
            return
        if root in self.level.loaded:
            made = self.value_of("load", grid=grid_of(root.node), extra=("buffer", id(root.node)))
        else:
            with blamed(root.node):
                made = self._sum(root)
        self._registers[id(root)] = made

    def _sum(self, root: Root) -> int:
        """The register of a root: its chains and what is added to them."""
        grid = grid_of(root.node)
        made = -1
        plain = [k for k, group in enumerate(root.groups) if not group.chain and self._added(root, k)]
        data = [k for k in plain if any(isinstance(atom, graph.Gram) for _, atom in root.groups[k].atoms)]
        for k in data[:1]:  # it is written, and all else added to it
            made = self._source(root, k, -1)
        for k, group in enumerate(root.groups):
            if group.carried:  # from the step before
                made = self.value_of("zero", grid=grid) if made < 0 else made
                made = self.value_of("recall", made, grid=grid, extra=("map", id(root), k))
        for source, k in self._pending[id(root)]:
            below = self.level.below(root, k)
            part = self.value_of("mix", source, grid=below, extra=("map", id(root), k))
            add = self.numbers.place(grid, both(1.0))
            made = part if made < 0 else self.value_of("add", made, part, p=add, grid=grid)
        for k in plain:
            if k not in data[:1]:
                made = self._source(root, k, made)
        return made if made >= 0 else self.value_of("zero", grid=grid)

    def _store(self, root: Root) -> None:
        key = ("buffer", id(root.node))
        if root.pooled:
            for source, k in self._pending[id(root)]:
                below = self.level.below(root, k)
                made = self.value_of("mix", source, grid=below, extra=("map", id(root), k))
                self.emit("store", made, grid=below, p=-1, extra=("touched", id(root), k, id(root.node)))
            return
        self._flush(root)
        grid = grid_of(root.node)
        self.emit("store", self._registers[id(root)], grid=grid, p=-1, extra=key, flag=1)
