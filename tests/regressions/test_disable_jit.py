"""A network inside `jax.disable_jit()`, where people look into its steps with prints and a debugger.

`rollout` and `stream` failed there and left tracers in the weights, whose numbers were gone.
"""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop import stablehlo

XS = jnp.asarray(np.random.default_rng(0).random((6, 4, 6)) < 0.6, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.4, 0.6, (6, 8)).astype(np.float32)
W_OUT = np.random.default_rng(2).normal(0.4, 0.6, (8, 3)).astype(np.float32)


def lif():
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(6, 8, weight_init=W_IN * u.mV),
        bh.nn.LIFLayer(8, tau=20 * u.ms),
        bh.nn.LIFSynapse(8, 3, weight_init=W_OUT * u.mV),
        bh.nn.LIFLayer(3, tau=20 * u.ms),
    )


def h1():
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(6, 8, weight_init=W_IN),
        bh.nn.H1v2Layer(8, tau=20 * u.ms),
        bh.nn.H1v2Synapse(8, 3, weight_init=W_OUT),
        bh.nn.H1v2Layer(3, tau=20 * u.ms),
    )


def stream(net):
    step = bh.stream(net, 4)
    out = [step(x) for x in XS[:3]]
    with jax.disable_jit(False):
        out += [step(x) for x in XS[3:]]
    return jnp.stack(out)


RUNS = {
    "rollout": lambda net: bh.rollout(net, XS)[0],
    "checkpoint": lambda net: bh.rollout(net, XS, checkpoint="auto")[0],
    "step by step": lambda net: bh.rollout(net, XS, layerwise=False, check_finite=True)[0],
    "record": lambda net: bh.rollout(net, XS, record=("layers.1.V_pre",))[0],
    "stream": stream,
}


@pytest.mark.parametrize("make", [lif, h1])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_it_runs_step_by_step_with_the_same_spikes_and_the_net_stays_whole(make, run):
    net, right = make(), np.asarray(bh.rollout(make(), XS)[0])
    with jax.disable_jit():
        np.testing.assert_array_equal(run(net), right)
    np.testing.assert_array_equal(bh.rollout(net, XS)[0], right)


def test_a_step_sees_numbers():
    seen = []

    class Looking(brainstate.nn.Module):
        def update(self, x):
            seen.append(float(x.sum()))
            return x

    with jax.disable_jit():
        bh.rollout(brainstate.nn.Sequential(Looking(), lif()), XS)
    # The first is that of the traced step, which has no numbers and is not heard.
    assert seen == [float(x.sum()) for x in XS]


@pytest.mark.filterwarnings("ignore:.*range")
def test_what_must_be_compiled_is_compiled():
    net = h1()
    score = lambda net: bh.rollout(net, XS)[0].mean()  # noqa: E731
    right = bh.deploy.robustness(net, score, 2, key=0, pbar=False).scores
    file = stablehlo.export_step(net, jnp.ones((4, 6)))
    with jax.disable_jit():
        np.testing.assert_array_equal(bh.deploy.robustness(net, score, 2, key=0, pbar=False).scores, right)
        assert stablehlo.export_step(net, jnp.ones((4, 6))).input_shape == file.input_shape
