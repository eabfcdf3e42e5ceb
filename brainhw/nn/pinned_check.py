"""The check of values of a chip that were put in place by hand, such as measured ones."""

from __future__ import annotations

import weakref
from typing import Any

import brainunit as u
import jax
import numpy as np

from brainhw import _arguments

__all__ = ["check_pinned"]


# Arrays whose numbers were found sound, by identity and by what was asked of them: a net is prepared for every batch,
# and its chip stays.
_SOUND: dict[tuple[int, bool], Any] = {}


def check_pinned(value: Any, nominal: u.Quantity, *, owner: str, name: str, positive: bool) -> None:
    """Raise unless a value of the chip in place has shape, dimension and sign of the nominal one."""
    call, fix = f"{owner}.{name}", "To mend it, call brainhw.nominal_chip(net) or put another value there."
    if not isinstance(value, u.Quantity) or not u.have_same_dim(value, nominal):
        unit, got = _arguments.unit_name(nominal.unit), _arguments.describe(value)
        raise TypeError(f"{call}: must be a Quantity with the dimension of {unit}; got {got}. {fix}")
    numbers = value.mantissa
    if np.shape(numbers) != nominal.shape:
        raise ValueError(f"{call}: must have shape {nominal.shape}; got shape {np.shape(numbers)}. {fix}")
    # Inside a compiled function there are no numbers to look at.
    known = _SOUND.get(place := (id(numbers), positive))
    if isinstance(numbers, jax.core.Tracer) or (known is not None and known() is numbers):
        return
    held = np.asarray(numbers, float)
    bad = ~np.isfinite(held) | (positive & (held <= 0))
    if bad.any():
        wanted = "finite and above zero" if positive else "finite"
        raise ValueError(f"{call}: must be {wanted}; got {held[bad][0]:g} (one of {int(bad.sum())}). {fix}")
    if isinstance(numbers, jax.Array):  # an array of NumPy may be changed in place
        _SOUND[place] = weakref.ref(numbers, lambda _: _SOUND.pop(place, None))
