"""Conversion of events to frames of counts, and back."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import brainunit as u
import numpy as np

from brainhw._arguments import LONGEST_AXIS, as_array, choice, describe, flag, positive_int, quantity, several
from brainhw.data.events import Checked, Events, checked_events

__all__ = ["LAYOUTS", "FrameRule", "count_events", "events_to_frames", "frame_rule", "frames_to_events", "steps_of"]

Layout = Literal["PHW", "HWP", "flat"]
LAYOUTS: dict[Layout, str] = {"PHW": "[T, P, H, W]", "HWP": "[T, H, W, P]", "flat": "[T, P * H * W]"}
Polarity = Literal["keep", "merge", "on", "off"]
_POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
Outside = Literal["refuse", "drop"]
_OUTSIDE: tuple[Outside, ...] = get_args(Outside)
# Nanoseconds per microsecond. Times are compared in nanoseconds, because as floats in seconds, 3 us is not an integer
# multiple of 1 us.
_NS = 1000
# Counts in float32 are exact below this number.
_EXACT = 2**24


class FrameRule(NamedTuple):
    """Settings for the conversion of events to frames; times are in nanoseconds."""

    sensor: tuple[int, int, int]
    dt: float
    window: float
    polarity: str
    binary: bool
    layout: str
    pool: int
    off_sensor: str
    off_time: str

    @property
    def bins(self) -> tuple[int, int]:
        """Number of columns and number of rows of the frames, after pooling."""
        return self.sensor[0] // self.pool, max(self.sensor[1] // self.pool, 1)

    @property
    def channels(self) -> int:
        """Number of polarities of the frames."""
        return self.sensor[2] if self.polarity == "keep" else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        W, H = self.bins
        P = self.channels
        return {"PHW": (P, H, W), "HWP": (H, W, P), "flat": (P * H * W,)}[self.layout]


def events_to_frames(
    t: u.Quantity,
    x: Any,
    y: Any,
    p: Any,
    sensor_size: tuple[int, ...],
    dt: u.Quantity,
    n_steps: int | None = None,
    *,
    window: u.Quantity | None = None,
    start: u.Quantity | None = None,
    polarity: Polarity = "keep",
    binary: bool = False,
    layout: Layout = "PHW",
    pool: int = 1,
    off_sensor: Outside = "refuse",
    off_time: Outside = "refuse",
) -> np.ndarray:
    """Count the events of each pixel in each step.

    Frame ``k`` counts the events with ``start + k * dt <= t < start + k * dt + window``, as tonic's
    ``ToFrame(time_window=...)`` does (its ``overlap`` is ``window - dt``). Times are compared in nanoseconds. The
    events may be in any order.

    Parameters
    ----------
    t
        Times, a Quantity ``[n]``. Pass ``events["t"] * u.us`` for times from tonic and from camera files, which are
        plain microseconds.
    x, y, p
        Column, row and polarity, ``[n]``, as in :class:`Events`; ``y`` and ``p`` may be ``None``.
    sensor_size
        Columns, rows and polarities, ``(W, H)`` or ``(W, H, P)``, as in tonic. Default of ``P``: 2, or 1 if ``p`` is
        None.
    dt
        Time between frames, equal to the step of the network.
    n_steps
        Number of frames ``T``. Default: the number of frames up to the last event, or 1 for a recording without events.
    window
        Duration of the window in which a frame counts events. Default ``dt``. With a longer window, an event is counted
        in several frames. With a shorter window, some events are not counted.
    start
        Start of the first frame. Default: the time of the first event, as in tonic.
    polarity
        ``'keep'`` (default) has one channel per polarity, ``'merge'`` one channel for all polarities. ``'on'`` and
        ``'off'`` count only the events of this polarity.
    binary
        If True, the value of a pixel is 1 if it has at least one event, otherwise 0. If False (default), the value is
        the number of events.
    layout
        Shape of the result: ``'PHW'`` (default) ``[T, P, H, W]``, ``'HWP'`` ``[T, H, W, P]`` with channels last for
        convolutions, or ``'flat'`` ``[T, P * H * W]`` for dense synapses.
    pool
        Combine squares of ``pool`` by ``pool`` pixels. ``W`` and ``H`` must be multiples of ``pool``. Default 1. With
        ``H == 1`` only columns are pooled.
    off_sensor, off_time
        What to do with events outside of the sensor (``off_sensor``), and with events before the first or after the
        last frame (``off_time``). ``'refuse'`` (default) raises an error, ``'drop'`` ignores these events.

    Returns
    -------
    numpy.ndarray
        float32 frames in the given layout.

    Raises
    ------
    TypeError, ValueError
        If the arrays have different lengths, the times are not a Quantity, an event is outside of the sensor or of the
        frames and is not dropped, a polarity is ``P`` or more, or the frames do not fit into memory.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.data import events_to_frames
    >>> t, x, y, p = [0, 400, 1000] * u.us, [0, 0, 1], [0, 0, 0], [1, 1, 0]
    >>> events_to_frames(t, x, y, p, (2, 1), dt=1 * u.ms).tolist()
    [[[[0.0, 0.0]], [[2.0, 0.0]]], [[[0.0, 1.0]], [[0.0, 0.0]]]]
    >>> events_to_frames(t, x, y, p, (2, 1), 1 * u.ms, 4, polarity="merge", binary=True, layout="flat").tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    call = "events_to_frames"
    rule = frame_rule(
        sensor_size, dt, window, polarity, binary, layout, pool, off_sensor, off_time,
        has_polarity=p is not None, call=call,
    )  # fmt: skip
    if n_steps is not None:
        n_steps = positive_int(n_steps, call=call, name="n_steps", most=LONGEST_AXIS)
    events = checked_events(t, x, y, p, call=call)
    since = times_since_start(events, start, call)
    if n_steps is None:
        n_steps = steps_of(rule, since, call)
    frames = zero_frames((n_steps, *rule.shape), call)
    count_events(frames, rule, events, since, call)
    return frames


