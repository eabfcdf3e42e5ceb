"""A synapse that fluct_init does not know was not named; between others its weights stayed without a word."""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = (np.random.default_rng(0).random((8, 200, 16)) < 0.2).astype(np.float32)


class Own(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = brainstate.ParamState(np.full((16, 16), 0.1, np.float32))

    def update(self, x):
        return x @ self.w.value * u.mV


def initialise(*modules):
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.fluct_init(brainstate.nn.Sequential(*modules), [X], families="any", verbose=False)


def test_it_is_named_where_no_pair_is_left():
    with pytest.raises(ValueError, match=r"fluct_init: .*layers\.0 \(Own\) has no weight_slot"):
        initialise(Own(), bh.nn.LIFLayer(16, tau=20 * u.ms))


def test_it_is_named_beside_other_pairs():
    with pytest.warns(
        UserWarning, match=r"fluct_init: layers\.2 \(Own\) has no weight_slot.*so the weights do not change"
    ):
        initialise(
            bh.nn.LIFSynapse(16, 16), bh.nn.LIFLayer(16, tau=20 * u.ms), Own(), bh.nn.LIFLayer(16, tau=20 * u.ms)
        )
