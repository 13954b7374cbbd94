"""What a stored matrix was made of: written beside it, and compared before anything is added to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpnum.arguments import shown
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import StoreError, TpnumError
from tpnum.program import Program
from tpnum.tiles.data import digest
from tpnum.tiles.stores.layout import Layout
from tpnum.tiles.stores.receipts import VERSION

if TYPE_CHECKING:
    from tpnum.tiles.stores.targets import Target
    from tpnum.tiles.tasks import Job

FORMAT = 1
"""Of the provenance and the receipts."""


def provenance(job: Job, layout: Layout) -> dict[str, Any]:
    """What a store was made of: net, program, data, types, tiles, version, parameters."""
    data = {"x1": {name: digest(source) for name, source in job.first.items()}}
    if job.second is not None:
        data["x2"] = {name: digest(source) for name, source in job.second.items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "net": _text(job.net),
        "program": [program.digest() for program in programs_of(job)],
        "data": data,
        **layout.document(),
        "get": sorted(job.names),
        "dtype": job.dtype.name,
        "shape": list(job.shape()),
        "rtol": job.accuracy.rtol,
        "budget": job.accuracy.budget,
        "seed": job.accuracy.seed if isinstance(job.plan(), SampledPlan) else None,
        "batch_size": job.batch,
    }


def programs_of(job: Job) -> list[Program]:
    """The program at the shape of the rows and, if there is another, of the columns."""
    first, second = job.plan().written
    return [first] if second is first else [first, second]


def _text(net: Any) -> Any:
    """A net as a reader of the store may want it: its spec, or its lines."""
    try:
        return str(net) if isinstance(net, Program) else net.to_spec()
    except TpnumError:
        return repr(net)


def layout_of(target: Target, document: dict[str, Any]) -> Layout:
    if document.get("format") != FORMAT:
        raise StoreError(
            f"{target.name} has format {shown(document.get('format'))}, and this tpnum writes {FORMAT}; "
            "choose another out"
        )
    try:
        return Layout.read(document)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{target.name}: its provenance is damaged ({error!r})") from error


WORDS = {
    "version": "by another version of tpnum",
    "batch_size": "with another batch_size",
    "data": "of other data",
    "program": "with another net",
    "get": "of other kernels",
    "dtype": "in another dtype",
    "shape": "in another shape",
    "rtol": "with another rtol",
    "budget": "with another budget",
    "seed": "with another seed",
}


def same(
    target: Target, known: dict[str, Any], facts: dict[str, Any], tile: int | None, symmetric: str
) -> None:
    """Refuse to mix results: of a store that was made of something else, with the difference named."""
    for key, words in WORDS.items():
        old, new = known.get(key), facts[key]
        if key == "data" and old != new:
            sides = [side for side in ("x1", "x2") if (old or {}).get(side) != new.get(side)]
            differ = f"{sides[0]} differs" if len(sides) == 1 else "x1 and x2 differ"
            raise StoreError(f"{target.name} was made {words}: {differ}; choose another out")
        if old != new:
            detail = "" if key == "program" else f": {_short(old)}, now {_short(new)}"
            raise StoreError(f"{target.name} was made {words}{detail}; choose another out")
    if known["symmetric"] != symmetric:
        raise StoreError(
            f'{target.name} was made with symmetric="{known["symmetric"]}"; give that or choose another out'
        )
    height, width = known["tile"]
    wanted = None if tile is None else [min(tile, facts["shape"][0]), min(tile, facts["shape"][1])]
    if wanted is not None and wanted != [height, width]:
        raise StoreError(
            f"{target.name} was made with tiles of {height} x {width}, not of {tile} rows; leave tile out"
        )


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
