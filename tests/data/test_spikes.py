from __future__ import annotations

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw.data import delta_spikes, latency_spikes, rate_spikes, repeat_frames

pytestmark = pytest.mark.no_dt
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
UNIT = hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32))
fast = settings(derandomize=True, deadline=None, max_examples=40)


# Rate.


def test_rates_are_proportional_to_values_within_the_error_of_their_number() -> None:
    x, n = np.array([[0.0, 0.1, 0.5, 0.9, 1.0]]), 20_000
    mean = rate_spikes(x, n, key=1).mean(axis=1)
    assert np.all(np.abs(mean - x) <= 4 * np.sqrt(x * (1 - x) / n))


def test_a_rate_in_hertz_follows_the_time_step() -> None:
    with brainstate.environ.context(dt=0.5 * u.ms):
        spikes = rate_spikes(np.ones(50), 2000, key=0, max_rate=0.2 * u.kHz)
    assert abs(spikes.mean() - 0.1) < 4 * np.sqrt(0.09 / spikes.size)
    with brainstate.environ.context(dt=0.1 * u.ms):
        assert rate_spikes([1.0], 50, key=0, max_rate=10 * u.kHz).all()


def test_one_key_gives_one_result_and_steps_differ() -> None:
    x = np.full((2, 3), 0.5)
    first = rate_spikes(x, 40, key=7)
    np.testing.assert_array_equal(first, rate_spikes(x, 40, key=jax.random.key(7)))
    assert not np.array_equal(first, rate_spikes(x, 40, key=8))
    assert len(np.unique(first.reshape(6, 40) if first.ndim == 2 else first[0], axis=0)) > 1


def test_values_that_have_steps_draw_once_in_each() -> None:
    x = repeat_frames([[0.0, 1.0], [1.0, 0.0]], 3)
    np.testing.assert_array_equal(rate_spikes(x, None, key=0), x)
    with pytest.raises(ValueError, match=r"^rate_spikes: x must have shape \[..., T, C\]; got shape \(2,\)"):
        rate_spikes([0.5, 0.5], None, key=0)


def test_rates_that_no_spike_train_has_are_refused() -> None:
    with (
        brainstate.environ.context(dt=1 * u.ms),
        pytest.raises(ValueError, match=r"^rate_spikes: max_rate must be at most.*1000 Hz.*1 ms; got 1001 Hz"),
    ):
        rate_spikes([0.5], key=0, max_rate=1001 * u.Hz)
    with pytest.raises(RuntimeError, match=r"^rate_spikes: no time step is set"):
        rate_spikes([0.5], key=0, max_rate=10 * u.Hz)
    with pytest.raises(TypeError, match=r"^rate_spikes: max_rate must be a Quantity.*got 100"):
        rate_spikes([0.5], key=0, max_rate=100)
    with pytest.raises(TypeError, match=r"^rate_spikes: key must be"):
        rate_spikes([0.5], key=None)


@pytest.mark.parametrize("call", [lambda x: rate_spikes(x, key=0), latency_spikes])
def test_values_outside_of_zero_to_one_are_refused_with_the_range_that_came(call) -> None:
    with pytest.raises(ValueError, match=r"_spikes: x must be between 0 and 1; got values from -2 to 3.*split_on_off"):
        call([-2.0, 0.5, 3.0])


# Latency.


@given(UNIT, st.integers(1, 9))
@fast
def test_each_value_spikes_once_and_a_larger_one_not_later(x: np.ndarray, n: int) -> None:
    spikes = latency_spikes(x, n, threshold=0)
    assert spikes.shape == (*x.shape[:-1], n, x.shape[-1])
    np.testing.assert_array_equal(spikes.sum(axis=-2), 1)
    late = spikes.argmax(axis=-2).ravel()
    assert np.all(np.diff(late[np.argsort(x.ravel())]) <= 0)


def test_latencies_are_those_of_their_formula_and_small_values_are_silent() -> None:
    x = np.array([1.0, 0.75, 0.1, 0.02, 0.01, 0.009, 0.0])
    spikes = latency_spikes(x, 101)
    assert spikes.argmax(axis=0)[:5].tolist() == [0, 25, 90, 98, 99]
    assert not spikes[:, 5:].any()


@pytest.mark.filterwarnings("ignore:Accessing 'one_hot':DeprecationWarning")
def test_latencies_are_those_of_braintools_where_a_step_is_a_millisecond() -> None:
    x = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    with brainstate.environ.context(dt=1.0 * u.ms):
        theirs = getattr(braintools, "spike", braintools).LatencyEncoder(method="linear", normalize=True)(
            jax.numpy.asarray(x), n_time=20
        )
    np.testing.assert_array_equal(latency_spikes(x, 20, threshold=0), np.moveaxis(np.asarray(theirs), 0, -2))


def test_a_threshold_outside_of_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^latency_spikes: threshold must be between 0 and 1; got 1.5"):
        latency_spikes([0.5], threshold=1.5)
    with pytest.raises(ValueError, match=r"^latency_spikes: n_steps must be at least 1; got 0"):
        latency_spikes([0.5], 0)


# Delta.


@given(
    hnp.arrays(np.float32, (3, 12, 2), elements=st.floats(-1, 1, width=32)), st.sampled_from([0.1, 0.25, 0.5]),
    st.floats(-50, 50),
)  # fmt: skip
@fast
def test_the_sum_of_spikes_follows_a_signal_that_is_slow_enough(x: np.ndarray, threshold: float, start: float) -> None:
    slow = start + np.cumsum(x * threshold * 0.99, axis=1)
    spikes = delta_spikes(slow, threshold)
    on, off = np.split(spikes, 2, axis=-1)
    assert set(np.unique(spikes)) <= {0.0, 1.0}
    assert not np.any(on * off)
    followed = slow[:, :1] + threshold * np.cumsum(on - off, axis=1)
    assert np.all(np.abs(followed - slow) < threshold * (1 + 1e-3))


def test_spikes_are_those_of_a_plain_loop() -> None:
    x = np.random.default_rng(0).normal(size=200)
    reference, expected = x[0], [(0, 0)]
    for value in x[1:]:
        change = value - reference
        expected.append((int(change >= 0.5), int(change <= -0.5)))
        reference += 0.5 * (expected[-1][0] - expected[-1][1])
    np.testing.assert_array_equal(delta_spikes(x[:, None], 0.5), expected)


def test_steps_of_exactly_one_threshold_spike_in_each() -> None:
    x = 0.1 * np.arange(200, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(delta_spikes(x, 0.1)[1:], [[1, 0]] * 199)
    np.testing.assert_array_equal(delta_spikes(-x, 0.1)[1:], [[0, 1]] * 199)


def test_a_large_change_spikes_while_the_frame_is_held() -> None:
    spikes = delta_spikes(repeat_frames([[0.0], [1.0]], 5), 0.3)
    np.testing.assert_array_equal(spikes[:, 0], [0, 0, 0, 0, 0, 1, 1, 1, 0, 0])
    assert not spikes[:, 1].any()


def test_a_threshold_that_is_not_positive_is_refused() -> None:
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"^delta_spikes: threshold must be greater than zero; got"):
            delta_spikes([[0.0], [1.0]], bad)
    with pytest.raises(ValueError, match=r"^delta_spikes: x must have shape \[..., T, C\]"):
        delta_spikes([0.0, 1.0], 0.1)
