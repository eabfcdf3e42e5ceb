"""Chip files: specs as TOML text that users can edit."""

from __future__ import annotations

import json
import os
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe, unit_name
from brainhw._closest import closest
from brainhw._files import open_regular, path_text, write_whole
from brainhw.chip._units import exact, unit_named
from brainhw.chip.charge import ChargeCurve
from brainhw.chip.family import check_package, get_family
from brainhw.chip.fields import FieldInfo, has_default, info_of
from brainhw.chip.spec import ChipSpec
from brainhw.chip.tau import TauProfiles

__all__ = ["chip_from_data", "chip_from_text", "chip_to_text", "load_chip", "save_chip"]

_KIND, _VERSION = "brainhw-chip", 1
# This limit is a thousand times the size of a preset file. It is low, because parsing TOML requires many times as much
# memory as the size of the file.
_MAX_FILE_BYTES = 2**23
_NONE = "none"  # TOML has no null

_HEADER = """\
Chip description for brainhw.chip.load_chip, in the TOML format. Edit it with a text editor.

To replace a value by your measurement, change `value`. You may also change `unit` to any unit of the same dimension,
by its brainunit name, such as "mV", "volt" or "fcoulomb". Then set `provenance` to "measured", and describe the
measurement in one line as `note`, which is optional. `provenance` is "documented" (published by the vendor), "assumed"
(consistent with the publications of the vendor) or "measured". If the chip does not have a kind of mismatch, `value` is
"none".

Do not remove tables, and add only optional ones. The charge curve is one of these:
  kind = "linear"      with gain (charge per unit weight)
  kind = "saturating"  with gain and saturation: charge = gain * saturation * tanh(weight / saturation)
  kind = "tabulated"   with weights = [...] and charges = [...], two lists of the same length; weights must increase
`unit` is the unit of the charges.
"""


def save_chip(spec: ChipSpec, path: str | os.PathLike[str]) -> None:
    """Write a chip to a TOML file with comments.

    Parameters
    ----------
    spec : ChipSpec
        The chip.
    path : path
        The file; its folder must exist. An existing file is replaced atomically, so it is unchanged if writing fails.

    Raises
    ------
    TypeError
        If ``path`` is not a path, if ``spec`` is not a ChipSpec, or if its class is not the spec class of its family.
    ValueError
        If the family of ``spec`` is not registered, or if the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from brainhw.chip import H1V1, load_chip, save_chip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "chip.toml")
    ...     save_chip(H1V1, file)
    ...     load_chip(file) == H1V1
    True
    """
    name = path_text(path, call="save_chip", what="the file to write")
    write_whole(name, chip_to_text(spec, call="save_chip", hints=True).encode(), call="save_chip")


def load_chip(path: str | os.PathLike[str]) -> ChipSpec:
    """Read a chip from a file that `save_chip` wrote and a user may have edited.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ChipSpec
        The chip, as an instance of the spec class of its family. Values are converted to the units of this class.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    ValueError
        If the file cannot be read, is not a regular file, or is incomplete, or if a field is missing, unknown or
        invalid. The message names the field.
    """
    name = path_text(path, call="load_chip", what="a chip file")
    call = f"load_chip: {name!r}"
    try:
        with open_regular(name) as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"it is larger than the limit of {_MAX_FILE_BYTES} bytes for a chip file")
        # Some editors start a text file with a byte order mark, which TOML does not allow.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{call}: the file is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (
        OSError,
        ValueError,
    ) as error:  # a ValueError means that the file is too large, or that the path has a null character
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(
            f"{call}: the file cannot be read: {reason or error}. Pass a file written by save_chip."
        ) from error
    return chip_from_text(text, call=call)


