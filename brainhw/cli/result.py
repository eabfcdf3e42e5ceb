"""Result of a command: text for people, and the same values as a JSON document for scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainhw._plain_json import text_of
from brainhw._version import __version__

__all__ = ["Result", "json_text", "plain"]


@dataclass(frozen=True)
class Result:
    """Output of a command.

    ``lines`` is the text. ``data`` contains the values; a key ends with the unit of its value (`brainhw.cli.schema`
    lists all keys). ``warnings`` are part of the text and of the JSON document. ``code`` is the exit code.
    """

    lines: tuple[str, ...]
    data: dict[str, Any]
    warnings: tuple[str, ...] = ()
    code: int = 0


def json_text(command: str, result: Result) -> str:
    """Return the JSON document of a result. NaN and infinity become null, because JSON cannot represent them."""
    head = {"command": command, "brainhw": __version__, "warnings": list(result.warnings)}
    return text_of(plain({**result.data, **head}))


def plain(value: Any) -> Any:
    """Convert a value to types that JSON supports. Arrays become lists, and NaN and infinity become ``None``."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be converted to JSON")  # a Quantity would lose its unit