def frame_rule(
    sensor_size: Any,
    dt: Any,
    window: Any,
    polarity: Any,
    binary: Any,
    layout: Any,
    pool: Any,
    off_sensor: Any,
    off_time: Any,
    *,
    has_polarity: bool,
    call: str,
    layouts: tuple[str, ...] = tuple(LAYOUTS),
) -> FrameRule:
    """Check the arguments that control the conversion of events to frames, and return them as a ``FrameRule``."""
    sensor = checked_sensor(sensor_size, 2 if has_polarity else 1, call)
    step = _nanoseconds(quantity(dt, u.us, call=call, name="dt", shapes=[()], positive=True).mantissa)
    length = step
    if window is not None:
        length = _nanoseconds(quantity(window, u.us, call=call, name="window", shapes=[()], positive=True).mantissa)
    for name, value in (("dt", step), ("window", length)):
        if value < 1:
            raise ValueError(f"{call}: {name} must be at least 1 ns; got {value / _NS:g} us.")
    polarity = choice(polarity, _POLARITIES, call=call, name="polarity")
    if polarity in ("on", "off") and (sensor[2] != 2 or not has_polarity):
        raise ValueError(
            f"{call}: polarity {polarity!r} requires events with two polarities, but sensor_size and p specify "
            f"{sensor[2] if has_polarity else 'none'}. Use polarity='keep'."
        )
    pool = positive_int(pool, call=call, name="pool")
    W, H, _ = sensor
    if W % pool or (H > 1 and H % pool):
        raise ValueError(f"{call}: pool must divide the {W} columns and {H} rows of sensor_size; got {pool}.")
    return FrameRule(
        sensor,
        step,
        length,
        polarity,
        flag(binary, call=call, name="binary"),
        choice(layout, layouts, call=call, name="layout"),
        pool,
        choice(off_sensor, _OUTSIDE, call=call, name="off_sensor"),
        choice(off_time, _OUTSIDE, call=call, name="off_time"),
    )


def checked_sensor(value: Any, polarities: int, call: str) -> tuple[int, int, int]:
    """Return the numbers of columns, rows and polarities of a sensor. Raise if ``sensor_size`` is invalid."""
    given = several(value, call=call, name="sensor_size", of="columns, rows and perhaps polarities, (W, H, P)")
    if len(given) not in (2, 3):
        raise ValueError(
            f"{call}: sensor_size must be (W, H) or (W, H, P), columns, rows and polarities; got {describe(value)}."
        )
    sizes = [positive_int(one, call=call, name="sensor_size", most=LONGEST_AXIS) for one in given]
    return (sizes[0], sizes[1], sizes[2] if len(sizes) == 3 else polarities)


def times_since_start(events: Checked, start: Any, call: str) -> np.ndarray:
    """Return the times since the start of the first frame in nanoseconds, as integer-valued float64."""
    first = float(events.t.min()) if len(events.t) else 0.0
    if start is not None:
        first = float(quantity(start, u.us, call=call, name="start", shapes=[()]).mantissa)
    # Subtract before the conversion to nanoseconds, because microseconds since 1970 are exact in float64, but
    # nanoseconds are not.
    return np.rint((events.t - first) * _NS)


