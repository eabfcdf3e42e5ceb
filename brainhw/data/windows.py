"""Exact arithmetic of time steps against audio samples."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import quantity

__all__ = ["n_steps", "rational", "window_edges"]


def rational(value: Any, unit: u.Unit, *, call: str, name: str) -> Fraction:
    """Return a positive scalar Quantity as the exact fraction of ``unit`` that the caller meant.

    No float holds 0.1 or 1/3. A number is taken as the shortest decimal that prints as it, or as a simple ratio where
    one lies within rounding of it, so that 1 s over 0.1 ms is 10000 and never 9999.
    """
    if isinstance(value, u.Quantity):
        # Everything here is host arithmetic, so a number that lies on a device is fetched first.
        value = u.Quantity(np.asarray(value.mantissa), unit=value.unit)
    quantity(value, unit, call=call, name=name, shapes=[()], positive=True)
    mantissa = value.mantissa[()]
    exact = Fraction(str(mantissa)) * Fraction(str(value.unit.magnitude)) / Fraction(str(unit.magnitude))
    single = mantissa.dtype.kind == "f" and mantissa.dtype.itemsize <= 4
    largest, rounding = (200, Fraction(1, 2**22)) if single else (10**6, Fraction(1, 2**51))
    simple = exact.limit_denominator(largest)
    return simple if abs(simple - exact) <= rounding * exact else exact


def n_steps(duration: Fraction, dt: Fraction) -> int:
    """Return how many whole steps of ``dt`` fit into ``duration``."""
    return duration // dt


def window_edges(steps: int, samples_per_step: Fraction) -> np.ndarray:
    """Return the ``steps + 1`` sample indices at which the windows of ``steps`` consecutive steps begin and end.

    Sample n was taken at time n / rate and belongs to the step that holds this instant, so window k begins at the
    first sample not before k dt: ``ceil(k * dt * rate)``. Windows differ by one sample at most and share none.
    """
    numerator, denominator = samples_per_step.as_integer_ratio()
    return np.array([-(-k * numerator // denominator) for k in range(steps + 1)], dtype=np.int64)
