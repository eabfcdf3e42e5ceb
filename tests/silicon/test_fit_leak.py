"""Time constants from decays: closed form, errors, offsets, clipping, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
import pytest
from scipy.optimize import least_squares

from brainhw.silicon import DecayTable, fit_leak, read_table

pytestmark = pytest.mark.no_dt
T = np.arange(61.0)


def table(taus: Any, *, noise: float = 0.4, seed: int = 0, start: float = 60.0, t: np.ndarray = T, change=lambda V: V):
    tau = np.atleast_2d(np.asarray(taus, float))
    V = start * np.exp(-t / tau[:, :, None])
    V = change(V + noise * np.random.default_rng(seed).standard_normal(V.shape))
    s, n, times = np.meshgrid(np.arange(tau.shape[0]), np.arange(tau.shape[1]), t, indexing="ij")
    return DecayTable(s.ravel(), n.ravel(), times.ravel() * u.ms, V.ravel() * u.mV)


def test_without_noise_the_time_constants_are_exact() -> None:
    taus = [[2.0, 5.0, 20.0], [40.0, 80.0, 150.0]]
    fit = fit_leak(table(taus, noise=0.0))
    np.testing.assert_allclose(fit.tau.mantissa, taus, rtol=1e-6)
    np.testing.assert_allclose(fit.start.mantissa, 60.0, rtol=1e-6)


def test_it_agrees_with_least_squares_of_scipy() -> None:
    measured = table([[8.0, 21.0]])
    fit = fit_leak(measured)
    V = np.asarray(measured.V.mantissa).reshape(2, 61)
    for n in range(2):
        wanted = least_squares(lambda p, n=n: p[0] * np.exp(-T / p[1]) - V[n], [60, 15], xtol=1e-12, ftol=1e-12)
        np.testing.assert_allclose([fit.start.mantissa[0, n], fit.tau.mantissa[0, n]], wanted.x, rtol=1e-6)
        sd = np.sqrt(np.linalg.inv(wanted.jac.T @ wanted.jac)[1, 1])
        np.testing.assert_allclose(fit.error.mantissa[0, n], sd * float(fit.read_noise.mantissa), rtol=0.03)


def coverage(make: Any, taus: np.ndarray, n: int = 12) -> tuple[float, float, float]:
    inside, off = [], []
    for seed in range(n):
        fit = fit_leak(make(seed))
        z = (np.asarray(fit.tau.mantissa) - taus) / np.asarray(fit.error.mantissa)
        inside.append(np.mean(np.abs(z) < 1.96))
        off.append(np.asarray(fit.tau.mantissa) / taus - 1)
    return float(np.mean(inside)), float(np.sqrt(np.mean(np.square(off)))), float(np.mean(off))


TAUS = np.stack([np.geomspace(5, 9, 20), np.geomspace(10, 18, 20), np.geomspace(20, 40, 20)])


def test_intervals_hold_the_truth() -> None:
    inside, rms, _ = coverage(lambda seed: table(TAUS, seed=seed), TAUS)
    assert 0.92 < inside < 0.98
    assert rms < 0.01


def test_an_offset_of_the_read_out_is_found_and_removed() -> None:
    inside, rms, bias = coverage(lambda seed: table(TAUS, seed=seed, change=lambda V: V + 1.0), TAUS)
    assert 0.92 < inside < 0.98
    assert rms < 0.02
    assert abs(bias) < 0.002
    fit = fit_leak(table(TAUS, change=lambda V: V + 1.0))
    assert abs(float(fit.offset.mantissa) - 1.0) < 3 * float(fit.offset_error.mantissa)


def test_readings_clipped_at_zero_do_not_bias() -> None:
    inside, _, bias = coverage(lambda seed: table(TAUS, seed=seed, change=lambda V: np.maximum(V, 0.0)), TAUS)
    assert 0.9 < inside < 0.99
    assert abs(bias) < 0.002
    assert "clipped at zero" in str(fit_leak(table(TAUS, change=lambda V: np.maximum(V, 0.0))))


def test_late_and_uneven_times() -> None:
    t = np.array([5.0, 6.5, 9.0, 15.0, 22.0, 40.0])
    np.testing.assert_allclose(fit_leak(table([[7.0, 30.0]], noise=0.0, t=t)).tau.mantissa, [[7.0, 30.0]], rtol=1e-6)


def noisy_membranes(seed: int, *, sigma: float, trials: int = 1) -> DecayTable:
    """Decays of a membrane with noise in each step that is held at zero, read with noise of 0.4 mV."""
    rng, beta = np.random.default_rng(seed), np.exp(-1 / TAUS[1:].ravel())
    V = np.full((trials, beta.size), 60.0)
    steps = [V]
    for _ in T[1:]:
        V = np.maximum(beta * V + rng.normal(0, sigma, V.shape), 0)
        steps.append(V)
    read = np.stack(steps, axis=1) + rng.normal(0, 0.4, (trials, T.size, beta.size))
    trial, t, n = np.meshgrid(np.arange(trials), T, np.arange(beta.size), indexing="ij")
    return DecayTable(n.ravel() // 20, n.ravel() % 20, t.ravel() * u.ms, read.ravel() * u.mV, trial.ravel())


@pytest.mark.parametrize(("sigma", "trials"), [(0.2, 1), (0.5, 1), (1.5, 10)])
def test_intervals_hold_the_truth_with_noise_in_the_membrane(sigma: float, trials: int) -> None:
    inside, _, off = coverage(lambda seed: noisy_membranes(seed, sigma=sigma, trials=trials), TAUS[1:], n=8)
    assert 0.9 < inside < 0.99
    assert abs(off) < 0.02


def test_the_order_of_the_rows_does_not_matter() -> None:
    given = noisy_membranes(0, sigma=1.0, trials=3)
    order = np.random.default_rng(0).permutation(given.t.size)
    names = ("setting", "neuron", "t", "V", "trial")
    mixed = fit_leak(DecayTable(*(getattr(given, name)[order] for name in names)))
    fit = fit_leak(given)
    for name in ("tau", "error"):
        np.testing.assert_allclose(getattr(mixed, name).mantissa, getattr(fit, name).mantissa, rtol=1e-9)
    np.testing.assert_allclose(mixed.residuals.mantissa, fit.residuals.mantissa[order], atol=1e-9)


@pytest.mark.parametrize("late", [100.0, 20_000.0, 1e9])
def test_a_clock_that_runs_on_changes_nothing(late: float) -> None:
    given = table(TAUS[1:])
    clock = late * np.arange(1, 41).repeat(T.size) * u.ms
    fit, plain = fit_leak(DecayTable(given.setting, given.neuron, given.t + clock, given.V)), fit_leak(given)
    for name in ("tau", "error", "start"):
        np.testing.assert_allclose(getattr(fit, name).mantissa, getattr(plain, name).mantissa, rtol=1e-5)


def test_trial_noise_in_the_decays_enlarges_the_errors() -> None:
    rng, V = np.random.default_rng(0), np.zeros((30, 61))
    V[:, 0] = 60.0
    for t in range(60):
        V[:, t + 1] = np.exp(-1 / 20) * V[:, t] + 1.0 * rng.standard_normal(30)
    n, times = np.meshgrid(np.arange(30), T, indexing="ij")
    fit = fit_leak(DecayTable(0 * n.ravel(), n.ravel(), times.ravel() * u.ms, V.ravel() * u.mV))
    assert "trial noise" in str(fit)
    z = (np.asarray(fit.tau.mantissa) - 20.0) / np.asarray(fit.error.mantissa)
    assert np.mean(np.abs(z) < 1.96) > 0.8


def test_a_neuron_that_does_not_decay_is_not_measured() -> None:
    def kill(V: np.ndarray) -> np.ndarray:
        V[0, 1] = np.random.default_rng(1).normal(0, 0.4, 61)
        return V

    fit = fit_leak(table([[8.0, 8.0, 9.0]], change=kill))
    assert np.isnan(fit.tau.mantissa).tolist() == [[False, True, False]]
    assert "setting 0 neuron 1" in str(fit)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fit_leak: each decay .*at least 4 readings; setting 0, neuron 1 has 3"):
        fit_leak(DecayTable([0] * 8, [0] * 5 + [1] * 3, [0, 1, 2, 3, 4, 0, 1, 2] * u.ms, np.ones(8) * u.mV))
    with pytest.raises(ValueError, match="fit_leak: no time constant can be fitted to the 2 decays"):
        fit_leak(table([[8.0, 8.0]], start=0.0))


def test_the_decays_of_a_lab() -> None:
    fit = fit_leak(read_table(Path(__file__).parents[1] / "golden" / "lab" / "decay.csv"))
    assert fit.tau.mantissa.shape == (3, 8)
    assert 0.37 < float(fit.read_noise.mantissa) < 0.43
    assert float(fit.offset.mantissa) == 0.0
    # One leak current per neuron sets all three: their ratios hardly vary.
    ratio = fit.tau.mantissa[1] / fit.tau.mantissa[0]
    assert 1.8 < ratio.min() < ratio.max() < 2.2


@pytest.mark.parametrize("offset", [20.0, 30.0, 80.0, -20.0])
def test_a_baseline_far_from_zero_is_found(offset: float) -> None:
    taus = np.geomspace(8, 25, 8)
    fit = fit_leak(table(taus, change=lambda V: V + offset))
    assert abs(float(fit.offset.mantissa) - offset) < 4 * float(fit.offset_error.mantissa)
    np.testing.assert_allclose(fit.tau.mantissa[0], taus, rtol=0.03)


@pytest.mark.parametrize("place", [0, 20, 60])
def test_one_bad_reading_costs_no_decay(place: int) -> None:
    def spoil(V: np.ndarray) -> np.ndarray:
        V[0, 3, place] = 9999.0
        return V

    taus = np.geomspace(8, 25, 8)
    fit = fit_leak(table(taus, change=spoil))
    np.testing.assert_allclose(fit.tau.mantissa[0], taus, rtol=0.03)
    assert f"row {3 * 61 + place + 1}, setting 0 neuron 3, 9999 mV" in str(fit)
    assert np.isnan(fit.residuals.mantissa).sum() == 1


def test_a_read_out_that_saturates_does_not_bias() -> None:
    taus = np.array([10.2, 20.4])
    fit = fit_leak(table(taus, change=lambda V: np.minimum(V, 40.0)))
    np.testing.assert_allclose(fit.tau.mantissa[0], taus, rtol=0.05)
    assert "saturates at 40 mV" in str(fit)


def test_what_is_no_decay_is_refused_for_what_it_is() -> None:
    with pytest.raises(ValueError, match="fit_leak: the decays must not be straight lines"):
        fit_leak(table([[9.0, 9.0]], change=lambda V: 60 - T + 0.1 * np.sin(V)))
    with pytest.raises(
        ValueError, match=r"fit_leak: no time constant can be fitted to the 2 decays .*rise .* sign of V"
    ):
        fit_leak(table([[9.0, 12.0]], change=lambda V: -V))
    with (
        np.errstate(all="raise"),
        pytest.raises(ValueError, match=r"fit_leak: no time constant can be fitted to the 2 decays .*do not fall"),
    ):
        fit_leak(table([[9.0, 12.0]], change=lambda V: np.full_like(V, 20.0)))
