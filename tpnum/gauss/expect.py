"""`expect`: E f(Z), Z ~ N(mean, cov), in any dimension, with an error estimate.

d = 1: a known mean, or panels; d <= 3: tensor Gauss-Hermite rules of growing order; otherwise scrambled
Sobol points through the principal axes of the covariance, several scrambles for the error.  Singular
covariances lose the axes without variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.errors import AccuracyWarning, InputError, LimitError, ProgramError
from tpnum.functions import Function, get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.sampling import control_variates, sobol

METHODS = ("auto", "closed", "quadrature", "qmc", "mc")
_ORDERS = {
    1: (10, 16, 24, 36, 54, 80, 120, 180),
    2: (8, 12, 18, 28, 42, 64, 96, 144, 216),
    3: (6, 9, 14, 21, 32, 48),
}
_BLOCK = 1 << 19

Batched = Callable[[np.ndarray], np.ndarray]


def expect(f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto") -> Estimate:
    """E f(Z_1, .., Z_d), Z ~ N(mean, cov), over leading axes of ``mean`` (..., d) and ``cov`` (..., d, d).

    ``f`` takes d arrays of one length and returns an array of that length, or (k, length) for k components
    (the value is then (..., k)).  ``rtol`` is relative to E|f|; where it is not met an `AccuracyWarning`
    says what was reached.  Two numbers ``mean`` and ``cov`` are the case d = 1.
    """
    made, relative = certified(f, mean, cov, rtol, method)
    missed = relative > rtol * (1 + 1e-9)
    if np.any(missed):
        worst = int(np.argmax(relative))
        warnings.warn(
            f"expect: rtol = {rtol:g} was not reached in {int(missed.sum())} of {missed.size} expectations; "
            f"the worst error{_of(worst, missed.shape)} is {relative.flat[worst]:.1e}",
            AccuracyWarning,
            stacklevel=2,
        )
    return made


def certified(
    f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto"
) -> tuple[Estimate, np.ndarray]:
    """`expect` with the errors relative to E|f| per entry of the batch, and without a warning."""
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if not rtol > 0:
        raise InputError(f"rtol must be positive, not {rtol!r}")
    function = get(f) if isinstance(f, (str, Function, np.ufunc)) or not callable(f) else f
    mean, cov, shape = _validated(mean, cov)
    count, d = mean.shape
    if isinstance(function, Function) and (function.n_scalars or function.arity != d):
        raise InputError(f"{function} takes {function.arity} vector(s), mean and cov have dimension {d}")
    factor = _factors(cov, shape)
    rank = max(1, int(np.max(np.sum(np.any(factor != 0, axis=1), axis=1), initial=0)))
    factor = factor[:, :, :rank]
    f_at = _evaluator(function, d)
    if not count:
        return Estimate(np.empty(shape), np.empty(shape), "none", 0), np.empty(shape)

    value: Any = None
    size: Any = None
    error: Any = None
    used, cost = "", 0
    if isinstance(function, Function) and d == 1 and method in ("auto", "closed"):
        value, used = _known(function, mean[:, 0], cov[:, 0, 0]), "closed"
        if value is not None:
            size, error = np.abs(value), 4e-15 * np.abs(value)
    if value is None and method == "closed":
        raise LimitError(f"no closed form is known for E {function} in dimension {d}: use method='auto'")
    if value is None and method in ("auto", "quadrature"):
        if rank > 3 and method == "quadrature":
            raise LimitError(f"quadrature reaches dimension 3, not {rank}: use method='qmc'")
        if rank <= 3:
            value, error, size, cost = _tensor(f_at, mean, factor, rtol)
            used = "quadrature"
            if d == 1:
                value, error, size, cost = _lines(function, f_at, mean, cov, rtol, value, error, size, cost)
    left = np.ones(count, bool) if value is None else np.any(error > rtol * size, axis=1)
    if method in ("qmc", "mc") or (method == "auto" and np.any(left)):
        sampler = control_variates if method == "mc" else sobol
        made = sampler(f_at, mean[left], factor[left], rtol)
        cost += made[3]
        if value is None:
            value, error, size, used = made[0], made[1], made[2], method if method == "mc" else "qmc"
        else:
            better = made[1] < error[left]
            value[left], error[left] = (
                np.where(better, made[0], value[left]),
                np.where(better, made[1], error[left]),
            )
            used = "quadrature+qmc"
    relative = np.max(error / (size + 1e-300), axis=1).reshape(shape)
    components = f_at.components
    out = shape if components is None else (*shape, components)
    return Estimate(value.reshape(out)[()], error.reshape(out)[()], used, cost), relative


def _of(i: int, shape: tuple[int, ...]) -> str:
    """Which entry of the batch, nothing where there is only one."""
    return f" of batch entry {tuple(int(k) for k in np.unravel_index(i, shape))}" if shape else ""


def _validated(mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    try:
        mean, cov = np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("mean and cov must be real arrays") from None
    if mean.ndim == 0 and cov.ndim == 0:
        mean, cov = mean[None], cov[None, None]
    if mean.ndim < 1 or cov.ndim < 2 or cov.shape[-1] != cov.shape[-2] or cov.shape[-1] != mean.shape[-1]:
        raise InputError(f"mean must be (..., d) and cov (..., d, d), not {mean.shape} and {cov.shape}")
    d = mean.shape[-1]
    if d == 0:
        raise InputError("mean and cov must have at least one coordinate")
    try:
        shape = np.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    except ValueError:
        raise InputError(
            f"the leading axes of mean {mean.shape[:-1]} and cov {cov.shape[:-2]} do not broadcast"
        ) from None
    mean = np.broadcast_to(mean, (*shape, d)).reshape(-1, d)
    cov = np.broadcast_to(cov, (*shape, d, d)).reshape(-1, d, d)
    for name, array in (("mean", mean), ("cov", cov)):
        bad = ~np.all(np.isfinite(array), axis=tuple(range(1, array.ndim)))
        if np.any(bad):
            raise InputError(f"{name}{_of(int(np.argmax(bad)), shape)} is not finite")
    skew = np.max(np.abs(cov - cov.transpose(0, 2, 1)), axis=(1, 2), initial=0.0)
    bad = skew > 1e-10 * np.max(np.abs(cov), axis=(1, 2), initial=0.0)
    if np.any(bad):
        raise InputError(f"cov{_of(int(np.argmax(bad)), shape)} is not symmetric")
    return mean, 0.5 * (cov + cov.transpose(0, 2, 1)), shape


def _factors(cov: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """L with L L' = cov, principal axes first; axes without variance are zero columns."""
    values, vectors = np.linalg.eigh(cov)
    top = np.maximum(values[:, -1:], 0.0)
    bad = values[:, 0] < -1e-10 * top[:, 0] - 1e-300
    if np.any(bad):
        i = int(np.argmax(bad))
        raise InputError(f"cov{_of(i, shape)} has the negative eigenvalue {values[i, 0]:.6g}")
    values = np.where(values > 1e-15 * top, values, 0.0)
    return (vectors * np.sqrt(values)[:, None, :])[:, :, ::-1]


