"""A run that goes on from states which are NaN.

``rollout(prepare=False)`` returned zeros for them: a NaN membrane never fires, and nothing said so.
"""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.ones((5, 2, 4))

NETS = {
    "lif": lambda: brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms)),
    "h1": lambda: brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=10 * u.ms)),
    "readout": lambda: brainstate.nn.Sequential(bh.nn.LeakyReadout(4, 3, tau=10 * u.ms)),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("prepare", [False, "weights"])
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_they_are_named(make, prepare, bad):
    net = make()
    bh.prepare_net(net, 2)
    path, state = next((path, s) for path, s in net.states(brainstate.HiddenState).items() if path[-1] in ("V", "y"))
    spoilt = u.Quantity(u.get_mantissa(state.value).at[0, 1].set(bad), unit=u.get_unit(state.value))
    state.value = spoilt if path[-1] == "V" else spoilt.mantissa
    with pytest.raises(ValueError, match=rf"rollout: the state {'.'.join(map(str, path))} contains 1 .*\(0, 1\)"):
        bh.rollout(net, XS, prepare=prepare)
    assert np.array_equal(u.get_mantissa(state.value), spoilt.mantissa, equal_nan=True)
    bh.rollout(net, XS)
    bh.rollout(net, XS, prepare=prepare)


def test_inside_jit_check_finite_names_the_first_step():
    net = NETS["lif"]()
    bh.prepare_net(net, 2)

    @brainstate.transform.jit
    def run(V):
        net.layers[1].V.value = V * u.mV
        return bh.rollout(net, XS, prepare=False, check_finite=True)[0]

    run(jnp.zeros((2, 3))).block_until_ready()
    with pytest.raises(Exception, match=r"layers.1.V is not finite from step 0"):
        run(jnp.full((2, 3), jnp.nan)).block_until_ready()
