"""Data and labels from NumPy files, checked before use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from brainhw._arrays import ArrayFile, Header, ObjectsError
from brainhw._closest import closest
from brainhw._files import first_line, open_regular
from brainhw.data.labels import is_not_class_index
from brainhw.recipe.encoding import check_range, padding_warning

__all__ = ["known_lengths", "read_inputs", "read_labels", "read_lengths", "read_recordings"]


# Remedy in the error message for a missing array.
_SAVE = "Save the recordings and their classes together: np.savez('data.npz', x=x, y=y)."

# Names of the arrays that a file of recordings may contain.
_RECORDINGS = ("x", "y", "lengths")

# Remedy for the most likely mistake: raw recordings for a network that `train` wrote and that takes encoded recordings.
_RAW = "Raw recordings require the encoding that `train` wrote. Pass --encoding FILE."


def read_inputs(path: str, n_in: int, dtype: str, *, call: str) -> np.ndarray:
    """Return the inputs ``[samples, steps, channels]``: the array of a .npy file, or array ``x`` of an .npz file."""
    what = f"{call}: the data of {path!r}"

    def check(header: Header) -> None:
        shape, kind = header.shape, header.dtype
        if len(shape) != 3 or 0 in shape or kind.kind not in "biuf":
            raise ValueError(
                f"{what} must be a numeric array [samples, steps, channels], each at least 1; got {header}. {_RAW}"
            )
        if shape[-1] != n_in:
            raise ValueError(f"{what} must have {n_in} channels on the last axis; got shape {shape}. {_RAW}")

    x = _array(path, "x", what, check, required=True)
    # Overflows in the precision of the bundle are counted and reported below.
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(jnp.dtype(dtype))  # NumPy alone does not know bfloat16
    finite = np.isfinite(x)
    if not finite.all():
        raise ValueError(
            f"{what} contains {int(np.sum(~finite))} values that are NaN, infinite or too large for the "
            "precision of the network. Remove them."
        )
    return x


def read_labels(path: str, n_samples: int, n_classes: int, *, call: str, required: bool) -> np.ndarray | None:
    """Return the labels ``[samples]``: the array of a .npy file, or the array ``y`` of an .npz file.

    Return ``None`` if the file has no labels and ``required`` is False.
    """
    what = f"{call}: the labels of {path!r}"

    def check(header: Header) -> None:
        if header.shape != (n_samples,) or header.dtype.kind not in "iuf":
            fix = (
                " Names require the encoding that `train` wrote: --encoding FILE." if header.dtype.kind in "US" else ""
            )
            raise ValueError(f"{what} must be integers of shape ({n_samples},), one per sample; got {header}.{fix}")

    y = _array(path, "y", what, check, required=required)
    if y is None:
        return None
    y = _whole_labels(y, what)
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"{what} must be classes from 0 to {n_classes - 1}; got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def read_recordings(
    path: str, *, call: str, labels: Literal["required", "optional", "ignored"] = "required"
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the arrays ``x``, ``y`` (class names or integers) and ``lengths`` of an .npz file of recordings.

    ``y`` is ``None`` if ``labels`` is ``"ignored"``. It is also ``None`` if ``labels`` is ``"optional"`` and the file
    has no ``y``. ``lengths`` is ``None`` if the file has no ``lengths``.
    """
    what = f"{call}: the data of {path!r}"

    def check(header: Header) -> None:
        if len(header.shape) < 2 or 0 in header.shape or header.dtype.kind not in "biuf":
            raise ValueError(
                f"{what} must be a numeric array [recordings, steps, channels], or [recordings, features] if "
                f"they have no time steps; got {header}. {_recordings_fix(header)}"
            )

    x = _array(path, "x", what, check, required=True)

    of_labels = f"{call}: the labels of {path!r}"

    def check_labels(header: Header) -> None:
        if header.shape != (len(x),) or header.dtype.kind not in "iufbUS":
            raise ValueError(
                f"{of_labels} must be names or integers of shape ({len(x)},), one for each recording; got "
                f"{header}. {_labels_fix(header, len(x))}"
            )

    _warn_of_unused(path, call)
    y = None
    if labels != "ignored":
        y = _array(path, "y", of_labels, check_labels, required=labels == "required", alone=False)
        y = None if y is None else _whole_labels(y, of_labels)
    x = x.astype(np.float64)
    finite = np.isfinite(x)
    if not finite.all():
        first = int(np.argwhere(~finite)[0, 0])
        raise ValueError(
            f"{what} contains {int(np.sum(~finite))} NaN or infinite value(s), the first in recording {first} (counted "
            "from 0). Replace them, in padding by 0, or remove these recordings."
        )
    check_range(x, call=call, what=f"the data of {path!r}")
    return x, y, read_lengths(path, len(x), x.shape[1] if x.ndim > 2 else None, call=call)


def _warn_of_unused(path: str, call: str) -> None:
    """Warn if an .npz file contains arrays that no command reads, because a misspelt name would change the result."""
    with open_regular(path) as stream:
        names = ArrayFile(stream).names
    unused = [name for name in names if name not in (*_RECORDINGS, "")]
    if unused:
        near = closest(unused[0], [name for name in _RECORDINGS if name not in names])
        warnings.warn(
            f"{call}: the file {path!r} contains the array {unused[0]!r:.40}, which is not used{near}. Used are "
            f"{', '.join(_RECORDINGS)}.",
            stacklevel=3,
        )


