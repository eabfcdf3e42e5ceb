"""Dropout without fit in the environment ended in a raw KeyError, boolean images in a raw TypeError of JAX."""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = np.random.default_rng(0).random((4, 20, 8, 8, 2)) < 0.3
SPIKES = X[..., 0, :, 0].astype(np.float32)


def dropped():
    return brainstate.nn.Sequential(
        brainstate.nn.Dropout(0.5), bh.nn.LIFSynapse(8, 4), bh.nn.LIFLayer(4, tau=20 * u.ms)
    )


def convolved():
    return brainstate.nn.Sequential(
        brainstate.nn.Conv2d((8, 8, 2), 3, 3), lambda z: z * u.mV, bh.nn.LIFLayer((8, 8, 3), tau=20 * u.ms)
    )


CALLS = {
    "fluct_init": lambda net, x: bh.fluct_init(net, [x], families="any", verbose=False),
    "fluct_report": lambda net, x: bh.init.fluct_report(net, [x]),
    "Sequential": lambda net, x: bh.rollout(net, x.swapaxes(0, 1)),
}


@pytest.mark.parametrize("call", CALLS)
def test_fit_that_is_not_set_is_named(call):
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.raises(RuntimeError, match=rf"^{call}: .*fit is not set.*context\(fit=False\)"),
    ):
        CALLS[call](dropped(), SPIKES)


def test_boolean_images_are_named_by_rollout():
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.raises(TypeError, match=r"^Sequential: .*dtype bool.*astype\('float32'\)"),
    ):
        bh.rollout(convolved(), X.swapaxes(0, 1))


def test_boolean_images_are_converted_by_fluct_report():
    with brainstate.environ.context(dt=1.0 * u.ms):
        net = convolved()
        one, other = (bh.init.fluct_report(net, [x]).layers[0] for x in (X, X.astype(np.float32)))
    assert float(one.nu_out.mantissa) == float(other.nu_out.mantissa)
