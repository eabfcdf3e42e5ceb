"""From tables to a measured chip: right numbers in right places, from any subset of tables."""

from __future__ import annotations

from pathlib import Path

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1, H1V2, ChipSpec, LinearCharge, SaturatingCharge
from brainhw.silicon import DecayTable, MeasuredChip, calibrate, put_chip, synthetic_bench

pytestmark = pytest.mark.no_dt
LAB = Path(__file__).parents[1] / "golden" / "lab"
HIDDEN = H1V1.replace(
    charge=SaturatingCharge(1.2 * u.fcoulomb, saturation=1.2),
    V_th=90 * u.mV,
    threshold_mismatch_std=0.05,
    leak_mismatch_std=0.15,
)
NEURONS = [5, 70, 71, 130, 255, 1]


@pytest.fixture(scope="module")
def bench():
    return synthetic_bench(HIDDEN, seed=1, neurons=NEURONS)


@pytest.fixture(scope="module")
def done(bench):
    return calibrate(bench.rates, bench.charge, bench.decays, chip="h1v1", progress=False)


def test_every_value_stands_at_its_physical_neuron_and_setting(bench, done) -> None:
    measured, truth = done.measured, bench.truth
    assert done.settings == {0: 3, 1: 4, 2: 5}
    for values, true in ((measured.tau.mantissa, truth.tau.mantissa), (measured.V_th.mantissa, truth.V_th.mantissa)):
        known = np.isfinite(values)
        assert known.sum() in (18, 6)
        np.testing.assert_allclose(values[known], true[known], rtol=0.03)
    assert np.flatnonzero(measured.known_V_th).tolist() == sorted(NEURONS)
    assert np.flatnonzero(measured.known_tau.any(1)).tolist() == [3, 4, 5]
    z = (measured.tau.mantissa - truth.tau.mantissa) / measured.tau_error.mantissa
    assert (np.abs(z[np.isfinite(z)]) < 4).all()


def test_the_spec_holds_means_spreads_and_where_they_come_from(done) -> None:
    spec = done.measured.spec
    fields = ("charge", "tau_profiles", "leak_mismatch_std", "V_th", "threshold_mismatch_std", "noise_std")
    assert {name for name in spec.provenance if spec.provenance[name] == "measured"} == set(fields)
    assert spec.C == H1V1.C
    assert "assumed" in spec.notes["V_th"]
    assert "not measured" in spec.notes["tau_profiles"]
    assert abs(float(spec.charge(0.9).to(u.fcoulomb).mantissa) / float(HIDDEN.charge(0.9).mantissa) - 1) < 0.03
    # Six neurons say little of a spread, but it is that of the fitted values.
    np.testing.assert_allclose(
        spec.leak_mismatch_std[4], np.nanstd(np.log(done.measured.tau.mantissa[4]), ddof=1), rtol=0.01
    )
    assert len({spec.leak_mismatch_std[k] for k in (0, 1, 2, 6, 7)}) == 1
    assert spec.threshold_mismatch_std > 0.01


def test_the_chip_goes_through_its_file(done, tmp_path) -> None:
    done.measured.save(tmp_path / "seven.chip")
    assert MeasuredChip.load(tmp_path / "seven.chip") == done.measured


def test_the_report_names_values_with_errors(done) -> None:
    report = str(done)
    assert report.count("+-") >= 8
    for word in ("charge curve", "leak", "threshold", "trial noise", "profile 3 (10 ms)", "C from the spec"):
        assert word in report


@pytest.mark.parametrize("kept", ["charge", "decays", "rates"])
def test_one_table_alone_changes_what_it_tells(bench, kept: str) -> None:
    done = calibrate(getattr(bench, kept), chip=H1V1, progress=False)
    spec, known = done.measured.spec, done.measured
    changed = {name for name in spec.provenance if spec.provenance[name] == "measured"}
    assert (
        changed
        == {
            "charge": {"charge"},
            "decays": {"tau_profiles", "leak_mismatch_std"},
            "rates": {"tau_profiles", "leak_mismatch_std", "V_th", "threshold_mismatch_std", "noise_std"},
        }[kept]
    )
    assert known.known_tau.sum() == {"charge": 0, "decays": 18, "rates": 6}[kept]
    assert known.known_V_th.sum() == (6 if kept == "rates" else 0)


