"""Operations between layers of a net that runs layer by layer: each kind must give the spikes of single steps."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.transform.rollout import plan_layerwise

T, B, N_IN, N = 23, 3, 6, 8


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def weights(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(0.2, 0.7, shape), jnp.float32) * u.mV


def synapse(seed, n_in, n_out):
    return bh.nn.LIFSynapse(n_in, n_out, weight_init=weights(seed, n_in, n_out))


def lif(n=N, **options):
    return bh.nn.LIFLayer(n, tau=10.0 * u.ms, **options)


class Parts(brainstate.nn.Module):
    """Registered in another order than used; ``kind`` selects the wiring."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.gain = brainstate.ParamState(jnp.float32(0.7))
        self.second, self.out = lif(topology="RC", recurrent_init=0.2 * weights(5, N, N)), lif(N)
        self.syn2, self.syn3 = synapse(2, N, N), synapse(3, N, N)
        self.first, self.syn1 = lif(), synapse(1, N_IN, N)
        self.mask = jnp.asarray(np.arange(N) % 3 > 0, jnp.float32)
        self.linear = brainstate.nn.Linear(N, N, w_init=weights(7, N, N), b_init=0.1 * weights(8, N))

    def update(self, x):  # noqa: PLR0911
        a = self.first(self.syn1(x))
        if self.kind == "order":
            return self.second(self.syn2(a))
        if self.kind == "skip":
            b = self.second(self.syn2(a))
            return self.out(self.syn3(a + b))
        if self.kind == "scaled":
            return self.second(1.5 * self.syn2(0.5 * a * self.mask) + 0.1 * u.mV)
        if self.kind == "parallel":
            b = self.second(self.syn2(a))
            c = self.out(self.syn3(a))
            return jnp.concatenate([b, c, a], -1)
        if self.kind == "shared state":
            return self.gain.value * self.second(self.gain.value * self.syn2(a))
        if self.kind == "linear":
            return self.second(self.linear(a))
        if self.kind == "weights twice":
            return self.out(self.syn2(self.second(self.syn2(a))))
        if self.kind == "over the batch":
            return self.second(self.syn2(a - a.mean(0)))
        if self.kind == "constant":
            return self.second(self.syn2(a)), self.out(jnp.full((*a.shape[:-1], N), 0.3) * u.mV)
        raise AssertionError(self.kind)


KINDS = (
    "order",
    "skip",
    "scaled",
    "parallel",
    "shared state",
    "linear",
    "weights twice",
    "over the batch",
    "constant",
)


def inputs(seed=0, *shape):
    return jnp.asarray(np.random.default_rng(seed).random(shape or (T, B, N_IN)) < 0.4, jnp.float32)


def assert_same(fast, steps):
    for one, other in zip(jax.tree.leaves(fast), jax.tree.leaves(steps), strict=True):
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale + 1e-12)


def outcome(net, xs, **options):
    """Return outputs, states and gradients under jit."""
    params = net.states(brainstate.ParamState)

    def loss():
        out, _ = bh.rollout(net, xs, **options)
        return sum((leaf**2).mean() for leaf in jax.tree.leaves(out)), out

    gradients, out = brainstate.transform.jit(
        brainstate.transform.grad(loss, params, has_aux=True, check_states=False)
    )()
    return out, [s.value for s in net.states(brainstate.HiddenState).values()], gradients


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_link_gives_the_spikes_states_and_gradients_of_the_steps(kind, checkpoint):
    net, xs = Parts(kind), inputs()
    bh.prepare_net(net, B)
    assert plan_layerwise(net, xs[0], call="test") is not None
    fast = outcome(net, xs, checkpoint=checkpoint)
    steps = outcome(net, xs, checkpoint=checkpoint, layerwise=False)
    for one, other in zip(jax.tree.leaves(fast[0]), jax.tree.leaves(steps[0]), strict=True):
        np.testing.assert_array_equal(one, other)
        assert float(jnp.sum(other)) > 0
    assert_same(fast, steps)
    if kind == "shared state":
        assert float(jnp.abs(fast[2][("gain",)])) > 0


