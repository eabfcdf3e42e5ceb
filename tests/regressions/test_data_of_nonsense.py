"""`Split` took NaN and labels of -1, `ChannelScale` any two objects, figures NaN, membranes and negative bins.

Seen in the nonsense walk of issue 17. Labels that count from 1 are now warned of, images with channels first refused.
"""

from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.data import ChannelScale, Split, filterbank, fit_channel_scale

X = np.ones((6, 4, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"x": X * np.nan, "y": [0] * 6}, ValueError, "x contains 72 NaN"),
        ({"x": [np.array([0.0, np.inf])], "y": [0]}, ValueError, r"x\[0\] contains 1 NaN or infinite"),
        ({"x": X, "y": [0, 1, 0, 1, -1, 0]}, ValueError, "y must be zero or greater; got -1"),
        ({"x": X, "y": [0] * 6, "groups": [[1.0], [1.0, 2.0]]}, TypeError, "groups"),
        ({"x": X[:, :, :0], "y": [0] * 6}, ValueError, r"x must contain.*\(6, 4, 0\)"),
    ],
)
def test_a_split_of_nonsense_is_refused(arguments, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"^Split: {match}"):
        Split(**arguments)


def test_labels_from_one_are_warned_of_and_channels_first_refused() -> None:
    with pytest.warns(UserWarning, match="^Split: y contains the classes 1 to 3 and no 0"):
        Split(X, [1, 2, 3, 1, 2, 3])
    with pytest.raises(ValueError, match=r"^Split: x must be .* got shape \(6, 2, 1, 8, 8\).*channels first"):
        Split(np.ones((6, 2, 1, 8, 8)), [0] * 6)
    # A batch that lacks a class by chance is right.
    whole = Split(np.arange(72.0).reshape(6, 4, 3), [0, 1, 2, 1, 2, 0])
    assert fit_channel_scale(whole).apply(whole.take([1, 2, 3, 4])).y.tolist() == [1, 2, 1, 2]
    with pytest.raises(ValueError, match=r"^Split.take: indices.*5"):
        whole.take([17])


@pytest.mark.parametrize(
    ("mean", "std", "match"),
    [([0.0], [0.0], "std must be greater than zero"), ([0.0, 1.0], [1.0], r"mean and std.*\(2,\) and \(1,\)"),
     ("abc", [1.0], "mean"), ([np.nan], [1.0], "mean contains 1 NaN")],
)  # fmt: skip
def test_a_scale_of_nonsense_is_refused(mean, std, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^ChannelScale: {match}"):
        ChannelScale(mean if isinstance(mean, str) else np.array(mean), np.array(std))


def test_ten_million_seconds_of_audio_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^filterbank: duration must be at most .*got 1e\+07 s"):
        filterbank(np.ones(800), 8 * u.kHz, duration=1e7 * u.second)


def test_a_raster_takes_spikes_only() -> None:
    with pytest.raises(ValueError, match=r"^plot_raster: spikes contains 4 NaN"):
        bh.visualize.plot_raster(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match=r"^plot_raster: spikes must be spike counts .integers.*0.5"):
        bh.visualize.plot_raster(np.full((2, 2), 0.5))


def test_a_spike_function_refuses_nan() -> None:
    with pytest.raises(ValueError, match=r"^fast_sigmoid: x contains NaN .1 of 2 values"):
        bh.surrogate.fast_sigmoid()(np.array([np.nan, 1.0]))
