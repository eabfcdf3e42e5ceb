from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw.data import delayed_copies, hold, repeat_frames

FEATURES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-100, 100, width=32),
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(FEATURES, st.integers(1, 4))
def test_repeated_frames_are_held(x, times):
    held = repeat_frames(x, times)
    assert held.shape == (*x.shape[:-2], x.shape[-2] * times, x.shape[-1])
    for step in range(times):
        np.testing.assert_array_equal(held[..., step::times, :], x)


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
    with pytest.raises(ValueError, match=r"^delayed_copies: delays must be integers, such as \(0, 10\), from 0 to 6"):
        delayed_copies(np.ones((7, 2)), delays)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(FEATURES, st.integers(1, 4))
def test_held_features_are_the_same_in_each_step(x, n_steps):
    held = hold(x, n_steps)
    assert held.shape == (*x.shape[:-1], n_steps, x.shape[-1])
    assert held.dtype == np.float32
    for step in range(n_steps):
        np.testing.assert_array_equal(held[..., step, :], x)


def test_images_are_held_on_the_axis_asked_for() -> None:
    images = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    held = hold(images, axis=1)
    assert held.shape == (3, 60, 4, 5, 2)
    np.testing.assert_array_equal(held[:, 17], images)
    held += 1  # not a read-only view
    assert not np.shares_memory(held, images)


def test_too_few_axes_and_bad_numbers_of_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^repeat_frames: x must have shape \[..., T, C\]; got shape \(3,\)"):
        repeat_frames([1.0, 2.0, 3.0], 2)
    with pytest.raises(ValueError, match=r"^repeat_frames: times must be at least 1; got 0"):
        repeat_frames([[1.0]], 0)
    with pytest.raises(ValueError, match=r"^hold: n_steps must be at least 1; got 0"):
        hold([1.0], 0)
    with pytest.raises(ValueError, match=r"^hold: axis must be an axis of the result, which has 3 axes; got 3"):
        hold([[1.0]], axis=3)
    with pytest.raises(ValueError, match=r"^repeat_frames: axis must be an axis of x, which has 2 axes; got 2"):
        repeat_frames([[1.0]], 2, axis=2)