def test_noise_in_millivolt_measures_the_capacitance(bench) -> None:
    done = calibrate(
        bench.rates, bench.charge, chip=H1V1.replace(C=150 * u.ffarad), noise_std=1.5 * u.mV, progress=False
    )
    assert done.measured.spec.provenance["C"] == "measured"
    assert abs(float(done.measured.spec.C.mantissa) - 100) < 5


def test_more_settings_and_the_other_family() -> None:
    hidden = H1V2.replace(charge=LinearCharge(0.4 * u.fcoulomb))
    bench = synthetic_bench(hidden, seed=0, neurons=range(3), profiles=range(8), rates_setting=4)
    done = calibrate(bench.charge, bench.decays, bench.rates, chip="h1v2", progress=False)
    assert done.settings == {k: k for k in range(8)}
    assert done.threshold.settings.tolist() == [4]
    assert "not measured" not in done.measured.spec.notes["tau_profiles"]


def test_what_does_not_suit_the_chip_is_refused(bench) -> None:
    with pytest.raises(ValueError, match=r"calibrate: the neuron indices of the DecayTable .*0 and 199.*got 255"):
        calibrate(bench.decays, chip="H1v2")
    with pytest.raises(ValueError, match=r"calibrate: tables must contain at most one ChargeTable"):
        calibrate(bench.charge, bench.charge, chip="H1v1")
    with pytest.raises(ValueError, match=r"calibrate: tables must contain at least one"):
        calibrate(chip="H1v1")
    with pytest.raises(ValueError, match=r"calibrate: chip must be one of"):
        calibrate(bench.charge, chip="H9")
    with pytest.raises(TypeError, match=r"calibrate: each table must be"):
        calibrate(3.0, chip="H1v1")
    with pytest.raises(ValueError, match=r"calibrate: noise_std requires f-I curves"):
        calibrate(bench.charge, chip="H1v1", noise_std=1.5 * u.mV)
    with pytest.raises(ValueError, match=r"calibrate: settings was passed, but no table"):
        calibrate(bench.charge, chip="H1v1", settings={0: 3})


def test_profiles_out_of_order_are_refused(bench) -> None:
    table: DecayTable = bench.decays
    with pytest.raises(ValueError, match=r"calibrate: time constants must increase"):
        calibrate(table, chip="H1v1", settings={0: 5, 1: 4, 2: 3})


def test_the_tables_of_a_lab_in_any_order() -> None:
    done = calibrate(LAB / "fi.csv", LAB / "charge.csv", LAB / "decay.csv", chip="h1v1", progress=False)
    assert done.threshold.settings.tolist() == [1]
    assert np.mean(done.threshold.standardised**2) < 1.2
    # Within the error in the charge per spike, 0.7 %, that of all 64 neurons.
    V = done.measured.V_th.mantissa[:8]
    np.testing.assert_allclose(V[:3], [101.96, 98.04, 97.69], rtol=0.005)
    assert abs(float(done.measured.spec.noise_std.mantissa) - 1.694) < 0.06


def test_a_charge_table_alone_brings_the_model_nearer_to_the_bench() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-15, 16, (12, 30))
    x = (rng.random((80, 4, 12)) < 0.3).astype(np.float32)
    hidden = H1V1.replace(charge=SaturatingCharge(0.7 * u.fcoulomb, saturation=1.2), leak_mismatch_std=None)

    def net(chip: ChipSpec) -> brainstate.nn.Module:
        return brainstate.nn.Sequential(
            bh.nn.H1v1Synapse(12, 30, chip=chip, weight_init=codes * 0.06, weight_bits="chip"),
            bh.nn.H1v1Layer(30, chip=chip, tau=10 * u.ms),
        )

    with brainstate.environ.context(dt=1.0 * u.ms):
        on_bench = np.asarray(bh.rollout(net(hidden), x)[0])
        model = net(H1V1)
        preset = np.asarray(bh.rollout(model, x)[0])
        done = calibrate(synthetic_bench(hidden, seed=3, neurons=[0]).charge, chip=H1V1)
        put_chip(model, done.measured)
        measured = np.asarray(bh.rollout(model, x)[0])
    shared = [float((spikes * on_bench).sum() / spikes.sum()) for spikes in (preset, measured)]
    assert shared[1] > 0.9 > 1.5 * shared[0]
