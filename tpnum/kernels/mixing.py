"""Products of index maps, one per axis, on registers of cells: contractions of pairs of positions."""

from __future__ import annotations

from tpnum.kernels._jit import full_width, kernel, template
from tpnum.kernels._views import get_first, get_read, get_second, put_first, put_second


@template
def _taps(access, work, out, source, size, step, count, place, taps):
    """For m < count, piece m of ``out`` = the sum of weights[e] * piece index[e] of ``source`` over its taps.

    Pieces are ``size`` long, those of ``source`` ``step`` apart; ``place`` is where the pointers of the first
    piece are.  Pieces whose taps move on together are one long piece.  ``access`` are what reads ``source``
    and what reads and writes ``out`` (`tpnum.kernels._views`).
    """
    read, get, put = access
    pointer, index, weights, runs, _ = taps
    zero = work.dtype.type(0)
    last = place + count
    while place < last:
        e, high = pointer[place], pointer[place + 1]
        run = min(runs[place], last - place) if step == size else 1
        place += run
        length = run * size
        taken = min(high - e, 3)
        if taken == 3:
            a, b, c = index[e] * step + source, index[e + 1] * step + source, index[e + 2] * step + source
            u, v, w = weights[e], weights[e + 1], weights[e + 2]
            for k in range(length):
                near = u * read(work, a + k) + v * read(work, b + k)
                put(work, out + k, near + w * read(work, c + k))
        elif taken == 2:
            a, b = index[e] * step + source, index[e + 1] * step + source
            u, v = weights[e], weights[e + 1]
            for k in range(length):
                put(work, out + k, u * read(work, a + k) + v * read(work, b + k))
        elif taken == 1:
            a, u = index[e] * step + source, weights[e]
            for k in range(length):
                put(work, out + k, u * read(work, a + k))
        else:
            for k in range(length):
                put(work, out + k, zero)
        for one in range(e + taken, high):
            a, u = index[one] * step + source, weights[one]
            for k in range(length):
                put(work, out + k, get(work, out + k) + u * read(work, a + k))
        out += length


@kernel
def _axis(work, out, source, size, step, count, place, taps):
    """`_taps` of one axis."""
    full_width()
    _taps((get_read, get_first, put_first), work, out, source, size, step, count, place, taps)


@kernel
def _slide(taps, place, count):
    """Whether windows over ``count`` pieces, in pairs of them, are all of `slides`."""
    slide = count > 1
    for m in range(0, count, 2):
        slide = slide and taps[4][place + min(m, count - 2), 1] >= 0
    return slide


@template
def _side_by_side(work, out, v, sums, line, scale, cells, ends, factor):
    """Two cells from the ``sums`` of two lines at four ``cells``, and ``scale`` times those of one more."""
    near = sums[1] + scale * get_read(work, line + cells[1])
    near += sums[2] + scale * get_read(work, line + cells[2])
    end = sums[0] + scale * get_read(work, line + cells[0])
    put_first(work, out, factor * (near + ends[0] * end))
    end = sums[3] + scale * get_read(work, line + cells[3])
    put_first(work, out + v, factor * (near + ends[1] * end))