@pytest.mark.parametrize("kind", ["skip", "parallel"])
def test_a_stream_in_chunks_is_the_whole_run(kind):
    net, xs = Parts(kind), inputs(1)
    whole = bh.rollout(net, xs)[0]
    first = bh.rollout(net, xs[:9])[0]
    rest = bh.rollout(net, xs[9:], prepare=False)[0]
    np.testing.assert_array_equal(jnp.concatenate([first, rest]), whole)


def test_a_skip_net_gives_each_sample_of_a_batch_what_it_gives_alone():
    net, xs = Parts("skip"), inputs(2, T, 4, N_IN)
    each = [bh.rollout(net, xs[:, i])[0] for i in range(4)]
    np.testing.assert_array_equal(jnp.stack(each, 1), bh.rollout(net, xs)[0])


def conv_net():
    brainstate.random.seed(0)
    return brainstate.nn.Sequential(
        brainstate.nn.Conv2d((8, 8, 1), 3, 3, w_init=weights(1, 3, 3, 1, 3).mantissa),
        brainstate.nn.MaxPool2d(2, 2),
        lambda x: x * u.mV,
        lif((4, 4, 3)),
        brainstate.nn.AvgPool2d(2, 2),
        brainstate.nn.Flatten(in_size=(2, 2, 3)),
        synapse(2, 12, 5),
        lif(5),
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 2])
def test_convolution_and_pooling_run_layer_by_layer(batch):
    net = conv_net()
    shape = (T, 8, 8, 1) if batch is None else (T, batch, 8, 8, 1)
    xs = jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)
    bh.prepare_net(net, batch)
    layers = plan_layerwise(net, xs[0], call="test")
    assert layers is not None
    assert layers.values_per_step == 8 * 8 * 3 * (batch or 1)  # of the convolution
    fast, steps = outcome(net, xs), outcome(net, xs, layerwise=False)
    assert fast[0].shape == ((T, 5) if batch is None else (T, batch, 5))
    assert float(fast[0].sum()) > 0
    np.testing.assert_array_equal(fast[0], steps[0])
    assert_same(fast, steps)


class Fed(Parts):
    def update(self, x):
        return self.first(self.syn1(x) - 0.3 * self.first.spk.value * u.mV)


def test_feedback_runs_step_by_step():
    net, xs = Fed("fed"), inputs(3)
    bh.prepare_net(net, B)
    assert plan_layerwise(net, xs[0], call="test") is None
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], bh.rollout(net, xs, layerwise=False)[0])


def test_dropout_between_layers_runs_step_by_step():
    net = brainstate.nn.Sequential(synapse(1, N_IN, N), lif(), brainstate.nn.Dropout(0.5), synapse(2, N, N), lif())
    bh.prepare_net(net, B)
    with brainstate.environ.context(fit=True):
        assert plan_layerwise(net, inputs()[0], call="test") is None


def test_half_a_sequence_module_is_named():
    class Half(brainstate.nn.Module):
        def update(self, x):
            return x

        def update_sequence(self, xs):
            return xs

    with pytest.raises(TypeError, match=r"rollout: Half .*sequence_records"):
        bh.rollout(brainstate.nn.Sequential(Half(), synapse(1, N_IN, N), lif()), inputs())


class Wrapped(brainstate.nn.Module):
    """The second synapse is called inside another transformation of JAX."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap
        self.syn1, self.first = synapse(1, N_IN, N), lif()
        self.syn2, self.second = synapse(2, N, N), lif()

    def _inner(self, spikes):
        return self.syn2(spikes)

    def update(self, x):
        return self.second(self.wrap(self._inner)(self.first(self.syn1(x))))


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, jax.checkpoint, brainstate.transform.checkpoint])
def test_a_synapse_called_inside_another_transformation_keeps_its_gradient(wrap, jitted):
    # The trace of such a step raises an error. In an earlier version the enclosing `grad` then treated states as
    # constants: all gradients were zero, without an error.
    net, xs = Wrapped(wrap), inputs(3)
    params = net.states(brainstate.ParamState)

    def gradients(layerwise):
        def loss():
            return bh.rollout(net, xs, layerwise=layerwise)[0].mean()

        run = brainstate.transform.grad(loss, params)
        return brainstate.transform.jit(run)() if jitted else run()

    steps = gradients(False)
    assert len(steps) == 2
    assert all(float(np.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(steps))
    assert_same(gradients(True), steps)
