"""Linear recurrences along rows."""

from __future__ import annotations

from tpnum.kernels._jit import kernel


@kernel
def carry(base, coefs, states):
    """states (k, n, T) <- zero at first, then x_a(t + 1) = base_a(t) + sum_b coefs_ab(t) x_b(t)."""
    count, rows, steps = states.shape
    for i in range(rows):
        for a in range(count):
            states[a, i, 0] = 0.0
        for t in range(steps - 1):
            for a in range(count):
                total = base[a, i, t]
                for b in range(count):
                    total += coefs[a, b, i, t] * states[b, i, t]
                states[a, i, t + 1] = total
