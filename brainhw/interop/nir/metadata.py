"""What brainhw notes beside a graph, and what it reads back; no reader needs it."""

from __future__ import annotations

import math
from typing import Any

from brainhw._version import __version__
from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.steps import DISCRETISATIONS

__all__ = ["SECTION", "graph_notes", "noted", "noted_choice", "noted_number"]

SECTION = "brainhw"


def graph_notes(*, dt_s: float, millivolts: float, how: str, reset: str, gain: str, chip: str | None) -> dict[str, Any]:
    """Return the notes of a whole graph; without ``None``, which a file cannot hold."""
    notes: dict[str, Any] = {
        "version": __version__,
        "dt_s": dt_s,
        "time_unit": "s",
        "millivolts_per_unit": millivolts,
        "discretisation": how,
        "reset": reset,
        "gain": gain,
        "spikes": "at the threshold or above; v_threshold is the number below it, since NIR fires above",
        "feedback": "one step later",
    }
    if chip is not None:
        notes["chip"] = chip
    return {SECTION: notes}


def noted(node: Any) -> dict[str, Any]:
    """Return our notes on a node or graph, empty if there are none."""
    metadata = getattr(node, "metadata", None)
    notes = metadata.get(SECTION) if isinstance(metadata, dict) else None
    return notes if isinstance(notes, dict) else {}


def noted_number(notes: dict[str, Any], name: str, problems: Problems, fix: str) -> float | None:
    """Return a positive number from the notes, ``None`` without one; anything else there is a problem."""
    if name not in notes:
        return None
    try:
        value = float(notes[name])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        problems.add("the metadata", "written by brainhw", f"says {name} = {notes[name]!r}, which cannot be; {fix}.")
        return None
    return value


def noted_choice(notes: dict[str, Any], problems: Problems) -> str | None:
    """Return the discretisation from the notes, ``None`` without one; anything else there is a problem."""
    how = notes.get("discretisation")
    if how is None or (isinstance(how, str) and how in DISCRETISATIONS):
        return how
    problems.add("the metadata", "written by brainhw", f"says discretisation = {how!r}; pass discretisation='exact'.")
    return None
