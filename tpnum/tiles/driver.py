"""`tpnum.kernel`: NNGP and NTK matrices of a net over arrays of inputs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import nn
from tpnum.arguments import flag, whole
from tpnum.arguments import jobs as jobs_of
from tpnum.errors import InputError
from tpnum.evaluate.joint import BUDGET, RTOL, Account, accuracy
from tpnum.evaluate.plan import Plan, make_plan
from tpnum.lower.variances import Variances
from tpnum.nn.base import no_layer
from tpnum.program import Program
from tpnum.program.lines import Data
from tpnum.tiles import arguments
from tpnum.tiles.derivatives import Derivatives, derivatives, names_of, plan_with_slopes
from tpnum.tiles.diagonal import fill_diagonals
from tpnum.tiles.named import Kernels
from tpnum.tiles.pool import one_blas_thread, run
from tpnum.tiles.workers import make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.nn.base import Layer


def kernel(
    net: Layer | Program,
    x1: Any,
    x2: Any = None,
    *,
    get: str | tuple[str, ...] = "nngp",
    diag: bool = False,
    dtype: Any = None,
    n_jobs: int | None = None,
    tile: int | None = None,
    out: Any = None,
    progress: bool | Callable[[int, int], None] | None = None,
    rtol: float | None = None,
    budget: int | None = None,
    wrt: str | tuple[str, ...] | None = None,
) -> Any:
    r"""The infinite-width kernels of a net between the examples of ``x1`` and of ``x2``.

    ``"nngp"`` is the second moment E[Z Z'] of the output (SL Thm 4.3), ``"ntk"`` the neural tangent
    kernel Theta, the law of the tangent program.  Data enter as q(x, x') = x . x' / features.

    Parameters
    ----------
    net
        Layers of `tpnum.nn`, or a `Program` with data lines and declared outputs.
    x1, x2
        (examples, *index axes, features); ``x2=None`` is x1 against itself, with the symmetric work
        done once and an exact diagonal.  For a program with several data lines, a dict by name.
    get
        "nngp", "ntk" or both as a tuple.
    diag
        The diagonal K(x, x) of x1 alone, position by position, in time and memory of the number of examples.
    dtype
        float64 (default) or float32, of the result and of the arithmetic per pair.
    n_jobs
        Threads over tiles; all processors by default and for -1.
    tile
        Rows of a tile; chosen from the memory budget by default.
    out
        Arrays to fill instead of fresh ones: one, a tuple in the order of ``get``, or a dict.
    progress
        True for a progress bar, or a function called with (tiles done, tiles in all).
    rtol, budget
        As in `tpnum.limit`: the accuracy, relative to E|f|, asked of expectations over more than two
        Gaussians (1e-6 by default), as of max pooling and normalisation, and the evaluations that one of
        them may take (2^20); an `AccuracyWarning` where that does not reach it.  All else, closed forms,
        series and quadrature over one or two Gaussians, is as exact as it can be whatever is asked, and a
        net of it alone gives the same numbers with any ``rtol`` and ``budget``.
    wrt
        Deviations of a net's weights and biases to differentiate by: a name for all that bear it
        ("W_std"), a path for one ("layers[2].b_std"), or a tuple of them.  Then what is returned is a pair
        (kernel, derivatives), the latter (len(wrt), *kernel.shape), or of the kernel's shape for one name.

    Returns
    -------
    ndarray or named tuple
        Shape (N1, N2, *axes1, *axes2), the axes being those the output has left (time steps, pixels), or
        (N1, *axes1) with ``diag``; for a tuple ``get`` a named tuple with its fields in the order of ``get``.
        With ``wrt`` a `Derivatives` of two such.

    Raises
    ------
    InputError
        An argument that cannot be used; the message names it.
    LimitError
        A variance that overflows or a line that has no limit law here; the message names the line.
    """
    kinds = arguments.kinds_of(get)
    work = arguments.dtype_of(dtype)
    jobs = jobs_of(n_jobs)
    side = None if tile is None else whole(tile, "tile", 1)
    report = arguments.progress_of(progress)
    paths = None if wrt is None else names_of(net, wrt)
    asked, most = accuracy(rtol, budget)
    account = Account(asked or RTOL, most or BUDGET)
    first, second = arguments.inputs_of(x1, x2)
    if flag(diag, "diag") and second is not None:
        raise InputError("diag: the diagonal is that of x1 with itself; leave x2 out")
    plan = plan_of(net, first, second, kinds)
    n1 = len(next(iter(first.values())))
    n2 = n1 if second is None else len(next(iter(second.values())))
    shape = (n1, *plan.axes[0]) if diag else (n1, n2, *plan.axes[0], *plan.axes[1])
    outs = arguments.outputs_of(out, kinds, shape, work, isinstance(get, str))
    variances = Variances()
    profiles = plan.profiles(first, second, account, variances)
    with one_blas_thread():
        if diag:
            fill_diagonals(plan, profiles[0], outs)
        else:
            run(make_worker(plan, profiles, outs, work, side, variances), jobs, report)
        slopes = None
        if paths is not None:
            sizes = [next(iter(x.values())).shape[1:] for x in (first, second or first)]
            jets = plan_with_slopes(net, paths, sizes, kinds)
            with np.errstate(all="ignore"):  # what is not finite is refused
                slopes = derivatives(jets, len(paths), first, second, shape, work, variances, diag)
    account.warn()
    made = _given(get, kinds, outs)
    if slopes is None:
        return made
    if isinstance(wrt, str):
        slopes = {kind: one[0] for kind, one in slopes.items()}
    return Derivatives(made, _given(get, kinds, slopes))


def _given(get: Any, kinds: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Any:
    """The array of one kind, or those of several."""
    return arrays[get] if isinstance(get, str) else Kernels(kinds, arrays.values())


def plan_of(
    net: Layer | Program, x1: dict[str, np.ndarray], x2: dict[str, np.ndarray] | None, kinds: tuple[str, ...]
) -> Plan:
    """The plan of a net or a program at the shapes of its inputs, which get its data lines' names."""
    shapes = tuple(
        tuple((name, array.shape[1:]) for name, array in x.items()) for x in (x1, x1 if x2 is None else x2)
    )
    plans = _plans if _is_hashable(net) else _plans.__wrapped__
    programs, plan = plans(net, shapes, kinds)
    _name_data(programs[0], x1, "x1")
    if x2 is not None:
        _name_data(programs[1], x2, "x2")
    return plan


@lru_cache(maxsize=32)
def _plans(
    net: Layer | Program, shapes: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...], kinds: tuple[str, ...]
) -> tuple[tuple[Program, Program], Plan]:
    """The program at either shape and their plan, which depend on nothing else."""
    first = _program(net, shapes[0])
    second = first if shapes[0] == shapes[1] else _program(net, shapes[1])
    return (first, second), make_plan((first, second), kinds)


def _is_hashable(net: Layer | Program) -> bool:
    try:
        hash(net)
    except TypeError:
        return False
    return True


def _program(net: Layer | Program, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Program:
    if isinstance(net, Program):
        return net
    if not isinstance(net, nn.Layer):
        raise InputError(f"net is {no_layer(net)}, or a Program")
    if [name for name, _ in shapes] != [""]:
        raise InputError("x1: a dict of arrays goes with a Program; a net of layers takes one array")
    return nn.program(net, shapes[0][1])


def _name_data(program: Program, given: dict[str, np.ndarray], argument: str) -> None:
    names = [line.name for line in program.lines if isinstance(line, Data)]
    if not names:
        raise InputError(
            "net: the program has no data line; p.data(...) makes one, tp.limit reads programs without"
        )
    if list(given) == [""] and len(names) == 1:
        given[names[0]] = given.pop("")
    if set(given) != set(names):
        raise InputError(
            f"{argument}: the program's data lines are {', '.join(names)}; give a dict with these"
        )
    for name in names:
        axes = tuple(size for _, size in program.vars[name].axes)
        if given[name].shape[1:-1] != axes:
            expected = ", ".join(["examples", *map(str, axes), "channels"])
            raise InputError(
                f"{argument}: shape {given[name].shape} does not fit the data line {name}, "
                f"which is ({expected})"
            )
