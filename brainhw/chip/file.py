"""The chip file: a spec as text that a lab edits by hand."""

from __future__ import annotations

import json
import os
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe, unit_name
from brainhw._files import write_whole
from brainhw.chip._units import closest, exact, unit_named
from brainhw.chip.charge import ChargeCurve
from brainhw.chip.spec import UNITS, ChipSpec, sourced_fields
from brainhw.chip.tau import TauProfiles

__all__ = ["chip_from_text", "chip_to_text", "load_chip", "save_chip"]

_KIND, _VERSION = "brainhw-chip", 1
_NONE = "none"

_HEADER = """\
The description of one chip, read by brainhw.chip.load_chip. It is TOML: edit it with any text editor.

To put in a value of your own, change `value` (and `unit` where there is one: any unit of the same kind works, by
its brainunit name, such as "mV", "volt", "fcoulomb"), set `provenance` to "measured", and write in `note` what the
number rests on (one line; leave the line out for no note). The provenance is one of "documented" (published by the
vendor), "assumed" (chosen to agree with what is published) and "measured". A mismatch that the chip does not have
is the value "none".

Every table must stay, and nothing else may be added. The charge curve is one of
  kind = "linear"      with gain (charge per unit weight)
  kind = "saturating"  with gain and saturation: charge = gain * saturation * tanh(weight / saturation)
  kind = "tabulated"   with weights = [...] and charges = [...], two lists of the same length, weights increasing
each with the unit of its charges.
"""

_MEANINGS = {
    "weight_limit": "largest weight magnitude, dimensionless",
    "cores": "neurons of each core",
    "frontend_channels": "width of the frontend",
    "sign_block": "how many consecutive weights must share a sign",
    "sign_axis": '"pre": a block runs along presynaptic rows; "post": along postsynaptic columns',
    "reset": 'what a spike does to the membrane: "zero", or "subtract" the threshold and clamp at zero',
    "V_th": "threshold",
    "C": "membrane capacitance",
    "charge": "charge that one spike brings through a weight",
    "tau_profiles": "the membrane time constants on offer, increasing",
    "weight_bits": "bits of a stored weight",
    "synapse_mismatch_std": "spread of the effective weights, in weight units",
    "leak_mismatch_std": "relative log-normal spread of the leak currents",
    "threshold_mismatch_std": "relative normal spread of the thresholds",
    "core_power": "static power of one core in use",
    "spike_energy": "energy of one output spike",
    "event_energy": "energy of one synaptic event",
    "frontend_channel_power": "power of one frontend channel",
}


def save_chip(spec: ChipSpec, path: str | os.PathLike[str]) -> None:
    """Write a chip to a TOML file that explains itself; an existing file is replaced in one step.

    Parameters
    ----------
    spec : ChipSpec
        The chip.
    path : path
        The file; its folder must exist. If writing fails, what stood there before is still whole.

    Raises
    ------
    TypeError
        If ``spec`` is no ChipSpec.
    ValueError
        If the file cannot be written.

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
    write_whole(path, chip_to_text(spec, call="save_chip").encode(), call="save_chip")


def load_chip(path: str | os.PathLike[str]) -> ChipSpec:
    """Read a chip from a file that `save_chip` wrote and perhaps a lab edited.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ChipSpec
        The chip; its values are in the fixed units of `ChipSpec`, whatever units the file uses.

    Raises
    ------
    ValueError
        If the file is missing, cut short, no TOML, of an unknown format, or a field in it is missing, unknown or
        bad; the message names the file and the field.
    """
    call = f"load_chip: {str(path)!r}"
    try:
        # Some editors open a text file with a byte order mark, which is no TOML.
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{call}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{call}: is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    return chip_from_text(text, call=call)


def chip_to_text(spec: ChipSpec, *, call: str = "chip_to_text") -> str:
    """Return a chip as the TOML text that `save_chip` writes.

    Parameters
    ----------
    spec : ChipSpec
        The chip.
    call : str, optional
        Who asks, for the error message.

    Raises
    ------
    TypeError
        If ``spec`` is no ChipSpec.

    Examples
    --------
    >>> from brainhw.chip import H1V2
    >>> from brainhw.chip.file import chip_to_text
    >>> [line for line in chip_to_text(H1V2).splitlines() if line.startswith("family")]
    ['family = "H1v2"']
    """
    if not isinstance(spec, ChipSpec):
        raise TypeError(f"{call}: spec must be a ChipSpec; got {describe(spec)}.")
    return _write(spec)


def chip_from_text(text: str, *, call: str = "chip_from_text") -> ChipSpec:
    """Read a chip from TOML text as `chip_to_text` gives it, trusting nothing in it.

    Parameters
    ----------
    text : str
        The text.
    call : str, optional
        What the errors begin with: who asks, and where the text is from.

    Raises
    ------
    ValueError
        As `load_chip`.

    Examples
    --------
    >>> from brainhw.chip import H1V2
    >>> from brainhw.chip.file import chip_from_text, chip_to_text
    >>> chip_from_text(chip_to_text(H1V2)) == H1V2
    True
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{call}: is not valid TOML, or was cut short: {error}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists in lists
        raise ValueError(f"{call}: is no TOML that a chip is written in: {error}.") from error
    _check_format(data, call)
    _check_keys(data, ("format", "name", "family", *sourced_fields()), call=call, what="the file", optional=())
    values: dict[str, Any] = {"name": data["name"], "family": data["family"], "provenance": {}, "notes": {}}
    # Numbers near the end of what a float holds must not warn on their way to an infinity.
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for name in sourced_fields():
            values[name] = _read_field(name, data[name], call=call)
            values["provenance"][name] = data[name]["provenance"]
            if "note" in data[name]:
                values["notes"][name] = data[name]["note"]
        try:
            return ChipSpec(**values)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{call}: {error}") from error


