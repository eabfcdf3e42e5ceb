"""Graphs for the readers there are: a fixed step, CubaLIF, codes that exist."""

from __future__ import annotations

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from benchmarks.nir_plain import simulate
from brainhw.interop.nir import NIRError, from_nir, to_nir

DT = 1.0 * u.ms
XS = (np.random.default_rng(5).random((120, 5)) < 0.4).astype(np.float32)


def weights(*shape: int, seed: int = 0, mean: float = 0.3) -> u.Quantity:
    return np.random.default_rng(seed).normal(mean, 0.5, shape).astype(np.float32) * u.mV


def recurrent() -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(5, 4, weight_init=weights(5, 4)),
        bh.nn.LIFLayer(4, tau=20.0 * u.ms, reset="zero", topology="RC", recurrent_init=weights(4, 4, seed=3, mean=0.0)),
        bh.nn.LIFSynapse(4, 3, weight_init=weights(4, 3, seed=1)),
        bh.nn.LIFLayer(3, tau=9.0 * u.ms, reset="zero"),
    )


def cuba(**options) -> brainstate.nn.Sequential:
    layer = bh.nn.CubaLIFLayer(
        4, **{"tau_mem": 20.0 * u.ms, "tau_syn": 6.0 * u.ms, "max_spikes_per_step": 1, **options}
    )
    n = 4 * layer.n_synapses
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(5, n, weight_init=0.1 * weights(5, n)), layer)


def spikes(net: brainstate.nn.Module) -> np.ndarray:
    return np.asarray(bh.rollout(net, XS)[0])


def of_kind(graph: nir.NIRGraph, kind: type) -> list[nir.NIRNode]:
    inner = [node for node in graph.nodes.values() if isinstance(node, nir.NIRGraph)]
    return [node for each in (graph, *inner) for node in each.nodes.values() if isinstance(node, kind)]


@pytest.mark.parametrize("options", [{}, {"gain": "R"}, {"discretisation": "euler", "gain": "R"}], ids=str)
def test_a_reader_with_a_step_of_its_own_takes_the_same_steps(options: dict, tmp_path) -> None:
    net = recurrent()
    graph = to_nir(net, dt=DT, as_dt=0.1 * u.ms, **options)
    expected = spikes(net)
    assert expected.sum() > 10
    euler = options.get("discretisation") == "euler"
    np.testing.assert_array_equal(simulate(graph, XS, dt=1e-4, euler=euler), expected)
    notes = graph.metadata["brainhw"]
    assert (notes["dt_s"], notes["net_dt_s"]) == (1e-4, 1e-3)
    # Weights and R are those of the net, only times are others.
    plain = to_nir(net, dt=DT, **options)
    for mine, other in zip(of_kind(graph, nir.LIF), of_kind(plain, nir.LIF), strict=True):
        np.testing.assert_allclose(mine.tau, 0.1 * other.tau, rtol=1e-15)
        np.testing.assert_array_equal(mine.r, other.r)
    # Read here, with the step of the net or with that of the file, it is the same net.
    nir.write(tmp_path / "net.nir", graph)
    back = from_nir(tmp_path / "net.nir", dt=DT)
    np.testing.assert_allclose(back.layers_3.tau.to(u.ms).mantissa, 9.0, rtol=1e-6)
    np.testing.assert_array_equal(spikes(back), expected)
    with brainstate.environ.context(dt=0.1 * u.ms):
        np.testing.assert_array_equal(spikes(from_nir(graph, dt=0.1 * u.ms)), expected)
    with pytest.warns(UserWarning, match=r"written for dt = 1 ms and is read for 2 ms"):
        from_nir(graph, dt=2.0 * u.ms)


