"""A scaled chip has its means moved by factors, and nothing else."""

from __future__ import annotations

import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.silicon import scaled_chip

TABLE = bh.chip.TabulatedCharge([-0.9, 0.0, 0.9], [-0.7, 0.1, 0.8] * u.fcoulomb)


@pytest.mark.parametrize("chip", [bh.chip.H1V1, bh.chip.H1V2, bh.chip.H1V1.replace(charge=TABLE)], ids=str)
def test_each_factor_scales_its_means(chip: bh.chip.ChipSpec) -> None:
    scaled = scaled_chip(chip, gain=0.65, threshold=1.15, tau=0.7, leak_mismatch_std=0.4)
    weights = np.linspace(-0.9, 0.9, 7)
    np.testing.assert_allclose(scaled.charge(weights).mantissa, 0.65 * chip.charge(weights).mantissa, rtol=1e-6)
    np.testing.assert_allclose(float(scaled.V_th.mantissa), 1.15 * float(chip.V_th.mantissa))
    np.testing.assert_allclose(scaled.tau_profiles.values.mantissa, 0.7 * np.asarray(chip.tau_profiles.values.mantissa))
    assert scaled.leak_mismatch_std == 0.4
    assert (scaled.C, scaled.weight_limit, scaled.family) == (chip.C, chip.weight_limit, chip.family)
    assert scaled_chip(chip) == chip


def test_what_is_no_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="scaled_chip: gain must be greater than zero; got 0"):
        scaled_chip(bh.chip.H1V1, gain=0)
    with pytest.raises(TypeError, match="scaled_chip: chip must be a ChipSpec; got 'H1v1'"):
        scaled_chip("H1v1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="there is no field 'V_thh'"):
        scaled_chip(bh.chip.H1V1, V_thh=3)
