"""Moments of the input and the resulting membrane variance, against brute force and against real layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.init.circuit import Circuit
from brainhw.init.response import Response, input_moments, measure_response, membrane_basis, participation

DT = 1e-3


def circuit_of(layer: Any, n_in: int) -> Circuit:
    zeros = np.zeros((n_in, layer.in_size[-1]))
    if isinstance(layer, bh.nn.H1Layer):
        return Circuit(getattr(bh.nn, f"{layer.family}Synapse")(n_in, layer.n_neurons, weight_init=zeros), layer)
    return Circuit(bh.nn.LIFSynapse(n_in, layer.in_size[-1], weight_init=zeros * u.mV), layer)


def bernoulli(rates: Any, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    rates = np.asarray(rates, dtype=float)
    return (np.random.default_rng(seed).random((*shape, len(rates))) < rates * DT).astype(np.float32)


def analog_ar1(rho: float, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    x = np.empty(shape)
    x[:, 0] = noise[:, 0]
    for t in range(1, shape[1]):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return (0.5 + 0.1 * x).astype(np.float32)


def unit_vector(rates: np.ndarray) -> np.ndarray:
    return rates / np.linalg.norm(rates)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_batch=st.integers(1, 3),
    n_steps=st.integers(2, 40),
    n_in=st.integers(2, 5),
    n_columns=st.integers(1, 3),
    length=st.integers(1, 60),
    centred=st.booleans(),
)
def test_basis_is_the_variance_of_the_filtered_input(
    seed: int, n_batch: int, n_steps: int, n_in: int, n_columns: int, length: int, centred: bool
) -> None:
    """Filter every channel with every kernel, one after the other, without any transform."""
    rng = np.random.default_rng(seed)
    x = rng.random((n_batch, n_steps, n_in))
    kernel = Response(rng.normal(size=(length, n_columns)), 1.0, np.zeros(n_columns), DT)
    moments = input_moments(x, DT)
    direction = unit_vector(moments.rates) if centred else None
    basis = membrane_basis(x, kernel, moments, exact=True, direction=direction)

    centred_x = x - x.mean(axis=(0, 1))
    mix = np.eye(n_in) if direction is None else np.eye(n_in) - np.outer(direction, direction)
    stretch = 1.0 if direction is None else 1 / (1 - 1 / n_in)
    responses = kernel.response[:n_steps]

    def filtered(channels: np.ndarray, column: int) -> np.ndarray:
        full = [np.convolve(channels[b, :, i], responses[:, column]) for b in range(n_batch) for i in range(n_in)]
        return np.stack(full)

    spread = np.empty(n_columns)
    later = np.empty(n_columns)
    common = np.empty(n_columns)
    for column in range(n_columns):
        y = filtered(centred_x @ mix, column)
        spread[column] = stretch * np.sum(y**2) / (n_batch * n_steps)
        later[column] = stretch * np.sum(y[:, 1:] * y[:, :-1]) / (n_batch * n_steps)
        of_all = filtered(centred_x.sum(axis=2, keepdims=True).repeat(n_in, axis=2), column)[::n_in]
        weight_per_mean = 1 / (n_in * moments.nu_mean * kernel.integral[column])
        common[column] = weight_per_mean**2 * np.sum(of_all**2) / (n_batch * n_steps)
    without = membrane_basis(x, kernel, moments, exact=True, direction=None)
    assert without.variance_kept == 1
    assert basis.variance_kept == pytest.approx(np.min(spread / without.of_spread), rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(basis.of_spread, spread, rtol=1e-7, atol=1e-9 * spread.max())
    np.testing.assert_allclose(basis.of_mean, common, rtol=1e-7, atol=1e-9 * common.max())
    np.testing.assert_allclose(basis.step_correlation, later.mean() / spread.mean(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(basis.mean_response, n_in * moments.nu_mean * kernel.integral)


N_IN, N = 60, 200
LAYERS: dict[str, Callable[[], Any]] = {
    "H1v2": lambda: bh.nn.H1v2Layer(N, tau=20 * u.ms),
    "LIF, two taus": lambda: bh.nn.LIFLayer(N, tau=np.where(np.arange(N) < N // 2, 5.0, 30.0) * u.ms),
    "Cuba": lambda: bh.nn.CubaLIFLayer(N, tau_mem=20 * u.ms, tau_syn=10 * u.ms),
    "Cuba, two synapses": lambda: bh.nn.CubaLIFLayer(N, 2, tau_mem=20 * u.ms, tau_syn=np.array([[3.0, 20.0]]) * u.ms),
}
INPUTS: dict[str, Callable[[], np.ndarray]] = {
    "sparse": lambda: bernoulli(np.full(N_IN, 30.0), (8, 1500)),
    "dense": lambda: bernoulli(np.full(N_IN, 400.0), (8, 1500)),
    "unequal rates": lambda: bernoulli(np.geomspace(5, 300, N_IN), (8, 1500)),
    "analog, correlated in time": lambda: analog_ar1(0.98, (16, 1500, N_IN)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "data", "centred"),
    [
        ("H1v2", "sparse", False),
        ("H1v2", "dense", True),
        ("H1v2", "unequal rates", True),
        ("LIF, two taus", "sparse", True),
        ("Cuba", "analog, correlated in time", False),
        ("Cuba", "analog, correlated in time", True),
        ("Cuba, two synapses", "unequal rates", False),
    ],
)
def test_basis_predicts_real_membranes_with_random_weights(layer: str, data: str, centred: bool) -> None:
    x, circuit = INPUTS[data](), circuit_of(LAYERS[layer](), N_IN)
    kernel = measure_response(circuit, 1.0 * u.ms, x.shape[1])
    moments = input_moments(x, DT)
    direction = unit_vector(moments.rates) if centred else None
    basis = membrane_basis(x, kernel, moments, circuit.n_synapses, exact=True, direction=direction)

    z = np.random.default_rng(3).normal(size=(N_IN, circuit.n_columns))
    if direction is not None:
        z = (z - np.outer(direction, direction @ z)) / np.sqrt(1 - 1 / N_IN)
    # Spreads that weight both synapses of a neuron equally, small enough for every charge curve to be straight.
    sigma = 1e-2 / np.sqrt(basis.of_spread)
    mu_U = 2e-2
    mu_W = mu_U / (circuit.n_synapses * basis.mean_response)
    xs = jnp.asarray(np.swapaxes(x, 0, 1))
    drawn = np.asarray(circuit.drive_and_membrane(jnp.asarray(sigma * z, jnp.float32), xs)[1])[200:]
    means = np.broadcast_to(mu_W, (N_IN, circuit.n_columns))
    lifted = np.asarray(circuit.drive_and_membrane(jnp.asarray(means, jnp.float32), xs)[1])[200:]

    groups = np.unique(np.asarray(kernel.integral).reshape(N, -1)[:, 0].round(12), return_inverse=True)[1]
    predicted = (sigma**2 * basis.of_spread).reshape(N, -1).sum(axis=1)
    for group in range(groups.max() + 1):
        here = groups == group
        measured = drawn.var(axis=(0, 1))[here].mean()
        assert measured == pytest.approx(predicted[here].mean(), rel=0.07)
    assert lifted.mean() == pytest.approx(mu_U, rel=0.02)
    np.testing.assert_allclose(lifted.var(axis=(0, 1)), mu_U**2 * basis.of_mean, rtol=0.1)
    if centred:
        # The draw does not affect the mean of a neuron, except for the finite length of the data.
        assert np.abs(drawn.mean(axis=(0, 1))).mean() < 0.2 * np.sqrt(predicted.mean())

    centred_drawn = drawn - drawn.mean(axis=(0, 1))
    lag_one = np.mean(centred_drawn[1:] * centred_drawn[:-1]) / np.mean(centred_drawn**2)
    if groups.max() == 0 and circuit.n_synapses == 1:
        assert basis.step_correlation == pytest.approx(lag_one, abs=0.01)
        assert (1 - basis.step_correlation) == pytest.approx(1 - lag_one, rel=0.1)


def test_nothing_is_kept_of_channels_that_move_as_one() -> None:
    one = bernoulli([100.0], (4, 300))
    circuit = circuit_of(bh.nn.LIFLayer(2, tau=np.array([5.0, 50.0]) * u.ms), 10)
    kernel = measure_response(circuit, 1.0 * u.ms, 300)
    for x, kept in ((np.repeat(one, 10, axis=2), 0.0), (bernoulli(np.full(10, 100.0), (4, 300)), 1.0)):
        moments = input_moments(x, DT)
        basis = membrane_basis(x, kernel, moments, exact=True, direction=unit_vector(moments.rates))
        assert basis.variance_kept == pytest.approx(kept, abs=0.2 * kept + 1e-6)
        assert np.all(basis.of_spread >= 0)


def test_second_moment_basis_is_campbell_theorem() -> None:
    x = bernoulli(np.full(20, 50.0), (8, 400))
    circuit = circuit_of(bh.nn.H1v2Layer(3, tau=20 * u.ms), 20)
    kernel = measure_response(circuit, 1.0 * u.ms, 400)
    moments = input_moments(x, DT)
    basis = membrane_basis(x, kernel, moments, exact=False, direction=None)
    np.testing.assert_allclose(basis.of_spread, 20 * moments.nu_var * kernel.square_integral)
    np.testing.assert_allclose(basis.mean_response, 20 * moments.nu_mean * kernel.integral)
    mu_W = 0.02
    campbell = 20 * mu_W**2 * moments.nu_var * kernel.square_integral
    np.testing.assert_allclose((mu_W * basis.mean_response) ** 2 * basis.of_mean, campbell)


@pytest.mark.parametrize("rate", [10, 100, 400])
def test_exact_basis_knows_that_spikes_are_no_poisson_process(rate: float) -> None:
    """Bernoulli spikes at rate nu have the variance nu (1 - nu dt), 0.6 of Poisson's at 400 Hz."""
    x = bernoulli(np.full(40, rate), (16, 2000))
    circuit = circuit_of(bh.nn.H1v2Layer(1, tau=10 * u.ms), 40)
    kernel = measure_response(circuit, 1.0 * u.ms, 2000)
    moments = input_moments(x, DT)
    exact, second = (membrane_basis(x, kernel, moments, exact=exact, direction=None) for exact in (True, False))
    assert exact.of_spread[0] / second.of_spread[0] == pytest.approx(1 - rate * DT, rel=0.05)
    # For one exponential, the lag-1 correlation is the share that is left after one step.
    assert exact.step_correlation == pytest.approx(np.exp(-1 / 10), abs=0.005)


