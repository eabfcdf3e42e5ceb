"""The file of a step program: a NumPy archive of the program, the states at rest and a description."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from brainhw._files import FileKind, write_whole

__all__ = ["digest", "read_program_file", "stored_dtype", "write_program_file"]

_TAG = "brainhw-step"
_STATE = "state/"
_FILE = FileKind("step program", "StepProgram.save", 1)
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
    described = {"format": f"{_TAG}/{_FILE.format}", "sha256": digest(program, stored), **description}
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
    arrays, what = _FILE.read(path, _arrays, call=call)
    if "description" not in arrays or "program" not in arrays:
        raise ValueError(f"{what} is not a step program; give a file that StepProgram.save wrote.")
    try:
        description = json.loads(str(arrays["description"][()]))
        tag, _, version = description.pop("format").partition("/")
        number = int(version)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError):
        tag, number = "", 0
    if tag != _TAG or number < 1:
        raise ValueError(f"{what} is not a step program; give a file that StepProgram.save wrote.")
    _FILE.check_format(number, what)
    states = {key.removeprefix(_STATE): value for key, value in arrays.items() if key.startswith(_STATE)}
    program = arrays["program"].tobytes()
    if description.pop("sha256", None) != digest(program, states):
        raise ValueError(f"{what} is damaged: program and states do not match their SHA-256; {_AGAIN}.")
    return program, states, description, what


def _arrays(stream: IO[bytes], what: str) -> tuple[dict[str, np.ndarray], str]:
    data = stream.read()
    if not data.startswith(b"PK"):
        fault = "is not a step program" if data else "is empty"
        raise ValueError(f"{what} {fault}; give a file that StepProgram.save wrote.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"{bad} does not match its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}, what
    except Exception as error:  # the readers of archives and arrays raise errors of many classes for bad bytes
        raise ValueError(f"{what} is cut short or damaged ({error}); {_AGAIN}.") from error
