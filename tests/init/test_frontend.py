"""frontend_init: reached rates, warnings, invalid arguments, restored states."""

from __future__ import annotations

import inspect
import re
import warnings

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh

FAMILIES = {
    "H1v1": (bh.nn.H1v1Frontend, bh.nn.H1v1Layer, bh.nn.H1v1Synapse, bh.chip.H1V1),
    "H1v2": (bh.nn.H1v2Frontend, bh.nn.H1v2Layer, bh.nn.H1v2Synapse, bh.chip.H1V2),
}
family = pytest.mark.parametrize("family", sorted(FAMILIES))
ONE_SPIKE = 1 / (8 * 0.25)  # Hz, in the data of `noise`


def noise(seed: int = 0, n_samples: int = 8) -> np.ndarray:
    return (30 * np.random.default_rng(seed).random((n_samples, 250, 16))).astype(np.float32)


def frontend_net(family: str, **options: object) -> brainstate.nn.Module:
    frontend, layer, _, _ = FAMILIES[family]
    return brainstate.nn.Sequential(frontend(), layer(16, tau=10 * u.ms, **options))


def weights_of(net: brainstate.nn.Module) -> np.ndarray:
    return np.asarray(net.layers[0].weight.value)


def hz(rates: u.Quantity) -> np.ndarray:
    return np.asarray(rates.to(u.Hz).mantissa)


def found(net: brainstate.nn.Module, x: np.ndarray, target: u.Quantity = 50 * u.Hz) -> np.ndarray:
    return hz(bh.init.frontend_init(net, [x], target, verbose=False))


def messages(net: brainstate.nn.Module, x: np.ndarray, target: u.Quantity = 50 * u.Hz) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.init.frontend_init(net, [x], target, verbose=False)
    return [str(warning.message) for warning in caught]


def rates_of_rollout(net: brainstate.nn.Module, x: np.ndarray) -> np.ndarray:
    spikes, _ = bh.rollout(net, np.swapaxes(x, 0, 1))
    return np.asarray(spikes.mean(axis=(0, 1))) * 1000


@family
@pytest.mark.parametrize("target", [5.0, 300.0])
def test_every_channel_meets_the_target_and_the_rates_are_those_of_a_rollout(family: str, target: float) -> None:
    net, x = frontend_net(family), noise()
    rates = found(net, x, target * u.Hz)
    assert rates.shape == (16,)
    np.testing.assert_allclose(rates, target, atol=ONE_SPIKE)
    np.testing.assert_allclose(rates_of_rollout(net, x), rates, rtol=1e-5)
    assert bh.train.out_of_range(net) == 0
    assert np.all(weights_of(net) > 0)


@settings(max_examples=4, derandomize=True, deadline=None)
@given(target=st.floats(4, 250), scale=st.floats(10, 1000), seed=st.integers(0, 99))
def test_any_positive_noise_strong_enough_meets_any_target(target: float, scale: float, seed: int) -> None:
    with brainstate.environ.context(dt=1.0 * u.ms):
        rates = found(frontend_net("H1v1"), noise(seed) * scale / 30, target * u.Hz)
    np.testing.assert_allclose(rates, target, atol=max(ONE_SPIKE, 0.1 * target))


@family
def test_higher_targets_need_larger_weights(family: str) -> None:
    net, x = frontend_net(family), noise()
    weights = []
    for target in (10, 60, 300):
        found(net, x, target * u.Hz)
        weights.append(weights_of(net))
    assert np.all(np.diff(weights, axis=0) > 0)


def test_the_smallest_weight_is_found_and_not_just_any() -> None:
    """A slightly smaller weight gives one spike less, because the step of the count is narrow."""
    net, x = frontend_net("H1v1"), noise()
    found(net, x)
    net.layers[0].weight.value = net.layers[0].weight.value * 0.97
    assert np.all(rates_of_rollout(net, x) < 50)


def test_each_channel_may_have_its_own_target() -> None:
    targets = np.linspace(160, 10, 16)
    np.testing.assert_allclose(found(frontend_net("H1v2"), noise(), targets * u.Hz), targets, atol=ONE_SPIKE)


