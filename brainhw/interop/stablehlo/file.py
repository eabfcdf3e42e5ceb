"""File format of `StepProgram`, an exported program that computes one time step.

The file is a NumPy archive with the program, its initial states and a JSON description.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import brainunit as u
import numpy as np

from brainhw._arguments import unit_name
from brainhw._arrays import ArrayFile
from brainhw._files import FileKind, first_line, write_whole

__all__ = ["FILE", "Stored", "digest", "read_program_file", "stored_dtype", "write_program_file"]

_TAG = "brainhw-step"
_STATE = "state/"
# Since format 2, the checksum also covers units, dt and versions. Since format 3, the file lists arguments and results.
FILE = FileKind("step program", "StepProgram.save", 3)
_OLDEST_FORMAT = 2


class Stored(NamedTuple):
    """Content of a step program file: the serialized program, its initial states, and the fields of its description."""

    program: bytes
    states: Mapping[str, np.ndarray]
    state_units: Mapping[str, u.Unit | None]
    input_unit: u.Unit | None
    output_units: tuple[u.Unit | None, ...]
    dt: u.Quantity
    versions: Mapping[str, str]
    # Lists as returned by `plain_ports`, or ``None`` for a file of format 2.
    arguments: Any
    results: Any


def digest(program: bytes, states: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of a program, its states, and its description without the field ``sha256``."""
    covered = {name: value for name, value in description.items() if name != "sha256"}
    found = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    found.update(b"\0" + program)
    for name in sorted(states):
        value = states[name]
        # Zero bytes separate the fields, so that the digest changes if a byte moves from one field to the next.
        found.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which a file stores a state with the dtype ``dtype``.

    If NumPy does not know ``dtype``, such as bfloat16, return an unsigned integer type of the same size. Otherwise,
    return ``dtype``.
    """
    # NumPy does not know bfloat16 and similar types: a NumPy archive stores them as raw bytes without the name of the
    # type.
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def write_program_file(path: str | os.PathLike[str], stored: Stored, call: str) -> None:
    """Write a step program to a file, atomically.

    The file is a NumPy archive with ``program``, ``description`` (JSON), and an array ``state/NAME`` for each state.
    """
    states = {name: value.view(stored_dtype(value.dtype)) for name, value in stored.states.items()}
    description: dict[str, Any] = {
        "format": f"{_TAG}/{FILE.format}",
        "dt_ms": float(stored.dt.to(u.ms).mantissa),
        "state_units": {name: _plain_unit(unit) for name, unit in stored.state_units.items()},
        "input_unit": _plain_unit(stored.input_unit),
        "output_units": [_plain_unit(unit) for unit in stored.output_units],
        "versions": dict(stored.versions),
        "arguments": stored.arguments,
        "results": stored.results,
    }
    description["sha256"] = digest(stored.program, states, description)
    content: dict[str, Any] = {
        "program": np.frombuffer(stored.program, np.uint8),
        "description": np.array(json.dumps(description, sort_keys=True)),
    }
    content |= {_STATE + name: value for name, value in states.items()}
    archive = io.BytesIO()
    np.savez(archive, **content)
    write_whole(path, archive.getvalue(), call=call)


def read_program_file(path: str | os.PathLike[str], call: str) -> tuple[Stored, str]:
    """Return the content of a step program file, and the text with which error messages about this file start.

    Raise an error if the file is corrupted.
    """
    arrays, what = FILE.read(path, _arrays, call=call)
    try:
        program = arrays["program"].tobytes()
        description = json.loads(str(arrays["description"][()]))
        tag, _, version = description["format"].partition("/")
        number = int(version)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError):
        raise FILE.wrong_kind(what) from None
    if tag != _TAG or number < 1:
        raise FILE.wrong_kind(what)
    FILE.check_format(number, what)
    if number < _OLDEST_FORMAT:
        raise ValueError(
            f"{what} was written by an older brainhw (format {number}; expected {_OLDEST_FORMAT} to {FILE.format}), "
            "whose checksum did not cover units and dt. Export the network again."
        )
    states = {key.removeprefix(_STATE): value for key, value in arrays.items() if key.startswith(_STATE)}
    if description.get("sha256") != digest(program, states, description):
        raise FILE.corrupted(what, "is corrupted: its content does not match its SHA-256")
    # A digest detects accidental corruption only, because anyone can compute a valid one. Every value is therefore
    # checked too.
    try:
        versions = description["versions"]
        if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
            raise ValueError("its field 'versions' must map names to strings")
        state_units = {name: _unit_of(unit) for name, unit in description["state_units"].items()}
        output_units = tuple(_unit_of(unit) for unit in description["output_units"])
        dt = _plain_number(description["dt_ms"], "dt_ms", positive=True) * u.ms
        input_unit = _unit_of(description["input_unit"])
        ports = [description[name] if number > _OLDEST_FORMAT else None for name in ("arguments", "results")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FILE.corrupted(what, f"is corrupted: {error}") from error
    return Stored(program, states, state_units, input_unit, output_units, dt, versions, *ports), what


def _arrays(stream: IO[bytes], what: str) -> tuple[dict[str, np.ndarray], str]:
    first = stream.read(2)
    if first != b"PK":
        raise FILE.wrong_kind(what, "" if first else "is empty")
    size = os.fstat(stream.fileno()).st_size
    try:
        # brainhw writes uncompressed archives. Compressed ones are rejected, because a small file could expand to a
        # large one.
        held = ArrayFile(stream, compressed=False)
        return {name: held.read(name, largest=size) for name in held.names}, what
    except Exception as error:  # for corrupted files, NumPy and zipfile raise many error classes
        raise FILE.corrupted(what, f"is truncated or corrupted ({first_line(error)})") from error


def _plain_unit(unit: u.Unit | None) -> dict[str, Any] | None:
    """Convert a unit to a dict with its name, exponents of the seven base units, power of ten and factor.

    If ``unit`` is ``None``, return ``None``.
    """
    if unit is None:
        return None
    exponents = [float(exponent) for exponent in np.asarray(unit.dim._dims)]
    return {"name": unit_name(unit), "exponents": exponents, "scale": unit.scale, "factor": unit.factor}


def _unit_of(data: Any) -> u.Unit | None:
    """Return the unit for a dict that :func:`_plain_unit` returned."""
    if data is None:
        return None
    if not isinstance(data["name"], str) or len(data["exponents"]) != 7:
        raise ValueError("a unit must have a name and seven exponents")
    for number in (*data["exponents"], data["scale"]):
        _plain_number(number, "exponents and scale of a unit")
    _plain_number(data["factor"], "the factor of a unit", positive=True)
    # If brainunit has an equal unit of this name, return it, because it prints better. The other fields are compared
    # too, because the name of an unnamed unit is only a formula.
    named = getattr(u, data["name"], None)
    if isinstance(named, u.Unit) and _plain_unit(named) == data:
        return named
    dimension = u.get_or_create_dimension([float(exponent) for exponent in data["exponents"]])
    return u.Unit(dim=dimension, scale=data["scale"], factor=data["factor"], name=data["name"])


def _plain_number(data: Any, name: str, *, positive: bool = False) -> float:
    """Return a number from the description as a float. Raise an error if it is not a finite number.

    With ``positive``, also raise an error if the number is zero or negative.
    """
    # `type` instead of `isinstance`, because True is an int. The limit 1e300 is needed because a JSON integer may be
    # too large for a float.
    is_valid = type(data) in (int, float) and abs(data) < math.inf and abs(data) <= 1e300
    if not is_valid or (positive and data <= 0):
        raise ValueError(f"{name} must be {'positive and ' if positive else ''}finite; got {data!r:.40}")
    return float(data)
