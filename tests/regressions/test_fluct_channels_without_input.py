"""Channels of a convolution that get no input were warned of as silent, with advice that could not help."""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = (np.random.default_rng(0).random((4, 60, 6, 6, 2)) < 0.3) * np.array([1.0, 0.0], np.float32)


def test_they_are_said_to_have_no_input():
    net = brainstate.nn.Sequential(
        brainstate.nn.Conv2d((6, 6, 2), 4, 3, groups=2), lambda z: z * u.mV, bh.nn.LIFLayer((6, 6, 4), tau=20 * u.ms)
    )
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.warns(UserWarning, match=r"fluct_init: layer 1: 2 channel\(s\) get no input") as caught,
    ):
        bh.fluct_init(net, [X], families="any", verbose=False)
    assert not [w for w in caught if "never spike" in str(w.message)]
