"""Images with the options for readers: current-based neurons, time steps, the old format, scalars."""

from __future__ import annotations

import itertools
import warnings

import brainstate
import brainunit as u
import h5py
import nir
import numpy as np
import pytest
from image_oracle import Chain

import brainhw as bh
from benchmarks.nir_plain import simulate
from brainhw.interop.nir import NIRError, from_nir, to_nir, unroll

DT = 1.0 * u.ms
SIZE = (3, 5, 4)
XS = (np.random.default_rng(0).random((60, 2, 5, 4)) < 0.4).astype(np.float32)


def chain(*between: nir.NIRNode, given=(2, 5, 4), gave=SIZE) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(input_type={"input": np.array(given)}),
        **{f"n{i}": node for i, node in enumerate(between)},
        "output": nir.Output(output_type={"output": np.array(gave)}),
    }
    return nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(nodes)), type_check=False)


def conv(scale: float = 1.0) -> nir.Conv2d:
    weight = np.random.default_rng(1).normal(0.2, 0.3, (3, 2, 3, 3)).astype(np.float32)
    return nir.Conv2d((5, 4), scale * weight, 1, 1, 1, 1, np.array([0.0, 0.1, -0.1]))


def spread(low: float, high: float, of_place: bool) -> np.ndarray:
    """Numbers that differ from channel to channel, or from place to place."""
    shape = SIZE if of_place else (3, 1, 1)
    return np.broadcast_to(np.random.default_rng(2).uniform(low, high, shape), SIZE).copy()


def cuba(of_place: bool, fires: bool = True) -> nir.NIRNode:
    arrays = {
        "tau_syn": spread(0.004, 0.008, of_place),
        "tau_mem": spread(0.01, 0.02, of_place),
        "r": spread(1, 2, of_place),
        "w_in": spread(2, 3, of_place),
        "v_leak": spread(0, 0.1, of_place),
    }
    if not fires:
        return nir.CubaLI(**arrays)
    return nir.CubaLIF(v_threshold=spread(0.8, 1.2, of_place), v_reset=np.zeros(SIZE), **arrays)


def run(net, xs: np.ndarray = XS, dt: u.Quantity = DT) -> np.ndarray:
    with brainstate.environ.context(dt=dt):
        return np.asarray(bh.rollout(net, xs)[0])


def kinds(graph: nir.NIRGraph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes.values()]


@pytest.mark.parametrize("of_place", [False, True])
@pytest.mark.parametrize("order", ["together", "current-first", "old-current"])
def test_current_based_neurons_of_an_image_go_out_as_they_came(order: str, of_place: bool, tmp_path) -> None:
    how = {"discretisation": "exact" if order == "together" else "euler"}
    net = from_nir(chain(conv(), cuba(of_place)), dt=DT, cuba_order=order, **how)
    expected = run(net)
    assert 0.02 < expected.mean() < 0.98
    for gain in ("weights", "R"):
        graph = to_nir(net, dt=DT, gain=gain, **how)
        # Only factors that differ within a channel need a node of their own.
        scaled = of_place and gain == "weights" and order != "together"
        assert kinds(graph) == ["Input", "Conv2d", *["Scale"] * scaled, "CubaLIF", "Output"]
        nir.write(tmp_path / "net.nir", graph)
        np.testing.assert_array_equal(run(from_nir(tmp_path / "net.nir", dt=DT)), expected)
        if order == "current-first":
            plain = simulate(unroll(graph), XS.reshape(len(XS), -1), dt=1e-3, euler=True)
            np.testing.assert_array_equal(plain.reshape(expected.shape), expected)


def test_a_current_based_membrane_of_an_image_goes_out_as_it_came() -> None:
    net = from_nir(chain(conv(), cuba(True, fires=False)), dt=DT)
    graph = to_nir(net, dt=DT)
    assert kinds(graph) == ["Input", "Conv2d", "CubaLI", "Output"]
    np.testing.assert_allclose(run(from_nir(graph, dt=DT)), run(net), rtol=1e-5, atol=1e-5)


