"""Expectations of functions along axes: E f(F u) g(G v), and of their derivatives, as nodes of the graph.

A line `tpnum.program.lines.Along` stands in products of functions as a G-var does.  What it is a function of
is a Gaussian family u, or f(u), whose covariance along the axes the node asks for, at either input and
between them.  Three forms occur, F and G at the two inputs, J_F the derivative of F:

    value      E f(F u) g(G v)
    slope      E f(F u) (J_F u.) g(G v) (J_G v.), the directions independent of u and v: the tangent program
    back       E (J_F' f(F u) t) (J_G' g(G v) t')', the same of its transposes: gradients
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tpnum.functions.combine import product
from tpnum.gauss.special.functional import Functional
from tpnum.law import graph
from tpnum.law.forms import IDENTITY, Atom
from tpnum.law.frames import frame
from tpnum.law.price import NoRule
from tpnum.program.along import ALONG
from tpnum.program.lines import Along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.functions import Function
    from tpnum.law.expectation import Placed
    from tpnum.law.lines import Lines
    from tpnum.law.pairs import Pairs
    from tpnum.law.site import Site
    from tpnum.program.lines import Axes


@dataclass(frozen=True)
class _Side:
    """What stands at one input: a functional of a G-var, the direction of its derivative, the axes it has."""

    functional: Functional
    source: str
    over: tuple[str, ...]
    axes: Axes
    what: str = "value"
    direction: str = ""
    coef: float = 1.0

    @property
    def of(self) -> tuple[object, ...]:
        """The functional but for what is made of its value."""
        return replace(self.functional, outer=None), self.source, self.over

    def applied(self, outer: list[Function]) -> _Side:
        """The same with a product of functions of its value."""
        return replace(self, functional=replace(self.functional, outer=_product(outer)))


def _product(outer: list[Function]) -> Function | None:
    """The product of functions, None for the identity; f'(u) u is f where that is homogeneous."""
    if len(outer) == 2 and IDENTITY in outer:
        (other,) = [fn for fn in outer if fn != IDENTITY] or [IDENTITY]
        whole = other.primitive[0] if other.primitive else None
        if whole is not None and whole.closed is not None and whole.closed[0] == "abrelu":
            return whole
    made = outer[0] if len(outer) == 1 else product(*outer) if outer else None
    return None if made == IDENTITY else made


def is_along(lines: Lines, name: str) -> bool:
    """Whether a variable is a function along axes."""
    return isinstance(lines.by_name[name], Along)


def pair(
    pairs: Pairs, tied: Axes, placed: Sequence[Sequence[Placed]], moments: bool = False
) -> tuple[float, graph.Pair] | None:
    """A coefficient and the node of what stands at the first and the second input; None is zero.

    With ``moments`` the node has the second moments of both sides, if they are alike.
    """
    sides = [
        _side(lines, [(atom.fn, _one(lines, atom)) for atom in atoms]) if atoms else None
        for lines, atoms in zip(pairs.lines, placed, strict=True)
    ]
    known = [side for side in sides if side is not None]
    where = next(atom.args[0][1] for atoms in placed for atom in atoms)
    whats = {side.what for side in known}
    if whats != {"value"} and (len(known) < 2 or "value" in whats):
        return None  # linear in one direction, whose mean is zero
    if len(whats) > 1 or len({(s.functional.kind, s.over) for s in known}) > 1:
        raise _refused(pairs.lines[0 if placed[0] else 1], where)
    (what,) = whats
    over = known[0].over
    free = tuple(axis for axis in tied if axis[0] not in over)
    cross = direction = None
    if len(known) == 2:
        cross = pairs.second(known[0].source, known[1].source, free, centred=True)
        if what != "value":
            direction = pairs.second(known[0].direction, known[1].direction, free)
            if direction is None:
                return None
    rows, cols = (side.axes if side else () for side in sides)
    parts = [_own(site, side) if side else None for site, side in zip(pairs.sites, sides, strict=True)]
    means = [site.mean(side.source) if side else None for site, side in zip(pairs.sites, sides, strict=True)]
    named = dict.fromkeys(
        lines.where(atoms[0].args[0][1]) for lines, atoms in zip(pairs.lines, placed, strict=True) if atoms
    )
    node: graph.Pair = graph.Jointly(
        *frame(rows, cols, free),
        increments=False,
        what=what,
        sides=tuple(side.functional if side else None for side in sides),
        own=tuple(parts),
        means=tuple(means),
        cross=cross,
        direction=direction,
        over=over,
        where=" and ".join(named),
        moments=_moments(pairs, placed) if moments and known == [known[0]] * 2 and what == "value" else None,
    )
    loose = tuple(axis for axis in tied if axis[0] in over and axis in (*rows, *cols))
    if loose:
        node = graph.Diagonal(*frame(rows, cols, tied), increments=False, operand=node, axes=loose)
    coef = 1.0
    for side in known:
        coef *= side.coef
    return coef, node


def _moments(pairs: Pairs, placed: Sequence[Sequence[Placed]]) -> tuple[graph.Profile, graph.Profile] | None:
    """E of the square of what stands at either input."""
    found: list[graph.Profile] = []
    for site, atoms in zip(pairs.sites, placed, strict=True):
        for piece in site.along([*atoms, *atoms]):
            found += piece.rows if piece.coef == 1.0 else ()
    return (found[0], found[1]) if len(found) == 2 else None


