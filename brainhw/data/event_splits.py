"""Convert recordings of events, or frames of other libraries, to splits of a data set."""

from __future__ import annotations

from typing import Any, Literal, get_args

import brainunit as u
import numpy as np

from brainhw._arguments import LONGEST_AXIS, as_array, choice, positive_int, several
from brainhw.data.dataset import Split
from brainhw.data.event_frames import (
    Outside,
    Polarity,
    count_events,
    frame_rule,
    steps_of,
    times_since_start,
    zero_frames,
)
from brainhw.data.events import Events, checked_events, events_from_array

__all__ = ["split_from_events", "split_from_frames"]

# Channels come last in a split.
SplitLayout = Literal["flat", "HWP"]
_LAYOUTS: tuple[SplitLayout, ...] = get_args(SplitLayout)


def split_from_events(
    recordings: Any,
    y: Any,
    sensor_size: tuple[int, ...],
    dt: u.Quantity,
    n_steps: int | None = None,
    *,
    window: u.Quantity | None = None,
    start: u.Quantity | None = None,
    polarity: Polarity = "keep",
    binary: bool = False,
    layout: SplitLayout = "flat",
    pool: int = 1,
    off_sensor: Outside = "refuse",
    off_time: Outside = "refuse",
    groups: Any = None,
) -> Split:
    """Convert recordings of events to a split of frames, padded to the longest recording.

    Parameters
    ----------
    recordings
        One :class:`Events` or structured array (see :func:`events_from_array`) per recording. Times of arrays are in
        microseconds.
    y
        Class of each recording, as in :class:`Split`.
    sensor_size, dt, window, start, polarity, binary, pool, off_sensor, off_time
        As in :func:`events_to_frames`. The default ``start`` is the first event of each recording.
    n_steps
        Number of frames, the same for all recordings. Default: as many as the longest recording needs.
    layout
        Shape of ``x``: ``'flat'`` (default) ``[n, T, P * H * W]``, or ``'HWP'`` ``[n, T, H, W, P]``.
    groups
        As in :class:`Split`.

    Returns
    -------
    Split
        Its ``lengths`` are the number of steps of each recording up to its last event, at least 1.

    Raises
    ------
    TypeError, ValueError
        As for :func:`events_to_frames`. The message names the recording.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.data import Events, split_from_events
    >>> short = Events([0, 900] * u.us, [0, 1], [0, 1], [1, 0])
    >>> long = Events([50, 4000] * u.us, [1, 1], [0, 0], [1, 1])
    >>> split_from_events([short, long], [0, 1], (2, 2), dt=1 * u.ms)
    Split(2 recordings, x [2, 4, 8], lengths 1 to 4)
    """
    call = "split_from_events"
    given = several(recordings, call=call, name="recordings", of="Events or structured arrays")
    if not given:
        raise ValueError(f"{call}: recordings must contain at least one recording; got none.")
    made = [_recording(one, i, call) for i, one in enumerate(given)]
    without = [i for i, one in enumerate(made) if one.p is None]
    if without and len(without) < len(made):
        raise ValueError(
            f"{call}: recordings[{without[0]}] has no polarity p, but other recordings have one. Pass p for all "
            "recordings or for none."
        )
    rule = frame_rule(
        sensor_size, dt, window, polarity, binary, layout, pool, off_sensor, off_time,
        has_polarity=not without, call=call, layouts=_LAYOUTS,
    )  # fmt: skip
    if n_steps is not None:
        n_steps = positive_int(n_steps, call=call, name="n_steps", most=LONGEST_AXIS)
    at = [f"recordings[{i}]." for i in range(len(made))]
    events = [checked_events(*one, call=call, at=where) for one, where in zip(made, at, strict=True)]
    since = [times_since_start(one, start, call) for one in events]
    lengths = np.array([steps_of(rule, one, call) for one in since])
    longest = int(lengths.max()) if n_steps is None else n_steps
    x = zero_frames((len(events), longest, *rule.shape), call)
    for row, one, times, where in zip(x, events, since, at, strict=True):
        count_events(row, rule, one, times, call, where)
    return _split("recordings", x, y, np.minimum(lengths, longest), groups, call)


