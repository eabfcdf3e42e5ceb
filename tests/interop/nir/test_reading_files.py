"""Files of others give the spikes of an independent simulation, and those of Norse."""

from __future__ import annotations

import gzip
import itertools
import pathlib
import warnings

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from benchmarks.nir_plain import Plain, simulate
from brainhw.interop.nir import from_nir

FILES = pathlib.Path(__file__).parent / "files"
DT = 0.1 * u.ms
XS = (np.random.default_rng(0).random((256, 12)) < 0.3).astype(np.float32)
BRAILLE = (
    "braille__047410e",
    "braille_noDelay_bias_zero__5e2efd7",
    "braille_subtract__3cbddd2",
    "braille_v2a__64a0b95",
)
pytestmark = pytest.mark.no_dt


def read(name: str, **options) -> bh.interop.nir.NIRNet:
    return from_nir(FILES / f"{name}.nir", dt=DT, **options)


def outputs(net: bh.interop.nir.NIRNet, xs: np.ndarray = XS) -> np.ndarray:
    with brainstate.environ.context(dt=DT):
        return np.asarray(bh.rollout(net, xs)[0])


def norse(name: str) -> np.ndarray:
    with np.load(FILES / "norse.npz") as found:
        return np.unpackbits(found[name])[: 256 * 7].reshape(256, 7)


@pytest.mark.parametrize("name", BRAILLE)
def test_a_recurrent_cuba_net_gives_the_spikes_of_the_plain_simulation(name: str) -> None:
    spikes = outputs(read(name, discretisation="euler"))
    assert spikes.sum() > 50
    np.testing.assert_array_equal(spikes, simulate(nir.read(FILES / f"{name}.nir"), XS))


def test_spikes_are_those_of_norse_where_the_biases_of_the_first_step_do_not_matter() -> None:
    for name in BRAILLE[2:]:
        np.testing.assert_array_equal(outputs(read(name, discretisation="euler")), norse(name))


@pytest.mark.parametrize("name", BRAILLE[:2])
def test_norse_leaves_the_recurrent_bias_out_of_the_first_step(name: str) -> None:
    net = read(name, discretisation="euler")
    assert np.any(outputs(net) != norse(name))
    # The graph adds its recurrent bias in every step. Norse runs the recurrent Affine from the second step on.
    part, bias = net.lif1_lif_current, net.lif1_w_rec.weight.value["bias"]
    with brainstate.environ.context(dt=DT):
        bh.prepare_net(net)
        part.I_syn.value = -part.input_factor * bias / part.beta
        spikes = np.asarray(brainstate.transform.for_loop(net, XS))
    np.testing.assert_array_equal(spikes, norse(name))


@pytest.mark.parametrize("kind", ["leaky", "synaptic", "rleaky"])
def test_a_net_of_snntorch_gives_its_spikes_through_its_own_export(kind: str, tmp_path) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(gzip.decompress((FILES / f"snntorch_{kind}.nir.gz").read_bytes()))
    with np.load(FILES / "snntorch.npz") as found:
        expected = np.unpackbits(found[kind])[: 256 * 4].reshape(256, 4)
    assert expected.sum() > 50
    np.testing.assert_array_equal(outputs(from_nir(path, dt=DT, discretisation="euler")), expected)


def test_the_membrane_of_the_paper_is_that_of_norse() -> None:
    xs, V, spikes = np.loadtxt(FILES / "lif_norse.csv", delimiter=",").T
    net = read("lif_norse__ce5f8e1", discretisation="euler")
    with brainstate.environ.context(dt=DT):
        ours, seen = bh.rollout(net, xs[:, None].astype(np.float32), record=("node_1.V",))
    np.testing.assert_allclose(np.asarray(seen["node_1.V"].mantissa)[:, 0], V, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(ours)[:, 0], spikes)


@pytest.mark.parametrize("discretisation", ["exact", "euler"])
def test_a_leak_voltage_makes_the_same_spikes_as_the_plain_simulation(discretisation: str) -> None:
    xs = XS[:, :1]
    net = read("two_lif_neurons__b23438d", discretisation=discretisation)
    with brainstate.environ.context(dt=DT):
        _, seen = bh.rollout(net, xs, record=("lif1.spk", "lif2.V"))
    plain = Plain(nir.read(FILES / "two_lif_neurons__b23438d.nir"), euler=discretisation == "euler")
    made = []
    for x in xs:
        plain.step(x)
        made.append((plain.last["lif1"][0], plain.state["lif2"][0][0]))
    spikes, V = np.array(made).T
    assert spikes.sum() > 0
    np.testing.assert_array_equal(np.asarray(seen["lif1.spk"])[:, 0], spikes)
    np.testing.assert_allclose(np.asarray(seen["lif2.V"].mantissa)[:, 0], V, rtol=1e-4, atol=1e-7)


def test_an_old_file_without_axes_counts_for_every_neuron_with_one_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = read("lif_norse__3a3afb6")
    assert [str(one.message) for one in caught] == [
        "from_nir: lif (LIF): scalar parameters, as in old files, are broadcast to all neurons."
    ]
    xs = (np.random.default_rng(1).random((60, 1000)) < 0.3).astype(np.float32)
    graph = nir.read(FILES / "lif_norse__3a3afb6.nir", type_check=False)
    spikes = outputs(net, xs)
    assert spikes.sum() > 100
    np.testing.assert_array_equal(spikes, simulate(graph, xs, euler=False))


def test_a_cycle_through_an_integrator_gives_the_values_of_the_plain_simulation() -> None:
    # The shape of a file of Nengo: LIF, weights, LI, weights and back, and an output that the input feeds as well.
    rng = np.random.default_rng(2)
    n, ones = 40, np.ones(40)
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "state": nir.LIF(tau=0.02 * ones, r=ones, v_leak=0 * ones, v_threshold=ones),
        "back": nir.Affine(weight=rng.normal(0, 0.05, (3, n)), bias=np.zeros(3)),
        "filter": nir.LI(tau=0.1 * np.ones(3), r=np.ones(3), v_leak=np.zeros(3)),
        "into": nir.Affine(weight=rng.normal(0, 5, (n, 3)), bias=rng.normal(3, 3, n)),
        "probe": nir.Affine(weight=rng.normal(0, 1, (3, n)), bias=np.zeros(3)),
        "output": nir.Output({"output": np.array([3])}),
    }
    chain = ["state", "back", "filter", "into", "state", "probe", "output"]
    graph = nir.NIRGraph(nodes, [*itertools.pairwise(chain), ("input", "output")])
    net = from_nir(graph, dt=1 * u.ms)
    with brainstate.environ.context(dt=1 * u.ms):
        ys, seen = bh.rollout(net, XS[:, :3], record=("state.spk",))
    assert 100 < np.asarray(seen["state.spk"]).sum() < 0.9 * 256 * n
    np.testing.assert_allclose(ys, simulate(graph, XS[:, :3], dt=1e-3, euler=False), atol=1e-4)
