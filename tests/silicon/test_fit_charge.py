"""Charge curves: exact without noise, errors that hold, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
import pytest

from brainhw.chip import H1V1, H1V2
from brainhw.silicon import ChargeTable, fit_charge, read_table

pytestmark = pytest.mark.no_dt
CODES = np.arange(-15, 16)
WEIGHTS = CODES * 0.06


def table(
    curve: np.ndarray, *, codes: Any = CODES, synapses: int = 20, gain: float = 0.03, noise: float = 0.01, seed=0
):
    rng = np.random.default_rng(seed)
    gains = 1 + gain * rng.standard_normal(synapses)
    q = curve[:, None] * gains + noise * rng.standard_normal((len(codes), synapses))
    grid = np.meshgrid(codes, np.arange(synapses), indexing="ij")
    return ChargeTable(grid[0].ravel(), grid[1].ravel(), q.ravel() * u.fcoulomb), gains


def asymmetric(w: np.ndarray) -> np.ndarray:
    return 0.03 + np.where(w > 0, 1.15 * 1.1 * np.tanh(w / 1.1), 1.06 * 1.2 * np.tanh(w / 1.2))


def test_without_noise_curve_and_gains_are_exact() -> None:
    measured, gains = table(asymmetric(WEIGHTS), noise=0.0)
    fit = fit_charge(measured, H1V1)
    assert fit.form == "branches"
    np.testing.assert_allclose(fit.charge.mantissa, asymmetric(WEIGHTS) * gains.mean(), atol=1e-6)
    np.testing.assert_allclose(fit.gain, gains / gains.mean(), atol=1e-6)
    np.testing.assert_allclose(fit.residuals.mantissa, 0.0, atol=1e-6)
    assert abs(float(fit.curve(0.0).mantissa) - 0.03 * gains.mean()) < 1e-6


def test_an_unused_synapse_is_no_event_unless_its_charge_was_measured() -> None:
    fit = fit_charge(table(1.034 * WEIGHTS)[0], H1V1)
    assert 0 < abs(float(fit.charge.mantissa[15])) < 2 * float(fit.error.mantissa[15])
    assert float(fit.curve(0.0).mantissa) == 0.0
    np.testing.assert_allclose(
        np.delete(fit.curve.charges.mantissa, 15), np.delete(fit.charge.mantissa, 15), rtol=1e-12
    )
    assert float(fit_charge(table(asymmetric(WEIGHTS))[0], H1V1).curve(0.0).mantissa) > 0.02


def test_a_straight_curve_is_fitted_without_bias() -> None:
    off = []
    for seed in range(20):
        measured, gains = table(0.45 * CODES * H1V2.weight_limit / 15, seed=seed)
        fit = fit_charge(measured, H1V2)
        off.append(float(fit.charge.mantissa[-1]) / (0.45 * 1.66 * gains.mean()) - 1)
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(20)
    assert np.std(off) < 0.006


def test_intervals_hold_the_truth_at_the_noise_of_a_lab() -> None:
    inside, rms = [], []
    for seed in range(40):
        fit = fit_charge(table(asymmetric(WEIGHTS), seed=seed)[0], H1V1)
        off = np.asarray(fit.charge.mantissa) - asymmetric(WEIGHTS)
        inside.append(np.mean(np.abs(off) < 1.96 * np.asarray(fit.error.mantissa)))
        rms.append(np.sqrt(np.mean(off**2)) / asymmetric(WEIGHTS).max())
    assert 0.85 < np.mean(inside) < 1.0
    assert np.sqrt(np.mean(np.square(rms))) < 0.01


def test_a_form_that_does_not_fit_gives_way_to_a_monotone_table() -> None:
    steps = np.where(WEIGHTS < 0.3, 0.2 * WEIGHTS, 0.06 + 3.0 * (WEIGHTS - 0.3))
    fit = fit_charge(table(steps)[0], H1V1)
    assert fit.form == "monotone"
    assert (np.diff(fit.charge.mantissa) >= 0).all()
    assert np.abs(fit.charge.mantissa - steps).max() < 0.05


def test_codes_that_were_not_measured_and_synapses_with_gaps() -> None:
    measured, _ = table(asymmetric(WEIGHTS))
    keep = np.random.default_rng(1).random(measured.code.size) < 0.7
    part = ChargeTable(
        measured.code[keep], measured.synapse[keep], np.asarray(measured.charge.mantissa)[keep] * u.fcoulomb
    )
    fit = fit_charge(part, H1V1)
    assert np.abs(fit.charge.mantissa - asymmetric(WEIGHTS)).max() < 0.03
    few = fit_charge(ChargeTable([-15, 0, 15], [0, 0, 0], [-0.8, 0.0, 0.8] * u.fcoulomb), H1V1)
    assert few.form == "monotone"
    assert np.isnan(few.gain_std)
    assert any("one synapse" in note for note in few.notes)


@pytest.mark.parametrize(
    ("codes", "curve", "chip", "match"),
    [
        ([0, 15], [0.0, 0.8], "H1v1", "fit_charge: table must contain at least 3 codes; got 2"),
        ([-16, 0, 16], [-1.0, 0.0, 1.0], "H1v1", r"fit_charge: the codes of table .*15.*-16 in row 1 \(in 40 of 60"),
        (CODES, -WEIGHTS, "H1v1", "fit_charge: the charge must not decrease"),
        (CODES, 0 * WEIGHTS, "H1v1", "fit_charge: the charge must"),
        (
            CODES,
            np.where(CODES == 5, 0.1, WEIGHTS),
            "H1v1",
            r"fit_charge: .*falls from 0\.2.* at code 4 to 0\.0.* at code 5",
        ),
    ],
)
def test_tables_that_cannot_be_a_charge_curve_are_refused(codes: Any, curve: Any, chip: str, match: str) -> None:
    measured, _ = table(np.asarray(curve, float), codes=np.asarray(codes), noise=0.001)
    with pytest.raises(ValueError, match=match):
        fit_charge(measured, chip)


def test_the_charges_of_a_lab() -> None:
    fit = fit_charge(read_table(Path(__file__).parents[1] / "golden" / "lab" / "charge.csv"), "H1v1")
    # Two branches of different slope, an offset at code 0, and the gain spread that the lab names.
    assert 0.025 < float(fit.curve(0.0).mantissa) < 0.035
    assert abs(fit.gain_std - 0.03) < 1.96 * fit.gain_std_error
    assert np.std(fit.residuals.mantissa) < 0.0105
    assert "31 codes from 20 synapses" in str(fit)


@pytest.mark.parametrize("synapses", [1, 20])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_charge_is_refused(synapses: int, value: float) -> None:
    measured, _ = table(np.full(31, value), synapses=synapses, gain=0.0, noise=0.0)
    with pytest.raises(ValueError, match=f"fit_charge: the charge must increase .*{value:g} fC at code -15"):
        fit_charge(measured, H1V1)


def spoilt(places: dict[int, float], synapses: int = 20) -> ChargeTable:
    measured, _ = table(1.034 * WEIGHTS, synapses=synapses)
    factor = np.array([places.get(int(s), 1.0) for s in measured.synapse])
    return ChargeTable(measured.code, measured.synapse, np.asarray(measured.charge.mantissa) * factor * u.fcoulomb)


@pytest.mark.parametrize(
    ("places", "synapses", "why"),
    [({7: 0.0}, 20, "dead"), ({1: -1.0}, 3, "inverted"), ({0: -1.0}, 2, "inverted"), ({4: 10.0}, 20, "weight")],
)
def test_a_broken_synapse_is_left_out_and_named(places: dict[int, float], synapses: int, why: str) -> None:
    (odd,) = places
    fit, sound = fit_charge(spoilt(places, synapses), H1V1), fit_charge(spoilt({}, synapses), H1V1)
    assert odd not in fit.synapses
    assert fit.synapses.size == synapses - 1
    assert sum(f"synapse {odd} is excluded" in note and why in note for note in fit.notes) == 1
    assert np.isnan(fit.residuals.mantissa[fit.table.synapse == odd]).all()
    np.testing.assert_allclose(fit.charge.mantissa[-1], sound.charge.mantissa[-1], rtol=0.05)
    assert not any("is excluded" in note for note in sound.notes)


def test_each_code_on_a_synapse_of_its_own_tells_no_gain_spread() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 31)
    fit = fit_charge(ChargeTable(CODES, np.arange(31), (1.034 * WEIGHTS + noise) * u.fcoulomb), H1V1)
    assert np.isnan(fit.gain_std)
    assert any("share no codes" in note for note in fit.notes)
    assert "standard deviation of the gain: unknown" in str(fit)
    assert "code 0:" in str(fit)


def test_an_error_names_the_file_and_the_row(tmp_path: Path) -> None:
    path = tmp_path / "charge.csv"
    path.write_text("code,synapse,charge_fC\n-1,0,-0.1\n0,0,0\n99,0,0.1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"fit_charge: the codes of the table .*charge\.csv.* 99 .*row 3"):
        fit_charge(read_table(path), H1V1)
