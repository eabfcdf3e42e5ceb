"""Units of a step program as plain data and back."""

from __future__ import annotations

import math
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import unit_name

__all__ = ["plain_number", "plain_unit", "unit_of", "unit_text"]


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
    if not isinstance(data["name"], str) or len(data["exponents"]) != 7:
        raise ValueError("a unit must have a name and seven exponents")
    for number in (*data["exponents"], data["scale"]):
        plain_number(number, "exponents and scale of a unit")
    plain_number(data["factor"], "the factor of a unit", positive=True)
    named = getattr(u, data["name"], None)
    if isinstance(named, u.Unit) and plain_unit(named) == data:
        return named
    dimension = u.get_or_create_dimension([float(exponent) for exponent in data["exponents"]])
    return u.Unit(dim=dimension, scale=data["scale"], factor=data["factor"], name=data["name"])


def plain_number(data: Any, name: str, *, positive: bool = False) -> float:
    """Return a finite number that a description holds, or raise."""
    # A whole number may be too large for a float.
    sound = type(data) in (int, float) and abs(data) < math.inf and abs(data) <= 1e300
    if not sound or (positive and data <= 0):
        raise ValueError(f"{name} must be finite numbers{' above zero' if positive else ''}; got {data!r:.40}")
    return float(data)


def unit_text(unit: u.Unit | None) -> str:
    """Return the name of a unit, or the word for none."""
    return "dimensionless" if unit is None else unit_name(unit)
