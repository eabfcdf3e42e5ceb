"""Measured values of the current chip. Sampling a chip does not change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np

__all__ = ["checked_masks", "keep_known"]


def keep_known(layer: Any, values: dict[str, u.Quantity]) -> dict[str, u.Quantity]:
    """Replace sampled values by the measured values of the current chip, for the neurons that were measured."""
    for name, mask in layer.known.items():
        held = getattr(layer, f"pinned_{name}").value.in_unit(values[name].unit)
        numbers = jnp.where(jnp.asarray(mask), held.mantissa, values[name].mantissa)
        values[name] = u.Quantity(numbers.astype(values[name].mantissa.dtype), unit=values[name].unit)
    return values


def checked_masks(layer: Any, masks: Mapping[str, Any], *, call: str) -> dict[str, np.ndarray]:
    """Check the masks of measured chip values of ``layer``, and return them as boolean arrays.

    The keys of ``masks`` are the names of the chip values. A mask is True for the neurons whose value was measured. A
    mask that is False for all neurons is omitted from the result.
    """
    nominal = layer.nominal()
    found = {}
    for name, mask in masks.items():
        if name not in nominal:
            raise ValueError(
                f"{call}: {name!r} is not a chip value of {type(layer).__name__} (its values: {', '.join(nominal)})."
            )
        held = np.array(mask, dtype=bool)
        if held.shape != nominal[name].shape:
            raise ValueError(
                f"{call}: the mask of {name} must have shape {nominal[name].shape}; got shape {held.shape}."
            )
        held.flags.writeable = False
        if held.any():
            found[name] = held
    return found
