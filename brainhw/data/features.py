"""Checks of the features that are passed to encoders such as ``rate_spikes`` and ``hold``."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw._arguments import as_array, check_finite, whole_number
from brainhw.data.dataset import Split


def features(x: Any, call: str, *, frames: bool = False) -> np.ndarray:
    """Check features ``[..., C]``, and return them as float32. If ``frames`` is True, they must be ``[..., T, C]``."""
    if isinstance(x, Split):
        raise TypeError(
            f"{call}: x must be an array, not a Split. Pass split.x, then dataclasses.replace(split, x=...)."
        )
    array = np.asarray(as_array(x, call=call, name="x"))
    check_finite(array, call=call, name="x")
    if array.ndim == 0:
        raise ValueError(f"{call}: x must have a last axis of channels; got a scalar.")
    if frames and array.ndim < 2:
        raise ValueError(f"{call}: x must have shape [..., T, C]; got shape {array.shape}.")
    if frames and 0 in array.shape[-2:]:
        raise ValueError(f"{call}: x must contain at least one frame and one channel; got shape {array.shape}.")
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    # A float64 such as 1e300 is finite, but overflows in float32.
    check_finite(narrow, call=call, name="x")
    return narrow


def unit_features(x: Any, call: str, *, frames: bool = False) -> np.ndarray:
    """Check features as :func:`features` does, and return them as float32. Also raise if a value is not from 0 to 1."""
    array = features(x, call, frames=frames)
    if array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError(
            f"{call}: x must be between 0 and 1; got values from {array.min():g} to {array.max():g}. Make signed "
            "values nonnegative with brainhw.data.split_on_off, divide by the largest value of the training data, and "
            "limit larger values with numpy.clip(x, 0, 1)."
        )
    return array


def axis_of(axis: Any, ndim: int, *, call: str, of: str) -> int:
    """Return ``axis``. Raise if an array with ``ndim`` axes has no such axis."""
    found = whole_number(axis, call=call, name="axis", least=-ndim)
    if found >= ndim:
        raise ValueError(f"{call}: axis must be an axis of {of}, which has {ndim} axes; got {found}.")
    return found
