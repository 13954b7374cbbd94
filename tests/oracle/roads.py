"""The roads by which a kernel is computed, each by name: which one a net takes is known, not assumed."""

from __future__ import annotations

from unittest import mock

import numpy as np

import tpnum as tp
from tpnum import nn
from tpnum.evaluate.plan import make_plan
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.variances import Variances
from tpnum.program.lines import Data
from tpnum.tiles import pool, workers
from tpnum.tiles import roads as arrays
from tpnum.tiles.sinks import ArraySink

MACHINE, CELLS, GENERAL, SAMPLED = "MachineWorker", "CellWorker", "GeneralWorker", "none"


def _refuse(*arguments):
    raise Unsupported("by order of the test")


def kernels(net, x1, x2=None, road=None, **options):
    """(kernels, class of the worker that made them); ``road`` forbids those before it."""
    seen = []

    def make_worker(*arguments):
        seen.append(workers.make_worker(*arguments))
        return seen[-1]

    panels = workers.panels if road in (None, MACHINE) else _refuse
    cells = _refuse if road == GENERAL else workers.CellWorker
    with (
        mock.patch.object(arrays, "make_worker", make_worker),
        mock.patch.object(workers, "panels", panels),
        mock.patch.object(workers, "CellWorker", cells),
    ):
        made = tp.kernel(net, x1, x2, n_jobs=1, **options)
    return made, type(seen[0]).__name__ if seen else SAMPLED


def scalar_lines(net, *arrays):
    """The program of a net over a family of inputs as scalar lines, and the arrays by its data lines."""
    shape = arrays[0].shape[1:]
    program = nn.program(net, shape).expand()
    names = [line.name for line in program.lines if isinstance(line, Data)]
    places = list(np.ndindex(*shape[:-1]))
    assert len(names) == len(places)
    assert not any(var.axes for var in program.vars.values())
    return program, *(
        {name: x[(slice(None), *at)] for name, at in zip(names, places, strict=True)} for x in arrays
    )


def two_programs(programs, first, second, get):
    """The kernels of two programs that share their matrices, such as one net at two shapes of its input."""
    plan = make_plan(programs, get)
    shape = (len(next(iter(first.values()))), len(next(iter(second.values()))), *plan.axes[0], *plan.axes[1])
    outs = {kind: np.empty(shape) for kind in get}
    worker = workers.make_worker(
        plan, plan.profiles(first, second), ArraySink(outs), np.dtype(float), None, Variances()
    )
    pool.run(worker, 1, None)
    return outs, type(worker).__name__


def finite_kernels(net, x, width, draws):
    """(value, standard error) of NNGP and NTK from nets of two widths, by 2 E_{2n} - E_n."""
    program = nn.program(net, x.shape[1:])
    tangents = program.tangent()
    (data,) = (line.name for line in program.lines if isinstance(line, Data))
    results = []
    for n in (width, 2 * width):
        drawn = []
        for seed in range(draws):
            sample = tp.simulate(tangents, n, seed + 10_000 * n, {data: x})
            drawn.append(
                [
                    sum(weight * _moment(sample.vector(name)) for weight, name in outputs)
                    for outputs in (
                        tangents.outputs,
                        [(w, tangents.tangents[v]) for w, v in tangents.outputs],
                    )
                ]
            )
        means = np.mean(drawn, axis=0)
        results.append((means, np.std(drawn, axis=0, ddof=1) / np.sqrt(draws)))
    (small, low), (big, high) = results
    return list(zip(2 * big - small, np.sqrt(4 * high**2 + low**2), strict=True))


def _moment(v):
    """v v' of every pair of examples, (N, N, *axes, *axes)."""
    made = np.tensordot(v, v, axes=(-1, -1)) / v.shape[-1]
    return np.moveaxis(made, v.ndim - 1, 1)
