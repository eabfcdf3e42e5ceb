"""Curves that follow no model are left out and named; the others keep their thresholds."""

from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.silicon import RateTable, fit_leak, fit_threshold, synthetic_bench

pytestmark = pytest.mark.no_dt


def bench(seed: int = 3, neurons: int = 4, inputs: tuple[int, ...] = (2, 4, 6, 8, 12, 16)):
    return synthetic_bench("h1v2", seed=seed, neurons=range(neurons), profiles=(3, 4), inputs=inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", [lambda n: np.full(n.size, 50.0), lambda n: np.full(n.size, 100.0), lambda n: 10.0 * n]
)
def test_a_curve_without_a_threshold_does_not_spoil_the_others(wrong) -> None:
    held = bench()
    table, leak = held.rates, fit_leak(held.decays)
    rate = np.where(table.neuron == 1, wrong(table.inputs), table.rate.mantissa)
    fit = fit_threshold(RateTable(table.neuron, table.inputs, rate * u.Hz), held.truth.spec, leak=leak, progress=False)
    assert np.isnan(fit.V_th.mantissa).tolist() == [n == 1 for n in range(4)]
    assert np.isnan(fit.tau.mantissa[0, 1])
    np.testing.assert_allclose(fit.V_th.mantissa[[0, 2, 3]], held.truth.V_th.mantissa[[0, 2, 3]], rtol=0.02)
    np.testing.assert_allclose(float(fit.mean.mantissa), np.nanmean(fit.V_th.mantissa))
    assert "the model that fits the others: neuron 1 (1 in total)" in str(fit)
    assert fit.tau_combined


def test_a_wrong_leak_setting_shows_as_noise_and_is_said() -> None:
    held = bench()
    fit = fit_threshold(held.rates, held.truth.spec, leak=fit_leak(held.decays), setting=0, progress=False)
    said = [note for note in fit.notes if "usually at most 5 %" in note]
    assert len(said) == 1
    assert "leak setting" in said[0]


@pytest.mark.parametrize("seed", [16, 31])
def test_few_points_do_not_speak_against_the_decays(seed: int) -> None:
    held = synthetic_bench("h1v2", seed=seed, neurons=range(4), inputs=(2, 4, 8, 12, 16))
    fit = fit_threshold(held.rates, held.truth.spec, leak=fit_leak(held.decays), progress=False)
    assert fit.tau_combined
    assert "do not agree" not in str(fit)