def test_an_integrator_a_delay_and_a_threshold_of_an_image_go_out_as_they_came() -> None:
    steps = np.random.default_rng(3).integers(0, 4, SIZE)
    nodes = (
        nir.Delay(delay=1e-3 * steps),
        nir.I(r=spread(1, 2, True)),
        nir.Threshold(threshold=spread(5e-3, 0.02, True)),
    )
    graph = chain(conv(), *nodes)
    expected = run(from_nir(graph, dt=DT))
    assert 0.1 < expected.mean() < 0.9
    for gain in ("weights", "R"):
        out = to_nir(from_nir(graph, dt=DT), dt=DT, gain=gain)
        np.testing.assert_allclose(next(n for n in out.nodes.values() if isinstance(n, nir.Delay)).delay, 1e-3 * steps)
        # A membrane within rounding of its threshold may fire one step earlier or later.
        assert (run(from_nir(out, dt=DT)) != expected).mean() < 1e-3


def if_net(if_input: str):
    graph = chain(conv(), nir.IF(r=spread(1, 2, False), v_threshold=spread(1, 2, True), v_reset=np.zeros(SIZE)))
    return from_nir(graph, dt=DT, if_input=if_input)


def test_integrate_and_fire_neurons_of_an_image_keep_their_steps_for_every_reader() -> None:
    net = if_net("per-step")
    expected = run(net)
    assert 0.02 < expected.mean() < 0.98
    for options in ({"if_input": "per-second"}, {"if_input": "per-step"}, {"gain": "R"}, {"as_dt": 0.1 * u.ms}):
        graph = to_nir(net, dt=DT, **options)
        np.testing.assert_array_equal(run(from_nir(graph, dt=DT)), expected)
        if options != {"if_input": "per-step"}:
            seconds = 1e-4 if "as_dt" in options else 1e-3
            np.testing.assert_array_equal(Chain(graph, seconds).run(XS), expected)


def test_the_times_of_neurons_of_an_image_follow_as_dt() -> None:
    tau, V_th = spread(0.01, 0.02, True), spread(0.2, 0.4, True)
    lif = nir.LIF(tau=tau, r=np.ones(SIZE), v_leak=np.zeros(SIZE), v_threshold=V_th)
    net = from_nir(chain(conv(), lif), dt=DT)
    graph = to_nir(net, dt=DT, as_dt=0.1 * u.ms)
    expected = run(net)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_allclose(graph.nodes["n1"].tau, 0.1 * tau, rtol=1e-6)
    np.testing.assert_array_equal(Chain(graph, 1e-4).run(XS), expected)
    np.testing.assert_array_equal(run(from_nir(graph, dt=DT)), expected)


def test_a_silent_image_of_if_neurons_warns_with_the_steps_that_its_kernel_needs() -> None:
    kernel = nir.Conv2d((5, 4), np.full((3, 2, 3, 3), 0.25, np.float32), 1, 1, 1, 1, np.zeros(3))
    fires = nir.IF(r=np.ones(SIZE), v_threshold=np.ones(SIZE), v_reset=np.zeros(SIZE))
    # A kernel of 18 quarters adds 4.5 in each step: 4.5e-3 V in 1 ms.
    with pytest.warns(UserWarning, match=r"n1 \(IF\): even if every input is 1, a neuron needs at least 222 steps"):
        from_nir(chain(kernel, fires), dt=DT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_nir(chain(kernel, fires), dt=20 * u.ms)


def test_parameters_without_an_axis_count_for_every_place_of_an_image() -> None:
    def net(*, full: bool) -> nir.NIRGraph:
        def lif(size: tuple[int, ...], tau: float) -> nir.LIF:
            numbers = {"tau": tau, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.3}
            return nir.LIF(**{name: np.full(size if full else (), value) for name, value in numbers.items()})

        pool = nir.SumPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0]))
        narrow = nir.Conv2d(None, np.full((2, 3, 2, 2), 0.1), 1, 0, 1, 1, np.zeros(2))
        nodes = (conv(), lif(SIZE, 0.01), pool, narrow, lif((2, 3, 2), 0.02))
        return chain(*nodes, gave=(2, 3, 2))

    expected = run(from_nir(net(full=True), dt=DT))
    assert 0.02 < expected.mean() < 0.98
    words = r"n1 \(LIF\), n4 \(LIF\): scalar parameters"
    with pytest.warns(UserWarning, match=words):
        np.testing.assert_array_equal(run(from_nir(net(full=False), dt=DT)), expected)
    with pytest.warns(UserWarning, match=f"unroll: {words}"):
        dense = unroll(net(full=False))
    assert dense.nodes["n1"].tau.shape == (60,)
    flat = run(from_nir(dense, dt=DT), XS.reshape(len(XS), -1))
    np.testing.assert_array_equal(flat.reshape(expected.shape), expected)


