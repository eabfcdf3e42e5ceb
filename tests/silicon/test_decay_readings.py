"""Faults and ceilings are told from sound decays, with and without noise, and from a quantised read-out."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.silicon.decay_readings import ceiling, outlier_readings

pytestmark = pytest.mark.no_dt
T = np.arange(61.0)
DECAYS = 60 * np.exp(-T / np.array([0.5, 2.0, 8.0, 20.0, 150.0])[:, None])


@pytest.mark.parametrize("noise", [0.0, 0.4, 5.0])
def test_sound_decays_hold_no_fault_and_no_ceiling(noise: float) -> None:
    d, t = (grid.ravel() for grid in np.meshgrid(np.arange(5), T, indexing="ij"))
    for seed in range(20):
        V = DECAYS + noise * np.random.default_rng(seed).standard_normal(DECAYS.shape)
        assert not outlier_readings(d, 0 * d, t, V.ravel()).any()
        assert ceiling(V, np.ones_like(V)) == np.inf


def test_a_quantised_read_out_is_no_ceiling() -> None:
    V = np.round(DECAYS)
    assert ceiling(V, np.ones_like(V)) == np.inf
    assert ceiling(np.minimum(DECAYS, 40.0), np.ones_like(V)) == 40.0
