"""Graphs of convolution, pooling and flatten against their definitions in plain NumPy, and the network of the paper."""

from __future__ import annotations

import itertools
from pathlib import Path

import brainstate
import brainunit as u
import jax
import nir
import numpy as np
import pytest
from image_oracle import Chain

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir
from brainhw.interop.nir.image_parts import Convolution
from brainhw.interop.nir.parts import Gain
from brainhw.transform.rollout import plan_layerwise

DT = 1.0 * u.ms
SMALL = Path(__file__).parents[2] / "golden" / "nir" / "scnn_mnist_small.nir"
RNG = np.random.default_rng(4)


def of(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(len(shape)).normal(size=shape)).astype(np.float32)


def chain(shape, *between: nir.NIRNode, after=(1,)) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(input_type={"input": np.array(shape)}),
        **{f"n{i}": node for i, node in enumerate(between)},
        "output": nir.Output(output_type={"output": np.array(after)}),
    }
    return nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(nodes)), type_check=False)


def conv2d(*, shape=(3, 2, 3, 3), size=(7, 6), stride=1, padding=0, dilation=1, groups=1) -> nir.Conv2d:
    return nir.Conv2d(size, of(*shape), stride, padding, dilation, groups, of(shape[0]))


def pool(kind=nir.SumPool2d, kernel=(2, 2), stride=(2, 2), padding=(0, 0)) -> nir.NIRNode:
    return kind(*(np.array(value) for value in (kernel, stride, padding)))


def flat(shape, start: int, end: int) -> nir.Flatten:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start, end_dim=end)


RUN = {
    "numbers": ((2, 7, 6), conv2d(stride=2, padding=1), (3, 4, 3)),
    "pairs": ((2, 7, 6), conv2d(stride=(1, 2), padding=(2, 0), dilation=(2, 1)), (3, 7, 2)),
    "same": ((2, 7, 6), conv2d(shape=(3, 2, 4, 3), padding="same", dilation=(1, 2)), (3, 7, 6)),
    "valid": ((2, 7, 6), conv2d(padding="valid"), (3, 5, 4)),
    "groups": ((4, 7, 6), conv2d(shape=(6, 2, 3, 3), groups=2), (6, 5, 4)),
    "no shape": ((2, 7, 6), conv2d(size=None), (3, 5, 4)),
    "line": ((2, 9), nir.Conv1d(9, of(3, 2, 3), 2, 1, 1, 1, of(3)), (3, 5)),
    "line, same": ((2, 9), nir.Conv1d(9, of(3, 2, 4), 1, "same", 2, 1, of(3)), (3, 9)),
    "sums": ((3, 7, 6), pool(), (3, 3, 3)),
    "means": ((3, 7, 6), pool(nir.AvgPool2d, (3, 2), (1, 2), (1, 1)), (3, 7, 4)),
    "flat": ((3, 2, 4), flat((3, 2, 4), 0, -1), (24,)),
    "flat space": ((3, 2, 4), flat((3, 2, 4), 1, 2), (3, 8)),
    "flat but the last": ((3, 2, 4), flat((3, 2, 4), 0, -2), (6, 4)),
    "flat already": ((5,), flat((5,), 0, -1), (5,)),
}


@pytest.mark.parametrize("name", RUN)
def test_a_node_of_a_file_gives_what_its_definition_gives(name: str, tmp_path: Path) -> None:
    shape, node, after = RUN[name]
    graph = chain(shape, node, after=after)
    given = graph
    if name != "no shape":  # nir cannot write that
        nir.write(tmp_path / "net.nir", graph)
        given = tmp_path / "net.nir"
    net = from_nir(given, dt=DT)
    assert (net.in_size, net.out_size) == (shape, after)
    xs = RNG.normal(size=(2, *shape)).astype(np.float32)
    # nir itself gives a partial Flatten and other nodes their shapes only on its own type check.
    node.output_type = {"output": np.array(after)}
    wanted = Chain(graph, 1.0).run(xs)
    np.testing.assert_allclose(net(xs), wanted, atol=2e-5)
    np.testing.assert_allclose(net(xs[0]), wanted[0], atol=2e-5)


def lif(size, tau=0.009, r=1.0, v_leak=0.0, v_threshold=0.7) -> nir.LIF:
    fields = {"tau": tau, "r": r, "v_leak": v_leak, "v_threshold": v_threshold, "v_reset": 0.0}
    return nir.LIF(**{name: np.broadcast_to(value, size).astype(float) for name, value in fields.items()})


