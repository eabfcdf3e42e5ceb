"""Chips sampled by prepare_net: keys, kinds of variation, their sizes, and their lifetime."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1, H1V2

both = pytest.mark.parametrize("kind", ["H1v1", "H1v2"])


def chip_of(net: brainstate.nn.Module) -> dict[str, np.ndarray]:
    """Everything that belongs to a prepared chip: charges, time constants, thresholds."""
    return {
        ".".join(map(str, path)): np.array(u.get_mantissa(state.value))
        for path, state in net.states(brainstate.ShortTermState).items()
        if not isinstance(state, brainstate.HiddenState)
    }


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name, values in one.items() if not np.array_equal(values, other[name])}


@both
def test_the_same_key_is_the_same_chip_whatever_the_batch_and_the_form_of_the_key(make_net, kind: str) -> None:
    net = make_net(kind)
    bh.prepare_net(net, 2, key=7)
    first = chip_of(net)
    for batch_size in (None, 1, 5):
        for key in (7, jax.random.key(7), np.int64(7), jnp.asarray(7)):
            bh.prepare_net(net, batch_size, key=key)
            assert not differing(chip_of(net), first)
    other = make_net(kind)
    brainstate.transform.jit(lambda: bh.prepare_net(other, 3, key=7))()
    for name, values in chip_of(other).items():
        np.testing.assert_allclose(values, first[name], rtol=1e-6, atol=1e-7)


@both
def test_without_a_key_the_chip_is_nominal_and_comes_back_after_a_sampled_one(make_net, kind: str) -> None:
    net = make_net(kind)
    bh.prepare_net(net)
    nominal = chip_of(net)
    np.testing.assert_array_equal(nominal["hidden.chip_tau"], np.full(5, 10.0, np.float32))
    np.testing.assert_array_equal(nominal["out.chip_V_th"], np.full(3, 100.0, np.float32))
    np.testing.assert_array_equal(
        nominal["syn1.effective.charge"], net.syn1.chip.charge(net.syn1.weight.value).mantissa
    )
    bh.prepare_net(net, key=1)
    assert differing(chip_of(net), nominal)
    bh.prepare_net(net)
    assert not differing(chip_of(net), nominal)


def test_which_numbers_vary_on_which_family(make_net) -> None:
    varies = {}
    for kind in ("H1v1", "H1v2"):
        net = make_net(kind)
        bh.prepare_net(net)
        nominal = chip_of(net)
        bh.prepare_net(net, key=1)
        one = chip_of(net)
        bh.prepare_net(net, key=2)
        varies[kind] = differing(one, nominal)
        assert differing(chip_of(net), one) == varies[kind]
    taus = {"hidden.chip_tau", "out.chip_tau"}
    charges = {"syn1.effective.charge", "hidden.effective.charge", "syn2.effective.charge"}
    assert varies["H1v1"] == taus | charges
    assert varies["H1v2"] == taus | {"hidden.chip_V_th", "out.chip_V_th"}


@both
def test_a_spec_without_mismatch_makes_every_key_the_nominal_chip(kind: str) -> None:
    preset = {"H1v1": H1V1, "H1v2": H1V2}[kind]
    chip = preset.replace(synapse_mismatch_std=None, leak_mismatch_std=None, threshold_mismatch_std=0.0)
    synapse = {"H1v1": bh.nn.H1v1Synapse, "H1v2": bh.nn.H1v2Synapse}[kind]
    layer = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}[kind]
    net = brainstate.nn.Sequential(synapse(3, 2, chip=chip), layer(2, tau=10 * u.ms, chip=chip, topology="RC"))
    bh.prepare_net(net)
    nominal = chip_of(net)
    bh.prepare_net(net, key=3)
    assert not differing(chip_of(net), nominal)


def normal_sample(values: np.ndarray, mean: float, std: float) -> None:
    """Mean and standard deviation are within four standard errors of the target, and the tails are about normal."""
    n = values.size
    assert abs(values.mean() - mean) < 4 * std / np.sqrt(n)
    assert abs(values.std() / std - 1) < 4 / np.sqrt(2 * n)
    inside = np.mean(np.abs(values - mean) < std)
    assert abs(inside - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / n)


@pytest.mark.slow
@pytest.mark.parametrize("key", [0, 1])
def test_the_spread_of_a_sampled_h1v1_is_that_of_its_spec(key: int) -> None:
    rng = np.random.default_rng(0)
    w = rng.uniform(-0.9, 0.9, (60, 70))
    synapse, layer = bh.nn.H1v1Synapse(60, 70, weight_init=w), bh.nn.H1v1Layer(70, tau=10 * u.ms, topology="RC")
    long = bh.nn.H1v1Layer(2000, tau=50 * u.ms)
    net = brainstate.nn.Sequential(synapse, layer, bh.nn.H1v1Synapse(70, 2000), long)
    bh.prepare_net(net, key=key)
    nominal = 1.034 * 1.8 * np.tanh(w / 1.8)
    noise = (np.asarray(synapse.effective.charge.value.mantissa) - nominal) / 1.034
    normal_sample(noise, 0.0, 0.02)
    # The mismatch is in weight units, equal for small and large weights.
    small = np.abs(w) < 0.45
    assert abs(noise[small].std() / noise[~small].std() - 1) < 0.15
    recurrent = layer.effective.charge.value.mantissa - H1V1.charge(layer.recurrent_weight.value).mantissa
    normal_sample(np.asarray(recurrent) / 1.034, 0.0, 0.02)
    assert abs(np.corrcoef(np.ravel(recurrent[:60]), np.ravel(noise))[0, 1]) < 4 / np.sqrt(noise.size)
    # The leak current is log-normal, and tau is inversely proportional to it.
    normal_sample(np.log(50.0 / np.asarray(long.chip_tau.value.mantissa)), 0.0, 0.10)
    assert np.unique(long.chip_V_th.value.mantissa).size == 1


@pytest.mark.parametrize("key", [0, 1])
def test_the_spread_of_a_sampled_h1v2_is_that_of_its_spec(key: int) -> None:
    layer, twin = bh.nn.H1v2Layer(2000, tau=20 * u.ms), bh.nn.H1v2Layer(2000, tau=20 * u.ms)
    synapse = bh.nn.H1v2Synapse(2000, 2000, weight_init=jnp.full((2000, 2000), 0.5))
    net = brainstate.nn.Sequential(layer, synapse, twin)
    bh.prepare_net(net, key=key)
    leak, threshold = (
        np.log(20.0 / np.asarray(layer.chip_tau.value.mantissa)),
        np.asarray(layer.chip_V_th.value.mantissa),
    )
    normal_sample(leak, 0.0, 0.10)
    normal_sample(threshold, 100.0, 2.0)
    assert np.unique(synapse.effective.charge.value.mantissa).size == 1
    # Leak and threshold of a neuron are drawn independently, and so are two layers of one chip.
    assert abs(np.corrcoef(leak, threshold)[0, 1]) < 4 / np.sqrt(2000)
    assert abs(np.corrcoef(threshold, np.asarray(twin.chip_V_th.value.mantissa))[0, 1]) < 4 / np.sqrt(2000)


@both
def test_a_chip_stays_as_it_is_over_time_and_batch_rows(make_net, make_input, kind: str) -> None:
    net = make_net(kind)
    xs = jnp.broadcast_to(make_input(20, 1), (20, 4, 4))
    spikes, seen = bh.rollout(net, xs, key=5, record=("hidden.chip_tau", "hidden.chip_V_th"))
    sampled = chip_of(net)
    for name, values in seen.items():
        np.testing.assert_array_equal(u.get_mantissa(values), np.broadcast_to(sampled[name], (20, 5)))
    np.testing.assert_array_equal(spikes, np.broadcast_to(spikes[:, :1], spikes.shape))
    bh.rollout(net, xs, prepare=False)
    assert not differing(chip_of(net), sampled)


def test_a_chip_does_not_depend_on_what_else_is_in_the_net(make_net) -> None:
    net = make_net("H1v1")
    bh.prepare_net(net, key=5)
    before = chip_of(net)
    net.another = bh.nn.H1v1Synapse(7, 7)
    bh.prepare_net(net, key=5)
    after = chip_of(net)
    assert not differing(before, after)
    assert set(after) - set(before) == {"another.effective.charge"}


@both
def test_the_mismatch_of_the_chip_is_what_the_neurons_run_with(simulate_chip, make_input, kind: str) -> None:
    layer = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}[kind](4, tau=10 * u.ms)
    charge = make_input(40, None)
    sampled, seen = bh.rollout(layer, charge * u.fcoulomb, key=3, record=("V_pre",))
    wanted = simulate_chip(
        np.asarray(charge, float) * 10,
        tau=np.asarray(layer.chip_tau.value.mantissa, float),
        V_th=np.asarray(layer.chip_V_th.value.mantissa, float),
        kind=kind,
    )
    np.testing.assert_allclose(seen["V_pre"].mantissa, wanted, rtol=1e-4, atol=1e-3)
    assert sampled.sum() > 0


@pytest.fixture
def simulate_chip():
    def run(drive: np.ndarray, *, tau: np.ndarray, V_th: np.ndarray, kind: str) -> np.ndarray:
        V, seen = np.zeros(drive.shape[1]), []
        for x in drive:
            V = np.maximum(V * np.exp(-1 / tau) + x, 0)
            seen.append(V)
            left = V * 0 if kind == "H1v1" else np.maximum(V - V_th, 0)
            V = np.where(V_th <= V, left, V)
        return np.stack(seen)

    return run


def test_many_chips_at_once_equal_one_after_the_other(make_net, make_input) -> None:
    xs, net = make_input(15), make_net("one layer")
    keys = jax.random.split(jax.random.key(3), 3)
    run = lambda key: bh.rollout(net, xs, key=key)[0]  # noqa: E731
    one_by_one = np.stack([run(key) for key in keys])
    states = {0: net.states(brainstate.ShortTermState)}
    at_once = brainstate.transform.jit(brainstate.transform.vmap(run, out_states=states))(keys)
    np.testing.assert_array_equal(at_once, one_by_one)
    assert not np.array_equal(one_by_one[0], one_by_one[1])


def test_gradients_reach_the_weights_through_a_sampled_chip(make_net, make_input) -> None:
    xs, net = make_input(12), make_net("one layer")
    weights = net.states(brainstate.ParamState)

    def gradient(key: int | None) -> dict:
        return brainstate.transform.grad(lambda: jnp.mean(bh.rollout(net, xs, key=key)[0]), weights)()

    nominal, sampled = (brainstate.transform.jit(lambda key=key: gradient(key))() for key in (None, 2))
    for path, grad in sampled.items():
        assert np.abs(grad).max() > 0
        assert not np.array_equal(grad, nominal[path])
