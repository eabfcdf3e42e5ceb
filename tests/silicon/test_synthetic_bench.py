"""Made-up benches: reproducible, saved as CSV files, drawn from the spec."""

from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

from brainhw.chip import H1V1, H1V2
from brainhw.silicon import MeasuredChip, VirtualChip, read_table, synthetic_bench

pytestmark = pytest.mark.no_dt


def test_a_seed_gives_the_same_tables() -> None:
    one, two, other = (synthetic_bench("H1v1", seed=seed, neurons=[3, 9]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.rates.rate.mantissa, two.rates.rate.mantissa)
    np.testing.assert_array_equal(one.charge.charge.mantissa, two.charge.charge.mantissa)
    assert not np.array_equal(one.decays.V.mantissa, other.decays.V.mantissa)
    assert np.unique(one.rates.neuron).tolist() == [3, 9]


def test_its_files_are_those_of_a_lab(tmp_path) -> None:
    bench = synthetic_bench("H1v2", seed=0, neurons=range(2))
    bench.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["charge.csv", "decay.csv", "fi.csv"]
    np.testing.assert_array_equal(read_table(tmp_path / "fi.csv").rate.mantissa, bench.rates.rate.mantissa)
    np.testing.assert_allclose(read_table(tmp_path / "decay.csv").V.mantissa, bench.decays.V.mantissa, atol=6e-5)
    np.testing.assert_allclose(
        read_table(tmp_path / "charge.csv").charge.mantissa, bench.charge.charge.mantissa, atol=6e-6
    )


def test_spreads_are_those_of_the_spec() -> None:
    truth = synthetic_bench(H1V1.replace(threshold_mismatch_std=0.1, leak_mismatch_std=0.2), seed=0, neurons=[0]).truth
    assert abs(np.std(truth.V_th.mantissa) / 100 - 0.1) < 0.02
    assert abs(np.std(np.log(truth.tau.mantissa[4])) - 0.2) < 0.04


def test_without_noise_the_rates_are_those_of_the_equation() -> None:
    bench = synthetic_bench(
        H1V1.replace(leak_mismatch_std=None), seed=0, neurons=[0], inputs=[6, 12], noise_std=0 * H1V1.V_th
    )
    # One step of 12 synapses exceeds the threshold; two steps of 6, 0.516 and 0.516 * 1.951, do as well.
    assert bench.rates.rate.mantissa.tolist() == [500.0, 1000.0]


def test_indices_must_exist() -> None:
    with pytest.raises(ValueError, match=r"synthetic_bench: neurons\[1\] must be at most 255"):
        synthetic_bench("H1v1", seed=0, neurons=[0, 256])
    with pytest.raises(ValueError, match=r"synthetic_bench: profiles must contain .*no duplicates"):
        synthetic_bench("H1v1", seed=0, profiles=[1, 1])


def test_a_given_chip_is_measured_as_it_is() -> None:
    hidden = VirtualChip(H1V2.replace(noise_std=2.0 * u.mV, leak_mismatch_std=0.3), key=3).truth
    bench = synthetic_bench(hidden, seed=0, neurons=[5, 190], profiles=[4], rates_setting=0, read_noise=0 * u.mV)
    last = bench.decays.V.mantissa.reshape(2, -1)[:, -1]
    np.testing.assert_allclose(-60 / np.log(last / 60), hidden.tau.mantissa[4, [5, 190]], rtol=1e-5)
    assert bench.truth.V_th.mantissa.tolist() == hidden.V_th.mantissa.tolist()
    assert float(bench.truth.spec.noise_std.mantissa) == 2.0


def test_a_neuron_whose_values_are_unknown_cannot_be_measured() -> None:
    V_th = np.full(200, 95.0)
    V_th[7] = np.nan
    chip = MeasuredChip(H1V2, np.full((8, 200), 20.0) * u.ms, V_th * u.mV)
    assert synthetic_bench(chip, seed=0, neurons=[6]).rates is not None
    with pytest.raises(ValueError, match="synthetic_bench: chip lacks 1 of the 2 values of V_th"):
        synthetic_bench(chip, seed=0, neurons=[6, 7])
