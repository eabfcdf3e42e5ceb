"""Thresholds from f-I curves: truth within its errors on simulated benches, what cannot be told apart, refusals."""

from __future__ import annotations

import functools
from typing import Any

import brainunit as u
import numpy as np
import pytest

from brainhw.chip import H1V1, H1V2, LinearCharge
from brainhw.silicon import RateTable, fit_charge, fit_leak, fit_threshold, synthetic_bench

pytestmark = pytest.mark.no_dt
CHIPS = {
    "H1v1": H1V1.replace(threshold_mismatch_std=0.05),
    "H1v2": H1V2.replace(charge=LinearCharge(0.53 * u.fcoulomb), threshold_mismatch_std=0.05),
}


@functools.cache
def bench(family: str, seed: int = 0, **options: Any) -> Any:
    return synthetic_bench(CHIPS[family], seed=seed, neurons=range(8), **options)


@pytest.mark.parametrize("family", CHIPS)
def test_thresholds_tau_and_noise_lie_within_their_errors(family: str) -> None:
    held = bench(family)
    charge, leak = fit_charge(held.charge, family), fit_leak(held.decays)
    fit = fit_threshold(held.rates, CHIPS[family], charge=charge, leak=leak, progress=False)
    truth = np.asarray(held.truth.V_th.mantissa)[:8]
    V = np.asarray(fit.V_th.mantissa)
    assert np.sqrt(np.mean((V / truth - 1) ** 2)) < 0.02
    assert (np.abs(V - truth) < 3.5 * np.asarray(fit.V_th_error.mantissa)).all()
    # What is left after the charge per spike, which all share, is far smaller.
    assert np.std(V / truth) < 0.003
    assert abs(float(fit.noise_std.mantissa) - 1.5) < 3 * float(fit.noise_std_error.mantissa)
    assert fit.settings.tolist() == [1]
    tau = np.asarray(held.truth.tau.mantissa)[4, :8]
    np.testing.assert_allclose(fit.tau.mantissa[0], tau, rtol=0.02)
    assert np.mean(fit.standardised**2) < 1.5


def test_the_curves_alone_tell_tau_and_threshold() -> None:
    held = bench("H1v1")
    fit = fit_threshold(held.rates, CHIPS["H1v1"], progress=False)
    z = (np.asarray(fit.V_th.mantissa) - held.truth.V_th.mantissa[:8]) / fit.V_th_error.mantissa
    assert (np.abs(z) < 3.5).all()
    z = (np.asarray(fit.tau.mantissa[0]) - held.truth.tau.mantissa[4, :8]) / fit.tau_error.mantissa[0]
    assert (np.abs(z) < 3.5).all()


def test_only_threshold_times_capacitance_is_measured() -> None:
    held = bench("H1v1")
    one, two = (fit_threshold(held.rates, CHIPS["H1v1"].replace(C=C * u.ffarad), progress=False) for C in (100, 200))
    np.testing.assert_allclose(one.threshold_charge.mantissa, two.threshold_charge.mantissa, rtol=1e-6)
    np.testing.assert_allclose(one.V_th.mantissa, 2 * np.asarray(two.V_th.mantissa), rtol=1e-6)
    # The noise in mV sets the scale that C leaves open.
    known = fit_threshold(held.rates, CHIPS["H1v1"].replace(C=200 * u.ffarad), noise_std=1.5 * u.mV, progress=False)
    assert known.C_measured
    assert abs(float(known.C.mantissa) - 100) < 3 * known.common_error * 100
    np.testing.assert_allclose(known.V_th.mantissa, held.truth.V_th.mantissa[:8], rtol=4 * known.common_error)


def test_a_setting_column_gives_a_tau_for_each() -> None:
    tables = [bench("H1v1", seed=3, rates_setting=k).rates for k in (0, 2)]
    both = RateTable(
        np.concatenate([t.neuron for t in tables]),
        np.concatenate([t.inputs for t in tables]),
        np.concatenate([t.rate.mantissa for t in tables]) * u.Hz,
        setting=np.repeat([0, 2], tables[0].neuron.size),
    )
    fit = fit_threshold(both, CHIPS["H1v1"], progress=False)
    assert fit.settings.tolist() == [0, 2]
    truth = np.asarray(bench("H1v1", seed=3).truth.tau.mantissa)[[3, 5], :8]
    assert (np.abs(np.asarray(fit.tau.mantissa) - truth) < 4 * np.asarray(fit.tau_error.mantissa)).all()


