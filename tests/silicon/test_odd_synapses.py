"""Broken synapses are told from those that merely vary; linked codes."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.silicon.odd_synapses import odd_synapses, shares_codes

pytestmark = pytest.mark.no_dt


def test_synapses_that_vary_by_a_fifth_are_all_kept() -> None:
    code, synapse = (grid.ravel() for grid in np.meshgrid(np.arange(-15, 16), np.arange(20), indexing="ij"))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        charge = 0.06 * code * (1 + 0.2 * rng.standard_normal(20))[synapse] + 0.05 * rng.standard_normal(code.size)
        kept, notes = odd_synapses(code, synapse, charge)
        assert kept.all()
        assert notes == []


def test_synapses_are_linked_by_codes_in_common() -> None:
    assert shares_codes(np.ones((3, 4)))
    assert shares_codes(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
    assert not shares_codes(np.eye(3))
