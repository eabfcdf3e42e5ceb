from __future__ import annotations

import numpy as np
import pytest

from brainhw.data import ChannelScale, Split, fit_channel_scale, japanese_vowels


def true_frames(split: Split) -> np.ndarray:
    return np.concatenate([one[:length] for one, length in zip(split.x, split.lengths, strict=True)])


def test_scaled_training_frames_have_mean_zero_and_deviation_one_and_padding_stays_zero():
    data = japanese_vowels()
    scale = fit_channel_scale(data.train)
    np.testing.assert_allclose(scale.mean, true_frames(data.train).mean(axis=0), atol=1e-5)
    scaled = scale.apply(data.train)
    assert scaled.x.dtype == np.float32
    np.testing.assert_allclose(true_frames(scaled).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(true_frames(scaled).std(axis=0), 1, atol=1e-5)
    for one, length in zip(scaled.x, scaled.lengths, strict=True):
        assert not one[length:].any()


def test_the_scale_of_the_training_split_is_what_the_test_split_gets():
    data = japanese_vowels()
    scale = fit_channel_scale(data.train)
    expected = (true_frames(data.test) - scale.mean) / scale.std
    np.testing.assert_allclose(true_frames(scale.apply(data.test)), expected, rtol=1e-6)


def test_padding_changes_nothing_about_the_scale():
    data = japanese_vowels()
    wide = Split(np.pad(data.train.x, ((0, 0), (0, 9), (0, 0)), constant_values=7), data.train.y, data.train.lengths)
    np.testing.assert_array_equal(fit_channel_scale(wide).mean, fit_channel_scale(data.train).mean)
    np.testing.assert_array_equal(fit_channel_scale(wide).std, fit_channel_scale(data.train).std)


def test_what_cannot_be_scaled_is_refused():
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    with pytest.raises(ValueError, match=r"channel\(s\) \[1\] are constant"):
        fit_channel_scale(Split(x * [1, 0] + 0.1, [0, 1], [3, 3]))
    with pytest.raises(ValueError, match="contains no frames"):
        fit_channel_scale(Split(x, [0, 1], [0, 0]))
    with pytest.raises(ValueError, match=r"x contains 12 NaN"):
        fit_channel_scale(Split(x * np.nan, [0, 1], [3, 3]))
    with pytest.raises(TypeError, match=r"raw audio\. Convert it to frames first"):
        fit_channel_scale(Split([np.ones(4)], [0], [4]))
    with pytest.raises(TypeError, match=r"train must be a Split such as dataset\.train"):
        fit_channel_scale(x)
    scale = ChannelScale(np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="has 3 channels, but the split has 2"):
        scale.apply(Split(x, [0, 1], [3, 3]))
