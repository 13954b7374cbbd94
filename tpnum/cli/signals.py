"""``tpnum signals``: variances, correlations and gradients of a net, layer by layer."""

from __future__ import annotations

import argparse

from tpnum import nn
from tpnum.cli.files import read_net
from tpnum.cli.outputs import picture
from tpnum.pictures import save
from tpnum.propagation.signals import signals


def run(args: argparse.Namespace) -> None:
    """Print the table and the fixed points, and draw if a file is named."""
    out = None if args.out is None else picture(args.out)
    found = signals(
        nn.from_spec(read_net(args.net)), args.shape, q=args.q, c=args.c, batch_size=args.batch_size
    )
    print(found)
    if found.blocks:
        points = found.fixed_points
        print("\nfixed points of the last block:" + ("" if points else " none"))
        for p in points:
            at = "every q" if p.every_q else f"q* = {p.q:.10g}"
            kind = f"{p.phase}, {'stable' if p.stable else 'not stable'}"
            print(
                f"  {at}, c* = {p.c:.10g}, chi_1 = {p.chi_1:.10g}, xi_q = {p.xi_q:.6g}, xi_c = "
                f"{p.xi_c:.6g}: {kind}"
            )
    if out is not None:
        save(found.plot(), out)
        print(f"\nthe picture: {out}")
