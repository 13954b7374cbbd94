"""Programs of `mixed_programs`: the limit against finite widths, and the roads of `tp.limit` among them.

``python -m tests.oracle.mixed 0 500`` runs the programs of these seeds and prints what disagrees.
Statistics as in `tests.oracle.fuzz`: widths 64, 128, 256, a weighted fit of limit + c/n to each scalar, and
a z-score with the standard error of the fit, the claimed error of the limit and 0.1 % of the scale, which is
left to 1/n^2.  A disagreement has to stand at four and sixteen times these widths.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any

import numpy as np

import tpnum as tp
from tests.oracle.batch import extrapolated
from tests.oracle.mixed_programs import bent_program, family_program, mixed_program, readable
from tpnum.errors import TpnumError

FAR = 4.5
WIDTHS = (64, 128, 256)
CROOKED = 4.0
LEFT = 1e-3
ROUNDING = 1e-9
TOLERANCE = 1e-3
SAMPLES = 1 << 14


@dataclass
class Outcome:
    """What was found out about one program."""

    program: tp.Program
    names: list[str]
    z: float = 0.0
    roads: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        found = [note for note in self.notes if note.startswith("!")]
        if self.z > FAR:
            found.append(f"! finite widths: |z| = {self.z:.1f}")
        found += [f"! {road}: |z| = {z:.1f}" for road, z in self.roads.items() if z > FAR]
        return found


def numbered(seed: int) -> tuple[tp.Program, list[str]]:
    """The random program of a seed: mixed ones of 8 to 20 steps, families over an axis, bends and jumps."""
    rng = np.random.default_rng([17, seed])

    def pick(k: int) -> int:
        return int(rng.integers(k))

    kind = (mixed_program, mixed_program, family_program, bent_program)[seed % 4]
    return kind(pick, 8 + seed % 13 if kind is mixed_program else 4 + seed % 5)


def answers(p: tp.Program, names: list[str], **options: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Limits of scalars, standard errors, and the road taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tp.errors.AccuracyWarning)
        law = tp.limit(p, **options)
        found = [law.scalar(n) for n in names]
    value = np.array([float(e.value) for e in found])
    return value, np.array([float(e.error) for e in found]) / 1.96, law.method


def apart(one: tuple, other: tuple, scale: np.ndarray, left: float = LEFT) -> float:
    """The largest z-score between two sets of answers, ``left`` of the scale allowed beside their errors."""
    spread = np.sqrt(one[1] ** 2 + other[1] ** 2 + (left * scale) ** 2)
    z = np.abs(one[0] - other[0]) / spread
    return float(np.max(np.where(np.isfinite(z), z, np.inf), initial=0.0))


def against_widths(
    p: tp.Program, names: list[str], made: tuple, draws: int, seed: int, most: int = 3
) -> tuple[float, np.ndarray]:
    """The largest z-score against finite widths, at larger ones where it is large."""
    q = p.expand()
    scale = np.maximum(1.0, np.abs(made[0]))
    z, finite = np.inf, (made[0], made[1], made[0])
    for factor in (1, 4, 16)[:most]:
        finite = extrapolated(q, names, tuple(factor * n for n in WIDTHS), draws // factor, seed)
        z = apart(made, finite, scale)
        if z <= FAR and np.all(finite[2] <= CROOKED):
            break
    return z, finite[0]


def outcome(p: tp.Program, names: list[str], seed: int = 0, draws: int = 2000, most: int = 3) -> Outcome:
    """Everything that can be held against one program's limit."""
    out = Outcome(p, names)
    made = _road(out, "auto", p, names)
    if made is None:  # families may be refused where their lines are not
        p = p.expand()
        made = _road(out, "auto, expanded", p, names)
    if made is None:
        return out
    if not np.all(np.isfinite(made[0])):
        out.notes.append("! not finite")
        return out
    scale = np.maximum(1.0, np.abs(made[0]))
    started = perf_counter()
    if readable(p):
        out.z, finite = against_widths(p, names, made, draws, seed, most)
    out.seconds["finite"] = perf_counter() - started
    if out.z > FAR:
        for n, a, e, f in zip(names, made[0], made[1], finite, strict=True):
            out.notes.append(f"  {n}: limit {a:.5f} ({1.96 * e:.1e}), finite {f:.5f}")
    others = {
        "ensemble": (p, {"method": "ensemble", "samples": SAMPLES}),
        "corrected": (p, {"independence": "exact", "rtol": TOLERANCE}),
        "expanded": (p.expand(), {"rtol": TOLERANCE}),
    }
    for road, (q, options) in others.items():
        other = _road(out, road, q, names, **options)
        if other is not None:
            out.roads[road] = apart(made, other, scale, LEFT if road == "ensemble" else ROUNDING)
            if out.roads[road] > FAR:
                for n, a, e, f, g in zip(names, *made[:2], *other[:2], strict=True):
                    out.notes.append(f"  {n}: {a:.6f} ({1.96 * e:.1e}), {road} {f:.6f} ({1.96 * g:.1e})")
    try:
        if tp.Program.from_json(p.to_json(), modules=("tests.oracle.mixed_programs",)) != p:
            out.notes.append("! to_json and back is another program")
    except Exception:
        out.notes.append("! to_json: " + traceback.format_exc(limit=-2))
    return out


def _road(out: Outcome, road: str, p: tp.Program, names: list[str], **options: Any) -> tuple | None:
    started, cpu = perf_counter(), process_time()
    try:
        made = answers(p, names, **options)
        out.notes.append(f"{road}: {made[2]}")
        return made
    except TpnumError as error:
        out.notes.append(f"? {road}: {type(error).__name__}: {error}")
    except Exception:
        out.notes.append(f"! {road}: " + traceback.format_exc(limit=-3))
    finally:
        out.seconds[road] = min(perf_counter() - started, process_time() - cpu)
        if out.seconds[road] > 60:
            out.notes.append(f"! {road} took {out.seconds[road]:.0f} s")
    return None


def main(begin: int, end: int) -> None:
    worst = 0.0
    failed, refused = [], []
    for seed in range(begin, end):
        try:
            p, names = numbered(seed)
        except Exception:
            print(f"--- {seed}: not written: {traceback.format_exc(limit=-3)}", flush=True)
            failed.append(seed)
            continue
        one = outcome(p, names, seed)
        worst = max(worst, one.z)
        times = ", ".join(f"{road} {t:.1f}" for road, t in one.seconds.items())
        roads = ", ".join(f"{road} {z:.1f}" for road, z in one.roads.items())
        print(f"{seed}: z {one.z:.2f} ({roads}) [{times}]", flush=True)
        if any(note.startswith("?") for note in one.notes):
            refused.append(seed)
            print("\n".join(note for note in one.notes if note.startswith("?")), flush=True)
        if one.failures:
            failed.append(seed)
            print("\n".join([f"--- {seed} fails", str(p), *one.failures, *one.notes]), flush=True)
    print(f"{end - begin} programs: largest |z| {worst:.2f}; refused {refused}; failed {failed}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