def test_a_node_without_an_edge_is_left_out_of_dense_weights() -> None:
    graph = chain(conv(), cuba(False))
    graph.nodes["alone"] = nir.Conv2d((5, 4), np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.zeros(1))
    graph.nodes["flat"] = nir.Flatten(input_type={"input": np.array([2, 3])}, start_dim=0)
    with pytest.warns(UserWarning, match="unroll: alone, flat: nodes without edges"):
        assert list(unroll(graph).nodes) == ["input", "n0", "n1", "output"]


# The arguments of the constructors of nir 1.0.4, which takes no others from a file.
TAKEN = {
    "Affine": {"weight", "bias"},
    "LIF": {"tau", "r", "v_leak", "v_threshold"},
    "Conv2d": {"input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"},
    "AvgPool2d": {"kernel_size", "stride", "padding"},
    "Flatten": {"input_type", "start_dim", "end_dim"},
    "Input": {"shape"},
    "Output": {"shape"},
}


def last():
    """A network with the channels last."""
    rng = np.random.default_rng(4)
    lif = [bh.nn.LIFLayer(size, tau=9.0 * u.ms, V_th=0.913 * u.mV, reset="zero") for size in ((5, 4, 3), 4)]
    weight = [rng.normal(0.2, 0.4, shape).astype(np.float32) for shape in ((3, 3, 2, 3), (12, 4))]
    return brainstate.nn.Sequential(
        brainstate.nn.Conv2d((5, 4, 2), 3, 3, w_init=weight[0]), lambda x: x * u.mV, lif[0],
        brainstate.nn.AvgPool2d(2, 2), brainstate.nn.Flatten(in_size=(2, 2, 3)),
        bh.nn.LIFSynapse(12, 4, weight_init=weight[1] * u.mV), lif[1],
    )  # fmt: skip


def test_a_file_with_images_for_an_old_reader_has_the_fields_that_it_takes(tmp_path) -> None:
    nir.write(tmp_path / "old.nir", to_nir(last(), dt=DT, compatible="1.0.4"))
    with h5py.File(tmp_path / "old.nir") as file:
        found = {node["type"][()].decode(): set(node) - {"type"} for node in file["node/nodes"].values()}
    assert found == TAKEN
    expected = run(last(), np.moveaxis(XS, 1, -1))
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(run(from_nir(tmp_path / "old.nir", dt=DT)), expected)


def test_dense_weights_of_a_graph_for_an_old_reader_are_written_flat(tmp_path) -> None:
    nir.write(tmp_path / "dense.nir", unroll(to_nir(last(), dt=DT, compatible="1.0.4")))
    spikes = run(from_nir(tmp_path / "dense.nir", dt=DT), XS.reshape(len(XS), -1))
    np.testing.assert_array_equal(spikes, run(last(), np.moveaxis(XS, 1, -1)))


def test_codes_behind_a_flatten_take_the_order_of_the_file() -> None:
    weight = np.random.default_rng(5).uniform(-1, 1, (60, 4)).astype(np.float32)
    synapse = bh.nn.H1v2Synapse(60, 4, weight_init=weight, weight_bits=5)
    lif = bh.nn.LIFLayer((5, 4, 3), tau=9.0 * u.ms, V_th=0.913 * u.mV, reset="zero")
    front = brainstate.nn.Conv2d((5, 4, 2), 3, 3, w_init=np.full((3, 3, 2, 3), 0.2, np.float32))
    flatten = brainstate.nn.Flatten(in_size=(5, 4, 3))
    layer = bh.nn.H1v2Layer(4, tau=20.0 * u.ms)
    net = brainstate.nn.Sequential(front, lambda x: x * u.mV, lif, flatten, synapse, layer)
    graph = to_nir(net, dt=DT, weights="codes", clamp="ignore", reset="continuous")
    codes = np.asarray(synapse.effective.grid.codes(weight)).T
    in_file = codes.reshape(4, 5, 4, 3).transpose(0, 3, 1, 2).reshape(4, 60)
    assert graph.nodes["layers_4"].weight.dtype == np.int8
    np.testing.assert_array_equal(graph.nodes["layers_4"].weight, in_file)


def test_another_order_than_that_of_the_image_is_refused_by_name() -> None:
    graph = chain(conv(), cuba(False), nir.Threshold(threshold=np.full(SIZE, 0.5)))
    net = from_nir(graph, dt=DT)
    with pytest.raises(NIRError, match=r"CubaCurrent\) solves .* in the order 'together'; omit cuba_order='"):
        to_nir(net, dt=DT, cuba_order="old-current")
