'''Writing a layer of your own: this page is executed as a test.

A layer is a frozen dataclass that derives from `tpnum.nn.Layer` and defines ``emit(to, x)``: append lines to
a program, return the features that come out.  It knows nothing of kernels; its limit, its NTK and its finite
width are readings of the lines.  Here is a convolution with a gate, W x * sigmoid(V x):

>>> from dataclasses import dataclass
>>> import numpy as np
>>> import tpnum as tp
>>> from tpnum import nn
>>> @dataclass(frozen=True, repr=False)
... class GatedConv(nn.Layer):
...     """W x * sigmoid(V x) over windows of a sequence, zero beyond its ends."""
...
...     n_chan: int
...     size: int
...     W_std: float = 1.0
...
...     def emit(self, to, x):
...         if len(x.axes) != 1:
...             raise to.error(f"it is for sequences, and the features have {len(x.axes)} axes")
...         conv = nn.Conv(self.n_chan, (self.size,), padding="SAME", W_std=self.W_std)
...         value, gate = to.run(conv, x, "value"), to.run(conv, x, "gate")
...         open = to.program.apply("sigmoid", gate.blocks[0].vector)
...         return value.replace(to.masked([to.product([value.blocks[0].vector, open])], value.mask))

It stands wherever layers do, and prints and compares as they do:

>>> net = nn.serial(GatedConv(64, 3, W_std=1.5), nn.GlobalAvgPool(), nn.Dense(1))
>>> net
serial(GatedConv(64, 3, W_std=1.5), GlobalAvgPool(), Dense(1))
>>> nn.from_spec(net.to_spec(), layers=[GatedConv]) == net
True

**Its limit.**  Both kernels, for one set of inputs or two, masked or not, on disk or in memory:

>>> x = np.random.default_rng(0).standard_normal((3, 6, 4))
>>> both = tp.kernel(net, x, get=("nngp", "ntk"))

W x and V x are independent, so the second moment of the product is the product of theirs.  That is what the
rules found in the lines, and this is the formula that nobody had to write:

>>> conv = tp.kernel(nn.Conv(64, (3,), padding="SAME", W_std=1.5), x)      # (3, 3, 6, 6)
>>> q = np.einsum("iipp->ip", conv)
>>> gate = tp.dual("sigmoid")(q[:, None, :, None], q[None, :, None, :], conv)
>>> np.allclose(both.nngp, (conv * gate).mean(axis=(2, 3)), rtol=1e-9)
True

**Its finite width.**  `tpnum.simulate` runs the same lines with matrices that are drawn, and `tpnum.compare`
holds the law against them at several widths (|z| below 4.5: they agree):

>>> p = nn.program(net, shape=(6, 4))
>>> made = tp.compare(p, [64, 128], data={"u": x[0]}, quantities=[p["h3"]])     # what goes into the Dense
>>> abs(made.rows[0].z) < 4.5
True

**What a layer is given.**  ``x`` are `tpnum.nn.Features`: ``x.blocks``, channel blocks with a vector each
(several behind `FanInConcat`), ``x.axes``, the index axes by name and size, and ``x.mask``, 1 where an
example has a position, or None.  ``x.replace(vectors)`` makes the same with other vectors.  What is masked
stays zero: ``to.masked`` sees to it where a function is not 0 at 0.

``to`` is a `tpnum.nn.Emitter`: ``to.run(layer, x, name)`` emits another layer, with weights of its own;
``to.matrix(rows, cols, var, tangent, axes)`` draws a matrix of entries N(0, var / cols) whose direction in
the tangent program has the variance ``tangent`` (0: not trained), one for every index of ``axes``;
``to.cdc(n)`` is the name of the vectors of n channels; ``to.total`` adds, ``to.product`` multiplies channel
by channel, ``to.table`` holds numbers per index, ``to.error`` names the layer by its path.  ``to.program``
is the `tpnum.Program` itself, for all else: functions, Moments, maps along index axes, weights of the input.

**Symmetries.**  A group acts on an index axis: a family over its elements, ``vector.map(axis, out, rows)`` or
``take`` for its action, a matrix per group element that is summed (`tpnum.nn.Conv` is this for translations).
'''