@kernel
def _windows(work, goal, source, below, above, v, span, starts, taps):
    """`_lines` whose windows slide: two by two cells at a time.

    What windows share is summed once, and nothing in between is in memory.  Where lines or their pieces are
    odd in number, the last but one is made twice; so is a line before ``span`` whose pair is in it, for the
    same sums however many lines are made at once.
    """
    full_width()
    pointer, weights, slides = taps[0], taps[2], taps[4]
    one, zero = work.dtype.type(1), work.dtype.type(0)
    step, count = below[1], above[0]
    factor = weights[pointer[starts[0]]] * weights[pointer[starts[1]]]
    for n in range(span[0] // 2 * 2, span[1], 2):
        n = min(n, span[1] - 2)
        at = starts[0] + n
        b, c = slides[at, 1] * step + source, slides[at, 2] * step + source
        a, upper = (slides[at, 0] * step + source, one) if slides[at, 0] >= 0 else (b, zero)
        d, lower = (slides[at, 3] * step + source, one) if slides[at, 3] >= 0 else (c, zero)
        for m in range(0, count, 2):
            m = min(m, count - 2)
            at = starts[1] + m
            x, y = slides[at, 1] * v, slides[at, 2] * v
            w, left = (slides[at, 0] * v, one) if slides[at, 0] >= 0 else (x, zero)
            z, right = (slides[at, 3] * v, one) if slides[at, 3] >= 0 else (y, zero)
            out = goal + n * above[1] + m * v
            low = out + above[1]
            for k in range(v):
                first = get_read(work, b + w + k) + get_read(work, c + w + k)
                second = get_read(work, b + x + k) + get_read(work, c + x + k)
                third = get_read(work, b + y + k) + get_read(work, c + y + k)
                fourth = get_read(work, b + z + k) + get_read(work, c + z + k)
                sums = first, second, third, fourth
                _side_by_side(work, out + k, v, sums, a + k, upper, (w, x, y, z), (left, right), factor)
                _side_by_side(work, low + k, v, sums, d + k, lower, (w, x, y, z), (left, right), factor)


@kernel
def _lines(work, goal, source, line, below, above, v, span, starts, taps):
    """Lines ``span`` of the last two axes, each made in ``line`` by the first map and read by the second.

    ``below`` are the numbers of a line of ``source`` that count and all of them, ``above`` the pieces of a
    line of ``goal`` that are written and all of its numbers.
    """
    full_width()
    for m in range(span[0], span[1]):
        _taps(
            (get_read, get_first, put_first), work, line, source, below[0], below[1], 1, starts[0] + m, taps
        )
        out = goal + m * above[1]
        _taps((get_first, get_second, put_second), work, out, line, v, v, above[0], starts[1], taps)


@kernel
def mix(work, goal, source, spare, taps, starts, sizes, axes, first, last, v):
    """Maps of all axes: register ``source`` (n_1, ..., n_D, V) to ``goal`` (m_1, ..., m_D, V), V = ``v``.

    ``sizes`` (4, D) are n, how many of them are read, m and how many are written, the first ones.  The last
    two axes go together, line by line, so that what is between them stays in the first level; of the lines
    of m_{D-1} those from ``first`` to ``last`` are written.
    """
    outer = 1
    flip = 0
    for t in range(axes - 2):
        size = v  # of the axes behind, any of which may have no cells
        for s in range(t + 1, axes):
            size *= sizes[0, s]
        out = spare + flip
        for o in range(outer):
            _axis(
                work, out + o * sizes[2, t] * size, source + o * sizes[0, t] * size, size, size, sizes[3, t],
                starts[t], taps,
            )  # fmt: skip
        outer *= sizes[2, t]
        source = out
        flip = outer * size - flip  # beside what was just written
    if axes == 1:
        _axis(work, goal, source, v, v, sizes[3, 0], starts[0], taps)
        return
    t = axes - 2
    step = sizes[0, t + 1] * v
    width = sizes[2, t + 1] * v
    slide = last > max(first, 1) and _slide(taps, starts[t], sizes[3, t])
    slide = slide and _slide(taps, starts[t + 1], sizes[3, t + 1])
    for _ in range(outer):
        below, above = (sizes[1, t + 1] * v, step), (sizes[3, t + 1], width)
        span, places = (first, last), (starts[t], starts[t + 1])
        if slide:
            _windows(work, goal, source, below, above, v, span, places, taps)
        else:
            _lines(work, goal, source, spare + flip, below, above, v, span, places, taps)
        goal += sizes[2, t] * width
        source += sizes[0, t] * step


@kernel
def reach(taps, place, inner):
    """The last of the first ``inner`` pieces that a piece of the goal is made of, -1 if there is none."""
    pointer, index = taps[0], taps[1]
    found = -1
    for e in range(pointer[place], pointer[place + 1]):
        if index[e] < inner:
            found = max(found, index[e])
    return found


@kernel
def lowest(taps, place, count, most):
    """The first piece that some pieces of the goal are made of, ``most`` if there is none."""
    pointer, index = taps[0], taps[1]
    for e in range(pointer[place], pointer[place + count]):
        most = min(most, index[e])
    return most
