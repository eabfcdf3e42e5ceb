"""Read batches of data from any loader and detect padding in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from brainhw import _arguments

__all__ = ["Data", "padded_ends", "take_batches", "take_data"]

_PADDED = 0.1  # ignore padding if it makes up less than this fraction of all steps
_LONGER = 2  # padding must last longer than this factor times the longest other pause of the recording
_LEAST_PAUSE = 5  # in steps; a shorter pause is not evidence of padding
_LEAST_ACTIVE = 5  # in steps; a recording with fewer active steps can have a long pause by chance
# If the correlation of neighbouring recordings exceeds that of neighbouring steps by this amount, the first two axes
# are probably swapped.
_CORRELATION_MARGIN = 0.3


class Data(NamedTuple):
    """Recordings, and a mask that is False for padded steps."""

    x: np.ndarray  # ``[B, T, ...]``, float32
    valid: np.ndarray | None  # ``[T, B]``, False for padding; ``None`` if all steps count


def take_batches(dataloader: Iterable[Any], n_batches: Any, *, n_in: int | None, call: str) -> np.ndarray:
    """Return the first ``n_batches`` batches, or all if there are fewer, as one float32 array ``[B, T, ...]``.

    If ``n_in`` is not ``None``, each step must have this number of channels. If it is ``None``, a step may have any
    shape, such as an image ``[H, W, C]``.
    """
    return _read_batches(dataloader, n_batches, n_in, call)[0]


def take_data(dataloader: Iterable[Any], n_batches: Any, lengths: Any, *, call: str) -> Data:
    """Return the first batches as :func:`take_batches` does, with a mask that is False for padded steps.

    Only the first ``lengths`` steps of each recording are data; later steps are padding. Without ``lengths``, batches
    of type ``Split`` provide the lengths if any of their recordings is padded. Otherwise padding is detected and
    ignored, with a warning.
    """
    x, brought = _read_batches(dataloader, n_batches, None, call)
    steps = np.arange(x.shape[1])[:, None]
    if lengths is not None:
        of_each = _checked_lengths(lengths, x, call)
    elif brought is not None and np.any(brought < x.shape[1]):
        of_each = brought
    else:
        _check_axes(x, call)
        first, last = _without_padding(x, call)
        valid = (steps >= first) & (steps < last)
        return Data(x, None if valid.all() else valid)
    valid = steps < of_each
    return Data(x, None if valid.all() else valid)


def _read_batches(dataloader: Any, n_batches: Any, n_in: int | None, call: str) -> tuple[np.ndarray, np.ndarray | None]:
    wanted = _arguments.positive_int(n_batches, call=call, name="n_batches")
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: data and weights cannot be read inside jit. Call it outside of jit.")
    try:
        batches = iter(dataloader)
    except TypeError:
        fix = " Pass [split] for one Split." if hasattr(dataloader, "x") else ""
        raise TypeError(
            f"{call}: dataloader must be an iterable of batches [B, T, N]; got {_arguments.describe(dataloader)}.{fix}"
        ) from None
    taken, lengths = [], []
    for batch in batches:
        # Recognise a Split by its attributes, so that this package need not import brainhw.data.
        is_split = all(hasattr(batch, name) for name in ("x", "y", "lengths"))
        taken.append(_checked_batch(batch.x if is_split else batch, n_in, call))
        lengths.append(np.asarray(batch.lengths) if is_split else np.full(len(taken[-1]), taken[-1].shape[1]))
        if len(taken) == wanted:
            break
    if not taken:
        raise ValueError(f"{call}: the dataloader yielded no batch (expected at least one of shape [B, T, N]).")
    if len({array.shape[1:] for array in taken}) > 1:
        shapes = ", ".join(str(array.shape) for array in taken)
        raise ValueError(f"{call}: all batches must have the same T and N; got {shapes}. Use n_batches=1.")
    return np.concatenate(taken), np.concatenate(lengths)


def _checked_batch(batch: Any, n_in: int | None, call: str) -> np.ndarray:
    first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    array = np.asarray(_arguments.as_array(first, call=call, name="a batch"))
    if array.ndim < 3 or (n_in is not None and array.ndim > 3):
        raise ValueError(
            f"{call}: a batch must have shape [B, T, N]; got shape {array.shape}. For one array, pass [array]."
        )
    if 0 in array.shape:
        raise ValueError(f"{call}: a batch must contain at least one sample and one step; got shape {array.shape}.")
    if n_in is not None:
        _arguments.check_last_axis(array, n_in, call=call, name="a batch", ndims=(3,))
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and fail the check below
        array = array.astype(np.float32)
    _arguments.check_finite(array, call=call, name="a batch")
    return array


def _checked_lengths(lengths: Any, x: np.ndarray, call: str) -> np.ndarray:
    given = np.asarray(_arguments.as_array(lengths, call=call, name="lengths"))
    n, most = x.shape[:2]
    if given.dtype.kind not in "iu" or given.shape != (n,):
        raise ValueError(
            f"{call}: lengths must be integers, one for each of the {n} recordings in the batches used; "
            f"got {_arguments.describe(given)}."
        )
    if given.min() < 1 or given.max() > most:
        raise ValueError(
            f"{call}: lengths must be between 1 and {most}, the number of steps in the batches; got {given.min()} to "
            f"{given.max()}."
        )
    return given


def _without_padding(x: np.ndarray, call: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two indices for each recording: its first unpadded step, and the step after its last unpadded step.

    Warn if any step is treated as padding.
    """
    n, length = x.shape[:2]
    flat = x.reshape(n, length, -1)
    first, last = np.zeros(n, int), np.full(n, length)
    at_the_end, at_the_start = padded_ends(flat), padded_ends(flat[:, ::-1])
    last -= at_the_end
    first += np.where(at_the_start < last, at_the_start, 0)
    for padded, where in ((at_the_end, "end"), (at_the_start, "start")):
        if padded.any():
            warnings.warn(
                f"{call}: {padded.sum() / (n * length):.0%} of the steps are treated as padding and ignored, because "
                f"{np.sum(padded > 0)} of {n} recordings {where} with up to {padded.max()} steps of the same value. "
                f"Pass lengths=, the true number of steps of each recording. To keep all steps, pass {length} for "
                "each recording.",
                UserWarning,
                stacklevel=4,
            )
    return first, last


