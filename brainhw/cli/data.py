"""Data and labels from NumPy files, checked before use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from brainhw._arrays import ArrayFile, Header
from brainhw._files import first_line, open_regular
from brainhw.data.labels import not_whole

__all__ = ["read_inputs", "read_labels", "read_lengths", "read_recordings"]


# Most likely mistake with a network that `train` made: it takes encoded recordings.
_RAW = "Raw recordings need the encoding that `train` wrote. Pass --encoding FILE."


def read_inputs(path: str, n_in: int, dtype: str, *, call: str) -> np.ndarray:
    """Return the inputs ``[samples, steps, channels]`` of a .npy file or the ``x`` of an .npz file."""
    what = f"{call}: the data of {path!r}"

    def check(header: Header) -> None:
        shape, kind = header.shape, header.dtype
        if len(shape) != 3 or 0 in shape or kind.kind not in "biuf":
            raise ValueError(
                f"{what} must be numbers of shape [samples, steps, channels], each at least 1; got {header}. {_RAW}"
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
    """Return the labels ``[samples]`` of a .npy file or the ``y`` of an .npz file; ``None`` if it has none."""
    what = f"{call}: the labels of {path!r}"

    def check(header: Header) -> None:
        if header.shape != (n_samples,) or header.dtype.kind not in "iuf":
            fix = " Names need the encoding that `train` wrote: --encoding FILE." if header.dtype.kind in "US" else ""
            raise ValueError(
                f"{what} must be whole numbers of shape ({n_samples},), one per sample; got {header}.{fix}"
            )

    y = _array(path, "y", what, check, required=required)
    if y is None:
        return None
    y = _whole_labels(y, what)
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"{what} must be classes from 0 to {n_classes - 1}; got {y.min()} to {y.max()}.")
    return y.astype(np.int64)


def read_recordings(
    path: str, *, call: str, labelled: bool = True
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the arrays `x`, `y` (class names or whole numbers) and `lengths` of an .npz file of recordings."""
    what = f"{call}: the data of {path!r}"

    def check(header: Header) -> None:
        if len(header.shape) < 2 or 0 in header.shape or header.dtype.kind not in "biuf":
            raise ValueError(
                f"{what} must be numbers of shape [recordings, steps, channels], or [recordings, features] if "
                f"they have no time steps; got {header}."
            )

    x = _array(path, "x", what, check, required=True)

    of_labels = f"{call}: the labels of {path!r}"

    def check_labels(header: Header) -> None:
        if header.shape != (len(x),) or header.dtype.kind not in "iufbUS":
            raise ValueError(
                f"{of_labels} must be names or whole numbers of shape ({len(x)},), one for each recording; got "
                f"{header}."
            )

    y = _array(path, "y", of_labels, check_labels, required=labelled)
    y = None if y is None else _whole_labels(y, of_labels)
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError(
            f"{what} contains {int(np.sum(~np.isfinite(x)))} values that are NaN or infinite. Remove them."
        )
    return x, y, read_lengths(path, len(x), x.shape[1] if x.ndim > 2 else None, call=call)


def _whole_labels(y: np.ndarray, what: str) -> np.ndarray:
    """Return the labels. Convert floating-point labels to whole numbers; raise if one is not whole."""
    if y.dtype.kind != "f":
        return y
    wrong = y[not_whole(y)]
    if len(wrong):
        fix = (
            "Remove the recordings without a label."
            if np.isnan(wrong).any()
            else "A classifier needs classes; for ranges of a quantity, save np.digitize(y, limits)."
        )
        raise ValueError(
            f"{what} must be names or whole numbers; {len(wrong)} of {len(y)} are not. The first is {wrong[0]:g}. {fix}"
        )
    return y.astype(np.int64)


def read_lengths(path: str, n_samples: int, n_steps: int | None, *, call: str) -> np.ndarray | None:
    """Return the ``lengths`` of an .npz file, the number of steps of each sample; ``None`` if it has none.

    ``n_steps`` is ``None`` for features without time steps. Then only lengths of 1 are accepted.
    """
    what = f"{call}: the lengths of {path!r}"

    def check(header: Header) -> None:
        if header.shape != (n_samples,) or header.dtype.kind not in "iu":
            raise ValueError(f"{what} must be whole numbers of shape ({n_samples},), one per sample; got {header}.")

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
        raise ValueError(f"{what} must lie between 1 and {n_steps} steps; got {lengths.min()} to {lengths.max()}.")
    return lengths.astype(np.int64)


def _array(path: str, name: str, what: str, check: Callable[[Header], None], *, required: bool) -> Any:
    """Return the array of a .npy file, or the array ``name`` of an .npz file; call ``check`` with its header first."""
    if not os.path.exists(path):
        raise ValueError(f"{what} cannot be read: the file does not exist.")
    known: list[ValueError] = []

    def checked(header: Header) -> None:
        try:
            check(header)
        except ValueError as error:
            known.append(error)
            raise

    try:
        with open_regular(path) as stream:
            held = ArrayFile(stream)
            if not held.is_archive:
                # A .npy file of inputs contains no labels or lengths.
                if not required:
                    return None
                name = ""
            if name in held.names:
                # Check the header before reading: a small compressed file may contain an array that does not fit into
                # memory.
                checked(held.header(name))
                return held.read(name, largest=_memory())
    except MemoryError:
        raise ValueError(f"{what} does not fit into the memory of this computer, or is damaged.") from None
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # NumPy, zipfile and zlib raise different exceptions for a damaged file
        if known:
            raise known[0] from None
        text = os.path.splitext(path)[1].lower() in (".csv", ".tsv", ".txt")
        fix = " Convert a text table first: np.savez('data.npz', x=..., y=...), see the README." if text else ""
        raise ValueError(
            f"{what} is not a .npy or .npz file of plain numbers, or is damaged ({first_line(error)}).{fix}"
        ) from error
    if required:
        names = ", ".join(f"{found!r:.40}" for found in held.names[:10]) or "nothing"
        raise ValueError(f"{what} has no array {name!r}; it holds {names}.")
    return None


def _memory() -> int:
    """Return half of the memory of this machine in bytes, because the data are copied at least once."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # the system does not have these names
        return 2**33
