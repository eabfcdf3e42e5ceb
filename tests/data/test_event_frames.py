"""Frames of events: golden frames of tonic (tests/golden/events), a plain loop, round trips, and every refusal."""

from __future__ import annotations

from pathlib import Path

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.events import SETS, same_options
from brainhw.data import Events, events_from_array, events_to_frames, frames_to_events

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "events" / "tonic_frames.npz")
SENSOR = (6, 4, 2)
RECORDING = GOLDEN["events"]
EVENTS = events_from_array(RECORDING)


@pytest.mark.parametrize("name", SETS)
def test_counts_are_those_of_tonic(name: str) -> None:
    theirs = GOLDEN[name.replace(" ", "_")]
    options = same_options(RECORDING, SETS[name], len(theirs))
    assert theirs.sum() > 100
    np.testing.assert_array_equal(events_to_frames(*EVENTS, SENSOR, **options), theirs)


def test_counts_are_those_of_tonic_itself() -> None:
    transforms = pytest.importorskip("tonic.transforms")
    theirs = transforms.ToFrame(SENSOR, time_window=900)(RECORDING.copy())
    mine = events_to_frames(*EVENTS, SENSOR, 0.9 * u.ms, len(theirs), off_time="drop")
    np.testing.assert_array_equal(mine, theirs)


def plain(t, x, y, p, dt, window, start, n_steps) -> np.ndarray:
    """Whole microseconds, one event and one frame after the other."""
    frames = np.zeros((n_steps, 2, 4, 6), np.float32)
    for at, column, row, sign in zip(t, x, y, p, strict=True):
        for k in range(n_steps):
            if start + k * dt <= at < start + k * dt + window:
                frames[k, sign, row, column] += 1
    return frames


@settings(derandomize=True, deadline=None, max_examples=40, database=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    dt=st.integers(1, 40),
    window=st.integers(1, 90),
    start=st.integers(-60, 60),
    unit=st.sampled_from([u.nsecond, u.us, u.ms, u.second]),
)
def test_counts_are_those_of_a_plain_loop_in_any_unit(seed, dt, window, start, unit) -> None:
    rng = np.random.default_rng(seed)
    t, x, y, p = (rng.integers(0, most, 30) for most in (200, 6, 4, 2))
    given_t = (t * u.us).in_unit(unit)
    frames = events_to_frames(
        given_t, x, y, p, SENSOR, dt * u.us, 5, window=window * u.us, start=start * u.us, off_time="drop"
    )
    np.testing.assert_array_equal(frames, plain(t, x, y, p, dt, window, start, 5))


def test_the_layouts_hold_the_same_counts() -> None:
    frames = events_to_frames(*EVENTS, SENSOR, 1 * u.ms)
    assert frames.shape == (60, 2, 4, 6)
    assert frames.dtype == np.float32
    assert frames.sum() == 400
    last = events_to_frames(*EVENTS, SENSOR, 1 * u.ms, layout="HWP")
    np.testing.assert_array_equal(last, np.moveaxis(frames, 1, -1))
    flat = events_to_frames(*EVENTS, SENSOR, 1 * u.ms, layout="flat")
    np.testing.assert_array_equal(flat, frames.reshape(60, -1))
    np.testing.assert_array_equal(events_to_frames(*EVENTS, SENSOR, 1 * u.ms, binary=True), frames > 0)
    merged = events_to_frames(*EVENTS, SENSOR, 1 * u.ms, polarity="merge")
    np.testing.assert_array_equal(merged, frames.sum(axis=1, keepdims=True))
    for channel, polarity in enumerate(("off", "on")):
        one = events_to_frames(*EVENTS, SENSOR, 1 * u.ms, polarity=polarity)
        np.testing.assert_array_equal(one, frames[:, [channel]])
    pooled = events_to_frames(*EVENTS, SENSOR, 1 * u.ms, pool=2)
    np.testing.assert_array_equal(pooled, frames.reshape(60, 2, 2, 2, 3, 2).sum(axis=(3, 5)))


def test_the_order_of_events_and_the_sign_of_polarities_do_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(RECORDING))
    mixed = RECORDING[order]
    signed = Events(mixed["t"] * u.us, mixed["x"], mixed["y"], np.where(mixed["p"], 1, -1))
    frames = events_to_frames(*EVENTS, SENSOR, 1 * u.ms)
    np.testing.assert_array_equal(events_to_frames(*signed, SENSOR[:2], 1 * u.ms), frames)


def test_float16_seconds_as_shd_has_them() -> None:
    t = np.array([0.0, 0.25, 0.5], np.float16)
    frames = events_to_frames(t * u.second, [699, 0, 1], None, None, (700, 1, 1), 0.25 * u.second)
    assert frames.shape == (3, 1, 1, 700)
    assert [int(np.argmax(one)) for one in frames] == [699, 0, 1]


def test_microseconds_since_1970_are_counted_exactly() -> None:
    shifted = EVENTS._replace(t=(RECORDING["t"] + 1_700_000_000_000_000) * u.us)
    np.testing.assert_array_equal(
        events_to_frames(*shifted, SENSOR, 1 * u.us, 70_000, off_time="drop"),
        events_to_frames(*EVENTS, SENSOR, 1 * u.us, 70_000, off_time="drop"),
    )


def test_a_step_that_is_no_whole_number_of_nanoseconds_does_not_drift() -> None:
    third = u.Quantity(1000 / 3, unit=u.us)
    t = np.arange(3000, dtype=np.int64) * 1000  # every third step
    frames = events_to_frames(t * u.us, np.zeros(3000, int), None, None, (1, 1), third)
    assert np.flatnonzero(frames).tolist() == list(range(0, 9000, 3))


