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
from tpnum.tiles.driver import kernel
from tpnum.tiles.elsewhere import job_on
from tpnum.tiles.inputs import inputs_of


def run(args: argparse.Namespace) -> None:
    """Write the kernels asked for; every refusal comes before a file is made."""
    if store.wanted(args):
        with _files_named(args):
            store.run(args)
        return
    paths = targets(args.out, args.get)
    given = (args.net, args.x1, args.x2, args.pattern1, args.pattern2)
    refuse_existing(list(paths.values()), args.force, [name for name in given if name])
    net = nn.from_spec(read_net(args.net))
    x1 = read_array(args.x1)
    x2 = None if args.x2 is None else read_array(args.x2)
    extras = {
        "mask_constant": args.mask_constant,
        "pattern1": None if args.pattern1 is None else read_array(args.pattern1),
        "pattern2": None if args.pattern2 is None else read_array(args.pattern2),
    }
    dtype = args.dtype or "float64"
    gets = args.get if len(args.get) > 1 else args.get[0]
    with _files_named(args):
        # every refusal of the inputs, and of a net that does not fit them, before a file is made
        inputs_of(net, x1, x2, **extras)
        given = x1, x2, *extras.values()
        shape = job_on(net, args.get, np.dtype(dtype), given, args.tile, args.batch_size).shape()
        with new_arrays(paths, shape, np.dtype(dtype), args.force) as out:
            kernel(
                net,
                x1,
                x2,
                get=gets,
                dtype=dtype,
                n_jobs=args.n_jobs,
                tile=args.tile,
                out=out if len(out) > 1 else out[gets],
                batch_size=args.batch_size,
                progress=sys.stderr.isatty(),
                **extras,
            )
    for path in paths.values():
        shown = str(path).encode(errors="backslashreplace").decode()
        print(f"{shown}: {' x '.join(map(str, shape))} {dtype}")


@contextmanager
def _files_named(args: argparse.Namespace) -> Iterator[None]:
    """Let an error about x1, x2 or their graphs name the file instead."""
    try:
        yield
    except InputError as error:
        typed = {name: vars(args).get(name) for name in ("x1", "x2", "pattern1", "pattern2")}
        error.rename({name: file for name, file in typed.items() if file is not None})
        raise
