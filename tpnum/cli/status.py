"""``tpnum status``: what of a stored matrix is there, and how long the rest would take."""

from __future__ import annotations

import argparse

import numpy as np

import tpnum
from tpnum.tiles.stores.provenance import layout_of
from tpnum.tiles.stores.runs import damaged
from tpnum.tiles.stores.stored import Stored
from tpnum.tiles.units import duration

SHOWN = 5
"""Tiles that are named."""
SAMPLE = 200
"""Receipts that are read for the time of a tile."""


def run(args: argparse.Namespace) -> None:
    """Print what the receipts say."""
    stored = tpnum.open(args.store)
    if not isinstance(stored, Stored):
        kinds = f"{', '.join(stored)}, " if isinstance(stored, dict) else ""
        one = next(iter(stored.values())) if isinstance(stored, dict) else stored
        print(f"{args.store}: complete, {kinds}{' x '.join(map(str, one.shape))} {one.dtype}")
        return
    target, layout = stored.target, layout_of(stored.target, stored.provenance)
    records = target.records(layout)
    done = records.done()
    missing = {layout.place(tile) for tile in layout.tiles} - done
    bad = [
        tile
        for tile in layout.tiles
        if layout.place(tile) in done and damaged(target, layout, records, tile, args.verify)
    ]
    lacking = [tile for tile in layout.tiles if layout.place(tile) in missing] + bad
    shape = " x ".join(map(str, layout.shape))
    print(f"{args.store}: {', '.join(layout.kinds)}, {shape} {layout.dtype}, by tpnum "
          f"{stored.provenance['version']}")  # fmt: skip
    total = len(layout.tiles)
    print(f"{total - len(lacking)} of {total} tiles of {layout.height} x {layout.width} are there")
    if not lacking:
        print("complete")
        return
    named = [
        f"rows {t.rows.start} to {t.rows.stop} x columns {t.cols.start} to {t.cols.stop}"
        for t in lacking[:SHOWN]
    ]
    more = f", and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    print(f"missing: {', '.join(named)}{more}")
    if bad:
        print(f"{len(bad)} of them are damaged")
    seconds = []
    for tile in [t for t in layout.tiles if layout.place(t) in done][:SAMPLE]:
        facts = records.read(tile)
        if facts is not None and "seconds" in facts:
            seconds.append(float(facts["seconds"]) / tile.entries)
    if seconds:
        each = float(np.mean(seconds)) * sum(tile.entries for tile in lacking)
        print(f"the rest takes about {duration(each)} of one thread")
    else:
        print("how long that takes is known when a tile is finished")