def known_lengths(
    path: str, x: np.ndarray, lengths: np.ndarray | None, in_shape: tuple[int, ...], *, call: str
) -> np.ndarray | None:
    """Return the number of steps of each recording in a file.

    If ``lengths`` is ``None``, count all steps of each recording, and warn if the recordings seem to be padded. If the
    recordings have no time steps (shape ``in_shape``), return ``lengths`` unchanged.
    """
    if lengths is not None or x.shape[1:] == in_shape:
        return lengths
    if doubt := padding_warning(x):
        warnings.warn(f"{call}: in {path!r}, {doubt} Save the number of steps of each as `lengths`.", stacklevel=2)
    return np.full(len(x), x.shape[1])


def _recordings_fix(header: Header) -> str:
    """Return the part of an error message that explains how to correct an array that cannot be recordings."""
    if 0 in header.shape:
        return "The array is empty. Check the code that saved it."
    if header.dtype.kind in "US":
        return "Convert text to numbers: x.astype(float)."
    if header.dtype.kind not in "biuf":
        return "Convert the values to real numbers."
    return "Save one recording in each row."


def _labels_fix(header: Header, n: int) -> str:
    """Return the part of an error message that explains how to correct an array that cannot be ``n`` labels."""
    if header.shape == (n, 1):
        return "Save y.ravel()."
    if len(header.shape) == 2 and header.shape[0] == n and header.dtype.kind in "biuf":
        return "If the labels are one-hot, save y.argmax(axis=1)."
    if header.shape == (n,):
        return "Convert the labels to names: y.astype(str)."
    return "Save one label for each recording, in the same order."


def _whole_labels(y: np.ndarray, what: str) -> np.ndarray:
    """Return the labels ``y``. Convert floating-point labels to integers, and raise if one is not integer-valued."""
    if y.dtype.kind != "f":
        return y
    wrong = y[is_not_class_index(y)]
    if len(wrong):
        fix = (
            "Remove the recordings without a label."
            if np.isnan(wrong).any()
            else "A classifier requires classes. Convert continuous values with np.digitize(y, limits)."
        )
        raise ValueError(
            f"{what} must be names or integers; {len(wrong)} of {len(y)} are not. The first is {wrong[0]:g}. {fix}"
        )
    return y.astype(np.int64)


def read_lengths(path: str, n_samples: int, n_steps: int | None, *, call: str) -> np.ndarray | None:
    """Return the array ``lengths`` of an .npz file, the number of steps of each sample.

    Return ``None`` if the file has no such array. ``n_steps`` is ``None`` for features without time steps. Then only
    lengths of 1 are accepted.
    """
    what = f"{call}: the lengths of {path!r}"

    def check(header: Header) -> None:
        if header.shape != (n_samples,) or header.dtype.kind not in "iu":
            fix = "Save lengths.astype(int)." if header.shape == (n_samples,) else "Save one length for each recording."
            raise ValueError(f"{what} must be integers of shape ({n_samples},), one per sample; got {header}. {fix}")

    lengths = _array(path, "lengths", what, check, required=False)
    if lengths is None:
        return None
    if n_steps is None:
        if (lengths != 1).any():
            raise ValueError(
                f"{what} are {lengths.min()} to {lengths.max()} steps, but `x` of shape [recordings, features] has no "
                "time steps. Remove `lengths`, or save `x` as [recordings, steps, channels]."
            )
    elif lengths.min() < 1 or lengths.max() > n_steps:
        first = int(np.argmax((lengths < 1) | (lengths > n_steps)))
        raise ValueError(
            f"{what} must be between 1 and {n_steps} steps, the size of `x`; got {lengths[first]} for recording "
            f"{first} (counted from 0). Count the steps of each recording before the padding."
        )
    return lengths.astype(np.int64)


def _array(
    path: str, name: str, what: str, check: Callable[[Header], None], *, required: bool, alone: bool = True
) -> Any:
    """Return the array of a .npy file, or the array ``name`` of an .npz file.

    Before the array is read, ``check`` is called with its header (shape and dtype). Return ``None`` if the array is
    missing and ``required`` is False. With ``alone=False``, the array of a .npy file is not accepted.
    """
    if not os.path.exists(path):
        raise ValueError(f"{what} cannot be read: the file does not exist.")
    refused: ValueError | None = None
    try:
        with open_regular(path) as stream:
            held = ArrayFile(stream)
            if not held.is_archive:
                # A .npy file of inputs contains no labels or lengths.
                if not required:
                    return None
                name = "" if alone else name
            if name in held.names:
                # Check the header before reading: a small compressed file may contain an array that does not fit into
                # memory.
                header = held.header(name)
                try:
                    check(header)
                except ValueError as error:
                    refused = error
                else:
                    return held.read(name, largest=_memory())
    except MemoryError:
        raise ValueError(f"{what} does not fit into the memory of this computer, or is corrupted.") from None
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or error}.") from error
    except ObjectsError:
        raise ValueError(
            f"{what} cannot be read: the array contains Python objects, which can run code. Save names with "
            ".astype(str), and numbers with .astype(float). Pad recordings of different lengths first (see the README)."
        ) from None
    except Exception as error:  # NumPy, zipfile and zlib raise different exceptions for a corrupted file
        text = os.path.splitext(path)[1].lower() in (".csv", ".tsv", ".txt")
        fix = " Convert a text table first: np.savez('data.npz', x=..., y=...), see the README." if text else ""
        raise ValueError(
            f"{what} is not a .npy or .npz file of numeric arrays, or is corrupted ({first_line(error)}).{fix}"
        ) from error
    if refused is not None:
        raise refused
    if required:
        names = ", ".join(f"{found!r:.40}" for found in held.names[:10]) or "nothing"
        names = names if held.is_archive else "one array without a name"
        raise ValueError(f"{what} cannot be read: the file has no array {name!r}; it contains {names}. {_SAVE}")
    return None


def _memory() -> int:
    """Return the maximum size of data in bytes: half of the physical memory, because at least one copy is made."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # the system does not have these names
        return 2**33
