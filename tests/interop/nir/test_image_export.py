"""Networks of images as NIR graphs: the same spikes here, in a plain simulation of the file, and after reading it."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from brainstate import nn
from image_oracle import Chain

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, register_export, to_nir

DT = 1.0 * u.ms
TAUS = np.random.default_rng(1).uniform(3, 20, (8, 7, 3)) * u.ms
DENSE = "has an input or output of shape"


def of(*shape: int, seed: int = 0, mean: float = 0.12, scale: float = 0.4) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(mean, scale, shape).astype(np.float32)


def millivolts(x):
    return x * u.mV


def lif(size, tau=9.0 * u.ms):
    # No sum of quarters meets this threshold exactly, where rounding would decide.
    return bh.nn.LIFLayer(size, tau=tau, V_th=0.913 * u.mV, reset="zero")


def synapse(n_in: int, n_out: int):
    return bh.nn.LIFSynapse(n_in, n_out, weight_init=of(n_in, n_out) * u.mV)


def conv(in_size, n_out: int, kernel=(3, 3), groups: int = 1, bias: bool = True, **options):
    first = options.get("channel_first", False)
    w = of(*kernel, in_size[0 if first else -1] // groups, n_out)
    b_init = (lambda shape: jnp.asarray(0.1 * of(*shape))) if bias else None
    kind = nn.Conv1d if len(kernel) == 1 else nn.Conv2d
    return kind(in_size, n_out, kernel, w_init=w, b_init=b_init, groups=groups, **options)


def deep(tau=9.0 * u.ms):
    """Default padding, which no number says where the stride is 2."""
    return nn.Sequential(
        conv((8, 7, 2), 3), millivolts, lif((8, 7, 3), tau),
        nn.AvgPool2d(2, 2), conv((4, 3, 3), 4, (2, 2), stride=2), millivolts, lif((2, 2, 4)),
        nn.Flatten(in_size=(2, 2, 4)), synapse(16, 5), lif(5),
    )  # fmt: skip


def of_lines():
    return nn.Sequential(
        conv((9, 2), 4, (4,), padding="SAME"), millivolts, lif((9, 4)),
        conv((9, 4), 2, (3,), stride=2, padding=1, groups=2), millivolts, lif((5, 2)), nn.Flatten(in_size=(5, 2)),
        nn.Linear(10, 3, w_init=of(10, 3)), millivolts, lif(3),
    )  # fmt: skip


def dilated():
    mask = (of(3, 2, 1, 4, seed=7) > -0.3).astype(np.float32)
    return nn.Sequential(
        conv((8, 7, 2), 4, (3, 2), 2, bias=False, rhs_dilation=(1, 2), padding=[(2, 1), (2, 0)], w_mask=mask),
        millivolts, lif((9, 7, 4)),
    )  # fmt: skip


def before_and_after():
    """A layer and a pooling before the convolution, which have its order of the axes; the input is a voltage."""
    return nn.Sequential(
        lif((8, 7, 2)), nn.AvgPool2d(2, 1), millivolts, lif((7, 6, 2)), conv((7, 6, 2), 3), millivolts, lif((7, 6, 3)),
        nn.Flatten(0, 1, in_size=(7, 6, 3)), millivolts, lif((42, 3)),
    )  # fmt: skip


def flat_neurons():
    """Neurons behind a Flatten, in the order of the network."""
    taus = np.linspace(3, 20, 24) * u.ms
    return nn.Sequential(
        conv((5, 4, 2), 4, padding="VALID"), nn.Flatten(in_size=(3, 2, 4)), millivolts, lif(24, taus), synapse(24, 3),
        lif(3),
    )  # fmt: skip


def first():
    """Channels first, as in PyTorch."""
    return nn.Sequential(
        conv((2, 8, 7), 3, channel_first=True), millivolts, lif((3, 8, 7)),
        nn.AvgPool2d(2, 2, channel_axis=-3), nn.Flatten(in_size=(3, 4, 3)), synapse(36, 5), lif(5),
    )  # fmt: skip


NETS = {
    "deep": (deep, (8, 7, 2)),
    "a time constant per neuron": (lambda: deep(TAUS), (8, 7, 2)),
    "lines": (of_lines, (9, 2)),
    "groups, dilation and a mask": (dilated, (8, 7, 2)),
    "layers before it": (before_and_after, (8, 7, 2)),
    "flat neurons": (flat_neurons, (5, 4, 2)),
    "channels first": (first, (2, 8, 7)),
}
OPTIONS = [{}, {"gain": "R"}, {"voltage_unit": u.volt}]


def spikes_of(shape, seed=0) -> np.ndarray:
    return (np.random.default_rng(seed).random((40, *shape)) < 0.4).astype(np.float32)


def to_first(xs: np.ndarray, name: str, axis: int = 1) -> np.ndarray:
    return xs if name == "channels first" or xs.ndim == 2 else np.moveaxis(xs, -1, axis)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_the_spikes_are_those_of_the_file_and_of_the_network_that_is_read_from_it(name, options, tmp_path) -> None:
    make, shape = NETS[name]
    net, given = make(), to_first(spikes_of(shape), name)
    xs = spikes_of(shape)
    if name == "layers before it":
        xs = 1.5 * xs * u.mV
        given = 1.5 * given / (1000 if "voltage_unit" in options else 1)
    graph = to_nir(net, dt=DT, **options)
    spikes = to_first(np.asarray(bh.rollout(net, xs)[0]), name)
    assert 0.02 < spikes.mean() < 0.98
    oracle = Chain(graph, 1e-3)
    np.testing.assert_array_equal(oracle.run(given), spikes)
    assert oracle.nearest > 1e-6
    if options == {}:
        nir.write(tmp_path / "net.nir", graph)
        graph = nir.read(tmp_path / "net.nir", type_check=False)
    back = from_nir(graph, dt=DT)
    assert back.in_size == given.shape[1:]
    assert back.out_size == spikes.shape[1:]
    np.testing.assert_array_equal(bh.rollout(back, given)[0], spikes)


def test_weights_come_back_to_the_bit_and_a_second_round_changes_nothing() -> None:
    net = deep(TAUS)
    first = from_nir(to_nir(net, dt=DT), dt=DT)
    again = from_nir(to_nir(first, dt=DT), dt=DT)
    kernels = [np.asarray(net.layers[i].weight.value["weight"]).transpose(3, 2, 0, 1) for i in (0, 4)]
    read = [np.asarray(u.get_mantissa(part.weight.value)) for part in (first.layers_0, first.layers_4)]
    np.testing.assert_array_equal(read[0], kernels[0])
    # The stride of 2 pads 3 columns at one side only, which a column of zeros in the kernel makes up for.
    np.testing.assert_array_equal(read[1], np.pad(kernels[1], [(0, 0), (0, 0), (0, 0), (1, 0)]))
    both = (each.states(brainstate.ParamState).values() for each in (first, again))
    for one, other in zip(*both, strict=True):
        for leaf, same in zip(jax.tree.leaves(one.value), jax.tree.leaves(other.value), strict=True):
            np.testing.assert_array_equal(leaf, same)
    np.testing.assert_array_equal(
        first.layers_2.tau.mantissa, np.moveaxis(np.asarray(TAUS.mantissa, np.float32), -1, 0)
    )


def test_flat_weights_take_the_order_of_the_file_and_the_order_is_noted() -> None:
    graph = to_nir(deep(), dt=DT)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds == ["Input", "Conv2d", "LIF", "AvgPool2d", "Conv2d", "LIF", "Flatten", "Linear", "LIF", "Output"]
    assert graph.metadata["brainhw"]["channels"].startswith("last in the network")
    weight = of(16, 5).T.reshape(5, 2, 2, 4)
    ratio = graph.nodes["layers_8"].weight / np.moveaxis(weight, -1, 1).reshape(5, 16)
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert "channels" not in to_nir(first(), dt=DT).metadata["brainhw"]
    # Neurons keep their order, with a matrix that puts the numbers back.
    assert [type(node).__name__ for node in to_nir(flat_neurons(), dt=DT).nodes.values()][2:4] == ["Flatten", "Linear"]


def test_a_readout_and_the_output_of_the_network_stand_behind_a_flatten() -> None:
    readout = bh.nn.LeakyReadout(24, 2, tau=5.0 * u.ms, weight_init=of(24, 2))
    for last, width in (((readout,), 2), ((), 24)):
        net = nn.Sequential(conv((5, 4, 2), 4, padding="VALID"), nn.Flatten(in_size=(3, 2, 4)), *last)
        graph = to_nir(net, dt=DT)
        xs = spikes_of((5, 4, 2))
        ys, again = bh.rollout(net, xs)[0], bh.rollout(from_nir(graph, dt=DT), np.moveaxis(xs, -1, 1))[0]
        assert again.shape == (40, width)
        np.testing.assert_allclose(again, ys, atol=1e-5)


def test_an_oblong_kernel_or_groups_have_their_shapes_in_the_graph() -> None:
    # nir 1.0.8 itself would find others: it takes the first axis of the kernel for both, and the channels of a group.
    node = to_nir(dilated(), dt=DT).nodes["layers_0"]
    assert (tuple(node.input_type["input"]), tuple(node.output_type["output"])) == ((2, 8, 7), (4, 9, 7))
    assert node.groups == 2


def test_a_batch_axis_in_front_changes_nothing() -> None:
    class Batched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.flat, self.syn, self.out = conv((5, 4, 2), 3), nn.Flatten(1), synapse(60, 3), lif(3)

        def update(self, x):
            return self.out(self.syn(self.flat(self.conv(x))))

    graph = to_nir(Batched(), dt=DT, sample=spikes_of((2, 5, 4, 2)))
    assert tuple(graph.nodes["input"].input_type["input"]) == (2, 5, 4)
    xs = spikes_of((2, 5, 4, 2))
    spikes, again = (
        bh.rollout(net, x)[0] for net, x in ((Batched(), xs), (from_nir(graph, dt=DT), np.moveaxis(xs, -1, 2)))
    )
    assert spikes.sum() > 10
    np.testing.assert_array_equal(spikes, again)


class Twice(nn.Module):
    in_size = out_size = (4, 4, 2)

    def update(self, x):
        return 2 * x


@register_export(Twice)
def twice(module, at):
    raise AssertionError("a rule that does not know images must not be asked")


IMAGE = (4, 4, 2)
REFUSED = {
    "a maximum": (
        (nn.MaxPool2d(2, 2, in_size=IMAGE), millivolts, lif((2, 2, 2))),
        r"layers\.0 \(MaxPool2d\) is a max pooling",
    ),
    "a transposed convolution": (
        (nn.Conv2d(IMAGE, 2, 3, lhs_dilation=2, padding=1), millivolts, lif((7, 7, 2))),
        r"layers\.0 \(Conv2d\) has an lhs_dilation",
    ),
    "uneven padding between steps of a dilation": (
        (nn.Conv2d(IMAGE, 2, 2, rhs_dilation=2, padding=[(1, 0), (1, 1)]), millivolts, lif((3, 4, 2))),
        r"layers\.0 \(Conv2d\) has padding \(\(1, 0\), \(1, 1\)\)",
    ),
    "a mean without its padding": (
        (nn.AvgPool2d(3, 1, padding="SAME", in_size=IMAGE), millivolts, lif(IMAGE)),
        r"layers\.0 \(AvgPool2d\) excludes its padding \(\(1, 1\), \(1, 1\)\) from the mean",
    ),
    "a mean over the channels": (
        (nn.AvgPool2d(2, 1, channel_axis=-2, in_size=IMAGE), millivolts, lif((3, 4, 1))),
        r"layers\.0 \(AvgPool2d\) has an input of shape \(4, 4, 2\) with channel_axis=-2",
    ),
    "one axis": (
        (nn.AvgPool1d(2, 2, in_size=IMAGE), millivolts, lif((4, 2, 2))),
        r"layers\.0 \(AvgPool1d\) has no NIR node",
    ),
    "both orders": (
        (nn.Conv2d(IMAGE, 2, 3), nn.AvgPool2d((3, 2), 1, channel_axis=-3), millivolts, lif((4, 2, 1))),
        r"layers\.1 \(AvgPool2d\) has channels first, but layers\.0 has them last",
    ),
    "a matrix over the last axis": (
        (nn.Conv2d(IMAGE, 2, 3), bh.nn.LIFSynapse(2, 3), lif((4, 4, 3))),
        rf"layers\.1 \(LIFSynapse\) {DENSE} \(4, 4, 2\)",
    ),
    "a readout over the last axis": (
        (nn.Conv2d(IMAGE, 2, 3), Twice(), millivolts, lif(IMAGE)),
        rf"layers\.1 \(Twice\) {DENSE} \(4, 4, 2\)",
    ),
    "some axes with the channels": (
        (nn.Conv2d(IMAGE, 2, 3), nn.Flatten(1, 2, in_size=IMAGE), millivolts, lif((4, 8))),
        r"layers\.1 \(Flatten\) flattens the axes 1 to 2 of shape \(4, 4, 2\)",
    ),
    "many neurons in another order": (
        (nn.Conv2d((48, 48, 1), 2, 1), nn.Flatten(in_size=(48, 48, 2)), millivolts, lif(4608)),
        r"layers\.1 \(Flatten\) returns 4608 values with channels last",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_nir_cannot_say_of_images_is_refused_by_name(name: str) -> None:
    modules, words = REFUSED[name]
    sample = np.zeros((1, *(IMAGE if "many" not in name else (48, 48, 1))), np.float32)
    with pytest.raises(NIRError, match=words):
        to_nir(nn.Sequential(*modules), dt=DT, sample=sample)


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="register_export: images must be True or False; got 'yes'"):
        register_export(Twice, images="yes")


def test_spikes_that_are_called_voltages_reach_the_next_layer_in_any_unit() -> None:
    net = nn.Sequential(synapse(5, 4), lif(4), millivolts, lif(4, 15.0 * u.ms))
    xs = spikes_of((5,))
    spikes = bh.rollout(net, xs)[0]
    assert 0 < spikes.mean() < 1
    for unit in (u.mV, u.volt):
        graph = to_nir(net, dt=DT, voltage_unit=unit)
        np.testing.assert_array_equal(bh.rollout(from_nir(graph, dt=DT), xs)[0], spikes)
        np.testing.assert_array_equal(Chain(graph, 1e-3).run(xs), spikes)
