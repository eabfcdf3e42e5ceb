"""rollout with checkpoints: the same bits, the same gradients, a fraction of the memory."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.transform.rollout import segment_length

RECORD = ("hidden.V", "hidden.V_pre", "hidden.spk")


def assert_same_bits(one: object, other: object) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@settings(derandomize=True, deadline=None, max_examples=7)
@given(
    n_steps=st.sampled_from([1, 2, 12, 13, 16]),
    checkpoint=st.one_of(st.just("auto"), st.integers(1, 20)),
    kind=st.sampled_from(["lif", "H1v1"]),
)
def test_segments_change_no_bit_of_outputs_records_and_states(n_steps: int, checkpoint: object, kind: str) -> None:
    xs = jnp.asarray(np.random.default_rng(n_steps).random((n_steps, 2, 4)), jnp.float32)
    if kind == "lif":
        layer = bh.nn.LIFLayer(4, tau=10 * u.ms, topology="RC", recurrent_init=np.full((4, 4), 0.2) * u.mV)
        xs = xs * 0.8 * u.mV
    else:
        layer = bh.nn.H1v1Layer(4, tau=10 * u.ms, topology="RC", recurrent_init=np.full((4, 4), 0.2))
        xs = xs * 8 * u.fcoulomb
    record = ("V", "V_pre", "spk")
    plain = bh.rollout(layer, xs, record=record, layerwise=False)
    states = [np.asarray(u.get_mantissa(layer.V.value)), np.asarray(layer.spk.value)]
    assert_same_bits(bh.rollout(layer, xs, record=record, checkpoint=checkpoint, layerwise=False), plain)
    assert_same_bits([u.get_mantissa(layer.V.value), layer.spk.value], states)
    # Layer by layer the spikes are the same, but a membrane may be rounded differently: in loops of some lengths XLA
    # fuses a multiplication and an addition into one operation.
    fast, seen = bh.rollout(layer, xs, record=record, checkpoint=checkpoint)
    assert_same_bits([fast, seen["spk"], layer.spk.value], [plain[0], plain[1]["spk"], states[1]])
    for name in ("V", "V_pre"):
        scale = float(np.abs(plain[1][name].mantissa).max())
        np.testing.assert_allclose(seen[name].mantissa, plain[1][name].mantissa, rtol=0, atol=4e-7 * scale)


@pytest.mark.parametrize(("kind", "checkpoints"), [("one layer", (1, 7, 18)), ("lif", ("auto",))])
def test_gradients_agree_to_rounding(make_net, make_input, kind: str, checkpoints: tuple) -> None:
    xs, net = make_input(13), make_net(kind)
    weights = net.states(brainstate.ParamState)

    @brainstate.transform.jit(static_argnums=0)
    def gradient(checkpoint: object) -> tuple:
        def loss() -> tuple:
            spikes, seen = bh.rollout(net, xs, record=RECORD, checkpoint=checkpoint)
            return jnp.mean(spikes) + jnp.mean(u.get_mantissa(seen["hidden.V"]) ** 2) / 100, (spikes, seen)

        return brainstate.transform.grad(loss, weights, has_aux=True)()

    plain, out = gradient(None)
    for checkpoint in checkpoints:
        segmented, out_segmented = gradient(checkpoint)
        assert_same_bits(out_segmented[0], out[0])
        for path in plain:
            grad, other = (np.asarray(u.get_mantissa(of[path])) for of in (plain, segmented))
            np.testing.assert_allclose(other, grad, rtol=1e-6, atol=1e-6 * np.abs(grad).max(), err_msg=str(path))
            assert np.abs(grad).max() > 0


def test_segments_of_a_fractional_layer_are_longer_and_have_the_same_gradients() -> None:
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        layer = bh.nn.FractionalLIFLayer(3, alpha=0.6, tau=5 * u.ms, method="cn", learn_alpha=True)
        net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3, weight_init=np.full((4, 3), 0.8) * u.mV), layer)
        xs = jnp.asarray(np.random.default_rng(0).random((24, 2, 4)))

        weights = net.states(brainstate.ParamState)

        @brainstate.transform.jit(static_argnums=0)
        def gradient(checkpoint: object) -> tuple:
            def loss() -> jax.Array:
                return (bh.rollout(net, xs, checkpoint=checkpoint)[0] * xs[..., :3]).sum()

            return brainstate.transform.grad(loss, weights, return_value=True)()

        plain, value = gradient(None)
        assert value > 0
        for checkpoint in (6, 10, "auto"):
            found, again = gradient(checkpoint)
            np.testing.assert_allclose(again, value, rtol=1e-12)
            for path, expected in plain.items():
                one, other = (np.asarray(u.get_mantissa(leaf)) for leaf in (found[path], expected))
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())
    # The state has 26 arrays per neuron, and that of LIF neurons 2.
    lif = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=5 * u.ms))
    assert [segment_length("auto", 400, one, call="rollout") for one in (lif, net)] == [10, 40]


def test_automatic_checkpoints_need_a_fraction_of_the_memory() -> None:
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(16, 32),
        bh.nn.H1v1Layer(32, tau=10 * u.ms, topology="RC"),
        bh.nn.LeakyReadout(32, 4, tau=10 * u.ms),
    )
    xs = jnp.zeros((400, 4, 16))
    weights = net.states(brainstate.ParamState)

    def temporary_bytes(checkpoint: object) -> int:
        def gradient(xs: jax.Array) -> dict:
            loss = lambda: jnp.mean(bh.rollout(net, xs, checkpoint=checkpoint)[0] ** 2)  # noqa: E731
            return brainstate.transform.grad(loss, weights)()

        return brainstate.transform.jit(gradient).compile(xs).memory_analysis().temp_size_in_bytes

    stored, recomputed = temporary_bytes(None), temporary_bytes("auto")
    assert recomputed < stored / 4


def test_automatic_segments_leave_no_remainder_where_some_do_not(make_net, make_input) -> None:
    # 22 = 2 * 11 has no divisor near its root, 24 = 4 * 6 has one: both must run, for any chosen length.
    for n_steps in (22, 24):
        xs = make_input(n_steps)
        plain = bh.rollout(make_net("H1v2"), xs)[0]
        np.testing.assert_array_equal(bh.rollout(make_net("H1v2"), xs, checkpoint="auto")[0], plain)
