"""A chip as a table that people read."""

from __future__ import annotations

from typing import Any

import brainunit as u

from brainhw.chip.family import families
from brainhw.chip.fields import FieldInfo, info_of
from brainhw.chip.spec import ChipSpec, spec_method

__all__ = ["table"]


@spec_method
def table(spec: ChipSpec, *, notes: bool = False) -> str:
    """Return ``spec`` as aligned text; ``*`` marks what differs from the preset of the same family and name."""
    infos = info_of(spec)
    presets = [preset for family in families() if family.name == spec.family for preset in family.presets]
    preset = next((preset for preset in presets if preset.name == spec.name), None)
    rows = [(name, info.text(getattr(spec, name)), spec.provenance[name]) for name, info in infos.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{spec.name}: family {spec.family}, {spec.n_neurons} neurons in {len(spec.cores)} core(s)"]
    differs = False
    for name, value, source in rows:
        was = _difference(spec, preset, name, infos[name]) if preset is not None else ""
        differs = differs or bool(was)
        cells = (cell.ljust(width) for cell, width in zip((name, value, source), widths, strict=True))
        lines.append(f"{'*' if was else ' '} {'  '.join(cells)}  {was}".rstrip())
        if notes and name in spec.notes:
            lines.append(f"      {spec.notes[name]}")
    if differs:
        lines.append(f"* differs from the preset {spec.name}")
    return "\n".join(lines)


def _difference(spec: ChipSpec, preset: ChipSpec, name: str, info: FieldInfo) -> str:
    source = preset.provenance[name]
    if _exact(preset, name) != _exact(spec, name):
        return f"(preset: {info.text(getattr(preset, name))}, {source})"
    return f"(preset: {source})" if source != spec.provenance[name] else ""


def _exact(spec: ChipSpec, name: str) -> Any:
    value = getattr(spec, name)
    return value.mantissa if isinstance(value, u.Quantity) else value
