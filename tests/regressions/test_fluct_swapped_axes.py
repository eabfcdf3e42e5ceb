"""Batches [T, B, N] were taken as [B, T, N] without a word: rates of 4.6 Hz for 5.8 (issue 17, case_23).

Batches of bh.data.batches, which are Splits, were refused without saying how to pass them.
"""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

rng = np.random.default_rng(0)
# Frames that are held for four steps each, as in all examples.
X = np.repeat(np.abs(rng.normal(size=(30, 10, 16))), 4, axis=1).astype(np.float32)


def net():
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(16, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))


def test_swapped_axes_are_said():
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.warns(UserWarning, match=r"fluct_init: .*\(40, 30, 16\) .*\[B, T, \.\.\.\].*swapaxes\(0, 1\)"),
    ):
        bh.fluct_init(net(), [X.swapaxes(0, 1)], families="any", verbose=False)


def test_padding_along_the_first_axis_is_refused():
    padded = X.copy()
    for recording, length in enumerate(np.linspace(12, 40, 30).astype(int)):
        padded[recording, length:] = 0
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.raises(ValueError, match=r"fluct_init: .*\(40, 30, 16\).*swapaxes\(0, 1\).*lengths="),
    ):
        bh.fluct_init(net(), [padded.swapaxes(0, 1)], families="any", verbose=False)


def test_splits_are_taken():
    one, other = net(), net()
    batches = bh.data.batches(bh.data.Split(X, np.zeros(30, int)), 10, shuffle=False)
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.fluct_init(one, batches, n_batches=3, families="any", verbose=False)
        bh.fluct_init(other, [X], families="any", verbose=False)
    np.testing.assert_allclose(*(np.asarray(n.layers[0].weight.value.mantissa) for n in (one, other)), rtol=1e-6)
