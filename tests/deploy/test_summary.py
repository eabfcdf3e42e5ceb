"""The summary of a network on its chip."""

from __future__ import annotations

import brainstate
import brainunit as u
import pytest
from deploy_nets import Chain

import brainhw as bh


def test_layers_wiring_weights_and_cores() -> None:
    net = Chain("H1v1", [5, 8, 4], topologies=["FF", "RC"], frontend=True)
    found = bh.deploy.summary(net)
    placement = bh.deploy.place(net)
    assert [(one.path, one.source, one.synapse, one.weights) for one in found.layers] == [
        ("frontend", "input", "ears", (16,)),
        ("layer0", "frontend", "syn0", (16, 8)),
        ("layer1", "layer0", "syn1", (8, 4)),
    ]
    assert [one.topology for one in found.layers] == ["FF", "FF", "RC"]
    assert [one.n_neurons for one in found.layers] == [16, 8, 4]
    for one in found.layers:
        assert set(one.cores) == set(placement.core_of(one.path).tolist())
    assert [tau.mantissa for tau in found.layers[1].tau] == [20.0]
    assert found.n_weights == sum(weight.master.value.size for weight in bh.nn.chip_weights(net).values())
    assert (found.output, found.sampled) == ("layer1", False)
    assert found.report == bh.check_deployable(net)
    assert str(found).startswith("on the nominal chip of H1v1 (family H1v1): 28 of 256 neurons")
    bh.sample_chip(net, 1)
    assert bh.deploy.summary(net).sampled


def test_a_net_that_does_not_fit_has_no_cores() -> None:
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(3, 300, weight_bits="chip"), bh.nn.H1v2Layer(300, tau=20 * u.ms))
    found = bh.deploy.summary(net)
    assert found.layers[0].cores == ()
    assert found.layers[0].bits == 5
    assert "not deployable: " in str(found)
    assert "neurons on chip" in str(found)


@pytest.mark.parametrize("net", [None, bh.nn.LIFSynapse(2, 3)])
def test_other_things_are_refused(net: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^summary: "):
        bh.deploy.summary(net)
