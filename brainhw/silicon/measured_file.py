"""File format of a measured chip: readable JSON text with a checksum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe
from brainhw._files import FileKind, Sealed, path_text, starts_with, versions
from brainhw._plain_json import parse_json, text_of
from brainhw.chip import UnknownFamilyError
from brainhw.chip.file import chip_from_text, chip_to_text
from brainhw.silicon.measured import MeasuredChip

__all__ = ["TAG", "is_measured", "load_measured", "read_measured", "save_measured"]

_KIND = FileKind("measured chip", "brainhw.silicon.MeasuredChip.save", 1)
TAG = "brainhw-measured"
"""The first word of each file that contains a measured chip."""
# The size limit is 1000 times the size of the file of a chip with 256 neurons and 8 leak settings.
_FILE = Sealed(_KIND, TAG, 64 * 2**20)

_ARRAYS = {"tau_ms": u.ms, "V_th_mV": u.mV, "tau_error_ms": u.ms, "V_th_error_mV": u.mV}
_FIELDS = ("chip", "notes", "versions", *_ARRAYS)


def save_measured(chip: MeasuredChip, path: str | os.PathLike[str]) -> None:
    """Write a chip to a file atomically (see `MeasuredChip.save`)."""
    call = "MeasuredChip.save"
    name = path_text(path, call=call, what="the file to write")
    _FILE.write(name, text_of(_plain(chip, call)).encode("ascii"), call=call)


def load_measured(path: str | os.PathLike[str]) -> MeasuredChip:
    """Read a chip from a file (see `MeasuredChip.load`)."""
    return read_measured(path, call="MeasuredChip.load")[0]


def is_measured(path: str | os.PathLike[str]) -> bool:
    """Return whether a file has the suffix ``.chip``, or starts with the first word of a measured chip."""
    return os.fsdecode(path).endswith(".chip") or starts_with(path, (f"{TAG} ".encode(),))


def read_measured(path: str | os.PathLike[str], *, call: str) -> tuple[MeasuredChip, str, dict[str, str]]:
    """Read an untrusted file. Return the chip, the checksum, and the versions of the software that wrote the file."""
    payload, checksum, what = _FILE.read(path, call=call)
    try:
        data = parse_json(payload.decode("ascii"))
        return _chip(data), checksum, _versions(data["versions"])
    except UnknownFamilyError as error:
        raise ValueError(f"{what} needs a chip family that is not registered: {error}") from error
    # The checksum detects only corruption. Anyone can write a file with a correct checksum, so errors of any kind in
    # its content are reported as invalid content.
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{what} has invalid content: {reason[:400]} Its checksum is correct, so the file is not corrupted. Save "
            f"the chip again with {_KIND.writer}."
        ) from error


def _plain(chip: MeasuredChip, call: str) -> dict[str, Any]:
    arrays = (chip.tau, chip.V_th, chip.tau_error, chip.V_th_error)
    return {
        "chip": chip_to_text(chip.spec, call=call).split("\n"),
        "notes": chip.notes.split("\n"),
        "versions": versions(),
        **{name: None if held is None else _listed(held.mantissa) for name, held in zip(_ARRAYS, arrays, strict=True)},
    }


def _listed(numbers: np.ndarray) -> list[Any]:
    # JSON has no NaN, so null marks values that were not measured.
    if numbers.ndim > 1:
        return [_listed(row) for row in numbers]
    return [None if np.isnan(number) else float(number) for number in numbers]


def _chip(data: Any) -> MeasuredChip:
    if not isinstance(data, Mapping) or set(data) != set(_FIELDS):
        raise ValueError(f"it must have exactly the fields {', '.join(_FIELDS)}; got {describe(data):.80}.")
    spec = chip_from_text("\n".join(_lines(data["chip"], "chip")), call="chip")
    held = {
        name.rpartition("_")[0]: None if data[name] is None else u.Quantity(_numbers(data[name], name), unit=unit)
        for name, unit in _ARRAYS.items()
    }
    return MeasuredChip(spec, **held, notes="\n".join(_lines(data["notes"], "notes")))


def _versions(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or any(
        not isinstance(word, str) or not word.isprintable() for pair in value.items() for word in pair
    ):
        raise ValueError(f"versions must be a mapping from text to text; got {describe(value):.80}.")
    return dict(value)


def _lines(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not value or any(not isinstance(line, str) for line in value):
        raise ValueError(f"{name} must be a list of lines of text; got {describe(value):.80}.")
    return value


def _numbers(value: Any, name: str) -> np.ndarray:
    rows = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    for row in rows:
        if not isinstance(row, list) or any(item is not None and type(item) is not float for item in row):
            raise ValueError(
                f"{name} must contain rows of floats, written with a decimal point, or null for a value that was not "
                "measured."
            )
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{name}: all rows must have the same length.")
    numbers = np.array([[np.nan if item is None else item for item in row] for row in rows], np.float64)
    return numbers if rows is value else numbers[0]
