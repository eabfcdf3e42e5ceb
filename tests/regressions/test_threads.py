"""One network in several threads at once.

Eager rollouts of one net left each other's tracers in its weights, and two steps of one stream took the same memory.
"""

from concurrent.futures import ThreadPoolExecutor

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((20, 2, 6)) < 0.6, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.4, 0.6, (6, 8)).astype(np.float32)
DT = 1.0 * u.ms  # set in every thread: the oldest brainstate keeps settings per thread


def net_of():
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV), bh.nn.LIFLayer(8, tau=20 * u.ms, topology="RC")
    )


def in_threads(function, given):
    def under_dt(one):
        with brainstate.environ.context(dt=DT):
            return function(one)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(under_dt, given))


def test_eager_rollouts_of_one_net_take_turns():
    net = net_of()
    inputs = [XS, 1 - XS, XS[:, :1], XS[:10]] * 3
    right = [np.asarray(bh.rollout(net, xs)[0]) for xs in inputs[:4]] * 3
    for found, expected in zip(in_threads(lambda xs: np.asarray(bh.rollout(net, xs)[0]), inputs), right, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all(isinstance(leaf, jax.Array) for s in net.states().values() for leaf in jax.tree.leaves(s._value))
    assert not any(
        isinstance(leaf, jax.core.Tracer) for s in net.states().values() for leaf in jax.tree.leaves(s._value)
    )


def test_a_stream_makes_one_step_a_call_from_whatever_thread():
    net = net_of()
    x, n = XS[0], 160
    right = np.asarray(bh.rollout(net, jnp.broadcast_to(x, (n, *x.shape)))[0])
    step = bh.stream(net, 2)
    for _ in range(3):
        # All steps have one input, so that their order does not matter; the first call compiles, in some thread.
        found = in_threads(lambda _: np.asarray(step(x)), range(n))
        assert step.steps == n
        assert sorted(map(bytes, found)) == sorted(map(bytes, right))
        step.reset()


def test_streams_on_one_net_start_beside_rollouts_of_it():
    net = net_of()
    right = np.asarray(bh.rollout(net, XS)[0])

    def stream(_):
        step = bh.stream(net, 2)
        return np.stack([np.asarray(step(x)) for x in XS])

    def either(k):
        return stream(k) if k % 2 else np.asarray(bh.rollout(net, XS)[0])

    for found in in_threads(either, range(8)):
        np.testing.assert_array_equal(found, right)