def chip_to_text(spec: ChipSpec, *, call: str = "chip_to_text", hints: bool = False) -> str:
    """Return a chip as TOML text. Raise if `chip_from_text` could not read this text.

    If ``hints`` is True, comments list the optional tables that a user can add. `save_chip` writes these comments.
    Bundles do not contain them, because users do not edit bundles.
    """
    if not isinstance(spec, ChipSpec):
        raise TypeError(f"{call}: spec must be a ChipSpec; got {describe(spec)}.")
    family = get_family(spec.family, call=call)
    if type(spec) is not family.spec_class:
        raise TypeError(
            f"{call}: specs of the family {family.name} must be {family.spec_class.__name__}, but {spec.name!r} is a "
            f"{type(spec).__name__}. Register a separate family for this class."
        )
    header = [f"# {line}".rstrip() for line in textwrap.dedent(_HEADER).splitlines()]
    top = {"format": f"{_KIND}/{_VERSION}", "name": spec.name, "family": spec.family}
    if family.package != "brainhw":  # tells a user which package to import if the family is not registered
        top["package"] = family.package
    lines = [*header, *(_hints_for_optional_fields(spec) if hints else ()), "", *_lines(top)]
    infos = info_of(spec)
    # Optional fields come first, so that a truncated file always lacks a required field. Optional fields without a
    # value are omitted, so that older versions of brainhw can read the file.
    optional_fields = [name for name in infos if has_default(spec, name)]
    for name in (
        *(name for name in optional_fields if not _is_unset(spec, name)),
        *(name for name in infos if name not in optional_fields),
    ):
        info = infos[name]
        note = {"note": spec.notes[name]} if name in spec.notes else {}
        # The provenance is required and comes last, so that a truncated table always lacks it and is rejected.
        entry = {**note, **_file_entry(info, getattr(spec, name)), "provenance": spec.provenance[name]}
        lines += ["", f"[{name}]  # {info.meaning}", *_lines(entry)]
    return "\n".join(lines) + "\n"


