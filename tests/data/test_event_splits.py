from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.data import Events, events_to_frames, split_from_events, split_from_frames

TYPE = [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")]


def recordings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = []
    for length in (3_000, 9_500, 40):
        array = np.empty(50, TYPE)
        array["t"] = 100 + np.sort(rng.integers(0, length, 50))
        array["x"], array["y"], array["p"] = rng.integers(0, 6, 50), rng.integers(0, 4, 50), rng.random(50) < 0.5
        made.append(array)
    return made


def test_recordings_are_the_frames_of_each_padded_with_zeros() -> None:
    given = recordings()
    split = split_from_events(given, [0, 1, 0], (6, 4), 1 * u.ms, groups=["a", "b", "a"])
    for i, one in enumerate(given):
        frames = events_to_frames(one["t"] * u.us, one["x"], one["y"], one["p"], (6, 4), 1 * u.ms, layout="flat")
        assert split.lengths[i] == len(frames)
        np.testing.assert_array_equal(split.x[i, : len(frames)], frames)
        assert not split.x[i, len(frames) :].any()
    assert split.x.shape == (3, split.lengths.max(), 48)
    assert split.groups.tolist() == ["a", "b", "a"]
    cut = split_from_events(given, [0, 1, 0], (6, 4), 1 * u.ms, 5, off_time="drop", layout="HWP")
    assert cut.x.shape == (3, 5, 4, 6, 2)
    assert cut.lengths.tolist() == [min(5, n) for n in split.lengths]
    np.testing.assert_array_equal(np.moveaxis(cut.x, -1, 2).reshape(3, 5, 48), split.x[:, :5])


def test_an_empty_recording_has_one_step() -> None:
    empty = Events(np.zeros(0) * u.us, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    split = split_from_events([*recordings(), empty], [0, 1, 0, 1], (6, 4), 1 * u.ms)
    assert split.lengths[-1] == 1
    assert not split.x[-1].any()


def test_the_frames_of_tonic() -> None:
    frames = np.random.default_rng(1).poisson(0.5, (3, 5, 2, 4, 6))
    split = split_from_frames(frames, [0, 1, 2])
    np.testing.assert_array_equal(split.x, frames.reshape(3, 5, 48))
    last = split_from_frames(frames, [0, 1, 2], layout="HWP", lengths=[5, 3, 1])
    np.testing.assert_array_equal(last.x, np.moveaxis(frames, 2, -1))
    assert last.lengths.tolist() == [5, 3, 1]
    unequal = split_from_frames([frames[0], frames[1, :2]], [0, 1])
    assert unequal.lengths.tolist() == [5, 2]
    np.testing.assert_array_equal(unequal.x[1, :2], split.x[1, :2])
    assert not unequal.x[1, 2:].any()
    assert split_from_frames(frames[..., 0, :], [0, 1, 2]).x.shape == (3, 5, 12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_from_events([], [], (6, 4), 1 * u.ms), "recordings must contain at least one recording"),
        (
            lambda: split_from_events([*recordings()[:1], np.zeros((5, 4))], [0, 1], (6, 4), 1 * u.ms),
            r"recordings\[1\] must be a structured array",
        ),
        (
            lambda: split_from_events(recordings(), [0, 1, 0], (6, 3), 1 * u.ms),
            r"\d+ of 50 events lie outside of sensor_size \(6 columns, 3 rows\); the first has recordings\[0\]\.x",
        ),
        (
            lambda: split_from_events(recordings(), [0, 1, 0], (6, 4), 1 * u.ms, 4),
            r"of 50 events in recordings\[1\]\.t, 0 lie before the first",
        ),
        (
            lambda: split_from_events([recordings()[0], recordings()[1][["x", "y", "t"]]], [0, 1], (6, 4), 1 * u.ms),
            r"recordings\[1\] has no polarity p, but other recordings have",
        ),
        (lambda: split_from_events(recordings(), [0, 1, 0], (6, 4), 1 * u.ms, layout="PHW"), "layout must be one of"),
        (lambda: split_from_frames(np.zeros((3, 4)), [0, 1, 2]), r"frames must have shape \[B, T, P, H, W\]"),
        (
            lambda: split_from_frames([np.zeros((3, 2, 4, 4)), np.zeros((3, 2, 4, 5))], [0, 1]),
            r"frames\[1\] must have shape \[T, P, H, W\] or \[T, P, W\], with the same P, H and W as frames",
        ),
    ],
)
def test_mistakes_are_named(call, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^split_from_(events|frames): {message}"):
        call()
