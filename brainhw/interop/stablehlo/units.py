"""Units of a step program as plain data and back."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import unit_name

__all__ = ["plain_unit", "unit_of", "unit_text"]


def plain_unit(unit: u.Unit | None) -> dict[str, Any] | None:
    """Return name, exponents of the seven base units, power of ten and factor; ``None`` for no unit."""
    if unit is None:
        return None
    exponents = [float(exponent) for exponent in np.asarray(unit.dim._dims)]
    return {"name": unit_name(unit), "exponents": exponents, "scale": unit.scale, "factor": unit.factor}


def unit_of(data: Any) -> u.Unit | None:
    """Return the unit that :func:`plain_unit` had described; brainunit's own of that name if it is the same."""
    if data is None:
        return None
    named = getattr(u, data["name"], None)
    if isinstance(named, u.Unit) and plain_unit(named) == data:
        return named
    dimension = u.get_or_create_dimension([float(exponent) for exponent in data["exponents"]])
    return u.Unit(dim=dimension, scale=data["scale"], factor=data["factor"], name=data["name"])


def unit_text(unit: u.Unit | None) -> str:
    """Return the name of a unit, or the word for none."""
    return "dimensionless" if unit is None else unit_name(unit)
