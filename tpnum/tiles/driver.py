"""`tpnum.kernel`: NNGP and NTK matrices of a net over arrays of inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice, flag
from tpnum.errors import InputError
from tpnum.lower.variances import Variances
from tpnum.program import Program
from tpnum.tiles import arguments, batches
from tpnum.tiles.asked import Asked, require_no_store, require_pairs
from tpnum.tiles.backends import is_remote
from tpnum.tiles.elsewhere import kernel_elsewhere
from tpnum.tiles.gradients.contracted import MORE, Against, contracted
from tpnum.tiles.gradients.derivatives import LINE, Derivatives, by_rules, derivatives, with_slopes
from tpnum.tiles.inputs import inputs_of, plan_of
from tpnum.tiles.named import WithError
from tpnum.tiles.packing import packed
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.roads import Call, filled
from tpnum.tiles.stores.layout import SIDES
from tpnum.tiles.stores.targets import on_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.plan import Plan
    from tpnum.nn.base import Layer
    from tpnum.tiles.extras import Inputs


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
    resume: bool = False,
    verify: bool = False,
    symmetric: str = "full",
    shard: str | tuple[int, int] | None = None,
    backend: Any = None,
    scheduler: Any = None,
    progress: bool | Callable[[int, int], None] | None = None,
    rtol: float | None = None,
    budget: int | None = None,
    seed: int = 0,
    error: bool = False,
    mask_constant: float | None = None,
    pattern1: Any = None,
    pattern2: Any = None,
    wrt: str | tuple[str, ...] | None = None,
    batch_size: int | None = None,
    against: Any = None,
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
        done once and an exact diagonal.  For a program with several data lines or with known scalars, a
        dict by name; scalars are (examples, *index axes).
    get
        "nngp", "ntk" or both as a tuple.
    diag
        The diagonal K(x, x) of x1 alone, position by position, in time and memory of the number of examples.
    dtype
        float64 (default) or float32, of the result and of the arithmetic per pair.
    n_jobs
        Threads, or processes, over tiles; all processors by default and for -1.
    tile
        Rows of a tile; chosen from the memory budget by default, and for derivatives always.
    out
        Arrays to fill instead of fresh ones: one, a tuple in the order of ``get``, or a dict.  Or a place on
        disk, for matrices larger than memory: ``"K.zarr"``, a Zarr v3 group with one array a kind and one
        chunk a tile, a store of the zarr package for the same, or ``"K.npy"`` (K.nngp.npy and K.ntk.npy for
        two).  Inputs that are memory maps or Zarr arrays are then read by slices, and every finished tile has
        a receipt.
    resume
        Continue a store that a run before has left, with what it lacks; one that was made of other data, of
        another net, dtype or version is refused.
    verify
        With ``resume``: read the checksums of what is there, and compute again what is damaged.
    symmetric
        "full" stores both triangles of a symmetric matrix; "half", in a Zarr store, the upper one's tiles.
    shard
        (k, n) or "k/n": only the k-th of n parts of the tiles.  Shards may run anywhere at any time, together
        and repeatedly, and fill one store.
    backend
        "threads" (default), "processes", "dask" (also by ``joblib.parallel_config(backend="dask")``), or an
        object with the methods that `tpnum.tiles.backends` tells of.  Tasks are paths and receipts, never
        arrays; one that loses three workers ends the run with an error that names its tile.
    scheduler
        A Dask client, or the address of a scheduler; the current client by default.
    progress
        True for a progress bar on a terminal, or a function called with (tiles done, tiles in all); with
        ``wrt`` in memory one kind after the other.
    rtol, budget
        As in `tpnum.limit`: the accuracy, relative to E|f|, asked of expectations over more than two
        Gaussians (1e-6 by default), as of max pooling and normalisation, and the evaluations that one of
        them may take (2^20); an `AccuracyWarning` where that does not reach it.  All else, closed forms,
        series and quadrature over one or two Gaussians, is as exact as it can be whatever is asked, and a
        net of it alone gives the same numbers with any ``rtol`` and ``budget``.

        What no such rules reach, or only at a price (gated cells, functions of pooled functions), is sampled
        by *one ensemble over a tile of inputs*: by 2^14 points (2^16 of recurrences), with ``rtol`` by as
        many as it takes and ``budget`` allows.  It is never reported as exact: the warning says what was
        reached, and `tpnum.plan` which line forced it.
    seed
        Fixes the points of an ensemble, and with them the result, whatever the number of threads.
    error
        True: return a pair (kernel, error), the latter with a standard error for every entry.  Where nothing
        is sampled it is what rounding and expectations over more than two Gaussians may have lost, of a
        matrix on disk tile by tile; there it lies beside the kernels, as "nngp_error" and "ntk_error".
    mask_constant
        Positions of x1 and x2 with a feature equal to it (NaN too) are masked: they are padding of examples
        that have fewer positions, as sequences of unequal length.  Every layer keeps them zero and hands the
        mask on: a convolution or window keeps that of its middle, `nn.GlobalAvgPool` divides by the positions
        that are not masked, `nn.AvgPool` by its window, `nn.Flatten` by all; recurrent states stay what
        they were.
    pattern1, pattern2
        Graphs for `nn.Aggregate`, one adjacency matrix [tail, head] per example of x1 and of x2.
    wrt
        Deviations of a net's weights and biases to differentiate by: a name for all that bear it
        ("W_std"), a path for one ("layers[2].b_std"), or a tuple of them.  Then what is returned is a pair
        (kernel, derivatives), the latter (len(wrt), *kernel.shape), or of the kernel's shape for one name.
        The kernel is one more line of its derivatives, and equals that of a call without ``wrt`` to rounding.
        Nets are differentiated by compiled adjoints, at a few times the time of the kernel however many names
        there are; what those have no rule for (functions that jump or have parameters, what `tpnum.plan`
        shows as NumPy) by the graph's rules read backwards, slower but alike (forwards, name by name, where
        an output has index axes and there is no ``against``).  On disk there is a matrix for every name, as
        "ntk_wrt_W_std", and ``derivatives`` a tuple of them.

        With ``against`` also "x1" and "x2", the inputs.  The NTK of a net with kinks has no derivative where
        two inputs meet (within 1e-7 of their size): what does not exist there counts 0.  Padding has none.
    against
        A matrix G of the kernel's shape: instead of K what is returned is the sum of G K over all entries,
        and its derivatives, one for each name of ``wrt``: a number for a deviation, an array like x1 for
        "x1" (both arguments of K move if there is no x2).  Or a vector v over the columns: K v (N1,), for a
        deviation its derivative (N1,), and for "x1" the gradients of (K v)_i by the example i.  Neither K
        nor its derivatives are ever stored: beyond G the memory is that of the inputs, and the time a few
        times that of the kernel, however many names there are.

    batch_size
        Examples of a batch, for `nn.BatchNorm` of a net of layers: every so many consecutive examples of x1
        and of x2 are one, normalised by themselves.  It divides the numbers of examples, and ``tile``.

    Returns
    -------
    ndarray or named tuple
        Shape (N1, N2, *axes1, *axes2), the axes being those the output has left (time steps, pixels), or
        (N1, *axes1) with ``diag``; for a tuple ``get`` a named tuple with its fields in the order of ``get``.
        With ``wrt`` a `Derivatives` of two such, with ``error`` a pair.
        Of matrices on disk what `tpnum.open` gives: they are read by slices.

    Raises
    ------
    InputError
        An argument that cannot be used; the message names it.
    LimitError
        A variance that overflows or a line that has no limit law here; the message names the line.
    StoreError
        A place on disk that cannot be written, is taken, or holds something else; the message names it.
    """
    asked = Asked.of(
        net,
        get=get,
        dtype=dtype,
        wrt=wrt,
        against=against,
        error=error,
        diag=diag,
        tile=tile,
        n_jobs=n_jobs,
        progress=progress,
        rtol=rtol,
        budget=budget,
        seed=seed,
        batch_size=batch_size,
    )
    options = {
        "backend": backend,
        "scheduler": scheduler,
        "resume": flag(resume, "resume"),
        "verify": flag(verify, "verify"),
        "symmetric": choice(symmetric, "symmetric", SIDES),
        "shard": arguments.shard_of(shard),
    }
    inputs = x1, x2, mask_constant, pattern1, pattern2
    sums = against is not None
    if on_disk(out) or is_remote(backend, scheduler, around=not (asked.diag or sums)):
        require_pairs(asked.diag, sums)
        return kernel_elsewhere(asked, inputs, out, options)
    require_no_store(options)
    first, second = inputs_of(net, *inputs)
    if asked.diag and second is not None:
        raise InputError("diag: the diagonal is that of x1 with itself; leave x2 out")
    if not sums:
        return _matrices(asked, first, second, out)
    if out is not None:
        raise InputError("out: with against= sums are returned and no matrix is filled; leave out alone")
    return _sums(asked, first, second, against)


