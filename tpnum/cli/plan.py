"""``tpnum plan``: how the kernels of a net are computed on inputs of a shape, and what that costs here."""

from __future__ import annotations

import argparse

from tpnum import nn
from tpnum.cli.files import read_net
from tpnum.tiles.costs.planning import plan


def run(args: argparse.Namespace) -> None:
    """Print the plan, and the instructions of its regions if they are asked for."""
    net = nn.from_spec(read_net(args.net))
    gets = args.get if len(args.get) > 1 else args.get[0]
    made = plan(
        net,
        args.shape,
        get=gets,
        dtype=args.dtype,
        n=args.n,
        cores=args.cores,
        out=args.out,
        batch_size=args.batch_size,
        backend=args.backend,
        wrt=args.wrt,
    )
    print(made)
    if args.listing:
        for number, region in enumerate(made.regions, 1):
            print(f"\nregion {number}:\n{region.listing}")
