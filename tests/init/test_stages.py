"""Pairing of synapses and layers: discovery, explicit pairs, families, and unsupported nets."""

from __future__ import annotations

import warnings
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.init.stages import discover_frontend, discover_stages

Sequential = brainstate.nn.Sequential
FAMILIES = ("H1v1", "H1v2")
family = pytest.mark.parametrize("family", FAMILIES)
TAU = 20 * u.ms


def synapse(family: str, n_in: int, n: int) -> Any:
    return getattr(bh.nn, f"{family}Synapse")(n_in, n, weight_init=np.zeros((n_in, n)))


def layer(family: str, n: int, **options: Any) -> Any:
    return getattr(bh.nn, f"{family}Layer")(n, tau=TAU, **options)


def frontend(family: str) -> Any:
    return getattr(bh.nn, f"{family}Frontend")()


class Net(brainstate.nn.Module):
    """A module with the given attributes, registered in the given order."""

    graph_invisible_attrs = ("layer_pairs", "frontend_stage")

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def stages_of(net: brainstate.nn.Module, **options: Any) -> Any:
    return discover_stages(net, call="test", **options)


@family
def test_pairs_are_found_in_registration_and_not_in_alphabetical_order(family: str) -> None:
    net = Net(z=synapse(family, 8, 4), y=layer(family, 4), b=synapse(family, 4, 3), a=layer(family, 3, topology="RC"))
    stages = stages_of(net)
    assert stages.frontend is None
    assert stages.pairs == [(net.z, net.y), (net.b, net.a)]
    assert stages.paths == ["y", "a"]


@family
def test_frontend_is_found_with_its_layer(family: str) -> None:
    net = Net(z=frontend(family), y=layer(family, 16), b=synapse(family, 16, 3), a=layer(family, 3))
    stages = stages_of(net)
    assert stages.frontend == (net.z, net.y)
    assert stages.pairs == [(net.b, net.a)]
    assert discover_frontend(net, call="test") == (net.z, net.y)


def test_pairs_inside_blocks_and_lists_are_found_with_their_paths() -> None:
    net = Net(
        last=Net(s=synapse("H1v1", 8, 4), n=layer("H1v1", 4)),
        first=[synapse("H1v1", 4, 6), layer("H1v1", 6)],
    )
    stages = stages_of(net)
    assert [pair[0].out_size for pair in stages.pairs] == [(4,), (6,)]
    assert stages.paths == ["last.n", "first.1"]


def test_what_is_neither_synapse_nor_layer_is_passed_over() -> None:
    net = Sequential(
        bh.nn.LIFSynapse(8, 4), brainstate.nn.Dropout(0.5), bh.nn.LIFLayer(4, TAU), bh.nn.LeakyReadout(4, 2, TAU)
    )
    assert len(stages_of(net, families="any").pairs) == 1


@family
def test_explicit_pairs_come_before_registration_order(family: str) -> None:
    net = Net(n_2=layer(family, 12), n_1=layer(family, 6), s_1=synapse(family, 32, 6), s_2=synapse(family, 6, 12))
    net.layer_pairs = [(net.s_1, net.n_1), [net.s_2, net.n_2]]
    stages = stages_of(net)
    assert stages.pairs == [(net.s_1, net.n_1), (net.s_2, net.n_2)]
    assert stages.paths == ["n_1", "n_2"]


def test_pointers_do_not_count_as_further_modules() -> None:
    """As in the vendor's example: a plain attribute, which the network's own traversal also sees."""

    class Visible(Net):
        graph_invisible_attrs = ()

    net = Visible(a=synapse("H1v1", 8, 4), b=layer("H1v1", 4, topology="RC"))
    net.layer_pairs = [(net.a, net.b)]
    assert stages_of(net).pairs == [(net.a, net.b)]


