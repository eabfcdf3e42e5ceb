"""What comes back from a NIR graph is what went in: weights to the bit, the same spikes, with or without a file."""

from __future__ import annotations

import pathlib

import brainstate
import brainunit as u
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.interop.nir import NIRNet, from_nir, to_nir

DT = 1.0 * u.ms
RNG = np.random.default_rng(5)
SPIKES = (RNG.random((60, 2, 5)) < 0.4).astype(np.float32)


def weights(*shape: int, seed: int = 0, mean: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.5, shape).astype(np.float32)


def two_layers(tau=20.0 * u.ms, V_th=1.0 * u.mV, topology: str = "RC") -> brainstate.nn.Sequential:
    recurrent = {"recurrent_init": weights(4, 4, seed=3, mean=0.0) * u.mV} if topology == "RC" else {}
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(5, 4, weight_init=weights(5, 4) * u.mV),
        bh.nn.LIFLayer(4, tau=tau, V_th=V_th, reset="zero", topology=topology, **recurrent),
        bh.nn.LIFSynapse(4, 3, weight_init=weights(4, 3, seed=1) * u.mV),
        bh.nn.LIFLayer(3, tau=9.0 * u.ms, reset="zero"),
        bh.nn.LeakyReadout(3, 2, tau=15.0 * u.ms, weight_init=weights(3, 2, seed=2), bias=True),
    )


def through_file(graph: nir.NIRGraph, folder: pathlib.Path) -> nir.NIRGraph:
    nir.write(folder / "net.nir", graph)
    return nir.read(folder / "net.nir")


def arrays(graph: nir.NIRGraph) -> dict[str, np.ndarray]:
    found = {}
    for name, node in graph.nodes.items():
        inner = arrays(node) if isinstance(node, nir.NIRGraph) else vars(node)
        found |= {f"{name}.{key}": value for key, value in inner.items() if isinstance(value, np.ndarray)}
    return found


def learnt(net: brainstate.nn.Module) -> list[np.ndarray]:
    leaves = [np.asarray(u.get_mantissa(state.value)) for state in net.states(brainstate.ParamState).values()]
    return sorted(leaves, key=lambda leaf: (leaf.shape, leaf.sum()))


@pytest.mark.parametrize("options", [{}, {"gain": "R"}, {"discretisation": "euler"}, {"voltage_unit": u.volt}], ids=str)
def test_weights_come_back_to_the_bit_and_so_do_the_spikes_and_the_outputs(options: dict, tmp_path) -> None:
    net = two_layers()
    back = from_nir(through_file(to_nir(net, dt=DT, **options), tmp_path), dt=DT)
    assert isinstance(back, NIRNet)
    assert all(np.array_equal(a, b) for a, b in zip(learnt(net), learnt(back), strict=True))
    ys, seen = bh.rollout(net, SPIKES, record=("layers.3.spk",))
    again, seen_again = bh.rollout(back, SPIKES, record=("layers_3.spk",))
    assert seen["layers.3.spk"].sum() > 10
    np.testing.assert_array_equal(seen["layers.3.spk"], seen_again["layers_3.spk"])
    np.testing.assert_array_equal(ys, again)


@settings(max_examples=5, derandomize=True, deadline=None)
@given(
    taus=st.lists(st.floats(1.5, 200.0, width=32), min_size=4, max_size=4),
    thresholds=st.lists(st.floats(0.25, 4.0, width=32), min_size=4, max_size=4),
    dt=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
    alike=st.booleans(),
)
def test_whatever_the_parameters_a_round_trip_changes_no_weight_and_no_spike(taus, thresholds, dt, alike) -> None:
    tau, V_th = (taus[0], thresholds[0]) if alike else (np.array(taus), np.array(thresholds))
    net = two_layers(tau * u.ms, V_th * u.mV)
    graph = to_nir(net, dt=dt * u.ms)
    back = from_nir(graph, dt=dt * u.ms)
    assert all(np.array_equal(a, b) for a, b in zip(learnt(net), learnt(back), strict=True))
    np.testing.assert_array_equal(net.layers[1].V_th.mantissa, back.layers_1_lif.V_th.mantissa)
    with brainstate.environ.context(dt=dt * u.ms):
        ys, again = (bh.rollout(each, SPIKES[:40])[0] for each in (net, back))
    np.testing.assert_array_equal(ys, again)


