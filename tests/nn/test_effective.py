"""Effective weights: never unprepared, never stale, never silently cut off from the gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, B, N_IN, N = 8, 2, 4, 3


class Net(brainstate.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.syn = bh.nn.H1v1Synapse(N_IN, N, weight_init=np.full((N_IN, N), 0.6))
        self.hidden = bh.nn.H1v1Layer(N, tau=10 * u.ms, topology="RC")

    def update(self, x: jax.Array) -> jax.Array:
        return self.hidden(self.syn(x))


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def xs() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).random((T, B, N_IN)) * 8)


def penalty(net: Net) -> jax.Array:
    return jnp.sum(net.syn.weight.value**2) + jnp.sum(net.hidden.recurrent_weight.value**2)


def weights(net: Net) -> dict:
    return net.states(brainstate.ParamState)


@pytest.mark.parametrize(
    "build",
    [
        lambda: (bh.nn.H1v1Synapse(N_IN, N), jnp.ones(N_IN)),
        lambda: (bh.nn.H1v2Synapse(N_IN, N), jnp.ones(N_IN)),
        lambda: (bh.nn.H1v2Frontend(), jnp.ones(16)),
        lambda: (bh.nn.H1v1Layer(N, tau=10 * u.ms, topology="RC"), jnp.ones(N) * u.fcoulomb),
    ],
)
def test_an_unprepared_module_says_so_and_a_prepared_one_runs(build: Callable) -> None:
    module, x = build()
    with pytest.raises(
        RuntimeError, match=rf"{type(module).__name__}.update: .* not prepared; call brainhw.prepare_net"
    ):
        module(x)
    for state in module.states(brainstate.HiddenState).values():
        assert not np.any(u.get_mantissa(state.value))
    bh.prepare_net(module)
    module(x)


def test_a_weight_written_after_preparing_makes_the_net_stale(net: Net, xs: jax.Array) -> None:
    bh.prepare_net(net, B)
    net(xs[0])
    net.syn.weight.value = net.syn.weight.value * 1.0
    with pytest.raises(RuntimeError, match=r"H1v1Synapse.update: the weights changed since the network was prepared"):
        net(xs[0])
    bh.prepare_net(net, B)
    net.hidden.recurrent_weight.value = net.hidden.recurrent_weight.value + 0.1
    with pytest.raises(RuntimeError, match=r"H1v1Layer.update: the weights changed"):
        bh.rollout(net, xs, prepare=False)
    bh.rollout(net, xs)


@pytest.mark.parametrize("compiled", [False, True])
def test_an_optimizer_step_makes_the_net_stale(net: Net, xs: jax.Array, compiled: bool) -> None:
    optimizer = braintools.optim.Adam(lr=1e-2)
    optimizer.register_trainable_weights(weights(net))

    def train_step() -> None:
        grads = brainstate.transform.grad(lambda: jnp.sum(bh.rollout(net, xs)[0]), weights(net))()
        optimizer.update(grads)

    before = np.asarray(net.syn.weight.value)
    (brainstate.transform.jit(train_step) if compiled else train_step)()
    assert not np.array_equal(net.syn.weight.value, before)
    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        net(xs[0])
    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        brainstate.transform.jit(lambda: bh.rollout(net, xs, prepare=False)[0])()


def test_a_step_and_then_a_run_in_one_compiled_function_needs_a_new_preparation(net: Net, xs: jax.Array) -> None:
    bh.prepare_net(net, B)

    def change_and_run(prepare: bool) -> jax.Array:
        net.syn.weight.value = net.syn.weight.value + 0.1
        return bh.rollout(net, xs, prepare=prepare)[0]

    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        brainstate.transform.jit(change_and_run, static_argnums=0)(False)
    fresh = brainstate.transform.jit(change_and_run, static_argnums=0)(True)
    np.testing.assert_array_equal(fresh, bh.rollout(net, xs)[0])


def test_loading_weights_makes_the_net_stale(net: Net, xs: jax.Array, tmp_path) -> None:
    file = str(tmp_path / "weights.msgpack")
    braintools.file.msgpack_save(file, weights(net), verbose=False)
    bh.prepare_net(net, B)
    braintools.file.msgpack_load(file, weights(net), verbose=False)
    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        net(xs[0])


@pytest.mark.parametrize("reads", ["not", "before", "after"])
def test_a_net_prepared_once_runs_compiled_whatever_reads_its_weights(net: Net, xs: jax.Array, reads: str) -> None:
    bh.prepare_net(net, B)

    @brainstate.transform.jit
    def evaluate(xs: jax.Array) -> jax.Array:
        extra = penalty(net) if reads == "before" else 0.0
        spikes = bh.rollout(net, xs, prepare=False)[0]
        extra = penalty(net) if reads == "after" else extra
        return spikes + 0 * extra

    spikes = evaluate(xs)
    np.testing.assert_array_equal(spikes, bh.rollout(net, xs)[0])
    assert spikes.sum() > 0


def test_a_step_may_read_the_weights_before_it_runs(net: Net, xs: jax.Array) -> None:
    def loss(reads: bool) -> jax.Array:
        bh.prepare_net(net, B)

        def step(x: jax.Array) -> jax.Array:
            extra = 0 * penalty(net) if reads else 0.0
            return net(x).sum() + extra

        return brainstate.transform.for_loop(step, xs).sum()

    plain = brainstate.transform.grad(lambda: loss(False), weights(net))()
    reading = brainstate.transform.grad(lambda: loss(True), weights(net))()
    for path, grad in plain.items():
        np.testing.assert_allclose(reading[path], grad, rtol=1e-5, atol=1e-6)
        assert np.abs(grad).max() > 0


# A loss that reads the weights elsewhere hides from brainstate that the spikes do not depend on them.
LOSSES = {
    "plain": lambda net, run: run().sum(),
    "penalty after": lambda net, run: run().sum() + penalty(net),
    "penalty before": lambda net, run: penalty(net) + run().sum(),
}


@pytest.mark.parametrize("checkpoint", [None, 3])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_gradient_past_a_preparation_outside_the_loss_is_refused(
    net: Net, xs: jax.Array, kind: str, compiled: bool, checkpoint: int | None
) -> None:
    def loss() -> jax.Array:
        return LOSSES[kind](net, lambda: bh.rollout(net, xs, prepare=False, checkpoint=checkpoint)[0])

    def gradient() -> dict:
        bh.prepare_net(net, B)
        return brainstate.transform.grad(loss, weights(net))()

    with pytest.raises(RuntimeError, match=r"H1v1(Layer|Synapse): the gradient cannot reach the weights, .* outside"):
        (brainstate.transform.jit(gradient) if compiled else gradient)()


def test_a_gradient_that_leaves_the_weights_alone_needs_no_preparation_in_the_loss(net: Net, xs: jax.Array) -> None:
    bh.prepare_net(net, B)
    grad = brainstate.transform.grad(lambda x: bh.rollout(net, x, prepare=False)[0].sum() + penalty(net))(xs)
    assert np.abs(grad).max() > 0


def test_forward_gradients_pass_and_are_refused_alike(net: Net, xs: jax.Array) -> None:
    bh.prepare_net(net, B)
    inside = brainstate.transform.fwd_grad(
        lambda: jnp.sum(bh.rollout(net, xs, layerwise=False)[0]), weights(net), key=jax.random.key(0)
    )()
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(inside))
    bh.prepare_net(net, B)
    outside = brainstate.transform.fwd_grad(
        lambda: jnp.sum(bh.rollout(net, xs, prepare=False, layerwise=False)[0]), weights(net), key=jax.random.key(0)
    )
    with pytest.raises(RuntimeError, match="the gradient cannot reach the weights"):
        outside()


def test_charges_are_no_parameters_and_master_weights_have_one_path(net: Net) -> None:
    assert set(weights(net)) == {("syn", "weight"), ("hidden", "recurrent_weight")}
    assert set(net.states(brainstate.ShortTermState)) >= {
        ("syn", "effective", "charge"),
        ("hidden", "effective", "charge"),
    }


def test_a_copy_has_weights_of_its_own_and_runs_once_prepared(net: Net) -> None:
    bh.prepare_net(net)
    twin = copy.deepcopy(net)
    twin.syn.weight.value = twin.syn.weight.value * 0
    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        twin.syn(np.ones(twin.syn.in_size))
    bh.prepare_net(twin)
    assert not np.any(twin.syn(np.ones(twin.syn.in_size)).mantissa)
    assert np.any(net.syn(np.ones(net.syn.in_size)).mantissa)


def test_chip_weights_lists_each_weight_once(net: Net) -> None:
    assert set(bh.nn.chip_weights(net)) == {"syn", "hidden"}
    net.again = net.syn
    net.pairs = [(net.syn, net.hidden)]
    found = bh.nn.chip_weights(net)
    assert len(found) == 2
    assert {id(weight.master) for weight in found.values()} == {id(net.syn.weight), id(net.hidden.recurrent_weight)}
    assert bh.nn.chip_weights(bh.nn.LIFSynapse(2, 2)) == {}
