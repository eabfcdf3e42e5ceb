from __future__ import annotations

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw.data import (
    ChannelScale,
    Split,
    delayed_copies,
    fit_channel_scale,
    japanese_vowels,
    repeat_frames,
    split_on_off,
)

FEATURES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-100, 100, width=32),
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(FEATURES)
def test_on_and_off_are_nonnegative_exclusive_and_give_x_back(x):
    both = split_on_off(x)
    c = x.shape[-1]
    on, off = both[..., :c], both[..., c:]
    assert both.shape == (*x.shape[:-1], 2 * c)
    assert both.dtype == np.float32
    assert both.min() >= 0
    assert not np.any((on > 0) & (off > 0))
    np.testing.assert_array_equal(on - off, x)


def test_on_off_of_unsigned_numbers_does_not_wrap():
    assert split_on_off(np.array([3, 0], np.uint8)).tolist() == [3, 0, 0, 0]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(FEATURES, st.integers(1, 4))
def test_repeated_frames_are_held(x, times):
    held = repeat_frames(x, times)
    assert held.shape == (*x.shape[:-2], x.shape[-2] * times, x.shape[-1])
    for step in range(times):
        np.testing.assert_array_equal(held[..., step::times, :], x)


@pytest.mark.parametrize("call", [split_on_off, lambda x: repeat_frames(x, 2)])
def test_features_must_be_finite_plain_arrays(call):
    with pytest.raises(ValueError, match=r"1 NaN or infinite value\(s\), the first at index \(0, 1\)"):
        call([[0.0, np.nan]])
    with pytest.raises(TypeError, match="plain numbers"):
        call(np.zeros((2, 2)) * u.mV)
    with pytest.raises(TypeError, match=r"pass split\.x"):
        call(japanese_vowels().test)


def test_too_few_axes_and_bad_times_are_refused():
    with pytest.raises(ValueError, match="last axis of channels"):
        split_on_off(1.0)
    with pytest.raises(ValueError, match=r"shape \[..., T, C\]; got shape \(3,\)"):
        repeat_frames([1.0, 2.0, 3.0], 2)
    with pytest.raises(ValueError, match="times must be at least 1; got 0"):
        repeat_frames([[1.0]], 0)


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
    with pytest.raises(ValueError, match=r"channel\(s\) \[1\] never change"):
        fit_channel_scale(Split(x * [1, 0] + 0.1, [0, 1], [3, 3]))
    with pytest.raises(ValueError, match="holds no frames"):
        fit_channel_scale(Split(x, [0, 1], [0, 0]))
    with pytest.raises(ValueError, match=r"x holds 12 NaN"):
        fit_channel_scale(Split(x * np.nan, [0, 1], [3, 3]))
    with pytest.raises(TypeError, match="raw audio; turn it into frames first"):
        fit_channel_scale(Split([np.ones(4)], [0], [4]))
    with pytest.raises(TypeError, match=r"train must be a Split such as dataset\.train"):
        fit_channel_scale(x)
    scale = ChannelScale(np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="fitted on 3 channels, the split has 2"):
        scale.apply(Split(x, [0, 1], [3, 3]))


@given(seed=st.integers(0, 2**31 - 1), delays=st.lists(st.integers(0, 6), min_size=1, max_size=4))
@settings(derandomize=True, deadline=None, max_examples=20, database=None)
def test_a_delayed_copy_is_the_input_some_steps_ago(seed: int, delays: list[int]) -> None:
    x = np.random.default_rng(seed).random((3, 7, 2)).astype(np.float32)
    copies = delayed_copies(x, delays).reshape(3, 7, len(delays), 2)
    for i, late in enumerate(delays):
        np.testing.assert_array_equal(copies[:, late:, i], x[:, : 7 - late])
        assert not copies[:, :late, i].any()


@pytest.mark.parametrize("delays", [(), (0, 7), (-1,), (1.5,), 3, "ab"])
def test_delays_that_are_none_are_refused(delays: object) -> None:
    with pytest.raises(ValueError, match=r"^delayed_copies: delays must be whole numbers of steps from 0 to 6"):
        delayed_copies(np.ones((7, 2)), delays)


def test_a_split_of_arrays_alone_takes_all_frames_of_each() -> None:
    split = Split(np.ones((3, 5, 2)), [0, 1, 0])
    assert split.lengths.tolist() == [5, 5, 5]
    assert Split([np.ones(4), np.ones(7)], [0, 1]).lengths.tolist() == [4, 7]
    with pytest.raises(ValueError, match=r"^Split: x must have shape .*; got shape \(3,\)"):
        Split(np.ones(3), [0, 1, 0])
