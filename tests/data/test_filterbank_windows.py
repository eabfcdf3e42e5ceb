from __future__ import annotations

from fractions import Fraction

import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.data.filterbank import rational, window_edges

RATES = st.one_of(st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000]), st.integers(10, 200_000))
MICROSECONDS = st.one_of(st.sampled_from([100, 125, 500, 1000, 2000, 5000]), st.integers(1, 50_000))


def seconds(value) -> Fraction:
    return rational(value, u.second, call="test", name="value")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(rate=RATES, dt=MICROSECONDS, count=st.integers(1, 3000), numerator=st.integers(0, 999), in_ms=st.booleans())
def test_steps_of_float_quantities_equal_exact_arithmetic(rate, dt, count, numerator, in_ms):
    """Durations at, just below and between whole numbers of steps, each passed as floats."""
    exact_dt = Fraction(dt, 10**6)
    exact = count * exact_dt + Fraction(numerator, 1000) * exact_dt
    # Nine decimals of a second at most, so that the float means one decimal.
    exact = Fraction(round(exact * 10**9), 10**9)
    given_dt = (dt / 1000) * u.ms if in_ms else (dt / 10**6) * u.second
    given_duration = float(exact * 1000) * u.ms if in_ms else float(exact) * u.second
    assert seconds(given_duration) // seconds(given_dt) == exact // exact_dt
    got_rate = rational((rate / 1000) * u.kHz if in_ms else rate * u.Hz, u.Hz, call="test", name="rate")
    assert got_rate == rate


@settings(derandomize=True, deadline=None, max_examples=200)
@given(rate=RATES, dt=MICROSECONDS, steps=st.integers(1, 200))
def test_windows_hold_exactly_the_samples_of_their_time(rate, dt, steps):
    per_step = Fraction(dt, 10**6) * rate
    edges = window_edges(steps, per_step)
    assert len(edges) == steps + 1
    assert edges[0] == 0
    for k, edge in enumerate(edges.tolist()):
        # Sample `edge` is the first at or after k dt.
        assert edge >= k * per_step > edge - 1
    widths = np.diff(edges)
    assert widths.max() - widths.min() <= 1
    if per_step >= 1:
        assert widths.min() >= 1


@settings(derandomize=True, deadline=None, max_examples=200)
@given(samples=st.integers(1, 500_000), rate=RATES)
def test_a_duration_of_whole_samples_is_meant_exactly(samples, rate):
    assert seconds((samples / rate) * u.second) // seconds((1 / rate) * u.second) == samples


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (0.1 * u.ms, Fraction(1, 10_000)),
        (100 * u.us, Fraction(1, 10_000)),
        (3 * 0.1 * u.ms, Fraction(3, 10_000)),
        (np.float32(0.1) * u.ms, Fraction(1, 10_000)),
        (jnp.float32(0.1) * u.ms, Fraction(1, 10_000)),
        (jnp.float32(2.28275) * u.second, Fraction(9131, 4000)),
        ((1 / 3) * u.second, Fraction(1, 3)),
        (jnp.float32(1 / 3) * u.second, Fraction(1, 3)),
        (1 / (44.1 * u.kHz), Fraction(1, 44_100)),
        (2 * u.minute, Fraction(120)),
        (1 * u.second, Fraction(1)),
    ],
)
def test_what_a_number_means(value, meant):
    assert seconds(value) == meant


def test_the_published_examples():
    assert seconds(1.0 * u.second) // seconds(1.0 * u.ms) == 1000
    assert seconds(0.5 * u.second) // seconds(2.0 * u.ms) == 250