def test_if_neurons_and_delays_keep_their_steps_as_well() -> None:
    one = np.ones(2)
    graph = nir.NIRGraph.from_list(
        nir.Delay(delay=np.array([0.0, 2e-3])), nir.IF(r=one, v_threshold=one), nir.I(r=100 * one)
    )
    net = from_nir(graph, dt=DT, if_input="per-step")
    xs = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    expected = np.asarray(bh.rollout(net, xs)[0])
    assert expected[-1].min() > 0.5
    for if_input in ("per-second", "per-step"):
        out = to_nir(net, dt=DT, as_dt=0.1 * u.ms, if_input=if_input)
        np.testing.assert_allclose(of_kind(out, nir.Delay)[0].delay, [0, 2e-4])
        back = np.asarray(bh.rollout(from_nir(out, dt=DT), xs)[0])
        np.testing.assert_allclose(back, expected, rtol=1e-5)
        with brainstate.environ.context(dt=0.1 * u.ms):
            back = np.asarray(bh.rollout(from_nir(out, dt=0.1 * u.ms), xs)[0])
        np.testing.assert_allclose(back, expected, rtol=1e-5)


@pytest.mark.parametrize("gain", ["weights", "R"])
@pytest.mark.parametrize("discretisation", ["exact", "euler"])
@pytest.mark.parametrize("rec", [False, True])
def test_a_current_based_layer_is_a_cuba_lif_for_readers_that_step_the_current_first(gain, discretisation, rec) -> None:
    net = cuba(w_rec=0.1 * weights(4, 4, seed=3, mean=0.0) if rec else None)
    options = {} if discretisation == "euler" else {"cuba_order": "current-first"}
    graph = to_nir(net, dt=DT, reset="continuous", gain=gain, discretisation=discretisation, **options)
    (node,) = of_kind(graph, nir.CubaLIF)
    assert node.metadata["brainhw"]["order"] == "current-first"
    if gain == "R" and discretisation == "euler":
        # What the importer of snnTorch asks for.
        np.testing.assert_allclose(node.r * 1e-3 / node.tau_mem, 1)
        np.testing.assert_allclose(node.w_in * 1e-3 / node.tau_syn, 1)
    expected = spikes(net)
    assert expected.sum() > 10
    np.testing.assert_array_equal(spikes(from_nir(graph, dt=DT)), expected)
    zero = spikes(from_nir(graph, dt=DT, reset="zero"))
    np.testing.assert_array_equal(simulate(graph, XS, dt=1e-3, euler=discretisation == "euler"), zero)


def test_a_layer_that_steps_its_current_first_is_not_written_in_another_order() -> None:
    for order in ("old-current", "together"):
        with pytest.raises(NIRError, match=f"updates its current first, but cuba_order='{order}' is a different order"):
            to_nir(cuba(), dt=DT, reset="continuous", cuba_order=order)
    with pytest.raises(NIRError, match="has 2 synapses per neuron, but CubaLIF has one"):
        to_nir(cuba(n_synapses=2), dt=DT, reset="continuous", cuba_order="current-first")
    adaptive = bh.nn.ALIFLayer(3, tau_mem=20 * u.ms, tau_syn=6 * u.ms, max_spikes_per_step=1)
    with pytest.raises(NIRError, match="after-hyperpolarisation to its current, but CubaLIF has none"):
        to_nir(adaptive, dt=DT, reset="continuous", cuba_order="current-first")
    assert not of_kind(to_nir(cuba(n_synapses=2), dt=DT, reset="continuous", discretisation="euler"), nir.CubaLIF)


def test_codes_are_refused_where_no_synapse_has_any() -> None:
    with pytest.raises(NIRError, match=r"weights='codes'\) has no synapse with quantised chip weights"):
        to_nir(recurrent(), dt=DT, weights="codes")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"cuba_order": "first"}, ValueError, "to_nir: cuba_order must be one of"),
        ({"if_input": "once"}, ValueError, "to_nir: if_input must be one of"),
        ({"as_dt": 0.1}, TypeError, "to_nir: as_dt must be a Quantity"),
        ({"as_dt": -1.0 * u.ms}, ValueError, "to_nir: as_dt must be greater than zero"),
        ({"compatible": "0.9"}, ValueError, r"to_nir: compatible must be .*1\.0\.4"),
    ],
    ids=str,
)
def test_a_bad_option_is_named(options: dict, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        to_nir(recurrent(), dt=DT, **options)
