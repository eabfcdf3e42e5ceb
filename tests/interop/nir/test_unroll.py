"""Dense matrices in place of convolution, pooling and flatten: the same function, or a refusal with the sizes."""

from __future__ import annotations

import itertools
from pathlib import Path

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_oracle import convolved

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, to_nir, unroll
from brainhw.interop.nir.unroll import window_matrix
from brainhw.interop.nir.windows import Window

DT = 1.0 * u.ms
SMALL = Path(__file__).parents[2] / "golden" / "nir" / "scnn_mnist_small.nir"


def of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(0.1, 0.5, shape)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.data())
def test_the_matrix_of_a_window_is_the_convolution(data) -> None:
    axes = data.draw(st.integers(1, 2))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(least, most)) for _ in range(axes))

    kernel, stride, dilation, low, high = each(1, 3), each(1, 4), each(1, 3), each(0, 4), each(0, 4)
    space = tuple(
        max(1, d * (k - 1) + 1 - a - b) + data.draw(st.integers(0, 4))
        for k, d, a, b in zip(kernel, dilation, low, high, strict=True)
    )
    window = Window(kernel, stride, tuple(zip(low, high, strict=True)), dilation)
    groups = data.draw(st.integers(1, 3))
    weight = of(2 * groups, data.draw(st.integers(1, 2)), *kernel)
    x = of(groups * weight.shape[1], *space, seed=1)
    wanted = convolved(x, weight, None, stride, window.pads, dilation, groups)
    matrix = window_matrix(weight, window, x.shape, groups)
    np.testing.assert_allclose((matrix @ x.ravel()).reshape(wanted.shape), wanted, atol=1e-12)


def test_a_window_that_lies_in_the_padding_only_gives_zeros() -> None:
    window = Window((1,), (10,), ((5, 5),), (1,))
    assert window_matrix(np.ones((1, 1, 1)), window, (1, 3), 1).toarray().tolist() == [[0, 0, 0], [0, 0, 0]]


def graph(nodes: dict, edges: list, shape, after) -> nir.NIRGraph:
    ends = {
        "input": nir.Input(input_type={"input": np.array(shape)}),
        "output": nir.Output(output_type={"output": np.array(after)}),
    }
    return nir.NIRGraph({**nodes, **ends}, edges, type_check=False)


def chain(*between: nir.NIRNode, shape=(2, 6, 5), after=(3,)) -> nir.NIRGraph:
    names = [f"n{i}" for i in range(len(between))]
    edges = list(itertools.pairwise(["input", *names, "output"]))
    return graph(dict(zip(names, between, strict=True)), edges, shape, after)


def conv(n_in: int = 2, n_out: int = 3, size=(6, 5), padding="same", bias: bool = True) -> nir.Conv2d:
    return nir.Conv2d(size, of(n_out, n_in, 3, 3), 1, padding, 1, 1, of(n_out) if bias else np.zeros(n_out))


def pool(kind: type = nir.AvgPool2d) -> nir.NIRNode:
    return kind(np.array([2, 2]), np.array([2, 1]), np.array([0, 1]))