def _recording(one: Any, i: int, call: str) -> Events:
    if isinstance(one, Events):
        return one
    try:
        return events_from_array(one)
    except (TypeError, ValueError) as error:
        fault = str(error).removeprefix("events_from_array: array ")
        raise type(error)(f"{call}: recordings[{i}] {fault}") from None


def split_from_frames(
    frames: Any, y: Any, *, layout: SplitLayout = "flat", lengths: Any = None, groups: Any = None
) -> Split:
    """Convert frames of tonic or SpikingJelly to a split, with channels last and padded to the longest recording.

    Parameters
    ----------
    frames
        Array or tensor ``[B, T, P, H, W]``, as from ``tonic.collation.PadTensors``; or a list of frames
        ``[T_i, P, H, W]``, as from ``tonic.transforms.ToFrame``. The axis ``H`` is missing for sensors of one row.
    y
        Class of each recording, as in :class:`Split`.
    layout
        Shape of ``x``: ``'flat'`` (default) ``[B, T, P * H * W]``, or ``'HWP'`` ``[B, T, H, W, P]``.
    lengths
        Number of frames of each recording without padding. Default: all frames of the array or of each list entry.
    groups
        As in :class:`Split`.

    Returns
    -------
    Split
        The recordings.

    Raises
    ------
    TypeError, ValueError
        If the frames have a wrong number of axes, or come from different sensors.

    Examples
    --------
    >>> import numpy as np
    >>> from brainhw.data import split_from_frames
    >>> split_from_frames([np.ones((7, 2, 8, 8)), np.ones((9, 2, 8, 8))], [0, 1])
    Split(2 recordings, x [2, 9, 128], lengths 7 to 9)
    >>> split_from_frames(np.ones((3, 5, 2, 8, 8)), [0, 1, 2], layout="HWP")
    Split(3 recordings, x [3, 5, 8, 8, 2], lengths 5 to 5)
    """
    call = "split_from_frames"
    layout = choice(layout, _LAYOUTS, call=call, name="layout")
    if isinstance(frames, (list, tuple)):
        x, known = _padded(frames, call)
    else:
        x = np.asarray(as_array(frames, call=call, name="frames"))
        known = [x.shape[1]] * len(x) if x.ndim > 1 else []
    if x.ndim not in (4, 5) or 0 in x.shape:
        raise ValueError(
            f"{call}: frames must have shape [B, T, P, H, W], or [B, T, P, W] for a sensor with one row, or be a list "
            f"of arrays without the axis B; got shape {x.shape}."
        )
    x = x[:, :, :, None] if x.ndim == 4 else x
    x = np.moveaxis(x, 2, -1) if layout == "HWP" else x.reshape(*x.shape[:2], -1)
    return _split("frames", x, y, np.asarray(known, np.int64) if lengths is None else lengths, groups, call)


def _split(name: str, x: np.ndarray, y: Any, lengths: Any, groups: Any, call: str) -> Split:
    # Split raises an error for any y that is not a list or an array.
    if (isinstance(y, (list, tuple)) or getattr(y, "shape", None)) and len(y) != len(x):
        raise ValueError(
            f"{call}: {name} contains {len(x)} recordings, but y has {len(y)} labels. Pass one label per recording."
        )
    return Split(x, y, lengths, groups)


def _padded(frames: Any, call: str) -> tuple[np.ndarray, list[int]]:
    """Return recordings of different lengths as one zero-padded array, and their lengths."""
    arrays = [np.asarray(as_array(one, call=call, name=f"frames[{i}]")) for i, one in enumerate(frames)]
    if not arrays:
        raise ValueError(f"{call}: frames must contain at least one recording; got none.")
    for i, one in enumerate(arrays):
        if one.ndim not in (3, 4) or one.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"{call}: frames[{i}] must have shape [T, P, H, W] or [T, P, W], with the same P, H and W as "
                f"frames[0], {arrays[0].shape[1:]}; got shape {one.shape}."
            )
    x = zero_frames((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), call)
    for row, one in zip(x, arrays, strict=True):
        row[: len(one)] = one
    return x, [len(one) for one in arrays]
