"""Trial noise from repeated recordings of the membrane."""

from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.silicon import fit_noise

pytestmark = pytest.mark.no_dt


def membranes(seed: int, noise: float = 1.5, read: float = 0.4, trials: int = 10, steps: int = 200) -> np.ndarray:
    rng, tau = np.random.default_rng(seed), np.array([5.0, 20.0, 50.0])
    V, seen = np.zeros((trials, 3)), []
    for _ in range(steps):
        V = np.exp(-1 / tau) * V + 3.0 + noise * rng.standard_normal(V.shape)
        seen.append(V + read * rng.standard_normal(V.shape))
    return np.stack(seen, 1)


def test_both_noises_lie_within_their_errors() -> None:
    inside = []
    for seed in range(60):
        fit = fit_noise(membranes(seed) * u.mV, tau=[5.0, 20.0, 50.0] * u.ms)
        inside.append(
            [
                abs(float(fit.noise_std.mantissa) - 1.5) < 1.96 * float(fit.noise_std_error.mantissa),
                abs(float(fit.read_noise.mantissa) - 0.4) < 1.96 * float(fit.read_noise_error.mantissa),
            ]
        )
    # Four standard deviations of 60 draws around 95 %.
    assert (np.mean(inside, axis=0) > 0.84).all()


def test_read_noise_alone_is_no_trial_noise() -> None:
    fit = fit_noise(membranes(0, noise=0.0) * u.mV, tau=[5.0, 20.0, 50.0] * u.ms)
    assert float(fit.noise_std.mantissa) < 1.96 * float(fit.noise_std_error.mantissa)
    assert abs(float(fit.read_noise.mantissa) - 0.4) < 3 * float(fit.read_noise_error.mantissa)


def test_too_little_and_clipped_data() -> None:
    with pytest.raises(ValueError, match=r"fit_noise: V .*\(1, 200, 3\)"):
        fit_noise(membranes(0, trials=1) * u.mV, tau=10 * u.ms)
    with pytest.raises(ValueError, match=r"fit_noise: tau must be a scalar or shape \(3,\)"):
        fit_noise(membranes(0) * u.mV, tau=[1, 2] * u.ms)
    fit = fit_noise(np.maximum(membranes(0) - 30, 0) * u.mV, tau=10 * u.ms)
    assert any("clipping" in note for note in fit.notes)