def _matrices(asked: Asked, first: Inputs, second: Inputs | None, out: Any) -> Any:
    """The kernels of all pairs, or the diagonal, in arrays, with what is wanted beside them."""
    net, effort, size, diag = asked.net, asked.effort, asked.batch, asked.diag
    if size is not None:
        net = batches.program_of(net, first, size)
        effort = replace(effort, tile=batches.rows_of(effort.tile, size))
        first = batches.split(first, size, "x1")
        second = None if second is None else batches.split(second, size, "x2")
    first, second = packed(net, first, second)
    plan = plan_of(with_slopes(net, asked.paths, LINE), first, second, asked.kinds, effort.accuracy.most)
    n1, n2 = (len(next(iter(one.values()))) for one in (first, second or first))
    shape = (n1, *plan.axes[0]) if diag else (n1, n2, *plan.axes[0], *plan.axes[1])
    wanted = shape if size is None else batches.of_examples(shape, plan.axes, diag)
    outs = arguments.outputs_of(out, asked.kinds, wanted, asked.dtype, asked.single)

    def seen(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if size is None:
            return arrays
        return {kind: batches.by_batches(array, plan.axes, diag) for kind, array in arrays.items()}

    if asked.names:
        return _with_slopes(asked, by_rules(plan).unrolled, first, second, shape, outs)
    call = Call(first, second, seen(outs), diag, effort)
    lost, account = filled(plan, call, asked.beside.error)
    account.warn()
    kernels = asked.by_kind(outs.__getitem__)
    if not asked.beside.error:
        return kernels
    errors = {kind: np.empty_like(array) for kind, array in outs.items()}
    for kind, array in seen(errors).items():
        array[...] = lost[kind]
    return WithError(kernels, asked.by_kind(errors.__getitem__))


def _with_slopes(
    asked: Asked,
    jets: Plan,
    first: Inputs,
    second: Inputs | None,
    shape: tuple[int, ...],
    outs: dict[str, np.ndarray],
) -> Derivatives:
    """The kernels, into arrays of a shape, and their derivatives, by a plan that carries them."""
    count = len(asked.paths)
    with one_blas_thread(), np.errstate(all="ignore"):  # what is not finite is refused
        made, account = derivatives(jets, count, first, second, shape, asked.dtype, asked.diag, asked.effort)
    account.warn()
    for kind, (values, _) in made.items():
        outs[kind][...] = values
    slopes = asked.by_kind(lambda kind: asked.by_name(made[kind][1], np.asarray))
    return Derivatives(asked.by_kind(outs.__getitem__), slopes)


def _sums(asked: Asked, first: Inputs, second: Inputs | None, against: Any) -> Derivatives:
    """The kernel contracted with ``against``, and the derivatives of that."""
    net = with_slopes(asked.net, asked.paths, MORE)
    jets = by_rules(plan_of(net, first, second, asked.kinds, asked.effort.accuracy.most)).unrolled
    both = first, second or first
    shape = *(len(next(iter(x.values()))) for x in both), *jets.axes[0], *jets.axes[1]
    goal = Against.of(against, shape, second is None, jets.mirrored)
    account = asked.effort.accuracy.account()
    with one_blas_thread(), np.errstate(all="ignore"):  # what is not finite is refused
        variances = Variances()
        profiles = jets.profiles(first, second, account, variances)
        total, each = contracted(
            jets, profiles, both, asked.names, goal, asked.dtype, asked.effort.n_jobs, variances
        )
    account.warn()
    return Derivatives(total, asked.by_name(each))
