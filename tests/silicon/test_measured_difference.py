"""The change between two measurements: by neuron, by setting, and the fields of the spec that differ."""

import brainunit as u
import numpy as np
import pytest
from silicon_chips import measured

import brainhw as bh
from brainhw.silicon import ChipDifference, MeasuredChip


def test_later_minus_earlier_where_both_are_known():
    old = measured()
    tau, V_th = 1.1 * old.tau, old.V_th + 2 * u.mV
    new = MeasuredChip(old.spec, tau, V_th)
    change = old.difference(new)
    np.testing.assert_allclose(change.tau.mantissa, 0.1 * old.tau.mantissa, rtol=1e-9)
    np.testing.assert_allclose(change.V_th.mantissa[old.known_V_th], 2.0)
    np.testing.assert_array_equal(np.isnan(change.V_th.mantissa), ~old.known_V_th)
    assert change.fields == ()


def test_the_table_holds_mean_spread_and_the_largest_change_with_its_neuron():
    old = measured("H1v2", holes=False)
    V_th = old.V_th.mantissa + np.where(np.arange(200) == 17, -20.0, 1.0)
    text = str(old.difference(MeasuredChip(old.spec, old.tau, V_th * u.mV)))
    cells = next(row for row in text.splitlines() if "V_th" in row).split()[2:]
    change = V_th - old.V_th.mantissa
    numbers = (old.V_th.mantissa.mean(), V_th.mean(), 179 / 200, np.std(change), -20)
    assert cells == [*(f"{number:.4g}" for number in numbers), "17", "200", "of", "200"]


def test_fields_of_the_spec_that_differ_are_listed():
    old = measured()
    spec = old.spec.replace(C=85 * u.ffarad, leak_mismatch_std=(0.1,) * 8, notes={"V_th": "a note is no value"})
    change = old.difference(MeasuredChip(spec, old.tau, old.V_th))
    assert change.fields == ("C", "leak_mismatch_std")
    assert "85 fF" in str(change)


def test_two_tables_that_differ_inside_are_told_apart():
    old = measured()
    charges = old.spec.charge.charges.mantissa.copy()
    charges[7] += 1e-6
    spec = old.spec.replace(charge=bh.chip.TabulatedCharge(old.spec.charge.weights, charges * u.fcoulomb))
    assert old.difference(MeasuredChip(spec, old.tau, old.V_th)).fields == ("charge",)


def test_chips_that_cannot_be_compared_are_refused():
    one, other = measured("H1v1"), measured("H1v2")
    with pytest.raises(ValueError, match=r"ChipDifference: .*cores; got \(64, 64, 64, 64\) and \(50, 50, 100\)"):
        one.difference(other)
    with pytest.raises(TypeError, match=r"MeasuredChip\.difference: other"):
        one.difference(one.spec)
    with pytest.raises(TypeError, match="ChipDifference: before"):
        ChipDifference(one.spec, one)
    spec = one.spec.replace(tau_profiles=bh.chip.TauProfiles([5, 10] * u.ms), leak_mismatch_std=None)
    few = MeasuredChip(spec, one.tau[:2], one.V_th)
    with pytest.raises(ValueError, match="leak settings; got 8 and 2"):
        one.difference(few)
