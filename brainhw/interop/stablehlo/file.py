"""The file of a step program: a NumPy archive of the program, the states at rest and a description."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainhw._arguments import describe
from brainhw._files import write_whole

__all__ = ["digest", "read_program_file", "stored_dtype", "write_program_file"]

_KIND, _VERSION = "brainhw-step", 1
_STATE = "state/"
_AGAIN = "copy it again, or export the network again with brainhw.interop.stablehlo.export_step"


def digest(program: bytes, states: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a program and of names, types, shapes and numbers of stored states, in hexadecimal."""
    found = hashlib.sha256(program)
    for name in sorted(states):
        value = states[name]
        found.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type that a state is kept in: its own, or whole numbers where NumPy's archive does not know it."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def write_program_file(
    path: str | os.PathLike[str],
    program: bytes,
    states: Mapping[str, np.ndarray],
    description: dict[str, Any],
    call: str,
) -> None:
    """Write ``program``, ``description`` (JSON) and ``state/NAME`` arrays as one archive, in one step."""
    stored = {name: value.view(stored_dtype(value.dtype)) for name, value in states.items()}
    described = {"format": f"{_KIND}/{_VERSION}", "sha256": digest(program, stored), **description}
    content: dict[str, Any] = {
        "program": np.frombuffer(program, np.uint8),
        "description": np.array(json.dumps(described, sort_keys=True)),
    }
    archive = io.BytesIO()
    content |= {_STATE + name: value for name, value in stored.items()}
    np.savez(archive, **content)
    write_whole(path, archive.getvalue(), call=call)


def read_program_file(
    path: str | os.PathLike[str], call: str
) -> tuple[bytes, dict[str, np.ndarray], dict[str, Any], str]:
    """Return program, states, description and the words that name the file; raises unless it is whole."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{call}: path must be the path of a step program; got {describe(path)}.") from None
    what = f"{call}: {name!r}"
    arrays = _arrays(name, what)
    if "description" not in arrays or "program" not in arrays:
        raise ValueError(f"{what} is no step program; give a file that StepProgram.save wrote.")
    try:
        description = json.loads(str(arrays["description"][()]))
        kind, _, version = description.pop("format").partition("/")
        number = int(version)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError):
        kind, number = "", 0
    if kind != _KIND or number < 1:
        raise ValueError(f"{what} is no step program; give a file that StepProgram.save wrote.")
    if number > _VERSION:
        raise ValueError(
            f"{what} was written by a newer brainhw (format {number}, this one reads {_VERSION}): update brainhw."
        )
    states = {key.removeprefix(_STATE): value for key, value in arrays.items() if key.startswith(_STATE)}
    program = arrays["program"].tobytes()
    if description.pop("sha256", None) != digest(program, states):
        raise ValueError(f"{what} is damaged: program and states do not match their SHA-256; {_AGAIN}.")
    return program, states, description, what


def _arrays(name: str, what: str) -> dict[str, np.ndarray]:
    try:
        # A pipe or a terminal would be waited for, a device read without end.
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise ValueError("it is no regular file")
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: no path has a null character
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(
            f"{what} cannot be read: {reason or error}; give the path of a file that StepProgram.save wrote."
        ) from error
    if not data.startswith(b"PK"):
        fault = "is no step program" if data else "is empty"
        raise ValueError(f"{what} {fault}; give a file that StepProgram.save wrote.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"{bad} does not match its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception as error:  # whatever the readers of archives and arrays make of bytes that are none
        raise ValueError(f"{what} is cut short or damaged ({error}); {_AGAIN}.") from error