def test_channel_without_input_is_named_and_left() -> None:
    net, x = frontend_net("H1v1"), noise()
    x[..., [3, 7]] = 0
    before = weights_of(net)
    told = messages(net, x)
    assert len(told) == 1
    assert told[0].startswith("frontend_init: channel(s) 3, 7 have only zeros as input and keep their weights")
    np.testing.assert_array_equal(weights_of(net)[[3, 7]], before[[3, 7]])
    active = np.delete(np.arange(16), [3, 7])
    np.testing.assert_allclose(rates_of_rollout(net, x)[active], 50, atol=ONE_SPIKE)


@family
def test_weak_channel_is_at_the_limit_and_the_remedy_in_the_warning_works(family: str) -> None:
    limit = FAMILIES[family][3].weight_limit
    net, x = frontend_net(family), noise()
    x[..., 4] *= 0.06
    x[..., 9] *= 0.02
    told = messages(net, x)
    assert len(told) == 1
    numbers = r"channel\(s\) 4, 9 fire at ([\d.]+), ([\d.]+) Hz \(target 50.0 Hz\) even at the weight limit ([\d.]+)"
    remedy = re.search(numbers + r"\. Scale the input by ([\d.]+) \(needed by channel 9\) or use a longer", told[0])
    assert remedy is not None, told
    at_4, at_9, named_limit, factor = (float(number) for number in remedy.groups())
    assert (at_4, at_9) == pytest.approx(rates_of_rollout(net, x)[[4, 9]], abs=0.06)
    assert named_limit == limit
    np.testing.assert_allclose(weights_of(net)[[4, 9]], limit, rtol=1e-6)

    np.testing.assert_allclose(found(net, x * np.float32(factor)), 50, atol=ONE_SPIKE)
    np.testing.assert_allclose(weights_of(net)[9], limit, rtol=0.03)  # the factor is no larger than it must be
    x[..., [4, 9]] *= np.float32(0.8 * factor)
    assert "channel(s) 9 fire at" in messages(net, x)[0]


def test_channel_that_no_gain_can_help_is_told_so() -> None:
    net, x = frontend_net("H1v1"), noise()
    x[..., 2] = 0
    x[:, ::50, 2] = 5.0  # H1v1 resets to zero: one spike per active step at most, 20 Hz
    told = messages(net, x)
    assert len(told) == 1
    assert "channel(s) 2 fire at 0.0 Hz (target 50.0 Hz) even at the weight limit 0.9" in told[0]
    assert "only 20.0 Hz if the input is 1024 times as strong, because the input is nonzero in too few" in told[0]


def test_regular_input_can_make_the_rate_jump_past_the_target() -> None:
    net = frontend_net("H1v1")
    told = messages(net, np.full((4, 250, 16), 30.0), 400 * u.Hz)
    assert len(told) == 1
    assert "(target 400.0 Hz). No closer rate was found, because the input is so regular" in told[0]
    assert weights_of(net).max() < 0.9


@family
def test_negative_input_is_served_by_a_negative_weight(family: str) -> None:
    net, x = frontend_net(family), noise()
    x[..., 6] *= -1
    np.testing.assert_allclose(found(net, x), 50, atol=ONE_SPIKE)
    assert weights_of(net)[6] < 0
    assert np.all(np.delete(weights_of(net), 6) > 0)


def test_sign_is_turned_where_the_mean_misleads() -> None:
    """A weak negative background outweighs rare strong pulses in the mean, but only the pulses can drive the neuron."""
    net, x = frontend_net("H1v1"), noise()
    x[..., 1] = -0.6
    x[:, ::30, 1] = 14.0
    assert x[..., 1].mean() < 0
    assert found(net, x, 36 * u.Hz)[1] == pytest.approx(36)  # each of the nine pulses in 250 ms
    assert weights_of(net)[1] > 0


@pytest.mark.parametrize(("family", "spread"), [("H1v1", None), ("H1v2", 1.0)])
def test_recurrent_layer_is_served_and_its_weights_stay(family: str, spread: float | None) -> None:
    recurrent = None if spread is None else spread * np.random.default_rng(1).normal(size=(16, 16))
    net, x = frontend_net(family, topology="RC", recurrent_init=recurrent), noise()
    before = net.layers[1].recurrent_weight.value
    rates = found(net, x)
    np.testing.assert_allclose(rates, 50, rtol=0.1)
    np.testing.assert_allclose(rates_of_rollout(net, x), rates, rtol=1e-5)
    assert net.layers[1].recurrent_weight.value is before