def _nanoseconds(microseconds: Any) -> float:
    length = float(microseconds) * _NS
    near = round(length)
    # In some versions of brainunit, 0.1 ms is 100.00000000000001 us.
    return float(near) if abs(length - near) <= 1e-9 * length else length


def _step_index(since: np.ndarray, dt: float) -> np.ndarray:
    """Return for each time the index of the step that contains it."""
    steps = since / dt
    near = np.rint(steps)
    # A time at a boundary belongs to the step that begins there, even if dt has a rounding error.
    return np.where(np.abs(near * dt - since) < 1e-3, near, np.floor(steps)).astype(np.int64)


def steps_of(rule: FrameRule, since: np.ndarray, call: str) -> int:
    """Return the number of steps up to the last event of a recording, at least 1."""
    latest = since.max(initial=0.0) / rule.dt
    if latest >= LONGEST_AXIS:
        raise ValueError(
            f"{call}: t extends over {latest:.3g} steps of dt (at most {LONGEST_AXIS}). Pass start and n_steps, or a "
            "longer dt. Check the units of t and dt."
        )
    return int(_step_index(np.asarray(since.max(initial=0.0)), rule.dt)) + 1


def zero_frames(shape: tuple[int, ...], call: str) -> np.ndarray:
    """Return an array of zeros. Raise if it does not fit into memory."""
    try:
        return np.zeros(shape, np.float32)
    except (MemoryError, ValueError):
        raise ValueError(
            f"{call}: frames of shape {shape} need {4 * math.prod(shape) / 2**30:.3g} GiB, more than the available "
            "memory. Use a longer dt, fewer n_steps or a larger pool."
        ) from None


def count_events(
    frames: np.ndarray, rule: FrameRule, events: Checked, since: np.ndarray, call: str, at: str = ""
) -> None:
    """Add the event counts to ``frames [T, ...]``, in place. All values of ``frames`` must be zero before the call.

    If an event is invalid, raise an error and do not change the frames.
    """
    n_steps, (W, H), P = len(frames), rule.bins, rule.channels
    channel, wanted = _channels(rule, events.p, len(events.x), call, at)
    inside = (events.x >= 0) & (events.x < rule.sensor[0]) & (events.y >= 0) & (events.y < rule.sensor[1])
    if not inside.all():
        _refuse_off_sensor(rule, events, inside, call, at)
    last = _step_index(since, rule.dt)
    first = last if rule.window == rule.dt else _step_index(since - rule.window, rule.dt) + 1
    on_time = (since >= 0) & (first < n_steps)
    if rule.off_time == "refuse" and not on_time.all():
        early, late = int(np.sum(since < 0)), int(np.sum(first >= n_steps))
        raise ValueError(
            f"{call}: of {len(since)} events in {at}t, {early} lie before the first and {late} after the last of "
            f"{n_steps} steps (t - start is {since.min() / _NS:g} to {since.max() / _NS:g} us, the steps end at "
            f"{((n_steps - 1) * rule.dt + rule.window) / _NS:g} us). Pass a different start or n_steps, or drop these "
            "events with off_time='drop'."
        )
    good = inside & on_time & wanted
    x, y = events.x // rule.pool, events.y // rule.pool
    place = (y * W + x) * P + channel if rule.layout == "HWP" else (channel * H + y) * W + x
    flat, size = frames.reshape(-1), P * H * W
    first, last = np.maximum(first, 0), np.minimum(last, n_steps - 1)
    # An event may be in several windows. Each iteration adds every event to one of its windows.
    for turn in range(int((last - first).max(initial=-1)) + 1):
        now = good if rule.window == rule.dt else good & (first + turn <= last)
        index = (first + turn) * size + place
        index = index if now.all() else index[now]
        if rule.binary:
            flat[index] = 1
        elif len(index) < _EXACT:
            np.add.at(flat, index, np.float32(1))
        else:
            flat += np.bincount(index, minlength=flat.size)


def _channels(rule: FrameRule, p: np.ndarray | None, n: int, call: str, at: str) -> tuple[Any, Any]:
    """Return the channel of each event, and a mask of the events that are counted."""
    if p is None:
        return 0, np.ones(n, bool)
    most = rule.sensor[2] - 1
    if rule.polarity == "merge":
        return 0, np.ones(n, bool)
    if most == 0:
        # As in tonic, a sensor with one polarity may number it 0 or 1.
        if p.size and p.min() != p.max():
            raise ValueError(
                f"{call}: {at}p contains several polarities ({p.min()} to {p.max()}), but sensor_size has one. Pass "
                "sensor_size=(W, H, 2), or polarity='merge'."
            )
        return 0, np.ones(n, bool)
    if p.size and not 0 <= p.min() <= p.max() <= most:
        raise ValueError(
            f"{call}: {at}p must be between 0 and {most} for this sensor_size; got {p.min()} to {p.max()}."
        )
    return (p, np.ones(n, bool)) if rule.polarity == "keep" else (0, p == (rule.polarity == "on"))


