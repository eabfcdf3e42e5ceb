"""trace_step: calls, values, links, and an unchanged network."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.transform.trace import trace_step


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


class Net(brainstate.nn.Module):
    """A container with its own scale between two leaves."""

    def __init__(self, *, direct=False):
        super().__init__()
        self.layer = bh.nn.LIFLayer(2, tau=10 * u.ms)
        self.synapse = bh.nn.LIFSynapse(3, 2, weight_init=jnp.ones((3, 2)) * 0.5 * u.mV)
        self.scale = brainstate.ParamState(jnp.float32(2.0))
        self.direct = direct

    def update(self, x):
        if self.direct:
            return self.layer.update(self.scale.value * self.synapse.update(x))
        return self.layer(self.scale.value * self.synapse(x))


@pytest.mark.parametrize("direct", [False, True])
def test_calls_stand_in_the_order_of_the_step(direct):
    net = Net(direct=direct)
    step = trace_step(net, jnp.ones(3))
    assert [(call.path, call.module) for call in step.calls] == [("synapse", net.synapse), ("layer", net.layer)]
    synapse, layer = step.calls
    assert synapse.given.same(step.given)
    assert step.returned.same(layer.gave)
    assert not layer.given.same(synapse.gave)
    assert (layer.given.unit, layer.given.shape, layer.gave.shape) == (u.mV, (2,), (2,))
    assert all(call.owns_states and call.takes_one for call in step.calls)
    assert {id(state) for state in step.written} == {id(net.layer.V), id(net.layer.spk)}
    assert not step.has_effects


def test_a_link_has_the_value_and_the_gradient_of_the_step_and_reads_states_at_call_time():
    net = Net()
    step = trace_step(net, jnp.ones(3))
    link = step.link(step.calls[1].given, [step.given, step.calls[0].gave])
    assert link.sources == (step.calls[0].gave,)
    assert link.states == (net.scale,)
    assert (link.identity, link.numbers) == (False, 2)
    drive = jnp.array([1.0, 3.0]) * u.mV
    np.testing.assert_allclose(link(drive).to(u.mV).mantissa, [2.0, 6.0])
    net.scale.value = jnp.float32(3.0)
    np.testing.assert_allclose(link(drive).to(u.mV).mantissa, [3.0, 9.0])
    gradient = jax.grad(lambda x: link(x * u.mV).to(u.mV).mantissa.sum())(jnp.ones(2))
    np.testing.assert_allclose(gradient, [3.0, 3.0])
    assert jax.vmap(link)(jnp.ones((5, 2)) * u.mV).shape == (5, 2)


def test_a_link_to_a_source_is_the_identity():
    step = trace_step(Net(), jnp.ones(3))
    link = step.link(step.returned, [step.given, step.calls[1].gave])
    assert link.identity
    assert link.numbers == 0
    np.testing.assert_array_equal(link(jnp.array([1.0, 0.0])), [1.0, 0.0])


def test_a_net_that_is_a_leaf_is_its_own_call():
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms)
    (call,) = trace_step(layer, jnp.ones(2) * u.mV).calls
    assert (call.path, call.module) == ("", layer)


def test_containers_are_looked_into():
    net = brainstate.nn.Sequential(brainstate.nn.Sequential(bh.nn.LIFSynapse(3, 2)), bh.nn.LIFLayer(2, tau=9 * u.ms))
    assert [call.path for call in trace_step(net, jnp.ones(3)).calls] == ["layers.0.layers.0", "layers.1"]


class InLoop(Net):
    def update(self, x):
        return brainstate.transform.for_loop(lambda x: self.layer(self.synapse(x)), jnp.stack([x, x]))[-1]


def test_a_call_inside_a_loop_within_the_step_is_refused():
    net = InLoop()
    before = net.layer.V.value
    with pytest.raises(jax.errors.UnexpectedTracerError):
        trace_step(net, jnp.ones(3))
    assert net.layer.V.value is before
    assert bh.rollout(net, jnp.ones((4, 3)))[0].shape == (4, 2)


def test_the_network_is_as_before_also_after_a_failure():
    net = Net()
    before = {path: state.value for path, state in net.states().items()}
    own = net.layer.update
    with pytest.raises(ValueError, match="must have length 3"):
        trace_step(net, jnp.ones(4))
    trace_step(net, jnp.ones(3))
    assert "update" not in vars(net.layer)
    assert net.layer.update == own
    assert all(state.value is before[path] for path, state in net.states().items())
