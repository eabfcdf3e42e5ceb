"""The rate model against simulations of the membrane, closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.silicon.rate_model import expected_counts

pytestmark = pytest.mark.no_dt
DRIVE = np.arange(1, 14) * 0.0853
BETA = np.full(DRIVE.size, np.exp(-1 / 13.5))
STEPS = np.full(DRIVE.size, 1000)


def simulated(noise: float, subtract: bool, trials: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    V, count = np.zeros((trials, DRIVE.size)), np.zeros((trials, DRIVE.size))
    for _ in range(1000):
        before = np.maximum(BETA * V + DRIVE + noise * rng.standard_normal(V.shape), 0.0)
        spike = before >= 1.0
        count += spike
        V = np.where(spike, np.maximum(before - 1.0, 0.0) if subtract else 0.0, before)
    return count


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("noise", [0.015, 0.08])
def test_mean_and_variance_of_the_count_are_those_of_a_simulation(noise: float, subtract: bool) -> None:
    count = simulated(noise, subtract, 200)
    found = expected_counts(DRIVE, BETA, np.full(DRIVE.size, noise), STEPS, subtract=subtract)
    error = np.sqrt((found.variance + 0.01) / 200)
    assert (np.abs(count.mean(0) - found.mean) < 4.5 * error + 0.06).all()
    free = found.variance > 0.5
    np.testing.assert_allclose(count.var(0)[free], found.variance[free], rtol=0.45)


@pytest.mark.parametrize("subtract", [False, True])
def test_derivatives_are_those_of_finite_differences(subtract: bool) -> None:
    noise, h = np.full(DRIVE.size, 0.03), 1e-5

    def mean(drive: np.ndarray = DRIVE, beta: np.ndarray = BETA, noise: np.ndarray = noise) -> np.ndarray:
        return expected_counts(drive, beta, noise, STEPS, subtract=subtract).mean

    found = expected_counts(DRIVE, BETA, noise, STEPS, subtract=subtract)
    for name, slope in (
        ("by_drive", (mean(drive=DRIVE + h) - mean(drive=DRIVE - h)) / (2 * h)),
        ("by_beta", (mean(beta=BETA + h) - mean(beta=BETA - h)) / (2 * h)),
        ("by_noise", (mean(noise=noise + h) - mean(noise=noise - h)) / (2 * h)),
    ):
        # The derivative leaves out that of the start from rest, one part in the number of spikes.
        np.testing.assert_allclose(getattr(found, name)[:11], slope[:11], rtol=0.02, atol=12, err_msg=name)


def test_a_neuron_with_little_noise_fires_in_whole_intervals() -> None:
    # Three steps of 0.4 reach the threshold without leak, so that 1000 steps hold 333 spikes.
    found = expected_counts(np.array([0.4]), np.array([1 - 1e-9]), np.array([0.005]), np.array([1000]), subtract=False)
    assert abs(found.mean[0] - 333) < 1e-6
    assert found.variance[0] < 1e-6


def test_the_edges() -> None:
    drive, ones = np.array([-0.5, 0.0, 2.0]), np.ones(3)
    found = expected_counts(drive, 0.9 * ones, 0.02 * ones, 1000 * ones, subtract=True)
    np.testing.assert_allclose(found.mean, [0, 0, 1000], atol=1e-9)
    # A membrane at 0.98 of the threshold fires by noise alone: noise makes crossings come earlier.
    near = expected_counts(np.array([0.098]), np.array([0.9]), np.array([0.02]), np.array([1000]), subtract=False)
    assert 5 < near.mean[0] < 60
