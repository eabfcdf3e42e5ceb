"""A function compiled under one dt and called under another.

brainstate keeps what it compiled by the shapes of arguments and states alone: 139 spikes for 97 under 5 ms (field case
25), and after a new trace under 5 ms it kept those numbers for 1 ms too.
"""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((20, 4, 6)) < 0.8, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.2, 0.4, (6, 8)).astype(np.float32)


def lif():
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV), bh.nn.LIFLayer(8, tau=4 * u.ms))


def h1():
    return brainstate.nn.Sequential(bh.nn.H1v2Synapse(6, 8, weight_init=W_IN + 0.6), bh.nn.H1v2Layer(8, tau=5 * u.ms))


def readout():
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV), bh.nn.CubaLIFLayer(8))


def under(dt, function, *given):
    with brainstate.environ.context(dt=dt * u.ms):
        return np.asarray(function(*given))


def counted(function):
    """The compiled function, and a list that grows by one entry for each trace."""
    traces = []

    @brainstate.transform.jit
    def compiled(xs):
        traces.append(1)
        return function(xs)

    return compiled, traces


@pytest.mark.parametrize("make", [lif, h1, readout])
def test_it_is_traced_again_under_another_dt_and_right_under_each(make):
    net = make()

    def run(xs):
        return bh.rollout(net, xs)[0]

    right = {dt: under(dt, run, XS) for dt in (1.0, 5.0)}
    assert not np.array_equal(right[1.0], right[5.0])
    compiled, traces = counted(run)
    seen = []
    for dt in (1.0, 1.0, 5.0, 5.0, 1.0, 1.0):
        np.testing.assert_array_equal(under(dt, compiled, XS), right[dt])
        seen.append(len(traces))
    assert seen == [1, 1, 2, 2, 3, 3]


def test_a_loop_over_a_net_that_was_prepared_outside_too():
    net = lif()
    bh.prepare_net(net, 4)
    compiled, _ = counted(lambda xs: brainstate.transform.for_loop(net, xs))
    for dt in (1.0, 5.0, 1.0):
        bh.prepare_net(net, 4)
        found = under(dt, compiled, XS)
        np.testing.assert_array_equal(found, under(dt, lambda xs: bh.rollout(net, xs)[0], XS))


@pytest.mark.slow
def test_gradients_too_also_of_a_grad_that_was_made_before():
    net = lif()
    weights = net.states(brainstate.ParamState)
    grad = brainstate.transform.grad(lambda xs: jnp.sum(bh.rollout(net, xs)[0]), weights)

    def step(xs):
        (found,) = grad(xs).values()
        return u.get_mantissa(found)

    compiled, traces = counted(step)
    for dt in (1.0, 5.0, 1.0):
        np.testing.assert_allclose(under(dt, compiled, XS), under(dt, step, XS), rtol=1e-5, atol=1e-6)
    assert len(traces) == 3


def test_a_function_that_sets_its_own_dt_is_traced_once():
    net = lif()

    def run(xs):
        with brainstate.environ.context(dt=5.0 * u.ms):
            return bh.rollout(net, xs)[0]

    compiled, traces = counted(run)
    found = [under(dt, compiled, XS) for dt in (1.0, 1.0, 5.0, 2.0)]
    assert len(traces) == 1
    right = under(5.0, lambda xs: bh.rollout(net, xs)[0], XS)
    assert all(np.array_equal(one, right) for one in found)


def test_a_branch_and_a_checkpoint_inside():
    net = lif()
    bh.prepare_net(net, 4)

    def branch(xs):
        one, other = (lambda: bh.rollout(net, xs)[0]), (lambda: bh.rollout(net, 0 * xs)[0])
        return brainstate.transform.cond(xs.sum() > 0, one, other)

    def recomputed(xs):
        return brainstate.transform.checkpoint(lambda xs: bh.rollout(net, xs)[0])(xs)

    right = {dt: under(dt, lambda xs: bh.rollout(net, xs)[0], XS) for dt in (1.0, 5.0)}
    for run in (branch, recomputed):
        compiled, _ = counted(run)
        for dt in (1.0, 5.0, 1.0):
            np.testing.assert_array_equal(under(dt, compiled, XS), right[dt])


def test_fit_too():
    synapse = bh.nn.H1v2Synapse(6, 8, weight_init=W_IN, weight_bits=2, rounding="stochastic")

    @brainstate.transform.jit
    def charges():
        bh.prepare_net(synapse)
        return synapse.effective.charge.value.mantissa

    nearest = charges()
    with brainstate.environ.context(fit=True):
        assert not np.array_equal(charges(), nearest)
    np.testing.assert_array_equal(charges(), nearest)
    np.testing.assert_array_equal(charges(), nearest)


def test_a_stream_keeps_its_dt_and_its_program_over_a_reset_under_another():
    net = lif()
    step = bh.stream(net, 4)
    first = [np.asarray(step(x)) for x in XS[:5]]
    program = step._step
    with brainstate.environ.context(dt=5.0 * u.ms):
        step.reset()
        again = [np.asarray(step(x)) for x in XS[:5]]
    assert step._step is program
    np.testing.assert_array_equal(again, first)
