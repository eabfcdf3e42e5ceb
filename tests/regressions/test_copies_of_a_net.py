"""A net cannot be pickled, a limit of brainstate; the troubleshooting page names remedies, and these work."""

from __future__ import annotations

import copy
import pickle

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((20, 3, 4)) < 0.6, jnp.float32)


def built(seed: int) -> brainstate.nn.Sequential:
    brainstate.random.seed(seed)
    weights = 0.6 + 0.2 * brainstate.random.rand(4, 5)
    return brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 5, weight_init=weights), bh.nn.H1v2Layer(5, tau=10 * u.ms))


def test_a_deep_copy_is_another_net_with_the_same_spikes() -> None:
    net = built(0)
    bh.sample_chip(net, 3, leak=0.5)
    right = np.asarray(bh.rollout(net, XS)[0])
    other = copy.deepcopy(net)
    np.testing.assert_array_equal(bh.rollout(other, XS)[0], right)
    bh.nominal_chip(other)
    np.testing.assert_array_equal(bh.rollout(net, XS)[0], right)


def test_pickled_values_of_states_bring_a_net_back() -> None:
    net, same = built(0), built(1)
    bh.sample_chip(net, 3, leak=0.5)
    right = np.asarray(bh.rollout(net, XS)[0])
    bh.prepare_net(same, 3)
    assert (np.asarray(bh.rollout(same, XS)[0]) != right).any()
    held = pickle.dumps({path: state.value for path, state in net.states().items()})
    values = pickle.loads(held)
    for path, state in same.states().items():
        state.value = values[path]
    np.testing.assert_array_equal(bh.rollout(same, XS)[0], right)


def test_the_error_that_the_page_names_is_the_one_of_brainstate() -> None:
    for held in (brainstate.ParamState(jnp.ones(2)), built(0)):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(held)
