"""Normalisations between a synapse and its layer misled fluct_init.

It met its target with weights that the epsilon of a LayerNorm covers, without a word, and refused BatchNorm with
fit=True for a membrane "at 0 mV where V_th is 1 mV" (issue 16, a stranger's report).
"""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = (np.random.default_rng(0).random((8, 100, 16)) < 0.2).astype(np.float32)


class Normalised(brainstate.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.synapse, self.norm, self.layer = bh.nn.LIFSynapse(16, 32), norm, bh.nn.LIFLayer(32, tau=20 * u.ms)

    def update(self, x):
        return self.layer(10 * self.norm(self.synapse(x).mantissa) * u.mV)


def initialise(norm, fit):
    net = Normalised(norm)
    with brainstate.environ.context(dt=1.0 * u.ms, fit=fit):
        bh.fluct_init(net, [X], families="any", verbose=False)


def test_weights_within_the_epsilon_of_a_norm_are_said():
    with pytest.warns(UserWarning, match=r"fluct_init: layer 1: .* times as large change the membrane potentials"):
        initialise(brainstate.nn.LayerNorm((32,)), fit=False)


def test_statistics_of_the_batch_are_refused_for_what_they_are():
    with pytest.raises(ValueError, match=r"fluct_init: .*BatchNorm with fit=True.*context\(fit=False\)"):
        initialise(brainstate.nn.BatchNorm0d((32,)), fit=True)


def test_fixed_statistics_are_a_plain_path():
    initialise(brainstate.nn.BatchNorm0d((32,)), fit=False)  # any warning is an error in this suite
