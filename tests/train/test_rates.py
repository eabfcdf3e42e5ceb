"""Losses, metrics and the projection, against numbers worked out by hand."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import brainhw as bh


def chip_net(weights: np.ndarray, recurrent: np.ndarray | None = None) -> brainstate.nn.Module:
    n = weights.shape[1]
    topology = "FF" if recurrent is None else "RC"
    layer = bh.nn.H1v1Layer(n, tau=20 * u.ms, topology=topology, recurrent_init=recurrent)
    return brainstate.nn.Sequential(bh.nn.H1v1Synapse(*weights.shape, weight_init=weights), layer)


def test_weight_magnitude_loss_is_the_mean_over_all_weights() -> None:
    net = chip_net(np.array([[1.0, 0.0], [-1.1, 0.9]]), np.array([[0.0, -2.0], [0.5, 0.0]]))
    expected = (0.1**2 + 0.2**2 + 1.1**2) / 8
    assert float(bh.train.weight_magnitude_loss(net)) == pytest.approx(expected, rel=1e-5)
    assert bh.train.out_of_range(net) == 3


def test_weight_magnitude_loss_takes_the_limit_of_the_family() -> None:
    weights = np.array([[1.5]])
    v1 = bh.nn.H1v1Synapse(1, 1, weight_init=weights)
    v2 = bh.nn.H1v2Synapse(1, 1, weight_init=weights)
    assert float(bh.train.weight_magnitude_loss(v1)) == pytest.approx(0.36, rel=1e-5)
    assert float(bh.train.weight_magnitude_loss(v2)) == 0.0


def test_a_synapse_that_is_pointed_at_twice_counts_once() -> None:
    class Pointed(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.synapse = bh.nn.H1v1Synapse(1, 1, weight_init=np.array([[1.9]]))
            self.layer = bh.nn.H1v1Layer(1, tau=20 * u.ms)
            self.layer_pairs = [(self.synapse, self.layer)]

        def update(self, x):
            return self.layer(self.synapse(x))

    assert float(bh.train.weight_magnitude_loss(Pointed())) == pytest.approx(1.0, rel=1e-5)


def test_gradient_of_the_magnitude_loss_points_back_into_the_range() -> None:
    net = chip_net(np.array([[1.2, 0.3], [-1.0, 0.9]]))
    weights = net.states(brainstate.ParamState)
    (gradient,) = brainstate.transform.grad(lambda: bh.train.weight_magnitude_loss(net), weights)().values()
    np.testing.assert_allclose(gradient, [[2 * 0.3 / 4, 0], [-2 * 0.1 / 4, 0]], rtol=1e-5)


@given(arrays(np.float32, (7, 3), elements=st.floats(-2, 2, width=32)))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_topology_loss_against_a_loop_over_blocks(weights: np.ndarray) -> None:
    """Seven rows make one block of five and a tail of two, down each column."""
    blocks = [column[part] for column in weights.T for part in (slice(0, 5), slice(5, 7))]
    expected = np.mean([np.abs(b).sum() - abs(b.sum()) for b in blocks])
    got = float(bh.train.topology_loss(bh.nn.H1v1Synapse(7, 3, weight_init=weights)))
    assert got == pytest.approx(expected, abs=1e-5)


def test_topology_loss_is_zero_for_blocks_of_one_sign_and_follows_the_axis() -> None:
    weights = np.ones((10, 4))
    weights[5:] = -1
    assert float(bh.train.topology_loss(bh.nn.H1v1Synapse(10, 4, weight_init=weights))) == 0.0
    post = bh.chip.H1V1.replace(sign_axis="post")
    assert float(bh.train.topology_loss(bh.nn.H1v1Synapse(4, 10, chip=post, weight_init=weights.T))) == 0.0
    assert float(bh.train.topology_loss(bh.nn.H1v1Synapse(4, 10, weight_init=weights.T))) == 0.0
    assert float(bh.train.topology_loss(bh.nn.H1v1Synapse(10, 4, chip=post, weight_init=weights.copy()))) == 0.0
    mixed = np.tile([[1.0], [-1.0]], (5, 4))
    assert float(bh.train.topology_loss(bh.nn.H1v1Synapse(10, 4, weight_init=mixed))) == pytest.approx(4.0)


def test_losses_need_weights_on_a_chip() -> None:
    lif = bh.nn.LIFSynapse(2, 2)
    for call in (bh.train.weight_magnitude_loss, bh.train.topology_loss, bh.train.clip_weights, bh.train.out_of_range):
        with pytest.raises(ValueError, match=f"{call.__name__}: the network has no weight on a chip"):
            call(lif)
        with pytest.raises(TypeError, match=f"{call.__name__}: net must be"):
            call(3)
    with pytest.raises(ValueError, match="only one-to-one frontends"):
        bh.train.topology_loss(bh.nn.H1v1Frontend())


def test_clip_weights_inside_jit_moves_only_what_is_beyond() -> None:
    net = chip_net(np.array([[1.2, 0.3], [-5.0, 0.9]]))
    brainstate.transform.jit(lambda: bh.train.clip_weights(net))()
    np.testing.assert_allclose(net.layers[0].weight.value, [[0.9, 0.3], [-0.9, 0.9]], rtol=1e-6)
    assert bh.train.out_of_range(net) == 0


def test_firing_rate_target_in_hertz_and_per_step_agree() -> None:
    spikes = [jnp.zeros((100, 3, 4)).at[::10].set(1.0), jnp.ones((100, 3, 2))]
    with brainstate.environ.context(dt=2.0 * u.ms):
        with_units = bh.train.firing_rate_target_mse_loss(
            spikes, [20 * u.Hz, 0.4 * u.kHz], [100 * u.ms, 0.01 * u.second]
        )
    assert float(with_units) == pytest.approx(((50 - 20) * 0.1) ** 2 + ((500 - 400) * 0.01) ** 2, rel=1e-5)
    plain = bh.train.firing_rate_target_mse_loss(spikes, [0.04, 0.8], [50.0, 5.0])
    assert float(plain) == pytest.approx(float(with_units), rel=1e-5)


@pytest.mark.parametrize(
    ("offsets", "multipliers", "error", "message"),
    [
        ([1.0], [1.0], ValueError, r"must have the same length.*\(2, 1, 1\)"),
        ([20 * u.Hz, 1.0], [1.0, 1.0], TypeError, r"multipliers\[0\] must be a Quantity with the dimension of s"),
        ([20 * u.mV, 1.0], [1.0, 1.0], TypeError, r"offsets\[0\] must have the dimension of Hz"),
        ([0.1, 0.1], [1 * u.second, 1.0], TypeError, r"multipliers\[0\] must be a number without a unit"),
    ],
)
def test_firing_rate_target_refuses_what_does_not_cancel(offsets, multipliers, error, message) -> None:
    with pytest.raises(error, match=message):
        bh.train.firing_rate_target_mse_loss([jnp.ones((2, 3))] * 2, offsets, multipliers)


def test_balanced_population_mse_by_hand() -> None:
    counts = np.array([[3, 1, 0, 2], [0, 0, 5, 4]])  # two samples, two classes of two neurons
    spikes = (np.arange(5)[:, None, None] < counts).astype(np.float32)
    target = np.array([[4, 4, 1, 1], [1, 1, 4, 4]])
    got = bh.train.balanced_population_mse(jnp.asarray(spikes), jnp.array([0, 1]), 2, high=4, low=1)
    assert float(got) == pytest.approx(np.mean((counts - target) ** 2))


def test_accuracies_by_hand() -> None:
    counts = np.array([[3, 0, 0, 2], [0, 1, 0, 4], [2, 2, 3, 0]])
    spikes = jnp.asarray((np.arange(5)[:, None, None] < counts).astype(np.float32))
    assert float(bh.train.accuracy(spikes, jnp.array([0, 3, 2]))) == 1.0
    assert float(bh.train.accuracy(spikes, jnp.array([0, 3, 1]))) == pytest.approx(2 / 3)
    # Populations (0, 1) and (2, 3): 3 against 2, 1 against 4, 4 against 3.
    assert float(bh.train.accuracy_population(spikes, jnp.array([0, 1, 0]), 2)) == 1.0


def test_metrics_refuse_shapes_that_do_not_fit() -> None:
    spikes, labels = jnp.ones((5, 2, 4)), jnp.array([0, 1])
    with pytest.raises(ValueError, match="4 output neurons cannot form equal populations for 3 classes"):
        bh.train.accuracy_population(spikes, labels, 3)
    with pytest.raises(ValueError, match=r"balanced_population_mse: spikes must be \[T, B, N\] and labels \[B\]"):
        bh.train.balanced_population_mse(spikes, jnp.array([0, 1, 1]), 2, high=1)
    with pytest.raises(ValueError, match=r"accuracy: spikes must be \[T, B, N\]"):
        bh.train.accuracy(spikes[0], labels)
    with pytest.raises(TypeError, match="labels must be integers"):
        bh.train.accuracy(spikes, jnp.array([0.0, 1.0]))


def test_labels_that_are_no_class_are_named() -> None:
    spikes = jnp.ones((5, 2, 4))
    with pytest.raises(ValueError, match="accuracy_population: labels must be between 0 and 1; got 0 to 7"):
        bh.train.accuracy_population(spikes, jnp.array([0, 7]), 2)
    with pytest.raises(ValueError, match="accuracy: labels must be between 0 and 3; got -1 to 0"):
        bh.train.accuracy(spikes, jnp.array([-1, 0]))
    with pytest.raises(ValueError, match="balanced_population_mse: labels must be between 0 and 1"):
        bh.train.balanced_population_mse(spikes, jnp.array([7, 7]), 2, high=4)


def test_a_weight_that_is_nan_is_out_of_range() -> None:
    synapse = bh.nn.H1v1Synapse(2, 1)
    synapse.weight.value = jnp.array([[np.nan], [0.5]])
    assert bh.train.out_of_range(synapse) == 1


def test_votes_are_mean_counts_of_populations_and_decide_as_the_accuracy_does() -> None:
    spikes = jnp.asarray(np.random.default_rng(0).random((20, 6, 12)) < 0.3, jnp.float32)
    votes = bh.train.population_votes(spikes, 3)
    np.testing.assert_allclose(votes, spikes.sum(0).reshape(6, 3, 4).mean(-1), rtol=1e-6)
    clear = np.sum(votes == votes.max(-1, keepdims=True), axis=-1) == 1
    assert float(bh.train.accuracy_population(spikes[:, clear], votes.argmax(-1)[clear], 3)) == 1.0
    with pytest.raises(ValueError, match=r"^population_votes: spikes must be \[T, B, N\]; got shape \(6, 12\)"):
        bh.train.population_votes(spikes[0], 3)
    with pytest.raises(ValueError, match=r"^population_votes: 12 output neurons cannot form equal populations for 5"):
        bh.train.population_votes(spikes, 5)
