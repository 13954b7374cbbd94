"""Two roads to the spectrum of J^T J beside one another: Lanczos's recurrence and free products.

The first takes a program as it is.  The second takes J = c A_1 D_1 A_2 D_2 .. as a product of free factors,
matrices A of independent Gaussian entries and diagonal matrices D of functions of Gaussian vectors.  They
are free where no matrix enters J together with its transpose, and where a gradient that passes through the
program meets transposes as independent copies (the gradient independence check).  Then both agree; where
they are not, the difference is what freeness would get wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import whole
from tpnum.errors import InputError
from tpnum.limits.limit import limit
from tpnum.program.lines import Matrix, Nonlin
from tpnum.program.text import made_by
from tpnum.spectra.base import Measure
from tpnum.spectra.closed import free_poisson
from tpnum.spectra.convolve import product_of_powers
from tpnum.spectra.jacobi import Spectrum
from tpnum.spectra.lanczos import STEPS, read_operator, spectrum
from tpnum.spectra.slopes import square_law

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.spectra.operator import Letter, Operator

SHOWN, GRID = 4, 400


@dataclass(frozen=True)
class Roads:
    """The spectrum of J^T J by both roads.

    ``lanczos`` is the law of the program, ``free`` that of free factors, ``are_free`` whether the program
    says that they are, ``why`` what it says.
    """

    lanczos: Spectrum
    free: Measure
    are_free: bool
    why: str

    def moments(self, k: Any) -> np.ndarray:
        """The integrals of x^0, .., x^k by Lanczos and by free products, shape (2, k + 1)."""
        return np.array([self.lanczos.moments(k), self.free.moments(k)])

    @property
    def distance(self) -> float:
        """The largest difference of the distribution functions, of the atoms' points apart."""
        low = min(self.lanczos.hull[0], self.free.hull[0])
        high = max(self.lanczos.hull[1], self.free.hull[1])
        x = low + (high - low) * np.sin(np.linspace(0.0, 0.5 * np.pi, GRID + 2)[1:-1]) ** 2
        return float(np.max(np.abs(self.lanczos.cdf(x) - self.free.cdf(x))))

    def plot(self, ax: Any = None) -> Any:
        """Both densities."""
        ax = self.free.plot(ax)
        for low, high in self.lanczos.edges:
            x = np.linspace(low, high, 402)[1:-1]
            ax.plot(x, self.lanczos.density(x), "--", color="black", linewidth=1.0, label="by Lanczos")
        ax.legend(fontsize=8, frameon=False, loc="upper right")
        return ax

    def __str__(self) -> str:
        rows = [f"{'':<12}{'by Lanczos':>14}{'free factors':>14}"]
        for k, pair in enumerate(self.moments(SHOWN).T[1:], 1):
            rows.append(f"moment {k:<5}{pair[0]:>14.6g}{pair[1]:>14.6g}")
        rows.append(f"{'largest':<12}{self.lanczos.hull[1]:>14.6g}{self.free.hull[1]:>14.6g}")
        return "\n".join([*rows, ("free: " if self.are_free else "not free: ") + self.why])


def roads(
    operator: Any, v: Any = None, *, steps: Any = STEPS, samples: Any = None, seed: int = 0,
    data: Mapping[str, Any] | None = None, shape: Any = None,
) -> Roads:  # fmt: skip
    """The law of a map v -> J^T J v by Lanczos in the limit and by free products, and whether these agree.

    Arguments are those of `tpnum.spectrum`: a vector J^T J v of a program with v, or a net with ``shape``.
    J is one product of square Gaussian matrices and of diagonal matrices of functions of one vector.

    Raises
    ------
    InputError
        A map that is not J^T J of one such product.
    """
    whole(steps, "steps", 2)
    made = read_operator(operator, v, shape)
    letters, scale = _factors(made)
    found = spectrum((made.program[made.argument], made.program[made.result]), steps=steps, samples=samples,
                     seed=seed, data=data)  # fmt: skip
    are_free, why = _freeness(made, letters, data)
    return Roads(found, _free(made, letters, data, seed).affine(scale), are_free, why)