def test_every_array_of_a_graph_survives_a_file_to_the_bit(tmp_path) -> None:
    graph = to_nir(two_layers(np.array([5.0, 7.0, 9.0, 11.0]) * u.ms), dt=DT)
    before, after = arrays(graph), arrays(through_file(graph, tmp_path))
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert array.dtype == after[name].dtype, name
        np.testing.assert_array_equal(array, after[name], err_msg=name)


def test_the_same_net_in_seconds_and_volts_gives_the_same_arrays() -> None:
    one, other = two_layers(), two_layers(0.02 * u.second, 1e-3 * u.volt)
    first, second = to_nir(one, dt=1.0 * u.ms), to_nir(other, dt=1e-3 * u.second)
    for name, array in arrays(first).items():
        np.testing.assert_array_equal(array, arrays(second)[name], err_msg=name)


def test_numbers_are_millivolts_unless_another_unit_is_asked_for() -> None:
    net = two_layers(topology="FF")
    in_mV, in_V = to_nir(net, dt=DT), to_nir(net, dt=DT, voltage_unit=1 * u.volt)
    np.testing.assert_allclose(in_V.nodes["layers_0"].weight * 1000, in_mV.nodes["layers_0"].weight, rtol=1e-14)
    np.testing.assert_allclose(in_mV.nodes["layers_1"].v_threshold, 1.0, rtol=1e-7)
    np.testing.assert_allclose(in_V.nodes["layers_1"].v_threshold, 0.001, rtol=1e-7)
    assert in_V.metadata["brainhw"]["millivolts_per_unit"] == 1000.0


def test_a_recurrent_layer_becomes_the_four_nodes_that_other_readers_know() -> None:
    graph = to_nir(two_layers(), dt=DT).nodes["layers_1"]
    assert {name: type(node).__name__ for name, node in graph.nodes.items()} == {
        "input": "Input",
        "lif": "LIF",
        "w_rec": "Linear",
        "output": "Output",
    }
    assert set(graph.edges) == {("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")}


def test_an_imported_chain_runs_layer_by_layer_and_learns() -> None:
    from brainhw.transform.rollout import plan_layerwise

    back = from_nir(to_nir(two_layers(), dt=DT), dt=DT)
    bh.prepare_net(back, 2)
    assert len(plan_layerwise(back, jnp.asarray(SPIKES[0]), call="test").modules) == 5
    gradients = brainstate.transform.grad(
        lambda: jnp.sum(bh.rollout(back, SPIKES[:20])[0] ** 2), back.states(brainstate.ParamState)
    )()
    assert all(np.any(u.get_mantissa(leaf)) for leaf in gradients.values())


def test_the_net_is_left_as_it_was() -> None:
    net = two_layers()
    bh.prepare_net(net, 2)
    for x in SPIKES[:3]:
        net(jnp.asarray(x))
    held = {path: np.array(u.get_mantissa(state.value)) for path, state in net.states().items()}
    attributes = [set(vars(module)) for module in net.nodes().values()]
    to_nir(net, dt=2.0 * u.ms)
    for path, state in net.states().items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), held[path])
    assert [set(vars(module)) for module in net.nodes().values()] == attributes


