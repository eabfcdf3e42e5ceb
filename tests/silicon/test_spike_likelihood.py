"""The likelihood of spikes against closed forms and many simulated runs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from brainhw.silicon.spike_likelihood import Observed, curvature, expected_spikes, log_likelihood, value_and_gradient


def seen(drive: np.ndarray, spikes: np.ndarray, *, to_zero: bool = True) -> Observed:
    zero = jnp.float32(0.0)
    return Observed(
        drive=jnp.asarray(drive[None], jnp.float32),
        spikes=jnp.asarray(spikes[None], jnp.float32),
        valid=jnp.ones((1, *drive.shape[:2]), jnp.float32),
        membranes=None,
        read_noise=zero,
        floor=zero,
        least_noise=zero,
        to_zero=to_zero,
    )


def parameters(threshold: float, tau: float, noise: float) -> np.ndarray:
    return np.log(np.array([[threshold], [tau], [noise]]))


@pytest.mark.parametrize("spike", [0, 1])
def test_the_first_step_is_a_probit(spike: int) -> None:
    drive, p = np.full((1, 1, 1), 97.0), parameters(100.0, 20.0, 2.0)
    z = (100.0 - 97.0) / 2.0
    found = log_likelihood(p, seen(drive, np.full((1, 1, 1), spike)))
    assert found[0] == pytest.approx(norm.logsf(z) if spike else norm.logcdf(z), rel=1e-5)


def test_a_reset_to_zero_forgets_what_was_before() -> None:
    drive = np.array([97.0, 97.0]).reshape(2, 1, 1)
    found = log_likelihood(parameters(100.0, 20.0, 2.0), seen(drive, np.array([1, 1]).reshape(2, 1, 1)))
    assert found[0] == pytest.approx(2 * norm.logsf(1.5), rel=1e-5)


@pytest.mark.parametrize("to_zero", [True, False])
def test_the_probability_of_a_whole_run_is_that_of_simulations(to_zero: bool) -> None:
    drive, wanted = np.array([60.0, 55.0, 30.0, 60.0]), np.array([0, 1, 0, 0])
    rng, V = np.random.default_rng(0), np.zeros(2_000_000)
    decay, agrees = np.exp(-1 / 10.0), np.ones(V.shape, bool)
    for now, spike in zip(drive, wanted, strict=True):
        V = np.maximum(decay * V + now + 8.0 * rng.standard_normal(V.shape), 0)
        fired = V >= 100.0
        agrees &= fired == bool(spike)
        V = np.where(fired, 0.0 if to_zero else V - 100.0, V)
    shape = (4, 1, 1)
    p = parameters(100.0, 10.0, 8.0)
    found = log_likelihood(p, seen(drive.reshape(shape), wanted.reshape(shape), to_zero=to_zero))
    # 1.5 %: what the normal form of a cut distribution costs.
    assert np.exp(found[0]) == pytest.approx(agrees.mean(), rel=0.015)


def test_derivatives_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    drive = rng.uniform(0, 40, (60, 5, 1))
    held = seen(drive, (rng.random(drive.shape) < 0.2).astype(float))
    p, step = parameters(90.0, 8.0, 15.0), 1e-2
    gradient, bend = value_and_gradient(p, held)[1], curvature(p, held)
    for k in range(3):
        up, down = p.copy(), p.copy()
        up[k] += step
        down[k] -= step
        slope = (log_likelihood(up, held) - log_likelihood(down, held)) / (2 * step)
        assert gradient[k] == pytest.approx(slope, rel=0.02, abs=0.05)
        turn = (value_and_gradient(up, held)[1] - value_and_gradient(down, held)[1]) / (2 * step)
        assert -bend[0, k] == pytest.approx(turn[:, 0], rel=0.02, abs=0.5)
    expected, variance = expected_spikes(p, held)
    assert expected.shape == variance.shape == (5, 1)
    assert np.all(variance < expected)