NEURONS = {
    "alike": (lif((3, 5, 4), tau=0.004, r=6.0), Convolution),
    "a resistance per channel": (lif((3, 5, 4), r=np.array([5.0, 9.0, 7.0])[:, None, None], v_leak=0.2), Convolution),
    "a time constant per place": (lif((3, 5, 4), tau=RNG.uniform(0.004, 0.02, (3, 5, 4)), r=9.0, v_leak=0.1), Gain),
    "without a leak": (nir.IF(*(np.full((3, 5, 4), value) for value in (900.0, 0.7, 0.0))), Convolution),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_of_an_image_fire_when_the_definition_says(name: str) -> None:
    neurons, drives = NEURONS[name]
    graph = chain((2, 7, 6), conv2d(), neurons, pool(nir.AvgPool2d), after=(3, 2, 2))
    net = from_nir(graph, dt=DT)
    # The factors of the neurons go into the kernel where one per channel is enough.
    drive = net.n1_in if drives is Gain else net.n0
    assert isinstance(drive, drives)
    assert u.have_same_dim(drive.update(np.zeros((3, 5, 4) if drives is Gain else (2, 7, 6), np.float32)), u.mV)
    assert net.n1.out_size == (3, 5, 4)
    xs = (RNG.random((40, 2, 7, 6)) < 0.3).astype(np.float32)
    oracle = Chain(graph, 1e-3)
    wanted = oracle.run(xs)
    means, seen = bh.rollout(net, xs, record=("n1.spk",))
    assert oracle.nearest > 1e-5
    assert 20 < np.sum(oracle.spikes["n1"]) < 0.9 * seen["n1.spk"].size
    np.testing.assert_array_equal(seen["n1.spk"], oracle.spikes["n1"])
    np.testing.assert_allclose(means, wanted, atol=1e-6)


@pytest.mark.no_dt
def test_the_network_of_the_paper_gives_the_2000_outputs_of_a_plain_simulation() -> None:
    # Its IF neurons add their input in each step, so a step is one second.
    net = from_nir(SMALL, dt=1.0 * u.second)
    assert (net.in_size, net.out_size) == ((2, 18, 18), (10,))
    xs = (np.random.default_rng(0).random((200, 2, 18, 18)) < 0.3).astype(np.float32)
    oracle = Chain(nir.read(SMALL), 1.0)
    wanted = oracle.run(xs)
    layers = ("1", "3", "6", "10")
    with brainstate.environ.context(dt=1.0 * u.second):
        spikes, seen = bh.rollout(net, xs, record=tuple(f"node_{name}.spk" for name in layers))
    assert wanted.size == 2000
    assert wanted.sum() > 30
    np.testing.assert_array_equal(spikes, wanted)
    for name in layers:
        np.testing.assert_array_equal(seen[f"node_{name}.spk"], oracle.spikes[name])


def image_net():
    graph = chain(
        (2, 7, 6),
        conv2d(),
        lif((3, 5, 4), r=8.0),
        pool(),
        flat((3, 2, 2), 0, -1),
        nir.Affine(of(4, 12, scale=9.0), of(4)),
        lif((4,)),
        after=(4,),
    )
    return from_nir(graph, dt=DT)


def test_it_runs_layer_by_layer_with_the_spikes_and_gradients_of_the_steps() -> None:
    net = image_net()
    xs = (RNG.random((20, 3, 2, 7, 6)) < 0.4).astype(np.float32)
    bh.prepare_net(net, 3)
    assert plan_layerwise(net, xs[0], call="test") is not None
    params = net.states(brainstate.ParamState)

    def outcome(layerwise: bool):
        def loss():
            spikes, _ = bh.rollout(net, xs, layerwise=layerwise)
            return spikes.mean(), spikes

        return brainstate.transform.jit(brainstate.transform.grad(loss, params, has_aux=True, check_states=False))()

    (fast, spikes), (steps, again) = outcome(True), outcome(False)
    eager = [net(x) for x in xs[:2]] if bh.prepare_net(net, 3) is None else []
    np.testing.assert_array_equal(spikes, again)
    np.testing.assert_array_equal(np.stack(eager), spikes[:2])
    assert 0 < spikes.mean() < 1
    for one, other in zip(jax.tree.leaves(fast), jax.tree.leaves(steps), strict=True):
        scale = float(np.abs(u.get_mantissa(other)).max())
        assert scale > 0
        np.testing.assert_allclose(u.get_mantissa(one), u.get_mantissa(other), rtol=1e-4, atol=1e-5 * scale)


def test_an_input_of_another_shape_is_refused() -> None:
    net = image_net()
    with pytest.raises(ValueError, match=r"NIRNet\.update: the input must have shape \[2, 7, 6\] or \[B, 2, 7, 6\]"):
        net(np.zeros((7, 2, 6), np.float32))
    with pytest.raises(ValueError, match=r"NIRNet\.update: the last axis of the input must have length 6"):
        net(np.zeros((7, 6, 2), np.float32))


def changed(node: nir.NIRNode, **fields: object) -> nir.NIRNode:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def changed_conv(**fields: object) -> nir.Conv2d:
    return changed(conv2d(), **fields)


REFUSED = {
    "NaN weights": (changed_conv(weight=np.full((3, 2, 3, 3), np.nan)), "has NaN or infinite values in weight"),
    "a weight of words": (changed_conv(weight="many"), "has weight = 'many'; it must be a numeric NumPy array"),
    "a weight of two axes": (changed_conv(weight=of(3, 2)), r"has a weight of shape \(3, 2\)"),
    "a bias of another size": (changed_conv(bias=of(2)), r"has a bias of shape \(2,\) for 3 output channels"),
    "no bias": (changed_conv(bias=None), "has bias = None; it must be a numeric NumPy array"),
    "groups": (changed_conv(groups=2), "has 2 groups for 3 output channels"),
    "stride": (changed_conv(stride=0), "has stride = 0; expected one integer or 2 integers of at least 1"),
    "strides": (changed_conv(stride=(1, 1, 1)), r"has stride = \(1, 1, 1\); expected"),
    "dilation": (changed_conv(dilation=1.5), r"has dilation = 1\.5; expected"),
    "padding": (changed_conv(padding=-1), "has padding = -1; expected one integer or 2 integers of at least 0"),
    "a word for the padding": (changed_conv(padding="full"), "has padding 'full'"),
    "same with a stride": (changed_conv(padding="same", stride=2), r"has padding 'same' with stride \(2, 2\), which"),
    "a kernel that does not fit": (changed_conv(dilation=4), r"has a kernel of shape \(3, 3\) that does not fit"),
    "a huge padding": (changed_conv(padding=2**30, stride=2**30), "padded to .* the limit is 2147483647"),
    "another input_shape": (changed_conv(input_shape=(7, 7)), r"output shape \(2, 7, 6\) to input shape \(2, 7, 7\)"),
    "an input_shape of one axis": (changed_conv(input_shape=(7,)), r"has input_shape 7 for a kernel of shape \(3, 3\)"),
    "other channels": (conv2d(shape=(3, 4, 3, 3), size=None), r"an input of shape \(2, 7, 6\), expected \[4, height"),
    "a line": (changed(nir.Conv1d(None, of(3, 2, 3), 1, 0, 1, 1, of(3))), r"an input of shape \(2, 7, 6\), expected"),
    "no kernel_size": (changed(pool(), kernel_size=None), "has kernel_size = None; expected"),
    "a pool that does not fit": (pool(kernel=(9, 2)), r"has a kernel of shape \(9, 2\) that does not fit"),
    "axes of a Flatten": (changed(flat((2, 7, 6), 0, -1), start_dim=4), "has start_dim = 4 and end_dim = -1 for an"),
    "axes in the wrong order": (changed(flat((2, 7, 6), 0, -1), start_dim=2, end_dim=0), "has start_dim = 2 and end_d"),
    "the shape of a Flatten": (flat((2, 7, 7), 0, -1), r"output shape \(2, 7, 6\) to input shape \(2, 7, 7\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_that_cannot_be_run_is_refused_by_name(name: str) -> None:
    node, words = REFUSED[name]
    with pytest.raises(NIRError, match=words) as refusal:
        from_nir(chain((2, 7, 6), node), dt=DT)
    assert "n0" in str(refusal.value)


def test_all_faulty_nodes_are_told_at_once_and_no_shape_is_guessed_behind_them() -> None:
    graph = chain((2, 7, 6), changed_conv(groups=2), pool(kernel=(0, 2)), changed_conv(bias=None), after=(3, 1, 1))
    with pytest.raises(NIRError, match="3 problems") as refusal:
        from_nir(graph, dt=DT)
    assert [text.split(" (")[0] for text in refusal.value.problems] == ["n0", "n1", "n2"]


def test_neurons_of_another_shape_than_the_image_are_refused() -> None:
    with pytest.raises(NIRError, match=r"n0 -> n1 \(Conv2d -> LIF\) connects output shape \(3, 5, 4\) to"):
        from_nir(chain((2, 7, 6), conv2d(), lif((60,)), after=(60,)), dt=DT)
    with pytest.raises(NIRError, match=r"n0 -> n1 \(SumPool2d -> Linear\) connects output shape \(2, 3, 3\) to"):
        from_nir(chain((2, 7, 6), pool(), nir.Linear(of(4, 18)), after=(4,)), dt=DT)
