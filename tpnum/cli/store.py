"""``tpnum kernel`` into a store that outlives its runs: Zarr groups, shards, what is beside kernels."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from tpnum import nn
from tpnum.cli.endings import AGAIN, Ended, orderly
from tpnum.cli.files import read_array, read_net
from tpnum.cli.outputs import refuse_existing
from tpnum.errors import InputError
from tpnum.tiles.arguments import shard_of
from tpnum.tiles.beside import beside_of
from tpnum.tiles.elsewhere import job_on
from tpnum.tiles.gradients.contracted import asked_of
from tpnum.tiles.progress import Json
from tpnum.tiles.scheduling import Paused
from tpnum.tiles.stores.layout import FULL
from tpnum.tiles.stores.npy_files import NpyFiles
from tpnum.tiles.stores.runs import write
from tpnum.tiles.stores.stored import missing_of
from tpnum.tiles.stores.targets import target_of

OPTIONS = ("resume", "verify", "shard", "backend", "scheduler", "symmetric", "error", "wrt")


def wanted(args: argparse.Namespace) -> bool:
    """Whether the output, or an option, is one of stores."""
    return args.out.rstrip("/").endswith(".zarr") or any(getattr(args, name) for name in OPTIONS)


def run(args: argparse.Namespace) -> None:
    """Compute what is missing; a signal or Ctrl-C leaves what `--resume` continues."""
    again = "--resume --force" if args.force else "--resume"
    shard = shard_of(args.shard)
    net = nn.from_spec(read_net(args.net))
    x1 = read_array(args.x1)
    x2 = None if args.x2 is None else read_array(args.x2)
    graph1, graph2 = (None if path is None else read_array(path) for path in (args.pattern1, args.pattern2))
    dtype, kinds = np.dtype(args.dtype or "float64"), tuple(args.get)
    given = x1, x2, args.mask_constant, graph1, graph2
    names, _ = asked_of(net, args.wrt, None, kinds, False)
    beside = beside_of(args.error, names, args.batch_size)
    job = replace(job_on(net, kinds, dtype, given, args.tile, args.batch_size), beside=beside)
    if args.force:
        _replaceable(args, job.names)
    with orderly() as stop, _logged(args.log):
        try:
            target = write(
                job,
                args.out,
                tile=args.tile,
                n_jobs=args.n_jobs,
                backend=args.backend,
                scheduler=args.scheduler,
                resume=args.resume,
                verify=args.verify,
                symmetric=args.symmetric or FULL,
                shard=shard,
                progress=sys.stderr.isatty(),
                stop=stop,
                force=args.force,
            )
        except Paused:
            raise Ended(f"asked to end; {again} continues {args.out}", AGAIN) from None
        except KeyboardInterrupt:
            raise Ended(f"interrupted; {again} continues {args.out}", 130) from None
    name = args.out.encode(errors="backslashreplace").decode()
    shape = " x ".join(map(str, job.shape()))
    there = f"{name}: {', '.join((*sorted(job.kinds), *job.names[len(job.kinds) :]))}, {shape} {job.dtype}"
    missing = missing_of(target)
    if missing:
        there += f"; {missing} tiles are missing yet" if missing > 1 else "; a tile is missing yet"
    print(there)


def _replaceable(args: argparse.Namespace, names: tuple[str, ...]) -> None:
    """Refuse to overwrite anything but the finished .npy files of a whole run."""
    target = target_of(args.out, names)
    if not isinstance(target, NpyFiles):
        raise InputError(
            f"--force overwrites .npy files alone; --resume continues {args.out}, or remove it by hand"
        )
    if args.shard:
        raise InputError(f"--force is for whole runs; remove {args.out} by hand to compute it by shards")
    inputs = (args.net, args.x1, args.x2, args.pattern1, args.pattern2)
    refuse_existing([Path(path) for _, path in target.paths], True, [name for name in inputs if name])


@contextmanager
def _logged(form: str | None) -> Iterator[None]:
    """Lines of the log on stderr, as text or as JSON."""
    if form is None:
        yield
        return
    log = logging.getLogger("tpnum")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else logging.Formatter("%(asctime)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
