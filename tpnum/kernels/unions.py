"""Sets that are joined by pairs of their members."""

from __future__ import annotations

from tpnum.kernels._jit import kernel


@kernel
def unite(parent, first, second):
    """parent <- the least member of everyone's set, after those of first[k] and of second[k] are joined.

    At first everyone's parent is an earlier member of its set or itself.
    """
    for k in range(first.size):
        a, b = first[k], second[k]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for k in range(parent.size):
        parent[k] = parent[parent[k]]