def halves(atoms: Sequence[Placed], lines: Lines) -> tuple[list[Placed], list[Placed]]:
    """The factors of an expectation at one input, shared out so that both halves are alike where they can."""
    left: list[Placed] = []
    right: list[Placed] = []
    for atom in atoms:
        (right if atom in left and right.count(atom) < left.count(atom) else left).append(atom)
    slopes = [atom for atom in left if _arity(lines, atom) == 2]
    if not right and len(slopes) == 2:
        left.remove(slopes[1])
        right = [slopes[1]]
    elif len(left) != len(right):
        left, right = (left + right, []) if not slopes else (left, right)
    return left, right


def _arity(lines: Lines, atom: Placed) -> int:
    line = lines.by_name[atom.args[0][1]]
    return ALONG[line.kind].arity if isinstance(line, Along) else 0


def _one(lines: Lines, atom: Placed) -> str:
    """The line along axes that an atom is a function of."""
    (_, name), *more = atom.args
    if more or atom.scalars or not is_along(lines, name):
        raise _refused(lines, name)
    return name


def _side(lines: Lines, atoms: list[tuple[Function, str]]) -> _Side:
    """The functions of one line along axes, or of its derivative."""
    outer: list[Function] = []
    found: list[_Side] = []
    for fn, name in atoms:
        line = lines.by_name[name]
        assert isinstance(line, Along)
        if ALONG[line.kind].arity == 1:
            outer.append(fn)
            found.append(_functional(lines, line))
        elif fn == IDENTITY:
            found.append(_derivative(lines, line))
        else:
            raise _refused(lines, name)
    first = found[0]
    derived = [side for side in found if side.what != "value"]
    alike = all(side.of == first.of for side in found)
    if not alike or len(derived) > 1 or (derived and derived[0].what == "back" and len(found) > 1):
        raise _refused(lines, atoms[0][1])
    if not derived:
        return first.applied(outer)
    return derived[0] if derived[0].what == "back" else derived[0].applied(outer)


def _functional(lines: Lines, line: Along) -> _Side:
    """What a line is along axes, of a G-var or of a function of one."""
    form = lines.form(line.args[0])
    atoms = form[0].atoms if len(form) == 1 and form[0].coef == 1.0 and not form[0].scalars else ()
    if len(atoms) != 1 or len(atoms[0].args) != 1 or atoms[0].scalars or is_along(lines, atoms[0].args[0]):
        raise NoRule(
            f"{lines.where(line.name)}: what is taken along axes is no function of one Gaussian vector; "
            "put a matrix product before it"
        )
    (atom,) = atoms
    inner = None if atom.fn == IDENTITY else atom.fn
    kind = line.kind.split("_")[0]
    return _Side(Functional(kind, line.eps, inner), atom.args[0], line.over, lines.axes(line.name))


def _derivative(lines: Lines, line: Along) -> _Side:
    """The derivative of a line along axes, or the transpose of it, and its direction."""
    made = _functional(lines, line)
    direction = line.args[1]
    inner = made.functional.inner
    if lines.vars[direction].kind == "G" and inner is None:
        return replace(made, what="back" if line.kind == "max_back" else "slope", direction=direction)
    form = lines.form(direction)
    if len(form) == 1 and not form[0].scalars:
        if inner is not None:  # what it is of has a derivative too, which the functional knows
            slope = Atom(inner.derivative(0), (made.source,))
            left = [atom for atom in form[0].atoms if atom != slope]
            if len(left) == 1 < len(form[0].atoms) == 2 and left[0].fn == IDENTITY and form[0].coef == 1.0:
                return replace(made, what="slope", direction=left[0].args[0])
            raise _refused(lines, line.name)
        factors = [atom for atom in form[0].atoms if not _of(lines, atom, made)]
        outer = [atom.fn for atom in form[0].atoms if _of(lines, atom, made) and atom.fn != IDENTITY]
        if len(factors) == 1 and factors[0].fn == IDENTITY:
            back = replace(made, what="back", direction=factors[0].args[0], coef=form[0].coef)
            return back.applied(outer)
    raise _refused(lines, line.name)


def _of(lines: Lines, atom: Atom, side: _Side) -> bool:
    """Whether an atom is a function of the line that a side differentiates."""
    if len(atom.args) != 1 or atom.scalars:
        return False
    line = lines.by_name[atom.args[0]]
    return isinstance(line, Along) and ALONG[line.kind].arity == 1 and _functional(lines, line).of == side.of


def _own(site: Site, side: _Side) -> graph.Within | None:
    """The covariances of a side's family along its axes, at one input."""
    axes = site.lines.axes(side.source)
    tied = tuple(axis for axis in axes if axis[0] not in side.over)
    along = tuple(axis for axis in axes if axis[0] in side.over)
    pairs = site.own_pairs()
    node = pairs.second(side.source, side.source, tied, centred=True)
    if node is None:
        raise _refused(site.lines, side.source)
    return site.within((side.source, side.over), node, tied, along, along)


def _refused(lines: Lines, name: str) -> NoRule:
    return NoRule(
        f"{lines.where(name)}: a function along axes stands in one expectation with other functions of "
        "the same Gaussians, which has no rule; put a matrix product between them"
    )
