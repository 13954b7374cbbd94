"""What the law demands of a program: a graph of per-input and of pairwise quantities.

The rules (`tpnum.law.site`, `tpnum.law.pairs`) turn a program's text into these nodes; evaluators
(`tpnum.evaluate`) turn nodes into arrays.  A *profile* node is a function of one input (variances, means,
scalars): array (N, *axes).  A *pair* node is a function of two inputs: K(a, b) = E[Z^a Z^b'] or a factor
of it.
"""

from __future__ import annotations

from tpnum.law.graph.pair import (
    Attention,
    Carried,
    Diagonal,
    Dual,
    DualCall,
    Embedded,
    Fresh,
    Gram,
    Jointly,
    Mapped,
    Pair,
    PairExpect,
    Part,
    Shared,
    Stencil,
    Sum,
    Weighted,
)
from tpnum.law.graph.profile import (
    Arithmetic,
    Carried1,
    Constant,
    Expect1,
    Expect2,
    ExpectN,
    Factor,
    Given,
    Key,
    Mapped1,
    Marginal,
    Norm,
    Polynomial,
    Profile,
    Reduced,
    Softmax,
    Within,
)
from tpnum.law.graph.walks import increments_read, operands, schedule

# fmt: off
__all__ = [
    "Arithmetic", "Attention", "Carried", "Carried1", "Constant", "Diagonal", "Dual", "DualCall",
    "Embedded", "Expect1", "Expect2", "ExpectN", "Factor", "Fresh", "Given", "Gram", "Jointly",
    "Key", "Mapped", "Mapped1", "Marginal", "Norm", "Pair", "PairExpect", "Part", "Polynomial",
    "Profile", "Reduced", "Shared", "Softmax", "Stencil", "Sum", "Weighted", "Within",
    "increments_read", "operands", "schedule",
]
# fmt: on
