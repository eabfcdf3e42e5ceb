"""A measured curve may move charge at weight zero: such a synapse is an event, and shifts the mean of a start."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

WEIGHTS = np.linspace(-1.66, 1.66, 31)


def chip_with(offset):
    curve = bh.chip.TabulatedCharge(WEIGHTS, (0.45 * WEIGHTS + offset) * u.fcoulomb)
    return bh.chip.H1V2.replace(charge=curve, provenance="measured")


def net_of(chip, weights):
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(*weights.shape, chip=chip, weight_init=jnp.asarray(weights, jnp.float32)),
        bh.nn.H1v2Layer(weights.shape[1], tau=20 * u.ms, chip=chip),
    )


def test_a_synapse_of_weight_zero_brings_its_charge():
    net = net_of(chip_with(0.05), np.zeros((3, 2)))
    bh.prepare_net(net)
    np.testing.assert_allclose(net.layers[0](jnp.ones(3)).mantissa, 0.15, rtol=1e-5)


@pytest.mark.parametrize(("offset", "events"), [(0.0, 3), (0.05, 6), (-0.001, 6)])
def test_it_is_an_event_of_the_power_estimate(offset, events):
    net = net_of(chip_with(offset), np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    report = bh.deploy.estimate_power(net, jnp.ones((10, 1, 3)))
    assert report.synaptic_events == 10 * events
    assert report.synops == 60
    cost = next(cost for cost in report.costs if cost.kind == "event")
    np.testing.assert_allclose(cost.energy.to(u.pjoule).mantissa, 10 * events * 0.5)


def test_recurrent_synapses_of_weight_zero_count_too():
    chip = chip_with(0.05)
    layer = bh.nn.H1v2Layer(2, tau=20 * u.ms, topology="RC", recurrent_init=jnp.zeros((2, 2)), chip=chip)
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(3, 2, chip=chip, weight_init=jnp.full((3, 2), 1.6)), layer)
    report = bh.deploy.estimate_power(net, jnp.ones((10, 1, 3)))
    fired = report.spikes["layers.1"]
    assert fired > 2
    assert report.synaptic_events == 60 + 2 * fired


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-0.05, -0.01, 0.03])
def test_a_start_reaches_its_target_all_the_same(offset):
    xs = (np.random.default_rng(0).random((8, 200, 40)) < 0.05).astype(np.float32)
    reports = {}
    for q0 in (0.0, offset):
        brainstate.random.seed(0)
        net = net_of(chip_with(q0), np.zeros((40, 100)))
        bh.fluct_init(net, [xs], key=0)
        reports[q0] = bh.fluct_report(net, [xs]).layers[0], float(net.layers[0].weight.value.mean())
    (flat, mean), (bent, shifted) = reports[0.0], reports[offset]
    assert abs(np.median(bent.xi) / np.median(flat.xi) - 1) < 0.03
    np.testing.assert_allclose(np.median(bent.membrane_sd.mantissa), np.median(flat.membrane_sd.mantissa), rtol=0.03)
    # The weights take the offset back.
    np.testing.assert_allclose(shifted - mean, -offset / 0.45, atol=0.01)
