"""States on disk: one .npz file of arrays and a JSON text, nothing that runs when it is read."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import StoreError, TpnumError
from tpnum.predict.cholesky import Cholesky
from tpnum.predict.dynamics import Dynamics
from tpnum.predict.filters import Descent, Flow
from tpnum.predict.gaussian import Posterior
from tpnum.predict.iterative import Iterative
from tpnum.predict.models import Ensemble, Regression
from tpnum.predict.nearby import preconditioner
from tpnum.predict.source import Source
from tpnum.tiles.arguments import KINDS

FORMAT = "tpnum.predict"
VERSION = 1
FILTERS = {"Flow": Flow, "Descent": Descent}


State = Regression | Ensemble | Iterative | Posterior | Dynamics


def save(model: Any, path: Any) -> None:
    """Write a model, whole or not at all."""
    write(path, *content(model))


def load(path: Any) -> State:
    """The model or state that ``save`` wrote.

    Raises
    ------
    StoreError : a file that cannot be read, or holds something else.
    """
    return restored(path, *read(path))


def content(model: State) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a model is made of: a JSON object and arrays."""
    about: dict[str, Any] = {"kind": type(model).__name__}
    arrays = {"y": model.y} if not isinstance(model, (Regression, Ensemble)) else {"y": model.state.y}
    if isinstance(model, (Regression, Ensemble, Iterative)):
        about["source"] = model.source.to_json()
        arrays["x"] = model.x
    state = model.state if isinstance(model, (Regression, Ensemble)) else model
    if isinstance(model, (Regression, Iterative)):
        about["get"] = model.get
    if isinstance(state, Dynamics):
        about["filter"] = {"name": type(state.filter).__name__, **vars(state.filter)}
        arrays |= {"values": state.values, "vectors": state.vectors}
        if state.inner is not None:
            arrays["inner"] = state.inner
        return about, arrays
    arrays |= {"noise": np.asarray(state.noise), "weights": state.weights}
    if isinstance(state, Iterative):
        about |= {name: getattr(state, name) for name in ("rank", "rtol", "steps", "residual")}
        about["dtype"] = state.dtype.name
        arrays["low"] = state.near.low
    else:
        about["jitter"] = state.jitter
        arrays["lower"] = np.tril(state.factor.lower)
    return about, arrays


def restored(path: Any, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> State:
    """The model of its `content`."""
    try:
        if len({len(array) for array in arrays.values() if array.ndim}) != 1:
            raise ValueError("its arrays are not of one number of examples")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("its arrays hold NaN or infinity")
        return MAKERS[_known(about["kind"], "kind of model", MAKERS)](about, arrays)
    except TpnumError:
        raise
    except KeyError as problem:
        raise StoreError(f"{path} is not a model that can be used: it lacks {problem}") from problem
    except Exception as problem:
        raise StoreError(f"{path} is not a model that can be used: {problem}") from problem


def _known(name: str, what: str, names: Collection[str]) -> str:
    if name not in names:
        raise ValueError(f"{shown(name)} is no {what} that this tpnum knows")
    return name


def _posterior(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Posterior:
    factor = Cholesky(np.ascontiguousarray(arrays["lower"]), about["jitter"])
    return Posterior(factor, arrays["y"], _noise(arrays), arrays["weights"])


def _regression(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Regression:
    get = _known(about["get"], "kernel", KINDS)
    return Regression(Source.read_json(about["source"]), get, arrays["x"], _posterior(about, arrays))


def _dynamics(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Dynamics:
    given = dict(about["filter"])
    made = FILTERS[_known(given.pop("name"), "filter", FILTERS)](**given)
    return Dynamics(made, arrays["y"], arrays["values"], arrays["vectors"], arrays.get("inner"))


def _ensemble(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Ensemble:
    return Ensemble(Source.read_json(about["source"]), arrays["x"], _dynamics(about, arrays))


def _iterative(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterative:
    noise = _noise(arrays)
    return Iterative(
        Source.read_json(about["source"]), _known(about["get"], "kernel", KINDS), arrays["x"], arrays["y"],
        noise, preconditioner(arrays["low"], noise), about["rank"], about["rtol"], np.dtype(about["dtype"]),
        arrays["weights"], about["steps"], about["residual"],
    )  # fmt: skip


def _noise(arrays: dict[str, np.ndarray]) -> float | np.ndarray:
    noise = arrays["noise"]
    return noise if noise.ndim else float(noise)


MAKERS: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], State]] = {
    "Posterior": _posterior,
    "Regression": _regression,
    "Dynamics": _dynamics,
    "Ensemble": _ensemble,
    "Iterative": _iterative,
}
"""A model from what `content` gives, by its kind."""


def write(path: Any, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a JSON object and arrays, whole or not at all."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **about}, allow_nan=False)
    with whole_file(_path(path)) as stream:
        np.savez(stream, about=np.array(text), **arrays)  # type: ignore[arg-type]


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A stream into a file of another name, which takes its own when the block ends well."""
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def read(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON object and the arrays of a file."""
    source = _path(path)
    try:
        with open(source, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays.pop("about")))
    except OSError as error:
        raise StoreError(f"{source} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{source} is not a model written by tpnum, or is damaged") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise StoreError(f"{source} is not a model written by tpnum")
    if about.get("version") != VERSION:
        raise StoreError(f"{source} is of version {about.get('version')}; this tpnum reads {VERSION}")
    return about, arrays


def _path(path: Any) -> Path:
    try:
        made = Path(path)
    except TypeError:
        raise StoreError(f"path is {shown(path)}: it must be the name of a file") from None
    if made.is_dir():  # as "" is: the one that it stands in
        raise StoreError(f"path is {shown(str(path))}: a folder, not a file")
    return made


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
