"""``tpnum demo``: things to see, each of which prints a table and ends in a picture."""

from __future__ import annotations

import argparse

from tpnum.cli.outputs import picture
from tpnum.errors import InputError


def run(args: argparse.Namespace) -> None:
    """Run the demo of that name."""
    from tpnum.cli.demos import depth, digits, spectra, text

    out = picture(args.out or f"tpnum-{args.name}.png")
    if args.name == "digits":
        digits.demonstrate(out, args.size, args.net, args.n_jobs)
        return
    for option in ("net", "n_jobs"):
        if getattr(args, option) is not None:
            raise InputError(f"{option} is for the demo digits; leave it out of {args.name}")
    drawn = spectra.DRAWN | {"text": text.demonstrate, "depth": depth.demonstrate}
    drawn[args.name](out, args.size)
    print(f"\nthe picture: {out}")