def _read_field(name: str, entry: Any, *, call: str) -> Any:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{call}: {name} must be a table [{name}]; got {describe(entry)}.")
    try:
        return _read_value(name, entry)
    except (TypeError, ValueError, ArithmeticError) as error:
        text = str(error)
        raise ValueError(f"{call}: {text if text.startswith('[') else f'[{name}]: {text}'}") from error


def _check_format(data: Mapping[str, Any], call: str) -> None:
    wanted = f'format = "{_KIND}/{_VERSION}"'
    found = data.get("format")
    kind, _, version = found.partition("/") if isinstance(found, str) else ("", "", "")
    if kind != _KIND or not version.isdecimal():
        got = "no format line" if found is None else f"format = {describe(found)}"
        raise ValueError(f"{call}: is no chip file that this brainhw reads: expected the line {wanted}; got {got}.")
    if int(version) != _VERSION:
        raise ValueError(
            f"{call}: has format version {version}, this brainhw reads version {_VERSION}; "
            "update brainhw, or save the chip anew with this one."
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
        raise ValueError(f"{call}: {what} lacks {', '.join(missing)}; was it cut short?")


def _read_value(name: str, entry: Mapping[str, Any]) -> Any:
    call = f"[{name}]"
    if name == "charge":
        _check_keys(entry, ("provenance",), call=call, what="the table", optional=entry)
        parameters = {key: value for key, value in entry.items() if key not in ("provenance", "note")}
        return ChargeCurve.from_dict(parameters, call=call)
    unit = u.ms if name == "tau_profiles" else UNITS.get(name)
    wanted = ("value", "provenance") if unit is None else ("value", "unit", "provenance")
    _check_keys(entry, wanted, call=call, what="the table", optional=("note",))
    value = entry["value"]
    if unit is None:
        return None if name.endswith("_mismatch_std") and value == _NONE else value
    numbers = exact(value, None, call=call, name="value", shapes=None)
    quantity = u.Quantity(numbers, unit=unit_named(entry["unit"], unit, call=call, name="the value"))
    return TauProfiles(quantity) if name == "tau_profiles" else quantity


def _write(spec: ChipSpec) -> str:
    header = [f"# {line}".rstrip() for line in textwrap.dedent(_HEADER).splitlines()]
    top = {"format": f"{_KIND}/{_VERSION}", "name": spec.name, "family": spec.family}
    lines = [*header, "", *_lines(top)]
    for name in sourced_fields():
        note = {"note": spec.notes[name]} if name in spec.notes else {}
        # The provenance, which must be there, comes last: a file cut short anywhere lacks something and is refused.
        entry = {**note, **_plain(spec, name), "provenance": spec.provenance[name]}
        lines += ["", f"[{name}]  # {_MEANINGS[name]}", *_lines(entry)]
    return "\n".join(lines) + "\n"


def _plain(spec: ChipSpec, name: str) -> dict[str, Any]:
    value = getattr(spec, name)
    if name == "charge":
        return value.to_dict()
    if name == "tau_profiles":
        return {"value": value.values.mantissa.tolist(), "unit": unit_name(u.ms)}
    if name in UNITS:
        return {"value": value.mantissa, "unit": unit_name(UNITS[name])}
    return {"value": _NONE if value is None else value}


def _lines(entry: Mapping[str, Any]) -> list[str]:
    # JSON's strings, numbers and lists are TOML's too, once text beyond ASCII is left as it is.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