def _factors(operator: Operator) -> tuple[list[Letter], float]:
    """The letters of J from the left, and the number before J^T J."""
    words = operator.words()
    if words is None or len(words) != 1:
        raise InputError("operator: J^T J of one product J is needed, not a sum of several")
    ((letters, scalars), scale), *_ = words.items()
    if scalars or len(letters) % 2 or scale <= 0.0 or not letters:
        raise InputError("operator: it is not J^T J of a product J of matrices and diagonal matrices")
    mine = list(letters[len(letters) // 2 :])
    for first, second in zip(mine, mine[1:], strict=False):
        if first[0] == second[0] == "diag":
            raise InputError(
                "operator: two diagonal matrices beside one another are not free; join them in one"
            )
    return mine, scale


def _freeness(operator: Operator, letters: list[Letter], data: Any) -> tuple[bool, str]:
    """Whether the factors are free, and why: by the letters, then by the gradient independence check."""
    turned = {x[1:] for x in letters if x[0] == "matrix"}
    for name, transposed in sorted(turned):
        if (name, not transposed) in turned:
            return False, f"{name!r} enters J together with its transpose"
    verdict = limit(_with_gradient(operator, letters), data=data).independence
    return verdict.holds, str(verdict).splitlines()[0]


def _with_gradient(operator: Operator, letters: list[Letter]) -> Program:
    """What the map stands on, and a gradient that passes back through J from a seed of its own."""
    p = operator.program
    made = type(p)()
    for dim, ratio in p.dims.items():
        made.dim(dim, ratio)
    for line in operator.above():
        made.append(line)
    named = {operator.name_of(name): name for name in made.vars if name in p.vars}
    kind, name, *turned = letters[0]
    if kind == "matrix":
        line = _matrix(p, name)
        dim = line.cols if turned[0] else line.rows
    else:
        dim = p.vars[named[name]].dim
    y = made.vector(made._auto("seed", bare=True), dim=dim)
    for kind, name, *turned in letters:
        if kind == "matrix":
            y = (made[name] if turned[0] else made[name].T) @ y
        else:
            y = made[named[name]] * y
    y.name  # noqa: B018  (a line of its own)
    return made


def _matrix(p: Program, name: str) -> Matrix:
    return next(line for line in p.lines if isinstance(line, Matrix) and line.name == name)


def _free(operator: Operator, letters: list[Letter], data: Any, seed: int) -> Measure:
    """The free product of the laws of the letters' squared singular values."""
    p = operator.program
    law = limit(p, seed=seed, data=data)
    factors: list[tuple[Measure, float]] = []
    for kind, name, *_ in letters:
        if kind == "matrix":
            line = _matrix(p, name)
            if p.dims[line.rows] != p.dims[line.cols]:
                raise InputError(f"operator: {name!r} is not square; free products take square matrices here")
            factors.append((free_poisson(1.0, line.var), 1.0))
            continue
        vector, f = _function_of(operator, name)
        q, mean = float(law.cov(p[vector], p[vector]).value), float(law.mean(p[vector]).value)
        factors.append((square_law(f, max(q, 0.0), mean, tuple(getattr(f, "kinks", ()))), 1.0))
    return product_of_powers(factors)


def _function_of(operator: Operator, name: Any) -> tuple[str, Any]:
    """The Gaussian vector that a diagonal is a function of, and the function."""
    p = operator.program
    line = next(
        x for x in p.lines for made in made_by(x) if made in p.vars and operator.name_of(made) == name
    )
    vector: str = made_by(line)[0]
    f: Any = np.positive
    if isinstance(line, Nonlin) and len(line.args) == 1 and not line.scalars:
        vector, f = line.args[0], line.fn
    if p.vars[vector].kind != "G":
        raise InputError(f"operator: {made_by(line)[0]!r}, a diagonal, is no function of one Gaussian vector")
    return vector, f
