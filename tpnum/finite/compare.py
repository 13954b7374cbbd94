"""`tpnum.compare`: a program's limit against finite widths, extrapolated in 1/n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import jobs, shown, whole
from tpnum.errors import InputError
from tpnum.finite.simulations import Quantity, line_fit, quantity, simulations, unit
from tpnum.gauss.estimate import NORMAL
from tpnum.limits.law import Law
from tpnum.limits.limit import limit
from tpnum.program import reads
from tpnum.program.calls import as_program

if TYPE_CHECKING:
    from tpnum.program import Program


@dataclass(frozen=True)
class Row:
    """One number: its limit, and what finite widths say of it.

    ``limit_error`` is the half-width of a 95 % interval, the other errors are standard errors.  ``z`` is
    (extrapolated - limit) over the standard error of both; ``slope`` is c of limit + c/n; ``values`` and
    ``errors`` belong to the widths.
    """

    label: str
    limit: float
    limit_error: float
    extrapolated: float
    error: float
    z: float
    slope: float
    values: tuple[float, ...]
    errors: tuple[float, ...]

    def __str__(self) -> str:
        return self.text(24)

    def text(self, width: int) -> str:
        """A line of the table, its label ``width`` characters wide."""
        return (
            f"{self.label:<{width}}{self.limit:>13.6g}{self.extrapolated:>13.6g}{self.error:>10.1e}{self.z:>8.2f}"
            + "".join(f"{v:>12.5g}" for v in self.values)
        )


@dataclass(frozen=True, repr=False)
class Comparison:
    """The rows of `tpnum.compare`; printing it shows the table."""

    widths: tuple[float, ...]
    seeds: int
    rows: tuple[Row, ...]
    law: Law

    @property
    def worst(self) -> Row:
        """The row of the largest |z|."""
        return max(self.rows, key=lambda row: abs(row.z))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        worst = f"; worst z = {self.worst.z:+.1f} of {self.worst.label}" if self.rows else ""
        widths = ", ".join(f"{w:g}" for w in self.widths)
        return f"<Comparison of {len(self.rows)} numbers at widths {widths}, {self.seeds} seeds each{worst}>"

    def __str__(self) -> str:
        width = max([24, *(len(row.label) + 2 for row in self.rows)])
        head = f"{'quantity':<{width}}{'limit':>13}{'from widths':>13}{'error':>10}{'z':>8}"
        head += "".join(f"{f'n = {w:g}':>12}" for w in self.widths)
        return "\n".join([head, *(row.text(width) for row in self.rows)])

    def plot(self, ax: Any = None) -> Any:
        """Draw value - limit against 1/n with errors and fitted lines; matplotlib's axes are returned.

        Without ``ax`` into pyplot's current axes (a new figure where they are in use), so that `plt.show` and
        `plt.savefig` see the picture; where pyplot is not imported save it by ``ax.figure.savefig``.
        """
        from tpnum.pictures import draw_convergence

        return draw_convergence(self, ax)


def compare(
    p: Program,
    widths: Sequence[int | Mapping[str, int]] = (256, 512, 1024),
    quantities: Sequence[Any] | None = None,
    *,
    seeds: int = 32,
    data: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    shape: Any = None,
    **options: Any,
) -> Comparison:
    """Fit value(n) = limit + c/n to simulations at several widths and hold it against `tpnum.limit`.

    Parameters
    ----------
    p : a program, or a net of layers with ``shape``, the (.., channels) of one example.
    widths : two or more; a number times the ratio of each CDC, or {"n": .., "m": ..}.
    quantities : scalars, vectors (their second moments), pairs of vectors, (f, vector, ..); by default every
        scalar and the second moment of every vector.
    seeds : draws at each width, independent between widths.
    data, n_jobs : as in `tpnum.simulations`.
    options : of `tpnum.limit` (``method``, ``independence``, ``samples``, ``rtol``, ``seed``).

    Raises
    ------
    InputError : fewer than two widths, quantities that the program does not have.
    """
    p = as_program(p, shape)
    widths = reads.listed(widths, "widths", InputError)
    sizes = np.array([unit(w, p.dims) for w in widths])
    if len(sizes) < 2 or len(set(sizes)) < len(sizes):
        raise InputError(f"widths must be at least two different ones, not {shown(list(widths))}")
    draws, threads = whole(seeds, "seeds", 2, 1_000_003), jobs(n_jobs)
    law = limit(p, data=data, **options)
    asked = None if quantities is None else reads.listed(quantities, "quantities", InputError)
    wanted = _everything(p) if asked is None else [quantity(p, q) for q in asked]
    if not wanted:
        raise InputError("the program has no scalar and no vector to compare")
    limits = [q.law(law) for q in wanted]
    finite = []
    for k, width in enumerate(widths):
        chosen = range(k * 1_000_003, k * 1_000_003 + draws)
        finite.append(simulations(p, width, list(chosen), data=data, n_jobs=threads).table(wanted))
    rows: list[Row] = []
    for k, (q, exact) in enumerate(zip(wanted, limits, strict=True)):
        rows += _rows(q, exact, [found[k] for found in finite], sizes)
    return Comparison(tuple(sizes.tolist()), draws, tuple(rows), law)


def _everything(p: Program) -> list[Quantity]:
    """Every scalar, and the second moment of every vector that the program shows outside its scans."""
    shown = {name: v for name, v in p.vars.items() if name in p}
    return [
        Quantity("scalar", (name,)) if v.kind == "S" else Quantity("moment", (name, name))
        for name, v in shown.items()
        if v.kind in "GHS"
    ]


def _rows(q: Quantity, exact: Any, found: list[Any], sizes: np.ndarray) -> Iterator[Row]:
    limits = np.asarray(exact.value, dtype=np.float64)
    errors = np.broadcast_to(np.asarray(exact.error, dtype=np.float64), limits.shape).ravel()
    values = np.stack([np.asarray(e.value).ravel() for e in found])
    spread = np.stack([np.asarray(e.error).ravel() for e in found])
    far, error, slope = line_fit(sizes, values, spread)
    for j, at in enumerate(np.ndindex(limits.shape)):
        gap = far[j] - limits[at]
        whole = np.hypot(error[j], errors[j] / NORMAL)
        z = 0.0 if gap == 0 else gap / whole if whole > 0 else np.copysign(np.inf, gap)
        label = str(q) + (f"[{','.join(map(str, at))}]" if at else "")
        yield Row(
            label,
            float(limits[at]),
            float(errors[j]),
            float(far[j]),
            float(error[j]),
            float(z),
            float(slope[j]),
            tuple(values[:, j].tolist()),
            tuple(spread[:, j].tolist()),
        )