def test_moments_of_spikes_and_of_analog_values() -> None:
    spikes = input_moments(bernoulli([100.0, 300.0], (4, 5000)), DT)
    assert spikes.nu_mean == spikes.nu_var == pytest.approx(200, rel=0.05)
    np.testing.assert_allclose(spikes.rates, [0.1, 0.3], rtol=0.1)
    assert spikes.fan_in == 2
    uniform = input_moments(np.random.default_rng(0).random((4, 5000, 2)), DT)
    assert uniform.nu_mean == pytest.approx(500, rel=0.02)
    assert uniform.nu_var == pytest.approx(1000 / 3, rel=0.02)


def test_mean_is_a_lever_unless_the_input_is_symmetric_about_zero() -> None:
    noise = np.random.default_rng(0).normal(size=(4, 1000, 8))
    assert not input_moments(noise, DT).has_mean_input
    assert input_moments(noise + 0.2, DT).has_mean_input
    assert input_moments(noise - 0.2, DT).has_mean_input
    assert input_moments(bernoulli([5.0] * 8, (4, 1000)), DT).has_mean_input


def test_participation_counts_the_channels_that_carry_the_mean() -> None:
    assert participation(np.ones(7)) == pytest.approx(7)
    assert participation(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)
    assert participation(np.array([3.0, 3.0, 0.01, 0.0])) == pytest.approx(2, rel=0.01)
    assert participation(np.zeros(3)) == 0


def test_many_samples_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = bernoulli([50.0, 80.0, 20.0], (7, 30))
    kernel = Response(np.exp(-np.arange(20.0))[:, None], 1.0, np.zeros(1), DT)
    moments = input_moments(x, DT)
    whole = membrane_basis(x, kernel, moments, exact=True, direction=unit_vector(moments.rates))
    monkeypatch.setattr("brainhw.init.response._CHUNK", 200)
    parts = membrane_basis(x, kernel, moments, exact=True, direction=unit_vector(moments.rates))
    np.testing.assert_allclose(parts.of_spread, whole.of_spread)
    np.testing.assert_allclose(parts.of_mean, whole.of_mean)