def test_an_empty_recording_is_zeros() -> None:
    nothing = Events(np.zeros(0) * u.us, np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))
    assert events_to_frames(*nothing, SENSOR, 1 * u.ms).shape == (1, 2, 4, 6)
    assert not events_to_frames(*nothing, SENSOR, 1 * u.ms, 7, polarity="on", window=9 * u.ms).any()
    assert frames_to_events(np.zeros((5, 2, 4, 6)), 1 * u.ms).to_array().shape == (0,)


@pytest.mark.parametrize("dt", [1 * u.ms, 1000 / 3 * u.us, 0.1 * u.ms, 2 * u.us])
@pytest.mark.parametrize("layout", ["PHW", "HWP", "flat"])
def test_frames_to_events_and_back(dt, layout: str) -> None:
    shape = {"PHW": (9, 2, 4, 6), "HWP": (9, 4, 6, 2), "flat": (9, 48)}[layout]
    frames = np.random.default_rng(1).poisson(0.3, shape).astype(np.float32)
    events = frames_to_events(
        frames, dt, layout=layout, start=7 * u.us, sensor_size=SENSOR if layout == "flat" else None
    )
    assert len(events.x) == frames.sum()
    assert np.all(np.diff(events.t.mantissa) >= 0)
    again = events_to_frames(*events, SENSOR, dt, 9, start=7 * u.us, layout=layout)
    np.testing.assert_array_equal(again, frames)
    # Whole microseconds fall into the same steps.
    again = events_to_frames(*events_from_array(events.to_array()), SENSOR, dt, 9, start=7 * u.us, layout=layout)
    np.testing.assert_array_equal(again, frames)


SMALL = {"t": [0, 900, 5000] * u.us, "x": [0, 5, 1], "y": [0, 3, 1], "p": [0, 1, 1]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"x": [0, 6, 1]},
            r"1 of 3 events lie outside of sensor_size \(6 columns, 4 rows\); the first has x 6 and y 3",
        ),
        (
            {"y": [0, -1, 1]},
            r"1 of 3 events lie outside of sensor_size \(6 columns, 4 rows\); the first has x 5 and y -1",
        ),
        ({"n_steps": 5}, "of 3 events in t, 0 lie before the first and 1 after the last of 5 steps"),
        ({"start": 1 * u.us}, "of 3 events in t, 1 lie before the first and 0 after the last of 5 steps"),
        ({"p": [0, 1, 2]}, "p must be between 0 and 1 for this sensor_size; got 0 to 2"),
        (
            {"sensor_size": (6, 4, 1)},
            "p contains several polarities .0 to 1., but sensor_size has one. Pass sensor_size=.W, H, 2.",
        ),
        (
            {"p": None, "polarity": "on"},
            "polarity 'on' requires events with two polarities, but sensor_size and p specify none",
        ),
        ({"pool": 4}, "pool must divide the 6 columns and 4 rows of sensor_size; got 4"),
        ({"sensor_size": (6,)}, r"sensor_size must be \(W, H\) or \(W, H, P\)"),
        ({"dt": 1e-4 * u.us}, "dt must be at least 1 ns; got 0.0001 us"),
        ({"dt": 1.0}, "dt must be a Quantity"),
        ({"t": [0, 900, 5e12] * u.us}, "t extends over 5e.09 steps of dt .at most .*Check the units of t and dt"),
        (
            {"n_steps": 2**31 - 1, "sensor_size": (2**20, 2**20)},
            "frames of shape .* GiB, more than the available memory",
        ),
        ({"layout": "WHP"}, "layout must be one of 'PHW', 'HWP', 'flat'"),
    ],
)
def test_mistakes_are_named(changed: dict, message: str) -> None:
    given = {**SMALL, "sensor_size": (6, 4), "dt": 1 * u.ms, **changed}
    with pytest.raises((TypeError, ValueError), match=f"^events_to_frames: {message}"):
        events_to_frames(**given)


def test_what_lies_outside_is_dropped_where_that_is_asked_for() -> None:
    given = {**SMALL, "sensor_size": (6, 2), "dt": 1 * u.ms}
    assert events_to_frames(**given, off_sensor="drop").sum() == 2
    assert events_to_frames(**given, n_steps=5, off_sensor="drop", off_time="drop").sum() == 1
    late = events_to_frames(**given, start=800 * u.us, off_sensor="drop", off_time="drop")
    assert late.shape[0] == 5
    assert late.sum() == 1


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((3, 4)), {}, r"frames must have shape \[T, P, H, W\] for layout 'PHW'"),
        (np.zeros((3, 4)), {"layout": "flat"}, "sensor_size is required to convert flat frames"),
        (
            np.zeros((3, 4)),
            {"layout": "flat", "sensor_size": (3, 1)},
            r"sensor_size \(3, 1, 1\) has 3 channels, but frames",
        ),
        (np.zeros((1, 1, 1, 1)), {"sensor_size": (1, 1)}, "sensor_size is only for layout 'flat'"),
        (np.full((1, 1, 1, 1), 0.5), {}, "frames must contain event counts .integers from 0"),
        (np.full((1, 1, 1, 1), -1), {}, "frames must contain event counts .integers from 0"),
    ],
)
def test_frames_that_are_no_counts_are_refused(frames, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^frames_to_events: {message}"):
        frames_to_events(frames, 1 * u.ms, **options)
