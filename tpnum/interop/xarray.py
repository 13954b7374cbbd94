"""Results with names on their axes: predictions, draws and training curves as datasets of xarray.

    predictions(gp.predict(x_new, cov=True), draws=1000)      # mean, variance, covariance, f
    training(nets, np.geomspace(1, 1e4, 50), x_new, y_new)    # mean, variance and losses by time

Draws have the axes ``chain`` and ``draw`` in front, by which ArviZ knows them: ``arviz.hdi(dataset)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

try:
    import xarray as xr
except ImportError as missing:
    raise ImportError("tpnum.interop.xarray needs xarray: pip install 'tpnum[xarray]'") from missing

from tpnum.arguments import real_array, shown, whole
from tpnum.errors import InputError
from tpnum.predict import Ensemble, Prediction

AXES = ("example", "output")


def predictions(found: Any, *, draws: int = 0, seed: Any = None, coords: Any = None) -> xr.Dataset:
    """A prediction as a dataset.

    Parameters
    ----------
    found : what ``predict`` of a model of `tpnum.predict` returns; draws need its covariance.
    draws : how many to draw from the joint Gaussian.
    seed : of the draws.
    coords : labels of the axes "example" and "output".

    Returns
    -------
    Dataset
        ``mean`` (example[, output]), ``variance`` (example), with a covariance ``covariance`` (example,
        example_2), and with draws ``f`` (chain, draw, example[, output]), of one chain.

    Raises
    ------
    InputError : something else than a prediction; coordinates that do not fit; draws without a covariance.
    """
    if not isinstance(found, Prediction):
        raise InputError(f"found is {shown(found)}; give what predict(x) of a model returns")
    axes = AXES[: found.mean.ndim]
    held: dict[str, Any] = {"mean": (axes, found.mean), "variance": (AXES[:1], found.variance)}
    if found.covariance is not None:
        held["covariance"] = (("example", "example_2"), found.covariance)
    if whole(draws, "draws", 0):
        held["f"] = (("chain", "draw", *axes), found.sample(draws, seed)[None])
    return _dataset(held, coords)


def training(nets: Any, times: Any, x: Any = None, y: Any = None, *, coords: Any = None) -> xr.Dataset:
    """The curves of an ensemble in training.

    Parameters
    ----------
    nets : what `tpnum.predict.gradient_flow` or ``gradient_descent`` returns.
    times : times or numbers of steps.
    x, y : examples to predict at, those trained on by default, and their targets, without which there are no
        losses of other examples.
    coords : as in `predictions`.

    Returns
    -------
    Dataset
        ``mean`` (time, example[, output]), ``variance`` (time, example), and the losses 1/2 sum |f - y|^2
        ``loss_of_mean`` and ``expected_loss`` (time).
    """
    if not isinstance(nets, Ensemble):
        raise InputError(f"nets is {shown(nets)}; give what gradient_flow or gradient_descent returns")
    asked = real_array(times, "times").ravel()
    every = [nets.predict(x, t) for t in asked.tolist()]
    if not every:
        raise InputError("times: give at least one")
    mean = np.stack([found.mean for found in every])
    variance = np.stack([found.variance for found in every])
    held: dict[str, Any] = {
        "mean": (("time", *AXES[: mean.ndim - 1]), mean),
        "variance": (("time", "example"), variance),
    }
    if (x is None) == (y is None):
        losses = np.array(nets.losses(asked, x, y))
        held |= {"loss_of_mean": ("time", losses[:, 0]), "expected_loss": ("time", losses[:, 1])}
    elif x is None:
        raise InputError("x: targets y alone are of no examples; give both, or neither")
    return _dataset(held, {"time": asked, **_named(coords)})


def _dataset(held: dict[str, Any], coords: Any) -> xr.Dataset:
    made = xr.Dataset(held)
    for name, labels in _named(coords).items():
        if name not in made.dims:
            raise InputError(
                f"coords: there is no axis {shown(name)}; the axes are {', '.join(map(str, made.dims))}"
            )
        if np.shape(labels) != (made.sizes[name],):
            raise InputError(
                f"coords: {np.size(labels)} labels for the {made.sizes[name]} places of {name!r}"
            )
        made = made.assign_coords({name: labels})
    return made


def _named(coords: Any) -> dict[str, Any]:
    if coords is None:
        return {}
    if not isinstance(coords, Mapping):
        raise InputError(f"coords is {shown(coords)}: it must give labels by the name of an axis")
    return dict(coords)
