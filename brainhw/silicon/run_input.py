"""Checks of the input of a run: its shape, and its range in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw import _arguments

__all__ = ["in_float32", "of_shape"]


def of_shape(x: Any, n_in: int, *, call: str, name: str) -> np.ndarray:
    """Return inputs as an array. Raise ``ValueError`` if they do not have the shape ``[T, B, n_in]``."""
    array = np.asarray(_arguments.as_array(x, call=call, name=name))
    if array.ndim != 3 or 0 in array.shape or array.shape[2] != n_in:
        raise ValueError(f"{call}: {name} must have shape [T, B, {n_in}]; got {array.shape}.")
    return array


def in_float32(array: np.ndarray, *, call: str, name: str) -> np.ndarray:
    """Return an array in float32. Raise ``ValueError`` if a value is not finite in float32."""
    # An overflow of the cast is reported below, with its index.
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = array.astype(np.float32, copy=False)
    if not np.isfinite(numbers).all():
        _arguments.check_finite(array, call=call, name=name)
        at = tuple(map(int, np.argwhere(~np.isfinite(numbers))[0]))
        raise ValueError(
            f"{call}: {name} must be finite in float32, with magnitudes up to {np.finfo(np.float32).max:.3g}; got "
            f"{array[at]:g} at index {at}. Scale the data."
        )
    return numbers
