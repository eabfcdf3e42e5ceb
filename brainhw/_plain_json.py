"""Write and read JSON. Equal data always result in the same text, and ambiguous text is rejected."""

from __future__ import annotations

import json
from typing import Any

from brainhw._arguments import describe

__all__ = ["parse_json", "text_of"]


def text_of(data: Any) -> str:
    """Return ``data`` as JSON text with sorted keys, in which each list of numbers is on one line.

    ``data`` may contain dicts, lists, strings and numbers.
    """
    return _text(data, "\n") + "\n"


def _text(value: Any, end: str) -> str:
    # Do not use json.dumps with an indent, because it puts each weight on a separate line. `end` is a line break
    # followed by the indentation.
    inner = end + " "
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(key)}: {_text(value[key], inner)}" for key in sorted(value)]
        return "{" + inner + ("," + inner).join(entries) + end + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list, str)) for item in value):
        return "[" + inner + ("," + inner).join(_text(item, inner) for item in value) + end + "]"
    return json.dumps(value, allow_nan=False)


def parse_json(text: str) -> Any:
    """Parse JSON text. Raise a `ValueError` if an object contains a key twice, or the text contains NaN or infinity."""
    return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant)


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # If a key occurs twice, some JSON readers use the first value and others the last, so the file is ambiguous.
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the field {describe(key)} occurs twice")
        table[key] = value
    return table


def _reject_constant(word: str) -> Any:
    raise ValueError(f"{word} is not allowed as a number in this file")