def chip_from_text(text: str, *, call: str = "chip_from_text") -> ChipSpec:
    """Read a chip from TOML text that `chip_to_text` wrote; every error in the text raises a ``ValueError``."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{call}: the text is not valid TOML, or is incomplete: {error}.") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # for example a number with thousands of digits, or deeply nested lists
        raise ValueError(f"{call}: the text is not a valid chip file: {error}.") from error
    return chip_from_data(data, call=call)


def chip_from_data(data: Mapping[str, Any], *, call: str = "chip_from_data") -> ChipSpec:
    """Read a chip from the tables of a chip file; every error in the tables raises a ``ValueError``."""
    _check_format(data, call)
    kind = _spec_class(data, call)
    infos = info_of(kind)
    optional_fields = [name for name in infos if has_default(kind, name)]
    wanted = ("format", "name", "family", *(name for name in infos if name not in optional_fields))
    _check_keys(data, wanted, call=call, what="the file", optional=("package", *optional_fields))
    values: dict[str, Any] = {"name": data["name"], "family": data["family"], "provenance": {}, "notes": {}}
    # Overflows raise an error instead of a warning, so that values near the largest float are rejected.
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for name, info in infos.items():
            if name not in data and name in optional_fields:
                continue
            values[name] = _read_field(name, info, data[name], call=call)
            values["provenance"][name] = data[name]["provenance"]
            if "note" in data[name]:
                values["notes"][name] = data[name]["note"]
        try:
            return kind(**values)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{call}: {error}") from error


def _is_unset(spec: ChipSpec, name: str) -> bool:
    return getattr(spec, name) is None and spec.provenance[name] == "assumed" and name not in spec.notes


def _hints_for_optional_fields(spec: ChipSpec) -> Iterator[str]:
    """Yield comments about the optional tables that a user may add to the file."""
    infos = info_of(spec)
    names = [name for name in infos if has_default(spec, name) and _is_unset(spec, name)]
    if names:
        yield "#\n# Optional tables that you can add below if you know their values:"
    for name in names:
        unit = infos[name].unit
        yield f"#\n# [{name}]  # {infos[name].meaning}"
        yield "# value = ..."
        yield from () if unit is None else (f'# unit = "{unit_name(unit)}"',)
        yield '# provenance = "measured"'


def _spec_class(data: Mapping[str, Any], call: str) -> type[ChipSpec]:
    """Return the spec class of the family in the file; the package named in the file is never imported."""
    name, package = data.get("family"), data.get("package")
    if package is not None:
        check_package(package, call=call)
    if not isinstance(name, str):
        # Any spec class will do here: the checks that follow report the missing or invalid family.
        return ChipSpec
    return get_family(name, call=call, package=package).spec_class


def _read_field(name: str, info: FieldInfo, entry: Any, *, call: str) -> Any:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{call}: the field {name} must be a table [{name}]; got {describe(entry)}.")
    try:
        return _read_value(name, info, entry)
    except (TypeError, ValueError, ArithmeticError) as error:
        text = str(error)
        raise ValueError(f"{call}: {text if text.startswith('[') else f'[{name}]: {text}'}") from error


def _check_format(data: Mapping[str, Any], call: str) -> None:
    wanted = f'format = "{_KIND}/{_VERSION}"'
    found = data.get("format")
    kind, _, version = found.partition("/") if isinstance(found, str) else ("", "", "")
    if kind != _KIND or not version.isdecimal():
        got = "no format line" if found is None else f"format = {describe(found)}"
        raise ValueError(f"{call}: this is not a supported chip file (expected the line {wanted}, got {got}).")
    # A file of a different version is rejected, because its values may have a different meaning.
    if int(version) != _VERSION:
        raise ValueError(
            f"{call}: the file has format version {version}, but this brainhw reads version {_VERSION}. "
            "Update brainhw, or save the chip again with this version."
        )


def _check_keys(
    data: Mapping[str, Any], wanted: tuple[str, ...], *, call: str, what: str, optional: Iterable[str]
) -> None:
    known = (*wanted, *optional)
    for key in data:
        if key not in known:
            raise ValueError(f"{call}: {what} has an unknown field {key!r}{closest(key, known)}; delete or rename it.")
    missing = [key for key in wanted if key not in data]
    if missing:
        raise ValueError(f"{call}: {what} lacks {', '.join(missing)}; check that the file is complete.")


def _read_value(name: str, info: FieldInfo, entry: Mapping[str, Any]) -> Any:
    call = f"[{name}]"
    if info.kind is ChargeCurve:
        _check_keys(entry, ("provenance",), call=call, what="the table", optional=entry)
        parameters = {key: value for key, value in entry.items() if key not in ("provenance", "note")}
        return ChargeCurve.from_dict(parameters, call=call)
    unit = u.ms if info.kind is TauProfiles else info.unit
    wanted = ("value", "provenance") if unit is None else ("value", "unit", "provenance")
    _check_keys(entry, wanted, call=call, what="the table", optional=("note",))
    value = entry["value"]
    if info.optional and value == _NONE:
        return None
    if unit is None:
        return value
    numbers = exact(value, None, call=call, name="value", shapes=None)
    quantity = u.Quantity(numbers, unit=unit_named(entry["unit"], unit, call=call, name="the value"))
    return TauProfiles(quantity) if info.kind is TauProfiles else quantity


def _file_entry(info: FieldInfo, value: Any) -> dict[str, Any]:
    if info.kind is ChargeCurve:
        return value.to_dict()
    if info.kind is TauProfiles:
        return {"value": value.values.mantissa.tolist(), "unit": unit_name(u.ms)}
    unit = {} if info.unit is None else {"unit": unit_name(info.unit)}
    return {"value": _NONE if value is None else value if info.unit is None else value.mantissa, **unit}


def _lines(entry: Mapping[str, Any]) -> list[str]:
    # JSON strings, numbers and lists are also valid TOML, unless they contain escapes of non-ASCII characters.
    # Therefore, non-ASCII characters are not escaped.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