class _evaluator:
    """f on (batch, d, points) arrays -> (batch, components, points), checked."""

    def __init__(self, f: Any, d: int) -> None:
        self.f, self.d = f, d
        self.components: int | None = None
        self.known = False

    def __call__(self, u: np.ndarray) -> np.ndarray:
        count, d, points = u.shape
        columns = [np.ascontiguousarray(u[:, k]).reshape(-1) for k in range(d)]
        try:
            with np.errstate(all="ignore"):
                made = np.asarray(self.f(*columns), dtype=np.float64)
        except ProgramError:
            raise
        except Exception as error:
            raise InputError(f"f failed on {d} array(s) of length {count * points}: {error}") from error
        length = count * points
        if made.ndim == 0:
            made = np.broadcast_to(made, (length,))
        if made.ndim not in (1, 2) or made.shape[-1] != length:
            raise InputError(
                f"f returned shape {made.shape} for {d} array(s) of length {length}: "
                f"it must be ({length},) or (k, {length})"
            )
        if not self.known:
            self.components, self.known = (made.shape[0] if made.ndim == 2 else None), True
        made = made.reshape(-1, count, points).transpose(1, 0, 2)
        if not np.all(np.isfinite(made)):
            i, _, j = np.argwhere(~np.isfinite(made))[0]
            at = ", ".join(f"{x:.6g}" for x in u[i, :, j])
            raise LimitError(f"f is not finite at ({at}), which matters for its expectation")
        return made