def test_explicit_frontend_comes_before_registration_order() -> None:
    net = Net(n_0=layer("H1v1", 16), n_1=layer("H1v1", 4), s_1=synapse("H1v1", 16, 4), front=frontend("H1v1"))
    net.frontend_stage = (net.front, net.n_0)
    net.layer_pairs = [(net.s_1, net.n_1)]
    stages = stages_of(net)
    assert stages.frontend == (net.front, net.n_0)
    assert discover_frontend(net, call="test") == (net.front, net.n_0)


SOFTWARE = {
    "LIF": lambda: (bh.nn.LIFSynapse(8, 4), bh.nn.LIFLayer(4, TAU)),
    "CubaLIF": lambda: (bh.nn.LIFSynapse(8, 8), bh.nn.CubaLIFLayer(4, 2)),
    "ALIF": lambda: (bh.nn.LIFSynapse(8, 4), bh.nn.ALIFLayer(4, w_rec=True)),
    "FractionalLIF": lambda: (bh.nn.LIFSynapse(8, 4), bh.nn.FractionalLIFLayer(4)),
    "FractionalIF": lambda: (bh.nn.LIFSynapse(8, 4), bh.nn.FractionalIFLayer(4)),
}


@pytest.mark.parametrize("kind", list(SOFTWARE))
def test_software_neurons_are_served_only_on_request(kind: str) -> None:
    net = Sequential(*SOFTWARE[kind]())
    assert len(stages_of(net, families="any").pairs) == 1
    with pytest.raises(ValueError, match="test: only H1v1 and H1v2 networks are supported; got LIFSynapse"):
        stages_of(net)


def test_chip_and_software_pairs_may_follow_each_other_on_request() -> None:
    net = Sequential(synapse("H1v1", 8, 4), layer("H1v1", 4), bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, TAU))
    assert len(stages_of(net, families="any").pairs) == 2
    with pytest.raises(ValueError, match="got LIFSynapse"):
        stages_of(net)


@pytest.mark.parametrize("families", FAMILIES)
def test_families_are_not_mixed(families: str) -> None:
    other = "H1v2" if families == "H1v1" else "H1v1"
    net = Sequential(synapse(families, 8, 4), layer(families, 4), synapse(other, 4, 4), layer(other, 4))
    for served in ("H1", "any"):
        with pytest.raises(ValueError, match="test: one network runs on one chip, but families are mixed"):
            stages_of(net, families=served)


def test_specs_of_one_family_are_not_mixed() -> None:
    cold = bh.chip.H1V1.replace(V_th=90 * u.mV)
    net = Sequential(synapse("H1v1", 8, 4), layer("H1v1", 4, chip=cold))
    with pytest.raises(ValueError, match="the specs of one family differ in V_th"):
        stages_of(net)


@family
def test_network_without_a_dense_pair_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match=r"test: the network has a frontend but no dense \(synapse, layer\) pair"):
        stages_of(Net(f=frontend(family), n=layer(family, 16)))
    for lonely in (layer(family, 4), brainstate.nn.Linear(4, 4)):
        with pytest.raises(ValueError, match=r"test: the network has no dense \(synapse, layer\) pair. Define each"):
            stages_of(Sequential(lonely))
    net = Net(n=layer(family, 4))
    net.layer_pairs = []
    with pytest.raises(ValueError, match="no dense"):
        stages_of(net)


def test_network_without_a_frontend_is_told_apart() -> None:
    with pytest.raises(ValueError, match=r"test: the network has no frontend\. Define an H1 frontend directly before"):
        discover_frontend(Sequential(synapse("H1v1", 8, 4), layer("H1v1", 4)), call="test")


