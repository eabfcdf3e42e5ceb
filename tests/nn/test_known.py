"""What is known of a chip in place: kept by every way of sampling, value by value, and spreads of each leak profile."""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.nn.known import checked_masks, keep_known

H1V2 = bh.chip.H1V2


def layer_with(tau_known=(), V_th_known=(), n=6, **given):
    layer = bh.nn.H1v2Layer(n, tau=20 * u.ms, **given)
    layer.pinned_tau.value = jnp.arange(11.0, 11.0 + n) * u.ms
    layer.pinned_V_th.value = jnp.arange(91.0, 91.0 + n) * u.mV
    masks = {name: np.isin(np.arange(n), known) for name, known in (("tau", tau_known), ("V_th", V_th_known))}
    layer.known = checked_masks(layer, masks, call="test")
    return layer


def test_a_neuron_may_have_one_value_known_and_the_other_not():
    layer = layer_with(tau_known=(0, 1), V_th_known=(1, 2))
    free = bh.nn.H1v2Layer(6, tau=20 * u.ms)
    for one in (layer, free):
        bh.sample_chip(one, 4)
    tau, V_th = layer.pinned_tau.value.mantissa, layer.pinned_V_th.value.mantissa
    np.testing.assert_array_equal(tau[:2], [11, 12])
    np.testing.assert_array_equal(V_th[1:3], [92, 93])
    # The rest is drawn as without knowledge, to the bit.
    np.testing.assert_array_equal(tau[2:], free.pinned_tau.value.mantissa[2:])
    rest = np.array([0, 3, 4, 5])
    np.testing.assert_array_equal(V_th[rest], free.pinned_V_th.value.mantissa[rest])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_key_of_one_preparation_keeps_what_is_known(compiled):
    layer = layer_with(tau_known=(0, 5))
    prepare = lambda: bh.prepare_net(layer, key=3)  # noqa: E731
    (brainstate.transform.jit(prepare) if compiled else prepare)()
    chip = layer.chip_tau.value.mantissa
    np.testing.assert_array_equal(chip[np.array([0, 5])], [11, 16])
    assert not np.isin(np.asarray(chip)[1:5], np.arange(11, 17)).any()
    # The chip in place is as it was.
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, np.arange(11, 17))


def test_a_kind_that_is_switched_off_is_left_alone():
    layer = layer_with(tau_known=(0,), V_th_known=(0,))
    bh.sample_chip(layer, 1, leak=False)
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, np.arange(11, 17))
    assert layer.pinned_V_th.value.mantissa[0] == 91


def test_the_nominal_chip_forgets():
    layer = layer_with(tau_known=(0, 1), V_th_known=(2,))
    bh.nominal_chip(layer)
    assert layer.known == {}
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, np.full(6, 20))
    bh.sample_chip(layer, 1)
    assert not np.any(layer.pinned_tau.value.mantissa == 20)


def test_without_knowledge_nothing_is_computed():
    layer = bh.nn.H1v2Layer(6, tau=20 * u.ms)
    values = layer.nominal()
    assert keep_known(layer, values) is values
    assert layer.known == {}


def test_marks_of_another_shape_or_name_are_refused():
    layer = bh.nn.H1v2Layer(6, tau=20 * u.ms)
    with pytest.raises(ValueError, match=r"test: the mask of tau must have shape \(6,\); got shape \(5,\)"):
        checked_masks(layer, {"tau": np.ones(5)}, call="test")
    with pytest.raises(ValueError, match=r"test: 'C' is not a chip value of H1v2Layer \(its values: tau, V_th\)"):
        checked_masks(layer, {"C": np.ones(6)}, call="test")
    assert checked_masks(layer, {"tau": np.zeros(6)}, call="test") == {}


def test_each_leak_profile_has_its_own_spread():
    spreads = (0.0, 0.0, 0.0, 0.1, 0.4, 0.0, 0.0, 0.0)
    chip = H1V2.replace(leak_mismatch_std=spreads, threshold_mismatch_std=None)
    taus = np.tile([5.0, 10.0, 20.0], 4000) * u.ms
    layer = bh.nn.H1v2Layer(12000, tau=taus, chip=chip)
    bh.sample_chip(layer, 0)
    logs = np.log(np.asarray(layer.pinned_tau.value.mantissa) / taus.mantissa).reshape(-1, 3)
    assert np.all(logs[:, 0] == 0)
    np.testing.assert_allclose(logs[:, 1:].std(0), [0.1, 0.4], rtol=0.04)
    # One number for all profiles is the draw that it was.
    for spread in (0.1, (0.1,) * 8):
        same = bh.nn.H1v2Layer(12000, tau=taus, chip=H1V2.replace(leak_mismatch_std=spread))
        bh.sample_chip(same, 0)
        np.testing.assert_array_equal(
            np.asarray(same.pinned_tau.value.mantissa)[1::3], np.asarray(layer.pinned_tau.value.mantissa)[1::3]
        )
    # A size of one's own takes the place of all.
    bh.sample_chip(layer, 0, leak=0.2)
    logs = np.log(np.asarray(layer.pinned_tau.value.mantissa) / taus.mantissa).reshape(-1, 3)
    np.testing.assert_allclose(logs.std(0), 0.2, rtol=0.04)
