"""MeasuredChip: one unit a value, NaN for what is not known, every bad value named, equal by value."""

import copy
import pickle

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from silicon_chips import measured

import brainhw as bh
from brainhw.silicon import MeasuredChip

H1V2 = bh.chip.H1V2
TAU, V_TH = np.full((8, 200), 20.0), np.full(200, 95.0)


def test_values_are_kept_in_one_unit_as_exact_numbers():
    one = MeasuredChip(H1V2, TAU * u.ms, V_TH * u.mV)
    other = MeasuredChip(H1V2, 1e-3 * TAU * u.second, jnp.float32(0.095) * jnp.ones(200) * u.volt)
    assert (one.tau.unit, one.V_th.unit, other.tau.unit, other.V_th.unit) == (u.ms, u.mV, u.ms, u.mV)
    assert one.tau.mantissa.dtype == other.V_th.mantissa.dtype == np.float64
    np.testing.assert_allclose(other.tau.mantissa, TAU, rtol=1e-12)


def test_nan_is_what_was_not_measured():
    tau, V_th = TAU.copy(), V_TH.copy()
    tau[3, 5:9], V_th[7] = np.nan, np.nan
    chip = MeasuredChip(H1V2, tau * u.ms, V_th * u.mV)
    np.testing.assert_array_equal(~chip.known_tau, np.isnan(tau))
    np.testing.assert_array_equal(~chip.known_V_th, np.isnan(V_th))
    assert (chip.n_settings, chip.n_neurons) == (8, 200)


def test_it_cannot_be_changed():
    tau = TAU.copy()
    chip = MeasuredChip(H1V2, tau * u.ms, V_TH * u.mV)
    tau[:] = 1.0
    np.testing.assert_array_equal(chip.tau.mantissa, TAU)
    with pytest.raises(ValueError, match="read-only"):
        chip.tau.mantissa[0] = 1.0


def test_equal_by_value_copied_and_pickled():
    chip = measured()
    for again in (measured(), copy.deepcopy(chip), pickle.loads(pickle.dumps(chip))):
        assert again == chip
        assert hash(again) == hash(chip)
    assert measured(seed=1) != chip
    assert MeasuredChip(chip.spec, chip.tau, chip.V_th) != chip
    assert chip != "chip 7"


@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("spec", "H1v2", TypeError, "spec must be"),
        ("notes", 3, TypeError, "notes must be text"),
        ("tau", TAU, TypeError, "tau must be a Quantity"),
        ("tau", TAU * u.mV, TypeError, "tau must be a Quantity"),
        ("tau", TAU[:7] * u.ms, ValueError, r"tau must have shape \(8, 200\).*\(7, 200\)"),
        ("tau", TAU.T * u.ms, ValueError, r"tau must have shape \(8, 200\).*\(200, 8\)"),
        ("tau", np.where(TAU > 0, 0.0, 0.0) * u.ms, ValueError, r"tau .*got 0 ms at \(0, 0\) \(1600"),
        ("V_th", np.where(np.arange(200) == 3, np.inf, 95) * u.mV, ValueError, r"V_th .*got inf mV at \(3,\) \(1 "),
        ("V_th", np.where(np.arange(200) == 3, -1, 95) * u.mV, ValueError, r"V_th .*got -1 mV at \(3,\)"),
        ("V_th", 95 * u.mV, ValueError, r"V_th must have shape \(200,\)"),
        ("tau_error", -0.1 * TAU * u.ms, ValueError, "tau_error .*not negative.*got -2 ms"),
        ("V_th_error", V_TH * u.ms, TypeError, "V_th_error must be a Quantity"),
        ("V_th", V_TH * 1j * u.mV, TypeError, "V_th must be real"),
    ],
)
def test_every_bad_value_is_refused_by_name(name, value, error, match):
    given = {"spec": H1V2, "tau": TAU * u.ms, "V_th": V_TH * u.mV, name: value}
    with pytest.raises(error, match=f"^MeasuredChip: {match}"):
        MeasuredChip(**given)


def test_traced_values_are_refused():
    with pytest.raises(TypeError, match=r"MeasuredChip: tau .*outside of jit"):
        jax.jit(lambda tau: MeasuredChip(H1V2, tau * u.ms, V_TH * u.mV).n_neurons)(TAU)


def test_the_table_shows_mean_spread_and_how_many_are_known():
    text = str(measured())
    assert "234 of 256 neurons measured" in text  # 12 and its multiples lack both
    assert "170 of 256" in text
    assert "192 of 256" in text
    assert "1.5 mV per step" in text
    assert "notes   bench 3" in text
    unknown = MeasuredChip(H1V2, np.full((8, 200), np.nan) * u.ms, np.full(200, np.nan) * u.mV)
    assert "0 of 200 neurons measured" in str(unknown)
