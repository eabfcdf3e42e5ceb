"""fluct_init took negative values and values of 0 to 255 for a chip without a word (issue 17, item 9)."""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

RNG = np.random.default_rng(0)
SIGNED = RNG.normal(size=(4, 60, 16)).astype(np.float32)
BYTES = (RNG.random((4, 60, 16)) * 256).astype(np.uint8)


def initialise(x, family="H1v2"):
    synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
    net = brainstate.nn.Sequential(synapse(16, 8), layer(8, tau=20 * u.ms), synapse(8, 8), layer(8, tau=20 * u.ms))
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.fluct_init(net, [x], verbose=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("x", [SIGNED, BYTES], ids=["negative", "0 to 255"])
def test_inputs_that_no_chip_takes_are_said_once(x):
    with pytest.warns(UserWarning, match="H1v2 expects spikes") as caught:
        initialise(x)
    (said,) = [str(w.message) for w in caught if "expects spikes" in str(w.message)]
    assert "layer 1" in said
    assert f"{x.min():.3g} to {x.max():.3g}" in said
