"""States on disk: one .npz file of arrays and a JSON text, nothing that runs when it is read."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

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
        kind = about["kind"]
        source = Source.read_json(about["source"]) if "source" in about else None
        if kind in ("Ensemble", "Dynamics"):
            given = dict(about["filter"])
            made = FILTERS[given.pop("name")](**given)
            dynamics = Dynamics(made, arrays["y"], arrays["values"], arrays["vectors"], arrays.get("inner"))
            return dynamics if source is None else Ensemble(source, arrays["x"], dynamics)
        noise = arrays["noise"] if arrays["noise"].ndim else float(arrays["noise"])
        if kind == "Iterative" and source is not None:
            return Iterative(
                source, about["get"], arrays["x"], arrays["y"], noise, preconditioner(arrays["low"], noise),
                about["rank"], about["rtol"], np.dtype(about["dtype"]), arrays["weights"],
                about["steps"], about["residual"],
            )  # fmt: skip
        factor = Cholesky(np.ascontiguousarray(arrays["lower"]), about["jitter"])
        state = Posterior(factor, arrays["y"], noise, arrays["weights"])
        return state if source is None else Regression(source, about["get"], arrays["x"], state)
    except TpnumError:
        raise
    except Exception as problem:
        raise StoreError(f"{path} is not a model that can be used: it lacks {problem}") from problem


def write(path: Any, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a JSON object and arrays under a temporary name, then give them theirs."""
    target = _path(path)
    text = json.dumps({"format": FORMAT, "version": VERSION, **about}, allow_nan=False)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez(stream, about=np.array(text), **arrays)  # type: ignore[arg-type]
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
        with np.load(source, allow_pickle=False) as stored:
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
