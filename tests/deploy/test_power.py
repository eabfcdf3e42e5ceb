"""The bill adds up, by hand and by property."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import Chain, lively, strong

import brainhw as bh
from brainhw.chip import H1V2


def uJ(energy: u.Quantity) -> float:
    return float(energy.to(u.ujoule).mantissa)


@pytest.fixture(scope="module")
def bill() -> bh.deploy.PowerReport:
    with brainstate.environ.context(dt=1.0 * u.ms):
        return bh.deploy.estimate_power(strong("H1v1", frontend=True), lively(scale=30))


def test_a_small_case_by_hand() -> None:
    chip = H1V2.replace(core_power=10 * u.uwatt, spike_energy=2 * u.njoule, event_energy=3 * u.njoule)
    # 0.45 fC a unit weight over 100 fF: 1.6 of weight from each of 15 inputs is 108 mV, one spike a step.
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(15, 2, weight_init=np.repeat([[1.6, 0.0]], 15, axis=0), chip=chip),
        bh.nn.H1v2Layer(2, tau=10 * u.ms, chip=chip),
        bh.nn.H1v2Synapse(2, 3, weight_init=np.array([[0.1, 0.0, -0.1], [0.1, 0.1, 0.1]]), chip=chip),
        bh.nn.H1v2Layer(3, tau=10 * u.ms, chip=chip),
    )
    report = bh.deploy.estimate_power(net, jnp.ones((20, 1, 15)))
    assert report.spikes == {"layers.1": 20.0, "layers.3": 0.0}
    assert report.silent == {"layers.1": 1, "layers.3": 3}
    # Inputs: 15 x 20 spikes to one weight that is not zero, of two. Hidden: 20 spikes to two of three.
    assert report.synaptic_events == 300 + 40
    assert report.synops == 600 + 60
    assert uJ(report.energy_of("core")) == pytest.approx(10 * 0.020)
    assert uJ(report.energy_of("spike")) == pytest.approx(20 * 2e-3)
    assert uJ(report.energy_of("event")) == pytest.approx(340 * 3e-3)
    assert uJ(report.energy) == pytest.approx(0.2 + 0.04 + 1.02)
    assert float(report.power.to(u.uwatt).mantissa) == pytest.approx((0.2 + 0.04 + 1.02) / 0.020)
    assert report.weight_bits == 5 * (30 + 6)
    assert report.duration == 20 * u.ms


def test_parts_add_up_and_carry_their_provenance(bill) -> None:
    kinds = ("core", "frontend", "spike", "event")
    assert uJ(bill.energy) == pytest.approx(sum(uJ(bill.energy_of(kind)) for kind in kinds))
    assert sum(uJ(energy) for energy in bill.by_core.values()) + uJ(bill.energy_of("frontend")) == pytest.approx(
        uJ(bill.energy)
    )
    assert uJ(bill.energy_of("frontend")) == pytest.approx(16 * 2.0 * 0.040)
    assert sum(bill.spikes.values()) > 10
    for cost in bill.costs:
        assert bill.chip.provenance[cost.coefficient] == "assumed"
    text = str(bill)
    for words in ("assumed", "spike_energy 5 pJ", "events into layer0", "frontend", "total", "SynOps"):
        assert words in text
    measured = H1V2.replace(spike_energy=4 * u.pjoule, provenance="measured")
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(2, 2, chip=measured), bh.nn.H1v2Layer(2, 10 * u.ms, chip=measured))
    assert "measured" in str(bh.deploy.estimate_power(net, jnp.ones((3, 2))))


def test_counts_are_those_of_the_spikes_recorded() -> None:
    net, xs = strong("H1v2"), lively(batch=5)
    report = bh.deploy.estimate_power(net, xs)
    _, seen = bh.rollout(net, xs, record=("layer0.spk", "layer1.spk"))
    hidden, out = (np.asarray(seen[f"layer{i}.spk"]).sum(axis=(0, 1)) / 5 for i in (0, 1))
    assert report.spikes["layer0"] == pytest.approx(hidden.sum())
    assert report.spikes["layer1"] == pytest.approx(out.sum())
    events = np.abs(xs).sum() / 5 * 12 + hidden.sum() * 12 + hidden.sum() * 6  # no weight of these nets is zero
    assert report.synaptic_events == pytest.approx(float(events), rel=1e-5)


@pytest.mark.slow
def test_more_of_the_same_data_costs_the_same_an_inference() -> None:
    net, xs = strong("H1v2"), lively(batch=2)
    once, often = (bh.deploy.estimate_power(net, jnp.tile(xs, (1, n, 1))) for n in (1, 40))  # 80: more than one batch
    assert uJ(often.energy) == pytest.approx(uJ(once.energy), rel=1e-5)
    assert often.n_samples == 80


@pytest.mark.parametrize("coefficient", ["core_power", "spike_energy", "event_energy", "frontend_channel_power"])
def test_the_bill_is_linear_in_every_coefficient(coefficient: str, bill) -> None:
    kind = coefficient.split("_", maxsplit=1)[0]
    spec = bill.chip.replace(**{coefficient: 3 * getattr(bill.chip, coefficient)})
    net = strong("H1v1", frontend=True)
    for module in net.nodes().values():
        if hasattr(module, "chip"):
            module.chip = spec
    dearer = bh.deploy.estimate_power(net, lively(scale=30))
    assert uJ(dearer.energy_of(kind)) == pytest.approx(3 * uJ(bill.energy_of(kind)))
    assert uJ(dearer.energy) - uJ(bill.energy) == pytest.approx(2 * uJ(bill.energy_of(kind)))


def test_the_net_stays_as_it_was() -> None:
    net = strong("H1v2")
    bh.prepare_net(net, 2)
    net(lively()[0, :2])
    before = {path: np.asarray(u.get_mantissa(state.value)) for path, state in net.states().items()}
    bh.deploy.estimate_power(net, lively())
    for path, state in net.states().items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), before[path])


def test_what_cannot_be_billed_is_refused() -> None:
    net = strong("H1v2")
    with pytest.raises(
        ValueError, match=r"estimate_power: xs must be a non-empty array of shape \[T, B, N\] or \[T, N\]"
    ):
        bh.deploy.estimate_power(net, jnp.ones(3))
    with pytest.raises(ValueError, match="estimate_power: xs"):
        bh.deploy.estimate_power(net, np.full((3, 2, 16), np.nan))
    net.gain_before = 1
    with pytest.raises(ValueError, match="estimate_power: the connections of the network cannot be determined"):
        bh.deploy.estimate_power(net, lively())
    large = Chain("H1v1", [4, 250, 20], topologies=["FF", "FF"], frontend=False)
    with pytest.raises(bh.deploy.PlacementError, match="270"):
        bh.deploy.estimate_power(large, jnp.ones((3, 4)))