def test_recurrent_layer_that_will_not_settle_is_reported() -> None:
    recurrent = 10 * np.random.default_rng(1).normal(size=(16, 16))
    told = messages(frontend_net("H1v2", topology="RC", recurrent_init=recurrent), noise(), 5 * u.Hz)
    assert any("neurons of an 'RC' layer drive each other; use smaller recurrent weights" in text for text in told)


def test_all_other_states_are_put_back() -> None:
    net = frontend_net("H1v1")
    bh.prepare_net(net, 5, key=3)
    layer = net.layers[1]
    layer.V.value = layer.V.value + 3 * u.mV
    kept = {path: state.value for path, state in net.states().items() if path[-1] != "weight"}
    found(net, noise())
    assert all(net.states()[path].value is value for path, value in kept.items())


def test_weights_are_as_before_where_a_warning_is_an_error() -> None:
    net, x = frontend_net("H1v1"), noise()
    x[..., 0] = 0
    bh.prepare_net(net, 5)
    kept = {path: state.value for path, state in net.states().items()}
    with pytest.raises(UserWarning, match=r"channel\(s\) 0 have only zeros"):
        found(net, x)
    assert all(net.states()[path].value is value for path, value in kept.items())


def test_same_data_same_weights_whatever_the_start_and_the_unit() -> None:
    x = noise()
    nets = [frontend_net("H1v2") for _ in range(3)]
    nets[1].layers[0].weight.value = nets[1].layers[0].weight.value * 0.1
    rates = [found(net, x, target) for net, target in zip(nets, (50 * u.Hz, 50.0 * u.Hz, 0.05 * u.kHz), strict=True)]
    for net, rate in zip(nets[1:], rates[1:], strict=True):
        np.testing.assert_array_equal(weights_of(net), weights_of(nets[0]))
        np.testing.assert_array_equal(rate, rates[0])


def test_tuples_and_several_batches() -> None:
    x = noise()
    net, again = frontend_net("H1v1"), frontend_net("H1v1")
    halves = ((jnp.asarray(x[i : i + 4]), np.zeros(4)) for i in (0, 4))
    bh.init.frontend_init(net, halves, 50 * u.Hz, n_batches=2, verbose=False)
    found(again, x)
    np.testing.assert_array_equal(weights_of(net), weights_of(again))


@pytest.mark.no_dt
def test_shorter_steps_allow_higher_targets() -> None:
    net, x = frontend_net("H1v1"), noise()
    with brainstate.environ.context(dt=0.5 * u.ms):
        np.testing.assert_allclose(found(net, x, 700 * u.Hz), 700, rtol=0.02)


