"""Chip specs named on the command line, by the name of a family or by a file."""

from __future__ import annotations

import os

from brainhw.chip import ChipSpec, get_chip, load_chip
from brainhw.silicon.measured_file import is_measured

__all__ = ["spec_from_file", "spec_from_name_or_file"]


def spec_from_name_or_file(text: str, *, call: str) -> ChipSpec:
    """Return the spec of a chip. ``text`` is a file if it contains a folder or ends in ``.toml`` or ``.chip``."""
    if os.path.dirname(text) or text.lower().endswith((".toml", ".chip")):
        return spec_from_file(text, call=call)
    return get_chip(text, call=call)


def spec_from_file(path: str, *, call: str) -> ChipSpec:
    """Read the spec of a chip. Raise a ValueError if the file contains a measured chip."""
    if is_measured(path):
        raise ValueError(
            f"{call}: --chip must be a file that ChipSpec.save wrote; got {path!r}, the file of a measured chip. Write "
            "the spec of this chip with MeasuredChip.load(path).spec.save('spec.toml') and pass that file."
        )
    return load_chip(path)
