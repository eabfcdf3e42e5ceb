"""A last batch that is smaller than the others, as every data loader makes it.

The training step was traced two or three times in each epoch (field case 16): the shape that the batch before had left
in the states was part of what was compiled for.
"""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((8, 8, 6)) < 0.6, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.8, 0.6, (6, 8)).astype(np.float32)


def lif():
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV), bh.nn.LIFLayer(8, tau=20 * u.ms, topology="RC")
    )


def h1():
    return brainstate.nn.Sequential(bh.nn.H1v2Synapse(6, 8, weight_init=W_IN), bh.nn.H1v2Layer(8, tau=20 * u.ms))


def fractional():
    layer = bh.nn.FractionalLIFLayer(8, alpha=0.7, tau=10 * u.ms)
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV), layer)


def states(net):
    return {path: np.asarray(u.get_mantissa(state.value)) for path, state in net.states(brainstate.HiddenState).items()}


def training_step(net):
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=1e-3)
    optimizer.register_trainable_weights(weights)
    traces = []

    @brainstate.transform.jit
    def step(xs):
        traces.append(xs.shape)
        loss = lambda: jnp.mean(bh.rollout(net, xs)[0])  # noqa: E731
        gradients, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimizer.update(gradients)
        return value

    return step, traces


@pytest.mark.slow
@pytest.mark.parametrize("make", [lif, h1, fractional])
def test_each_size_is_traced_once(make):
    net = make()
    step, traces = training_step(net)
    for _ in range(4):
        for n in (8, 8, 5):
            before = float(jnp.mean(bh.rollout(net, XS[:, :n])[0]))
            assert float(step(XS[:, :n])) == pytest.approx(before, rel=1e-6)
    assert len(traces) == 2


def test_the_states_after_a_step_are_those_of_its_batch():
    net = lif()

    @brainstate.transform.jit
    def run(xs):
        return bh.rollout(net, xs)[0]

    for n in (8, 5, 8, 3, 5):
        run(XS[:, :n])
        found = states(net)
        bh.rollout(net, XS[:, :n])
        for path, right in states(net).items():
            np.testing.assert_array_equal(found[path], right)


def test_a_run_that_goes_on_still_reads_the_states():
    net = lif()

    @brainstate.transform.jit
    def go_on(xs):
        return bh.rollout(net, xs, prepare=False)[0]

    for n in (8, 5, 8):
        whole = bh.rollout(net, XS[:, :n])[0]
        bh.rollout(net, XS[:4, :n])
        np.testing.assert_array_equal(go_on(XS[4:, :n]), whole[4:])


def test_a_branch_that_is_not_taken_keeps_the_states():
    net = lif()
    bh.rollout(net, XS)
    before = states(net)

    @brainstate.transform.jit
    def maybe(wanted):
        return brainstate.transform.cond(wanted, lambda: jnp.sum(bh.rollout(net, XS)[0]), lambda: jnp.zeros(()))

    assert float(maybe(False)) == 0
    for path, value in states(net).items():
        np.testing.assert_array_equal(value, before[path])


def test_rollouts_in_a_loop_inside_a_compiled_function():
    net = lif()
    bh.prepare_net(net, 8)

    @brainstate.transform.jit
    def both(batches):
        return brainstate.transform.for_loop(lambda xs: bh.rollout(net, xs)[0], batches)

    found = both(jnp.stack([XS, 1 - XS]))
    for one, xs in zip(found, (XS, 1 - XS), strict=True):
        np.testing.assert_array_equal(one, bh.rollout(net, xs)[0])


class Learnt(brainstate.nn.Module):
    """A sum that rests at a learnt value, and reads what it holds when it is reset."""

    def __init__(self):
        super().__init__()
        self.rest = brainstate.ParamState(jnp.full(6, 0.5))
        self.total = brainstate.HiddenState(jnp.zeros(6))

    def reset_state(self, batch_size=None, **_):
        # The old value counts, so that this state stays an input of a compiled function.
        kept = jnp.where(jnp.isfinite(self.total.value).all(), self.rest.value, 0.0)
        self.total.value = kept if batch_size is None else jnp.broadcast_to(kept, (batch_size, 6))

    def update(self, x):
        self.total.value = self.total.value + x
        return self.total.value


def test_a_reset_that_reads_and_the_gradient_of_a_learnt_rest():
    net = Learnt()
    weights = net.states(brainstate.ParamState)

    @brainstate.transform.jit
    def gradient(xs):
        return brainstate.transform.grad(lambda: jnp.sum(bh.rollout(net, xs)[0]), weights)()

    for n in (8, 5, 8):
        (found,) = gradient(XS[:, :n]).values()
        np.testing.assert_allclose(found, np.full(6, 8.0 * n))


class Fails(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = bh.nn.LIFLayer(6, tau=20 * u.ms)

    def update(self, x):
        self.layer(x * u.mV)
        raise RuntimeError("the step failed")


def test_a_trace_that_fails_leaves_the_states_as_they_were():
    net = Fails()
    bh.prepare_net(net, 3)
    net.layer.V.value = jnp.full((3, 6), 0.25) * u.mV

    @brainstate.transform.jit
    def step(xs):
        return brainstate.transform.grad(
            lambda: jnp.sum(bh.rollout(net, xs)[0]), net.states(brainstate.ParamState), check_states=False
        )()

    with pytest.raises(Exception, match="the step failed"):
        step(XS)
    np.testing.assert_array_equal(net.layer.V.value.mantissa, np.full((3, 6), 0.25, np.float32))


@pytest.mark.slow
def test_jit_inside_jit_and_without_jit():
    net = lif()
    inner = brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])
    outer = brainstate.transform.jit(lambda xs: inner(xs) + 1)
    for n in (8, 5, 8):
        right = bh.rollout(net, XS[:, :n])[0]
        np.testing.assert_array_equal(outer(XS[:, :n]), right + 1)
        np.testing.assert_array_equal(inner(XS[:, :n]), right)
    with jax.disable_jit():
        np.testing.assert_array_equal(inner(XS[:2, :5]), right[:2, :5])
    np.testing.assert_array_equal(inner(XS), right)


@pytest.mark.slow
def test_300_epochs_hold_no_memory():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 / 2**20

    net = lif()
    step, traces = training_step(net)

    def epochs(n):
        for _ in range(n):
            for size in (8, 8, 5):
                step(XS[:, :size])

    epochs(20)
    before, arrays = resident(), len(jax.live_arrays())
    epochs(300)
    assert len(traces) == 2
    assert resident() - before < 8
    assert len(jax.live_arrays()) - arrays < 10
