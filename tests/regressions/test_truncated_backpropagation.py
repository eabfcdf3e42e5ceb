"""Learning on a long recording chunk by chunk, with the membranes carried over (truncated backpropagation).

On chips there was no public way: with ``prepare=False`` the gradient cannot reach the weights, and a preparation put
the membranes to rest (field case 10).
"""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, CHUNK, B = 20, 5, 4
XS = jnp.asarray(np.random.default_rng(0).random((T, B, 6)) < 0.7, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.9, 0.6, (6, 8)).astype(np.float32)

NETS = {
    "lif": lambda: brainstate.nn.Sequential(
        bh.nn.LIFSynapse(6, 8, weight_init=0.5 * W_IN * u.mV), bh.nn.LIFLayer(8, tau=20 * u.ms)
    ),
    "h1v1": lambda: brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(6, 8, weight_init=W_IN), bh.nn.H1v1Layer(8, tau=20 * u.ms)
    ),
    "h1v2 RC": lambda: brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(6, 8, weight_init=W_IN), bh.nn.H1v2Layer(8, tau=20 * u.ms, topology="RC")
    ),
}


@pytest.fixture(params=NETS.values(), ids=NETS)
def net(request):
    brainstate.random.seed(0)
    return request.param()


def chunks():
    return [XS[first : first + CHUNK] for first in range(0, T, CHUNK)]


def training_step(net, lr):
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.SGD(lr=lr)
    optimizer.register_trainable_weights(weights)

    @brainstate.transform.jit
    def step(xs):
        def loss():
            spikes = bh.rollout(net, xs, prepare="weights")[0]
            return jnp.mean(spikes), spikes

        gradients, spikes = brainstate.transform.grad(loss, weights, has_aux=True)()
        optimizer.update(gradients)
        size = sum(jnp.abs(u.get_mantissa(one)).sum() for one in jax.tree.leaves(gradients, is_leaf=u.math.is_quantity))
        return spikes, size

    return step


@pytest.mark.slow
def test_chunks_without_learning_are_one_run_and_every_chunk_has_a_gradient(net):
    whole = bh.rollout(net, XS)[0]
    assert 0 < whole.mean() < 1
    step = training_step(net, lr=0.0)
    bh.prepare_net(net, B)
    found = [step(xs) for xs in chunks()]
    np.testing.assert_array_equal(np.concatenate([spikes for spikes, _ in found]), whole)
    assert all(size > 0 for _, size in found)


def test_changed_weights_count_from_the_next_chunk_on(net):
    (weight, *_) = net.states(brainstate.ParamState).values()
    bh.rollout(net, XS[:CHUNK])
    held = {path: state.value for path, state in net.states(brainstate.HiddenState).items()}
    weight.value = 1.5 * weight.value
    found = bh.rollout(net, XS[CHUNK:], prepare="weights")[0]
    bh.prepare_net(net, B)
    for path, state in net.states(brainstate.HiddenState).items():
        state.value = held[path]
    np.testing.assert_array_equal(found, bh.rollout(net, XS[CHUNK:], prepare=False)[0])


def test_prepare_net_without_a_reset_leaves_the_states(net):
    bh.rollout(net, XS[:CHUNK])
    held = {path: state.value for path, state in net.states(brainstate.HiddenState).items()}
    bh.prepare_net(net, reset=False)
    for path, state in net.states(brainstate.HiddenState).items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), u.get_mantissa(held[path]))
    bh.prepare_net(net, B)
    assert any(
        not np.array_equal(u.get_mantissa(state.value), u.get_mantissa(held[path]))
        for path, state in net.states(brainstate.HiddenState).items()
    )


def test_a_key_samples_the_chip_of_a_whole_run():
    net = NETS["h1v1"]()
    whole = bh.rollout(net, XS, key=3)[0]
    assert not np.array_equal(whole, bh.rollout(net, XS)[0])
    bh.prepare_net(net, B)
    found = [bh.rollout(net, xs, prepare="weights", key=3)[0] for xs in chunks()]
    np.testing.assert_array_equal(np.concatenate(found), whole)


def test_what_contradicts_itself_is_refused_and_nothing_changes():
    net = NETS["h1v2 RC"]()
    bh.rollout(net, XS[:CHUNK])
    held = net.layers[1].V.value
    with pytest.raises(ValueError, match=r"prepare_net: batch_size is 4.*reset is False"):
        bh.prepare_net(net, 4, reset=False)
    with pytest.raises(TypeError, match=r"prepare_net: reset must be True or False; got 'no'"):
        bh.prepare_net(net, reset="no")
    for bad in ("states", "False", None, 1, [True]):
        with pytest.raises(TypeError, match=r"rollout: prepare must be True, False or 'weights'; got"):
            bh.rollout(net, XS, prepare=bad)
    assert net.layers[1].V.value is held
