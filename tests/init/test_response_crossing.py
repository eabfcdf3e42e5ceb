"""Threshold crossings of a Gaussian membrane, against the bivariate normal law and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from brainhw.init.response import crossing_rate, silent_fraction

DT = 1e-3
properties = settings(max_examples=40, derandomize=True, deadline=None)


def upcrossing_probability(xi: float, rho: float) -> float:
    """Below threshold in one step, above in the next: P(U1 < xi) - P(U1 < xi, U2 < xi)."""
    both = multivariate_normal(cov=[[1.0, rho], [rho, 1.0]]).cdf([xi, xi])
    return float(norm.cdf(xi) - both)


def ar1(rho: float, n_steps: int, n_neurons: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n_steps, n_neurons))
    membrane = np.empty_like(noise)
    membrane[0] = noise[0]
    for t in range(1, n_steps):
        membrane[t] = rho * membrane[t - 1] + np.sqrt(1 - rho**2) * noise[t]
    return membrane


@properties
@given(xi=st.floats(0, 3.5), rho=st.floats(-0.9, 0.995))
def test_rate_is_that_of_the_bivariate_normal_law(xi: float, rho: float) -> None:
    assert crossing_rate(xi, rho, DT) * DT == pytest.approx(upcrossing_probability(xi, rho), abs=2e-5, rel=1e-3)


@pytest.mark.parametrize("xi", [0.0, 1.0, 2.0, 3.0])
def test_rate_without_correlation_is_a_product(xi: float) -> None:
    assert crossing_rate(xi, 0.0, DT) * DT == pytest.approx(norm.cdf(xi) * norm.sf(xi), rel=1e-10)


@pytest.mark.parametrize("rho", [0.6, 0.95])
def test_rate_is_that_of_a_simulated_membrane(rho: float) -> None:
    membrane = ar1(rho, 4000, 200)
    for xi in (0.5, 1.0, 2.0):
        seen = np.mean((membrane[:-1] < xi) & (membrane[1:] >= xi)) / DT
        assert crossing_rate(xi, rho, DT) == pytest.approx(seen, rel=0.05)


def test_rate_approaches_that_of_rice_as_the_correlation_approaches_one() -> None:
    """A smooth process: rho = 1 - dt^2 v / 2 with v the variance of its slope, and rate sqrt(v) exp(-xi^2/2) / 2 pi."""
    slope_variance = 30.0**2
    rice = np.sqrt(slope_variance) * np.exp(-0.5 * 1.5**2) / (2 * np.pi)
    assert crossing_rate(1.5, 1 - 0.5 * DT**2 * slope_variance, DT) == pytest.approx(rice, rel=1e-3)


@properties
@given(xi=st.floats(0, 5), more=st.floats(0.01, 2), rho=st.floats(-0.9, 0.99))
def test_rate_falls_with_distance_and_with_correlation(xi: float, more: float, rho: float) -> None:
    assert crossing_rate(xi + more, rho, DT) < crossing_rate(xi, rho, DT)
    assert crossing_rate(xi, min(rho + 0.1 * more, 0.999), DT) < crossing_rate(xi, rho, DT)


def test_mean_beyond_threshold_counts_as_one_at_threshold() -> None:
    assert crossing_rate(-2.0, 0.5, DT) == crossing_rate(0.0, 0.5, DT)
    assert crossing_rate(np.array([-1.0, 1.0]), 0.5, DT).shape == (2,)


def test_membrane_that_never_changes_never_crosses() -> None:
    assert crossing_rate(0.0, 1.0, DT) == 0
    assert crossing_rate(np.inf, 0.5, DT) == 0
    assert np.isfinite(crossing_rate(1.0, -1.0, DT))
    assert crossing_rate(1.0, 1.0 + 1e-9, DT) == 0  # rounding of a measured correlation may exceed 1


def test_rate_scales_with_the_step() -> None:
    assert crossing_rate(1.0, 0.9, 0.5 * DT) == pytest.approx(2 * crossing_rate(1.0, 0.9, DT))


@properties
@given(
    xi=st.floats(0, 4),
    more=st.floats(0.01, 2),
    rho=st.floats(0, 0.99),
    seconds=st.floats(0, 20),
    quenched=st.sampled_from([0.0, 0.3, 5.0]),
)
def test_fewer_are_silent_on_more_data_and_nearer_to_threshold(
    xi: float, more: float, rho: float, seconds: float, quenched: float
) -> None:
    share = silent_fraction(xi, rho, DT, seconds, quenched=quenched)
    assert 0 <= share <= 1 + 1e-12
    assert silent_fraction(xi + more, rho, DT, seconds, quenched=quenched) >= share - 1e-12
    assert silent_fraction(xi, rho, DT, seconds + more, quenched=quenched) <= share + 1e-12


def test_limits() -> None:
    assert silent_fraction(2.0, 0.9, DT, 0.0) == pytest.approx(1)
    assert silent_fraction(2.0, 0.9, DT, 1e6) == pytest.approx(0)
    assert silent_fraction(2.0, 1.0, DT, 1e6) == pytest.approx(1)
    assert silent_fraction(np.inf, 0.9, DT, 1e6) == pytest.approx(1)
    # Half the neurons at threshold, half out of reach.
    assert silent_fraction(np.array([0.0, np.inf]), 0.9, DT, 1e3) == pytest.approx(0.5)


def test_without_spread_it_is_the_law_of_one_neuron() -> None:
    rate = crossing_rate(2.0, 0.9, DT)
    assert silent_fraction(2.0, 0.9, DT, 0.3) == pytest.approx(np.exp(-0.3 * rate))
    assert silent_fraction(2.0, 0.9, DT, 0.3, quenched=1e-9) == pytest.approx(np.exp(-0.3 * rate), rel=1e-3)


def test_spread_of_the_means_silences_neurons_as_in_a_simulation() -> None:
    """If means vary with twice the variance of a membrane in time, far more neurons stay silent than for one mean."""
    rho, xi, quenched, n_steps, n = 0.95, 2.0, 2.0, 2000, 600
    means = np.random.default_rng(1).normal(0, np.sqrt(quenched), n)
    membrane = ar1(rho, n_steps, n, seed=2) + means
    below, above = membrane[:-1] < xi, membrane[1:] >= xi
    silent = np.mean(~np.any(below & above, axis=0) & ~np.any(membrane >= xi, axis=0))
    predicted = silent_fraction(xi, rho, DT, n_steps * DT, quenched=quenched)
    assert predicted == pytest.approx(silent, abs=0.07)
    assert predicted > silent_fraction(xi, rho, DT, n_steps * DT) + 0.1


@properties
@given(xi=st.floats(0, 4), rho=st.floats(0, 0.99), seconds=st.floats(0.01, 5), above=st.floats(-2, 3))
def test_fewer_are_silent_above_a_floor(xi: float, rho: float, seconds: float, above: float) -> None:
    without = silent_fraction(xi, rho, DT, seconds)
    share = silent_fraction(xi, rho, DT, seconds, mean_above_floor=above)
    assert share == pytest.approx(without ** (1 / norm.cdf(above)), rel=1e-6, abs=1e-12)
    assert silent_fraction(xi, rho, DT, seconds, mean_above_floor=9.0) == pytest.approx(without)
    assert silent_fraction(xi, rho, DT, seconds, mean_above_floor=above + 0.5) >= share - 1e-12


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_membrane_held_above_a_floor_crosses_as_in_a_simulation(mean: float) -> None:
    """A leaky membrane clamped at zero, with its mean at the floor or one standard deviation above it."""
    rho, xi, n_steps, n = 0.97, 2.0, 6000, 400
    noise = np.random.default_rng(3).normal(size=(n_steps, n))
    membrane, spikes = np.full(n, mean), np.zeros(n)
    for drive in noise:
        after = np.maximum(mean + rho * (membrane - mean) + np.sqrt(1 - rho**2) * drive, 0.0)
        spikes += (membrane < mean + xi) & (after >= mean + xi)
        membrane = after
    rate = -np.log(silent_fraction(xi, rho, DT, 1.0, mean_above_floor=mean))
    assert rate == pytest.approx(np.mean(spikes) / (n_steps * DT), rel=0.25)
    assert rate > 1.1 * crossing_rate(xi, rho, DT)