MULTI = {"max_spikes_per_step": 1, "tau_mem": 20.0 * u.ms, "tau_syn": 6.0 * u.ms}
CURRENT_BASED = {
    "CubaLIF": lambda: bh.nn.CubaLIFLayer(4, bias=0.02 * u.mV, **MULTI),
    "recurrent CubaLIF": lambda: bh.nn.CubaLIFLayer(4, w_rec=weights(4, 4, seed=3, mean=0) * 0.1 * u.mV, **MULTI),
    "two synapses": lambda: bh.nn.CubaLIFLayer(
        4, 2, **{**MULTI, "tau_syn": [[3.0, 9.0]] * u.ms}, w_rec=weights(4, 8, seed=3, mean=0) * 0.1 * u.mV
    ),
    "ALIF": lambda: bh.nn.ALIFLayer(4, tau_ahp=40.0 * u.ms, w_ahp=-0.2 * u.mV, **MULTI),
    "ALIF by decays": lambda: bh.nn.ALIFLayer(
        4, leak="decays", alpha=0.9, beta=0.8, gamma=0.95, w_ahp=-0.2 * u.mV, max_spikes_per_step=1
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CURRENT_BASED)
def test_current_based_layers_come_back_with_the_same_spikes(kind: str) -> None:
    layer = CURRENT_BASED[kind]()
    n = 4 * layer.n_synapses
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(5, n, weight_init=weights(5, n) * 0.1 * u.mV), layer)
    back = from_nir(to_nir(net, dt=DT, reset="continuous"), dt=DT)
    spikes, again = (bh.rollout(each, SPIKES)[0] for each in (net, back))
    assert spikes.sum() > 10
    np.testing.assert_array_equal(spikes, again)


def test_a_neuron_that_never_resets_is_an_integrator_and_a_threshold() -> None:
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(5, 4, weight_init=weights(5, 4) * 0.5 * u.mV), bh.nn.LIFLayer(4, tau=9.0 * u.ms, reset="none")
    )
    graph = to_nir(net, dt=DT)
    assert [type(node).__name__ for node in graph.nodes.values()] == ["Input", "Linear", "LI", "Threshold", "Output"]
    spikes, again = (bh.rollout(each, SPIKES)[0] for each in (net, from_nir(graph, dt=DT)))
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(spikes, again)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_of_brainstate_is_a_synapse(bias: bool) -> None:
    b_init = weights(4, seed=4) * 0.1 * u.mV if bias else None
    linear = brainstate.nn.Linear((5,), (4,), w_init=weights(5, 4) * u.mV, b_init=b_init)
    net = brainstate.nn.Sequential(linear, bh.nn.LIFLayer(4, tau=9.0 * u.ms, reset="zero"))
    graph = to_nir(net, dt=DT)
    assert type(graph.nodes["layers_0"]).__name__ == ("Affine" if bias else "Linear")
    spikes, again = (bh.rollout(each, SPIKES)[0] for each in (net, from_nir(graph, dt=DT)))
    assert spikes.sum() > 10
    np.testing.assert_array_equal(spikes, again)


def test_a_threshold_that_is_met_exactly_fires_after_a_round_trip_too() -> None:
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(1, 1, weight_init=jnp.ones((1, 1)) * u.mV), bh.nn.LIFLayer(1, tau=10.0 * u.ms, reset="zero")
    )
    graph = to_nir(net, dt=DT)
    assert graph.nodes["layers_1"].v_threshold[0] == np.nextafter(np.float32(1), np.float32(0))
    back = from_nir(graph, dt=DT)
    assert float(bh.rollout(back, np.ones((1, 1), np.float32))[0][0, 0]) == 1.0
    assert float(back.layers_1.V_th.mantissa) == 1.0


def test_metadata_say_how_the_graph_was_made_and_are_not_needed(tmp_path) -> None:
    net = two_layers()
    graph = to_nir(net, dt=DT)
    notes = through_file(graph, tmp_path).metadata["brainhw"]
    assert (notes["dt_s"], notes["time_unit"], notes["reset"], notes["discretisation"]) == (
        0.001,
        "s",
        "exact",
        "exact",
    )
    graph.metadata = {}
    for node in graph.nodes.values():
        node.metadata = {}
    ys, again = (bh.rollout(each, SPIKES)[0] for each in (net, from_nir(graph, dt=DT)))
    np.testing.assert_array_equal(ys, again)
