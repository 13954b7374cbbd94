"""``tpnum kernel``: from a net and arrays on disk to matrices on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tpnum import nn
from tpnum.cli import store
from tpnum.cli.files import read_array, read_net
from tpnum.cli.outputs import new_arrays, refuse_existing, targets
from tpnum.errors import InputError
from tpnum.tiles.arguments import inputs_of
from tpnum.tiles.driver import kernel, plan_of


def run(args: argparse.Namespace) -> None:
    """Write the kernels asked for; every refusal comes before a file is made."""
    if store.wanted(args):
        with _files_named(args):
            store.run(args)
        return
    paths = targets(args.out, args.get)
    refuse_existing(list(paths.values()), args.force, [name for name in (args.net, args.x1, args.x2) if name])
    net = nn.from_spec(read_net(args.net))
    x1 = read_array(args.x1)
    x2 = None if args.x2 is None else read_array(args.x2)
    dtype = args.dtype or "float64"
    gets = args.get if len(args.get) > 1 else args.get[0]
    with _files_named(args):
        # every refusal of the inputs, and of a net that does not fit them, before a file is made
        first, second = inputs_of(x1, x2)
        axes = plan_of(net, first, second, args.get).axes
        shape = (len(x1), len(x1 if x2 is None else x2), *axes[0], *axes[1])
        with new_arrays(paths, shape, np.dtype(dtype), args.force) as out:
            kernel(
                net,
                x1,
                x2,
                get=gets,
                dtype=dtype,
                n_jobs=args.jobs,
                tile=args.tile,
                out=out if len(out) > 1 else out[gets],
                progress=sys.stderr.isatty(),
            )
    for path in paths.values():
        shown = str(path).encode(errors="backslashreplace").decode()
        print(f"{shown}: {' x '.join(map(str, shape))} {dtype}")


@contextmanager
def _files_named(args: argparse.Namespace) -> Iterator[None]:
    """Let an error about x1 or x2 name the file instead."""
    try:
        yield
    except InputError as error:
        argument, _, rest = str(error).partition(": ")
        name = {"x1": args.x1, "x2": args.x2}.get(argument)
        if name is None:
            raise
        raise InputError(f"{name}: {rest}") from error