def _refuse_off_sensor(rule: FrameRule, events: Checked, inside: np.ndarray, call: str, at: str) -> None:
    if rule.off_sensor == "drop":
        return
    bad = int(np.argmin(inside))
    raise ValueError(
        f"{call}: {int(np.sum(~inside))} of {len(inside)} events lie outside of sensor_size ({rule.sensor[0]} columns, "
        f"{rule.sensor[1]} rows); the first has {at}x {events.x[bad]} and {at}y {events.y[bad]}. Pass sensor_size as "
        "(columns, rows), or drop these events with off_sensor='drop'."
    )


def frames_to_events(
    frames: Any,
    dt: u.Quantity,
    *,
    start: u.Quantity = 0.0 * u.us,
    layout: Layout = "PHW",
    sensor_size: tuple[int, ...] | None = None,
) -> Events:
    """Convert counts back to events: a count of 3 becomes three events at the beginning of the step.

    If ``events`` is the result, ``events_to_frames(*events, sensor_size, dt, n_steps, start=start)`` gives the same
    counts.

    Parameters
    ----------
    frames
        Nonnegative integers with the axes of ``layout``, such as the result of :func:`events_to_frames` or the spikes
        of a network.
    dt
        Time between frames.
    start
        Start of the first frame. Default 0.
    layout
        ``'PHW'`` (default), ``'HWP'`` or ``'flat'``.
    sensor_size
        ``(W, H)`` or ``(W, H, P)``, required only for ``'flat'`` frames; ``P`` is 1 by default.

    Returns
    -------
    Events
        Sorted by time, then polarity, row and column. ``t`` is in microseconds, rounded to whole nanoseconds.

    Raises
    ------
    TypeError
        If ``frames`` is not an array of numbers, or another argument has the wrong type or unit.
    ValueError
        If ``frames`` has a wrong number of axes or contains values that are not counts, or if ``sensor_size`` is
        missing or does not match the frames.

    Examples
    --------
    >>> import brainunit as u, numpy as np
    >>> from brainhw.data import frames_to_events
    >>> frames = np.zeros((3, 2, 4, 4))
    >>> frames[2, 1, 0, 3] = 2
    >>> events = frames_to_events(frames, 1 * u.ms)
    >>> print(events.t, events.x, events.y, events.p)
    [2000. 2000.] us [3 3] [0 0] [1 1]
    """
    call = "frames_to_events"
    layout = choice(layout, LAYOUTS, call=call, name="layout")
    step = _nanoseconds(quantity(dt, u.us, call=call, name="dt", shapes=[()], positive=True).mantissa)
    first = float(quantity(start, u.us, call=call, name="start", shapes=[()]).mantissa)
    counts = np.asarray(as_array(frames, call=call, name="frames"))
    if counts.ndim != (2 if layout == "flat" else 4):
        raise ValueError(
            f"{call}: frames must have shape {LAYOUTS[layout]} for layout {layout!r}; got shape {counts.shape}."
        )
    if counts.size and not (np.all(np.isfinite(counts)) and counts.min() >= 0 and np.all(counts == np.rint(counts))):
        raise ValueError(
            f"{call}: frames must contain event counts (integers from 0); got {describe(counts)} with other values."
        )
    if layout == "flat":
        if sensor_size is None:
            raise ValueError(f"{call}: sensor_size is required to convert flat frames. Pass (W, H) or (W, H, P).")
        W, H, P = checked_sensor(sensor_size, 1, call)
        if counts.shape[1] != W * H * P:
            raise ValueError(
                f"{call}: sensor_size {(W, H, P)} has {W * H * P} channels, but frames have {counts.shape[1]}. Pass "
                "the sensor_size of these frames."
            )
        counts = counts.reshape(len(counts), P, H, W)
    elif sensor_size is not None:
        raise ValueError(f"{call}: sensor_size is only for layout 'flat'. Omit it.")
    if layout == "HWP":
        counts = np.moveaxis(counts, -1, 1)
    where = np.nonzero(counts)
    k, p, y, x = np.repeat(np.stack(where), counts[where].astype(np.int64), axis=1)
    # Use the first whole nanosecond of the step, because a dt such as 1/3 ms is not an integer number of nanoseconds.
    t = first + np.ceil(k * step - 1e-3) / _NS
    return Events(u.Quantity(t, unit=u.us), x, y, p)