def test_layer_before_its_synapse_makes_no_pair() -> None:
    net = Sequential(layer("H1v1", 8), synapse("H1v1", 8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no dense"):
            stages_of(net)


def test_synapse_that_stands_in_no_pair_is_warned_of() -> None:
    net = Sequential(synapse("H1v1", 8, 4), layer("H1v1", 4), synapse("H1v1", 4, 2))
    with pytest.warns(UserWarning, match=r"test: 1 synapse\(s\) belong to no pair, so their weights do not"):
        assert len(stages_of(net).pairs) == 1
    twice = Sequential(synapse("H1v1", 8, 4), synapse("H1v1", 8, 4), layer("H1v1", 4))
    with pytest.warns(UserWarning, match="1 synapse"):
        assert stages_of(twice).pairs == [(twice.layers[1], twice.layers[2])]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: (synapse("H1v1", 8, 4), layer("H1v1", 5)), "got 4 outputs and 5 inputs .5 neurons"),
        (
            lambda: (bh.nn.LIFSynapse(8, 4), bh.nn.CubaLIFLayer(4, 2)),
            "got 4 outputs and 8 inputs .4 neurons",
        ),
        (
            lambda: (frontend("H1v1"), layer("H1v1", 15), synapse("H1v1", 15, 2), layer("H1v1", 2)),
            "got 16 outputs and 15 inputs",
        ),
    ],
)
def test_sizes_must_fit(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"test: .*{message}"):
        stages_of(Sequential(*parts()), families="any")


def test_several_synapses_a_neuron_make_a_chain_by_their_neurons() -> None:
    net = Sequential(bh.nn.LIFSynapse(8, 12), bh.nn.CubaLIFLayer(6, 2), bh.nn.LIFSynapse(6, 5), bh.nn.LIFLayer(5, TAU))
    assert len(stages_of(net, families="any").pairs) == 2


def test_explicit_pairs_must_be_pairs_of_the_network_itself() -> None:
    net = Net(s=synapse("H1v1", 8, 4), n=layer("H1v1", 4))
    for given, error, message in (
        (5, TypeError, r"layer_pairs must be a list of \(synapse, layer\); got 5"),
        ([net.s], TypeError, r"layer_pairs must contain \(synapse, layer\); got"),
        ([(net.n, net.s)], TypeError, "layer_pairs must contain .*got .*H1v1Layer, H1v1Synapse"),
        ([(net.s, net.n, net.n)], TypeError, "layer_pairs must contain"),
        ([(synapse("H1v1", 8, 4), net.n)], ValueError, "layer_pairs contains a module that is not in the network"),
    ):
        net.layer_pairs = given
        with pytest.raises(error, match=f"test: {message}"):
            stages_of(net)
    net.layer_pairs = [(net.s, net.n)]
    net.frontend_stage = (net.s, net.n)
    with pytest.raises(TypeError, match=r"test: frontend_stage must contain \(frontend, layer\)"):
        stages_of(net)
    net.frontend_stage = (frontend("H1v1"), net.n)
    with pytest.raises(ValueError, match="test: frontend_stage contains a module that is not in the network"):
        discover_frontend(net, call="test")


def test_drive_of_another_kind_is_refused() -> None:
    net = Net(s=bh.nn.LIFSynapse(8, 4), n=layer("H1v1", 4))
    net.layer_pairs = [(net.s, net.n)]
    with pytest.raises(ValueError, match="test: the output of LIFSynapse cannot drive H1v1Layer"):
        stages_of(net, families="any")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no dense"):
            stages_of(Sequential(bh.nn.LIFSynapse(8, 4), layer("H1v1", 4)), families="any")


def test_explicit_pairs_that_leave_one_out_are_warned_of() -> None:
    net = Net(s=synapse("H1v1", 8, 4), n=layer("H1v1", 4), t=synapse("H1v1", 4, 3), m=layer("H1v1", 3))
    net.layer_pairs = [(net.s, net.n)]
    with pytest.warns(UserWarning, match=r"1 synapse\(s\) belong to no pair"):
        assert stages_of(net).pairs == [(net.s, net.n)]


def test_frozen_synapses_are_no_reason_to_warn() -> None:
    net = Net(
        s=bh.nn.LIFSynapse(8, 4), n=bh.nn.LIFLayer(4, tau=TAU), t=bh.nn.LIFSynapse(4, 3), m=bh.nn.LIFLayer(3, tau=TAU)
    )
    net.s.weight = brainstate.LongTermState(net.s.weight.value)
    net.layer_pairs = [(net.t, net.m)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stages_of(net, families="any").pairs == [(net.t, net.m)]
