"""Made-up benches: reproducible, saved as CSV files, drawn from the spec."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.chip import H1V1
from brainhw.silicon import read_table, synthetic_bench

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
    with pytest.raises(ValueError, match=r"synthetic_bench: profiles must hold .*none twice"):
        synthetic_bench("H1v1", seed=0, profiles=[1, 1])