def test_a_silent_neuron_is_not_measured() -> None:
    table = bench("H1v1").rates
    rate = np.where(table.neuron == 3, 0.0, table.rate.mantissa)
    fit = fit_threshold(RateTable(table.neuron, table.inputs, rate * u.Hz), CHIPS["H1v1"], progress=False)
    assert np.isnan(fit.V_th.mantissa).tolist() == [n == 3 for n in range(8)]
    assert "no threshold was found for 1 neuron: 3" in str(fit)
    assert np.isfinite(float(fit.mean.mantissa))


def test_decays_that_disagree_are_set_aside_and_said() -> None:
    held = bench("H1v1")
    other = fit_leak(bench("H1v1", seed=5).decays)
    fit = fit_threshold(held.rates, CHIPS["H1v1"], leak=other, progress=False)
    assert not fit.tau_combined
    assert "do not agree with the decays" in str(fit)
    np.testing.assert_allclose(fit.V_th.mantissa, held.truth.V_th.mantissa[:8], rtol=0.01)


def test_curves_that_no_threshold_explains_are_refused() -> None:
    rate = np.random.default_rng(0).integers(0, 1000, 32) * u.Hz
    table = RateTable(np.repeat([0, 1], 16), np.tile(np.arange(1, 17), 2), rate)
    with pytest.raises(ValueError, match=r"fit_threshold: the f-I curves do not follow the model .*dt, window"):
        fit_threshold(table, CHIPS["H1v1"], progress=False)


def change(**columns: Any) -> RateTable:
    table = bench("H1v1").rates
    given = {"neuron": table.neuron, "inputs": table.inputs, "rate": table.rate, **columns}
    return RateTable(**given)


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        (lambda: RateTable([0, 0], [1, 2], [1, 2] * u.Hz), {}, r"at least 3 points; neuron 0 has 2"),
        (lambda: change(inputs=0 * np.arange(128), trial=np.arange(128)), {}, r"inputs of table .*got only 0"),
        (lambda: change(rate=2000 * np.ones(128) * u.Hz), {}, r"at most one spike per step, 1000 Hz; got 2000 Hz"),
        (lambda: change(rate=0 * np.ones(128) * u.Hz), {}, r"none of the 8 f-I curves"),
        (lambda: change(code=np.full(128, 16)), {}, r"codes of table .*-15 to 15; got 16 \(in 128"),
        (
            lambda: change(code=np.full(128, -3)),
            {},
            r"one code of table must have a positive charge; got the codes \[-3\], .* at most -",
        ),
        (lambda: change(setting=np.zeros(128, int)), {"setting": 1}, r"setting was passed, but the table"),
    ],
)
def test_tables_that_tell_no_threshold_are_refused(table: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=f"fit_threshold: .*{match}"):
        fit_threshold(table(), CHIPS["H1v1"], progress=False, **options)


def test_a_setting_that_no_decay_has_is_refused() -> None:
    held = bench("H1v1")
    with pytest.raises(ValueError, match=r"setting must be a leak setting of the decays, \[0, 1, 2\]; got 7"):
        fit_threshold(held.rates, "H1v1", leak=fit_leak(held.decays), setting=7, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["H1v1", pytest.param("H1v2", marks=pytest.mark.slow)])
def test_driving_synapses_with_gains_of_their_own(family: str) -> None:
    held = synthetic_bench(CHIPS[family], seed=2, neurons=range(6), drive_gains=True)
    fit = fit_threshold(held.rates, CHIPS[family], leak=fit_leak(held.decays), progress=False)
    assert 0.02 < fit.drive_gain_std < 0.045
    assert "synapses differ in gain" in str(fit)
    truth = np.asarray(held.truth.V_th.mantissa)[:6]
    V, error = np.asarray(fit.V_th.mantissa), np.asarray(fit.V_th_error.mantissa)
    assert np.sqrt(np.mean((V / truth - 1) ** 2)) < 0.02
    # The gains of the first eleven synapses move what looks like the threshold by 3 % / sqrt(11).
    assert 0.5 * 0.009 < np.median(error / V) < 2 * 0.009
    assert (np.abs(V - truth) < 3.5 * error).all()


def test_curves_of_neurons_without_decays() -> None:
    held = bench("H1v1")
    other = synthetic_bench(CHIPS["H1v1"], seed=0, neurons=[20, 21])
    fit = fit_threshold(held.rates, CHIPS["H1v1"], leak=fit_leak(other.decays), progress=False)
    assert fit.settings.tolist() == [-1]
    assert not fit.tau_combined
    assert "have no decays" in str(fit)
    assert "do not agree" not in str(fit)
    np.testing.assert_allclose(fit.V_th.mantissa, held.truth.V_th.mantissa[:8], rtol=0.01)
