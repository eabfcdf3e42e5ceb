from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.data import Events, events_from_array

ARRAY = np.array(
    [(3, 0, 10, True), (5, 2, 20, False)], [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")]
)  # tonic's types


@pytest.mark.parametrize(
    "array",
    [
        ARRAY,
        {name: ARRAY[name] for name in "xytp"},
        np.array([(10, 3, 0, 1), (20, 5, 2, 0)], [("timestamp", "i8"), ("x", "i2"), ("y", "i2"), ("polarity", "i1")]),
        np.array([(10, 3, 0, 1), (20, 5, 2, 0)], [("t", "u8"), ("x", "u2"), ("y", "u2"), (("p", "on"), "?")]),
    ],
    ids=["tonic", "mapping", "dv-processing", "aedat"],
)
def test_the_arrays_of_others_are_the_same_events(array) -> None:
    events = events_from_array(array)
    assert u.get_unit(events.t) == u.us
    np.testing.assert_array_equal(events.to_array(), np.array(ARRAY.tolist(), events.to_array().dtype))


def test_microseconds_since_1970_stay_whole() -> None:
    late = ARRAY.copy()
    late["t"] += 1_700_000_000_000_000
    assert events_from_array(late).to_array()["t"].tolist() == late["t"].tolist()


def test_a_sensor_of_one_row_and_no_polarity() -> None:
    events = events_from_array({"t": np.array([0.5, 0.25]), "x": [3, 1]}, unit=u.second)
    assert events.y is events.p is None
    assert events.to_array().tolist() == [(3, 0, 500_000, 1), (1, 0, 250_000, 1)]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((4, 4)),
            r"array must be a structured array \[n\] with the fields t, x, y and p; got an array of shape",
        ),
        (ARRAY[["y", "p"]], r"array must have a field for t and x; got the fields y, p\."),
        ({}, r"array must have a field for t and x; got the fields of none\."),
    ],
)
def test_what_is_no_recording_is_refused(array, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^events_from_array: {message}"):
        events_from_array(array)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (Events([1.0, 2.0], [1, 2]), "t must be a Quantity with the dimension of us"),
        (Events([1, 2] * u.mV, [1, 2]), "t must have the dimension of us"),
        (Events([1.0, np.nan] * u.us, [1, 2]), "t must be finite"),
        (Events([1, 2] * u.us, [1]), "x contains 1 values, but t contains 2. Pass one value per event"),
        (Events([1, 2] * u.us, [1.5, 2]), "x must contain integers"),
        (
            Events([1, 2] * u.us, [1, 2], p=[-1, 0]),
            "p must contain numbers from 0, or only -1 and 1; got both -1 and 0",
        ),
        (
            Events([1, 2] * u.us, [1, 40_000]),
            "x must be between 0 and 32767, because tonic stores 16 bits; got 1 to 40000",
        ),
    ],
)
def test_mistakes_are_named(events: Events, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^Events.to_array: {message}"):
        events.to_array()
