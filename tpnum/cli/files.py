"""Files of the command line that are read: arrays and nets, refused before they can do harm."""

from __future__ import annotations

import json
import math
import os
import stat
from typing import Any, BinaryIO

import numpy as np

from tpnum.errors import StoreError
from tpnum.program.serial import parse

LONGEST = 1 << 26
"""Bytes of the longest text of a net."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_array(name: str) -> np.ndarray:
    """Return the array of a .npy file, mapped from disk rather than read."""
    try:
        refuse_endless(name, "give a .npy file")
        with open(name, "rb") as stream:
            if stream.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                raise StoreError(f"{name} is not a .npy file; write one with numpy.save")
            stream.seek(0)
            shape, fortran, dtype = _header(name, stream)
            start, size = stream.tell(), os.fstat(stream.fileno()).st_size
        needed = start + math.prod(shape) * dtype.itemsize
        if size < needed:
            raise _unusable(name, f"shape {_short(shape)} takes {needed} bytes, the file has {size}")
        if not math.prod(shape):
            return np.empty(shape, dtype)
        order: Any = "F" if fortran else "C"
        return np.asarray(np.memmap(name, dtype, mode="r", offset=start, shape=shape, order=order))
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError) as error:  # a size beyond what NumPy counts
        raise _unusable(name, str(error)) from error


def _header(name: str, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype that the header promises, all of them possible."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"format {version[0]}.{version[1]}, which plain numbers do not need")
        shape, fortran, dtype = _HEADERS[version](stream)
    except OSError:
        raise
    except Exception as error:  # the header is text that anybody may have written
        raise _unusable(name, str(error)) from error
    if dtype.hasobject:
        raise _unusable(name, "it holds Python objects")
    if dtype.kind not in "fiub":
        raise StoreError(f"{name} holds {_short(dtype)}; convert it to float64 or float32")
    if any(n < 0 for n in shape):
        raise _unusable(name, f"shape {_short(shape)} has a negative entry")
    return shape, fortran, dtype


def read_net(name: str) -> dict[str, Any]:
    """Return the "network" of a JSON spec, or the whole if it has none."""
    try:
        refuse_endless(name, "give a JSON file")
        with open(name, "rb") as stream:
            content = stream.read(LONGEST + 1)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    if len(content) > LONGEST:
        raise StoreError(f"{name} is longer than {LONGEST >> 20} MiB, which no net is")
    try:
        spec = parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StoreError(f"{name} is not text in UTF-8; NET.json comes first, then X.npy") from error
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except ValueError as error:
        raise StoreError(f"{name} is not JSON that can be used: {error}") from error
    except RecursionError as error:
        raise StoreError(f"{name} is nested too deeply to be a net") from error
    if not isinstance(spec, dict):
        raise StoreError(f'{name} is not a net: expected an object like {{"op": "serial", "layers": [...]}}')
    network = spec.get("network", spec)
    if not isinstance(network, dict):
        raise StoreError(f'{name}: "network" is not an object like {{"op": "serial", "layers": [...]}}')
    return network


def refuse_endless(name: str, advice: str) -> None:
    """Raise for what is no file: no name, a directory, or a pipe or a device, which may have no end."""
    if not name:
        raise StoreError(f"a file without a name cannot be read; {advice}")
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise StoreError(f"{name} cannot be read: it is a directory; {advice}")
    if not stat.S_ISREG(mode):
        raise StoreError(f"{name} cannot be read: it is a pipe or a device, not a file; {advice}")


def _unusable(name: str, why: str) -> StoreError:
    why = " ".join(why.split()).rstrip(".")
    return StoreError(f"{name} cannot be used ({_short(why)}); write float64 or float32 with numpy.save")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
