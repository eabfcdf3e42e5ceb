"""JAX with ``jax_numpy_rank_promotion='raise'`` or strict dtype promotion, which people set to find slips of their own.

Layers with one number for each neuron could not run under the first (field case 18).
"""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((6, 4, 6)) < 0.6, jnp.float32)
W = np.random.default_rng(1).normal(0.6, 0.5, (6, 8)).astype(np.float32)


def each(low, high):
    return np.linspace(low, high, 8).astype(np.float32)


def learnt(low, high):
    return brainstate.nn.Param(each(low, high) * u.ms, t=brainstate.nn.SoftplusT(1 * u.ms))


LAYERS = {
    "LIF": lambda: bh.nn.LIFLayer(8, tau=learnt(5, 20), V_th=each(0.5, 1) * u.mV, topology="RC"),
    "cuba": lambda: bh.nn.CubaLIFLayer(8, tau_mem=learnt(5, 20), tau_syn=each(5, 20) * u.ms),
    "ALIF": lambda: bh.nn.ALIFLayer(8, tau_ahp=each(5, 20) * u.ms, w_rec=True, max_spikes_per_step=3),
    "fractional": lambda: bh.nn.FractionalLIFLayer(8, alpha=each(0.5, 0.9), learn_alpha=True, tau=learnt(5, 20)),
    "exponentials": lambda: bh.nn.FractionalLIFLayer(8, alpha=0.7, tau=10 * u.ms, kernel="soe"),
}


def net_of(name):
    if name in ("H1v1", "H1v2"):
        synapse, layer = getattr(bh.nn, f"{name}Synapse"), getattr(bh.nn, f"{name}Layer")
        return brainstate.nn.Sequential(
            synapse(6, 8, weight_init=W, weight_bits="chip"),
            layer(8, tau=np.array([5.0, 20.0] * 4) * u.ms, topology="RC"),
        )
    parts = (
        bh.nn.LIFSynapse(6, 8, weight_init=W * u.mV),
        LAYERS[name](),
        bh.nn.LeakyReadout(8, 3, tau=9 * u.ms, bias=True),
    )
    return brainstate.nn.Sequential(*parts)


def loss_and_gradients(net, **options):
    weights = net.states(brainstate.ParamState)
    options |= {"key": 1} if bh.nn.chip_weights(net) else {}

    @brainstate.transform.jit
    def both():
        loss = lambda: jnp.sum(bh.rollout(net, XS, **options)[0] ** 2)  # noqa: E731
        return brainstate.transform.grad(loss, weights, return_value=True)()

    return both()


RANK = [(name, jax.numpy_rank_promotion, "raise") for name in (*LAYERS, "H1v1", "H1v2")]
DTYPE = [(name, jax.numpy_dtype_promotion, "strict") for name in ("LIF", "fractional", "H1v2")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting", "value"), [*RANK, *DTYPE])
def test_a_net_trains_all_the_same(name, setting, value):
    brainstate.random.seed(0)
    right, right_loss = loss_and_gradients(net_of(name))
    with setting(value):
        brainstate.random.seed(0)
        net = net_of(name)
        for options in ({}, {"layerwise": False}):
            found, loss = loss_and_gradients(net, **options)
            assert float(loss) == pytest.approx(float(right_loss), rel=1e-5)
        for path, one in found.items():
            got, wanted = u.get_mantissa(one), u.get_mantissa(right[path])
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3 * float(jnp.abs(wanted).max() + 1e-6))
        step = bh.stream(net, 4)
        step(XS[0])
        bh.rollout(net, XS[:, 0])
