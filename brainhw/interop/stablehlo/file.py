"""File of a step program: a NumPy archive of the program, the states at rest and a description in JSON."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import brainunit as u
import numpy as np

from brainhw._arguments import unit_name
from brainhw._files import FileKind, write_whole

__all__ = [
    "FILE",
    "digest",
    "plain_number",
    "plain_unit",
    "read_program_file",
    "stored_dtype",
    "unit_of",
    "write_program_file",
]

_TAG = "brainhw-step"
_STATE = "state/"
FILE = FileKind("step program", "StepProgram.save", 1)


def digest(program: bytes, states: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a program and of names, types, shapes and numbers of stored states, in hexadecimal."""
    found = hashlib.sha256(program)
    for name in sorted(states):
        value = states[name]
        # Zero bytes between the parts, so that no part can continue into the next.
        found.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type in which a state is stored: its own, or whole numbers of its size for bfloat16 and the like."""
    # NumPy's archive stores types that NumPy does not know as raw bytes, and loads them without their name.
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
    described = {"format": f"{_TAG}/{FILE.format}", "sha256": digest(program, stored), **description}
    content: dict[str, Any] = {
        "program": np.frombuffer(program, np.uint8),
        "description": np.array(json.dumps(described, sort_keys=True)),
    }
    content |= {_STATE + name: value for name, value in stored.items()}
    archive = io.BytesIO()
    np.savez(archive, **content)
    write_whole(path, archive.getvalue(), call=call)


def read_program_file(
    path: str | os.PathLike[str], call: str
) -> tuple[bytes, dict[str, np.ndarray], dict[str, Any], str]:
    """Return program, states, description and the words that name the file; raise unless it is whole."""
    arrays, what = FILE.read(path, _arrays, call=call)
    try:
        program = arrays["program"].tobytes()
        description = json.loads(str(arrays["description"][()]))
        tag, _, version = description.pop("format").partition("/")
        number = int(version)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError):
        raise FILE.foreign(what) from None
    if tag != _TAG or number < 1:
        raise FILE.foreign(what)
    FILE.check_format(number, what)
    states = {key.removeprefix(_STATE): value for key, value in arrays.items() if key.startswith(_STATE)}
    if description.pop("sha256", None) != digest(program, states):
        raise FILE.damaged(what, "is damaged: program and states do not match their SHA-256")
    return program, states, description, what


def _arrays(stream: IO[bytes], what: str) -> tuple[dict[str, np.ndarray], str]:
    data = stream.read()
    if not data.startswith(b"PK"):
        raise FILE.foreign(what, "" if data else "is empty")
    try:
        # A checksum is compared at the end of a member, and NumPy reads only as much as the header of an array says.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"{bad} does not match its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}, what
    except Exception as error:  # the readers of archives and arrays raise errors of many classes for bad bytes
        raise FILE.damaged(what, f"is cut short or damaged ({error})") from error


def plain_unit(unit: u.Unit | None) -> dict[str, Any] | None:
    """Return name, exponents of the seven base units, power of ten and factor; ``None`` for no unit."""
    if unit is None:
        return None
    exponents = [float(exponent) for exponent in np.asarray(unit.dim._dims)]
    return {"name": unit_name(unit), "exponents": exponents, "scale": unit.scale, "factor": unit.factor}


def unit_of(data: Any) -> u.Unit | None:
    """Return the unit that :func:`plain_unit` described."""
    if data is None:
        return None
    if not isinstance(data["name"], str) or len(data["exponents"]) != 7:
        raise ValueError("a unit must have a name and seven exponents")
    for number in (*data["exponents"], data["scale"]):
        plain_number(number, "exponents and scale of a unit")
    plain_number(data["factor"], "the factor of a unit", positive=True)
    # brainunit's own unit prints better. The name alone proves nothing: units that have none print as a formula.
    named = getattr(u, data["name"], None)
    if isinstance(named, u.Unit) and plain_unit(named) == data:
        return named
    dimension = u.get_or_create_dimension([float(exponent) for exponent in data["exponents"]])
    return u.Unit(dim=dimension, scale=data["scale"], factor=data["factor"], name=data["name"])


def plain_number(data: Any, name: str, *, positive: bool = False) -> float:
    """Return a finite number that a description holds, or raise."""
    # `type`, since True is an int; and JSON may hold a whole number that is too large for a float.
    sound = type(data) in (int, float) and abs(data) < math.inf and abs(data) <= 1e300
    if not sound or (positive and data <= 0):
        raise ValueError(f"{name} must be finite numbers{' above zero' if positive else ''}; got {data!r:.40}")
    return float(data)
