"""Which quantities depend on what is differentiated by: coefficients that are jets, and data if asked."""

from __future__ import annotations

from tpnum.jets import Jet
from tpnum.law import graph
from tpnum.law.sources import profiles, sources
from tpnum.law.worklist import postorder


class Moving:
    """Whether nodes of a graph move with its jets; ``inputs`` says that products of data do too."""

    def __init__(self, inputs: bool):
        self.inputs = inputs
        self._profiles: dict[graph.Key, bool] = {}
        self._pairs: dict[int, tuple[graph.Pair, bool]] = {}  # ids stay theirs while these live

    def profile(self, node: graph.Profile | None) -> bool:
        """Whether a quantity of one input moves."""
        if node is None:
            return False
        if node.key not in self._profiles:
            for each in postorder([node], sources, lambda n: n.key, self._profiles):
                self._profiles[each.key] = self._profile(each)
        return self._profiles[node.key]

    def _profile(self, node: graph.Profile) -> bool:
        match node:
            case graph.Constant():
                return isinstance(node.value, Jet)
            case graph.Norm():
                return self.inputs
            case graph.Reduced() | graph.Within():
                return self.pair(node.pair)
            case graph.Polynomial():
                if any(isinstance(coef, Jet) for coef, _ in node.terms):
                    return True
        return any(self.profile(source) for source in sources(node))

    def pair(self, node: graph.Pair) -> bool:
        """Whether a quantity of two inputs moves."""
        if id(node) not in self._pairs:
            for each in postorder([node], graph.operands, id, self._pairs):
                self._pairs[id(each)] = each, self._pair(each)
        return self._pairs[id(node)][1]

    def _pair(self, node: graph.Pair) -> bool:
        match node:
            case graph.Gram():
                return self.inputs
            case graph.Shared():
                return isinstance(node.value, Jet)
            case graph.Sum():
                if any(isinstance(part.coef, Jet) for part in node.parts):
                    return True
        return any(self.pair(operand) for operand in graph.operands(node)) or any(
            self.profile(source) for source in profiles(node)
        )
