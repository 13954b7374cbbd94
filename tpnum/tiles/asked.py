"""What a call of `tpnum.kernel` asks for, checked argument by argument before any road is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.arguments import flag, whole
from tpnum.arguments import jobs as jobs_of
from tpnum.errors import InputError
from tpnum.evaluate.joint import Accuracy
from tpnum.tiles import arguments
from tpnum.tiles.beside import Beside, beside_of
from tpnum.tiles.gradients.contracted import asked_of
from tpnum.tiles.named import Kernels
from tpnum.tiles.roads import Effort

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from tpnum.nn.base import Layer
    from tpnum.program import Program


@dataclass(frozen=True)
class Asked:
    """The request: ``single`` and ``alone`` if one kind and one name of ``wrt`` are not in tuples.

    ``names`` are those of ``wrt`` and ``paths`` the parameters that they stand for.
    """

    net: Layer | Program
    kinds: tuple[str, ...]
    single: bool
    dtype: np.dtype
    names: tuple[str, ...]
    alone: bool
    paths: list[list[str]]
    beside: Beside
    diag: bool
    effort: Effort
    batch: int | None

    @classmethod
    def of(
        cls,
        net: Layer | Program,
        *,
        get: Any,
        dtype: Any,
        wrt: Any,
        against: Any,
        error: Any,
        diag: Any,
        tile: Any,
        n_jobs: Any,
        progress: Any,
        rtol: Any,
        budget: Any,
        seed: Any,
        batch_size: Any,
    ) -> Asked:
        """The request of these arguments of `tpnum.kernel`; one that cannot be used is refused by name."""
        kinds = arguments.kinds_of(get)
        names, paths = asked_of(net, wrt, against, kinds, diag)
        batch = None if batch_size is None else whole(batch_size, "batch_size", 1)
        effort = Effort(
            None if tile is None else whole(tile, "tile", 1),
            jobs_of(n_jobs),
            arguments.progress_of(progress),
            Accuracy.of(rtol, budget, seed),
        )
        return cls(
            net,
            kinds,
            isinstance(get, str),
            arguments.dtype_of(dtype),
            names,
            isinstance(wrt, str),
            paths,
            beside_of(flag(error, "error"), names, batch, against is not None),
            flag(diag, "diag"),
            effort,
            batch,
        )

    def by_kind(self, found: Callable[[str], Any]) -> Any:
        """What is found for the one kind, or for several as a named tuple."""
        return found(self.kinds[0]) if self.single else Kernels(self.kinds, map(found, self.kinds))

    def by_name(self, slopes: Any, several: Callable[[Any], Any] = tuple) -> Any:
        """The derivative by the one name, or those by several together."""
        return slopes[0] if self.alone else several(slopes)


def require_pairs(diag: bool, sums: bool) -> None:
    """Refuse what has no pairs of examples where a matrix of them is made elsewhere."""
    for name, wanted in {"diag": diag, "against": sums}.items():
        if wanted:
            raise InputError(
                f"{name}: what is returned has no pairs of examples, and is computed here, into memory; "
                "leave out= on disk and backend= alone"
            )


def require_no_store(options: dict[str, Any]) -> None:
    """Refuse what continues, mends or shares a matrix on disk where there is none."""
    for name in ("resume", "verify", "shard"):
        if options[name]:
            raise InputError(f'{name}: it goes with out= on disk, as in out="K.zarr"')
