"""Modules that ask brainstate.environ for the time ``t`` or the step ``i``, as brainstate's own loops offer them.

``rollout`` and ``stream`` did not set them: such a module raised a KeyError there (field case 27).
"""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop import stablehlo
from brainhw.transform.rollout import plan_layerwise

T, B = 12, 3
XS = jnp.asarray(np.random.default_rng(0).random((T, B, 6)) < 0.6, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.5, 0.6, (6, 8)).astype(np.float32)
environ = brainstate.environ


class Asking(brainstate.nn.Module):
    def __init__(self, ask):
        super().__init__()
        self.ask = ask
        self.synapse = bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV)
        self.layer = bh.nn.LIFLayer(8, tau=20 * u.ms)

    def update(self, x):
        return self.layer(self.synapse(self.ask(x)))


ASKING = {
    "t": lambda x: jnp.where(environ.get("t") < 5 * u.ms, x, 0.0),
    "i": lambda x: x * (environ.get("i") % 3 == 0),
    "t, if there is one": lambda x: (
        x if environ.get("t", default=None) is None else x * jnp.cos(environ.get("t") / u.ms)
    ),
}


def by_hand(net, first=0):
    """What brainstate's loop gives, as its documentation writes it."""
    dt = environ.get_dt()

    def step(i, x):
        with environ.context(i=i, t=i * dt):
            return net(x)

    bh.prepare_net(net, B)
    return np.asarray(brainstate.transform.for_loop(step, first + jnp.arange(T), XS))


@pytest.fixture(params=ASKING.values(), ids=ASKING)
def net(request):
    return Asking(request.param)


@pytest.mark.parametrize("options", [{}, {"checkpoint": 5}, {"check_finite": True}, {"layerwise": False}])
def test_rollout_counts_as_brainstates_loops(net, options):
    right = by_hand(net)
    np.testing.assert_array_equal(bh.rollout(net, XS, **options)[0], right)


def test_compiled_too(net):
    right = by_hand(net)
    compiled = brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])
    np.testing.assert_array_equal(compiled(XS), right)


def test_a_stream_counts_and_reset_starts_anew(net):
    right = by_hand(net)
    step = bh.stream(net, B)
    for _ in range(2):
        np.testing.assert_array_equal([np.asarray(step(x)) for x in XS], right)
        step.reset()


def test_chunks_that_say_where_they_begin_are_one_run(net):
    right = by_hand(net)
    chunks = []
    for first in range(0, T, 4):
        with environ.context(i=first):
            chunks.append(np.asarray(bh.rollout(net, XS[first : first + 4], prepare=first == 0)[0]))
    np.testing.assert_array_equal(np.concatenate(chunks), right)


def test_a_stream_that_begins_later():
    net = Asking(ASKING["i"])
    right = by_hand(net, first=4)
    with environ.context(i=4):
        step = bh.stream(net, B)
    np.testing.assert_array_equal([np.asarray(step(x)) for x in XS], right)


def test_a_time_that_is_set_around_is_the_start():
    net = Asking(ASKING["t"])
    with environ.context(t=2.0 * u.ms):
        found = bh.rollout(net, XS)[0]
    np.testing.assert_array_equal(found, by_hand(net, first=2))


def test_only_a_net_that_depends_on_the_time_runs_step_by_step():
    for ask, whole in ((lambda x: x, True), (ASKING["t"], False), (ASKING["i"], False)):
        net = Asking(ask)
        bh.prepare_net(net, B)
        assert (plan_layerwise(net, XS[0], call="test") is not None) is whole


def test_a_program_has_no_clock():
    with pytest.raises(ValueError, match=r"export_step.* t or i"):
        stablehlo.export_step(Asking(ASKING["t"]), XS[0])