def padded_ends(flat: np.ndarray) -> np.ndarray:
    """Return the number of padded steps at the end of each recording, ``[B]``, for recordings ``[B, T, n]``.

    If only a small fraction of all steps is padded, return zeros.
    """
    n, length = flat.shape[:2]
    none = np.zeros(n, int)
    # All recordings are padded with the same value: zero, or the value that zero has after scaling.
    same_as_last = (flat[:, -1:] == flat).all(axis=2)
    pad = flat[int(np.argmax(_trailing_run(same_as_last))), -1]
    quiet = same_as_last & (flat[:, -1:] == pad).all(axis=2)
    tail = _trailing_run(quiet)
    tail[tail == length] = 0  # a recording that is constant throughout is empty, not padded
    pause = np.array([_longest_run(row[: length - end]) for row, end in zip(quiet, tail, strict=True)])
    few = np.sum(~quiet, axis=1) < _LEAST_ACTIVE
    tail[(tail <= _LONGER * pause) | (tail < _LEAST_PAUSE) | few] = 0
    if np.any(pad) and np.unique(tail[tail > 0]).size < 2:
        return none  # nonzero ends of equal length are a constant stimulus, not padding
    return tail if tail.sum() > _PADDED * n * length else none


def _trailing_run(quiet: np.ndarray) -> np.ndarray:
    """Return the number of True steps at the end of each row of ``quiet`` ``[B, T]``, as ``[B]``."""
    active = ~quiet[:, ::-1]
    return np.where(active.any(axis=1), active.argmax(axis=1), quiet.shape[1])


def _longest_run(quiet: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _check_axes(x: np.ndarray, call: str) -> None:
    """Check whether the batch axis and the time axis of the data look swapped.

    Raise if padding is found along the first axis. Warn if the data are smooth along the first axis and not along the
    second.
    """
    n, length = x.shape[:2]
    if min(n, length) < 3:
        return
    steps_first = x.reshape(n, length, -1).swapaxes(0, 1)
    padded = padded_ends(steps_first)
    # If all padded ends along the first axis have equal length, they may be a few empty recordings.
    if np.unique(padded).size > 2 and not padded_ends(x.reshape(n, length, -1)).any():
        raise ValueError(
            f"{call}: a batch must have shape [B, T, ...]; got shape {x.shape}, but the first axis looks like the time "
            f"axis: along it, {np.sum(padded > 0)} of {length} sequences end with up to {padded.max()} equal values, "
            "like padded recordings. Swap the first two axes with x.swapaxes(0, 1). If their order is right, pass "
            "lengths=."
        )
    off = (x - x.mean(axis=(0, 1), dtype=np.float64)).reshape(n, length, -1)
    power = float(np.mean(off**2))
    if not power:
        return
    of_steps, of_recordings = (
        float(np.mean(a * b)) / power for a, b in ((off[:, 1:], off[:, :-1]), (off[1:], off[:-1]))
    )
    if of_recordings > of_steps + _CORRELATION_MARGIN and of_steps < _CORRELATION_MARGIN:
        warnings.warn(
            f"{call}: neighbouring recordings are similar (correlation {of_recordings:.2f}) and neighbouring steps are "
            f"not ({of_steps:.2f}), so a batch of shape {x.shape} looks like [T, B, ...] (expected [B, T, ...]). "
            "Swap the first two axes with x.swapaxes(0, 1).",
            UserWarning,
            stacklevel=4,
        )
