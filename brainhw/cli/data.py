"""Data and labels from NumPy files, checked before use."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from brainhw._arguments import describe

__all__ = ["read_inputs", "read_labels"]


def read_inputs(path: str, n_in: int, dtype: str, *, call: str) -> np.ndarray:
    """Return the inputs ``[samples, steps, channels]`` of a .npy file or the ``x`` of an .npz file.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not hold finite numbers of that shape.
    """
    what = f"{call}: the data of {path!r}"
    x = _array(path, "x", what, required=True)
    if x.ndim != 3 or 0 in x.shape or x.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} must be numbers of shape [samples, steps, channels], none of them 0; got {describe(x)}."
        )
    if x.shape[-1] != n_in:
        raise ValueError(f"{what} must have {n_in} channels, the last axis; got shape {x.shape}.")
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(_numpy_dtype(dtype))
    finite = np.isfinite(x.astype(np.float32) if x.dtype.itemsize < 4 else x)
    if not finite.all():
        raise ValueError(f"{what} holds {int(np.sum(~finite))} values that are NaN, infinite or too large; clean it.")
    return x


def read_labels(path: str, n_samples: int, n_classes: int, *, call: str, required: bool) -> np.ndarray | None:
    """Return the labels ``[samples]`` of a .npy file or the ``y`` of an .npz file; ``None`` if it has none.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not hold a class for each sample.
    """
    what = f"{call}: the labels of {path!r}"
    y = _array(path, "y", what, required=required)
    if y is None:
        return None
    if y.shape != (n_samples,) or y.dtype.kind not in "iu":
        raise ValueError(f"{what} must be whole numbers of shape ({n_samples},), one a sample; got {describe(y)}.")
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"{what} must be classes from 0 to {n_classes - 1}; got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def _array(path: str, name: str, what: str, *, required: bool) -> Any:
    """Return the array of a .npy file, or that of this name in an .npz file; nothing is unpickled."""
    if not os.path.isfile(path):
        raise ValueError(f"{what} cannot be read: the file does not exist.")
    try:
        with open(path, "rb") as stream:
            held = np.load(stream, allow_pickle=False)
            if isinstance(held, np.ndarray):
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


def _numpy_dtype(name: str) -> Any:
    import jax.numpy as jnp

    return jnp.dtype(name)  # NumPy alone does not know bfloat16
