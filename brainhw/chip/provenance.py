"""Provenance and notes of the fields of a chip description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from brainhw._arguments import choice, describe
from brainhw.chip._units import closest

__all__ = ["PROVENANCES", "check_line", "check_notes", "check_provenance"]

PROVENANCES = ("documented", "assumed", "measured")


def check_provenance(value: Any, names: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return a read-only provenance for exactly the fields ``names``, in their order, or raise."""
    given = _by_field(value, names, call=call, what="provenance")
    missing = [name for name in names if name not in given]
    if missing:
        words = ", ".join(repr(word) for word in PROVENANCES)
        raise ValueError(
            f"{call}: provenance must give one of {words} for every field; it is missing {', '.join(missing)}."
        )
    for name in names:
        choice(given[name], PROVENANCES, call=call, name=f"provenance of {name}")
    return MappingProxyType({name: given[name] for name in names})


def check_notes(value: Any, names: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return read-only notes on some of the fields ``names``, in their order, or raise."""
    given = _by_field(value, names, call=call, what="notes")
    for name, note in given.items():
        check_line(note, call=call, name=f"note on {name}")
    return MappingProxyType({name: given[name] for name in names if name in given})


def check_line(value: Any, *, call: str, name: str) -> None:
    """Raise unless ``value`` is one line of printable text."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{call}: {name} must be one line of printable text; got {describe(value)}.")


def _by_field(value: Any, names: Sequence[str], *, call: str, what: str) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{call}: {what} must be a mapping from field to text; got {describe(value)}.")
    for name in value:
        if name not in names:
            raise ValueError(
                f"{call}: {what} names {name!r}, which is not a field with one{closest(str(name), names)}; "
                f"those are {', '.join(names)}."
            )
    return value
