"""A chip as a table that people read."""

from __future__ import annotations

from typing import Any

from brainhw.chip.presets import H1V1, H1V2
from brainhw.chip.spec import UNITS, ChipSpec, sourced_fields

__all__ = ["table"]


def table(spec: ChipSpec, *, notes: bool = False) -> str:
    """Return ``spec`` as aligned text; what differs from the preset of the same name is marked with ``*``."""
    preset = next((chip for chip in (H1V1, H1V2) if chip.name == spec.name), None)
    rows = [(name, _text(spec, name), spec.provenance[name]) for name in sourced_fields()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{spec.name}: family {spec.family}, {spec.n_neurons} neurons in {len(spec.cores)} core(s)"]
    differs = False
    for name, value, source in rows:
        was = _difference(spec, preset, name) if preset is not None else ""
        differs = differs or bool(was)
        cells = (cell.ljust(width) for cell, width in zip((name, value, source), widths, strict=True))
        lines.append(f"{'*' if was else ' '} {'  '.join(cells)}  {was}".rstrip())
        if notes and name in spec.notes:
            lines.append(f"      {spec.notes[name]}")
    if differs:
        lines.append(f"* differs from the preset {spec.name}")
    return "\n".join(lines)


def _difference(spec: ChipSpec, preset: ChipSpec, name: str) -> str:
    value, source = _exact(preset, name), preset.provenance[name]
    if value != _exact(spec, name):
        return f"(preset: {_text(preset, name)}, {source})"
    return f"(preset: {source})" if source != spec.provenance[name] else ""


def _exact(spec: ChipSpec, name: str) -> Any:
    value = getattr(spec, name)
    return value.mantissa if name in UNITS else value


def _text(spec: ChipSpec, name: str) -> str:
    value = getattr(spec, name)
    if name in UNITS:
        return f"{value.mantissa:.10g} {UNITS[name]}"
    if name == "cores":
        return " + ".join(str(n) for n in value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return "none" if value is None else str(value)