def test_works_before_and_after_fluct_init() -> None:
    frontend, layer, synapse, _ = FAMILIES["H1v1"]

    class Net(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Alphabetical order would pair these wrongly; registration order is right.
            self.z_frontend, self.y_layer = frontend(), layer(16, tau=10 * u.ms)
            self.b_synapse, self.a_layer = synapse(16, 24), layer(24, tau=20 * u.ms)

        def update(self, x: jnp.ndarray) -> jnp.ndarray:
            return self.a_layer(self.b_synapse(self.y_layer(self.z_frontend(x))))

    net, x = Net(), noise()
    dense = net.b_synapse.weight.value
    rates = found(net, x, 60 * u.Hz)
    weights = np.asarray(net.z_frontend.weight.value)
    assert net.b_synapse.weight.value is dense
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(net, [x], xi_target=1.0, verbose=False)
    np.testing.assert_array_equal(net.z_frontend.weight.value, weights)
    dense = net.b_synapse.weight.value
    np.testing.assert_array_equal(found(net, x, 60 * u.Hz), rates)
    np.testing.assert_array_equal(net.z_frontend.weight.value, weights)
    assert net.b_synapse.weight.value is dense


@family
def test_verbose_prints_the_documented_lines(family: str, capsys: pytest.CaptureFixture) -> None:
    bh.init.frontend_init(frontend_net(family), [noise()])
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == f"[frontend_init] target=50.0Hz dt=1.0ms [{family}]"
    assert re.fullmatch(r"  Frontend → ν=[\d.]+\.\.[\d.]+Hz before, [\d.]+Hz after \| w=0\.\d+\.\.0\.\d+", second), (
        second
    )
    assert last == "[frontend_init] done."
    bh.init.frontend_init(frontend_net(family), [noise()], np.linspace(20, 80, 16) * u.Hz)
    assert capsys.readouterr().out.startswith("[frontend_init] target=20.0..80.0Hz dt=1.0ms")
    found(frontend_net(family), noise())
    assert capsys.readouterr().out == ""


def test_warnings_point_at_the_caller() -> None:
    x = noise()
    x[..., 0] = 0
    with pytest.warns(UserWarning, match="only zeros") as caught:
        bh.init.frontend_init(frontend_net("H1v1"), [x], verbose=False)
    assert [warning.filename for warning in caught] == [__file__]


def test_default_target_is_no_array() -> None:
    """A jax array as a default argument would start JAX at import."""
    default = inspect.signature(bh.init.frontend_init).parameters["target_rate"].default
    assert isinstance(default.mantissa, (int, float))
    assert default == 50 * u.Hz


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        ({"target_rate": 50}, None, TypeError, r"target_rate must be a Quantity with the dimension of Hz"),
        ({"target_rate": 50 * u.ms}, None, TypeError, "target_rate must have the dimension of Hz"),
        ({"target_rate": 0 * u.Hz}, None, ValueError, "target_rate must be greater than zero"),
        ({"target_rate": -5 * u.Hz}, None, ValueError, "target_rate must be greater than zero"),
        ({"target_rate": float("nan") * u.Hz}, None, ValueError, "target_rate must be finite"),
        ({"target_rate": 501 * u.Hz}, None, ValueError, r"at most 0.5 / dt = 500 Hz.*got 501 Hz. Use a lower"),
        ({"target_rate": np.full(15, 50.0) * u.Hz}, None, ValueError, r"target_rate must be a scalar or shape \(16,\)"),
        ({"target_rate": 1 * u.Hz}, [np.ones((2, 20, 16))], ValueError, "less than one spike.*at least 25 Hz"),
        ({"n_batches": 0}, None, ValueError, "n_batches must be at least 1"),
        ({}, [], ValueError, "the dataloader yielded no batch"),
        ({}, 3, TypeError, "dataloader must be an iterable"),
        ({}, [np.zeros((4, 16))], ValueError, r"a batch must have shape \[B, T, N\]; got shape \(4, 16\)"),
        ({}, [np.ones((2, 50, 15))], ValueError, "(the last axis of )?a batch must have"),
        ({}, [np.zeros((2, 50, 16))], ValueError, "the data contain only zeros"),
        ({}, [np.full((2, 50, 16), np.nan)], ValueError, "a batch contains 1600 NaN or infinite"),
    ],
)
def test_bad_input_is_named_and_weights_stay(options: dict, data: object, error: type, message: str) -> None:
    net = frontend_net("H1v1")
    before = net.layers[0].weight.value
    with pytest.raises(error, match=f"frontend_init: .*{message}"):
        bh.init.frontend_init(net, [noise(n_samples=1)] if data is None else data, verbose=False, **options)
    assert net.layers[0].weight.value is before


def test_unsuitable_networks_are_refused() -> None:
    x = [noise(n_samples=1)]
    dense = brainstate.nn.Sequential(bh.nn.H1v1Synapse(16, 16), bh.nn.H1v1Layer(16, tau=10 * u.ms))
    with pytest.raises(ValueError, match="frontend_init: the network has no frontend"):
        bh.init.frontend_init(dense, x)
    with pytest.raises(TypeError, match=r"frontend_init: net must be a brainstate.nn.Module; got 5"):
        bh.init.frontend_init(5, x)
    broken = frontend_net("H1v1")
    broken.layers[0].weight.value = broken.layers[0].weight.value.at[3].set(jnp.nan)
    with pytest.raises(ValueError, match=r"a weight of H1v1Frontend contains 1 NaN .* load or initialise it again"):
        bh.init.frontend_init(broken, x)


@pytest.mark.no_dt
def test_time_step_must_be_set() -> None:
    with pytest.raises(RuntimeError, match="frontend_init: no time step is set"):
        bh.init.frontend_init(frontend_net("H1v1"), [noise(n_samples=1)])
