"""Recordings of different lengths in one padded batch: outputs and records end where a recording ends."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


@pytest.fixture(scope="module")
def net() -> brainstate.nn.Module:
    brainstate.random.seed(0)
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(3, 8, weight_init=jnp.full((3, 8), 1.0)), bh.nn.H1v2Layer(8, tau=20 * u.ms)
    )


X = np.random.default_rng(0).random((30, 3, 3)).astype(np.float32) * 3
LENGTHS = np.array([30, 12, 1])


@pytest.mark.slow
@pytest.mark.parametrize("layerwise", [True, False])
def test_each_recording_is_as_if_it_were_alone(net: brainstate.nn.Module, layerwise: bool) -> None:
    outputs, seen = bh.rollout(net, X, lengths=LENGTHS, record=("layers.1.V",), layerwise=layerwise)
    assert outputs[:12].sum() > 0
    for i, length in enumerate(LENGTHS):
        alone, of_alone = bh.rollout(net, X[:length, i : i + 1], record=("layers.1.V",), layerwise=layerwise)
        np.testing.assert_array_equal(outputs[:length, i], alone[:, 0])
        np.testing.assert_array_equal(outputs[length:, i], 0)
        held, expected = (one["layers.1.V"].to(u.mV).mantissa for one in (seen, of_alone))
        np.testing.assert_allclose(held[:length, i], expected[:, 0], atol=1e-4)  # mV
        np.testing.assert_array_equal(held[length:, i], 0)


def test_one_recording_without_a_batch(net: brainstate.nn.Module) -> None:
    outputs, _ = bh.rollout(net, X[:, 0], lengths=5)
    assert outputs[5:].sum() == 0
    np.testing.assert_array_equal(outputs[:5], bh.rollout(net, X[:5, 0])[0])


def test_under_jit_and_with_a_gradient(net: brainstate.nn.Module) -> None:
    weights = net.states(brainstate.ParamState)

    def n_spikes(x, lengths):
        return bh.rollout(net, x, lengths=lengths)[0].sum()

    gradient = brainstate.transform.jit(brainstate.transform.grad(n_spikes, weights))

    padded = gradient(X, jnp.asarray(LENGTHS))
    other = X.copy()
    for i, length in enumerate(LENGTHS):
        other[length:, i] = 7.0  # the values in the padding make no difference
    for one, two in zip(padded.values(), gradient(other, jnp.asarray(LENGTHS)).values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[1, 2], [1, 2, 31], [0, 1, 2], [1.5, 2.0, 3.0], 4])
def test_bad_lengths_are_named(net: brainstate.nn.Module, lengths: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^rollout: lengths must"):
        bh.rollout(net, X, lengths=lengths)


def test_power_is_that_of_the_true_steps(net: brainstate.nn.Module) -> None:
    short = bh.deploy.estimate_power(net, X[:12, :1])
    padded = np.concatenate([X[:12, :1], np.ones((18, 1, 3), np.float32)])
    long = bh.deploy.estimate_power(net, padded, lengths=[12])
    assert long.duration == short.duration == 12 * u.ms
    np.testing.assert_allclose(long.energy.mantissa, short.energy.mantissa, rtol=1e-6)
    # For several recordings, the mean of time and of spikes.
    both = bh.deploy.estimate_power(net, X, lengths=LENGTHS)
    alone = [bh.deploy.estimate_power(net, X[:n, i : i + 1]) for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(both.energy.mantissa, np.mean([one.energy.mantissa for one in alone]), rtol=1e-5)
    with pytest.raises(ValueError, match=r"^estimate_power: lengths must be between 1 and 30, the number of steps"):
        bh.deploy.estimate_power(net, X, lengths=[1, 2, 40])
