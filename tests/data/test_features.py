from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.data import (
    delta_spikes,
    hold,
    japanese_vowels,
    latency_spikes,
    population_currents,
    rate_spikes,
    repeat_frames,
    split_on_off,
)

CALLS = {
    "split_on_off": split_on_off,
    "repeat_frames": lambda x: repeat_frames(x, 2),
    "hold": hold,
    "rate_spikes": lambda x: rate_spikes(x, key=0),
    "latency_spikes": latency_spikes,
    "delta_spikes": lambda x: delta_spikes(x, 0.1),
    "population_currents": lambda x: population_currents(x, 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_features_must_be_finite_plain_arrays(name: str) -> None:
    call = CALLS[name]
    with pytest.raises(
        ValueError, match=rf"^{name}: x contains 1 NaN or infinite value\(s\), the first at index \(0, 1\)"
    ):
        call([[0.0, np.nan]])
    with pytest.raises(
        ValueError, match=rf"^{name}: x contains 1 NaN or infinite value\(s\), the first at index \(0, 1\)"
    ):
        call([[0.0, 1e300]])
    with pytest.raises(TypeError, match=f"^{name}: x must be plain numbers"):
        call(np.zeros((2, 2)) * u.mV)
    with pytest.raises(TypeError, match=rf"^{name}: .*Pass split\.x"):
        call(japanese_vowels().test)
    with pytest.raises(ValueError, match=f"^{name}: x must have a last axis"):
        call(1.0)


@pytest.mark.parametrize("name", CALLS)
def test_results_are_float32_and_recordings_are_independent(name: str) -> None:
    x = np.random.default_rng(0).random((4, 5, 3))
    whole = CALLS[name](x)
    assert whole.dtype == np.float32
    if name != "rate_spikes":
        np.testing.assert_array_equal(whole, np.stack([CALLS[name](one) for one in x]))
