"""LIFLayer against closed forms and an independent simulation."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

TAUS = np.array([5.0, 10.0, 20.0])


def run(layer: bh.nn.SpikingLayer, drive: np.ndarray, *, prepare: bool = True) -> dict[str, np.ndarray]:
    """Drive a layer with ``[T, ..., N]`` mV and return what it did."""
    spikes, seen = bh.rollout(layer, drive * u.mV, record=("V", "V_pre", "spk"), prepare=prepare)
    assert np.array_equal(spikes, seen["spk"])
    return {name: np.asarray(u.get_mantissa(value)) for name, value in seen.items()}


def first_spike(drive: float, tau: float, V_th: float = 1.0, dt: float = 1.0) -> int:
    """The step (from 1) at which a constant drive from rest reaches threshold; 0 if never."""
    beta = np.exp(-dt / tau)
    if drive / (1 - beta) <= V_th:
        return 0
    return int(np.ceil(np.log(1 - V_th * (1 - beta) / drive) / np.log(beta)))


def test_membrane_decays_exponentially_without_drive() -> None:
    layer = bh.nn.LIFLayer(3, tau=TAUS * u.ms)
    drive = np.zeros((60, 3))
    drive[0] = 0.9
    V = run(layer, drive)["V"]
    expected = 0.9 * np.exp(-np.arange(60)[:, None] / TAUS)
    np.testing.assert_allclose(V, expected, rtol=2e-5)


def test_membrane_relaxes_to_its_steady_state_under_constant_drive() -> None:
    layer = bh.nn.LIFLayer(3, tau=TAUS * u.ms, V_th=10 * u.mV)
    V = run(layer, np.full((300, 3), 0.05))["V"]
    beta = np.exp(-1.0 / TAUS)
    n = np.arange(1, 301)[:, None]
    np.testing.assert_allclose(V, 0.05 * (1 - beta**n) / (1 - beta), rtol=2e-5)
    np.testing.assert_allclose(V[-1], 0.05 / (1 - beta), rtol=2e-5)


def test_spike_times_and_rate_under_constant_drive_with_reset_to_zero() -> None:
    drives = np.array([0.09, 0.12, 0.2, 0.35, 0.7, 1.0, 2.5])
    layer = bh.nn.LIFLayer(7, tau=10 * u.ms, reset="zero")
    spikes = run(layer, np.broadcast_to(drives, (400, 7)))["spk"]
    for j, drive in enumerate(drives):
        period = first_spike(drive, 10.0)
        steps = np.flatnonzero(spikes[:, j]) + 1
        expected = np.arange(period, 401, period) if period else np.array([])
        np.testing.assert_array_equal(steps, expected, err_msg=f"drive {drive} mV")
    assert spikes[:, 0].sum() == 0
    assert spikes[:, -1].all()


def test_rate_under_constant_drive_with_subtraction_balances_leak_and_drive() -> None:
    drives = np.array([0.12, 0.35, 0.7, 1.0, 2.5])
    layer = bh.nn.LIFLayer(5, tau=10 * u.ms, reset="subtract")
    seen = run(layer, np.broadcast_to(drives, (2000, 5)))
    late = slice(500, None)
    leak = (1 - np.exp(-0.1)) * seen["V"][late].mean(axis=0)
    # What comes in leaves through the leak or with the spikes; what the ends of the window hold is at most 1/1500.
    np.testing.assert_allclose(seen["spk"][late].mean(axis=0), np.minimum(drives - leak, 1.0), atol=2.5e-3)
    assert seen["spk"][:, 0].sum() > 0


def test_first_spike_does_not_depend_on_the_reset() -> None:
    for reset in ("subtract", "zero", "none"):
        layer = bh.nn.LIFLayer(1, tau=10 * u.ms, reset=reset)
        spikes = run(layer, np.full((20, 1), 0.2))["spk"]
        assert int(np.argmax(spikes[:, 0])) + 1 == first_spike(0.2, 10.0) == 7


def test_membrane_with_subtraction_is_the_filtered_drive_minus_the_filtered_spikes() -> None:
    rng = np.random.default_rng(0)
    drive = rng.uniform(-0.3, 0.6, (80, 4))
    layer = bh.nn.LIFLayer(4, tau=10 * u.ms)
    seen = run(layer, drive)
    kernel = np.exp(-0.1 * (np.arange(80)[:, None] - np.arange(80)))
    kernel = np.where(np.tri(80) > 0, kernel, 0.0)
    np.testing.assert_allclose(seen["V"], kernel @ (drive - seen["spk"]), atol=2e-5)
    assert 10 < seen["spk"].sum() < 300


def test_without_reset_the_membrane_ignores_its_spikes() -> None:
    layer = bh.nn.LIFLayer(1, tau=10 * u.ms, reset="none")
    seen = run(layer, np.full((30, 1), 0.2))
    np.testing.assert_array_equal(seen["V"], seen["V_pre"])
    assert seen["spk"][6:].all()


def test_threshold_is_inclusive() -> None:
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms, V_th=jnp.array([1.0, 2.0]) * u.mV)
    assert layer(jnp.array([1.0, 2.0]) * u.mV).tolist() == [1.0, 1.0]
    assert bh.nn.LIFLayer(1, tau=10 * u.ms)(jnp.array([np.nextafter(np.float32(1), 0)]) * u.mV).tolist() == [0.0]


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("topology", ["FF", "RC"])
def test_random_drive_equals_the_numpy_simulation(simulate, reset: str, topology: str) -> None:
    rng = np.random.default_rng(5)
    drive = rng.normal(0.12, 0.3, (60, 3, 5))
    w_rec = rng.normal(0, 0.4, (5, 5)) if topology == "RC" else None
    tau, V_th = rng.uniform(4, 30, 5), rng.uniform(0.6, 1.4, 5)
    layer = bh.nn.LIFLayer(
        5,
        tau=tau * u.ms,
        V_th=V_th * u.mV,
        reset=reset,
        topology=topology,
        recurrent_init=None if w_rec is None else w_rec * u.mV,
    )
    seen = run(layer, drive)
    wanted = simulate(drive, tau=tau, V_th=V_th, reset=reset, recurrent=w_rec)
    assert wanted["margin"] > 1e-5
    np.testing.assert_array_equal(seen["spk"], wanted["spk"])
    np.testing.assert_allclose(seen["V"], wanted["V"], atol=5e-5)
    assert 0.05 < seen["spk"].mean() < 0.95


def test_recurrent_charge_comes_one_step_after_the_spike() -> None:
    w_rec = np.array([[0.0, 0.25], [0.0, 0.0]])
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms, topology="RC", recurrent_init=w_rec * u.mV)
    drive = np.zeros((3, 2))
    drive[0, 0] = 1.5
    seen = run(layer, drive)
    assert seen["spk"][:, 0].tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(seen["V"][:, 1], [0.0, 0.25, 0.25 * np.exp(-0.1)], rtol=1e-6)


def test_per_neuron_parameters_are_each_neurons_own() -> None:
    rng = np.random.default_rng(1)
    drive = rng.uniform(0, 0.6, (40, 3))
    V_th = np.array([0.8, 1.0, 1.3])
    together = run(bh.nn.LIFLayer(3, tau=TAUS * u.ms, V_th=V_th * u.mV), drive)
    for j in range(3):
        alone = run(bh.nn.LIFLayer(1, tau=TAUS[j] * u.ms, V_th=V_th[j] * u.mV), drive[:, j : j + 1])
        np.testing.assert_array_equal(together["spk"][:, j], alone["spk"][:, 0])
        np.testing.assert_allclose(together["V"][:, j], alone["V"][:, 0], rtol=1e-5, atol=1e-6)


def test_a_sample_alone_equals_its_row_in_a_batch() -> None:
    rng = np.random.default_rng(2)
    drive = rng.uniform(0, 0.6, (30, 4, 3))
    layer = bh.nn.LIFLayer(3, tau=10 * u.ms, topology="RC")
    batch = run(layer, drive)
    one_row = run(layer, drive[:, 1:2])
    no_batch = run(layer, drive[:, 1])
    for name, values in batch.items():
        np.testing.assert_allclose(values[:, 1], one_row[name][:, 0], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(values[:, 1], no_batch[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(batch["spk"][:, 1], no_batch["spk"])


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_states_have_the_batch_and_start_at_rest(batch_size: int | None) -> None:
    layer = bh.nn.LIFLayer((3,), tau=10 * u.ms)
    shape = (3,) if batch_size is None else (batch_size, 3)
    drive = jnp.full(shape, 0.9) * u.mV
    layer.init_state(batch_size)
    V, spk = layer.V, layer.spk
    layer(drive)
    layer.reset_state(batch_size)
    assert layer.V is V
    assert layer.spk is spk
    for state in (V, spk):
        assert np.array_equal(u.get_mantissa(state.value), np.zeros(shape))
        assert isinstance(state, brainstate.HiddenState)
    assert u.get_unit(V.value) == u.mV
    assert layer.in_size == layer.out_size == (3,)


def test_dt_is_read_at_every_step_and_not_kept() -> None:
    layer = bh.nn.LIFLayer(1, tau=10 * u.ms)
    layer(jnp.array([0.9]) * u.mV)
    with brainstate.environ.context(dt=5.0 * u.ms):
        layer(jnp.zeros(1) * u.mV)
    np.testing.assert_allclose(layer.V.value.mantissa, 0.9 * np.exp(-0.5), rtol=1e-6)