def full(size, **values: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    # Another number for each place, so that a wrong order shows.
    return {name: value * rng.uniform(0.8, 1.2, size) for name, value in values.items()}


IMAGE = (3, 6, 5)
MEMBRANE = {"r": 5.0, "v_leak": 0.02, "v_threshold": 0.6, "v_reset": 0.0}
NEURONS = {
    "LIF": lambda: nir.LIF(**full(IMAGE, tau=0.009, **MEMBRANE)),
    "IF": lambda: nir.IF(**full(IMAGE, r=500.0, v_threshold=0.6, v_reset=0.0)),
    "LI": lambda: nir.LI(**full(IMAGE, tau=0.009, r=1.0, v_leak=0.1)),
    "I": lambda: nir.I(**full(IMAGE, r=100.0)),
    "CubaLIF": lambda: nir.CubaLIF(**full(IMAGE, tau_mem=0.009, tau_syn=0.004, w_in=1.0, **MEMBRANE)),
    "CubaLI": lambda: nir.CubaLI(**full(IMAGE, tau_mem=0.009, tau_syn=0.004, w_in=1.0, r=1.0, v_leak=0.1)),
    "Scale": lambda: nir.Scale(**full(IMAGE, scale=1.0)),
    "Threshold": lambda: nir.Threshold(**full(IMAGE, threshold=0.4)),
    "Delay": lambda: nir.Delay(delay=np.arange(90.0).reshape(IMAGE) % 4 * 1e-3),
}


def assert_same_function(image: nir.NIRGraph, dense: nir.NIRGraph, shape=(2, 6, 5), batch: int = 2) -> np.ndarray:
    xs = (np.random.default_rng(0).random((25, batch, *shape)) < 0.3).astype(np.float32)
    ys = bh.rollout(from_nir(image, dt=DT), xs)[0]
    again = bh.rollout(from_nir(dense, dt=DT), xs.reshape(25, batch, -1))[0]
    assert float(np.abs(ys).sum()) > 1
    np.testing.assert_allclose(again, np.reshape(ys, (25, batch, -1)), atol=2e-5)
    return ys


@pytest.mark.parametrize("name", NEURONS)
def test_every_node_between_images_gives_the_same_when_all_is_flat(name: str) -> None:
    flatten = nir.Flatten(input_type={"input": np.array([3, 3, 6])}, start_dim=0, end_dim=-1)
    image = chain(conv(), NEURONS[name](), pool(), flatten, nir.Linear(of(3, 54)))
    dense = unroll(image)
    kinds = {key: type(node).__name__ for key, node in dense.nodes.items()}
    assert kinds == {"n0": "Affine", "n1": name, "n4": "Linear", "input": "Input", "output": "Output"}
    assert dense.nodes["n4"].weight.shape == (3, 90)
    assert dense.nodes["n1"].input_type["input"].tolist() == [90]
    assert_same_function(image, dense)


def test_without_merging_every_matrix_stands_alone_and_the_given_graph_is_unchanged() -> None:
    lif = NEURONS["LIF"]()
    image = chain(conv(bias=False), lif, pool(nir.SumPool2d), conv(3, 2, (3, 6)), after=(2, 3, 6))
    image.nodes["n0"].metadata = {"own": "note"}
    before = {name: type(node).__name__ for name, node in image.nodes.items()}
    dense = unroll(image, merge=False)
    kinds = {name: type(node).__name__ for name, node in dense.nodes.items()}
    assert kinds == {**before, "n0": "Linear", "n2": "Linear", "n3": "Affine"}
    assert dense.nodes["n0"].metadata == {"own": "note"}
    assert set(np.unique(dense.nodes["n2"].weight)) == {0.0, 1.0}
    assert before == {name: type(node).__name__ for name, node in image.nodes.items()}
    assert lif.tau.shape == IMAGE
    assert_same_function(image, dense)
    merged = unroll(image)
    assert list(merged.nodes) == ["n0", "n1", "n3", "input", "output"]
    assert_same_function(image, merged)


def test_constants_of_merged_matrices_add_up() -> None:
    image = chain(conv(), conv(3, 2), pool(), after=(2, 3, 6))
    dense = unroll(image)
    assert [type(node).__name__ for node in dense.nodes.values()] == ["Affine", "Input", "Output"]
    assert_same_function(image, dense)


def test_a_matrix_that_feeds_two_nodes_stays_and_so_do_matrices_that_are_no_images() -> None:
    nodes = {"a": conv(), "b": pool(), "c": pool(nir.SumPool2d)}
    edges = [("input", "a"), ("a", "b"), ("a", "c"), ("b", "output"), ("c", "output")]
    image = graph(nodes, edges, (2, 6, 5), (3, 3, 6))
    dense = unroll(image)
    assert set(dense.nodes) == {"a", "b", "c", "input", "output"}
    assert_same_function(image, dense)
    plain = chain(nir.Linear(of(4, 2)), nir.Linear(of(3, 4)), shape=(2,))
    assert list(unroll(plain).nodes) == ["n0", "n1", "input", "output"]


def test_two_ways_around_a_flatten_both_count() -> None:
    flat = nir.Flatten(input_type={"input": np.array([60])}, start_dim=0, end_dim=-1)
    edges = [("input", "s"), ("s", "f"), ("s", "output"), ("f", "output")]
    image = graph({"s": nir.Scale(of(60)), "f": flat}, edges, (60,), (60,))
    assert_same_function(image, unroll(image), (60,))


def test_a_recurrent_layer_inside_keeps_its_graph() -> None:
    net = brainstate.nn.Sequential(
        brainstate.nn.Conv2d((5, 4, 2), 2, 3, w_init=of(3, 3, 2, 2).astype(np.float32)),
        brainstate.nn.Flatten(in_size=(5, 4, 2)),
        bh.nn.LIFSynapse(40, 3, weight_init=of(40, 3) * u.mV),
        bh.nn.LIFLayer(3, tau=9.0 * u.ms, reset="zero", topology="RC", recurrent_init=of(3, 3) * u.mV),
    )
    image = to_nir(net, dt=DT)
    dense = unroll(image)
    assert list(dense.nodes) == ["input", "layers_2", "layers_3", "output"]
    assert list(dense.nodes["layers_3"].nodes) == ["input", "lif", "w_rec", "output"]
    assert dense.metadata == image.metadata
    spikes = assert_same_function(image, dense, (2, 5, 4))
    assert 0 < spikes.mean() < 1


@pytest.mark.no_dt
def test_the_network_of_the_paper_as_matrices_fires_the_same() -> None:
    dense = unroll(nir.read(SMALL))
    assert dense.nodes["2"].weight.dtype == np.float32
    xs = (np.random.default_rng(0).random((60, 2, 18, 18)) < 0.3).astype(np.float32)
    with brainstate.environ.context(dt=1.0 * u.second):
        spikes = bh.rollout(from_nir(SMALL, dt=1.0 * u.second), xs)[0]
        again = bh.rollout(from_nir(dense, dt=1.0 * u.second), xs.reshape(60, -1))[0]
    assert spikes.sum() > 5
    np.testing.assert_array_equal(again, spikes)


def test_matrices_that_are_too_large_are_refused_with_their_sizes() -> None:
    image = chain(conv(), NEURONS["LIF"](), pool(), after=(3, 3, 6))
    with pytest.raises(NIRError, match=r"unroll: the graph .* 10260 matrix elements \(n0 90 x 60, n2 54 x 90\)"):
        unroll(image, max_numbers=10000)
    assert unroll(image, max_numbers=10260)
    huge = conv(size=(10000, 10000))
    with pytest.raises(NIRError, match=r"n0 \(Conv2d\) becomes a matrix with 300000000 x 18 weights, but max_numbers"):
        unroll(chain(huge, shape=(2, 10000, 10000), after=(3, 10000, 10000)))


def test_a_graph_that_cannot_be_run_and_bad_arguments_are_refused() -> None:
    with pytest.raises(NIRError, match=r"unroll: n0 \(Conv2d\) has an input of shape"):
        unroll(chain(nir.Conv2d(None, of(3, 4, 3, 3), 1, 0, 1, 1, of(3)), after=(3, 4, 3)))
    image = chain(conv(), after=IMAGE)
    with pytest.raises(TypeError, match=r"unroll: graph must be a nir\.NIRGraph; got 'net\.nir'"):
        unroll("net.nir")
    with pytest.raises(TypeError, match="unroll: merge must be True or False"):
        unroll(image, merge=1)
    with pytest.raises(ValueError, match="unroll: max_numbers must be at least 1"):
        unroll(image, max_numbers=0)
