"""The neuron of the NIR paper, run by every library there: the same four spikes."""

from __future__ import annotations

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import from_nir

# Pedersen et al., Neuromorphic intermediate representation, Nature Communications 15, 8122 (2024), first experiment:
# single pulses of 1 at every tenth step of 0.1 ms, in these slots of ten.
PULSES = (6, 22, 27, 31, 32, 35, 37, 40, 41, *range(43, 54), *range(67, 79), 84, 85)
# Steps at which Norse, snnTorch and the exact solution published there fire.
PUBLISHED = (460, 510, 710, 760)


@pytest.mark.no_dt
@pytest.mark.parametrize("discretisation", ["exact", "euler"])
def test_the_neuron_of_the_paper_fires_when_the_others_do(discretisation: str) -> None:
    def of(value: float) -> np.ndarray:
        return np.array([value], np.float32)

    affine = nir.Affine(weight=np.ones((1, 1), np.float32), bias=of(0))
    lif = nir.LIF(tau=of(0.0025), r=of(1), v_leak=of(0), v_threshold=of(0.1))
    net = from_nir(nir.NIRGraph.from_list(affine, lif), dt=0.1 * u.ms, discretisation=discretisation)
    xs = np.zeros((1000, 1), np.float32)
    xs[np.array(PULSES) * 10] = 1
    with brainstate.environ.context(dt=0.1 * u.ms):
        spikes, _ = bh.rollout(net, xs)
    assert tuple(np.flatnonzero(spikes[:, 0])) == PUBLISHED
