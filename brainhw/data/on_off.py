"""On and off channels: conversion of signed features to nonnegative ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw.data.features import features

__all__ = ["split_on_off"]


def split_on_off(x: Any) -> np.ndarray:
    """Split signed features into nonnegative ones: the positive parts, then the negative parts.

    ``out[..., :C] = max(x, 0)`` and ``out[..., C:] = max(-x, 0)``. Rate and latency encoders, such as those of
    braintools, accept only nonnegative values.

    Parameters
    ----------
    x
        Features ``[..., C]``.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., 2 * C]``.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers.
    ValueError
        If ``x`` is a scalar or contains non-finite values.

    Examples
    --------
    >>> from brainhw.data import split_on_off
    >>> split_on_off([[0.5, -2.0]]).tolist()
    [[0.5, 0.0, 0.0, 2.0]]
    """
    array = features(x, "split_on_off")
    if array.ndim == 0:
        raise ValueError("split_on_off: x must have a last axis of channels; got a scalar.")
    return np.concatenate([np.maximum(array, 0), np.maximum(-array, 0)], axis=-1)
