"""Chip nets as NIR graphs: one sampled chip, whole-number weights, and what a reset by subtraction becomes."""

from __future__ import annotations

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import from_nir, to_nir

DT = 1.0 * u.ms
XS = (np.random.default_rng(0).random((80, 2, 6)) < 0.5).astype(np.float32)
OPTIONS = {"dt": DT, "sample": XS, "reset": "continuous"}
WEIGHTS = np.abs(np.random.default_rng(1).normal(0.5, 0.3, (6, 4))).astype(np.float32)


def chip(version: int, bits: int | None = None) -> brainstate.nn.Module:
    synapse, layer = ((bh.nn.H1v1Synapse, bh.nn.H1v1Layer), (bh.nn.H1v2Synapse, bh.nn.H1v2Layer))[version - 1]
    recurrent = np.full((4, 4), 0.1, np.float32)
    return brainstate.nn.Sequential(
        synapse(6, 4, weight_init=WEIGHTS * (0.6 if version == 1 else 1.5), weight_bits=bits),
        layer(4, tau=20.0 * u.ms, topology="RC", recurrent_init=recurrent),
    )


def spikes_of(net: brainstate.nn.Module) -> np.ndarray:
    return np.asarray(bh.rollout(net, XS)[0])


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_one_sampled_chip_is_exported_neuron_by_neuron(version: int) -> None:
    net = chip(version)
    nominal = to_nir(net, **OPTIONS).nodes["layers_1"].nodes["lif"]
    assert len(set(nominal.tau)) == 1
    bh.sample_chip(net, 7)
    graph = to_nir(net, **OPTIONS)
    sampled = graph.nodes["layers_1"].nodes["lif"]
    bh.prepare_net(net)
    np.testing.assert_allclose(sampled.tau, net.layers[1].chip_tau.value.to(u.second).mantissa, rtol=1e-6)
    assert len(set(sampled.tau)) == 4
    assert len(set(sampled.v_threshold)) == (1 if version == 1 else 4)
    spikes = spikes_of(net)
    assert spikes.sum() > 10
    np.testing.assert_array_equal(spikes, spikes_of(from_nir(graph, dt=DT)))


@pytest.mark.parametrize(("bits", "dtype"), [(5, np.int8), (12, np.int16)])
def test_rounded_weights_are_whole_numbers_and_a_scale_or_the_voltages_that_they_are(bits, dtype, tmp_path) -> None:
    net = chip(2, bits)
    nir.write(tmp_path / "net.nir", to_nir(net, **OPTIONS, weights="codes"))
    graph = nir.read(tmp_path / "net.nir")
    codes, step, floats = graph.nodes["layers_0"], graph.nodes["layers_0_step"], to_nir(net, **OPTIONS)
    assert codes.weight.dtype == dtype
    assert codes.metadata["brainhw"]["bits"] == bits
    np.testing.assert_array_equal(codes.weight, np.asarray(net.layers[0].effective.grid.codes(WEIGHTS * 1.5)).T)
    np.testing.assert_allclose(codes.weight * step.scale[:, None], floats.nodes["layers_0"].weight, rtol=1e-6)
    spikes = spikes_of(net)
    for each in (graph, floats):
        np.testing.assert_array_equal(spikes, spikes_of(from_nir(each, dt=DT)))


def test_a_sampled_chip_with_uneven_weights_has_no_whole_numbers() -> None:
    net = chip(2, 5)
    bh.sample_chip(net, 7, synapse=0.1)
    with pytest.raises(ValueError, match=r"layers\.0 \(H1v2Synapse\) belongs to a sampled chip, with weights that"):
        to_nir(net, **OPTIONS, weights="codes")


def test_a_curved_synapse_is_the_matrix_of_the_voltages_that_it_makes() -> None:
    net = chip(1)
    node = to_nir(net, dt=DT, sample=XS).nodes["layers_0"]
    volts = (net.layers[0].chip.charge(WEIGHTS * 0.6) / net.layers[0].chip.C).to(u.mV).mantissa
    share = 1 - np.float64(np.exp(np.float32(-0.05)))
    np.testing.assert_allclose(node.weight * share, np.asarray(volts).T, rtol=1e-5)


def test_a_subtraction_is_noted_and_comes_back_unless_zero_is_asked_for() -> None:
    net = chip(2)
    graph = to_nir(net, **OPTIONS)
    assert graph.metadata["brainhw"]["reset"] == "continuous"
    assert from_nir(graph, dt=DT).layers_1_lif.reset == "subtract"
    assert from_nir(graph, dt=DT, reset="zero").layers_1_lif.reset == "zero"


def test_in_ever_smaller_steps_both_resets_come_to_the_same_rate() -> None:
    currents = np.linspace(1.2, 3.0, 40, dtype=np.float32)
    ones = np.ones(len(currents))
    graph = nir.NIRGraph.from_list(nir.LIF(tau=0.02 * ones, r=ones, v_leak=0 * ones, v_threshold=ones))
    true = 1 / (0.02 * np.log(currents / (currents - 1)))
    errors = {}
    for dt in (1.0, 0.25):
        for reset in ("zero", "subtract"):
            net = from_nir(graph, dt=dt * u.ms, reset=reset)
            with brainstate.environ.context(dt=dt * u.ms):
                spikes, _ = bh.rollout(net, np.tile(currents, (int(2000 / dt), 1)))
            errors[reset, dt] = np.mean(np.abs(spikes.sum(0) / 2 / true - 1))
    assert errors["zero", 0.25] < 0.35 * errors["zero", 1.0] < 0.03
    assert errors["subtract", 1.0] < 0.6 * errors["zero", 1.0]
