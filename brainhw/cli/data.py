"""Data and labels from NumPy files, checked before use."""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from brainhw._arguments import describe

__all__ = ["read_inputs", "read_labels"]


def read_inputs(path: str, n_in: int, dtype: str, *, call: str) -> np.ndarray:
    """Return the inputs ``[samples, steps, channels]`` of a .npy file or the ``x`` of an .npz file."""
    what = f"{call}: the data of {path!r}"
    x = _array(path, "x", what, required=True)
    if x.ndim != 3 or 0 in x.shape or x.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} must be numbers of shape [samples, steps, channels], none of them 0; got {describe(x)}."
        )
    if x.shape[-1] != n_in:
        raise ValueError(f"{what} must have {n_in} channels, the last axis; got shape {x.shape}.")
    # An overflow in the precision of the bundle is reported below, with its count.
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(jnp.dtype(dtype))  # NumPy alone does not know bfloat16
    finite = np.isfinite(x)
    if not finite.all():
        raise ValueError(f"{what} holds {int(np.sum(~finite))} values that are NaN, infinite or too large; clean it.")
    return x


def read_labels(path: str, n_samples: int, n_classes: int, *, call: str, required: bool) -> np.ndarray | None:
    """Return the labels ``[samples]`` of a .npy file or the ``y`` of an .npz file; ``None`` if it has none."""
    what = f"{call}: the labels of {path!r}"
    y = _array(path, "y", what, required=required)
    if y is None:
        return None
    if y.shape != (n_samples,) or y.dtype.kind not in "iu":
        raise ValueError(f"{what} must be whole numbers of shape ({n_samples},), one per sample; got {describe(y)}.")
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"{what} must be classes from 0 to {n_classes - 1}; got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def _array(path: str, name: str, what: str, *, required: bool) -> Any:
    """Return the array of a .npy file, or the one of this name in an .npz file."""
    if not os.path.isfile(path):
        raise ValueError(f"{what} cannot be read: the file does not exist.")
    try:
        with open(path, "rb") as stream:
            # A pickle in a file from elsewhere could run any code.
            held = np.load(stream, allow_pickle=False)
            if isinstance(held, np.ndarray):
                # The .npy file of the inputs holds no labels besides.
                return held if required else None
            names = list(held)
            if name in names:
                return held[name]
    except MemoryError:
        raise ValueError(f"{what} is too large for the memory here, or damaged.") from None
    except Exception as error:  # NumPy, zipfile and zlib raise different exceptions for a damaged file
        raise ValueError(f"{what} is not a .npy or .npz file of plain numbers, or is damaged ({error}).") from error
    if required:
        raise ValueError(f"{what} has no array {name!r}; it holds {', '.join(map(repr, names)) or 'nothing'}.")
    return None
