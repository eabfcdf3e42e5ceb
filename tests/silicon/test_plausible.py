"""A wrong unit is refused, or noted; right units of an unusual chip are not."""

from __future__ import annotations

import dataclasses

import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V2
from brainhw.silicon import calibrate, synthetic_bench

pytestmark = pytest.mark.no_dt


@pytest.fixture(scope="module")
def bench():
    return synthetic_bench("h1v2", seed=3, neurons=range(4), profiles=(3, 4), inputs=(2, 4, 6, 8, 12, 16))


def times(table, name, factor):
    return dataclasses.replace(table, **{name: factor * getattr(table, name)})


def notes_of(*tables, chip="h1v2"):
    return "\n".join(calibrate(*tables, chip=chip, progress=False).notes)


@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_a_wrong_unit_is_refused(bench, factor: float) -> None:
    with pytest.raises(ValueError, match=r"^calibrate: charge must have the right unit: the charge of code -15 is "):
        calibrate(times(bench.charge, "charge", factor), chip="h1v2")
    with pytest.raises(ValueError, match=r"^calibrate: t must have the right unit: tau of setting .* factor of 20"):
        calibrate(times(bench.decays, "t", factor), chip="h1v2")


def test_decays_in_volts_written_as_millivolts_are_refused(bench) -> None:
    with pytest.raises(ValueError, match=r"^calibrate: V must have the right unit: the median start .*mV, 599 times"):
        calibrate(times(bench.decays, "V", 1000.0), chip="h1v2")


def test_ten_times_is_noted(bench) -> None:
    assert "10.1 times the value before the calibration, 0.747 fC: check the unit of charge" in notes_of(
        times(bench.charge, "charge", 10.0)
    )
    assert "check the unit of V" in notes_of(times(bench.decays, "V", 10.0))
    assert "tau of setting 1 is 2039 ms, 10.2 times" in notes_of(times(bench.decays, "t", 100.0))


def test_half_the_window_is_noted(bench) -> None:
    rates = times(bench.rates, "rate", 0.5)
    assert "the mean threshold is 226.4 mV, 2.26 times" in notes_of(bench.charge, bench.decays, rates)


def test_right_tables_are_not_noted(bench) -> None:
    said = notes_of(bench.charge, bench.decays, bench.rates)
    assert "check the unit" not in said
    # Low decays are no fault: they may begin anywhere below the threshold.
    assert "check the unit" not in notes_of(times(bench.decays, "V", 0.01))


def test_a_chip_of_another_make_counts_by_its_own_spec(bench) -> None:
    other = H1V2.replace(charge=bh.chip.LinearCharge(50.0 * u.fcoulomb), V_th=10_000.0 * u.mV)
    assert "check the unit" not in notes_of(times(bench.charge, "charge", 100.0), chip=other)


@pytest.mark.slow
def test_tau_of_curves_without_decays_of_their_setting_is_named(bench) -> None:
    here = bench.decays.setting == 0
    decays = dataclasses.replace(
        bench.decays,
        **{name: getattr(bench.decays, name)[here] for name in ("setting", "neuron", "t", "V")},
        **({} if bench.decays.trial is None else {"trial": bench.decays.trial[here]}),
    )
    done = calibrate(bench.charge, decays, bench.rates, chip="h1v2", progress=False)
    assert np.isfinite(done.threshold.tau.mantissa).any()
    assert "is fitted to the f-I curves only and is not stored in the chip" in "\n".join(done.notes)
