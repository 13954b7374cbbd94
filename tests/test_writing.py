"""The page about layers of one's own can be typed as it stands."""

from __future__ import annotations

import doctest
import importlib
import inspect

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn, propagation
from tpnum.errors import SpecError
from tpnum.nn import writing


def test_the_page_runs():
    found = doctest.testmod(writing, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 10
    assert not found.failed


@pytest.mark.parametrize(
    "name", ["nn", "nn.tied", "program.builder", "propagation.written", "spectra"], ids=lambda name: name
)
def test_examples_of_modules_run(name):
    module = importlib.import_module(f"tpnum.{name}")
    known = {"tp": tp, "nn": nn, "spectra": tp.spectra, "propagation": propagation}
    found = doctest.testmod(module, extraglobs=known)
    assert found.attempted
    assert not found.failed


def _layer():
    names: dict = {}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(writing), names, "page", None, 0)
    (text,) = (example.source for example in test.examples if "class GatedConv" in example.source)
    exec(compile("from dataclasses import dataclass\nfrom tpnum import nn\n" + text, "page", "exec"), names)
    return names["GatedConv"], text


def test_the_layer_is_short_and_speaks_of_itself():
    """Errors name its path; padding stays padding, though a gate is not 0 at 0."""
    made, text = _layer()
    assert len(text.splitlines()) < 20
    with pytest.raises(SpecError, match=r"layers\[1\] \(GatedConv\): it is for sequences, .* have 2 axes"):
        tp.kernel(nn.serial(nn.Conv(4, (2, 2)), made(8, 3)), np.ones((2, 5, 5, 3)))
    x = np.random.default_rng(1).standard_normal((2, 6, 4))
    x[1, 4:] = 0.0
    net = nn.serial(made(8, 1), nn.GlobalAvgPool())
    whole = tp.kernel(net, x, mask_constant=0.0)
    np.testing.assert_allclose(whole[1:, 1:], tp.kernel(net, x[1:, :4]), rtol=1e-12)
    with pytest.raises(SpecError, match="no op is named 'GatedConv'"):
        nn.from_spec(net.to_spec())
