"""The roads by which a kernel is computed, each by name: which one a net takes is known, not assumed."""

from __future__ import annotations

from unittest import mock

import numpy as np

import tpnum as tp
from tpnum import nn
from tpnum.plan.compiler import Unsupported
from tpnum.plan.plan import make_plan
from tpnum.program.lines import Data
from tpnum.tiles import driver, pool, workers

MACHINE, GENERAL = "MachineWorker", "GeneralWorker"


def _refuse(*arguments):
    raise Unsupported("by order of the test")


def kernels(net, x1, x2=None, road=None, **options):
    """(kernels, class of the worker that made them); ``road=GENERAL`` forbids the machine."""
    seen = []

    def make_worker(*arguments):
        seen.append(workers.make_worker(*arguments))
        return seen[-1]

    compiler = _refuse if road == GENERAL else workers.compile_plan
    with (
        mock.patch.object(driver, "make_worker", make_worker),
        mock.patch.object(workers, "compile_plan", compiler),
    ):
        made = tp.kernel(net, x1, x2, n_jobs=1, **options)
    return made, type(seen[0]).__name__


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
    worker = workers.make_worker(plan, plan.profiles(first, second), outs, np.dtype(float), None)
    pool.run(worker, 1, None)
    return outs, type(worker).__name__
