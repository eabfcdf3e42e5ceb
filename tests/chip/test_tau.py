"""Time-constant profiles: the nearest in log tau, in any unit, and what is refused."""

import dataclasses
import pickle

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.chip import H1V1, TauProfiles

PROFILES = TauProfiles([1, 2, 5, 10, 20, 50, 100, 200] * u.ms)
taus = st.floats(0.01, 5000.0)


def test_values_are_in_milliseconds():
    assert PROFILES.values.unit == u.ms
    assert PROFILES.values.mantissa.tolist() == [1, 2, 5, 10, 20, 50, 100, 200]
    assert str(PROFILES) == "1, 2, 5, 10, 20, 50, 100, 200 ms"
    assert repr(PROFILES) == f"TauProfiles({PROFILES})"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(taus, min_size=1, max_size=6))
def test_snap_is_nearest_in_log(requested):
    snap = PROFILES.snap(np.array(requested) * u.ms)
    profiles = PROFILES.values.mantissa
    for tau, given_tau, index in zip(requested, snap.tau.mantissa, snap.index, strict=True):
        distance = np.abs(np.log(profiles / tau))
        assert distance[index] <= distance.min() + 1e-12
        assert given_tau == profiles[index]
    assert snap.moved == any(abs(g / t - 1) > 0.01 for g, t in zip(snap.tau.mantissa, requested, strict=True))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(taus, min_size=1, max_size=6))
def test_snap_is_idempotent(requested):
    once = PROFILES.snap(np.array(requested) * u.ms)
    twice = PROFILES.snap(once.tau)
    assert np.array_equal(twice.tau.mantissa, once.tau.mantissa)
    assert not twice.moved


@settings(derandomize=True, deadline=None, max_examples=60)
@given(taus)
def test_snap_does_not_depend_on_the_unit(tau):
    in_ms, in_s = PROFILES.snap(tau * u.ms), PROFILES.snap(tau * 1e-3 * u.second)
    assert in_ms.tau.unit == in_s.tau.unit == u.ms
    assert int(in_ms.index) == int(in_s.index)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,)])
def test_snap_keeps_the_shape(shape):
    snap = PROFILES.snap(np.full(shape, 7.2) * u.ms)
    assert snap.tau.shape == shape
    assert snap.index.shape == shape
    assert snap.index.dtype.kind == "i"
    assert snap.requested.shape == shape
    assert isinstance(snap.moved, bool)


def test_nearest_in_log_is_not_nearest_in_time():
    assert float(PROFILES.snap(3.3 * u.ms).tau / u.ms) == 5.0
    assert float(PROFILES.snap(3.0 * u.ms).tau / u.ms) == 2.0


def test_halfway_takes_the_shorter():
    assert float(TauProfiles([10, 40] * u.ms).snap(20 * u.ms).tau / u.ms) == 10.0


def test_float32_times_are_read_as_typed():
    assert not PROFILES.snap(jnp.asarray([0.01, 0.2], jnp.float32) * u.second).moved


@pytest.mark.parametrize(("tau", "moved"), [(10.0, False), (10.099, False), (9.901, False), (10.11, True), (9.8, True)])
def test_moved_means_by_more_than_one_percent(tau, moved):
    assert PROFILES.snap(np.array([20.0, tau]) * u.ms).moved is moved


def test_message_names_each_move_once():
    snap = PROFILES.snap(np.array([7.2, 7.2, 10.0, 30.0]) * u.ms)
    assert snap.message("H1v1Layer") == (
        "H1v1Layer: 3 of 4 requested tau moved to the nearest hardware profile: 7.2 -> 10 ms, 30 -> 20 ms; "
        "the chip offers 1, 2, 5, 10, 20, 50, 100, 200 ms."
    )


def test_message_shortens_a_long_list():
    text = PROFILES.snap(np.linspace(21.0, 44.0, 50) * u.ms).message("L")
    assert "and 44 more" in text
    assert text.count("->") == 6


def test_message_without_a_move():
    assert PROFILES.snap(5 * u.ms).message("L") == "L: every requested tau is a hardware profile to within 1%."


@pytest.mark.parametrize(
    ("tau", "error", "match"),
    [
        (0.0 * u.ms, ValueError, "greater than zero"),
        (-1.0 * u.ms, ValueError, "greater than zero"),
        (np.array([1.0, np.nan]) * u.ms, ValueError, "finite"),
        (np.inf * u.ms, ValueError, "finite"),
        (10.0 * u.mV, TypeError, "dimension of ms"),
        (10.0, TypeError, "Quantity"),
        (None, TypeError, "Quantity"),
    ],
)
def test_bad_tau_is_refused(tau, error, match):
    with pytest.raises(error, match=rf"TauProfiles\.snap: tau .*{match}"):
        PROFILES.snap(tau)
    with pytest.raises(error, match=r"H1v1Layer: tau "):
        PROFILES.snap(tau, call="H1v1Layer")


def test_traced_tau_is_refused():
    with pytest.raises(TypeError, match="tau must be concrete; got a traced value"):
        jax.jit(lambda t: PROFILES.snap(t * u.ms).tau.mantissa)(3.0)


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ([1.0, 1.0] * u.ms, ValueError, "strictly increasing; got 1 ms at index 0"),
        ([1.0, 5.0, 2.0] * u.ms, ValueError, "strictly increasing; got 5 ms at index 1 and 2 ms at index 2"),
        ([0.0, 1.0] * u.ms, ValueError, "greater than zero"),
        ([np.nan, 1.0] * u.ms, ValueError, "finite"),
        (10.0 * u.ms, ValueError, "a list of at least one"),
        (np.zeros(0) * u.ms, ValueError, "a list of at least one"),
        ([[1.0, 2.0]] * u.ms, ValueError, "a list of at least one"),
        ([1.0, 2.0], TypeError, "Quantity"),
        ([1.0, 2.0] * u.mV, TypeError, "dimension of ms"),
    ],
)
def test_bad_profiles_are_refused(values, error, match):
    with pytest.raises(error, match=rf"TauProfiles: values .*{match}"):
        TauProfiles(values)


def test_equal_by_value_hashable_frozen_and_picklable():
    again = TauProfiles(np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]) * u.second)
    assert again == PROFILES == H1V1.tau_profiles
    assert len({again, PROFILES}) == 1
    assert pickle.loads(pickle.dumps(PROFILES)) == PROFILES
    assert TauProfiles([1, 2] * u.ms) != PROFILES
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROFILES.values = None
    values = PROFILES.values
    values[0] = 7 * u.ms
    assert again == PROFILES