def _tensor(
    f_at: Batched, mean: np.ndarray, factor: np.ndarray, rtol: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Tensor Gauss-Hermite rules of growing order, each entry until two of them agree."""
    count, _, rank = factor.shape
    todo = np.arange(count)
    results: Any = None
    cost, last = 0, np.empty(0)
    before: np.ndarray | None = None
    for order in _ORDERS[rank]:
        z, w = _rule(order, rank)
        cost += z.shape[1] * todo.size
        value, size = _weighted(f_at, mean[todo], factor[todo], z, w)
        if results is None:
            last = np.zeros_like(value)
            results = tuple(np.empty((count, value.shape[1])) for _ in range(3))
            results[1][:] = np.inf
        assert results is not None
        results[0][todo], results[2][todo] = value, size
        if before is not None:
            # a kink makes the changes erratic: one small one is not believed
            change = np.abs(value - before)
            settled = np.maximum(3.0 * change, 0.1 * last) + 2e-15 * size
            last = change
            believed = np.flatnonzero(np.all(settled <= 0.1 * rtol * size, axis=1))
            if believed.size:
                turned = _turned(order, rank)
                other = todo[believed]
                cost += turned[0].shape[1] * other.size
                second = _weighted(f_at, mean[other], factor[other], *turned)[0]
                apart = 3.0 * np.abs(second - value[believed])
                settled[believed] = np.maximum(settled[believed], apart)
            results[1][todo] = settled
        open_ = np.any(results[1][todo] > 0.1 * rtol * size, axis=1)
        todo, before, last = todo[open_], value[open_], last[open_]
        if not todo.size:
            break
    assert results is not None
    return *results, cost


def _rule(order: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite_e.hermegauss(order)
    w = w / w.sum()
    z = np.stack([a.ravel() for a in np.meshgrid(*[x] * rank, indexing="ij")])
    weight = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[w] * rank, indexing="ij")]), axis=0)
    kept = weight > 1e-32
    return z[:, kept], weight[kept]


def _turned(order: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A rule of the next order along other axes.

    Rules of one parity along the same axes are fooled together by jumps: all even ones have E sign(u) = 0 at
    a small mean.
    """
    z, w = _rule(order + 1, rank)
    for k in range(1, rank):
        c, s = np.cos(0.6 + 0.1 * k), np.sin(0.6 + 0.1 * k)
        z[k - 1], z[k] = c * z[k - 1] - s * z[k], s * z[k - 1] + c * z[k]
    return z, w


def _weighted(
    f_at: Batched, mean: np.ndarray, factor: np.ndarray, z: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sum_j w_j f, sum_j w_j |f|) at the points mean + factor z, in blocks of the batch."""
    step = max(1, _BLOCK // z.shape[1])
    value, size = [], []
    for begin in range(0, mean.shape[0], step):
        part = slice(begin, begin + step)
        made = f_at(mean[part, :, None] + factor[part] @ z)
        value.append(made @ w)
        size.append(np.abs(made) @ w)
    return np.concatenate(value), np.concatenate(size)


def _known(f: Function, mean: np.ndarray, q: np.ndarray) -> np.ndarray | None:
    from tpnum.gauss.closed import FAMILIES

    if f.closed is None or f.closed[0] not in FAMILIES or np.any(mean):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.asarray(FAMILIES[f.closed[0]].mean(q, f.closed[1]), dtype=np.float64)
    if not np.all(np.isfinite(made)):
        raise LimitError(
            f"E {f} overflows or does not exist at variance {float(q[~np.isfinite(made)][0]):.6g}"
        )
    return np.broadcast_to(made, q.shape)[:, None].copy()


def _lines(
    f: Any, f_at: Any, mean: np.ndarray, cov: np.ndarray, rtol: float, value: np.ndarray, error: np.ndarray,
    size: np.ndarray, cost: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:  # fmt: skip
    """The one-dimensional entries that Gauss-Hermite did not settle, by panels."""
    from tpnum.gauss.moments import expectation

    left = np.flatnonzero(np.any(error > 0.1 * rtol * size, axis=1))
    if not left.size:
        return value, error, size, cost
    for k in range(value.shape[1]):
        if isinstance(f, Function):
            one = f
        else:
            many = f_at.components is not None
            one = Function.from_callable((lambda u, k=k: np.asarray(f(u))[k]) if many else f)
        made = expectation(one, cov[left, 0, 0], mean[left, 0])
        value[left, k], error[left, k] = made.value, made.error
        cost += made.cost
    return value, error, size, cost
